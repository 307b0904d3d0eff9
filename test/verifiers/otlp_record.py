"""What both receivers share: how they are told to behave, and what they write down.

Control (a JSON file, read again for each request; a missing file means accept):
  {"mode": "accept" | "partial" | "status" | "delay" | "freeze", "times": N, ...}
  times N      the mode holds for N requests, then accept; without it, until the file changes
  partial      rejected (3), message
  status       code (gRPC or HTTP), message, retry_delay_s (RetryInfo), retry_after (HTTP header), body
  delay        delay_s before accepting;  freeze  never answers
  gzip         true: answers are compressed;  bomb  bytes of zeros in the answer's message field

Records (JSON lines, flushed one request at a time): every span, log record and metric with its
resource and the time it came (at), and one {"kind": "request"} line. Only what was accepted is recorded as items.
"""

import collections
import json
import os
import threading
import time

from otlp_protos import attributes, plain

SUMMARY_TRACES_MAX = 2000
TRACE_SPANS_MAX = 2000
SEEN_MAX = 1 << 20  # span ids known at least, so that a receiver may run for days
TREE_LINES_MAX = 60
TREE_DEPTH_MAX = 64


class Control:
    def __init__(self, path):
        self.path, self.lock, self.text, self.left = path, threading.Lock(), None, None

    def next(self):
        with self.lock:
            try:
                with open(self.path or "", encoding="utf-8") as f:
                    text = f.read()
                wanted = json.loads(text)
            except (OSError, ValueError):
                return {"mode": "accept"}
            if text != self.text:
                self.text, self.left = text, wanted.get("times")
            if self.left is not None:
                if self.left == 0:
                    return {"mode": "accept", "gzip": wanted.get("gzip", False)}
                self.left -= 1
            return wanted


def items(service, request):
    for group in getattr(request, {"trace": "resource_spans", "metrics": "resource_metrics", "logs": "resource_logs"}[service]):
        resource = attributes(group.resource.attributes)
        for scope in getattr(group, {"trace": "scope_spans", "metrics": "scope_metrics", "logs": "scope_logs"}[service]):
            entries = {"trace": "spans", "metrics": "metrics", "logs": "log_records"}[service]
            for item in getattr(scope, entries):
                yield resource, scope.scope.name, item


def value_of(point):
    """A number, or the count of a histogram; whichever .proto the message is of."""
    if hasattr(point, "count"):
        return point.count
    return next((getattr(point, f.name) for f, _ in point.ListFields() if f.name in ("as_int", "as_double")), 0)


def describe(service, resource, scope, item):
    line = {"kind": {"trace": "span", "metrics": "metric", "logs": "log"}[service], "resource": resource, "scope": scope}
    if service == "metrics":
        data = next((f.name for f, _ in item.ListFields() if f.name in
                     ("gauge", "sum", "histogram", "exponential_histogram", "summary")), None)
        points = getattr(item, data).data_points if data else []
        return line | {"name": item.name, "unit": item.unit, "data": data, "points": len(points),
                       "values": [[attributes(getattr(p, "attributes", ())), value_of(p)] for p in points]}
    line |= {"trace_id": item.trace_id.hex(), "span_id": item.span_id.hex(), "attributes": attributes(item.attributes)}
    if service == "logs":
        return line | {"time": item.time_unix_nano, "severity": item.severity_number, "body": plain(item.body)}
    return line | {"parent_span_id": item.parent_span_id.hex(), "name": item.name, "span_kind": item.kind,
                   "start": item.start_time_unix_nano, "end": item.end_time_unix_nano,
                   "status": item.status.code, "status_message": item.status.message,
                   "events": [e.name for e in item.events], "links": len(item.links)}


