#!/usr/bin/env python3
"""What full tracing costs the reference cluster: its own throughput and CPU time with every request traced,
beside none.

cluster_tracing.py BUILD_DIR [REPEATS [SECONDS]]. Two clusters of three nodes with agents, alike but for
OTEL_TRACES_SAMPLER, take turns under a load that keeps a fixed number of operations under way; what is
compared are the medians of the repeats. Nothing is asserted: machines are noisy. The CPU time that nodes use
for an operation is the steadier of the two figures: on few cores, load, nodes and agents share what limits
the throughput. `--vms 0`: VMs are processes of their own.
"""

import json
import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cluster"))
from testbed import Testbed, wait_for  # noqa: E402

BUILD = sys.argv[1] if len(sys.argv) > 1 else "build"
REPEATS = int(sys.argv[2]) if len(sys.argv) > 2 else 9
SECONDS = int(sys.argv[3]) if len(sys.argv) > 3 else 4
IN_FLIGHT = 32
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
MODES = ("always_off", "always_on")


def cpu_s(bed):
    """User and system time of the nodes so far."""
    total = 0
    for node in bed.nodes:
        with open(f"/proc/{node.entry()['pid']}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S


def start(mode):
    os.environ["OTEL_TRACES_SAMPLER"] = mode
    bed = Testbed(BUILD, relay=False)
    if not wait_for(bed.settled, 60):
        bed.close()
        sys.exit(f"the cluster with {mode} does not settle")
    return bed


def measure(bed, seed):
    """(operations answered a second, microseconds of the nodes' CPU time for one of them)"""
    targets = [w for n in bed.nodes for w in ("--target", n.target)]
    before = cpu_s(bed)
    out = subprocess.run([os.path.join(BUILD, "blixard-load"), "--json", *targets, "--rate", "100000", "--in-flight", str(IN_FLIGHT), "--vms", "0",
                          "--seconds", str(SECONDS), "--seed", str(seed)], capture_output=True, text=True, timeout=SECONDS + 60, check=True)
    account = json.loads(out.stdout)
    used = cpu_s(bed) - before
    return account["ok"] / account["seconds"], used / account["ok"] * 1e6


def spans(bed):
    return sum(n.metrics().total("agent_ring_records_total", kind="span") for n in bed.nodes)


def main():
    beds = {}
    figures = {mode: [] for mode in MODES}
    try:
        for mode in MODES:
            beds[mode] = start(mode)
            measure(beds[mode], 1)
        for i in range(REPEATS):
            for mode in MODES if i % 2 else reversed(MODES):
                figures[mode].append(measure(beds[mode], 2 + i))
        recorded = {mode: spans(beds[mode]) for mode in MODES}
    finally:
        for bed in beds.values():
            bed.close()
    print(f"{REPEATS} repeats of {SECONDS} s each, {IN_FLIGHT} operations under way, {os.cpu_count()} CPUs; medians (lowest to highest)")
    medians = {}
    for mode in MODES:
        rates, cpus = zip(*figures[mode])
        medians[mode] = statistics.median(rates), statistics.median(cpus)
        print(f"  {mode:10} {medians[mode][0]:8.0f} operations/s ({min(rates):.0f} to {max(rates):.0f})   "
              f"{medians[mode][1]:6.1f} us of CPU each ({min(cpus):.1f} to {max(cpus):.1f})   {recorded[mode]:.0f} spans drained")
    off, on = (medians[m] for m in MODES)
    print(f"  full tracing: throughput x {on[0] / off[0]:.3f}, CPU time x {on[1] / off[1]:.3f}")


if __name__ == "__main__":
    main()
