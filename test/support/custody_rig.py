"""A node that knows what it did, a real agent, real receivers: who has what, span by span.

    with Rig(bed) as rig:
        rig.receive()                      # a python3-grpcio receiver
        rig.agent()                        # sends there
        node = rig.node(rate=2000)
        ...
        node.stop()
        rig.settle()                       # until nothing is under way any more
        account = rig.account([node])

Truth is span_node's mapped file; deliveries are the receivers' own records; nothing of ours decodes.
"""

import collections
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request

from otlp_testbed import BUILD, Skip, wait_for

AGENT = os.path.join(BUILD, "blixard-agent")
NODE = os.path.join(BUILD, "test/support/bin/span_node")
PER_BATCH, PER_LOG = 10, 100
STATE = "blixard.span.state"
PATIENCE_S = 60
Truth = collections.namedtuple("Truth", "begun ended batches batches_ended logs")


def clean_environment(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "BLIXARD_")) and k != "JOURNAL_STREAM"}
    return kept | more


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Node:
    def __init__(self, shm, truth, threads, rate, seconds=0, ring_bytes=0):
        command = [NODE, shm, truth, str(threads), str(rate), str(seconds)] + ([str(ring_bytes)] if ring_bytes else [])
        self.truth_path = truth
        with open(truth + ".log", "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean_environment())
        wait_for("the node begins", self.has_begun, PATIENCE_S)

    def has_begun(self):
        if self.process.poll() not in (None, 0):
            with open(self.truth_path + ".log", errors="replace") as log:
                raise AssertionError(f"the node ended with {self.process.returncode}: {log.read()}")
        return any(t.ended for t in self.threads())

    def threads(self):
        try:
            with open(self.truth_path, "rb") as f:
                data = f.read()
        except FileNotFoundError:
            return []
        n = struct.unpack_from("<Q", data)[0] if len(data) >= 64 else 0
        return [Truth(*struct.unpack_from("<5Q", data, 64 + 64 * i)) for i in range(n)]

    def spans_ended(self):
        return sum(t.ended + t.batches_ended for t in self.threads())

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        if self.process.wait(PATIENCE_S) != 0:
            raise AssertionError(f"the node ended with {self.process.returncode}")


class Agent:
    """Answers /metrics when the constructor returns, unless told otherwise."""

    def __init__(self, rig, environment, options=(), before=(), answers=True):
        self.port, self.log_path = free_port(), os.path.join(rig.dir, f"agent{time.monotonic_ns()}.log")
        command = [*before, AGENT, "--shm", rig.shm, "--listen", f"127.0.0.1:{self.port}", "--no-bpf", *options]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        if answers:
            wait_for(f"the agent answers: {self.log_path}", self.answers, PATIENCE_S)
        self.pid = self.child_of(self.process.pid) if before else self.process.pid

    def child_of(self, pid):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return int(f.read().split()[0])

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the agent ended with {self.process.returncode}: {self.log()[-600:]}")
        try:
            return self.get("/metrics")
        except OSError:
            return None

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return answer.read().decode()

    def samples(self):
        return {name: float(value) for name, value in re.findall(r"^(blixard_agent_[^ ]+) (\S+)", self.get("/metrics"), re.MULTILINE)}

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def lives(self):
        return self.process.poll() is None

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        if self.process.wait(PATIENCE_S) != 0:
            raise AssertionError(f"the agent ended with {self.process.returncode}: {self.log()[-600:]}")


class Rig:
    def __init__(self, bed):
        if not os.access(NODE, os.X_OK):
            raise Skip(f"{NODE} is not built")
        self.bed = bed

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="blix-custody-")
        self.memory = tempfile.mkdtemp(prefix="blix-custody-", dir="/dev/shm")
        self.shm = os.path.join(self.memory, "n1")
        self.spool_dir = os.path.join(self.dir, "spool")
        for path in ("state", "run", "spool"):
            os.mkdir(os.path.join(self.dir, path))
        self.nodes, self.agents, self.offsets, self.mounts = [], [], {}, []
        self.received = collections.defaultdict(list)  # kind: lines, as they came
        self.receiver = self.receiver_port = None
        self.endpoints = {}
        return self

    def __exit__(self, *_):
        for one in self.nodes + self.agents:
            if one.process.poll() is None:
                one.process.send_signal(signal.SIGCONT)
                one.kill()
        for path in self.mounts:
            subprocess.run(["umount", path], check=False)
        for path in (self.memory, self.dir):
            shutil.rmtree(path, ignore_errors=True)

    # ---- the parts ------------------------------------------------------------------------------

    def receive(self, records=True):
        """A receiver; a second call after stop_receiving() gets the same port. Without records it only counts."""
        more = ("--listen", f"127.0.0.1:{self.receiver_port}") if self.receiver_port else ()
        self.receiver = self.bed.grpc(more=(*more, *(() if records else ("--record", ""))))
        self.receiver_port = self.receiver.port
        self.endpoints["OTEL_EXPORTER_OTLP_ENDPOINT"] = self.receiver.url()
        return self.receiver

    def stop_receiving(self):
        self.receiver.stop()

    def node(self, rate=1000, threads=4, seconds=0, ring_bytes=0):
        node = Node(self.shm, os.path.join(self.dir, f"truth{len(self.nodes)}"), threads, rate, seconds, ring_bytes)
        self.nodes.append(node)
        return node

    def agent(self, *options, before=(), answers=True, **environment):
        environment = clean_environment(
            STATE_DIRECTORY=os.path.join(self.dir, "state"), RUNTIME_DIRECTORY=os.path.join(self.dir, "run"),
            OTEL_BSP_SCHEDULE_DELAY="200", OTEL_BLRP_SCHEDULE_DELAY="200", OTEL_METRICS_EXPORTER="none",
            OTEL_EXPORTER_OTLP_TIMEOUT="5000", no_proxy="*", **self.endpoints) | environment
        agent = Agent(self, environment, ("--spool", self.spool_dir, *options), before, answers)
        self.agents.append(agent)
        return agent

    def small_disk(self, path, mib):
        out = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "blixard-custody", path], capture_output=True, text=True, check=False)
        if out.returncode:
            raise Skip(f"mounting a tmpfs is not permitted here: {out.stderr.strip()}")
        self.mounts.append(path)

    # ---- who has what ---------------------------------------------------------------------------

    def read(self):
        """Take in what the receivers have written down since."""
        for receiver in self.bed.receivers:
            if not os.path.exists(receiver.record):
                continue
            with open(receiver.record, "rb") as f:
                f.seek(self.offsets.get(receiver.record, 0))
                for line in f:
                    if not line.endswith(b"\n"):
                        break
                    self.offsets[receiver.record] = self.offsets.get(receiver.record, 0) + len(line)
                    entry = json.loads(line)
                    self.received[entry["kind"]].append(entry)
        return self.received

    def distinct(self):
        return len({line["span_id"] for line in self.read()["span"]})

    def wait_received(self, n, deadline_s=PATIENCE_S):
        wait_for(f"{n} spans arrive, {self.distinct()} have", lambda: self.distinct() >= n, deadline_s)

    def settle(self, deadline_s=PATIENCE_S):
        """Nothing arrives any more for longer than a retry takes: what is missing now stays missing."""
        last = [self.distinct(), time.monotonic()]

        def quiet():
            now = self.distinct()
            if now != last[0]:
                last[:] = [now, time.monotonic()]
            return time.monotonic() - last[1] > 4
        wait_for("nothing moves any more", quiet, deadline_s)
