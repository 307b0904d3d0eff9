#!/usr/bin/env python3
# timeout: 120 s
"""Goal: the agent's HTTP side holds what it promises: each endpoint's answer in each state of the
node, bad requests of every kind, slow clients, taken ports, bad flags and configurations; and none
of them keeps it from serving the others. Method: the real agent with files of real nodes, spoken to
through plain sockets; every wait is for a condition with a deadline."""

import concurrent.futures
import gzip
import http.client
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("B", "build")
AGENT = f"{BUILD}/blixard-agent"
NODE = f"{BUILD}/test/support/bin/still_node"
ADDRESS_NODE = f"{BUILD}/test/support/bin/address_node"
ENDPOINTS = ("/", "/metrics", "/health", "/ready", "/live", "/status.json")
# What differs between two answers to the same question: host and agent figures, and times.
MOVES = re.compile(r"^(blixard_(host|agent|storage_(block|fsync|slow)|node_(heartbeat|cpu_wait))|process_)")

cases = failures = 0
children = []
work = tempfile.mkdtemp(prefix="blixard-http-", dir="/dev/shm")


def check(good, name, detail=""):
    global cases, failures
    cases += 1
    failures += not good
    print(f"{'ok' if good else 'not ok'} {cases} - {name}{'' if good else ': ' + repr(detail)[:600]}", flush=True)
    return good


def skip(name, why):
    global cases
    cases += 1
    print(f"ok {cases} - {name} # SKIP {why}", flush=True)


def wait_for(condition, seconds=10):
    """The first true value of condition(), or its last one."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.02)


def free_port(host="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
        s.bind((host, 0))
        return s.getsockname()[1]


def start(command, **options):
    child = subprocess.Popen(command, **options)
    children.append(child)
    return child


class Node:
    def __init__(self, path, address=None):
        self.child = start([ADDRESS_NODE, path, address] if address else [NODE, path],
                           stdout=subprocess.PIPE, text=True)
        for line in self.child.stdout:
            if line == "ready\n":
                break

    def end(self, number):
        self.child.send_signal(number)
        self.child.wait(10)


class Agent:
    count = 0

    def __init__(self, *arguments, state=None, stderr=None):
        Agent.count += 1
        self.state = state or f"{work}/state{Agent.count}"
        self.log_path = f"{work}/log{Agent.count}"
        environment = {**os.environ, "STATE_DIRECTORY": self.state}
        environment.pop("JOURNAL_STREAM", None)
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.child = start([AGENT, *arguments], stderr=stderr or log, env=environment)

    def log(self):
        with open(self.log_path, encoding="utf-8") as f:
            return f.read()

    def says(self, pattern, seconds=10):
        return wait_for(lambda: re.search(pattern, self.log()), seconds)

    def stop(self, number=signal.SIGTERM):
        self.child.send_signal(number)
        return self.child.wait(10)


def request(port, path, method="GET", headers=None, body=None, host="127.0.0.1", seconds=5):
    """(code, headers, body), or None if nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    except OSError:
        return None
    finally:
        connection.close()


