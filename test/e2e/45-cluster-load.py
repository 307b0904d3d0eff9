#!/usr/bin/env python3
# timeout: 180 s
"""Goal: what blixard-load counts by itself is what the nodes' agents serve, exactly, on every node; with
a node killed in the middle nothing that was acknowledged is missing, and nothing is counted that was
not sent.
Method: three nodes with agents; seeded runs with --json, whose account is compared series by series with
/metrics before and after; SIGINT, a frozen node, a closed port and wrong words for the rest."""

import collections
import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cluster"))
from testbed import Checks, Metrics, Testbed, free_ports, wait_for  # noqa: E402

BUILD = os.environ.get("B", "build")
LOAD = os.path.join(BUILD, "blixard-load")
FAILING = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "RESOURCE_EXHAUSTED"}
# Nodes call it on each other, too: it is compared for all of them together.
SHARED_METHOD = "GetVmImage"
RATE, SECONDS = 300, 30
VM_OPS = {"create": ("CreateVm",), "start": ("CreateVm", "StartVm"), "stop": ("StopVm",), "delete": ("DeleteVm",)}

check = Checks()


def command(targets, *words):
    return [LOAD, "--json", *(w for t in targets for w in ("--target", t)), *map(str, words)]


def load(targets, *words, seconds=70):
    """(exit code, the account; what it said)."""
    out = subprocess.run(command(targets, *words), capture_output=True, text=True, timeout=seconds)
    return out.returncode, json.loads(out.stdout) if out.stdout else {}, out.stderr


def counted(after, before, methods):
    """Requests by method and failures by (method, code), of these methods: what is new."""
    grown = Metrics({k: v - before.of(k) for k, v in after.items()})
    requests, failures = collections.Counter(), collections.Counter()
    for key, value in grown.items():
        found = re.fullmatch(r'grpc_requests(_failed)?_total\{method="(\w+)"(?:,code="(\w+)")?\}', key)
        if found and value and found.group(2) in methods:
            (failures if found.group(1) else requests)[found.group(2, 3) if found.group(1) else found.group(2)] += int(value)
    return requests, failures


def by_client(rows):
    requests, failures = collections.Counter(), collections.Counter()
    for method, row in rows.items():
        for code, n in row["codes"].items():
            requests[method] += n
            if code in FAILING:
                failures[(method, code)] += n
    return requests, failures


def differences(after, before, rows):
    rows = {m: r for m, r in rows.items() if m != SHARED_METHOD}
    server, client = counted(after, before, rows), by_client(rows)
    return {str(k): f"client {c[k]}, node {s[k]}" for s, c in zip(server, client) for k in set(s) | set(c) if s[k] != c[k]}


def agrees(node, before, rows, name):
    wait_for(lambda: not differences(node.metrics(), before, rows), 5)
    wrong = differences(node.metrics(), before, rows)
    return check(not wrong, name, wrong)


def methods_of(account, method, code):
    return sum(rows[method]["codes"].get(code, 0) for rows in account["targets"].values())


def ok_of(account, *methods):
    return sum(account["methods"][m]["ok"] for m in methods)


