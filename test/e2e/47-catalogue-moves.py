#!/usr/bin/env python3
# timeout: 180 s
"""Goal: every metric of the catalogue that a node owns is moved by something that really happens.
Method: three nodes under blixard-load and their own load; then what a quiet cluster never shows is
caused, one thing after another. All the while the agents are read; at the end each family of
`blixard-agent --dump-metrics` with owner node must have been seen other than 0, else it is named."""

import glob
import hashlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cluster"))
try:
    import grpc
    from grpc_tools import protoc
except ImportError:
    print("python3-grpcio or python3-grpc-tools is missing: make deps")
    sys.exit(77)
from testbed import Checks, Testbed, wait_for  # noqa: E402

BUILD = os.environ.get("B", "build")
MIB = 1 << 20
TIB = 1 << 40
LOAD_S, LOAD_RATE = 12, 200
check = Checks()


class Watcher(threading.Thread):
    """Reads all agents several times a second and remembers which families were ever not 0."""

    def __init__(self, bed):
        super().__init__(daemon=True)
        self.bed, self.moved, self.over = bed, set(), threading.Event()

    def run(self):
        while not self.over.wait(0.1):
            for node in self.bed.nodes:
                for key, value in node.metrics().items():
                    if value and value == value:
                        self.moved.add(re.sub(r"_(bucket|sum|count)$", "", key.partition("{")[0]))
                        self.moved.add(key.partition("{")[0])


class Client:
    """One node's service, by a client made from the .proto."""

    def __init__(self, bed, node, pb, stubs):
        self.node, self.pb = node, pb
        self.channel = grpc.insecure_channel(node.target, options=[("grpc.enable_http_proxy", 0)])
        self.stub = stubs.ClusterStub(self.channel)

    def ask(self, method, **fields):
        try:
            return getattr(self.stub, method)(getattr(self.pb, method + "Request")(**fields), timeout=10)
        except grpc.RpcError:
            return None

    def create(self, name, vcpus=1, memory=16 * MIB, **more):
        needs = self.pb.VmResources(vcpus=vcpus, memory_bytes=memory, disk_bytes=4 * MIB)
        return self.ask("CreateVm", name=name, request=self.pb.VmRequest(needs=needs, **more))

    def status(self, name):
        reply = self.ask("GetVmStatus", name=name)
        return reply.vm.status if reply else None

    def comes_to(self, name, status):
        return wait_for(lambda: self.status(name) == status, 20)


def load_stubs(directory):
    if protoc.main(["protoc", "-Iproto", f"--python_out={directory}", f"--grpc_python_out={directory}",
                    "proto/blixard_cluster.proto"]):
        sys.exit("grpc_tools.protoc does not take the .proto")
    sys.path.insert(0, directory)
    return importlib.import_module("blixard_cluster_pb2"), importlib.import_module("blixard_cluster_pb2_grpc")