def raw(port, data, seconds=5):
    """Send bytes; everything that comes back until the agent closes."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as s:
        try:
            s.sendall(data)
            while chunk := s.recv(65536):
                got += chunk
        except OSError:
            pass
    return got


def code_of(answer):
    match = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    return int(match.group(1)) if match else None


def status(port):
    return json.loads(request(port, "/status.json")[2])


def samples(text):
    """{series: value} of a text body."""
    lines = (line.rsplit(" ", 1) for line in text.decode().splitlines() if line and line[0] != "#")
    return dict(lines)


def codes(port):
    return {path: (request(port, path) or [None])[0] for path in ENDPOINTS}


# ---- states -----------------------------------------------------------------------------------


def states():
    path, port = f"{work}/blix1", free_port()
    agent = Agent("--shm", path, "--listen", f"127.0.0.1:{port}", "--stale-after", "1")
    wait_for(lambda: request(port, "/live"))
    well = dict.fromkeys(ENDPOINTS, 200)
    ill = {**well, "/health": 503}

    check(codes(port) == ill, "waiting: all but /health answer 200", codes(port))
    values = samples(request(port, "/metrics")[2])
    check(values.get("blixard_node_up") == "0" and values.get('blixard_node_state{state="waiting"}') == "1"
          and any(name.startswith("process_") for name in values), "waiting: the agent's own families are served")
    health = json.loads(request(port, "/health")[2])
    check(health["node"]["state"] == "waiting" and health["reason"], "waiting: /health says so", health)

    node = Node(path)
    check(wait_for(lambda: request(port, "/health")[0] == 200), "a node that starts is healthy")
    check(codes(port) == well, "live: all answer 200", codes(port))
    check(b"Node is running" in request(port, "/")[2], "live: the page says so in plain words")

    node.child.send_signal(signal.SIGSTOP)
    check(wait_for(lambda: request(port, "/health")[0] == 503), "a stopped process makes /health 503")
    check(json.loads(request(port, "/health")[2])["node"]["state"] == "hung" and codes(port) == ill,
          "hung: and nothing else", codes(port))
    node.child.send_signal(signal.SIGCONT)
    check(wait_for(lambda: request(port, "/health")[0] == 200), "and it recovers")

    before = samples(request(port, "/metrics")[2])
    node.end(signal.SIGKILL)
    check(wait_for(lambda: status(port)["node"]["state"] == "dead", 2), "kill -9: dead within 2 s")
    after = samples(request(port, "/metrics")[2])
    check(codes(port) == ill and after["blixard_node_up"] == "0", "dead: /health 503, node_up 0")
    # vm_total is the seed guide's name of a gauge.
    counters = [k for k in before if "_total" in k and not MOVES.match(k) and k != "vm_total"]
    check(len(counters) > 100 and all(after.get(k) == before[k] for k in counters),
          "dead: the final counters stay", [k for k in counters if after.get(k) != before[k]][:5])
    check(b"Node is dead" in request(port, "/")[2], "dead: the page says so")

    node = Node(path)
    wait_for(lambda: request(port, "/health")[0] == 200)
    node.end(signal.SIGTERM)
    check(wait_for(lambda: status(port)["node"]["state"] == "closed"), "a node that ends in order is closed")

    check(agent.stop() == 0, "SIGTERM ends it with status 0")
    check(agent.log().count("\n") < 40, "a change of state is a line, not many", agent.log())


def stranger():
    path, port = f"{work}/stranger1", free_port()
    with open(path, "wb") as f:
        f.write(b"not a telemetry file" * 1000)
    agent = Agent("--shm", path, "--listen", f"127.0.0.1:{port}")
    check(wait_for(lambda: request(port, "/live") and status(port)["file"]["state"] == "refused"),
          "a stranger's file is refused", agent.log())
    health = request(port, "/health")
    check(health[0] == 503 and json.loads(health[2])["reason"], "refused: /health says why", health)
    check(all(c == 200 for p, c in codes(port).items() if p != "/health"), "and all else is served", codes(port))
    os.unlink(path)
    node = Node(path)
    check(wait_for(lambda: request(port, "/health")[0] == 200), "once it is gone the node can come")
    node.end(signal.SIGTERM)
    agent.stop()


# ---- requests -----------------------------------------------------------------------------------


def methods(port):
    for path in ENDPOINTS:
        answers = [request(port, path, method) for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")]
        check(all(a and a[0] == 405 and a[1]["Allow"] == "GET, HEAD" for a in answers),
              f"{path}: other methods are 405", [a and a[0] for a in answers])
    check(code_of(raw(port, b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n")) == 501, "a method nobody knows is 501")
    for path in ("/nope", "/metrics/", "//", "/status.json.bak", "/../etc/passwd", "/metrics%00", "/%2e%2e/"):
        answer = request(port, path)
        check(answer and answer[0] == 404, f"{path} is 404", answer)
    for path in ENDPOINTS:
        with_body, without = request(port, path), request(port, path, "HEAD")
        check(without[0] == with_body[0] and without[2] == b"" and int(without[1]["Content-Length"]) > 0
              and without[1]["Content-Type"] == with_body[1]["Content-Type"], f"{path}: HEAD is GET without its body",
              (without[0], dict(without[1])))
        check(with_body[1]["Vary"] == "Accept, Accept-Encoding" and with_body[1]["Cache-Control"] == "no-store",
              f"{path}: caches are told")


def hostile(port):
    get = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
    bad = {
        "a header of 9 KiB": get + b"X: " + b"a" * 9216 + b"\r\n\r\n",
        "600 headers": get + b"X: aaaaaaaaaaaa\r\n" * 600 + b"\r\n",
        "a path of 9 KiB": b"GET /" + b"a" * 9216 + b" HTTP/1.1\r\n\r\n",
        "a body of 100 KiB": b"POST / HTTP/1.1\r\nContent-Length: 102400\r\n\r\n" + b"a" * 102400,
        "a body that claims to be 8 EiB": b"POST / HTTP/1.1\r\nContent-Length: 9223372036854775807\r\n\r\n",
        "a negative length": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "a chunk that claims to be huge":
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + b"a" * 2000,
        "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2 + b"\r\n\r\n",
        "no version": b"GET /metrics\r\n\r\n",
        "a version of the future": b"GET / HTTP/9.9\r\n\r\n",
        "a header without a colon": get + b"no colon here\r\n\r\n",
        "zero bytes": b"\0" * 4000 + b"\r\n\r\n",
        "a malformed URI": b"GET http://[::1 HTTP/1.1\r\n\r\n",
    }
    for name, data in bad.items():
        answer = raw(port, data)
        code = code_of(answer)
        # Nothing at all is right too where it is no HTTP.
        check((code is None or 400 <= code < 600) and b"blixard_node_up" not in answer, f"{name} is refused",
              answer[:200])
    check(request(port, "/live")[0] == 200, "and the agent serves on")
    for value in ("", "-1", "nan", "1e99", "1\t", "9" * 4000, "0x5"):
        answer = request(port, "/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": value})
        check(answer and answer[0] == 200, f"a scrape timeout of '{value[:8]}' does no harm")


def negotiation(port):
    plain = request(port, "/metrics")
    check(plain[1]["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8", "text 0.0.4 by default")
    om = request(port, "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    check(om[1]["Content-Type"].startswith("application/openmetrics-text; version=1.0.0") and om[2].endswith(b"# EOF\n"),
          "OpenMetrics when asked for")
    packed = request(port, "/metrics", headers={"Accept-Encoding": "gzip"})
    check(packed[1]["Content-Encoding"] == "gzip" and len(packed[2]) * 4 < len(plain[2]), "gzip when accepted")
    check(samples(gzip.decompress(packed[2])).keys() == samples(plain[2]).keys(), "and it unpacks to the same")
    refused = request(port, "/metrics", headers={"Accept-Encoding": "gzip;q=0"})
    check("Content-Encoding" not in refused[1], "no gzip when it is refused")
    small = request(port, "/live", headers={"Accept-Encoding": "gzip"})
    check("Content-Encoding" not in small[1], "no gzip of what is small")
    head = request(port, "/metrics?names=canonical", "HEAD", headers={"Accept-Encoding": "gzip"})
    check(head[1]["Content-Encoding"] == "gzip" and head[2] == b"", "HEAD of a packed body")
    both, canonical, seed = (samples(request(port, f"/metrics?names={n}")[2]) for n in ("both", "canonical", "seed"))
    check("raft_term" in seed and "raft_term" not in canonical and "blixard_raft_term" in canonical
          and {"raft_term", "blixard_raft_term"} <= both.keys(), "?names= chooses")
    for query in ("names=all", "names=", "names=%zz", "names=" + "x" * 5000):
        answer = request(port, f"/metrics?{query}")
        check(answer and answer[0] == 400, f"?{query[:12]} is 400", answer)
    check(request(port, "/metrics?collect[]=x&a=b")[0] == 200, "a parameter of others is not ours to judge")


def keep_alive(port):
    """As a scraper that acknowledges late, which is what the kernel makes of a busy one."""
    scrapes, size = 50, 0
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        begin = time.monotonic()
        for _ in range(scrapes):
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            got, size = b"", 1 << 30
            while len(got) < size:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
                chunk = s.recv(65536)
                if not chunk:
                    break
                got += chunk
                if size == 1 << 30 and b"\r\n\r\n" in got:
                    length = int(re.search(rb"Content-Length: (\d+)", got).group(1))
                    size = got.index(b"\r\n\r\n") + 4 + length
        took = time.monotonic() - begin
    # With Nagle's algorithm on and writes of 16 KiB, each one waits 40 ms for an acknowledgement.
    check(size > 100 * 1024, "the body is large enough to stall", size)
    check(took < scrapes * 0.040 / 2, "50 large scrapes over one connection do not wait for acknowledgements",
          f"{took:.3f} s")
    pipelined = raw(port, b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n" * 20 + b"GET /live HTTP/1.0\r\n\r\n")
    check(pipelined.count(b"HTTP/1.") == 21, "pipelined requests are all answered", pipelined.count(b"HTTP/1."))


def same_for_all(port):
    def scrape(path):
        if path == "curl":
            body = subprocess.run(["curl", "-s", f"http://127.0.0.1:{port}/metrics"], capture_output=True, check=False).stdout
        else:
            body = request(port, "/metrics", headers={"Accept-Encoding": "gzip"})[2]
            body = gzip.decompress(body)
        return {k: v for k, v in samples(body).items() if not MOVES.match(k)}

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        rounds = [list(pool.map(scrape, ("one", "two", "curl"))) for _ in range(5)]
    check(len(rounds[0][0]) > 1000 and all(body == rounds[0][0] for r in rounds for body in r),
          "two scrapers and a curl always see the same")


def descriptors(agent):
    return len(os.listdir(f"/proc/{agent.child.pid}/fd"))


def slow(agent, port):
    """All at once, because each takes as long as the agent's patience."""
    base = descriptors(agent)
    timed_out = status(port)["agent"]["http"]["timed_out"]
    silent = socket.create_connection(("127.0.0.1", port))
    halting = socket.create_connection(("127.0.0.1", port))
    halting.sendall(b"GET /metrics HTTP/1.1\r\nHo")
    dripping = socket.create_connection(("127.0.0.1", port))
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", port))
    deaf.setblocking(False)
    deaf.send(b"GET /metrics HTTP/1.1\r\nX-Prometheus-Scrape-Timeout-Seconds: 1\r\n\r\n" * 200)
    begin, ended, slowest = time.monotonic(), {}, 0
    waiting = {silent: "silent", halting: "halting", dripping: "dripping"}
    drip = iter(b"GET /metrics HTTP/1.1\r\nX-Very-Slow: " + b"z" * 1000)
    while waiting and time.monotonic() < begin + 25:
        try:
            dripping.send(bytes([next(drip)]))
        except OSError:
            pass
        for s in select.select(list(waiting), [], [], 0.25)[0]:
            try:
                gone = not s.recv(65536)
            except OSError:
                gone = True
            if gone:
                ended[waiting.pop(s)] = time.monotonic() - begin
        once = time.monotonic()
        request(port, "/metrics")
        slowest = max(slowest, time.monotonic() - once)
    for name in ("silent", "halting", "dripping"):
        check(name in ended, f"a {name} client is let go", ended)
    check(wait_for(lambda: status(port)["agent"]["http"]["timed_out"] >= timed_out + 4),
          "one that never reads as well, and all are counted", status(port)["agent"]["http"])
    check(slowest < 2, "meanwhile everybody else is served", slowest)
    for s in (silent, halting, dripping, deaf):
        s.close()
    check(wait_for(lambda: descriptors(agent) <= base), "no descriptor is left behind", (base, descriptors(agent)))


