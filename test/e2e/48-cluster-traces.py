#!/usr/bin/env python3
# timeout: 150 s
"""Goal: one request is one connected trace over all nodes it touched; every span that was to be sampled is
there, says what it is about, and fails when the call does; logs carry the ids of what they are part of.
Method: three nodes without agents; a gRPC client sends its own traceparent; the spans are read straight
from the files by span_dump, which knows the layout alone. Then a load with traces, whose account says how
many there must be; and the faults of telemetry itself, with agents."""

import collections
import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cluster"))
import state  # noqa: E402
from testbed import Checks, Testbed, load_stubs, wait_for  # noqa: E402

BUILD = os.environ.get("B", "build")
DUMP = os.path.join(BUILD, "test/support/bin/span_dump")
LOAD = os.path.join(BUILD, "blixard-load")
MIB = 1 << 20
CLIENT_SPAN = "cd" * 8
SERVER, CLIENT, ERROR = 2, 3, 2
check = Checks()


def records(bed):
    """(spans, logs) of all files, each with the node it is of."""
    spans, logs = [], []
    for node in bed.nodes:
        out = subprocess.run([DUMP, node.entry()["shm"]], capture_output=True, text=True, timeout=30, check=True)
        for line in out.stdout.splitlines():
            record = dict(json.loads(line), node=node.number)
            (spans if record["kind"] == "span" else logs).append(record)
    return spans, logs


def of_trace(bed, trace):
    return [s for s in records(bed)[0] if s["trace"] == trace]


def named(spans, name, **attributes):
    return [s for s in spans if s["name"] == name and all(s["attributes"].get(k.replace("__", ".")) == v for k, v in attributes.items())]


def orphans(spans):
    ids = {s["span"] for s in spans} | {CLIENT_SPAN}
    return [(s["node"], s["name"]) for s in spans if s["parent"] not in ids]


def ancestors(spans, span):
    by_id = {s["span"]: s for s in spans}
    names = []
    while span["parent"] in by_id:
        span = by_id[span["parent"]]
        names.append(span["name"])
    return names


class Client:
    """Calls that are part of traces of its own."""

    def __init__(self, bed):
        self.grpc, self.pb, service = load_stubs(bed.dir)
        self.channels = [self.grpc.insecure_channel(n.target, options=[("grpc.enable_http_proxy", 0)]) for n in bed.nodes]
        self.stubs = [service.ClusterStub(c) for c in self.channels]
        self.n = 0

    def call(self, node, method, flags="01", **fields):
        """(trace id, code)"""
        self.n += 1
        trace = f"{self.n:02x}" * 16
        request = getattr(self.pb, method + "Request")(**fields)
        try:
            getattr(self.stubs[node.number - 1], method)(request, timeout=10, metadata=[("traceparent", f"00-{trace}-{CLIENT_SPAN}-{flags}")])
            return trace, "OK"
        except self.grpc.RpcError as error:
            return trace, error.code().name

    def all_healthy(self):
        """In every node's eyes: then a placement finds all of them."""
        replies = [s.GetClusterResourceSummary(self.pb.GetClusterResourceSummaryRequest(), timeout=10) for s in self.stubs]
        return all(len(r.nodes) == 3 and all(n.healthy for n in r.nodes) for r in replies)

    def vm(self, **more):
        return self.pb.VmRequest(needs=self.pb.VmResources(vcpus=1, memory_bytes=16 * MIB, disk_bytes=4 * MIB), **more)

    def close(self):
        for channel in self.channels:
            channel.close()


def is_whole(spans, n_applies):
    return len(named(spans, "vm.start")) == 1 and len(named(spans, "raft.apply")) == n_applies and not orphans(spans)


