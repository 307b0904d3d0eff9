#!/usr/bin/python3
"""What is lost between a node's threads and a collector: nothing below some rate, and what that rate is.

loss.py BUILD_DIR [SECONDS]. Real parts end to end: span_node, which knows what it ended, an agent, and
otlp_grpc.py on python3-grpcio, which counts distinct span ids. First two threads at a fixed pace, then the
pace grows by half until a span is dropped. Each step is a fresh node, agent and receiver; it says which of
the three used most of a core, for that is what limits it. Nothing is asserted but that every span is
either delivered or counted as dropped: exits 1 if not.
"""

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

BUILD = sys.argv[1] if len(sys.argv) > 1 else "build"
SECONDS = int(sys.argv[2]) if len(sys.argv) > 2 else 10
HERE = os.path.dirname(os.path.abspath(__file__))
PACED, FIRST, LAST, THREADS = 2000, 3000, 1_000_000, 2
DEADLINE_S = 60
DROPS = (("ring:", "blixard_agent_ring_dropped_total{", 'kind="span"'),
         ("export:", "blixard_agent_export_dropped_items_total{", 'signal="traces"'))
PYTHON = "/usr/bin/python3"  # Debian's grpc is only there


def wait_for(what, condition, deadline_s=DEADLINE_S):
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise RuntimeError(f"not within {deadline_s} s: {what}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Step:
    """One node, agent and receiver."""

    def __init__(self, rate):
        self.dir = tempfile.mkdtemp(prefix="blixard-loss-")
        self.shm = f"/dev/shm/blix-loss-{os.getpid()}"
        self.processes = []
        self.rate = rate

    def path(self, name):
        return os.path.join(self.dir, name)

    def start(self, name, *command, **env):
        with open(self.path(name), "w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ, **env))
        self.processes.append(process)
        return process

    def said(self, name, word):
        """What follows `word` in what a program said."""
        with open(self.path(name)) as f:
            return next((line.rpartition(word)[2].split()[0] for line in f if word in line), None)

    def drops(self):
        """{where and why: spans}"""
        with urllib.request.urlopen(self.metrics, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        found = {}
        for line in lines:
            series, _, value = line.rpartition(" ")
            where = next((w for w, name, label in DROPS if series.startswith(name) and label in series), None)
            if where and float(value):
                found[f"{where} {re.search('reason=.([a-z_]+)', series).group(1)}"] = int(float(value))
        return found

    def dropped(self):
        return sum(self.drops().values())

    def delivered(self):
        try:
            with open(self.path("summary")) as f:
                return json.load(f).get("distinct_spans", 0)
        except (FileNotFoundError, ValueError):
            return 0

    def ended(self):
        with open(self.path("truth"), "rb") as f:
            words = struct.unpack("<8Q512Q", f.read(8 * 520))
        return sum(words[8 + 8 * t + 1] + words[8 + 8 * t + 3] for t in range(words[0]))

    def run(self):
        """(ended, delivered, {reason: dropped}, CPU share of each)"""
        receiver = self.start("receiver", PYTHON, f"{HERE}/../verifiers/otlp_grpc.py", "--summary", self.path("summary"))
        port = wait_for("the receiver listens", lambda: self.said("receiver", "listening "))
        address = f"127.0.0.1:{free_port()}"
        agent = self.start("agent", f"{BUILD}/blixard-agent", "--shm", self.shm, "--listen", address,
                           STATE_DIRECTORY=self.dir, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", OTEL_METRICS_EXPORTER="none")
        self.metrics = f"http://{address}/metrics"
        wait_for("the agent answers", self.answers)
        node = self.start("node", f"{BUILD}/test/support/bin/span_node", self.shm, self.path("truth"), str(THREADS), str(self.rate), str(SECONDS))
        names = {"receiver": receiver, "agent": agent, "node": node}
        before = {name: cpu_s(p.pid) for name, p in names.items()}
        time.sleep(SECONDS - 0.5)
        shares = {name: (cpu_s(p.pid) - before[name]) / (SECONDS - 0.5) for name, p in names.items()}
        node.wait(DEADLINE_S)
        ended = self.ended()
        wait_for("every span is delivered or counted", lambda: self.delivered() + self.dropped() >= ended)
        return ended, self.delivered(), self.drops(), shares

    def answers(self):
        try:
            self.dropped()
            return True
        except OSError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if os.path.exists(self.shm):
            os.unlink(self.shm)
        shutil.rmtree(self.dir, ignore_errors=True)


def step(rate):
    """(spans a second, dropped, what used most of a core)"""
    with Step(rate) as s:
        ended, delivered, drops, shares = s.run()
    dropped = sum(drops.values())
    used = "  ".join(f"{name} {100 * share:3.0f} %" for name, share in shares.items())
    print(f"  {THREADS} writers at {rate:8,} spans/s for {SECONDS} s: {ended:9,} ended {delivered:9,} delivered {dropped:9,} dropped   CPU {used}", flush=True)
    for reason, n in drops.items():
        print(f"    {n:,} dropped: {reason}")
    if delivered + dropped != ended:
        sys.exit(f"loss.py: {ended} spans ended, but {delivered} were delivered and {dropped} counted as dropped")
    return ended / SECONDS, dropped, max(shares, key=shares.get)


def main():
    step(PACED)
    rate, best = FIRST, 0
    while rate <= LAST:
        reached, dropped, busiest = step(rate)
        if dropped:
            print(f"  sustained end to end before the first drop: {best:,.0f} spans/s; then the busiest is the {busiest}"
                  f" ({os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f})")
            return
        best = max(best, reached)
        rate = rate * 3 // 2
    print(f"  sustained end to end: {best:,.0f} spans/s without a drop")


if __name__ == "__main__":
    main()