def crowd(agent, port):
    base = descriptors(agent)
    watcher = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    watcher.request("GET", "/live")
    watcher.getresponse().read()
    many = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]

    def counts():
        watcher.request("GET", "/status.json")
        return json.loads(watcher.getresponse().read())["agent"]["http"]

    check(wait_for(lambda: counts()["full"] >= 1), "a crowd fills the table, which is counted", counts())
    check(counts()["connections"] <= 128 and descriptors(agent) <= base + 130, "and is bounded", counts())
    for s in many:
        s.close()
    check(wait_for(lambda: request(port, "/live"), 10), "when it goes, others are accepted again")
    watcher.close()
    for _ in range(300):
        socket.create_connection(("127.0.0.1", port)).close()
    check(wait_for(lambda: request(port, "/live") and descriptors(agent) <= base + 1),
          "no descriptor is left behind by a crowd", (base, descriptors(agent)))


def requests():
    path, port = f"{work}/blix2", free_port()
    node = Node(path)
    agent = Agent("--shm", path, "--listen", f"127.0.0.1:{port}")
    wait_for(lambda: (request(port, "/health") or [0])[0] == 200)
    methods(port)
    hostile(port)
    negotiation(port)
    keep_alive(port)
    same_for_all(port)
    crowd(agent, port)
    slow(agent, port)
    check(agent.child.poll() is None and request(port, "/health")[0] == 200, "after all that it is as well as before")
    node.end(signal.SIGTERM)
    agent.stop()


