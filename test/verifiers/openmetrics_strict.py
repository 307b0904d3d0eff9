"""Fail unless the strict OpenMetrics parser accepts the body on stdin."""
import math

import bodies


def check(body):
    families, samples = bodies.read_openmetrics(body)
    if not families:
        raise bodies.Wrong("no families")
    exemplars = 0
    for family in families:
        if not family.documentation:
            raise bodies.Wrong(f"{family.name} has no help")
        for sample in family.samples:
            if sample.timestamp is not None:
                raise bodies.Wrong(f"{sample.name} carries a timestamp")
            exemplars += check_exemplar(family, sample)
    return f"{len(families)} families, {len(samples)} samples, {exemplars} exemplars"


def check_exemplar(family, sample):
    exemplar = sample.exemplar
    if exemplar is None:
        return 0
    if not sample.name.endswith(("_total", "_bucket")) or family.type == "unknown":
        raise bodies.Wrong(f"{sample.name} must not have an exemplar")
    if set(exemplar.labels) != {"trace_id", "span_id"} or exemplar.timestamp is None:
        raise bodies.Wrong(f"{sample.name} has an odd exemplar {exemplar}")
    if "le" in sample.labels:
        bounds = sorted({float(s.labels["le"]) for s in family.samples if "le" in s.labels})
        upper = float(sample.labels["le"])
        index = bounds.index(upper)
        lower = bounds[index - 1] if index else -math.inf
        if not lower < exemplar.value <= upper:
            raise bodies.Wrong(f"{sample.name} {sample.labels}: exemplar {exemplar.value} is outside its bucket")
    return 1


if __name__ == "__main__":
    bodies.main(check)
