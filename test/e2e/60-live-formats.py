#!/usr/bin/env python3
# timeout: 90 s
"""Goal: what the agent serves of a real file is what the node wrote, in every format, by other people's
decoders. Method: a node sets every series to a value of its own and prints them; the agent's text,
OpenMetrics and protobuf bodies are read with the strict parsers of python3-prometheus-client and with
google.protobuf over a descriptor made here from the published field numbers."""

import gzip
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import decoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

BUILD = os.environ.get("B", "build")
PROTOBUF = ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
# Figures of the host and of the agent move between two requests; the node of this test stands still.
MOVES = re.compile(r"blixard_(host|agent|node_(heartbeat|cpu_wait))|process_")
ALIAS_FINDINGS = 5  # four counters without _total, and vm_total, which is no counter

cases = 0


def check(good, name, detail=""):
    global cases
    cases += 1
    print(f"{'ok' if good else 'not ok'} {cases} - {name}{'' if good else ': ' + str(detail)[:400]}", flush=True)
    return good


def fetch(url, accept=None, encoding=None):
    headers = {k: v for k, v in (("Accept", accept), ("Accept-Encoding", encoding)) if v}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
        body = answer.read()
        if answer.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        return body, answer.headers["Content-Type"]


def key(name, labels):
    fixed = {k: (repr(float(v)) if k == "le" and v != "+Inf" else v) for k, v in labels.items()}
    return name, tuple(sorted(fixed.items()))


def text_samples(body):
    """Sample names as they stand: the library's parser appends _total to counters that lack it."""
    list(text_families(body))  # but it has to accept the body
    found = {}
    for line in body.splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = re.fullmatch(r"([A-Za-z0-9_:]+)(?:\{(.*)\})? (\S+)", line).groups()
        k = key(name, dict(re.findall(r'(\w+)="((?:[^"\\\\]|\\\\.)*)"', labels or "")))
        if k in found:
            raise ValueError(f"series twice: {k}")
        found[k] = float(value)
    return found


def samples(families):
    """{(name, labels): value}; a series that appears twice is an error of ours."""
    found = {}
    for family in families:
        for s in family.samples:
            k = key(s.name, s.labels)
            if k in found:
                raise ValueError(f"series twice: {k}")
            found[k] = s.value
    return found


