#!/usr/bin/env python3
# timeout: 150 s
"""Goal: the reference cluster runs VMs as an orchestrator does, and its telemetry files tell the truth of it.
Method: three nodes; a gRPC client creates, starts, stops and deletes VMs, which are processes that can be
found, looked at, frozen and killed from outside; counters are read with shm_dump and compared with what was
done. Then the leader is killed and started again, and at last the nodes' own load is let loose."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cluster"))
from testbed import Checks, free_ports, load_stubs, wait_for  # noqa: E402

try:
    import grpc
except ImportError as missing:
    print(f"{missing.name} is not installed")
    sys.exit(77)

BUILD = os.environ.get("B", "build")
NODE = os.path.join(BUILD, "blixard-node")
DUMP = os.path.join(BUILD, "test/support/bin/shm_dump")
MIB = 1 << 20
TIB = 1 << 40
CAPACITY = {"vcpus": 8, "memory_bytes": 8 * TIB, "disk_bytes": 1024 * MIB}

check = Checks()
pb = stubs = None


class Node:
    def __init__(self, directory, shm, number, ports, *options):
        self.number, self.port, self.first_port = number, ports[number - 1], ports[0]
        self.shm = os.path.join(shm, f"blix{number}")
        self.data = os.path.join(directory, f"data{number}")
        self.log = os.path.join(directory, f"node{number}.log")
        self.options = options
        self.process = None
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[("grpc.enable_http_proxy", 0),
                                                                               ("grpc.initial_reconnect_backoff_ms", 100),
                                                                               ("grpc.max_reconnect_backoff_ms", 500)])
        self.stub = stubs.ClusterStub(self.channel)

    def start(self, join):
        command = [NODE, "--id", str(self.number), "--bind", f"127.0.0.1:{self.port}", "--shm", self.shm,
                   "--data", self.data, *self.options]
        if join:
            command += ["--join", f"127.0.0.1:{self.first_port}"]
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(command, stderr=log)

    def words(self):
        with open(self.log) as log:
            return log.read()[-600:]

    def dump(self):
        out = subprocess.run([DUMP, self.shm], capture_output=True, text=True, timeout=10)
        return {k: float(v) for k, _, v in (l.rpartition(" ") for l in out.stdout.splitlines() if not l.startswith("#"))}

    def of(self, name):
        return self.dump().get("blixard_" + name, 0)

    def ask(self, method, **fields):
        """(code, reply or what the server says)."""
        try:
            return "OK", getattr(self.stub, method)(getattr(pb, method + "Request")(**fields), timeout=10)
        except grpc.RpcError as error:
            return error.code().name, error.details()

    def create(self, name, vcpus=1, memory=16 * MIB, disk=4 * MIB, **more):
        return self.ask("CreateVm", name=name, request=pb.VmRequest(
            needs=pb.VmResources(vcpus=vcpus, memory_bytes=memory, disk_bytes=disk), **more))[0]

    def placement(self, vcpus=1, memory=16 * MIB, disk=4 * MIB, **more):
        return self.ask("ScheduleVmPlacement", request=pb.VmRequest(
            needs=pb.VmResources(vcpus=vcpus, memory_bytes=memory, disk_bytes=disk), **more))

    def vm(self, name):
        code, reply = self.ask("GetVmStatus", name=name)
        return reply.vm if code == "OK" else None

    def is_in(self, name, status):
        vm = self.vm(name)
        return vm if vm and vm.status == status else None

    def vms(self):
        code, reply = self.ask("ListVms")
        return {v.name: v for v in reply.vms} if code == "OK" else {}


def processes():
    """Children that run a VM: pid by (pid of the node, name)."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
            state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if len(words) > 5 and words[1:3] == [b"vm-child", b"run"] and state != "Z":
            found[(int(words[4]), words[3].decode())] = int(pid)
    return found


def process_of(node, name):
    return processes().get((node.process.pid, name))


