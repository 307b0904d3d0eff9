#!/usr/bin/env python3
# timeout: 300 s
"""Goal: `make demo` shows what it promises, says what is wrong, and leaves nothing behind.
Method: run the demo on free ports with a short DEMO_SECONDS; while it runs ask the agents and the
real Prometheus from outside, and read the trace it shows at its end; then give it an endpoint and look
at what arrives there; then take a port away and read the message."""

import glob
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from otlp_testbed import Bed  # noqa: E402

BUILD = os.environ.get("B", "build")
DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cluster/demo.py")
SEED_NAMES = """raft_proposals_total raft_proposals_failed raft_committed_entries_total
raft_applied_entries_total raft_leader_changes_total raft_term raft_commit_index raft_proposal_duration
grpc_requests_total grpc_requests_failed grpc_request_duration peer_connections_active
peer_reconnect_attempts vm_total vm_running vm_create_total vm_create_failed vm_create_duration
storage_reads_total storage_writes_total storage_read_duration storage_write_duration""".split()

cases = 0


def check(good, name, detail=""):
    global cases
    cases += 1
    print(f"{'ok' if good else 'not ok'} {cases} - {name}{'' if good else ': ' + str(detail)[:300]}", flush=True)
    return good


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger are nobody's
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def free_base():
    """A port whose next two, and the three 1000 above, are free."""
    for base in range(17001, 30000, 10):
        if all(free(base + i) and free(base + 1000 + i) for i in range(3)):
            return base
    sys.exit("no free ports")


class Running:
    def __init__(self, **env):
        self.process = subprocess.Popen(["/usr/bin/python3", DEMO, "--build", BUILD], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, env=dict(os.environ, **env))
        self.lines = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, pattern, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(re.search(pattern, line) for line in self.lines):
                return True
            if self.process.poll() is not None:
                self.reader.join(2)
                return any(re.search(pattern, line) for line in self.lines)
            time.sleep(0.05)
        return False

    def end(self, seconds):
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
            code = None
        self.reader.join(2)
        return code


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return True
        except OSError:
            pass
        time.sleep(0.1)
    return False


def value(body, name):
    found = re.search(rf"^{name} (\S+)$", body, re.MULTILINE)
    return float(found.group(1)) if found else None


def query(prometheus, expression):
    answer = json.loads(get(f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression})))
    return [float(r["value"][1]) for r in answer["data"]["result"]]