# ---- protobuf, from the published field numbers ---------------------------------------------------
def metric_family_class():
    F = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="client.proto", package="io.prometheus.client", syntax="proto2")

    def message(name, *fields):
        m = file.message_type.add(name=name)
        for field_name, number, kind, *more in fields:
            field = m.field.add(name=field_name, number=number, type=F.TYPE_MESSAGE if isinstance(kind, str) else kind,
                                label=F.LABEL_REPEATED if "repeated" in more else F.LABEL_OPTIONAL)
            if isinstance(kind, str):
                field.type_name = f".io.prometheus.client.{kind}"

    message("Timestamp", ("seconds", 1, F.TYPE_INT64), ("nanos", 2, F.TYPE_INT32))
    message("LabelPair", ("name", 1, F.TYPE_STRING), ("value", 2, F.TYPE_STRING))
    message("Gauge", ("value", 1, F.TYPE_DOUBLE))
    message("Exemplar", ("label", 1, "LabelPair", "repeated"), ("value", 2, F.TYPE_DOUBLE), ("timestamp", 3, "Timestamp"))
    message("Counter", ("value", 1, F.TYPE_DOUBLE), ("exemplar", 2, "Exemplar"), ("created_timestamp", 3, "Timestamp"))
    message("Untyped", ("value", 1, F.TYPE_DOUBLE))
    message("Bucket", ("cumulative_count", 1, F.TYPE_UINT64), ("upper_bound", 2, F.TYPE_DOUBLE),
            ("exemplar", 3, "Exemplar"))
    message("Histogram", ("sample_count", 1, F.TYPE_UINT64), ("sample_sum", 2, F.TYPE_DOUBLE),
            ("bucket", 3, "Bucket", "repeated"), ("schema", 5, F.TYPE_SINT32))
    message("Metric", ("label", 1, "LabelPair", "repeated"), ("gauge", 2, "Gauge"), ("counter", 3, "Counter"),
            ("untyped", 5, "Untyped"), ("histogram", 7, "Histogram"))
    message("MetricFamily", ("name", 1, F.TYPE_STRING), ("help", 2, F.TYPE_STRING), ("type", 3, F.TYPE_INT32),
            ("metric", 4, "Metric", "repeated"), ("unit", 5, F.TYPE_STRING))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("io.prometheus.client.MetricFamily")
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def protobuf_samples(body):
    family_class, at, found = metric_family_class(), 0, {}

    def put(name, labels, value):
        k = key(name, labels)
        if k in found:
            raise ValueError(f"series twice: {k}")
        found[k] = value

    while at < len(body):
        size, at = decoder._DecodeVarint32(body, at)
        family = family_class()
        if family.ParseFromString(body[at:at + size]) != size:
            raise ValueError("a family is shorter than its length says")
        at += size
        for m in family.metric:
            labels = {l.name: l.value for l in m.label}
            if family.type == 4:
                for b in m.histogram.bucket:
                    le = "+Inf" if math.isinf(b.upper_bound) else repr(b.upper_bound)
                    put(family.name + "_bucket", dict(labels, le=le), float(b.cumulative_count))
                put(family.name + "_count", labels, float(m.histogram.sample_count))
                put(family.name + "_sum", labels, m.histogram.sample_sum)
                if not any(math.isinf(b.upper_bound) for b in m.histogram.bucket):
                    put(family.name + "_bucket", dict(labels, le="+Inf"), float(m.histogram.sample_count))
            else:
                part = {0: m.counter, 1: m.gauge, 3: m.untyped}[family.type]
                put(family.name, labels, part.value)
    return found


# ---- the cases ----------------------------------------------------------------------------------------
def still(values):
    return {k: v for k, v in values.items() if not MOVES.match(k[0])}


def differences(a, b):
    return [f"{k}: {a.get(k)} != {b.get(k)}" for k in sorted(set(a) | set(b), key=str)
            if a.get(k) is None or b.get(k) is None or not math.isclose(a[k], b[k], rel_tol=1e-15)][:5]


def compare_formats(url, truth):
    text = text_samples(fetch(url)[0].decode())
    strict = samples(openmetrics_families(fetch(url, OPENMETRICS)[0].decode()))
    proto = protobuf_samples(fetch(url, PROTOBUF)[0])
    check(True, f"the strict OpenMetrics parser accepts the body: {len(strict)} samples")
    missing = [k for k in truth if k not in text]
    check(not missing, f"all {len(truth)} series the node wrote are served", missing[:5])
    wrong = differences({k: text.get(k) for k in truth if k in text}, truth)
    check(not wrong, "each with the value the node wrote", wrong)
    check({k[0] for k in text} == {k[0] for k in strict}, "text and OpenMetrics have the same sample names",
          sorted({k[0] for k in text} ^ {k[0] for k in strict})[:8])
    check({k[0] for k in text} == {k[0] for k in proto}, "text and protobuf have the same sample names",
          sorted({k[0] for k in text} ^ {k[0] for k in proto})[:8])
    check(not differences(still(text), still(strict)), "OpenMetrics has the same values", differences(still(text), still(strict)))
    check(not differences(still(text), still(proto)), "protobuf has the same values", differences(still(text), still(proto)))