class Recorder:
    def __init__(self, path=None, keep_traces=False):
        self.file = open(path, "a", encoding="utf-8") if path else None
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.seen, self.seen_before = set(), set()
        self.distinct = self.duplicates = 0
        self.traces = collections.OrderedDict() if keep_traces else None

    def write(self, lines):
        if self.file:
            self.file.write("".join(json.dumps(line) + "\n" for line in lines))
            self.file.flush()

    def note(self, **what):
        with self.lock:
            self.counts["request"] += 1
            self.write([{"kind": "request", "at": time.time()} | what])

    def take(self, service, request):
        with self.lock:
            at = time.time()
            lines = [describe(service, *entry) | {"at": at} for entry in items(service, request)]
            for line in lines:
                self.counts[line["kind"]] += 1
                if line["kind"] == "span":
                    self.take_span(line)
            self.write(lines)
            return len(lines)

    def take_span(self, line):
        if line["span_id"] in self.seen or line["span_id"] in self.seen_before:
            self.duplicates += 1
            return
        self.seen.add(line["span_id"])
        self.distinct += 1
        if len(self.seen) >= SEEN_MAX:
            self.seen, self.seen_before = set(), self.seen
        if self.traces is None:
            return
        spans = self.traces.setdefault(line["trace_id"], [])
        self.traces.move_to_end(line["trace_id"])
        if len(spans) < TRACE_SPANS_MAX:
            spans.append(line)
        while len(self.traces) > SUMMARY_TRACES_MAX:
            self.traces.popitem(last=False)

    def summary(self):
        with self.lock:
            return dict(self.counts) | {"distinct_spans": self.distinct, "duplicate_spans": self.duplicates}

    def save_summary(self, path):
        if path:
            with open(path + ".new", "w", encoding="utf-8") as f:
                json.dump(self.summary(), f)
            os.rename(path + ".new", path)

    def tree(self):
        """The recent trace that touched most nodes, then went deepest, as indented lines."""
        with self.lock:
            return "\n".join(tree_of(self.traces or {}))


def node_of(span):
    """Who recorded it: the service, and which of its instances."""
    parts = [str(span["resource"][key]) for key in ("service.name", "service.instance.id") if span["resource"].get(key)]
    return " ".join(parts) or "?"


def depth_of(span, children, level=1):
    below = children.get(span["span_id"], ()) if level < TREE_DEPTH_MAX else ()
    return max([level] + [depth_of(child, children, level + 1) for child in below])


def arrange(spans):
    """(roots, children by parent's id), each in order of time; a span whose parent is missing is a root."""
    ids = {s["span_id"] for s in spans}
    children, roots = collections.defaultdict(list), []
    for s in sorted(spans, key=lambda s: s["start"]):
        (children[s["parent_span_id"]] if s["parent_span_id"] in ids else roots).append(s)
    return roots, children


def rank_of(spans):
    roots, children = arrange(spans)
    whole = len(roots) == 1 and not roots[0]["parent_span_id"]
    return len({node_of(s) for s in spans}), whole, max((depth_of(r, children) for r in roots), default=0)


def tree_of(traces):
    """Of several that rank the same the latest."""
    spans = max(reversed(list(traces.values())), key=rank_of, default=None)
    if not spans:
        return ["no trace was received"]
    roots, children = arrange(spans)
    began = min(s["start"] for s in spans)
    lines = []

    def show(span, level):
        took_ms, at_ms = (span["end"] - span["start"]) / 1e6, (span["start"] - began) / 1e6
        mark = "  ERROR" if span["status"] == 2 else ""
        lines.append(f"{'  ' * level}{span['name']:<{max(1, 44 - 2 * level)}} {node_of(span):<24} +{at_ms:9.3f} ms {took_ms:9.3f} ms{mark}")
        for child in children.get(span["span_id"], ()) if level < TREE_DEPTH_MAX else ():
            show(child, level + 1)
    for root in roots:
        show(root, 0)
    left_out = [f"... and {len(lines) - TREE_LINES_MAX} spans more"] if len(lines) > TREE_LINES_MAX else []
    head = f"trace {spans[0]['trace_id']}: {len(spans)} spans on {len({node_of(s) for s in spans})} nodes"
    return [head] + lines[:TREE_LINES_MAX] + left_out