def test_create(bed, client):
    """Asked of a follower, held by the other follower, so that all three have a part in it."""
    leader = wait_for(bed.leader_by_log)
    asked, holder = [n for n in bed.nodes if n is not leader]
    trace, code = client.call(asked, "CreateVm", name="traced", request=client.vm(strategy="manual", node_id=holder.number))
    # create, place, starting and running reported: four proposals, each applied by three nodes
    wait_for(lambda: is_whole(of_trace(bed, trace), 12), 20)
    spans = of_trace(bed, trace)
    check(code == "OK" and not orphans(spans), "CreateVm: every span but the client's own is there, with its parent", (code, orphans(spans)))
    check({s["node"] for s in spans} == {1, 2, 3}, "CreateVm: all three nodes have a part in it")
    root, = named(spans, "blixard.Cluster/CreateVm") or [{"parent": "", "span_kind": 0, "node": 0, "remote": False, "attributes": {}}]
    check((root["parent"], root["span_kind"], root["node"], root["remote"]) == (CLIENT_SPAN, SERVER, asked.number, True),
          "the server's span is below the client's", root)
    check(root["attributes"] == {"rpc.system": "grpc", "rpc.service": "blixard.Cluster", "rpc.method": "CreateVm", "rpc.grpc.status_code": 0,
                                 "node.id": asked.number}, "and says what the call was", root["attributes"])
    forwards = [(s["node"], s["span_kind"]) for s in named(spans, "blixard.Cluster/Forward")]
    check((asked.number, CLIENT) in forwards and (leader.number, SERVER) in forwards, "it is forwarded to the leader: client and server span", forwards)
    applies = collections.Counter(s["node"] for s in named(spans, "raft.apply"))
    check(applies == {1: 4, 2: 4, 3: 4}, "what every node applies is part of it", applies)
    check(collections.Counter(s["attributes"]["raft.proposal_type"] for s in named(spans, "raft.apply"))
          == {"vm_create": 3, "vm_place": 3, "update_vm_status": 6}, "each says what was applied")
    check(all(len({s["attributes"]["raft.index"] for s in named(spans, "raft.apply") if s["node"] == n}) == 4 for n in (1, 2, 3)), "at four indexes")
    replicated = {(s["node"], s["attributes"]["peer.id"]) for s in named(spans, "raft.replicate")}
    check(replicated == {(leader.number, asked.number), (leader.number, holder.number)}, "the leader replicates to both followers", replicated)
    stored = collections.Counter(s["node"] for s in named(spans, "storage.append"))
    check(set(stored) == {1, 2, 3}, "each writes it to its disk", stored)
    appends = named(spans, "storage.append", db__collection__name="raft_log", db__system__name="blixard")
    check(all(s["attributes"]["storage.fsync_ns"] <= s["end"] - s["start"] and s["attributes"]["bytes"] > 0 for s in appends)
          and len(appends) == sum(stored.values()), "and says how much, and how long the sync took", appends[:2])
    commits = named(spans, "raft.commit")
    check(len(commits) == 4 and {s["node"] for s in commits} == {leader.number}, "the leader commits it", len(commits))
    place, = named(spans, "vm.place") or [{"node": 0, "attributes": {}}]
    check((place["node"], place["attributes"].get("vm.target_node"), place["attributes"].get("vm.strategy")) == (leader.number, holder.number, "manual"),
          "the leader places it", place)
    for name in ("vm.create", "vm.start"):
        span, = named(spans, name, vm__name="traced", result="ok") or [None]
        if check(span and span["node"] == holder.number, f"its node: {name}", named(spans, name)):
            check(ancestors(spans, span)[-3:] == ["vm.place", "raft.propose", "blixard.Cluster/CreateVm"], f"{name} follows from the call",
                  ancestors(spans, span))
    check(all(s["status"] != ERROR for s in spans), "and nothing of it has failed", [s["name"] for s in spans if s["status"] == ERROR])
    check(all(s["start"] <= s["end"] for s in spans) and all(s["dropped"] == 0 for s in spans), "times are in order, nothing was cut")
    logs = [l for l in records(bed)[1] if l["trace"] == trace]
    ids = {s["span"] for s in named(spans, "vm.start")}
    check([l["attributes"]["vm.status"] for l in logs if l["event"] == "vm.status.changed"] == ["starting", "running"]
          and all(l["span"] in ids and l["node"] == holder.number for l in logs), "its status changes are logged as part of the start", logs)


def test_life(bed, client):
    """Each order has a trace of its own, down to the process."""
    node = bed.nodes[0]
    check(wait_for(lambda: named(records(bed)[0], "vm.health_check", vm__name="traced", result="healthy"), 10), "its health is checked")
    holder = next(s["node"] for s in named(records(bed)[0], "vm.start", vm__name="traced"))
    for method, name in (("StopVm", "vm.stop"), ("StartVm", "vm.start"), ("DeleteVm", "vm.delete")):
        trace, code = client.call(node, method, name="traced")

        def whole():
            spans = of_trace(bed, trace)
            return spans if named(spans, name, vm__name="traced") and len(named(spans, "raft.apply")) >= 6 and not orphans(spans) else []

        spans = wait_for(whole, 15) or of_trace(bed, trace)
        found = named(spans, name, vm__name="traced")
        check(code == "OK" and found and found[0]["node"] == holder and not orphans(spans) and f"blixard.Cluster/{method}" in ancestors(spans, found[0]),
              f"{method}: {name} on its node is part of it", (code, found, orphans(spans)))