def compare_aliases(url, catalogue):
    both = text_samples(fetch(url)[0].decode())
    canonical = text_samples(fetch(url + "?names=canonical")[0].decode())
    seed = text_samples(fetch(url + "?names=seed")[0].decode())
    twins = [(m["name"], m["seed_name"]) for m in catalogue if m["seed_name"]]
    check(len(twins) == 22, "the catalogue has 22 seed names", len(twins))
    unequal = []
    for name, alias in twins:
        for suffix in ("", "_bucket", "_count", "_sum"):
            ours = {k[1]: v for k, v in both.items() if k[0] == name + suffix}
            theirs = {k[1]: v for k, v in both.items() if k[0] == alias + suffix}
            if ours != theirs:
                unequal.append(name + suffix)
    check(not unequal, "each alias equals its canonical twin", unequal)
    names = {k[0] for k in canonical}
    check(not [n for n in names if not re.match("blixard_|process_", n)], "names=canonical has no alias")
    check(not [k for k in still(both) if k[0] not in names and k not in seed], "names=both is the union of the two")


def promtool(url):
    tool = f"{BUILD}/tools/usr/bin/promtool"
    tool = tool if os.path.exists(tool) else shutil.which("promtool")
    if not tool:
        global cases
        cases += 1
        print(f"ok {cases} - promtool check metrics # SKIP promtool is missing: make deps")
        return
    def findings(query):
        done = subprocess.run([tool, "check", "metrics"], input=fetch(url + query)[0], capture_output=True, timeout=30,
                              check=False)
        return done.returncode, [l for l in (done.stdout + done.stderr).decode().splitlines() if l.strip()]
    code, lines = findings("?names=canonical")
    check(code == 0 and not lines, "promtool check metrics is silent on names=canonical", lines)
    code, lines = findings("")
    check(len(lines) == ALIAS_FINDINGS and not any("blixard_" in l for l in lines),
          "promtool finds exactly the aliases' names on names=both", lines)


def catalogue():
    import json
    done = subprocess.run([f"{BUILD}/blixard-agent", "--dump-metrics=json"], capture_output=True, timeout=10, check=True)
    return json.loads(done.stdout)


def read_truth(node):
    lines = []
    for line in node.stdout:
        if line.strip() == "ready":
            break
        lines.append(line)
    found = {}
    for line in lines:
        name, labels, value = re.fullmatch(r"([a-z0-9_A-Z]+)(?:\{(.*)\})? (\S+)\n", line).groups()
        found[key(name, dict(re.findall(r'(\w+)="([^"]*)"', labels or "")))] = float(value)
    return found


def wait_for(url, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if b"\nblixard_node_up 1\n" in fetch(url)[0]:
                return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


def main():
    for program in ("blixard-agent", "test/support/bin/still_node"):
        if not os.path.exists(f"{BUILD}/{program}"):
            print(f"{BUILD}/{program} is missing")
            return 1
    shm = tempfile.mktemp(prefix="blix-e2e-still-", dir="/dev/shm")
    state = tempfile.mkdtemp(prefix="blixard-e2e-")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    node = subprocess.Popen([f"{BUILD}/test/support/bin/still_node", shm], stdout=subprocess.PIPE, text=True)
    agent = None
    try:
        truth = read_truth(node)
        agent = subprocess.Popen([f"{BUILD}/blixard-agent", "--shm", shm, "--listen", f"127.0.0.1:{port}"],
                                 stderr=subprocess.DEVNULL, env=dict(os.environ, STATE_DIRECTORY=state))
        url = f"http://127.0.0.1:{port}/metrics"
        if not check(wait_for(url, 20), "the agent serves the node"):
            return 1
        types = {fetch(url)[1]: "text/plain; version=0.0.4; charset=utf-8",
                 fetch(url, OPENMETRICS)[1]: "application/openmetrics-text; version=1.0.0; charset=utf-8"}
        check(all(k == v for k, v in types.items()), "the content types are exact", types)
        check(fetch(url, None, "gzip")[0][:6] == b"# HELP", "a gzip body unpacks to the text body")
        compare_formats(url, truth)
        compare_aliases(url, catalogue())
        promtool(url)
    finally:
        for process in (agent, node):
            if process:
                process.terminate()
                process.wait(10)
        if os.path.exists(shm):
            os.unlink(shm)
        shutil.rmtree(state, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
