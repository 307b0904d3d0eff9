"""Fail unless Google's library decodes the delimited protobuf body on stdin, with the field numbers
of the protocol as bodies.py writes them down, and every histogram adds up.

With the argument `native`, at least one native histogram must be there.
"""
import re
import sys

import bodies

ID = {"trace_id": re.compile("[0-9a-f]{32}$"), "span_id": re.compile("[0-9a-f]{16}$")}


def check(body):
    families, samples = bodies.read_protobuf(body)
    if not families:
        raise bodies.Wrong("no families")
    names = [family.name for family in families]
    if len(set(names)) != len(names):
        raise bodies.Wrong("a family twice")
    native = exemplars = 0
    for family in families:
        if not family.help:
            raise bodies.Wrong(f"{family.name} has no help")
        for metric in family.metric:
            if metric.HasField("counter") and metric.counter.HasField("exemplar"):
                exemplars += check_exemplar(family, metric.counter.exemplar)
            if metric.HasField("histogram"):
                exemplars += check_classic(family, metric.histogram)
                native += check_native(family, metric.histogram)
    if "native" in sys.argv[1:] and not native:
        raise bodies.Wrong("no native histogram")
    return f"{len(families)} families, {len(samples)} samples, {exemplars} exemplars, {native} native"


def check_exemplar(family, exemplar):
    labels = {label.name: label.value for label in exemplar.label}
    if set(labels) != set(ID) or not all(ID[name].match(value) for name, value in labels.items()):
        raise bodies.Wrong(f"{family.name}: exemplar labels {labels}")
    if not exemplar.HasField("timestamp") or not 0 <= exemplar.timestamp.nanos < 10**9:
        raise bodies.Wrong(f"{family.name}: exemplar time")
    return 1


def check_classic(family, histogram):
    exemplars = 0
    lower, count = float("-inf"), 0
    for bucket in histogram.bucket:
        if bucket.upper_bound <= lower or bucket.cumulative_count < count:
            raise bodies.Wrong(f"{family.name}: buckets out of order")
        if bucket.HasField("exemplar"):
            if not lower < bucket.exemplar.value <= bucket.upper_bound:
                raise bodies.Wrong(f"{family.name}: exemplar outside its bucket")
            exemplars += check_exemplar(family, bucket.exemplar)
        lower, count = bucket.upper_bound, bucket.cumulative_count
    return exemplars


def check_native(family, histogram):
    """The rules that Prometheus checks, and the mean within what the buckets allow."""
    if not histogram.HasField("schema"):
        if histogram.sample_count != histogram.bucket[-1].cumulative_count:
            raise bodies.Wrong(f"{family.name}: count {histogram.sample_count}")
        return 0
    if not histogram.positive_span and not histogram.zero_count:
        raise bodies.Wrong(f"{family.name}: reads as a classic histogram")
    base = 2 ** (2 ** -histogram.schema)
    index, delta, count = 0, 0, 0
    total, low, high = histogram.zero_count, 0.0, histogram.zero_count * histogram.zero_threshold
    for number, span in enumerate(histogram.positive_span):
        if number and span.offset < 0:
            raise bodies.Wrong(f"{family.name}: spans overlap")
        index += span.offset
        for _ in range(span.length):
            count += histogram.positive_delta[delta]
            if count < 0:
                raise bodies.Wrong(f"{family.name}: a bucket below 0")
            total += count
            low += count * base ** (index - 1)
            high += count * base ** index
            index += 1
            delta += 1
    if delta != len(histogram.positive_delta):
        raise bodies.Wrong(f"{family.name}: {len(histogram.positive_delta)} deltas for {delta} buckets")
    if total != histogram.sample_count:
        raise bodies.Wrong(f"{family.name}: {total} in buckets, count {histogram.sample_count}")
    over = any(b.cumulative_count for b in histogram.bucket) and index > 97
    if not low * (1 - 1e-9) <= histogram.sample_sum or not (over or histogram.sample_sum <= high * (1 + 1e-9)):
        raise bodies.Wrong(f"{family.name}: sum {histogram.sample_sum} outside {low} .. {high}")
    times = [(e.timestamp.seconds, e.timestamp.nanos) for e in histogram.exemplars]
    if times != sorted(times):
        raise bodies.Wrong(f"{family.name}: exemplars out of order")
    classic = sum(b.HasField("exemplar") for b in histogram.bucket)
    if classic != len(histogram.exemplars):
        raise bodies.Wrong(f"{family.name}: {len(histogram.exemplars)} native exemplars, {classic} classic")
    return 1


if __name__ == "__main__":
    bodies.main(check)