def test_exact(bed):
    before = [n.metrics() for n in bed.nodes]
    code, account, words = load([n.target for n in bed.nodes], "--rate", RATE, "--seconds", SECONDS, "--seed", 7, "--connections", 2)
    if not check(code == 0 and account, "a seeded load runs", (code, words)):
        return
    methods, targets = account["methods"], account["targets"]
    deleted_at_end = account["sent"] - RATE * SECONDS
    check(0 <= deleted_at_end <= 8 and account["not_sent"] == 0, "it sends what its rate promises, and deletes its VMs",
          (account["sent"], account["not_sent"]))
    sums = {m: (r["sent"], sum(t[m]["sent"] for t in targets.values()), sum(sum(t[m]["codes"].values()) for t in targets.values()))
            for m, r in methods.items()}
    check(all(len(set(s)) == 1 for s in sums.values()) and sum(s[0] for s in sums.values()) == account["sent"] == account["answered"],
          "its account adds up", sums)
    idle = [m for m, r in methods.items() if not r["ok"]]
    check(not idle, "every method has been answered OK", idle)
    odd = [m for m, r in methods.items() for q in [r["latency_ms"]] if not 0 < q["p50"] <= q["p90"] <= q["p99"] <= q["p99.9"] <= q["max"]]
    check(not odd, "latencies are in order", odd)
    for node, b in zip(bed.nodes, before):
        agrees(node, b, targets[node.target], f"node {node.number} has counted exactly that, by method and code")

    def totals():
        """What the nodes have counted together, and what they have been sent, by clients and by each other."""
        now = [n.metrics() for n in bed.nodes]
        called = sum(a.total("grpc_client_requests_total", method=SHARED_METHOD) - b.total("grpc_client_requests_total", method=SHARED_METHOD)
                     for a, b in zip(now, before))
        sent = collections.Counter({m: r["sent"] for m, r in methods.items()})
        sent[SHARED_METHOD] += int(called)
        timed = {m: sum(a.total("grpc_request_duration_seconds_count", method=m) - b.total("grpc_request_duration_seconds_count", method=m)
                        for a, b in zip(now, before)) for m in methods}
        return sum((counted(a, b, methods)[0] for a, b in zip(now, before)), collections.Counter()), sent, timed, called

    wait_for(lambda: totals()[0] == totals()[1], 5)
    all_of_them, sent, timed, called = totals()
    check(all_of_them == sent, "together the nodes have counted all of it", (all_of_them, sent))
    check(called > 0, "and nodes have fetched images from each other", called)
    check(timed == sent, "and timed all of it", timed)

    def grown(family, **labels):
        return sum(n.metrics().total(family, **labels) - b.total(family, **labels) for n, b in zip(bed.nodes, before))

    check(wait_for(lambda: grown("grpc_requests_total", method="Forward") == grown("grpc_client_requests_total", method="Forward") > 0, 5),
          "what was forwarded is counted apart, by who asked and by who served",
          (grown("grpc_client_requests_total", method="Forward"), grown("grpc_requests_total", method="Forward")))
    wait_for(lambda: grown("vm_delete_total") == ok_of(account, "DeleteVm"), 10)
    for op in ("create", "delete"):
        check(grown(f"vm_{op}_total") == ok_of(account, *VM_OPS[op]) > 0 == grown(f"vm_{op}_failed_total"),
              f"as many VMs were {op}d as orders were acknowledged", (grown(f"vm_{op}_total"), ok_of(account, *VM_OPS[op])))
    sent, received = (grown("p2p_transferred_bytes_total", direction=d) for d in ("send", "receive"))
    check(sent == received >= 300 << 10, "the bytes of images that were sent have been received", (sent, received))
    # As the client knows its images: all chunks but one are alike in all of them.
    images = account["images"]
    for node, b in zip(bed.nodes, before):
        m, known = node.metrics(), images[node.target]
        moved, spared, received = (m.total(f, **labels) - b.total(f, **labels) for f, labels in (
            ("p2p_chunks_transferred_total", {}), ("p2p_chunks_deduplicated_total", {}), ("p2p_transferred_bytes_total", {"direction": "receive"})))
        check((moved, spared, received) == (known["chunks_moved"], known["chunks_spared"], known["bytes_moved"]) and received > 0,
              f"node {node.number} has counted the chunks and bytes of exactly those images", (moved, spared, received, known))
    # Of what was proposed everything is written on every node, but for what changed nothing.
    def writes():
        now = [n.metrics() for n in bed.nodes]
        wanted = (sum(m.of("raft_proposals_total") - b.of("raft_proposals_total") for m, b in zip(now, before))
                  - sum(m.total("raft_proposals_failed_total") - b.total("raft_proposals_failed_total") for m, b in zip(now, before))
                  - sum(m.total("vm_commands_refused_total") - b.total("vm_commands_refused_total") for m, b in zip(now, before))
                  - methods_of(account, "ProposeTask", "NOT_FOUND"))
        return wanted, [m.total("storage_writes_total", table="vm_states") - b.total("storage_writes_total", table="vm_states")
                        for m, b in zip(now, before)]

    wait_for(lambda: writes()[1] == [writes()[0]] * 3, 10)
    wanted, written = writes()
    check(written == [wanted] * 3 and wanted >= ok_of(account, "ProposeTask", "SubmitTask", "CreateVm", "StartVm", "StopVm", "DeleteVm"),
          "every node has written every change once", (written, wanted))
    for op in ("start", "stop"):  # an order can overtake the one before
        check(0 < grown(f"vm_{op}_total") <= ok_of(account, *VM_OPS[op]), f"no more VMs were told to {op} than that",
              (grown(f"vm_{op}_total"), ok_of(account, *VM_OPS[op])))