# ---- addresses ----------------------------------------------------------------------------------


def taken_port():
    holder = start([sys.executable, "-c", "import socket,sys,time\ns=socket.socket()\ns.bind(('127.0.0.1',0))\n"
                    "s.listen()\nprint(s.getsockname()[1],flush=True)\ntime.sleep(60)"],
                   stdout=subprocess.PIPE, text=True)
    port = int(holder.stdout.readline())
    agent = Agent("--shm", f"{work}/nobody", "--listen", f"127.0.0.1:{port}")
    said = agent.says(rf"127\.0\.0\.1:{port}.*")
    line = said.group(0) if said else agent.log()
    check(said and f"pid {holder.pid}" in line and "python" in line, "a taken port: the line names who has it", line)
    check("stop that program" in line and "--listen" in line, "and both remedies", line)
    check_only = subprocess.run([AGENT, "--shm", f"{work}/nobody", "--listen", f"127.0.0.1:{port}", "--check"],
                                capture_output=True, text=True, check=False)
    check(check_only.returncode == 1 and f"pid {holder.pid}" in check_only.stdout, "--check says it too",
          check_only.stdout)
    holder.kill()
    holder.wait()
    check(wait_for(lambda: (request(port, "/ready") or [0])[0] == 200, 15), "once it is free, the agent has it")
    check(agent.log().count("cannot listen") == 1, "a repeated failure is one line", agent.log())
    agent.stop()


