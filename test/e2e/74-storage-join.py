#!/usr/bin/env python3
# timeout: 240 s
"""From a slow disk to the trace that waited for it.

Goal: the disk of one node of a cluster stalls; its fsync histogram shows it with an exemplar; Prometheus
gives that exemplar's trace id to who asks; the OTLP receiver holds that trace, and in it a span
storage.fsync, as long as the exemplar says, below the storage.append that waited, with the disk's name.
Every stamped slow wait is such a span, each below a span of the same trace; log records are rare.
Method: three nodes with agents; the data of the first is on ext4 on a disk that nbdkit's pause filter
stops for a while, again and again, under a load that traces each call. Judges: Prometheus, and a receiver
on Debian's grpcio and protobuf. The node's own measure of the sync (storage.fsync_ns) is the second opinion.
"""
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../support"), os.path.join(HERE, "../cluster")]
import otlp_testbed  # noqa: E402
from storage_rig import BUILD, Disk, mount_tracefs, need, own_mounts, run, skip  # noqa: E402
from testbed import Checks, Testbed, free_ports, wait_for  # noqa: E402

need("nbdkit", "nbdfuse", "fusermount3", "losetup", "mkfs.ext4", "unshare")
if not os.path.exists("/dev/fuse"):
    skip("there is no /dev/fuse")
if not os.path.exists(f"{BUILD}/tools/usr/bin/prometheus"):
    skip(f"there is no Prometheus in {BUILD}/tools: run 'make deps'")
own_mounts()
mount_tracefs()
os.environ["PATH"] += ":/usr/sbin:/sbin"
check = Checks()
STALL_S, STALLS, LOAD_S, EDGE_S = 0.4, 6, 12, 0.25
FSYNC = "storage_fsync_duration_seconds"
MS = 1_000_000