def test_writes(bed):
    """Without VMs, whose nodes write by themselves, the client knows every write."""
    seen = []

    def quiet():
        """Nothing has been written anywhere for a second and a half, as all agents see it."""
        now = [(n.of("raft_applied_index"), n.of("vms"), n.of("raft_proposals_pending")) for n in bed.nodes]
        seen.append((time.monotonic(), now))
        same = next((at for at, state in reversed(seen) if state != now), seen[0][0])
        return len(set(now)) == 1 and now[0][1:] == (0, 0) and time.monotonic() - same > 1.5

    check(wait_for(quiet, 30), "the VMs of the last load have gone, and nothing is written", seen[-3:])
    before = [n.metrics() for n in bed.nodes]
    code, account, words = load([n.target for n in bed.nodes], "--rate", 400, "--seconds", 5, "--seed", 11, "--vms", 0)
    wanted = ok_of(account, "ProposeTask", "SubmitTask")
    proposed = wanted + methods_of(account, "ProposeTask", "NOT_FOUND")

    def grown(family, **labels):
        return [n.metrics().total(family, **labels) - b.total(family, **labels) for n, b in zip(bed.nodes, before)]

    wait_for(lambda: grown("storage_writes_total", table="vm_states") == [wanted] * 3, 10)
    written, proposals = grown("storage_writes_total", table="vm_states"), grown("raft_proposals_total")
    check(code == 0 and written == [wanted] * 3 and wanted > 500, "every node has written exactly what was acknowledged",
          (code, written, wanted, words, grown("raft_applied_index"), grown("raft_snapshots_total"), grown("raft_leader_changes_total"), seen[-1]))
    check(sum(proposals) == proposed and proposals == [sum(rows[m]["codes"].get(c, 0) for m in ("ProposeTask", "SubmitTask") for c in (
        ("OK", "NOT_FOUND") if m == "ProposeTask" else ("OK",))) for n in bed.nodes for rows in [account["targets"][n.target]]],
          "and proposed exactly what it was asked for", (proposals, proposed))
    log = grown("storage_writes_total", table="raft_log")
    check(all(0 < n <= proposed + 50 for n in log), "the log is written at most once an entry", (log, proposed))


def test_seed(bed):
    runs = [load([n.target for n in bed.nodes], "--rate", 100, "--seconds", 1, "--seed", s, "--vms", 0)[1] for s in (5, 5, 6)]
    sent = [{(t, m): r["sent"] for t, rows in a["targets"].items() for m, r in rows.items()} for a in runs]
    check(sent[0] == sent[1] != sent[2] and runs[0]["sent"] == 100, "the same seed sends the same, another one something else", sent)
    burst = load([bed.nodes[0].target], "--rate", 200, "--seconds", 2, "--profile", "burst", "--vms", 0)[1]
    check(burst["sent"] + burst["not_sent"] == 400 and burst["profile"] == "burst", "a burst has the rate on the whole", burst["sent"])