def children(pid):
    """Program name and environment of each child."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        pids = f.read().split()
    for child in pids:
        with open(f"/proc/{child}/cmdline", "rb") as f:
            name = os.path.basename(f.read().split(b"\0")[0].decode())
        with open(f"/proc/{child}/environ", "rb") as f:
            yield name, dict(pair.split("=", 1) for pair in f.read().decode().split("\0") if "=" in pair)


def check_tree(lines):
    head = next((i for i, line in enumerate(lines) if re.match(r"  trace [0-9a-f]{32}: \d+ spans on \d+ nodes$", line)), None)
    if not check(head is not None, "at its end it shows a trace", lines[-8:]):
        return
    check(lines[head].endswith(" on 3 nodes"), "the trace went through all three nodes", lines[head])
    spans = [line for line in lines[head + 1:] if re.search(r"\+ *[\d.]+ ms +[\d.]+ ms", line)]
    check(len(spans) >= 5 and re.match(r"  \S", spans[0]) and all(re.match(r"    +\S", line) for line in spans[1:]),
          "it is one tree: one root, the rest below it", spans[:8])
    check(any("SendRaftMessage" in line for line in spans) and any("storage.append" in line for line in spans),
          "it shows messages between nodes and writes to storage", spans[:8])


def check_endpoint(env):
    """An endpoint of the user's own: no receiver, and the whole environment goes on."""
    mine = {"AWS_REGION": "eu-central-1", "DD_ENV": "demo", "GCP_PROJECT_ID": "p", "AZURE_TENANT_ID": "t", "BLIXARD_DEMO_MARK": "m",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer your-token", "OTEL_METRIC_EXPORT_INTERVAL": "1000"}
    with Bed() as bed:
        receiver = bed.grpc()
        mine["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url()
        demo = Running(DEMO_SECONDS="6", **env, **mine)
        if not check(demo.wait_for("Prometheus   http", 90), "the demo comes up with an endpoint of the user's", demo.lines):
            demo.end(1)
            return
        started = list(children(demo.process.pid))
        programs = [(name, e) for name, e in started if name in ("blixard-node", "blixard-agent")]
        wrong = [name for name, e in programs if not mine.items() <= e.items()]
        check(len(programs) == 6 and not wrong, "nodes and agents have the user's environment", ([n for n, _ in started], wrong))
        own = [e.get("RUNTIME_DIRECTORY") for name, e in programs if name == "blixard-agent"]
        check(len(set(own)) == 3 and None not in own, "each agent has a runtime directory of its own", own)
        code = demo.end(90)
        check(code == 0 and not any("OTLP receiver got" in line for line in demo.lines), "no receiver is started", (code, demo.lines[-8:]))
        nodes = {line["resource"]["service.instance.id"] for line in receiver.lines("span")}
        check(len(nodes) == 3, "spans of three nodes arrive at the endpoint", nodes)
        tokens = {line["metadata"].get("authorization") for line in receiver.lines("request")}
        check(tokens == {"Bearer your-token"}, "every request carries the user's header", tokens)
        check({line["service"] for line in receiver.lines("request")} >= {"trace", "metrics"}, "traces and metrics arrive")


def main():
    for variable in [v for v in os.environ if v.startswith("OTEL_")]:
        del os.environ[variable]
    for tool in ("blixard-node", "blixard-agent", "tools/usr/bin/prometheus"):
        if not os.path.exists(f"{BUILD}/{tool}"):
            # A sanitizer build has no tools of its own; the real run has them.
            print(f"{BUILD}/{tool} is missing")
            return 77
    base, prometheus_port = free_base(), 0
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        prometheus_port = s.getsockname()[1]
    prefix = tempfile.mktemp(prefix="blix-e2e-demo-", dir="/dev/shm")
    env = {"DEMO_GRPC_PORT": str(base), "DEMO_PROMETHEUS_PORT": str(prometheus_port),
           "DEMO_SHM_PREFIX": prefix}
    agents = [f"http://127.0.0.1:{base + 1000 + i}" for i in range(3)]
    prometheus = f"http://127.0.0.1:{prometheus_port}"

    demo = Running(DEMO_SECONDS="8", **env)
    if not check(demo.wait_for("Prometheus   http", 90), "the demo comes up and prints its URLs", demo.lines):
        demo.end(1)
        return 1
    before = [value(get(a + "/metrics"), "raft_proposals_total") for a in agents]
    for i, agent in enumerate(agents):
        check(wait_until(lambda a=agent, b=before[i]: value(get(a + "/metrics"), "raft_proposals_total") > b, 6),
              f"raft_proposals_total grows at agent {i + 1}", before[i])
    body = get(agents[0] + "/metrics")
    missing = [n for n in SEED_NAMES if f"\n# TYPE {n} " not in "\n" + body]
    check(not missing, "all 22 names of the seed guide are served", missing)
    check(wait_until(lambda: query(prometheus, "sum(raft_term)")[0] >= 3, 6),
          "Prometheus answers sum(raft_term) from what it scraped")
    check(query(prometheus, "sum(blixard_raft_is_leader)") == [1.0], "Prometheus sees exactly one leader")
    check(query(prometheus, "count(blixard_raft_has_leader == 1)") == [3.0], "every node knows a leader")
    leaders = query(prometheus, "count(blixard_raft_proposal_duration_seconds_bucket) > 0")
    check(bool(leaders), "Prometheus holds the buckets of the proposal histogram")
    code = demo.end(60)
    check(code == 0, "with DEMO_SECONDS it ends by itself with 0", (code, demo.lines[-8:]))
    check(any("node 1  up" in line for line in demo.lines), "it shows a line for each node", demo.lines)
    check_tree(demo.lines)
    check(not glob.glob(prefix + "*"), "its files in /dev/shm are gone", glob.glob(prefix + "*"))
    check(all(free(base + i) and free(base + 1000 + i) for i in range(3)), "its ports are free again")

    check_endpoint(env)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", base + 1))
        taken.listen()
        refused = Running(DEMO_SECONDS="1", **env)
        code = refused.end(30)
        text = "\n".join(refused.lines)
        check(code == 1 and str(base + 1) in text and "DEMO_GRPC_PORT" in text,
              "a taken port is named, and the variable that moves it", (code, text))
    wrong = Running(DEMO_SECONDS="soon", **env)
    check(wrong.end(30) == 1 and "DEMO_SECONDS=soon" in "\n".join(wrong.lines), "a bad setting is named", wrong.lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
