"""Fail unless the body on stdin is text 0.0.4 as its specification has it.

prometheus_client's parser is lax, so what it lets pass is looked at line by line: a HELP and a
TYPE once a family and before its samples, a family's lines together, nothing of OpenMetrics.
"""
import re

import bodies

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\["\\n])*",?)*\})? (\S+)$')
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}


def check(body):
    if not body.endswith(b"\n"):
        raise bodies.Wrong("the last line does not end")
    if b"\r" in body:
        raise bodies.Wrong("a carriage return")
    seen, family, kind, help_of = set(), None, None, None
    for line in body.decode("utf-8").split("\n")[:-1]:
        if not line:
            raise bodies.Wrong("a blank line")
        if line.startswith("# HELP "):
            help_of = line.split(" ", 3)[2]
            continue
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            if family in seen:
                raise bodies.Wrong(f"{family} twice")
            if help_of != family:
                raise bodies.Wrong(f"{family} has no help")
            if kind not in ("counter", "gauge", "histogram"):
                raise bodies.Wrong(f"{family} is of type {kind}")
            seen.add(family)
            continue
        if line.startswith("#"):
            raise bodies.Wrong(f"a comment: {line}")
        match = SAMPLE.match(line)
        if not match:
            raise bodies.Wrong(f"no sample: {line}")
        if match[1] not in [family + s for s in SUFFIXES.get(kind, ("",))]:
            raise bodies.Wrong(f"{match[1]} inside {family}")
    families, samples = bodies.read_text(body)
    if not families:
        raise bodies.Wrong("no families")
    return f"{len(families)} families, {len(samples)} samples"


if __name__ == "__main__":
    bodies.main(check)