def vm_processes(node):
    """pid by VM name, of the children of a node."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as f:
                fields = f.read().rpartition(")")[2].split()
            with open(os.path.dirname(path) + "/cmdline") as f:
                words = f.read().split("\0")
        except OSError:
            continue
        if int(fields[1]) == node.entry()["pid"] and len(words) > 2:
            found.update((word, int(path.split("/")[2])) for word in words[1:])
    return found


# ---- what a quiet cluster never shows --------------------------------------------------------------------
def fail_vm_operations(client, node):
    at_home = {"strategy": "manual", "node_id": node.number}
    vms = os.path.join(node.entry()["data"], "vms")
    os.rename(vms, vms + "-away")
    client.create("homeless", **at_home)
    check(client.comes_to("homeless", "failed"), "without a place for its disk a VM cannot be created")
    os.rename(vms + "-away", vms)
    check(client.comes_to("homeless", "running"), "with one again it is")
    client.create("fat", memory=4 * TIB, **at_home)
    check(client.comes_to("fat", "failed"), "a VM that wants more memory than there is does not start")
    check(wait_for(lambda: node.of("vm_recoveries_failed_total") and node.of("vms_unhealthy"), 20), "and cannot be recovered")
    client.ask("DeleteVm", name="fat")

    client.create("stubborn", **at_home)
    check(client.comes_to("stubborn", "running"), "a VM runs")
    os.kill(vm_processes(node)["stubborn"], signal.SIGSTOP)
    check(wait_for(lambda: node.of("vm_health_checks_failed_total") > 0, 20), "frozen, it fails its health checks")
    check(wait_for(lambda: client.comes_to("stubborn", "running"), 20), "and is recovered")
    os.kill(vm_processes(node)["stubborn"], signal.SIGSTOP)
    client.ask("StopVm", name="stubborn")
    check(wait_for(lambda: node.of("vm_stop_failed_total") > 0, 20), "one that does not stop is killed")
    disk = glob.glob(os.path.join(vms, "stubborn*"))[0]
    os.rename(disk, disk + "-away")
    os.mkdir(disk)
    client.ask("DeleteVm", name="stubborn")
    check(wait_for(lambda: node.of("vm_delete_failed_total") > 0, 20), "a disk that cannot be removed fails the delete")
    os.rmdir(disk)
    check(wait_for(lambda: client.status("stubborn") is None, 20), "until it can")


def want_too_much(client, bed):
    client.create("giant", vcpus=100, strategy="round_robin")
    check(wait_for(lambda: sum(n.of("vm_placement_pending") for n in bed.nodes) > 0), "a VM that fits nowhere waits")
    client.ask("DeleteVm", name="giant")
    for i in range(3):
        client.create(f"low{i}", vcpus=8, priority=1, strategy="spread_across_failure_domains")
    check(all(client.comes_to(f"low{i}", "running") for i in range(3)), "low ones take their places")
    client.create("high", vcpus=8, priority=9)
    check(wait_for(lambda: sum(n.of("vm_preemptions_total") for n in bed.nodes) > 0, 20), "and one makes room for a higher one")
    for name in ("high", "low0", "low1", "low2"):
        client.ask("DeleteVm", name=name)


def flip_a_bit(node, digest):
    path, = (os.path.join(d, digest) for d, _, files in os.walk(node.entry()["data"]) if digest in files)
    with open(path, "r+b") as f:
        byte = f.read(1)[0]
        f.seek(0)
        f.write(bytes([byte ^ 1]))


def move_images(clients, bed):
    give, take = clients[0], clients[1]
    bad = os.urandom(100_000)  # one chunk, so its digest is that of the data
    give.ask("ShareVmImage", name="fault", data=bad)
    flip_a_bit(give.node, hashlib.sha256(bad).hexdigest())
    take.ask("GetVmImage", name="fault", peer=give.node.target)
    check(wait_for(lambda: sum(n.of("p2p_verifications_failed_total") for n in bed.nodes) > 0, 10),
          "a corrupt image does not come over")
    data = os.urandom(600_000)
    give.ask("ShareVmImage", name="one", data=data)
    give.ask("ShareVmImage", name="two", data=data + b"tail")
    for name in ("one", "two"):
        check(take.ask("GetVmImage", name=name, peer=give.node.target) is not None, f"image {name} comes over")


def break_things(bed, clients):
    try:
        clients[0].channel.unary_unary("/blixard.Cluster/NoSuchMethod")(b"", timeout=5)
    except grpc.RpcError as error:
        check(error.code() == grpc.StatusCode.UNIMPLEMENTED, "an unknown method is refused")
    leader = wait_for(bed.leader, 20)
    code, said = bed.fault("disk-full", leader.number)
    if code == 77:
        check.skip("errors of a full disk", said.strip())
    else:
        check(wait_for(lambda: leader.metrics().total("storage_errors_total") > 0, 20), "a full disk shows as errors of storage")
        bed.fault("disk-free", leader.number)
    bed.fault("undo")
    check(wait_for(bed.settled, 30), "mended")
    leader = wait_for(bed.leader, 20)
    bed.fault("kill", leader.number)
    check(wait_for(lambda: any(n is not leader and n.of("raft_is_leader") for n in bed.nodes), 20), "another leads")
    bed.fault("start", leader.number)
    check(wait_for(bed.settled, 30), "and the first comes back")
    return code != 77


def owned_by_nodes():
    out = subprocess.run([f"{BUILD}/blixard-agent", "--dump-metrics=json"], capture_output=True, check=True, timeout=10)
    return [m["name"].removeprefix("blixard_") for m in json.loads(out.stdout) if m["owner"] == "node"]


def main():
    bed = Testbed(BUILD, extra=("--load", "40", "--vms", "2", "--snapshot-every", "256", "--capacity", "12:8388608:16384"))
    try:
        check(wait_for(bed.settled, 30), "three nodes, one leader", [n.words(300) for n in bed.nodes])
        watcher = Watcher(bed)
        watcher.start()
        pb, stubs = load_stubs(bed.dir)
        clients = [Client(bed, n, pb, stubs) for n in bed.nodes]
        load = [f"{BUILD}/blixard-load", "--rate", str(LOAD_RATE), "--seconds", str(LOAD_S), "--seed", "7"]
        for node in bed.nodes:
            load += ["--target", node.target]
        done = subprocess.run(load, capture_output=True, text=True, timeout=60)
        check(done.returncode == 0, "blixard-load ran to its end", done.stderr)
        fail_vm_operations(clients[0], bed.nodes[0])
        want_too_much(clients[0], bed)
        move_images(clients, bed)
        full_disk = break_things(bed, clients)
        time.sleep(0.5)  # the watcher's next looks
        watcher.over.set()
        watcher.join(10)
        for family in owned_by_nodes():
            if family == "storage_errors_total" and not full_disk:
                check.skip(f"{family} moves", "no disk can be filled here")
            else:
                check(family in watcher.moved, f"{family} moves")
    finally:
        bed.close()
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
