#!/usr/bin/env python3
# timeout: 150 s
"""Goal: whatever happens to node or agent, /metrics and /health tell the truth about it, in time, and
never mix two lives of a node.
Method: the real agent beside a node (test_node) that keeps its true totals in a shared file, so the
truth is known even after SIGKILL; both are killed, stopped and restarted, files are damaged, and the
answers are read as Prometheus and a person would. Every wait is for a condition, with a deadline."""

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

BUILD = os.environ.get("B", "build")
AGENT = os.path.join(BUILD, "blixard-agent")
NODE = os.path.join(BUILD, "test/support/bin/test_node")
REQUESTS = 'blixard_grpc_requests_total{method="CreateVm"}'
FAILED = 'blixard_grpc_requests_failed_total{method="CreateVm",code="UNAVAILABLE"}'
COUNT = 'blixard_grpc_request_duration_seconds_count{method="CreateVm"}'
TERM = "blixard_raft_term"
UP = "blixard_node_up"
HOST = "blixard_host_memory_total_bytes"
TRUTH_PAIRS = 256
NOBODY = 65534

cases = 0
failures = 0
processes = []


def check(good, name, detail=""):
    global cases, failures
    cases += 1
    failures += not good
    text = " ".join(str(detail).split())[:400]
    print(f"{'ok' if good else 'not ok'} {cases} - {name}{'' if good else ': ' + text}", flush=True)
    return good


def until(seconds, what):
    """The first true result of what(), or its last one when the time is over; and how long it took."""
    begin = time.monotonic()
    while True:
        result = what()
        took = time.monotonic() - begin
        if result or took > seconds:
            return result, took
        time.sleep(0.02)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Node:
    def __init__(self, box, name="n1", *options):
        self.truth_path = os.path.join(box.dir, f"{name}.truth")
        self.process = subprocess.Popen([NODE, box.path(name), self.truth_path, *options],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(self.process)

    def wait_for(self, word):
        line = self.process.stdout.readline().strip()
        if line != word:
            raise RuntimeError(f"node said {line!r}, not {word!r}: {self.process.stderr.read()}")
        return self

    def truth(self):
        """(finished, begun): the true total lies between them."""
        with open(self.truth_path, "rb") as f:
            data = f.read(16 * TRUTH_PAIRS)
        pairs = list(struct.iter_unpack("<QQ", data))
        return sum(p[1] for p in pairs), sum(p[0] for p in pairs)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def signal(self, number):
        self.process.send_signal(number)


class Agent:
    def __init__(self, box, name="n1", *options, port=None, state=None, user=None):
        self.port = port or free_port()
        self.log_path = os.path.join(box.dir, f"agent-{self.port}-{time.monotonic_ns()}.log")
        state = state or os.path.join(box.dir, f"state-{self.port}")
        os.makedirs(state, exist_ok=True)
        if user:
            os.chown(state, user, user)
        environment = dict(os.environ, STATE_DIRECTORY=state)
        environment.pop("JOURNAL_STREAM", None)
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                [AGENT, "--shm", box.path(name), "--listen", f"127.0.0.1:{self.port}", *options],
                stdout=log, stderr=log, env=environment, user=user, group=user,
                extra_groups=[] if user else None)
        processes.append(self.process)
        ready, _ = until(10, lambda: self.get("/ready")[0] == 200)
        if not ready:
            raise RuntimeError(f"agent not ready: {self.log()}")

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metrics(self):
        found = {}
        for line in self.get("/metrics?names=canonical")[1].splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] = float(value)
        return found

    def node_state(self):
        m = self.metrics()
        states = [k for k, v in m.items() if k.startswith("blixard_node_state") and v == 1]
        return re.search('state="([a-z]+)"', states[0]).group(1) if len(states) == 1 else None

    def file_state(self):
        m = self.metrics()
        states = [k for k, v in m.items() if k.startswith("blixard_agent_shm_state") and v == 1]
        return re.search('state="([a-z]+)"', states[0]).group(1) if len(states) == 1 else None

    def health(self):
        status, body = self.get("/health")
        return status, json.loads(body) if body else {}

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(10)