def test_failures(bed, client):
    trace, code = client.call(bed.nodes[0], "GetVmStatus", name="nobody")
    wait_for(lambda: of_trace(bed, trace))
    spans = of_trace(bed, trace)
    root = named(spans, "blixard.Cluster/GetVmStatus")
    check(code == "NOT_FOUND" and root and root[0]["status"] != ERROR and root[0]["attributes"]["rpc.grpc.status_code"] == 5,
          "a caller's mistake is not the server's failure", root)
    check(len(named(spans, "storage.read", db__operation__name="get")) == 1, "what was read for it is part of it")

    check(bed.fault("rpc-reject", 1, "ListVms", "UNAVAILABLE")[0] == 0, "let calls fail")
    trace, code = client.call(bed.nodes[0], "ListVms")
    check(bed.fault("rpc-mend", 1)[0] == 0, "and pass again")
    wait_for(lambda: of_trace(bed, trace))
    root = of_trace(bed, trace)
    check(code == "UNAVAILABLE" and len(root) == 1 and root[0]["status"] == ERROR and root[0]["attributes"].get("error.type") == "UNAVAILABLE"
          and "exception" in root[0]["events"] and root[0].get("text") == "rejected on purpose", "a failing call sets status and error.type by itself", root)

    trace, code = client.call(bed.nodes[0], "CreateVm", name="giant", request=client.pb.VmRequest(
        needs=client.pb.VmResources(vcpus=1000, memory_bytes=MIB)))
    wait_for(lambda: named(of_trace(bed, trace), "vm.place"))
    places = named(of_trace(bed, trace), "vm.place")
    check(code == "OK" and places and places[0]["status"] == ERROR and places[0]["attributes"].get("error.type") == "vcpus",
          "a placement that finds no node fails, and says why", places[:1])
    client.call(bed.nodes[0], "DeleteVm", name="giant")


def test_unsampled(bed, client):
    before = len(records(bed)[0])
    trace, code = client.call(bed.nodes[0], "ProposeTask", flags="00", key="k", value=b"v")
    sampled, _ = client.call(bed.nodes[0], "ProposeTask", key="k", value=b"v")
    wait_for(lambda: len(named(of_trace(bed, sampled), "raft.apply")) == 3)
    check(code == "OK" and not of_trace(bed, trace) and len(records(bed)[0]) > before, "what the client does not sample, nobody does")


def test_transfer(bed, client):
    giver, taker = bed.nodes[0], bed.nodes[1]
    client.call(giver, "ShareVmImage", name="img", data=os.urandom(600000))
    trace, code = client.call(taker, "GetVmImage", name="img", peer=giver.target)
    wait_for(lambda: named(of_trace(bed, trace), "p2p.transfer") and not orphans(of_trace(bed, trace)))
    spans = of_trace(bed, trace)
    transfer = named(spans, "p2p.transfer", image__id="img")
    check(code == "OK" and len(transfer) == 1 and transfer[0]["attributes"]["bytes"] == 600000 and transfer[0]["attributes"]["chunks"] == 3
          and transfer[0]["node"] == taker.number, "a transfer says what it has moved", transfer)
    # the description, three chunks, and the end
    served = [s for s in named(spans, "blixard.Cluster/GetVmImage") if s["node"] == giver.number and s["span_kind"] == SERVER]
    check(len(served) >= 4 and all("p2p.transfer" in ancestors(spans, s) for s in served) and not orphans(spans),
          "what the giver serves for it is part of it", (len(served), orphans(spans)))


def test_background(bed):
    spans, logs = records(bed)
    elections = named(spans, "raft.election")
    check(any(s["attributes"].get("result") == "won" for s in elections) or any(l["event"] == "raft.leader.changed" for l in logs),
          "elections and new leaders are told", (elections, [l["event"] for l in logs]))
    check({l["attributes"]["node.state"] for l in logs if l["event"] == "node.state"} == {"listening"}, "so are starts")
    idle = [s for s in named(spans, "blixard.Cluster/SendRaftMessage") if s["parent"] == "0" * 16]
    check(not idle, "heartbeats have no traces of their own", len(idle))
    checks = named(spans, "vm.health_check", result="healthy")
    check(checks and all(s["parent"] == "0" * 16 for s in checks), "health checks have traces of their own", len(checks))