class SlowBed(Testbed):
    """The first node's data directory is `disk`, mounted."""

    def __init__(self, disk, **more):
        self.disk, self.mounted = disk, None
        super().__init__(BUILD, relay=False, **more)

    def describe(self, number, *more):
        entry = super().describe(number, *more)
        if number == 1:
            os.mkdir(entry["data"])
            run("mount", self.disk.loop, entry["data"])
            self.mounted = entry["data"]
        return entry

    def stop(self):
        """Before the disk goes. Agents first and gently, so that they hand over what they have."""
        for node in self.nodes:
            if node.agent and node.agent.poll() is None:
                node.agent.terminate()
        for node in self.nodes:
            if node.agent:
                node.agent.wait(20)

    def close(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        if self.mounted:
            wait_for(lambda: subprocess.run(["umount", self.mounted], capture_output=True).returncode == 0, 20)
        super().close()


class Pause:
    """nbdkit's pause filter: `p` stops the disk, `r` lets it go on."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)

    def order(self, order, answer):
        self.socket.sendall(order)
        if self.socket.recv(1) != answer:
            raise RuntimeError("the pause filter does not obey")

    def stall(self, seconds):
        self.order(b"p", b"P")
        try:
            time.sleep(seconds)
        finally:
            self.order(b"r", b"R")


class Prometheus:
    def __init__(self, bed):
        port, = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        config = os.path.join(bed.dir, "prometheus.yml")
        targets = json.dumps([f"127.0.0.1:{n.entry()['agent_port']}" for n in bed.nodes])
        with open(config, "w") as f:
            f.write("global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: blixard\n"
                    f"    static_configs:\n      - targets: {targets}\n")
        self.process = subprocess.Popen(["bash", os.path.join(HERE, "../support/prometheus.sh"), f"{BUILD}/tools", f"--config.file={config}",
                                         f"--storage.tsdb.path={bed.dir}/prometheus", "--enable-feature=exemplar-storage",
                                         f"--web.listen-address=127.0.0.1:{port}"], stderr=open(f"{bed.dir}/prometheus.log", "wb"))
        bed.children.append(self.process)

    def ask(self, path, **query):
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as r:
                return json.load(r)["data"]
        except OSError:
            return None

    def scrapes(self):
        found = self.ask("query", query='sum(up{job="blixard"})')
        return found and found["result"] and float(found["result"][0]["value"][1]) == 3

    def exemplars(self, instance, since):
        """(seconds, trace id, span id) of all of that target's fsyncs."""
        found = self.ask("query_exemplars", query=f'blixard_{FSYNC}_bucket{{instance="{instance}"}}', start=since, end=time.time() + 5) or []
        return [(float(e["value"]), e["labels"]["trace_id"], e["labels"]["span_id"]) for series in found for e in series["exemplars"]]


def beyond(metrics, seconds):
    """fsyncs that took longer."""
    below = [v for k, v in metrics.items() for le in re.findall(FSYNC + r'_bucket\{call="\w+",le="([^"+]+)"\}', k) if float(le) == seconds]
    return metrics.total(FSYNC + "_count") - sum(below) if below else 0


def spans_of(receiver, name=None):
    return [s for s in receiver.lines("span") if name in (None, s["name"])]


def is_of(node, item):
    return item["resource"]["service.instance.id"].endswith(f"/{node.number}")


def ms(span):
    return (span["end"] - span["start"]) / MS


def check_trace(bed, receiver, prometheus, loop, began):
    node = bed.nodes[0]
    instance = f"127.0.0.1:{node.entry()['agent_port']}"
    slow = wait_for(lambda: [e for e in prometheus.exemplars(instance, began) if e[0] > EDGE_S], 20)
    if not check(slow, "query_exemplars of Prometheus names traces that waited", prometheus.exemplars(instance, began)):
        return
    seconds, trace_id, span_id = max(slow)

    def found():
        trace = [s for s in spans_of(receiver) if s["trace_id"] == trace_id]
        children = [s for s in trace if s["name"] == "storage.fsync" and s["parent_span_id"] == span_id]
        parents = [s for s in trace if s["span_id"] == span_id]
        return (children, parents) if children and parents else None
    children, parents = wait_for(found, 30) or ([], [])
    held = sorted({s["name"] for s in spans_of(receiver) if s["trace_id"] == trace_id})
    if not check(children, f"the receiver holds that trace with a storage.fsync below the span that waited: {held}", (trace_id, span_id)):
        return
    child = min(children, key=lambda s: abs(ms(s) - seconds * 1000))
    parent = parents[0]
    check(abs(ms(child) - seconds * 1000) < 0.001, f"which is as long as the exemplar says: {ms(child):.3f} ms, {seconds * 1000:.3f} ms", child)
    check(parent["name"] == "storage.append", f"its parent is {parent['name']}", parent)
    own = parent["attributes"].get("storage.fsync_ns", 0) / MS
    check(0 <= own - ms(child) < max(20, own * 0.1), f"the node itself has measured {own:.1f} ms", parent)
    check(parent["start"] - 5 * MS <= child["start"] and child["end"] <= parent["end"] + 5 * MS, "it lies within its parent", (child, parent))
    attributes = child["attributes"]
    check(attributes.get("blixard.storage.device") == loop, f"it names the disk: {loop}", attributes)
    io = max(attributes.get("blixard.storage.overlapping_io_ms", 0), attributes.get("blixard.storage.overlapping_flush_ms", 0))
    check(io > ms(child) / 2, f"and {io:.1f} ms of I/O on it that overlap", attributes)
    check(child["resource"] == parent["resource"] and child["scope"] == parent["scope"], "it is of the same node life", (child, parent))


def check_all(bed, receiver):
    """Each stamped wait is one span; each has its parent, in its trace."""
    node = bed.nodes[0]

    def counts():
        m = node.metrics()
        return int(m.total("storage_slow_io_stamped_total", result="stamped")), len([s for s in spans_of(receiver, "storage.fsync") if is_of(node, s)])
    wait_for(lambda: counts()[0] == counts()[1], 20)
    stamped, spans = counts()
    check(stamped == spans and stamped >= STALLS / 2, f"{stamped} slow waits were stamped, {spans} spans came")
    check(node.metrics().total("storage_slow_io_dropped_total") == 0, "none was dropped")

    def lost():
        ids = {(s["trace_id"], s["span_id"]) for s in spans_of(receiver)}
        return [s for s in spans_of(receiver, "storage.fsync") if (s["trace_id"], s["parent_span_id"]) not in ids]
    check(wait_for(lambda: not lost(), 20), "each is below a span that is there", lost()[:2])
    ids = [s["span_id"] for s in spans_of(receiver)]
    check(len(ids) == len(set(ids)), "no span id comes twice")
    logs = [l for l in receiver.lines("log") if "blixard.storage.hook" in l["attributes"] and is_of(node, l)]
    check(logs and len(logs) <= 1 + (LOAD_S + 60) / 10, f"{len(logs)} log records of this node's {stamped} waits: {logs[0]['body'] if logs else ''}")
    traces = {s["trace_id"] for s in spans_of(receiver)}
    check(any(l["trace_id"] in traces for l in logs), "with the ids of a trace that is there", logs[:2])


def work(disk, pause, otlp):
    receiver = otlp.grpc()
    os.environ.update({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url(), "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                       "OTEL_METRICS_EXPORTER": "none", "OTEL_BSP_SCHEDULE_DELAY": "500", "OTEL_BLRP_SCHEDULE_DELAY": "500"})
    loop = os.path.basename(disk.loop)
    bed = SlowBed(disk)
    try:
        if not wait_for(bed.settled, 60):
            raise RuntimeError(bed.nodes[0].words())
        node = bed.nodes[0]
        if not node.metrics().total("agent_bpf_probe_up", probe="sync"):
            skip("the sync probe does not load here: " + node.get("/health")[1][:300])
        prometheus = Prometheus(bed)
        check(wait_for(prometheus.scrapes, 60), "Prometheus scrapes three agents")
        before, began = beyond(node.metrics(), EDGE_S), time.time()
        load = subprocess.Popen([f"{BUILD}/blixard-load", "--json", *(w for n in bed.nodes for w in ("--target", n.target)),
                                 "--rate", "30", "--seconds", str(LOAD_S), "--vms", "0", "--traces", "100"], stdout=subprocess.DEVNULL)
        bed.children.append(load)
        time.sleep(1)
        for _ in range(STALLS):
            pause.stall(STALL_S)
            time.sleep(1)
        load.wait(60)
        after = wait_for(lambda: max(0, beyond(node.metrics(), EDGE_S) - before), 20)
        check(1 <= after <= 3 * STALLS, f"{STALLS} stalls of {STALL_S * 1000:.0f} ms: {after:.0f} fsyncs longer than {EDGE_S * 1000:.0f} ms in the histogram")
        check_trace(bed, receiver, prometheus, loop, began)
        check_all(bed, receiver)
        bed.stop()
    finally:
        bed.close()


with otlp_testbed.Bed() as otlp:
    control = os.path.join(otlp.dir, "pause")
    with Disk(["--filter=pause", "memory", "256M", f"pause-control={control}"]) as disk:
        run("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=1", disk.loop)
        work(disk, Pause(control), otlp)
sys.exit(check.end())
