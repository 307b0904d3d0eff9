#!/usr/bin/env python3
# timeout: 180 s
"""Goal: every verb of test/cluster/fault does what it says to the metric that an operator would look at,
and its undo brings the cluster back to health.
Method: three nodes behind a relay under a small load; one fault after another, each with the series
that must show it, then the undo and a wait until all nodes are healthy in everybody's eyes."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cluster"))
import state  # noqa: E402
from testbed import HERE, Checks, Testbed, free_ports, load_stubs, wait_for  # noqa: E402

BUILD = os.environ.get("B", "build")
MISSING = 77
check = Checks()


def mended(bed, name, *undo):
    """The undo, and then health."""
    code, words = bed.fault(*undo) if undo else (0, "")
    good = code == 0 and wait_for(bed.settled, 25)
    return check(good, name, (code, words, [(n.metrics().of("node_up"), n.metrics().of("raft_has_leader"), n.metrics().of("cluster_nodes_healthy"),
                                             n.metrics().of("peer_connections_active"), n.words(300)) for n in bed.nodes]))


def breaks(bed, name, *words):
    """False: it is skipped or has failed, and nothing is to be looked for."""
    code, said = bed.fault(*words)
    if code == MISSING:
        check.skip(name, said.strip())
        return False
    return check(code == 0, name, (code, said))


def mean(node, before, family, **labels):
    now = node.metrics()
    n = now.total(family + "_count", **labels) - before.total(family + "_count", **labels)
    return (now.total(family + "_sum", **labels) - before.total(family + "_sum", **labels)) / n if n else 0


def mean_of_new(node, family, n=5, seconds=20, **labels):
    """The mean of at least `n` observations that are made from now on."""
    before = node.metrics()
    wait_for(lambda: node.metrics().total(family + "_count", **labels) >= before.total(family + "_count", **labels) + n, seconds)
    return mean(node, before, family, **labels)


def has_state(node, wanted):
    m = node.metrics()
    return m.of("node_up") == 0 and m.of(f'node_state{{state="{wanted}"}}') == 1 and node.get("/health")[0] == 503


def followers_of(bed):
    leader = wait_for(bed.leader)
    return leader, [n for n in bed.nodes if n is not leader]


def others_miss(bed, node):
    return all(n.of("cluster_nodes_healthy") == 2 for n in bed.nodes if n is not node)


# ---- processes -----------------------------------------------------------------------------------------
def test_freeze(bed):
    node = followers_of(bed)[1][0]
    if breaks(bed, "freeze a node", "freeze", node.number):
        check(wait_for(lambda: others_miss(bed, node), 5), "frozen: the others miss it within the election timeout")
        check(wait_for(lambda: has_state(node, "hung"), 8), "frozen: its agent says that it is hung", node.get("/health"))
        mended(bed, "thawed: all is well", "thaw", node.number)


def test_heartbeat(bed):
    node = followers_of(bed)[1][0]
    if not breaks(bed, "stop the heartbeat of a node", "stop-heartbeat", node.number):
        return
    check(wait_for(lambda: has_state(node, "hung"), 8), "without heartbeat: hung", node.get("/health"))
    with open(f"/proc/{node.entry()['pid']}/task/{node.entry()['pid']}/stat") as f:
        loop = f.read().rpartition(")")[2].split()[0]
    rest = set()
    for tid in os.listdir(f"/proc/{node.entry()['pid']}/task"):
        with open(f"/proc/{node.entry()['pid']}/task/{tid}/stat") as f:
            rest.add(f.read().rpartition(")")[2].split()[0] if int(tid) != node.entry()["pid"] else "S")
    check(loop == "t" and not rest & {"t", "T"}, "but its other threads run", (loop, rest))
    check(bed.fault("stop-heartbeat", node.number)[0] == 1, "twice is refused")
    mended(bed, "with its heartbeat again all is well", "resume-heartbeat", node.number)


def test_kill(bed):
    node, rest = followers_of(bed)
    before = [n.of("raft_leader_changes_total") for n in rest]
    if breaks(bed, "kill the leader", "kill", "leader"):
        check(wait_for(lambda: has_state(node, "dead"), 8), "killed: its agent says that it is dead", node.get("/health"))
        check(wait_for(lambda: all(n.of("peer_connections_active") == 1 for n in rest), 8), "killed: the others have lost a connection")
        check(wait_for(lambda: all(n.of("raft_leader_changes_total") > b for n, b in zip(rest, before)), 10), "and have a new leader")
        check(bed.fault("freeze", node.number)[0] == 1, "what does not run cannot be frozen")
        mended(bed, "started: all is well", "start", node.number)
        check(bed.fault("start", node.number)[0] == 1, "what runs cannot be started")


def test_quorum(bed):
    leader = wait_for(bed.leader)
    before = leader.metrics().total("raft_proposals_failed_total")
    if breaks(bed, "lose the quorum", "lose-quorum"):
        check(wait_for(lambda: leader.of("raft_has_leader") == 0 and leader.of("cluster_nodes_healthy") == 1, 10), "no quorum: no leader")
        check(wait_for(lambda: leader.metrics().total("raft_proposals_failed_total") > before + 5, 15), "no quorum: proposals fail")
        mended(bed, "with the others again all is well", "restore-quorum")


def test_flapping(bed):
    before = [n.of("raft_leader_changes_total") for n in bed.nodes]
    if breaks(bed, "let the leader flap", "leader-flap", 2):
        check(all(n.of("raft_leader_changes_total") >= b + 2 for n, b in zip(bed.nodes, before)), "flapping: leader changes are counted",
              ([n.of("raft_leader_changes_total") for n in bed.nodes], before))
        mended(bed, "after the flapping all is well")


# ---- the network ------------------------------------------------------------------------------------------
def test_isolation(bed):
    node = followers_of(bed)[1][0]
    before = node.metrics().total("peer_reconnect_attempts_total")
    if not breaks(bed, "isolate a node", "isolate", node.number):
        return
    check(wait_for(lambda: node.of("raft_has_leader") == 0 and node.of("cluster_nodes_healthy") == 1 and others_miss(bed, node), 8),
          "isolated: it is alone in its own eyes, and missing in the others'")
    check(node.of("node_up") == 1, "but its node is up, says its agent")
    check(wait_for(lambda: node.of("peer_connections_active") == 0 and node.metrics().total("peer_reconnect_attempts_total") > before, 12),
          "isolated: its connections are gone, and it dials again")
    mended(bed, "healed: all is well", "heal", node.number)


def test_slow_net(bed):
    leader, (node, _) = followers_of(bed)
    if not breaks(bed, "slow the network of a node", "slow-net", node.number, 40):
        return
    slow = mean_of_new(leader, "peer_round_trip_time_seconds", peer=node.number)
    check(slow > 0.04, "slow network: heartbeats to it take that long", slow)
    mended(bed, "fast again: all is well", "fast-net", node.number)
    check(wait_for(lambda: mean_of_new(leader, "peer_round_trip_time_seconds", peer=node.number) < 0.04, 10), "and heartbeats are quick")


def test_storm(bed):
    before = [n.metrics().total("peer_reconnect_attempts_total") for n in bed.nodes]
    if breaks(bed, "a reconnect storm", "reconnect-storm", 2):
        check(all(n.metrics().total("peer_reconnect_attempts_total") >= b + 4 for n, b in zip(bed.nodes, before)),
              "storm: every node dials again and again", [n.metrics().total("peer_reconnect_attempts_total") for n in bed.nodes])
        mended(bed, "after the storm all is well")


# ---- disks ---------------------------------------------------------------------------------------------------
def test_slow_disk(bed):
    leader = wait_for(bed.leader)
    if not breaks(bed, "slow the disk of the leader", "disk-slow", "leader", 60):
        return
    slow = mean_of_new(leader, "storage_write_duration_seconds", table="raft_log")
    check(slow > 0.06, "slow disk: writes of the log take that long", slow)
    mended(bed, "fast again: all is well", "disk-fast", leader.number)
    check(wait_for(lambda: mean_of_new(leader, "storage_write_duration_seconds", table="raft_log") < 0.06, 10), "and writes are quick")


def test_full_disk(bed):
    node = followers_of(bed)[1][0]
    if not breaks(bed, "fill the disk of a node", "disk-full", node.number):
        return
    check(wait_for(lambda: node.of('storage_errors_total{op="write"}') > 2, 20), "full disk: failed writes are counted", node.words(400))
    check(node.of("node_up") == 1, "and the node lives")
    mended(bed, "with room again all is well", "disk-free", node.number)
    errors = node.of('storage_errors_total{op="write"}')
    index = node.of("raft_applied_index")
    check(wait_for(lambda: node.of("raft_applied_index") > index + 20, 10) and node.of('storage_errors_total{op="write"}') == errors,
          "and it goes on without further errors", (errors, node.words(300)))


def test_failing_disk(bed):
    node = followers_of(bed)[1][1]
    if not breaks(bed, "let the disk of a node fail", "disk-fail", node.number):
        return
    check(wait_for(lambda: node.of('storage_errors_total{op="sync"}') > 0, 10), "failing disk: failed syncs are counted", node.words(400))
    check(wait_for(lambda: node.of("node_up") == 0, 10), "and the node gives up, rather than lose anything", node.words(400))
    mended(bed, "mended and started: all is well", "disk-mend", node.number)


# ---- VMs and images ---------------------------------------------------------------------------------------------
def test_vms(bed):
    node = wait_for(lambda: next((n for n in bed.nodes if n.of("vms_running") > 0), None), 15)
    if not check(node, "a node has VMs"):
        return
    before = node.of("vm_recoveries_total")
    if breaks(bed, "crash its VMs", "crash-vms", node.number):
        check(wait_for(lambda: node.of("vm_recoveries_total") > before, 8), "crashed VMs are recovered, and counted")
        check(wait_for(lambda: node.of("vms_unhealthy") == 0, 15), "and none stays unhealthy", node.of("vms_unhealthy"))


def test_capacity(bed):
    node = followers_of(bed)[1][0]
    before = node.of("node_vcpus_capacity")
    if breaks(bed, "let a node refuse capacity", "refuse-capacity", node.number):
        check(wait_for(lambda: node.of("node_up") == 1 and bed.settled() and node.of("node_vcpus_capacity") == 0 < before, 20),
              "it has no vCPU to give", node.of("node_vcpus_capacity"))
        check(bed.fault("refuse-capacity", node.number)[0] == 1, "twice is refused")
        mended(bed, "granted: all is well", "grant-capacity", node.number)
        check(wait_for(lambda: node.of("node_vcpus_capacity") == before, 10), "and it has what it had", node.of("node_vcpus_capacity"))


def test_chunk(bed):
    stubs = load_stubs(bed.dir)
    if not stubs:
        check.skip("corrupt a chunk of an image", "python3-grpc-tools is not installed")
        return
    grpc, pb, service = stubs
    giver, taker = bed.nodes[0], bed.nodes[1]
    channels = [grpc.insecure_channel(n.target, options=[("grpc.enable_http_proxy", 0)]) for n in (giver, taker)]
    give, take = [service.ClusterStub(c) for c in channels]

    def fetch():
        try:
            take.GetVmImage(pb.GetVmImageRequest(name="fault", peer=giver.target), timeout=20)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name

    data = os.urandom(200000)
    give.ShareVmImage(pb.ShareVmImageRequest(name="fault", data=data), timeout=20)
    before = sum(n.of("p2p_verifications_failed_total") for n in bed.nodes)
    if breaks(bed, "corrupt a chunk of an image", "corrupt-chunk", giver.number, hashlib.sha256(data).hexdigest()):
        code = fetch()
        check(code not in ("OK", "INTERNAL"), "an image with a corrupt chunk is not taken", code)
        check(wait_for(lambda: sum(n.of("p2p_verifications_failed_total") for n in bed.nodes) > before, 5), "and a failed verification is counted")
        give.ShareVmImage(pb.ShareVmImageRequest(name="fault", data=data), timeout=20)
        check(fetch() == "OK", "shared again it is")
    for channel in channels:
        channel.close()


# ---- calls ----------------------------------------------------------------------------------------------------------
def test_rejected_calls(bed):
    stubs = load_stubs(bed.dir)
    if not stubs:
        check.skip("reject calls of a method", "python3-grpc-tools is not installed")
        return
    grpc, pb, service = stubs
    node, other = bed.nodes[0], bed.nodes[1]
    channel = grpc.insecure_channel(node.target, options=[("grpc.enable_http_proxy", 0)])
    failed = 'grpc_requests_failed_total{method="GetP2pStatus",code="UNAVAILABLE"}'

    def call():
        try:
            service.ClusterStub(channel).GetP2pStatus(pb.GetP2pStatusRequest(), timeout=10)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name

    before = [n.of(failed) for n in (node, other)]
    if breaks(bed, "reject one call of four of a method", "rpc-reject", node.number, "GetP2pStatus", "UNAVAILABLE", 25):
        codes = [call() for _ in range(40)]
        check(codes.count("UNAVAILABLE") == 10 and codes.count("OK") == 30, "rejected calls: exactly that share has that code", codes)
        check(wait_for(lambda: node.of(failed) == before[0] + 10, 5) and other.of(failed) == before[1],
              "rejected calls: failures by code are counted, on that node", (node.of(failed), other.of(failed), before))
        mended(bed, "served again: all is well", "rpc-mend", node.number)
        check({call() for _ in range(20)} == {"OK"} and node.of(failed) == before[0] + 10, "and no call is rejected")
    if breaks(bed, "reject all calls of clients", "rpc-reject", node.number, "*", "RESOURCE_EXHAUSTED"):
        check(call() == "RESOURCE_EXHAUSTED" and wait_for(
            lambda: node.of('grpc_requests_failed_total{method="ProposeTask",code="RESOURCE_EXHAUSTED"}') > 0, 5), "all of them fail, those of the load, too")
        check(bed.settled(), "but what nodes say to each other passes")
        check(bed.fault("rpc-reject", node.number, "*", "NONSENSE")[0] == 2, "a code that does not exist is refused by the node")
        mended(bed, "served again: all is well again", "undo")
        check(call() == "OK", "and calls are served")
    channel.close()


def test_slow_calls(bed):
    node = bed.nodes[2]
    duration = "grpc_request_duration_seconds"
    if breaks(bed, "slow the calls of a method", "rpc-slow", node.number, "HealthCheck", 150):
        slow = mean_of_new(node, duration, n=3, method="HealthCheck")
        check(slow >= 0.15, "slow calls: that is how long they take", slow)
        check(mean_of_new(node, duration, n=3, method="ListVms") < 0.15, "slow calls: those of other methods do not")
        mended(bed, "quick again: all is well", "rpc-mend", node.number)
        check(wait_for(lambda: mean_of_new(node, duration, n=3, method="HealthCheck") < 0.15, 20), "and calls are quick")


# ---- the program itself --------------------------------------------------------------------------------------------
def test_undo(bed):
    codes = [bed.fault(*words)[0] for words in (("freeze", 1), ("isolate", 2), ("kill", 3))]
    code, said = bed.fault("status")
    check(codes == [0, 0, 0] and code == 0 and all(f"in force: {w}" in said for w in ("freeze node 1", "isolate node 2", "kill node 3"))
          and "node 3  does not run" in said, "status says what is in force", (codes, said))
    mended(bed, "undo undoes everything", "undo")
    check("in force" not in bed.fault("status")[1], "and then nothing is")


def test_words(bed):
    for words in (["explode", "1"], ["kill"], ["kill", "9"], ["kill", "1", "2"], ["slow-net", "1", "-5"], ["slow-net", "1"], ["lose-quorum", "1"], ["rpc-reject", "1", "CreateVm"],
                  ["rpc-reject", "1", "CreateVm", "OK"], ["rpc-reject", "1", "CreateVm", "INTERNAL", "101"], ["rpc-slow", "1", "a b", "5"],
                  ["corrupt-chunk", "1", "../x"]):
        code, said = bed.fault(*words)
        check(code == 2 and said.startswith("fault: ") and len(said.splitlines()) == 1, f"{' '.join(words)} is refused in one line", (code, said))
    s = bed.state()
    s["relay"] = None
    other = os.path.join(bed.dir, "other.json")
    state.write(other, s)
    out = subprocess.run([sys.executable, os.path.join(HERE, "fault"), "--state", other, "isolate", "1"], capture_output=True, text=True, timeout=20)
    check(out.returncode == MISSING and "relay" in out.stderr, "what cannot be done here is 77, and named", (out.returncode, out.stderr))
    out = subprocess.run([sys.executable, os.path.join(HERE, "fault"), "--state", other + ".no", "status"], capture_output=True, text=True, timeout=20)
    check(out.returncode == 1 and "No such file" in out.stderr, "a missing state file is named", (out.returncode, out.stderr))
    out = subprocess.run([sys.executable, os.path.join(HERE, "fault"), "--help"], capture_output=True, text=True, timeout=20)
    check(out.returncode == 0 and "stop-heartbeat NODE" in out.stdout, "--help helps")


def free_base():
    """A port whose next two, and the three 1000 and 2000 above, are free."""
    def free(port):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            return s.connect_ex(("127.0.0.1", port)) != 0
    return next(base for base in range(23001, 29000, 10) if all(free(base + i + k) for i in range(3) for k in (0, 1000, 2000)))


def test_demo(bed):
    """The demo, too, writes a state file; what was started through it is gone with the demo."""
    if not os.access(os.path.join(BUILD, "tools/usr/bin/prometheus"), os.X_OK):
        check.skip("the demo with DEMO_STATE", "Prometheus is not unpacked; run make deps")
        return
    path, shm = os.path.join(bed.dir, "demo.json"), os.path.join(bed.shm, "demo")
    env = dict(os.environ, DEMO_STATE=path, DEMO_GRPC_PORT=str(free_base()), DEMO_PROMETHEUS_PORT=str(free_ports(1)[0]), DEMO_SHM_PREFIX=shm)
    pids = []
    with open(os.path.join(bed.dir, "demo.out"), "w") as out:
        demo = subprocess.Popen([sys.executable, os.path.join(HERE, "demo.py"), "--build", BUILD], stdout=out, stderr=out, env=env)

        def words():
            with open(out.name) as said:
                return said.read()

        def fault(*words):
            done = subprocess.run([os.path.join(HERE, "fault"), *words], capture_output=True, text=True, timeout=30, env=env)
            return done.stdout + done.stderr

        try:
            if not check(wait_for(lambda: f"fault --state {path}" in words() and fault("status").count("healthy members 3") == 3, 40),
                         "the demo with DEMO_STATE is healthy", words()):
                return
            fault("kill", "2")
            check(wait_for(lambda: fault("status").count("healthy members 2") == 2, 10), "a fault shows in its status", fault("status"))
            fault("start", "2")
            check(wait_for(lambda: fault("status").count("healthy members 3") == 3, 20), "and is undone", fault("status"))
            pids = [n["pid"] for n in state.read(path)["nodes"]]
        finally:
            demo.terminate()
            code = demo.wait(30)
        check(code == 0 and not any(state.is_running(p) for p in pids) and not os.path.exists(path), "the demo leaves nothing behind",
              (code, words()[-500:]))


def main():
    for name in ("blixard-node", "blixard-agent", "blixard-load"):
        if not os.access(os.path.join(BUILD, name), os.X_OK):
            print(f"{BUILD}/{name} is not built")
            return 77
    bed = Testbed(BUILD, agent_extra=("--stale-after", "2"))
    load = None
    try:
        if not check(wait_for(bed.settled, 30), "three nodes are one cluster", [n.words() for n in bed.nodes]):
            return check.end()
        load = subprocess.Popen([os.path.join(BUILD, "blixard-load"), "--rate", "60", "--seconds", "600", "--timeout-ms", "3000",
                                 *(w for n in bed.nodes for w in ("--target", n.target))], stdout=subprocess.DEVNULL)
        for test in (test_freeze, test_heartbeat, test_kill, test_quorum, test_flapping, test_isolation, test_slow_net, test_storm,
                     test_slow_disk, test_vms, test_capacity, test_chunk, test_rejected_calls, test_slow_calls, test_full_disk, test_failing_disk, test_undo, test_words,
                     test_demo):
            started = time.monotonic()
            if not wait_for(bed.settled, 20):
                check(False, f"{test.__name__} begins with a healthy cluster", [n.words(300) for n in bed.nodes])
                break
            test(bed)
            print(f"# {test.__name__} {time.monotonic() - started:.1f} s", flush=True)
        check(load.poll() is None, "the load has outlived it all")
        load.send_signal(signal.SIGINT)
        check(load.wait(timeout=20) == 0, "and ends well")
    finally:
        if load and load.poll() is None:
            load.kill()
            load.wait()
        bed.close()
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
