"""Fail unless three bodies of one moment say the same: same_values.py TEXT OPENMETRICS PROTOBUF

Sample names, label sets and values must be equal in all three, and each alias equal to its twin,
which its help names. Prints how many of each.
"""
import math
import sys

import bodies


def read(path):
    with open(path, "rb") as f:
        return f.read()


def equal(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


def compare(what, one, other):
    for missing in sorted(set(one) ^ set(other))[:1]:
        raise bodies.Wrong(f"{what}: {missing} is only in the {'first' if missing in one else 'second'}")
    for key, value in one.items():
        if not equal(value, other[key]):
            raise bodies.Wrong(f"{what}: {key} is {value!r} and {other[key]!r}")


def sample_names(family):
    if family.type != "histogram":
        return [""]
    return ["_bucket", "_sum", "_count"]


def compare_aliases(families, samples):
    """Every alias has the samples of the family that its help names."""
    by_name = {}
    for (name, labels), value in samples.items():
        by_name.setdefault(name, {})[labels] = value
    aliases = 0
    for family in families:
        if not family.documentation.startswith("Alias of "):
            continue
        twin = family.documentation[len("Alias of "):].split(".")[0]
        alias = family.name
        if family.type == "counter":  # its family is named without _total, its samples may have it
            alias = family.samples[0].name
        if all(twin + suffix not in by_name for suffix in sample_names(family)):
            continue  # names=seed serves one of the two
        for suffix in sample_names(family):
            compare(f"{alias}{suffix} and {twin}{suffix}", by_name[alias + suffix], by_name[twin + suffix])
        aliases += 1
    return aliases


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: same_values.py TEXT OPENMETRICS PROTOBUF")
    try:
        families, text = bodies.read_text(read(sys.argv[1]))
        compare("text and OpenMetrics", text, bodies.read_openmetrics(read(sys.argv[2]))[1])
        compare("text and protobuf", text, bodies.read_protobuf(read(sys.argv[3]))[1])
        aliases = compare_aliases(families, text)
    except (bodies.Wrong, ValueError, KeyError) as wrong:
        print(f"differ: {wrong}")
        sys.exit(1)
    print(f"{len(text)} samples, {len({name for name, _ in text})} sample names, {aliases} aliases")


if __name__ == "__main__":
    main()
