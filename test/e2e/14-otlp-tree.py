#!/usr/bin/python3
# timeout: 120 s
"""Goal: the receiver of the demo stands on Debian's packages alone, is there at once, and shows of all
it got the trace that touched most nodes, as a tree whose lines a person can trust.

Method: the receiver as `make demo` starts it; traces made by hand are sent with grpcio's own client;
the tree it prints at SIGTERM is compared line by line, name, node, offset and duration.
"""

import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
VERIFIERS = os.path.join(HERE, "../verifiers")
sys.path[:0] = [os.path.join(HERE, "../support"), VERIFIERS]
from otlp_testbed import main, wait_for  # noqa: E402

try:
    import grpc
    from otlp_protos import Protos
except ImportError as missing:
    print(f"{missing.name} is not installed")
    sys.exit(77)

MS = 1_000_000
LINE = re.compile(r"^( *)(\S.*?\S) +(blixard \S+|\?) +\+ *([\d.]+) ms +([\d.]+) ms( +ERROR)?$")


class Tree:
    """The receiver, what it is sent, and what it prints at its end."""

    def __init__(self, bed):
        self.protos, self.batch = Protos("ours"), {}
        self.log = os.path.join(bed.dir, "tree.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["/usr/bin/python3", os.path.join(VERIFIERS, "otlp_grpc.py"), "--protos", "ours", "--tree"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd="/", env={"PATH": "/usr/bin:/bin"})
        bed.receivers.append(self)  # ends with the bed, whatever happens
        self.port = wait_for("the receiver listens", lambda: re.search(r"^listening (\d+)$", self.text(), re.M))[1]

    def text(self):
        with open(self.log, encoding="utf-8") as f:
            return f.read()

    def span(self, node, trace, name, span_id, parent=0, start_ms=0.0, took_ms=1.0, error=False):
        self.batch.setdefault(node, []).append(dict(
            trace_id=trace.to_bytes(16, "big"), span_id=span_id.to_bytes(8, "big"), parent_span_id=parent.to_bytes(8, "big") if parent else b"",
            name=name, start_time_unix_nano=10**18 + int(start_ms * MS), end_time_unix_nano=10**18 + int((start_ms + took_ms) * MS),
            status={"code": 2 if error else 0}))

    def send(self):
        """One request a node, as agents do; children may arrive before their parents."""
        channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                                     request_serializer=lambda m: m.SerializeToString(), response_deserializer=self.protos.response("trace").FromString)
        for node in sorted(self.batch, reverse=True):
            request = self.protos.request("trace")()
            group = request.resource_spans.add()
            for key, value in (("service.name", "blixard"), ("service.instance.id", node)):
                group.resource.attributes.add(key=key).value.string_value = value
            spans = group.scope_spans.add().spans
            for fields in self.batch[node]:
                spans.add(**fields)
            export(request, timeout=20)
        self.batch = {}
        channel.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        return self.process.returncode

    def lines(self):
        assert self.stop() == 0, (self.process.returncode, self.text())
        return [line for line in self.text().splitlines() if not line.startswith("listening ")]


def parse(line):
    found = LINE.match(line)
    assert found, line
    return len(found[1]) // 2, found[2], found[3], float(found[4]), float(found[5]), bool(found[6])


def three_nodes(bed):
    """a trace through three nodes is shown whole, before a longer one on one node and one on two"""
    t = Tree(bed)
    for i in range(9):  # deep, but on one node
        t.span("1", 1, f"loop {i}", 100 + i, 99 + i if i else 0)
    t.span("1", 2, "Get", 200)
    t.span("2", 2, "Read", 201, 200)
    t.span("1", 3, "CreateVm", 301, 0, 0, 40)
    t.span("2", 3, "raft.append", 303, 302, 12.25, 6.5, error=True)
    t.span("3", 3, "raft.append", 304, 302, 11, 7)
    t.span("1", 3, "raft.propose", 302, 301, 5, 20)
    t.span("3", 3, "storage.write", 305, 304, 12, 1.125)
    t.send()
    lines = t.lines()
    assert lines[0] == f"trace {3:032x}: 5 spans on 3 nodes", lines
    assert [parse(line) for line in lines[1:]] == [
        (0, "CreateVm", "blixard 1", 0, 40, False), (1, "raft.propose", "blixard 1", 5, 20, False), (2, "raft.append", "blixard 3", 11, 7, False),
        (3, "storage.write", "blixard 3", 12, 1.125, False), (2, "raft.append", "blixard 2", 12.25, 6.5, True)], lines


def deepest_of_equals(bed):
    """among traces on as many nodes: whole before torn, then the deepest"""
    t = Tree(bed)
    t.span("1", 1, "flat", 10)
    t.span("2", 1, "flat child", 11, 10)
    t.span("1", 2, "deep", 20)
    t.span("2", 2, "deep child", 21, 20)
    t.span("2", 2, "deep grandchild", 22, 21)
    for i in range(5):  # deeper still, but its beginning is missing
        t.span(str(1 + i % 2), 3, f"torn {i}", 31 + i, 30 + i)
    t.span("1", 4, "late and flat", 40)
    t.span("2", 4, "late child", 41, 40)
    t.send()
    assert [parse(line)[:2] for line in t.lines()[1:]] == [(0, "deep"), (1, "deep child"), (2, "deep grandchild")], t.text()


def bounded(bed):
    """spans that are their own parents, and traces without end, cost nobody the tree"""
    t = Tree(bed)
    t.span("1", 1, "ring a", 11, 12)
    t.span("2", 1, "ring b", 12, 11)
    t.send()
    t.span("1", 2, "wide", 20)
    t.span("2", 2, "self", 21, 21)
    for i in range(3000):
        t.span(str(i % 3), 2, f"leaf {i}", 1000 + i, 20, i)
    t.send()
    lines = t.lines()
    assert len(lines) == 62 and re.fullmatch(r"\.\.\. and \d+ spans more", lines[-1]), lines[-3:]


def nothing(bed):
    """without a trace it says so"""
    assert Tree(bed).lines() == ["no trace was received"]


if __name__ == "__main__":
    sys.exit(main([three_nodes, deepest_of_equals, bounded, nothing]))
