#!/usr/bin/python3
# timeout: 300 s
"""Goal: what the agent says about its exports is what became of the items: /metrics, /status.json,
/health and the page agree with what a receiver wrote down, while all goes well and while one signal's
destination is gone.

Method: the real agent, span_node as the node with its own count of what it did, and a receiver on
Debian's grpcio or http.server that records every item. At quiet, every record taken from the rings must be
sent, rejected, dropped, waiting or spooled; nothing else.
"""

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
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from otlp_testbed import BUILD, main, wait_for  # noqa: E402

ITEMS = "blixard_agent_export_items_total"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Agent:
    def __init__(self, bed, shm, **env):
        self.port, self.state = free_port(), tempfile.mkdtemp(dir=bed.dir)
        self.log = os.path.join(self.state, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [f"{BUILD}/blixard-agent", "--no-bpf", "--shm", shm, "--listen", f"127.0.0.1:{self.port}"], stderr=log,
                env={**os.environ, "STATE_DIRECTORY": self.state, "OTEL_BSP_SCHEDULE_DELAY": "200",
                     "OTEL_BLRP_SCHEDULE_DELAY": "200", "OTEL_METRIC_EXPORT_INTERVAL": "500", **env})
        wait_for("the agent answers", self.answers)

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(self.said())
        try:
            return self.get("/live")
        except OSError:
            return None

    def get(self, path):
        """(code, text)"""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def metrics(self):
        return self.get("/metrics?names=canonical")[1]

    def health(self, query=""):
        code, text = self.get("/health" + query)
        return code, json.loads(text)

    def exports(self):
        status = json.loads(self.get("/status.json")[1])
        assert status["schema"] == 1
        return status["exports"]

    def said(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


def value(text, name, **labels):
    """The sum of the samples with these labels; None if there are none."""
    found = []
    for line in text.splitlines():
        m = re.fullmatch(re.escape(name) + r"(?:\{(.*)\})? (\S+)", line)
        if m and all(dict(re.findall(r'(\w+)="([^"]*)"', m.group(1) or "")).get(k) == v for k, v in labels.items()):
            found.append(float(m.group(2)))
    return sum(found) if found else None


class Node:
    """span_node for a while; what it did, by its own count."""

    def __init__(self, bed, shm, rate, seconds):
        self.truth = os.path.join(bed.dir, "truth")
        self.child = subprocess.Popen([f"{BUILD}/test/support/bin/span_node", shm, self.truth, "2", str(rate), str(seconds), str(8 << 20)])

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        assert self.child.wait(30) == 0
        with open(self.truth, "rb") as f:
            words = struct.unpack("<8Q", f.read(64)) + struct.unpack(f"<{64 * 8}Q", f.read(64 * 64))
        threads = [words[8 + 8 * i:16 + 8 * i] for i in range(words[0])]
        return sum(t[1] + t[3] for t in threads), sum(t[4] for t in threads)


def outcome(text, sig):
    """Items of a signal by what became of them."""
    got = {r: value(text, ITEMS, signal=sig, result=r) for r in ("sent", "rejected")}
    got["dropped"] = value(text, "blixard_agent_export_dropped_items_total", signal=sig)
    got["waiting"] = value(text, "blixard_agent_export_queue_length", signal=sig)
    got["spooled"] = value(text, "blixard_agent_spool_items", signal=sig)
    return got


def balanced(text, kind, sig):
    taken = value(text, "blixard_agent_ring_records_total", kind=kind)
    open_ = value(text, "blixard_agent_ring_unacknowledged_items", kind=kind)
    got = outcome(text, sig)
    return None not in got.values() and taken and taken == sum(got.values()) and open_ == got["waiting"]


def run(bed, env, rate=2000, seconds=0):
    """An agent with a node that works until the caller ends it."""
    shm = f"/dev/shm/blix-export-status-{os.getpid()}-{time.monotonic_ns()}"
    agent = Agent(bed, shm, **env)
    bed.cleanup = getattr(bed, "cleanup", []) + [agent.stop, lambda: os.path.exists(shm) and os.unlink(shm)]
    return agent, Node(bed, shm, rate, seconds)


def with_cleanup(case):
    def wrapped(bed):
        try:
            case(bed)
        finally:
            for step in getattr(bed, "cleanup", []):
                step()
    wrapped.__doc__ = case.__doc__
    return wrapped


def truths(agent, node):
    """End the node; its spans and logs, once all of them were taken out of the ring."""
    spans, logs = node.end()
    wait_for("all records are taken", lambda: (value(m := agent.metrics(), "blixard_agent_ring_records_total", kind="span"),
                                               value(m, "blixard_agent_ring_records_total", kind="log")) == (spans, logs), 60)
    return spans, logs


@with_cleanup
def agree(bed):
    """figures at /metrics are those of the receiver and of the node, and every item is accounted for"""
    r = bed.grpc()
    agent, node = run(bed, {"OTEL_EXPORTER_OTLP_ENDPOINT": r.url()})
    wait_for("spans arrive", lambda: len(r.lines("span")) > 1000, 60)
    spans, logs = truths(agent, node)
    wait_for("quiet", lambda: balanced(m := agent.metrics(), "span", "traces") and balanced(m, "log", "logs")
             and outcome(m, "traces")["waiting"] == 0, 60)
    text = agent.metrics()
    assert outcome(text, "traces") == {"sent": spans, "rejected": 0, "dropped": 0, "waiting": 0, "spooled": 0}, outcome(text, "traces")
    assert outcome(text, "logs")["sent"] == logs
    assert len(r.lines("span")) == spans and len({(s["trace_id"], s["span_id"]) for s in r.lines("span")}) == spans
    assert len(r.lines("log")) == logs
    # As many requests as the receiver noted, apart from those of metrics under way meanwhile.
    for service, sig in (("trace", "traces"), ("logs", "logs")):
        noted = len([l for l in r.lines("request") if l["service"] == service])
        assert value(text, "blixard_agent_export_requests_total", signal=sig) == noted, (sig, noted)
    last = value(text, "blixard_agent_export_last_success_timestamp_seconds", signal="traces")
    assert abs(time.time() - last) < 120, last
    # All reasons are there before anything has failed.
    assert len(re.findall(r'^blixard_agent_export_failures_total\{.*signal="traces"', text, re.M)) == 6
    assert value(text, "blixard_agent_export_failures_total") == 0
    assert value(text, "blixard_agent_spool_degraded") == 0
    assert value(text, "blixard_agent_export_sampled_out_items_total") is None
    exports = {p["signal"]: p for p in agent.exports()["pipes"]}
    assert set(exports) == {"traces", "metrics", "logs"} and exports["traces"]["sent"] == spans, exports
    assert exports["traces"]["address"].startswith(r.url()) and not any(p["failing"] for p in exports.values()), exports
    assert "rejected" not in agent.said() and "cannot be read" not in agent.said(), agent.said()[-2000:]


@with_cleanup
def rejected(bed):
    """what the destination rejects is counted as such, and is not sent again"""
    r = bed.grpc()
    r.order(mode="partial", rejected=3, message="too old")
    agent, node = run(bed, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": r.url()})
    wait_for("spans arrive", lambda: len(r.lines("span")) > 500, 60)
    spans, _ = truths(agent, node)
    wait_for("quiet", lambda: balanced(m := agent.metrics(), "span", "traces") and outcome(m, "traces")["waiting"] == 0, 60)
    got = outcome(agent.metrics(), "traces")
    requests = len([l for l in r.lines("request")])
    assert 0 < got["rejected"] <= 3 * requests and got["sent"] + got["rejected"] == spans == len(r.lines("span")), (got, requests)
    assert outcome(agent.metrics(), "logs")["sent"] is None, "no pipe, no series"
    assert "3 of " in agent.said() and "too old" in agent.said()


@with_cleanup
def one_down(bed):
    """one signal's destination is gone: said everywhere, spooled, the others go on; then it is caught up"""
    good, bad = bed.http(), free_port()
    agent, node = run(bed, {"OTEL_EXPORTER_OTLP_ENDPOINT": good.url(), "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{bad}/v1/traces"})
    wait_for("it fails", lambda: any(p["failing"] and p["spooled"] > 0 for p in agent.exports()["pipes"]), 60)
    code, health = agent.health()
    assert code == 200 and health["status"] == "healthy", health
    assert any("traces" in line and "otlp" in line for line in health["degraded"]), health
    assert not any("logs" in line for line in health["degraded"]), health
    for query, wanted in (("?include=exporters", 503), ("?include=exporters,probes", 503), ("?include=exporter", 200)):
        assert agent.health(query)[0] == wanted, query
    assert agent.health("?include=probes")[0] == 503, "--no-bpf"
    page = agent.get("/")[1]
    assert "traces cannot be sent to otlp" in page and f"127.0.0.1:{bad}" in page and "Spool <code>" in page
    spans, logs = truths(agent, node)
    wait_for("all spans are in the spool", lambda: balanced(m := agent.metrics(), "span", "traces")
             and outcome(m, "traces")["spooled"] == spans, 60)
    text = agent.metrics()
    assert outcome(text, "traces")["sent"] == 0 and value(text, "blixard_agent_spool_bytes", signal="traces") > 0
    assert value(text, "blixard_agent_export_failures_total", signal="traces", reason="unavailable") > 0
    assert value(text, "blixard_agent_export_last_success_timestamp_seconds", signal="traces") == 0
    assert abs(time.time() - value(text, "blixard_agent_spool_oldest_timestamp_seconds", signal="traces")) < 240
    wait_for("logs arrive", lambda: outcome(agent.metrics(), "logs")["sent"] == logs == len(good.lines("log")), 60)
    back = bed.http(more=("--listen", f"127.0.0.1:{bad}"))
    wait_for("all of it arrives", lambda: len(back.lines("span")) == spans, 120)
    wait_for("quiet", lambda: outcome(agent.metrics(), "traces") ==
             {"sent": spans, "rejected": 0, "dropped": 0, "waiting": 0, "spooled": 0}, 60)
    assert value(agent.metrics(), "blixard_agent_spool_oldest_timestamp_seconds", signal="traces") is None
    assert not any("otlp" in line for line in agent.health()[1]["degraded"]), agent.health()


@with_cleanup
def silent(bed):
    """without a destination there is no series about one, and names stay clean for promtool"""
    agent, node = run(bed, {})
    wait_for("records are taken", lambda: value(agent.metrics(), "blixard_agent_ring_records_total", kind="span"), 60)
    node.end()
    text = agent.metrics()
    assert "blixard_agent_export_" not in text and "blixard_agent_spool_" not in text
    assert agent.exports() == {"pipes": [], "problem": "", "spool": None}
    r = bed.grpc()
    agent, node = run(bed, {"OTEL_EXPORTER_OTLP_ENDPOINT": r.url()})
    wait_for("spans arrive", lambda: r.lines("span"), 60)
    node.end()
    promtool = shutil.which("promtool", path=f"{BUILD}/tools/usr/bin:{os.environ['PATH']}")
    if promtool:
        done = subprocess.run([promtool, "check", "metrics"], input=agent.metrics(), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main([agree, rejected, one_down, silent]))
