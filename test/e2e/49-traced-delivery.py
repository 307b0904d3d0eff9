#!/usr/bin/env python3
# timeout: 240 s
"""Goal: what three nodes did arrives at an OpenTelemetry backend: every sampled span once and with its parent,
logs whose ids match their spans, histograms that count what /metrics counts, exemplars that lead to a trace
the backend holds; and a client with OpenTelemetry's own SDK is part of the same trace.
Method: cluster, agents, a receiver on grpcio with the official messages, a real Prometheus with exemplar
storage; a seeded load with a trace a request; then quiet, and everything is compared."""

import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../cluster"), os.path.join(HERE, "../support")]
from otlp_testbed import Bed, Skip  # noqa: E402
from testbed import Checks, Testbed, free_ports, wait_for  # noqa: E402

BUILD = os.environ.get("B", "build")
TOOLS = os.path.join("build", "tools")
SDK = ("@grpc/grpc-js@1.14.7", "@grpc/proto-loader@0.8.1", "@opentelemetry/api@1.9.0", "@opentelemetry/sdk-trace-node@2.1.0",
       "@opentelemetry/instrumentation@0.206.0", "@opentelemetry/instrumentation-grpc@0.206.0",
       "@opentelemetry/exporter-trace-otlp-grpc@0.206.0", "@opentelemetry/resources@2.1.0")
NOBODY = "00" * 8
check = Checks()


class Prometheus:
    def __init__(self, directory, bed):
        self.port = free_ports(1)[0]
        config = os.path.join(directory, "prometheus.yml")
        targets = [f"127.0.0.1:{n.entry()['agent_port']}" for n in bed.nodes]
        with open(config, "w") as f:
            f.write("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n  - job_name: blixard\n"
                    f"    params: {{names: [canonical]}}\n    static_configs: [{{targets: {json.dumps(targets)}}}]\n")
        with open(os.path.join(directory, "prometheus.log"), "w") as log:
            self.process = subprocess.Popen(
                [os.path.join(TOOLS, "usr/bin/prometheus"), f"--config.file={config}", "--enable-feature=exemplar-storage",
                 f"--storage.tsdb.path={directory}/tsdb", f"--web.listen-address=127.0.0.1:{self.port}"], stdout=log, stderr=log)

    def exemplars(self, query):
        asked = urllib.parse.urlencode({"query": query, "start": 0, "end": 4102444800})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query_exemplars?{asked}", timeout=5) as answer:
                return [e for series in json.load(answer)["data"] for e in series["exemplars"]]
        except OSError:
            return []

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def load(bed, *words):
    nodes = [w for n in bed.nodes for w in ("--target", n.target)]
    return subprocess.run([os.path.join(BUILD, "blixard-load"), *nodes, *words], capture_output=True, text=True, timeout=120)


def quiet(bed):
    """All that the nodes wrote was read and answered for, and nothing more comes."""
    def still():
        before = [n.metrics() for n in bed.nodes]
        return all(m.of('agent_ring_unacknowledged_items{kind="span"}') == 0 for m in before) and before
    return wait_for(still, 40)


def received(receiver, kind):
    return [line for line in receiver.lines(kind) if line["resource"].get("service.name") != "otel-client"]


def test_sdk(bed, receiver, otlp):
    try:
        modules = otlp.npm(*SDK)
    except Skip as why:
        check.skip("a client with OpenTelemetry's SDK", str(why))
        return
    follower = next(n for n in bed.nodes if n is not bed.leader())
    out = subprocess.run(["node", "test/verifiers/otel_client.js", follower.target, "proto/blixard_cluster.proto", receiver.url(), "CreateVm",
                          json.dumps({"name": "sdk-vm", "request": {"needs": {"vcpus": 1, "memory_bytes": 64 << 20, "disk_bytes": 64 << 20}}})],
                         env=dict(os.environ, NODE_PATH=modules), capture_output=True, text=True, timeout=60)
    if not check(out.returncode == 0, "a client with OpenTelemetry's SDK calls CreateVm", out.stderr):
        return
    said = json.loads(out.stdout)
    check(said["code"] == 0, "which succeeds", said)

    def whole():
        spans = [s for s in receiver.lines("span") if s["trace_id"] == said["traceId"]]
        ids = {s["span_id"] for s in spans}
        services = {s["resource"].get("service.instance.id") for s in spans}
        loose = [s["name"] for s in spans if s["parent_span_id"] not in ids and s["parent_span_id"] not in ("", NOBODY)]
        return len(services) == 4 and not loose and spans
    spans = wait_for(whole, 40)
    check(bool(spans), "its spans and those of three nodes are one connected trace",
          sorted({(s["resource"].get("service.instance.id"), s["name"]) for s in receiver.lines("span") if s["trace_id"] == said["traceId"]},
                 key=str))
    roots = [s for s in spans or [] if s["parent_span_id"] in ("", NOBODY)]
    check([s["span_id"] for s in roots] == [said["rootSpanId"]], "whose one root is the client's", roots)