def derived_address():
    path, state, port = f"{work}/blix3", f"{work}/kept", free_port()
    agent = Agent("--shm", path, state=state)
    check(agent.says("follows from the node's gRPC address"), "without an address it says what it waits for")
    node = Node(path, f"127.0.0.1:{port - 1000}")
    check(wait_for(lambda: (request(port, "/health") or [0])[0] == 200), "it listens a thousand above the node")
    check(wait_for(lambda: os.path.exists(f"{state}/listen")), "and keeps that address")
    node.end(signal.SIGKILL)
    moved = free_port()
    node = Node(path, f"127.0.0.1:{moved - 1000}")
    check(wait_for(lambda: (request(moved, "/health") or [0])[0] == 200), "a node elsewhere moves the listener")
    check(wait_for(lambda: request(port, "/live") is None), "away from the old address")
    check(agent.log().count("no longer on") == 1, "with one line", agent.log())
    node.end(signal.SIGTERM)
    wait_for(lambda: str(moved) in open(f"{state}/listen", encoding="utf-8").read())
    agent.stop()
    for name in os.listdir(work):
        if name.startswith("blix3"):
            os.unlink(f"{work}/{name}")

    agent = Agent("--shm", path, state=state)
    answer = wait_for(lambda: request(moved, "/health"))
    check(answer and answer[0] == 503 and json.loads(answer[2])["node"]["state"] == "waiting",
          "after a reboot it listens where it did and says that no node is there", answer)
    second = Agent("--shm", path, state=state)
    check(second.says("belongs to another running agent"), "a second one in the same state directory is told so",
          second.log())
    agent.stop()
    check(wait_for(lambda: (request(moved, "/ready") or [0])[0] == 200, 15), "and takes over when the first one goes")
    second.stop()


def impossible_port():
    path = f"{work}/blix4"
    node = Node(path, "127.0.0.1:64536")
    agent = Agent("--shm", path)
    said = agent.says("65536.*")
    check(said and "--listen" in said.group(0), "a port above 65535 is a clear error", agent.log())
    check(agent.child.poll() is None, "that ends nothing")
    agent.stop()
    port = free_port()
    agent = Agent("--shm", path, "--listen", f"127.0.0.1:{port}")
    check(wait_for(lambda: (request(port, "/health") or [0])[0] == 200), "and --listen is the remedy")
    agent.stop()
    node.end(signal.SIGTERM)


def several_files():
    ports = [free_port(), free_port()]
    agent = Agent("--shm", f"{work}/one", "--listen", f"127.0.0.1:{ports[0]}",
                  "--shm", f"{work}/two", "--listen", f"localhost:{ports[1]}")
    node = Node(f"{work}/two")
    check(wait_for(lambda: (request(ports[1], "/health", host="localhost") or [0])[0] == 200), "a name can be listened on")
    check(request(ports[0], "/health")[0] == 503, "each file has its own listener and its own health")
    check(status(ports[0])["file"]["path"].endswith("/one"), "and its own status")
    node.end(signal.SIGTERM)
    agent.stop()
    try:
        port = free_port("::1")
    except OSError:
        skip("IPv6", "this host has none")
        return
    agent = Agent("--shm", f"{work}/six", "--listen", f"[::1]:{port}")
    check(wait_for(lambda: (request(port, "/ready", host="::1") or [0])[0] == 200), "IPv6 in brackets")
    agent.stop()