class Box:
    """A directory in shared memory of its own."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="blix-life-", dir="/dev/shm")

    def path(self, name):
        return os.path.join(self.dir, name)


def end_all():
    for p in processes:
        if p.poll() is None:
            p.send_signal(signal.SIGCONT)
            p.kill()
    for p in processes:
        p.wait()
        for stream in (p.stdout, p.stderr):
            if stream:
                stream.close()
    processes.clear()


# ---- cases --------------------------------------------------------------------------------------------

def waiting(box):
    agent = Agent(box)
    status, health = agent.health()
    m = agent.metrics()
    check(m.get(UP) == 0 and agent.node_state() == "waiting" and HOST in m,
          "without a file the agent listens and serves its own figures", m)
    check(status == 503 and "no such file" in json.dumps(health), "and /health says what it waits for", health)
    node = Node(box).wait_for("ready")
    up, took = until(5, lambda: agent.metrics().get(UP) == 1)
    check(up, f"a node that starts is served ({took * 1000:.0f} ms)")
    check(agent.health()[0] == 200, "and healthy")
    node.signal(signal.SIGTERM)
    closed, _ = until(5, lambda: agent.node_state() == "closed")
    check(closed, "a node that closes its file is closed, not dead", agent.node_state())


def killed_node(box):
    agent = Agent(box, "n1", "--linger", "6")
    node = Node(box, "n1", "--rate", "0").wait_for("ready")
    until(10, lambda: agent.metrics().get(REQUESTS, 0) > 1000)
    m = agent.metrics()
    check(m.get(FAILED, 0) <= m[REQUESTS], "failures never exceed requests under load", m.get(FAILED))
    node.kill()
    dead, took = until(5, lambda: agent.metrics().get(UP) == 0 and agent.node_state() == "dead")
    check(dead and took < 2, f"kill -9 under load: node_up 0 and state dead within 2 s ({took * 1000:.0f} ms)", took)
    finished, begun = node.truth()
    m = agent.metrics()
    check(finished <= m[REQUESTS] <= begun and begun - finished <= 4,
          "the final counters are what the node had written", (finished, m[REQUESTS], begun))
    check(finished <= m[COUNT] <= begun, "and so are the histograms", (finished, m[COUNT], begun))
    check(TERM not in m, "its gauges are gone")
    status, health = agent.health()
    check(status == 503 and "dead" in json.dumps(health), "/health says that it is dead", health)

    final = {k: v for k, v in m.items() if k.startswith("blixard_grpc")}
    again = {k: v for k, v in agent.metrics().items() if k.startswith("blixard_grpc")}
    check(final and final == again, "the same a second time")
    agent.kill()
    agent = Agent(box, "n1", "--linger", "6")
    until(5, lambda: agent.node_state() == "dead")
    again = {k: v for k, v in agent.metrics().items() if k.startswith("blixard_grpc")}
    check(final == again, "an agent restarted after kill -9 serves the same final values",
          {k: (v, again.get(k)) for k, v in final.items() if again.get(k) != v})
    gone, _ = until(12, lambda: REQUESTS not in agent.metrics())
    m = agent.metrics()
    check(gone and m.get(UP) == 0 and agent.node_state() == "dead" and HOST in m,
          "after --linger only the host's and the agent's figures stay", m)


def restarted_node(box):
    agent = Agent(box)
    seen = []
    stop = threading.Event()

    def scrape():
        while not stop.is_set():
            m = agent.metrics()
            start = m.get("blixard_node_start_time_seconds")
            if start is not None and REQUESTS in m:
                seen.append((start, m[REQUESTS], TERM in m))

    scraper = threading.Thread(target=scrape)
    scraper.start()
    limits = {}
    for life in range(3):
        node = Node(box, "n1", "--rate", "2000").wait_for("ready")
        up, _ = until(5, lambda: agent.metrics().get(UP) == 1 and agent.metrics().get(REQUESTS, 0) > 0)
        start = agent.metrics().get("blixard_node_start_time_seconds")
        # Each life counts fewer than the one before, so a sample of the wrong life is too high.
        time_limit = time.monotonic() + (1.5 - 0.6 * life)
        until(5, lambda: time.monotonic() > time_limit)
        node.kill()
        limits[start] = node.truth()[1]
    until(5, lambda: agent.node_state() == "dead")
    stop.set()
    scraper.join()
    wrong = [s for s in seen if s[0] not in limits or s[1] > limits[s[0]]]
    check(len(limits) == 3 and len({s[0] for s in seen}) == 3, "three lives of the node were seen", limits)
    check(seen and not wrong, f"none of {len(seen)} scrapes shows a value of another life", wrong[:3])
    by_life = [[s[1] for s in seen if s[0] == start] for start in limits]
    check(all(v == sorted(v) for v in by_life), "and within a life no counter falls")
    check(all(v and min(v) < limits[s] / 2 for v, s in zip(by_life, limits)), "each life starts from 0",
          [min(v) for v in by_life if v])
    check(agent.metrics()["blixard_agent_incarnations_total"] == 3, "they are counted")


def killed_agent(box):
    agent = Agent(box)
    node = Node(box, "n1").wait_for("ready")
    until(5, lambda: agent.metrics().get(REQUESTS, 0) > 100)
    before = agent.metrics()[REQUESTS]
    agent.kill()
    agent = Agent(box, port=agent.port)
    up, _ = until(5, lambda: agent.metrics().get(UP) == 1)
    after = agent.metrics()
    check(up and after[REQUESTS] >= before, "kill -9 of the agent: restarted, it goes on where the node is",
          (before, after.get(REQUESTS)))
    node.signal(signal.SIGTERM)
    node.process.wait()
    until(5, lambda: agent.node_state() == "closed")
    finished, begun = node.truth()
    check(agent.metrics()[REQUESTS] == finished == begun, "and ends at the truth")
    return_code = agent.stop()
    check(return_code == 0, "SIGTERM ends it with 0", agent.log())


def stopped_node(box):
    agent = Agent(box, "n1", "--stale-after", "2")
    node = Node(box, "n1", "--heartbeat").wait_for("ready")
    until(5, lambda: agent.metrics().get(UP) == 1)
    node.signal(signal.SIGSTOP)
    hung, took = until(10, lambda: agent.node_state() == "hung")
    check(hung and agent.metrics()[UP] == 0 and agent.health()[0] == 503,
          f"a stopped node is hung after --stale-after ({took:.1f} s)", agent.node_state())
    node.signal(signal.SIGCONT)
    live, _ = until(5, lambda: agent.node_state() == "live")
    check(live and agent.metrics()[UP] == 1, "and live again when it goes on")
    node.signal(signal.SIGUSR1)
    hung, _ = until(10, lambda: agent.node_state() == "hung")
    check(hung, "a main loop that stops calling blix_heartbeat() is hung as well")
    node.signal(signal.SIGUSR2)
    check(until(5, lambda: agent.node_state() == "live")[0], "and live when it calls again")


def standby(box):
    first = Agent(box)
    node = Node(box).wait_for("ready")
    until(5, lambda: first.file_state() == "attached")
    second = Agent(box, port=free_port())
    waits, _ = until(5, lambda: second.file_state() == "standby")
    m = second.metrics()
    check(waits and m[UP] == 1 and m[REQUESTS] > 0, "a second agent stands by and serves", second.file_state())
    first.kill()
    took_over, took = until(5, lambda: second.file_state() == "attached")
    check(took_over, f"and takes over when the first is killed ({took:.1f} s)", second.file_state())
    node.kill()
    until(5, lambda: second.node_state() == "dead")
    finished, begun = node.truth()
    check(finished <= second.metrics()[REQUESTS] <= begun, "without losing a count")


def bad_files(box):
    """Each: how the file is made, the state it must lead to, a word of the reason."""
    good = box.path("good")
    donor = Node(box, "good").wait_for("ready")
    donor.kill()
    with open(good, "rb") as f:
        image = f.read()

    def patched(at, data):
        return image[:at] + data + image[at + len(data):]

    def foreign_owner(path):
        with open(path, "wb") as f:
            f.write(image)
        os.chown(path, 12345, 12345)

    def contents(data):
        def make(path):
            with open(path, "wb") as f:
                f.write(data)
        return make

    kinds = [("a stranger's text", contents(b"hello\n" * 3000), {"refused"}),
             ("an empty file", contents(b""), {"refused", "waiting", "quarantined"}),
             ("a directory", os.mkdir, {"refused"}),
             ("a link", lambda p: os.symlink(good, p), {"refused"}),
             ("a damaged header", contents(patched(0x60, b"\xff")), {"refused"}),
             ("a newer major", contents(patched(0x0c, b"\x02\x00")), {"incompatible"}),
             ("half a file", contents(image[:len(image) // 2]), {"quarantined", "refused"})]
    if os.getuid() == 0:
        kinds.append(("another user's file", foreign_owner, {"refused"}))
    for what, make, states in kinds:
        name = "bad" + str(cases)
        path = box.path(name)
        make(path)
        agent = Agent(box, name)
        state, _ = until(5, lambda: agent.file_state() in states and agent.file_state())
        m = agent.metrics()
        status, health = agent.health()
        reason = health.get("reason", "")
        check(state and m[UP] == 0 and HOST in m, f"{what}: state {state}, all else is served",
              (agent.file_state(), m.get(UP)))
        check(status == 503 and len(reason) > 20, f"{what}: /health gives the reason", health)
        told = [line for line in agent.log().splitlines() if path in line and reason[:40] in line]
        check(len(told) == 1, f"{what}: one line in the log", agent.log())
        agent.stop()
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        else:
            os.unlink(path)


def truncated(box):
    agent = Agent(box)
    node = Node(box, "n1", "--rate", "10").wait_for("ready")
    until(5, lambda: agent.metrics().get(UP) == 1)
    node.signal(signal.SIGSTOP)  # its own writes would end it
    os.truncate(box.path("n1"), 8192)
    state, _ = until(5, lambda: agent.file_state() == "quarantined")
    m = agent.metrics()
    check(state and m[UP] == 0 and REQUESTS not in m and HOST in m,
          "a file truncated under the agent is quarantined, all else is served", agent.file_state())
    node.kill()
    os.unlink(box.path("n1"))
    Node(box, "n1").wait_for("ready")
    check(until(5, lambda: agent.metrics().get(UP) == 1)[0], "the next node is served again", agent.log())


def unprivileged(box):
    if os.getuid() != 0:
        print("ok - an agent that may only read # SKIP needs root to become another user")
        return
    os.chmod(box.dir, 0o755)
    node = Node(box).wait_for("ready")
    agent = Agent(box, user=NOBODY)
    refused, _ = until(5, lambda: agent.file_state() == "refused")
    check(refused and agent.metrics()[UP] == 0, "a file the agent may not read is refused", agent.file_state())
    os.chmod(box.path("n1"), 0o644)
    up, _ = until(5, lambda: agent.metrics().get(UP) == 1)
    reason = agent.health()[1].get("reason", "")
    check(up and agent.metrics()[REQUESTS] > 0, "once it may read it, it serves it", agent.file_state())
    check("may not write" in reason, "and says that it cannot acknowledge", reason)
    node.kill()
    check(until(2, lambda: agent.node_state() == "dead")[0], "and still sees it die")


def same_for_all(box):
    agent = Agent(box)
    node = Node(box, "n1", "--churn", "0.2", "--threads", "4").wait_for("still")
    until(5, lambda: agent.metrics().get(REQUESTS, 0) == node.truth()[0])
    bodies = [None] * 3

    def read(i):
        for _ in range(20):
            bodies[i] = {k: v for k, v in agent.metrics().items() if k.startswith(("blixard_grpc", "blixard_raft"))}

    readers = [threading.Thread(target=read, args=(i,)) for i in range(3)]
    for r in readers:
        r.start()
    for r in readers:
        r.join()
    check(bodies[0] and bodies[0] == bodies[1] == bodies[2], "three readers at once see the same")


def churn(box):
    agent = Agent(box)
    node = Node(box, "n1", "--churn", "10", "--threads", "64")
    sums = []
    done = threading.Event()

    def watch():
        while not done.is_set():
            value = agent.metrics().get(REQUESTS)
            if value is not None:
                sums.append(value)

    watcher = threading.Thread(target=watch)
    watcher.start()
    node.wait_for("still")
    done.set()
    watcher.join()
    finished, begun = node.truth()
    m = agent.metrics()
    check(m[REQUESTS] == finished == begun == m[COUNT],
          f"64 threads that start, count and exit for 10 s: {finished} counted, every one served",
          (m[REQUESTS], finished, begun, m[COUNT]))
    check(sums == sorted(sums) and len(sums) > 10, f"and in {len(sums)} scrapes meanwhile it never fell")
    check(m["blixard_agent_value_regressions_total"] == 0, "no regression was counted")


def idle(box):
    agent = Agent(box)
    Node(box, "n1", "--rate", "1").wait_for("ready")
    until(5, lambda: agent.metrics().get(UP) == 1)

    def usage():
        with open(f"/proc/{agent.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        switches = 0
        for task in os.listdir(f"/proc/{agent.process.pid}/task"):
            with open(f"/proc/{agent.process.pid}/task/{task}/status") as f:
                switches += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", f.read(), re.M).group(1))
        with open(f"/proc/{agent.process.pid}/schedstat") as f:
            ran_ns = int(f.read().split()[0])
        return int(fields[11]) + int(fields[12]), switches, ran_ns

    begin, before = time.monotonic(), usage()
    until(10, lambda: time.monotonic() - begin > 8)
    after, seconds = usage(), time.monotonic() - begin
    print(f"# idle: {(after[1] - before[1]) / seconds:.2f} wake-ups/s, "
          f"{(after[2] - before[2]) / seconds / 1e7:.4f} % of a core (loop thread)", flush=True)
    check(after[0] - before[0] <= 8, "an idle agent uses next to no CPU", (before, after))


def main():
    for program in (AGENT, NODE):
        if not os.access(program, os.X_OK):
            print(f"{program} is missing: run make first")
            return 77
    wanted = sys.argv[1:]
    for case in (waiting, killed_node, restarted_node, killed_agent, stopped_node, standby, bad_files,
                 truncated, unprivileged, same_for_all, churn, idle):
        if wanted and case.__name__ not in wanted:
            continue
        box = Box()
        try:
            case(box)
        except Exception as error:  # one case must not hide the others
            check(False, f"{case.__name__} ran to its end", repr(error))
        finally:
            end_all()
            shutil.rmtree(box.dir, ignore_errors=True)
    print(f"1..{cases}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
