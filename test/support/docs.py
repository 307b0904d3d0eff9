#!/usr/bin/env python3
"""Put the catalogue's tables between the markers of README.md: docs.py AGENT README [--check].

With --check nothing is written; the exit code is 1 when the README is out of date."""

import subprocess
import sys

BEGIN, END = "<!-- metrics:begin (make docs) -->\n", "<!-- metrics:end -->"

agent, readme = sys.argv[1], sys.argv[2]
tables = subprocess.run([agent, "--dump-metrics=markdown"], capture_output=True, text=True, check=True).stdout
with open(readme, encoding="utf-8") as f:
    old = f.read()
head, rest = old.split(BEGIN)
tail = rest.split(END)[1]
new = head + BEGIN + tables.rstrip("\n") + "\n" + END + tail
if "--check" in sys.argv[3:]:
    if new != old:
        print(f"{readme} does not show the catalogue as it is: run 'make docs'")
    sys.exit(new != old)
with open(readme, "w", encoding="utf-8") as f:
    f.write(new)