def unusual_addresses():
    port = free_port()
    path = f"{work}/blix7"
    agent = Agent("--shm", path)
    node = Node(path, f"127.0.0.1:{port - 1000}")
    wait_for(lambda: (request(port, "/health") or [0])[0] == 200)
    node.end(signal.SIGKILL)
    node = Node(path, f"0.0.0.0:{port - 1000}")
    check(agent.says(rf"now listening on http://0\.0\.0\.0:{port}/, no longer on 127\.0\.0\.1:{port}"),
          "the same port on all interfaces: the agent is not in its own way", agent.log())
    check(request(port, "/live", host="127.0.0.2")[0] == 200, "and it is there")
    node.end(signal.SIGTERM)
    agent.stop()

    agent = Agent("--shm", path + "x", "--listen", "no-such-host.invalid:8001")
    check(agent.says("does not resolve.*--listen", 20) and agent.child.poll() is None,
          "a name that does not resolve is said", agent.log())
    agent.stop()
    agent = Agent("--shm", path + "x", "--listen", "192.0.2.1:8001")
    check(agent.says("no such address.*0\\.0\\.0\\.0"), "an address of another host is said", agent.log())
    agent.stop()
    port = free_port()
    agent = Agent("--shm", path + "x", "--listen", f"127.0.0.1:{port}", state="/proc/nowhere/state")
    check(wait_for(lambda: (request(port, "/ready") or [0])[0] == 200), "without a state directory it serves")
    check(agent.log().count("state directory /proc/nowhere/state") == 1 and status(port)["agent"]["state"]["problem"],
          "and says that nothing is kept", agent.log())
    agent.stop()


def few_descriptors():
    port = free_port()
    agent = Agent("--shm", f"{work}/blix8", "--listen", f"127.0.0.1:{port}")
    wait_for(lambda: request(port, "/live"))
    limit = descriptors(agent) + 5
    resource.prlimit(agent.child.pid, resource.RLIMIT_NOFILE, (limit, limit))
    many = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    check(agent.says("cannot accept a connection"), "out of descriptors: it says so", agent.log())
    before = cpu_seconds(agent)
    wait_for(lambda: False, 1.5)
    check(cpu_seconds(agent) - before < 0.5, "and does not spin")
    for s in many:
        s.close()
    check(wait_for(lambda: (request(port, "/live") or [0])[0] == 200, 5), "and accepts again when it can")
    check(agent.log().count("cannot accept") == 1, "with one line", agent.log())
    agent.stop()