def settled(nodes):
    dumps = [n.dump() for n in nodes]
    return (sum(d.get("blixard_raft_is_leader", 0) for d in dumps) == 1
            and all(d.get("blixard_cluster_nodes") == 3 for d in dumps)
            and all(d.get("blixard_cluster_nodes_healthy") == len(nodes) for d in dumps))


def leader_of(nodes):
    leaders = [n for n in nodes if n.of("raft_is_leader") == 1]
    return leaders[0] if len(leaders) == 1 else None


def holder(nodes, name):
    vm = nodes[0].vm(name)
    return next((n for n in nodes if vm and n.number == vm.node_id), None)


def total(nodes, name):
    return sum(n.of(name) for n in nodes)


def sum_of(node, family):
    return sum(v for k, v in node.dump().items() if re.match(rf"blixard_{family}(\{{|$)", k))


# ---- the cases -------------------------------------------------------------------------------------
def test_create(nodes):
    names = [f"vm{i}" for i in range(6)]
    codes = [nodes[i % 3].create(name, strategy="spread_across_failure_domains", priority=5) for i, name in enumerate(names)]
    check(codes == ["OK"] * 6, "VMs are created through any node", codes)
    check(wait_for(lambda: all(nodes[0].is_in(n, "running") for n in names)), "and all come to run", nodes[0].vms())
    check(wait_for(lambda: [n.of("vms_running") for n in nodes] == [2, 2, 2]) and [n.of("vms") for n in nodes] == [2, 2, 2],
          "spread: two on each node", [n.of("vms_running") for n in nodes])
    for name in ("vm_create_total", "vm_create_duration_seconds_count", "vm_start_total", "vm_start_duration_seconds_count"):
        check([n.of(name) for n in nodes] == [2, 2, 2], f"{name} counts them", [n.of(name) for n in nodes])
    d = nodes[0].dump()
    mean = d["blixard_vm_start_duration_seconds_sum"] / d["blixard_vm_start_duration_seconds_count"]
    check(mean > 100_000, "a start takes a real while", mean)
    check(total(nodes, "vm_create_failed_total") + total(nodes, "vm_start_failed_total") == 0, "and none fails")
    check([n.of("node_vcpus_allocated") for n in nodes] == [2, 2, 2]
          and [n.of("node_memory_allocated_bytes") for n in nodes] == [32 * MIB] * 3
          and [n.of("node_disk_allocated_bytes") for n in nodes] == [8 * MIB] * 3
          and all(n.of(f"node_{k.replace('_bytes', '')}_capacity{'_bytes' if 'bytes' in k else ''}") == v
                  for n in nodes for k, v in CAPACITY.items()),
          "capacity and allocation of each node", {k: v for k, v in d.items() if "blixard_node_" in k})
    check(wait_for(lambda: [sorted(n.vms()) for n in nodes] == [names] * 3), "every node lists them all")
    code, reply = nodes[1].ask("GetClusterResourceSummary")
    check(code == "OK" and [(n.node_id, n.vms, n.healthy, n.allocated.vcpus) for n in reply.nodes]
          == [(1, 2, True, 2), (2, 2, True, 2), (3, 2, True, 2)] and reply.waiting == 0, "GetClusterResourceSummary", reply)