def test_spans(bed, receiver, exact):
    spans = received(receiver, "span")
    ids = [s["span_id"] for s in spans]
    check(len(ids) == len(set(ids)), "no span arrived twice", len(ids) - len(set(ids)))
    for node, m in zip(bed.nodes, exact):
        name = f"default/{node.number}"
        mine = sum(s["resource"]["service.instance.id"].endswith(f"/{node.number}") for s in spans)
        check(mine == m.of('agent_ring_records_total{kind="span"}') and mine > 100, f"node {node.number}: as many spans as its agent took from the rings",
              (mine, m.of('agent_ring_records_total{kind="span"}'), name))
        check(m.total("agent_ring_dropped_total", kind="span") == 0, f"node {node.number}: dropped none", m)
    known = set(ids) | {s["span_id"] for s in receiver.lines("span")}
    # blixard-load sends a traceparent and no spans of its own: its traces have one unknown parent each.
    loose = {}
    for s in spans:
        if s["parent_span_id"] not in known and s["parent_span_id"] not in ("", NOBODY):
            loose.setdefault(s["trace_id"], set()).add(s["parent_span_id"])
    check(all(len(parents) == 1 for parents in loose.values()), "every parent is there, but for the load's own",
          [t for t, parents in loose.items() if len(parents) > 1][:3])
    failed = [s for s in spans if s["status"] == 2]
    check(all(s["attributes"].get("error.type") for s in failed), "a span that failed says of what kind the error was",
          [s["name"] for s in failed if not s["attributes"].get("error.type")][:5])


def test_logs(receiver):
    by_id = {s["span_id"]: s for s in receiver.lines("span")}
    logs = received(receiver, "log")
    traced = [line for line in logs if line["span_id"] not in ("", NOBODY)]
    check(bool(logs) and bool(traced), "logs arrived, some of them written inside of spans", (len(logs), len(traced)))
    wrong = [line for line in traced if by_id.get(line["span_id"], {}).get("trace_id") != line["trace_id"]]
    check(not wrong, "each names a span that arrived, and its trace", wrong[:2])


def test_histograms(bed, receiver):
    """The points of the newest request must count what /metrics counts: the cluster is quiet but for its heartbeats, so
    families that those move are left out."""
    family, name = "grpc_request_duration_seconds_count", "blixard.grpc_request_duration"

    def same():
        wrong = []
        for node in bed.nodes:
            m = node.metrics()
            lines = [line for line in received(receiver, "metric")
                     if line["name"] == name and line["resource"]["service.instance.id"].endswith(f"/{node.number}")]
            counts = {a["method"]: v for a, v in lines[-1]["values"]} if lines else {}
            for method in ("CreateVm", "ListVms", "HealthCheck", "GetVmStatus", "ProposeTask"):
                if counts.get(method) != m.of(f'{family}{{method="{method}"}}'):
                    wrong.append((node.number, method, counts.get(method), m.of(f'{family}{{method="{method}"}}')))
        return wrong
    result = [None]

    def right():
        result[0] = same()
        return not result[0]
    check(bool(wait_for(right, 20)), "histograms that arrived count what /metrics counts", result[0])


def test_exemplars(prometheus, receiver):
    def found():
        ids = {s["trace_id"] for s in receiver.lines("span")}
        got = prometheus.exemplars("blixard_grpc_request_duration_seconds_bucket")
        return [e for e in got if e["labels"].get("trace_id") in ids]
    got = wait_for(found, 30)
    check(bool(got), "Prometheus has exemplars whose traces the receiver holds",
          prometheus.exemplars("blixard_grpc_request_duration_seconds_bucket")[:3])


def main():
    with Bed() as otlp:
        try:
            receiver = otlp.grpc(protos=otlp.official())
        except Skip as why:
            check.skip("official messages", f"{why}; with our own then")
            receiver = otlp.grpc()
        os.environ.update({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url(), "OTEL_METRIC_EXPORT_INTERVAL": "2000",
                           "OTEL_BSP_SCHEDULE_DELAY": "300", "OTEL_BLRP_SCHEDULE_DELAY": "300"})
        bed = Testbed(BUILD, relay=False, agent_extra=("--no-bpf",))
        prometheus = Prometheus(otlp.dir, bed)
        try:
            if check(bool(wait_for(bed.settled, 60)), "three nodes form a cluster"):
                out = load(bed, "--rate", "60", "--seconds", "8", "--seed", "7", "--traces", "100")
                check(out.returncode == 0, "a seeded load with a trace a request", out.stdout + out.stderr)
                test_exemplars(prometheus, receiver)
                test_sdk(bed, receiver, otlp)
                # Raft's own spans go on for ever: end the nodes, so that the numbers stand still.
                test_histograms(bed, receiver)
                for node in bed.nodes:
                    os.kill(node.entry()["pid"], 15)
                wait_for(lambda: all(n.of("node_up") == 0 for n in bed.nodes), 30)
                exact = quiet(bed)
                check(bool(exact), "everything was answered for")
                wait_for(lambda: len(received(receiver, "span")) >= sum(m.of('agent_ring_records_total{kind="span"}') for m in exact), 20)
                test_spans(bed, receiver, [n.metrics() for n in bed.nodes])
                test_logs(receiver)
        finally:
            prometheus.stop()
            bed.close()
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