def cpu_seconds(agent):
    with open(f"/proc/{agent.child.pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- flags, configuration, log --------------------------------------------------------------------


def run(*arguments):
    return subprocess.run([AGENT, *arguments], capture_output=True, text=True, timeout=10, check=False,
                          env={**os.environ, "STATE_DIRECTORY": f"{work}/run"})


def flags():
    wrong = run("--shm", "/dev/shm/x", "--lisen", "a:1")
    check(wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "--listen" in wrong.stderr,
          "an unknown flag: status 2, one line, the nearest one", wrong)
    check(run().returncode == 2, "nothing to serve is status 2")
    for flag in ("--help", "--version", "--dump-metrics=json", "--dump-metrics=markdown"):
        answer = run(flag)
        check(answer.returncode == 0 and answer.stdout and not answer.stderr, f"{flag} prints and ends with 0", answer)
    json.loads(run("--dump-metrics=json").stdout)
    full = subprocess.run([AGENT, "--help"], stdout=open("/dev/full", "w", encoding="utf-8"), stderr=subprocess.PIPE,
                          check=False)
    check(full.returncode == 1, "output that cannot be written is status 1", full)
    config = f"{work}/config.json"
    answer = run("--config", config)
    check(answer.returncode == 2 and config in answer.stderr, "a configuration that is not there", answer)
    answer = run("--config", work)
    check(answer.returncode == 2 and "regular file" in answer.stderr, "one that is no file", answer)
    with open(config, "w", encoding="utf-8") as f:
        f.write('{\n "shm": "/dev/shm/x",\n "lnger": 3\n}')
    answer = run("--config", config)
    check(answer.returncode == 2 and f"{config}:3:" in answer.stderr and '"linger"' in answer.stderr,
          "an unknown key: file, line, the nearest one", answer)
    check(run("--config", config, "--check").returncode == 1, "--check of it is status 1")
    good = run("--shm", f"{work}/nobody", "--listen", f"127.0.0.1:{free_port()}", "--check")
    check(good.returncode == 0 and "would work" in good.stdout and not os.path.exists(f"{work}/run"),
          "--check of what would work is status 0 and leaves nothing behind", good)
    with open(f"{work}/stranger", "w", encoding="utf-8") as f:
        f.write("x" * 5000)
    bad = run("--shm", f"{work}/stranger", "--listen", f"127.0.0.1:{free_port()}", "--check")
    check(bad.returncode == 1 and "stranger" in bad.stdout, "--check looks into the file", bad.stdout)


def agent_pages(path):
    """The pages of the file that an agent may write: found through its table of contents."""
    with open(path, "rb") as f:
        head = f.read(4096)
        for at in range(0x800, 4096, 64):
            kind, _, offset, length = struct.unpack_from("<IIQQ", head, at)
            if kind == 8:
                f.seek(offset)
                return f.read(length)
    return None


def check_touches_nothing():
    path = f"{work}/blix9"
    node = Node(path)
    before = agent_pages(path)
    answer = run("--shm", path, "--listen", f"127.0.0.1:{free_port()}", "--check")
    check(answer.returncode == 0 and "node 7" in answer.stdout, "--check of a live node names it", answer)
    check(before and agent_pages(path) == before, "and leaves no trace in its file")
    agent = Agent("--shm", path, "--listen", f"127.0.0.1:{free_port()}")
    check(wait_for(lambda: agent_pages(path) != before), "where an agent that serves does")
    agent.stop()
    node.end(signal.SIGTERM)


def reload():
    path, port, config = f"{work}/blix5", free_port(), f"{work}/reload.json"

    def write(text):
        with open(config + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.rename(config + ".new", config)

    write('{"names": "seed", "linger": 30}')
    node = Node(path)
    agent = Agent("--shm", path, "--listen", f"127.0.0.1:{port}", "--config", config)
    wait_for(lambda: (request(port, "/health") or [0])[0] == 200)
    check("blixard_raft_term" not in samples(request(port, "/metrics")[2]), "names from the configuration")
    write('{"names": "canonical", "linger": 40}')
    agent.child.send_signal(signal.SIGHUP)
    check(wait_for(lambda: "raft_term" not in samples(request(port, "/metrics")[2])), "SIGHUP changes what can change")
    check(agent.says("linger changed .*next start"), "and says what cannot", agent.log())
    write("{ nonsense")
    agent.child.send_signal(signal.SIGHUP)
    check(agent.says("not JSON.*stays as it was"), "a bad one is refused", agent.log())
    answer = request(port, "/ready")
    check(answer[0] == 200 and b"not JSON" in answer[2] and b"not JSON" in request(port, "/")[2],
          "the old one stays in force and the fault is shown", answer)
    check("blixard_raft_term" in samples(request(port, "/metrics")[2]), "nothing else changed")
    write('{"log_format": "json"}')
    agent.child.send_signal(signal.SIGHUP)
    check(agent.says(r'\{"time".*configuration read again'), "the log's form can change too", agent.log())
    agent.stop(signal.SIGINT)
    node.end(signal.SIGTERM)


def full_stderr():
    """A reader of stderr that has stopped must not stop the agent."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    try:
        while True:
            os.write(write_end, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(write_end, True)
    port = free_port()
    agent = Agent("--shm", f"{work}/blix6", "--listen", f"127.0.0.1:{port}", "--log-level", "debug", stderr=write_end)
    os.close(write_end)
    check(wait_for(lambda: (request(port, "/ready") or [0])[0] == 200), "a full stderr does not keep it from serving")
    check(agent.stop() == 0, "nor from ending")
    os.close(read_end)


def main():
    for program in (AGENT, NODE, ADDRESS_NODE):
        if not os.access(program, os.X_OK):
            print(f"{program} is missing: make test-programs")
            return 77
    for part in (states, stranger, requests, taken_port, derived_address, impossible_port, several_files,
                 unusual_addresses, few_descriptors, flags, check_touches_nothing, reload, full_stderr):
        print(f"# {part.__name__}", flush=True)
        part()
    print(f"1..{cases}")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        code = main()
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(code)