def test_process(nodes):
    node = holder(nodes, "vm0")
    pid = process_of(node, "vm0")
    if not check(pid, "a VM is a process", processes()):
        return
    limits = open(f"/proc/{pid}/limits").read()
    check(os.getsid(pid) == pid and all(re.search(rf"{what} +\d+ +\d+", limits) for what in
                                        ("Max address space", "Max cpu time", "Max file size", "Max open files")),
          "in a session of its own, with limits", limits)
    descriptors = {os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd")}
    check(not any(word in d for d in descriptors for word in ("blix1", "eventpoll", "LOCK", "segment")),
          "which has none of the node's files", descriptors)
    before = [n.of("vm_health_checks_total") for n in nodes]
    check(wait_for(lambda: all(n.of("vm_health_checks_total") >= b + 4 for n, b in zip(nodes, before))),
          "VMs are asked for their health", before)
    check(total(nodes, "vm_health_checks_failed_total") == 0 == total(nodes, "vms_unhealthy"), "and all are well")


def test_crash(nodes):
    node = holder(nodes, "vm1")
    pid, starts, changes = process_of(node, "vm1"), node.of("vm_start_total"), node.of("vm_status_changes_total")
    os.kill(pid, signal.SIGKILL)
    check(wait_for(lambda: nodes[0].vm("vm1").restarts == 1 and nodes[0].is_in("vm1", "running")),
          "a VM that crashed is recovered", nodes[0].vm("vm1"))
    check(process_of(node, "vm1") not in (None, pid), "in a new process")
    check([n.of("vm_recoveries_total") for n in nodes] == [1 if n is node else 0 for n in nodes]
          and total(nodes, "vm_recoveries_failed_total") == 0, "which its node counts as a recovery",
          [n.of("vm_recoveries_total") for n in nodes])
    check(node.of("vm_start_total") == starts, "not as a start")
    check(node.of("vm_status_changes_total") == changes + 3, "running, failed, starting, running: three changes",
          node.of("vm_status_changes_total") - changes)
    pid = process_of(node, "vm1")
    os.kill(pid, signal.SIGSTOP)
    check(wait_for(lambda: node.of("vms_unhealthy") == 1), "a frozen VM shows as unhealthy")
    check(wait_for(lambda: nodes[0].vm("vm1").restarts == 2 and nodes[0].is_in("vm1", "running"), 20),
          "and is killed and recovered", nodes[0].vm("vm1"))
    check(node.of("vm_health_checks_failed_total") == 3 and wait_for(lambda: node.of("vms_unhealthy") == 0),
          "after three failed checks, and no more", node.of("vm_health_checks_failed_total"))


def test_stop_start(nodes):
    node = holder(nodes, "vm2")
    client = nodes[node.number % 3]  # another one
    check(client.ask("StopVm", name="vm2")[0] == "OK" and wait_for(lambda: client.is_in("vm2", "stopped")),
          "a VM is stopped", client.vm("vm2"))
    check(not process_of(node, "vm2") and node.of("vm_stop_total") == 1 and node.of("vm_stop_failed_total") == 0
          and wait_for(lambda: node.of("vms_running") == 1) and node.of("vms") == 2 and node.of("vms_unhealthy") == 0,
          "its process is gone, its place is kept")
    starts = node.of("vm_start_total")
    check(client.ask("StartVm", name="vm2")[0] == "OK" and wait_for(lambda: client.is_in("vm2", "running")),
          "and started again", client.vm("vm2"))
    check(node.of("vm_start_total") == starts + 1 and node.of("vm_create_total") == 2, "which is a start, not a create")
    os.kill(process_of(node, "vm2"), signal.SIGSTOP)
    client.ask("StopVm", name="vm2")
    check(wait_for(lambda: client.is_in("vm2", "stopped")) and not process_of(node, "vm2")
          and node.of("vm_stop_total") == 2 and node.of("vm_stop_failed_total") == 1,
          "one that does not stop is killed, and that is a failed stop", client.vm("vm2"))
    disks = os.listdir(os.path.join(node.data, "vms"))
    check(client.ask("DeleteVm", name="vm2")[0] == "OK" and wait_for(lambda: not client.vm("vm2")), "a VM is deleted")
    check(node.of("vm_delete_total") == 1 and node.of("vm_delete_failed_total") == 0
          and len(os.listdir(os.path.join(node.data, "vms"))) == len(disks) - 1 and wait_for(lambda: node.of("vms") == 1),
          "with its disk", disks)
    check(client.create("vm2", strategy="manual", node_id=node.number, priority=5) == "OK" and wait_for(lambda: client.is_in("vm2", "running")),
          "its name can be used again")


def test_failures(nodes):
    node = nodes[0]
    at_home = {"strategy": "manual", "node_id": 1}
    directory = os.path.join(node.data, "vms")
    os.rename(directory, directory + "-away")
    before = node.of("vm_create_total")
    node.create("homeless", **at_home)
    check(wait_for(lambda: node.of("vm_create_failed_total") >= 1) and wait_for(lambda: node.is_in("homeless", "failed")),
          "without a place for its disk a VM cannot be created", node.vm("homeless"))
    os.rename(directory + "-away", directory)
    check(wait_for(lambda: node.is_in("homeless", "running")), "with one again it is", node.vm("homeless"))
    check(node.of("vm_create_total") - before == node.of("vm_create_failed_total") + 1, "each attempt is counted")
    if open("/proc/sys/vm/overcommit_memory").read().strip() == "1":
        check.skip("a VM that wants more memory than there is", "this kernel promises any amount of memory")
    else:
        node.create("fat", memory=4 * TIB, **at_home)
        check(wait_for(lambda: node.of("vm_start_failed_total") == 1) and wait_for(lambda: node.of("vm_recoveries_failed_total") >= 1),
              "a VM that wants more memory than there is fails to start, and to be recovered", node.words())
        check(wait_for(lambda: node.is_in("fat", "failed")) and node.of("vms_unhealthy") == 1, "and shows as failed and unhealthy")
    for name in ("homeless", "fat"):
        node.ask("DeleteVm", name=name)
    check(wait_for(lambda: not node.vm("homeless") and not node.vm("fat")), "both can be deleted", node.vms())


def test_placement(nodes, leader):
    def attempts():
        return sum_of(leader, "vm_placement_attempts_total")

    def why(strategy, reason):
        return leader.of(f'vm_placement_failures_total{{strategy="{strategy}",reason="{reason}"}}')

    nodes[1].create("giant", vcpus=100, strategy="round_robin")
    check(wait_for(lambda: leader.of("vm_placement_pending") == 1 and why("round_robin", "vcpus") >= 2),
          "a VM that fits nowhere waits, and each try is counted with its reason", leader.dump())
    check(sum(n.of("vm_placement_pending") for n in nodes) == 1, "by the leader alone")
    vm = nodes[1].vm("giant")
    check(vm.status == "creating" and vm.node_id == 0, "it has no node", vm)
    check(nodes[1].ask("DeleteVm", name="giant")[0] == "OK" and wait_for(lambda: leader.of("vm_placement_pending") == 0),
          "deleted, it waits no more")
    before = attempts()
    answers = {
        "vcpus": leader.placement(vcpus=9),
        "memory": leader.placement(memory=8 * TIB),
        "disk": leader.placement(disk=1024 * MIB, strategy="least_available"),
        "constraint": leader.placement(strategy="manual", node_id=9),
    }
    check(all(answer == ("RESOURCE_EXHAUSTED", reason) for reason, answer in answers.items()), "each reason has its name", answers)
    check(why("most_available", "vcpus") == why("most_available", "memory") == why("least_available", "disk")
          == why("manual", "constraint") == 1 and attempts() == before + 4, "and is counted where it was asked")
    code, reply = leader.placement(strategy="manual", node_id=2)
    check(code == "OK" and reply.node_id == 2 and not reply.displaced, "where there is room, the answer is a node", reply)
    check(sum_of(leader, "vm_placement_duration_seconds_count") == attempts(), "decisions are timed")


def test_preemption(nodes, leader):
    for i in range(3):
        leader.create(f"low{i}", vcpus=6, priority=1, strategy="spread_across_failure_domains")
    check(wait_for(lambda: all(leader.is_in(f"low{i}", "running") for i in range(3))), "low ones take their places")
    code, reply = leader.placement(vcpus=5, priority=5)
    check(code == "OK" and re.fullmatch(r"low\d", ",".join(reply.displaced)), "a higher one would displace one of them", (code, reply))
    check(leader.placement(vcpus=5, priority=0)[0] == "RESOURCE_EXHAUSTED", "a lower one would not")
    node = nodes[0] if leader.number != 1 else nodes[1]
    leader.create("high", vcpus=6, priority=9, strategy="manual", node_id=node.number)
    check(wait_for(lambda: leader.is_in("high", "running")), "a high one runs", leader.vms())
    displaced = {n for n, v in leader.vms().items() if v.node_id == 0}
    check(len(displaced) == 1 == leader.of("vm_preemptions_total") and total(nodes, "vm_preemptions_total")
          == leader.of("vm_preemptions_total"), "who had to make room is counted", (displaced, leader.of("vm_preemptions_total")))
    check(leader.of("vm_placement_pending") == len(displaced), "and waits")
    check(wait_for(lambda: not any(process_of(node, n) for n in displaced)), "its process is gone")
    leader.ask("DeleteVm", name="high")
    check(wait_for(lambda: all(v.status == "running" for v in leader.vms().values()) and leader.of("vm_placement_pending") == 0, 25),
          "with room again it runs again", leader.vms())
    for i in range(3):
        leader.ask("DeleteVm", name=f"low{i}")
    check(wait_for(lambda: not any(n.startswith("low") for n in leader.vms())), "the low ones can go")


def request(vcpus=1, memory=16 * MIB, disk=4 * MIB, **more):
    return pb.VmRequest(needs=pb.VmResources(vcpus=vcpus, memory_bytes=memory, disk_bytes=disk), **more)


def erase(nodes, *names):
    for name in names:
        nodes[0].ask("DeleteVm", name=name)
    check(wait_for(lambda: not set(names) & set(nodes[0].vms())), f"{', '.join(names)}: deleted again", nodes[0].vms().keys())


def test_scheduling(nodes):
    """Every strategy of the catalogue, and the answer says where the VM has gone."""
    leader = leader_of(nodes)
    strategies = ["most_available", "least_available", "round_robin", "manual", "priority_based", "locality_aware",
                  "spread_across_failure_domains", "cost_optimised"]
    name_of = {s: "s-" + s.replace("_", "-") for s in strategies}
    before = {s: leader.of(f'vm_placement_attempts_total{{strategy="{s}"}}') for s in strategies}
    told, seen = {}, {}
    for i, s in enumerate(strategies):
        more = {"node_id": 2} if s == "manual" else {}
        code, reply = nodes[i % 3].ask("CreateVmWithScheduling", name=name_of[s], request=request(strategy=s, **more))
        vm = nodes[i % 3].vm(name_of[s])
        told[s], seen[s] = (code, reply.node_id if code == "OK" else reply), (code, vm.node_id if vm else None)
    check(told == seen and all(code == "OK" and where in (1, 2, 3) for code, where in told.values()),
          "CreateVmWithScheduling tells the node, with every strategy", (told, seen))
    check(told["manual"] == ("OK", 2) and told["locality_aware"] == ("OK", 5 % 3 + 1), "manual and locality_aware have their way", told)
    after = {s: leader.of(f'vm_placement_attempts_total{{strategy="{s}"}}') for s in strategies}
    check(all(after[s] > before[s] for s in strategies), "the leader has counted its decisions by strategy", (before, after))
    check(wait_for(lambda: all(nodes[0].is_in(n, "running") for n in name_of.values())), "and they all run", nodes[0].vms())
    codes = [nodes[0].ask("CreateVmWithScheduling", **fields)[0] for fields in (
        {"name": name_of["manual"], "request": request()}, {"name": "s-giant", "request": request(vcpus=100)},
        {"name": "s-nowhere", "request": request(strategy="manual", node_id=9)}, {"name": "-", "request": request()}, {"name": "s-none"})]
    check(codes == ["ALREADY_EXISTS", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "INVALID_ARGUMENT"]
          and not {"s-giant", "s-nowhere", "s-none"} & set(nodes[0].vms()), "what cannot be placed is not created", codes)
    erase(nodes, *name_of.values())


def test_migration(nodes):
    node = nodes[1]
    check(nodes[0].create("mover", strategy="manual", node_id=1) == "OK" and wait_for(lambda: process_of(nodes[0], "mover")), "a VM runs on node 1")
    created = nodes[2].of("vm_create_total")
    code, reply = node.ask("MigrateVm", name="mover", node_id=3)
    check(code == "OK" and reply.node_id == 3, "MigrateVm moves it to node 3", (code, reply))
    check(wait_for(lambda: process_of(nodes[2], "mover") and not process_of(nodes[0], "mover")), "its process is there, and no longer here", processes())
    check(wait_for(lambda: node.is_in("mover", "running")) and node.vm("mover").node_id == 3 and nodes[2].of("vm_create_total") == created + 1,
          "node 3 has created it, and counts that", nodes[2].of("vm_create_total"))
    check(wait_for(lambda: not [f for f in os.listdir(os.path.join(nodes[0].data, "vms")) if f.startswith("mover-")]), "node 1 has removed its disk")
    code, reply = node.ask("MigrateVm", name="mover")
    check(code == "OK" and reply.node_id in (1, 2) and wait_for(lambda: process_of(nodes[reply.node_id - 1], "mover")), "without a wish it goes to another",
          (code, reply))
    here = node.vm("mover").node_id
    codes = [node.ask("MigrateVm", **fields)[0] for fields in ({"name": "nobody"}, {"name": "mover", "node_id": here}, {"name": "mover", "node_id": 9})]
    check(codes == ["NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"], "what cannot be moved is refused", codes)
    erase(nodes, "mover")


def test_failover(nodes):
    """The last one: a node dies, and its VMs live on elsewhere."""
    leader = leader_of(nodes)
    victim = next(n for n in nodes if n is not leader)
    rest = [n for n in nodes if n is not victim]
    names = ["f0", "f1"]
    for name in names:
        leader.create(name, strategy="locality_aware", node_id=victim.number)
    leader.create("f-manual", strategy="manual", node_id=victim.number)
    check(wait_for(lambda: all(process_of(victim, n) for n in [*names, "f-manual"])), "VMs run on a node", processes())
    begun, failed_ones = leader.of("vm_recoveries_total"), leader.of("vm_recoveries_failed_total")
    lost = [n for n, v in leader.vms().items() if v.node_id == victim.number and v.desired == "running" and v.request.strategy != "manual"]
    victim.process.kill()
    victim.process.wait()
    check(wait_for(lambda: all(leader.is_in(n, "running") and leader.vm(n).node_id != victim.number for n in lost), 30),
          "it is killed: its VMs run on other nodes", leader.vms())
    check(all(any(process_of(n, name) for n in rest) for name in names), "as processes", processes())
    check(leader.of("vm_recoveries_total") == begun + len(lost) and leader.of("vm_recoveries_failed_total") == failed_ones,
          "the leader counts them as recoveries", (leader.of("vm_recoveries_total"), begun, lost))
    check(leader.vm("f-manual").node_id == victim.number, "one that was to live there and nowhere else waits for it")
    victim.start(True)
    check(wait_for(lambda: settled(nodes) and process_of(victim, "f-manual"), 30), "the node comes back, and runs that one", victim.words())
    check(not any(process_of(victim, n) for n in names) and all(leader.vm(n).node_id != victim.number for n in names), "and none of those that went",
          processes())
    check(wait_for(lambda: not [f for f in os.listdir(os.path.join(victim.data, "vms")) if f[:3] in ("f0-", "f1-")]), "and has removed their disks",
          os.listdir(os.path.join(victim.data, "vms")))
    erase(nodes, *names, "f-manual")


def test_bad_input(nodes):
    node = nodes[2]
    before = sum_of(node, "vm_commands_refused_total")
    check(node.create("vm0") == "ALREADY_EXISTS", "a name twice")
    check([node.ask(m, name="nobody")[0] for m in ("StartVm", "StopVm", "DeleteVm", "GetVmStatus")] == ["NOT_FOUND"] * 4,
          "a VM that is not there")
    check(sum_of(node, "vm_commands_refused_total") == before + 4, "what changed nothing is counted",
          sum_of(node, "vm_commands_refused_total") - before)
    bad = [node.create(n) for n in ("", "../../etc/x", "a" * 49, "a b", "-x", "é")]
    bad += [node.create("bad", **f) for f in ({"vcpus": 0}, {"vcpus": 1025}, {"memory": 0}, {"memory": 1 << 62}, {"disk": 1 << 63},
                                             {"priority": 256}, {"strategy": "best"}, {"strategy": "manual"}, {"node_id": 1})]
    bad += [node.ask("CreateVm", name="bad")[0], node.ask("CreateVm", name="bad", request=pb.VmRequest())[0],
            node.ask("ScheduleVmPlacement")[0], node.ask("StopVm", name="")[0], node.ask("DeleteVm", name="x" * 4000)[0]]
    check(set(bad) == {"INVALID_ARGUMENT"} and not node.vm("bad"), "what is out of range is refused", bad)
    codes = [node.create(f"wait{i}", vcpus=100) for i in range(65)]
    check(codes == ["OK"] * 64 + ["RESOURCE_EXHAUSTED"], "only so many may wait", codes[-3:])
    codes = {node.ask("DeleteVm", name=f"wait{i}")[0] for i in range(64)}
    check(codes == {"OK"} and wait_for(lambda: total(nodes, "vm_placement_pending") == 0), "and nothing is left of them", codes)


def test_leader_dies(nodes, leader):
    check(wait_for(lambda: all(v.status == "running" for v in nodes[0].vms().values())), "all is well before", nodes[0].vms())
    before, pids = nodes[0].vms(), processes()
    mine = {name for name, vm in before.items() if vm.node_id == leader.number}
    rest = [n for n in nodes if n is not leader]
    others = {key: pid for key, pid in pids.items() if key[0] in [n.process.pid for n in rest]}
    if not check(mine and len(mine) < len(before), "some VMs are on the leader", (mine, before)):
        return
    check(leader.of("raft_snapshots_total") > 0, "part of what it knows is in a snapshot by now")
    leader.process.kill()
    leader.process.wait()
    check(wait_for(lambda: not any(key[0] == leader.process.pid for key in processes())), "a node's VMs die with it")
    check(wait_for(lambda: settled(rest)), "after kill -9 of the leader the others elect one")
    check(all(wait_for(lambda n=n: {k: (v.node_id, v.desired) for k, v in n.vms().items()}
                       == {k: (v.node_id, v.desired) for k, v in before.items()}) for n in rest), "they know of all VMs")
    check({k: p for k, p in processes().items() if k in others} == others, "and their own never stopped")
    code = rest[0].placement(strategy="manual", node_id=leader.number)
    check(code == ("RESOURCE_EXHAUSTED", "constraint"), "nothing is placed on a node that is down", code)
    disks = os.listdir(os.path.join(leader.data, "vms"))
    with open(os.path.join(leader.data, "vms", "ghost-999999.disk"), "w"), open(os.path.join(leader.data, "vms", "a-note"), "w"):
        pass
    leader.start(False)
    check(wait_for(lambda: settled(nodes), 20) and wait_for(lambda: all(process_of(leader, n) for n in mine), 20),
          "back, it recovers its own", (leader.words(), rest[0].vms()))
    check(wait_for(lambda: all(rest[0].is_in(n, "running") and rest[0].vm(n).restarts == before[n].restarts + 1 for n in mine)),
          "in everybody's eyes", rest[0].vms())
    check(leader.of("vm_recoveries_total") == len(mine) and leader.of("vm_recoveries_failed_total") == 0
          and leader.of("vm_create_total") == 0 == leader.of("vm_start_total"), "and counts that as recoveries",
          (leader.of("vm_recoveries_total"), len(mine)))
    check(sorted(os.listdir(os.path.join(leader.data, "vms"))) == sorted(disks + ["a-note"]),
          "a disk that belongs to nobody is removed, and nothing else", os.listdir(os.path.join(leader.data, "vms")))
    check(wait_for(lambda: leader.of("vms") == leader.of("vms_running") == len(mine)), "its gauges are right again")


def test_stop(nodes):
    for node in nodes:
        node.process.terminate()
    codes = [node.process.wait(timeout=10) for node in nodes]
    check(codes == [0, 0, 0], "SIGTERM ends the nodes", codes)
    pids = {n.process.pid for n in nodes}
    check(wait_for(lambda: not any(key[0] in pids for key in processes())), "and all VMs with them")
    check([n.of("vms_running") for n in nodes] == [0, 0, 0], "and the files say so", [n.of("vms_running") for n in nodes])


def test_load(directory, shm):
    sub = os.path.join(directory, "load")
    os.mkdir(sub)
    ports = free_ports(3)
    nodes = [Node(sub, shm, i, ports, "--load", "50", "--vms", "4", "--capacity", "4:1024:1024") for i in (1, 2, 3)]
    moving = ["vm_create_total", "vm_start_total", "vm_health_checks_total", "vm_status_changes_total", "vms"]
    try:
        for n in nodes:
            n.start(n.number > 1)
        check(wait_for(lambda: all(n.of(name) > 0 for n in nodes for name in moving), 30), "the load's VMs come up on every node",
              [(n.number, name) for n in nodes for name in moving if not n.of(name)])
        check(wait_for(lambda: total(nodes, "vm_stop_total") and total(nodes, "vm_delete_total"), 40), "and are stopped and deleted")
        vms = nodes[0].vms()
        check(0 < len(vms) <= 12 and all(re.fullmatch(r"load-[123]-[0-3]", n) for n in vms), "there are never more than asked for", vms)
    finally:
        end(nodes)


def end(nodes):
    for n in nodes:
        n.channel.close()
        if n.process and n.process.poll() is None:
            n.process.kill()
            n.process.wait()


def run(nodes):
    for n in nodes:
        n.start(n.number > 1)
    if not check(wait_for(lambda: settled(nodes) and len(nodes[0].ask("GetClusterResourceSummary")[1].nodes) == 3, 30),
                 "three nodes are one cluster", [n.words() for n in nodes]):
        return
    test_create(nodes)
    test_process(nodes)
    test_crash(nodes)
    test_stop_start(nodes)
    test_failures(nodes)
    test_placement(nodes, leader_of(nodes))
    test_preemption(nodes, leader_of(nodes))
    test_bad_input(nodes)
    test_scheduling(nodes)
    test_migration(nodes)
    test_failover(nodes)
    test_leader_dies(nodes, leader_of(nodes))
    test_stop(nodes)


def main():
    global pb, stubs
    for program in (NODE, DUMP):
        if not os.access(program, os.X_OK):
            print(f"{program} is not built")
            return 77
    directory = tempfile.mkdtemp(prefix="blix-vms-")
    shm = tempfile.mkdtemp(prefix="blix-vms-", dir="/dev/shm")
    nodes = []
    try:
        found = load_stubs(directory)
        if not found:
            print("python3-grpc-tools is not installed")
            return 77
        _, pb, stubs = found
        ports = free_ports(3)
        nodes = [Node(directory, shm, i, ports, "--capacity", f"8:{8 * TIB // MIB}:1024", "--snapshot-every", "32", "--failover", "3000") for i in (1, 2, 3)]
        run(nodes)
        test_load(directory, shm)
    finally:
        end(nodes)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(shm, ignore_errors=True)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