def test_kill(bed):
    """The victim's counts are those of both its incarnations."""
    victim = next(n for n in bed.nodes if n is not bed.leader())
    before = [n.metrics() for n in bed.nodes]
    process = subprocess.Popen(command([n.target for n in bed.nodes], "--rate", RATE, "--seconds", 100, "--seed", 8), stdout=subprocess.PIPE, text=True)
    done = before[victim.number - 1].total("grpc_requests_total", method="ProposeTask")
    wait_for(lambda: victim.metrics().total("grpc_requests_total", method="ProposeTask") > done + 60)
    check(bed.fault("kill", victim.number)[0] == 0, "a follower is killed in the middle of a load")
    wait_for(lambda: victim.of("node_up") == 0)
    last = victim.metrics()
    check(bed.fault("start", victim.number)[0] == 0 and wait_for(bed.settled, 25), "and takes its place again", victim.words())
    wait_for(lambda: victim.metrics().total("grpc_requests_total", method="ProposeTask") > 20, 30)
    process.send_signal(signal.SIGINT)
    account = json.loads(process.communicate(timeout=40)[0])
    check(process.returncode == 0 and account["answered"] == account["sent"], "the load goes on, and every operation has an end",
          (account["sent"], account["answered"]))
    for node, b in zip(bed.nodes, before):
        if node is not victim:
            agrees(node, b, account["targets"][node.target], f"node {node.number}, which lived, has counted exactly what it was sent")
    rows = account["targets"][victim.target]
    first, second = counted(last, before[victim.number - 1], rows)[0], counted(victim.metrics(), Metrics(), rows)[0]
    check(sum(first.values()) > 100 and sum(second.values()) > 10, "both lives of the victim have counted", (first, second))
    wrong = {}
    for m, row in rows.items():
        if m == SHARED_METHOD:
            continue
        # What the server has surely sent; UNAVAILABLE may be the client's own word for a lost connection.
        answered = sum(n for code, n in row["codes"].items() if code != "UNAVAILABLE")
        both = first[m] + second[m]
        if not answered <= both <= row["sent"]:
            wrong[m] = (answered, both, row["sent"])
    lost = sum(r["codes"].get("UNAVAILABLE", 0) for r in rows.values())
    check(not wrong and lost > 0, "of the victim: acknowledged <= counted <= sent, by method", (wrong, lost))


def test_limits(bed):
    process = subprocess.Popen(command([bed.nodes[0].target], "--rate", 100, "--seconds", 60), stdout=subprocess.PIPE, text=True)
    before = bed.nodes[0].metrics()
    wait_for(lambda: bed.nodes[0].metrics().total("grpc_requests_total", method="ProposeTask") > before.total("grpc_requests_total", method="ProposeTask") + 20)
    process.send_signal(signal.SIGINT)
    account = json.loads(process.communicate(timeout=20)[0])
    check(process.returncode == 0 and 20 < account["sent"] == account["answered"] < 6000 and account["seconds"] < 60,
          "SIGINT ends it with a whole account", account["sent"])

    victim = next(n for n in bed.nodes if n is not bed.leader())
    bed.fault("freeze", victim.number)
    try:
        code, account, _ = load([victim.target], "--rate", 200, "--seconds", 1, "--in-flight", 5, "--timeout-ms", 1500)
    finally:
        bed.fault("thaw", victim.number)
    codes = collections.Counter(c for r in account["targets"][victim.target].values() for c, n in r["codes"].items() for _ in range(n))
    check(code == 1 and account["sent"] == 5 and account["not_sent"] == 195 and codes == {"DEADLINE_EXCEEDED": 5},
          "what finds no place is not sent, and counted as that", (code, account["sent"], account["not_sent"], codes))
    check(wait_for(bed.settled, 20), "the cluster recovers")

    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    code, account, _ = load([nobody], "--rate", 20, "--seconds", 1)
    check(code == 1 and account["answered"] == account["sent"] == 20 and account["ok"] == 0, "a port that nobody listens on fails the run", (code, account))
    for words in (["--rate", "0"], ["--profile", "x"], ["--target", "nowhere"], ["--seconds", "-1"], ["--connections", "65"], ["word"], ["--no"]):
        out = subprocess.run([LOAD, "--target", nobody, *words], capture_output=True, text=True, timeout=10)
        check(out.returncode == 2 and len(out.stderr.splitlines()) == 1, f"{' '.join(words)} is refused in one line", (out.returncode, out.stderr))
    out = subprocess.run([LOAD], capture_output=True, text=True, timeout=10)
    check(out.returncode == 2 and "--target" in out.stderr, "without a target it says so", out.stderr)
    out = subprocess.run([LOAD, "--help"], capture_output=True, text=True, timeout=10)
    check(out.returncode == 0 and "--profile NAME" in out.stdout, "--help helps")


def main():
    for name in ("blixard-node", "blixard-agent", "blixard-load"):
        if not os.access(os.path.join(BUILD, name), os.X_OK):
            print(f"{BUILD}/{name} is not built")
            return 77
    bed = Testbed(BUILD, relay=False)
    try:
        if check(wait_for(bed.settled, 30), "three nodes are one cluster", [n.words() for n in bed.nodes]):
            test_exact(bed)
            test_writes(bed)
            test_seed(bed)
            test_kill(bed)
            test_limits(bed)
    finally:
        bed.close()
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