# ---- the load, and faults of telemetry itself ------------------------------------------------------------
def run_load(bed, *words):
    out = subprocess.run([LOAD, "--json", *(w for n in bed.nodes for w in ("--target", n.target)), *words], capture_output=True, text=True, timeout=60)
    return json.loads(out.stdout) if out.stdout else {}


def test_load(bed):
    """Nothing drains the rings: few enough that they hold it all."""
    before = {s["trace"] for s in records(bed)[0] if s["remote"] and s["span_kind"] == SERVER}
    account = run_load(bed, "--rate", "30", "--seconds", "3", "--vms", "0", "--traces", "50")
    def begun():
        spans = records(bed)[0]
        ids = {s["span"] for s in spans}
        return {s["trace"] for s in spans if s["span_kind"] == SERVER and s["remote"] and s["parent"] not in ids} - before
    wait_for(lambda: len(begun()) == account["traces"])
    ours = begun()
    spans = [s for s in records(bed)[0] if s["trace"] in ours]
    ids = {s["span"] for s in spans}
    lost = [s["name"] for s in spans if s["parent"] not in ids and not (s["span_kind"] == SERVER and s["remote"])]
    check(account["traces"] == 45 == len(ours) and not lost, "every trace that a load has begun is there, and whole",
          (account.get("traces"), len(ours), lost))


def test_fill_ring(bed):
    node = wait_for(bed.leader)
    def missed():
        """Refused by the ring, or overwritten before anybody has read it."""
        code, body = node.get("/status.json")
        return node.metrics().total("agent_ring_dropped_total", kind="span") + (json.loads(body)["file"]["ring"]["lost"] if code == 200 else 0)

    before = missed()
    code, words = bed.fault("fill-ring", node.number)
    check(code == 0, "fill the ring of a node: its agent stands still", words)
    run_load(bed, "--rate", "600", "--seconds", "6", "--vms", "0", "--traces", "100")
    code, words = bed.fault("drain-ring", node.number)
    check(code == 0 and wait_for(lambda: missed() > before + 100, 15), "what found no room is counted", (code, words, before, missed()))
    check(wait_for(bed.settled, 20), "and the node has not minded")


def test_stop_collector(bed):
    code, words = bed.fault("stop-collector")
    check(code == 77 and "collector" in words, "without a collector there is none to stop", (code, words))
    collector = subprocess.Popen(["sleep", "1000"])

    def is_stopped():
        with open(f"/proc/{collector.pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] == "T"

    try:
        with state.changing(bed.file) as s:
            s["collector"] = {"pid": collector.pid, "word": "sleep"}
        check(bed.fault("stop-collector")[0] == 0 and wait_for(is_stopped, 5), "stop-collector freezes the one that the state file names")
        check("stop-collector" in bed.fault("status")[1] and bed.fault("undo")[0] == 0 and wait_for(lambda: not is_stopped(), 5), "and its undo lets it go on")
        collector.send_signal(signal.SIGKILL)
        collector.wait()
        check(bed.fault("stop-collector")[0] == 1, "one that has ended cannot be stopped")
    finally:
        if collector.poll() is None:
            collector.kill()
            collector.wait()


def main():
    for program in (DUMP, LOAD, os.path.join(BUILD, "blixard-node"), os.path.join(BUILD, "blixard-agent")):
        if not os.access(program, os.X_OK):
            print(f"{program} is not built")
            return 77
    os.environ.pop("OTEL_TRACES_SAMPLER", None)
    bed = Testbed(BUILD, relay=False)
    client = None
    try:
        if not load_stubs(bed.dir):
            print("python3-grpc-tools is not installed")
            return 77
        if not check(wait_for(bed.settled, 30), "three nodes are one cluster", [n.words() for n in bed.nodes]):
            return check.end()
        test_fill_ring(bed)
    finally:
        bed.close()
    bed = Testbed(BUILD, relay=False, agents=False)
    try:
        client = Client(bed)
        if not check(wait_for(lambda: bed.leader_by_log() and all("listening" in n.words() for n in bed.nodes), 30) and wait_for(
                lambda: sum(len(named([s], "blixard.Cluster/JoinCluster")) for s in records(bed)[0]) >= 4, 30), "three nodes without agents",
                [n.words() for n in bed.nodes]):
            return check.end()
        check(wait_for(client.all_healthy, 30), "which know each other")
        for test in (test_create, test_life, test_failures, test_unsampled, test_transfer):
            test(bed, client)
        test_background(bed)
        test_load(bed)
        test_stop_collector(bed)
    finally:
        if client:
            client.close()
        bed.close()
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
