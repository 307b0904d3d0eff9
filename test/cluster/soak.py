#!/usr/bin/env python3
"""make soak: the reference cluster under a steady load for S seconds.

Goal: no leak, no error, no lost count. Method: three nodes with agents, blixard-load at SOAK_RATE
operations a second; the memory of every process is sampled, a line through the last two thirds of the
samples gives its slope; at the end the load's own account is compared with what the agents serve.
Prints what it measured; exit code 1 when an operation failed, a count differs, or memory grows by more
than SOAK_SLOPE_KB_MIN a minute."""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from testbed import Testbed, wait_for  # noqa: E402

SAMPLE_S = 2
# What clients ask for in vain (a name twice, a row that is gone) is no failure of the cluster.
FAULTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "RESOURCE_EXHAUSTED")


def rss_kb(pid):
    with open(f"/proc/{pid}/status") as f:
        values = dict(line.split(":", 1) for line in f if ":" in line)
    return sum(int(values[k].split()[0]) for k in ("RssAnon", "RssFile"))


def slope_kb_min(samples):
    """Least squares over the last two thirds, in KiB a minute."""
    late = samples[len(samples) // 3:]
    n = len(late)
    mean_t = sum(t for t, _ in late) / n
    mean_y = sum(y for _, y in late) / n
    spread = sum((t - mean_t) ** 2 for t, _ in late)
    return 60 * sum((t - mean_t) * (y - mean_y) for t, y in late) / spread if spread else 0.0


def requests(node, side=""):
    """By method; side "client_": those that the node itself has sent."""
    found = collections.Counter()
    for key, value in node.metrics().items():
        method = re.fullmatch(rf'grpc_{side}requests_total\{{method="(\w+)"\}}', key)
        if method:
            found[method.group(1)] = int(value)
    return found


def counts(bed):
    return [(requests(n), requests(n, "client_")) for n in bed.nodes]


def miscounted(bed, before, account):
    """Node by node; a method that nodes call on each other as well, over all of them."""
    now, wrong = counts(bed), []
    served = [n[0] - b[0] for n, b in zip(now, before)]
    between = sum((n[1] - b[1] for n, b in zip(now, before)), collections.Counter())
    for method in account["methods"]:
        sent = [sum(account["targets"][n.target][method]["codes"].values()) for n in bed.nodes]
        got = [s[method] for s in served]
        if between[method] and sum(got) != sum(sent) + between[method]:
            wrong.append(f"{method}: clients {sum(sent)}, nodes {between[method]}, served {sum(got)}")
        elif not between[method] and got != sent:
            wrong.append(f"{method}: clients {sent}, served {got}")
    return wrong


def watch(load, processes, started):
    samples = collections.defaultdict(list)
    while load.poll() is None:
        for name, pid in processes.items():
            samples[name].append((time.monotonic() - started, rss_kb(pid)))
        time.sleep(SAMPLE_S)
    return samples


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--rate", type=int, default=int(os.environ.get("SOAK_RATE", "2000")))
    args = parser.parse_args()
    limit = float(os.environ.get("SOAK_SLOPE_KB_MIN", "200"))

    bed = Testbed(args.build, relay=False)
    try:
        if not wait_for(bed.settled, 30):
            sys.exit("the cluster does not settle")
        before = counts(bed)
        command = [f"{args.build}/blixard-load", "--json", "--rate", str(args.rate), "--seconds", str(args.seconds),
                   "--connections", "2"]
        for node in bed.nodes:
            command += ["--target", node.target]
        processes = {}
        for entry in bed.state()["nodes"]:
            processes[f"node {entry['id']}"], processes[f"agent {entry['id']}"] = entry["pid"], entry["agent_pid"]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        samples = watch(load, processes, time.monotonic())
        account = json.loads(load.communicate()[0])
        wait_for(lambda: not miscounted(bed, before, account), 10)
        wrong = miscounted(bed, before, account)
    finally:
        bed.close()

    failed = collections.Counter()
    for rows in account["targets"].values():
        for method, row in rows.items():
            failed.update({f"{method} {code}": n for code, n in row["codes"].items() if code in FAULTS})
    print(f"{account['sent']} operations in {args.seconds} s ({account['sent'] / args.seconds:.0f}/s), "
          f"{account['not_sent']} not sent for want of a place, failed: {dict(failed) or 'none'}")
    growing = []
    for name, series in sorted(samples.items()):
        slope = slope_kb_min(series)
        growing += [name] if slope > limit else []
        print(f"  {name:8} RssAnon+RssFile {series[0][1] / 1024:6.1f} -> {series[-1][1] / 1024:6.1f} MiB, {slope:+8.1f} KiB a minute")
    print("every count agrees" if not wrong else "counts that differ:\n  " + "\n  ".join(wrong))
    return 1 if wrong or growing or failed else 0


if __name__ == "__main__":
    sys.exit(main())
