#!/usr/bin/env python3
"""Every slow fsync carries the span its thread was in, and no other.

Goal: 4 threads x 4,000 calls, each with the right ids or, outside of a span, none; none lost; threads
without a lane are never stamped.
Method: test/support/bin/storage_stamp begins, nests and hands over spans with the real hooks; it knows the truth of each call and compares it with the events.
"""
# timeout: 200 s
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from storage_rig import BUILD, Tap, mount_tracefs, need, own_mounts

need("unshare")
own_mounts()
mount_tracefs()
tap = Tap()
# ext4 calls reach a disk; a file in memory is enough for the syscalls and makes the rate as high as it gets.
for hook, directory, spans in (("fentry", "/dev/shm", 4000), ("tracepoint", "/dev/shm", 4000), ("ext4", "/var/tmp", 400)):
    skipped = [x for other in ("fentry", "tracepoint", "ext4") if other != hook for x in ("--skip", other)]
    out = subprocess.run([f"{BUILD}/test/support/bin/storage_stamp", directory, str(spans), *skipped],
                         capture_output=True, text=True, timeout=180)
    a = json.loads(out.stdout or '{"error": 2, "reason": "it died"}')
    if a["error"] == 1:
        tap.skip(f"hook {hook}", a["reason"])
        continue
    tap.check(a["error"] == 0 and a["with_lane"] == 4, f"{hook}: four threads have a lane, two have none")
    tap.check(a["delivered"] == a["calls"] == 6 * spans and a["lost"] == 0 and a["foreign"] == 0,
              f"{hook}: {a['delivered']} of {a['calls']} calls came, {a['lost']} lost, {a['foreign']} foreign")
    # Some hand-overs find the neighbour's place taken; then it makes a span of its own.
    tap.check(a["in_span"] == 3 * spans and a["moved"] > spans // 4,
              f"{hook}: {a['in_span']} calls in spans, {a['moved']} of them in spans that another thread began")
    tap.check(a["right"] == a["calls"] and a["wrong"] == 0, f"{hook}: {a['right']} with the right span or none, {a['wrong']} wrong")
    tap.check(a["stamped_outside"] == 0, f"{hook}: {a['stamped_outside']} stamped outside of a span")
tap.end()
