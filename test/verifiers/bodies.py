"""Read the three bodies of /metrics with other people's parsers, into one shape.

A body becomes {(sample name, ((label, value), ...)): number}; families are given beside it. Only
the standard library, prometheus_client and google.protobuf.
"""
import math
import os
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from prometheus_client import openmetrics
from prometheus_client import parser as text_parser
import prometheus_client.openmetrics.parser  # noqa: F401  (makes openmetrics.parser reachable)
from prometheus_client.utils import floatToGoString

HERE = os.path.dirname(os.path.abspath(__file__))
PROTO = os.path.join(HERE, "..", "..", "proto", "prometheus_client.proto")

# Message, field, number, type: facts of the protocol, written down apart from our .proto file.
FIELDS = """
MetricFamily name 1 string
MetricFamily help 2 string
MetricFamily type 3 enum
MetricFamily metric 4 repeated
MetricFamily unit 5 string
Metric label 1 repeated
Metric gauge 2 message
Metric counter 3 message
Metric timestamp_ms 6 int64
Metric histogram 7 message
LabelPair name 1 string
LabelPair value 2 string
Gauge value 1 double
Counter value 1 double
Counter exemplar 2 message
Counter created_timestamp 3 message
Histogram sample_count 1 uint64
Histogram sample_sum 2 double
Histogram bucket 3 repeated
Histogram schema 5 sint32
Histogram zero_threshold 6 double
Histogram zero_count 7 uint64
Histogram positive_span 12 repeated
Histogram positive_delta 13 repeated
Histogram created_timestamp 15 message
Histogram exemplars 16 repeated
Bucket cumulative_count 1 uint64
Bucket upper_bound 2 double
Bucket exemplar 3 message
BucketSpan offset 1 sint32
BucketSpan length 2 uint32
Exemplar label 1 repeated
Exemplar value 2 double
Exemplar timestamp 3 message
Timestamp seconds 1 int64
Timestamp nanos 2 int32
"""
TYPES = {"COUNTER": 0, "GAUGE": 1, "SUMMARY": 2, "UNTYPED": 3, "HISTOGRAM": 4, "GAUGE_HISTOGRAM": 5}


class Wrong(Exception):
    """What is wrong with a body, in one line."""


def _add(samples, name, labels, value):
    key = (name, tuple(sorted(labels.items())))
    if key in samples:
        raise Wrong(f"sample twice: {key}")
    samples[key] = value


def _collect(families):
    samples = {}
    for family in families:
        for sample in family.samples:
            _add(samples, sample.name, sample.labels, sample.value)
    return samples


def read_text(body):
    """(families, samples) of text 0.0.4."""
    families = list(text_parser.text_string_to_metric_families(body.decode("utf-8")))
    # This parser gives every counter's samples a _total; take it back where the body has none.
    bare = {line.split()[2] for line in body.decode("utf-8").split("\n")
            if line.startswith("# TYPE ") and line.endswith(" counter") and not line.endswith("_total counter")}
    for family in families:
        if family.type == "counter" and family.name in bare:
            family.samples = [sample._replace(name=family.name) for sample in family.samples]
    return families, _collect(families)


def read_openmetrics(body):
    """(families, samples) of OpenMetrics 1.0, by the strict parser."""
    families = list(openmetrics.parser.text_string_to_metric_families(body.decode("utf-8")))
    return families, _collect(families)


def _check_descriptor(pool):
    scalar = descriptor_pb2.FieldDescriptorProto
    for line in FIELDS.split("\n"):
        if not line:
            continue
        message, name, number, kind = line.split()
        fields = pool.FindMessageTypeByName(f"io.prometheus.client.{message}").fields_by_number
        field = fields.get(int(number))
        if field is None or field.name != name:
            raise Wrong(f"{message} field {number} is {field and field.name}, not {name}")
        if kind == "repeated":
            ok = field.label == scalar.LABEL_REPEATED and not field.GetOptions().packed
        else:
            ok = field.type == getattr(scalar, "TYPE_" + kind.upper())
        if not ok:
            raise Wrong(f"{message}.{name} is not {kind}")
    types = pool.FindEnumTypeByName("io.prometheus.client.MetricType").values_by_name
    if {name: value.number for name, value in types.items()} != TYPES:
        raise Wrong("MetricType has other members")


def family_class():
    """The message class, made by protoc and checked against FIELDS."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "set")
        subprocess.run(["protoc", "--proto_path", os.path.dirname(PROTO), "--descriptor_set_out", out, PROTO],
                       check=True)
        with open(out, "rb") as f:
            files = descriptor_pb2.FileDescriptorSet.FromString(f.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    _check_descriptor(pool)
    return message_factory.MessageFactory(pool).GetPrototype(
        pool.FindMessageTypeByName("io.prometheus.client.MetricFamily"))


def _varint(body, at):
    value = shift = 0
    while True:
        if at >= len(body) or shift > 63:
            raise Wrong("length cut short")
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def split_delimited(body):
    """The messages of a delimited stream, as bytes."""
    at = 0
    while at < len(body):
        length, at = _varint(body, at)
        if length > len(body) - at:
            raise Wrong("message cut short")
        yield body[at:at + length]
        at += length


def read_protobuf(body):
    """(families, samples) of the delimited protobuf body; classic samples only."""
    cls = family_class()
    families, samples = [], {}
    for raw in split_delimited(body):
        family = cls.FromString(raw)
        if family.SerializeToString(deterministic=True) != raw:
            raise Wrong(f"{family.name}: not the canonical bytes")
        families.append(family)
        for metric in family.metric:
            _add_metric(samples, family, metric)
    return families, samples


def _add_metric(samples, family, metric):
    labels = {label.name: label.value for label in metric.label}
    if len(labels) != len(metric.label):
        raise Wrong(f"{family.name}: a label twice")
    kinds = [kind for kind in ("gauge", "counter", "histogram") if metric.HasField(kind)]
    expected = {0: ["counter"], 1: ["gauge"], 4: ["histogram"]}.get(family.type)
    if kinds != expected:
        raise Wrong(f"{family.name}: type {family.type} with {kinds}")
    if kinds != ["histogram"]:
        _add(samples, family.name, labels, getattr(metric, kinds[0]).value)
        return
    histogram = metric.histogram
    if not histogram.bucket or not math.isinf(histogram.bucket[-1].upper_bound):
        raise Wrong(f"{family.name}: no +Inf bucket")
    for bucket in histogram.bucket:
        _add(samples, family.name + "_bucket", {**labels, "le": floatToGoString(bucket.upper_bound)},
             float(bucket.cumulative_count))
    _add(samples, family.name + "_sum", labels, histogram.sample_sum)
    _add(samples, family.name + "_count", labels, float(histogram.sample_count))


def main(check):
    """Run check(body of stdin); print its line, or what is wrong and exit 1."""
    try:
        print(check(sys.stdin.buffer.read()))
    except (Wrong, ValueError) as wrong:
        print(f"refused: {wrong}")
        sys.exit(1)
