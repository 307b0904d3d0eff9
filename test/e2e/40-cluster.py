#!/usr/bin/env python3
# timeout: 120 s
"""Goal: three reference nodes are one Raft cluster, and their telemetry files tell the truth of it.
Method: start them on free ports with a load, read the files with shm_dump while nodes are killed,
started again, fed with garbage and stopped; at the end compare their logs entry by entry."""

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cluster"))
from testbed import Checks, free_ports, wait_for  # noqa: E402

BUILD = os.environ.get("B", "build")
NODE = os.path.join(BUILD, "blixard-node")
DUMP = os.path.join(BUILD, "test/support/bin/shm_dump")
LOAD = 100
STATE_LIVE, STATE_CLOSED = "1", "2"

check = Checks()


class Dump(dict):
    """Samples by `name{labels}`; what is said of the file in .about."""

    def __init__(self, path):
        super().__init__()
        self.about = {}
        out = subprocess.run([DUMP, path], capture_output=True, text=True, timeout=10)
        self.error = out.stderr
        for line in out.stdout.splitlines():
            if line.startswith("# "):
                key, _, value = line[2:].partition(" ")
                self.about[key] = value
            else:
                key, _, value = line.rpartition(" ")
                self["blixard_" + key if not key.startswith("blixard_") else key] = float(value)

    def of(self, name):
        return self.get("blixard_" + name, 0)

    def total(self, family):
        return sum(v for k, v in self.items() if re.match(rf"blixard_{family}(\{{|$)", k))

    def acknowledged(self):
        return self.of("raft_proposal_duration_seconds_count")


class Node:
    def __init__(self, directory, shm, number, port, seed_port):
        self.number, self.port = number, port
        self.shm = os.path.join(shm, f"blix{number}")
        self.data = os.path.join(directory, f"data{number}")
        self.log = os.path.join(directory, f"node{number}.log")
        self.seed_port = seed_port
        self.process = None

    def start(self, join, *extra):
        command = [NODE, "node", "--id", str(self.number), "--bind", f"127.0.0.1:{self.port}", "--shm", self.shm,
                   "--data", self.data, "--load", str(LOAD), "--snapshot-every", "100000", *extra]
        if join:
            command += ["--join", f"127.0.0.1:{self.seed_port}"]
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def dump(self):
        return Dump(self.shm)

    def leads(self):
        return self.dump().of("raft_is_leader") == 1

    def words(self):
        with open(self.log) as log:
            return log.read()


def leader_of(nodes):
    leaders = [n for n in nodes if n.leads()]
    return leaders[0] if len(leaders) == 1 else None


def settled(nodes, voters=3):
    """One leader, known to all, and every node healthy in everybody's eyes."""
    dumps = [n.dump() for n in nodes]
    return (sum(d.of("raft_is_leader") for d in dumps) == 1 and all(d.of("raft_has_leader") == 1 for d in dumps)
            and all(d.of("cluster_nodes") == voters for d in dumps)
            and all(d.of("cluster_nodes_healthy") == len(nodes) for d in dumps)
            and len({d.of("raft_term") for d in dumps}) == 1)


def grows(nodes, name, by=20):
    before = [n.dump().of(name) for n in nodes]
    return wait_for(lambda: all(n.dump().of(name) >= b + by for n, b in zip(nodes, before)))


def answers(node, data):
    """Whether the node still takes connections after these bytes on one of them."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as s:
        try:
            s.sendall(data)
        except ConnectionError:
            pass
    with socket.create_connection(("127.0.0.1", node.port), timeout=5):
        return node.process.poll() is None


def test_start(nodes):
    nodes[0].start(False)
    for node in nodes[1:]:
        node.start(True)
    check(wait_for(lambda: settled(nodes)), "three nodes become three voters with one leader",
          [dict(n.dump()) and n.words() for n in nodes])
    check(grows(nodes, "raft_proposal_duration_seconds_count"), "proposals of every node are applied")
    dumps = [n.dump() for n in nodes]
    # On a starved machine the leader may change at any time, and then some may.
    check(not any(d.of("raft_leader_changes_total") == 1 and d.total("raft_proposals_failed_total") for d in dumps),
          "and none fails under a steady leader",
          [{k: v for k, v in d.items() if "failed" in k and v} for d in dumps])


MOVING = """raft_proposals_total raft_committed_entries_total raft_applied_entries_total raft_leader_changes_total
raft_term raft_commit_index raft_applied_index raft_has_leader raft_proposal_duration_seconds_count cluster_nodes
cluster_nodes_healthy peer_connections_active peer_connections_expected""".split()


def test_metrics(nodes):
    dumps = [n.dump() for n in nodes]
    still = [(n.number, name) for n, d in zip(nodes, dumps) for name in MOVING if not d.of(name)]
    for n, d in zip(nodes, dumps):
        for table in ("raft_log", "raft_hard_state", "vm_states"):
            for family in ("storage_writes_total", "storage_write_duration_seconds_count"):
                if not d.of(f'{family}{{table="{table}"}}'):
                    still.append((n.number, family, table))
        for peer in {1, 2, 3} - {n.number}:
            for family in ("peer_sent_bytes_total", "peer_received_bytes_total", "peer_round_trip_time_seconds_count"):
                if not d.of(f'{family}{{peer="{peer}"}}'):
                    still.append((n.number, family, peer))
    check(not still, "every Raft, peer and storage metric moves", still)
    check(all(d.of("peer_connections_active") == 2 == d.of("peer_connections_expected") for d in dumps),
          "each node is connected to the other two")
    wrong = [d.about for n, d in zip(nodes, dumps) if d.about.get("grpc_address") != f"127.0.0.1:{n.port}"
             or d.about.get("node_id") != str(n.number) or d.about.get("data_dir") != n.data
             or d.about.get("state") != STATE_LIVE or d.about.get("owner") != "alive"]
    check(not wrong, "the files name their nodes", wrong)
    d = dumps[0]
    done = d.of("raft_proposal_duration_seconds_sum") / d.of("raft_proposal_duration_seconds_count")
    write = d.of('storage_write_duration_seconds_sum{table="raft_log"}') / d.of('storage_write_duration_seconds_count{table="raft_log"}')
    check(done > write > 1000, "a proposal takes longer than a write of the log, and that takes a real while", (done, write))
    beat = int(d.about["app_beat"])
    check(wait_for(lambda: int(nodes[0].dump().about["app_beat"]) > beat), "the loop's heartbeat beats")


def test_kill_leader(nodes):
    old = leader_of(nodes)
    if not check(old, "there is a leader to kill"):
        return
    old.kill()
    final = old.dump()
    check(final.about["owner"] == "gone" and final.about["state"] == STATE_LIVE,
          "a killed node's file stays, without an owner", final.about)
    rest = [n for n in nodes if n is not old]
    check(wait_for(lambda: settled(rest)), "after kill -9 of the leader the others elect one", [n.words() for n in rest])
    check(grows(rest, "raft_proposal_duration_seconds_count"), "proposals go on without the old leader")
    check(all(n.dump().of("peer_connections_active") == 1 for n in rest), "the lost connection shows")
    lost = [n.dump().total("raft_proposals_failed_total") for n in rest]
    check(all(lost), "what had been on its way to the old leader, or came before the new one, is counted as failed", lost)
    check(all(wait_for(lambda n=n: n.dump().of(f'peer_reconnect_attempts_total{{peer="{old.number}"}}')) for n in rest),
          "reconnects are counted")
    check(final == old.dump(), "a dead node's counters stand still")

    old.start(False)
    check(wait_for(lambda: old.dump().about.get("incarnation") not in (None, final.about["incarnation"])),
          "a restarted node has a file of a new incarnation")
    first = old.dump()
    check(first.of("raft_proposals_total") < final.of("raft_proposals_total"), "its counters begin at 0 again",
          (first.of("raft_proposals_total"), final.of("raft_proposals_total")))
    read = [first.of(f'storage_reads_total{{table="{t}"}}') for t in ("raft_log", "raft_hard_state", "raft_snapshot")]
    check(read == [1, 1, 0], "it has read its log and its vote, once", read)
    check(wait_for(lambda: settled(nodes)), "it takes its place again", old.words())
    check(wait_for(lambda: old.dump().of("raft_applied_index") >= rest[0].dump().of("raft_applied_index") - 50),
          "and catches up")
    return final.acknowledged(), old.number


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def test_hostile(nodes):
    """Bytes that are no gRPC. What is gRPC, but not acceptable, is 42-cluster-grpc.py's."""
    node = nodes[0]
    settings = b"\0\0\0\4\0\0\0\0\0"
    garbage = [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, PREFACE, PREFACE + b"\xff" * 64, PREFACE + settings,
               PREFACE + settings + struct.pack(">I", 1 << 24)[1:] + b"\0\0" + b"\0" * 4,
               PREFACE + settings + b"\0\0\4\1\5\0\0\0\1" + b"\xff" * 4, os.urandom(4096)]
    check(all(answers(node, g) for g in garbage), "bytes that are no gRPC do the node no harm")
    many = [socket.create_connection(("127.0.0.1", node.port), timeout=5) for _ in range(150)]
    check(settled(nodes) and grows(nodes, "raft_proposal_duration_seconds_count"), "nor do many connections that say nothing",
          [n.words() for n in nodes])
    for s in many:
        s.close()
    check(settled(nodes), "the cluster does not mind")


def test_refusals(nodes, directory):
    def fails(*arguments):
        out = subprocess.run([NODE, *arguments], capture_output=True, text=True, timeout=10)
        return out.returncode, out.stderr

    port = free_ports(1)[0]
    common = ["--shm", os.path.join(directory, "unused"), "--bind", f"127.0.0.1:{port}"]
    code, words = fails("--id", "1", "--data", nodes[0].data, *common)
    check(code == 1 and "another node uses" in words, "a data directory in use is refused", words)
    code, words = fails("--id", "7", "--data", os.path.join(directory, "new"), "--shm", os.path.join(directory, "u"),
                        "--bind", f"127.0.0.1:{nodes[0].port}")
    check(code == 1 and "cannot listen" in words and "--bind" in words, "a taken port is named with its remedy", words)
    code, words = fails("--id", "1", "--data", os.path.join(directory, "new2"), "--join", f"127.0.0.1:{nodes[1].port}", *common)
    check(code == 1 and "refused this node" in words, "a second node with a member's id is refused", words)
    for wrong in (["--id", "0"], ["--bind", "0.0.0.0:1"], ["--load", "x"], ["--bind", "127.0.0.1:70000"], ["--unknown"], ["word"]):
        base = {"--id": "5", "--bind": f"127.0.0.1:{port}", "--shm": "/dev/shm/x", "--data": directory}
        arguments = [w for k, v in base.items() if k != wrong[0] for w in (k, v)] + wrong
        code, words = fails(*arguments)
        check(code == 2 and words.startswith(("blixard-node:", NODE)) and len(words.splitlines()) == 1,
              f"{' '.join(wrong)} is refused in one line", (code, words))
    out = subprocess.run([NODE, "--help"], capture_output=True, text=True, timeout=10)
    check(out.returncode == 0 and "--join HOST:PORT" in out.stdout, "--help helps")
    out = subprocess.run([NODE, "--version"], capture_output=True, text=True, timeout=10)
    check(out.returncode == 0 and re.match(r"blixard-node \d", out.stdout), "--version tells the version")


def test_full_disk(directory):
    """A node alone on a small tmpfs: full, it waits and says so; with room again, it goes on."""
    disk = os.path.join(directory, "small")
    os.mkdir(disk)
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "blix-test", disk], capture_output=True).returncode:
        check.skip("a full disk", "mounting a tmpfs is not permitted here")
        return
    ballast = os.path.join(disk, "ballast")
    log = os.path.join(directory, "full.log")
    shm = os.path.join(directory, "full-shm")
    process = None
    try:
        with open(log, "w") as out:
            process = subprocess.Popen([NODE, "--id", "1", "--bind", f"127.0.0.1:{free_ports(1)[0]}", "--shm", shm, "--data",
                                        os.path.join(disk, "data"), "--load", "200", "--snapshot-every", "100000"], stderr=out)
        done = "raft_proposal_duration_seconds_count"
        wait_for(lambda: Dump(shm).of(done) > 50)
        with open(ballast, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"x" * 4096)
            except OSError:
                pass
        check(wait_for(lambda: Dump(shm).of('storage_errors_total{op="write"}') > 2), "a full disk shows as failed writes")
        check(wait_for(lambda: Dump(shm).of('raft_proposals_failed_total{reason="timeout"}') > 0), "and proposals time out")
        check(process.poll() is None and "full" in open(log).read(), "the node lives and says why", open(log).read())
        os.unlink(ballast)
        before = Dump(shm).of(done)
        check(wait_for(lambda: Dump(shm).of(done) > before + 50), "with room again it goes on", open(log).read())
        process.kill()
        process.wait()
        out = subprocess.run([NODE, "--inspect", "--data", os.path.join(disk, "data")], capture_output=True, text=True, timeout=20)
        check(out.returncode == 0 and "torn=0" in out.stdout, "its log is whole", out.stdout[:300] + out.stderr)
    finally:
        if process and process.poll() is None:
            process.kill()
            process.wait()
        subprocess.run(["umount", disk], capture_output=True)


def test_snapshots(directory):
    """Snapshots often, one member away meanwhile: it can only come back through a snapshot."""
    shm = tempfile.mkdtemp(prefix="blix-cluster-", dir="/dev/shm")
    sub = os.path.join(directory, "snapshots")
    os.mkdir(sub)
    ports = free_ports(3)
    nodes = [Node(sub, shm, i + 1, ports[i], ports[0]) for i in range(3)]
    often = ("--snapshot-every", "64")
    try:
        for node in nodes:
            node.start(node.number > 1, *often)
        wait_for(lambda: settled(nodes))
        away = next(n for n in nodes if not n.leads())
        away.kill()
        rest = [n for n in nodes if n is not away]
        behind = away.dump().of("raft_applied_index")
        check(wait_for(lambda: all(n.dump().of("raft_snapshots_total") >= 3 and n.dump().of("raft_applied_index") > behind + 300 for n in rest)),
              "snapshots are taken and counted")
        check(all(n.dump().of('storage_writes_total{table="raft_snapshot"}') >= 3 for n in rest), "as writes of storage, too")
        away.start(False, *often)
        check(wait_for(lambda: settled(nodes) and away.dump().of("raft_applied_index") > behind + 300),
              "a member that missed them comes back through a snapshot", away.words())
        check(any(n.dump().of('storage_reads_total{table="raft_snapshot"}') > 0 for n in rest), "which the leader has read")
        # What was applied one by one was also written to the table, but for a few entries of Raft's own.
        # Rows are counted one by one, entries when Raft has finished a batch of them.
        def entries_and_rows():
            d = away.dump()
            return d.of("raft_applied_entries_total"), d.of('storage_writes_total{table="vm_states"}')

        check(wait_for(lambda: abs(entries_and_rows()[0] - entries_and_rows()[1]) < 60),
              "entries that came as a snapshot are not counted as applied", entries_and_rows())
        for node in nodes:
            node.process.terminate()
        check([n.process.wait(timeout=10) for n in nodes] == [0, 0, 0], "all stop cleanly")
        nodes[0].start(False, *often)
        check(wait_for(lambda: nodes[0].dump().of('storage_reads_total{table="raft_snapshot"}') == 1
                       and nodes[0].dump().of("raft_applied_index") > 300), "a node starts from its snapshot", nodes[0].words())
    finally:
        for node in nodes:
            if node.process and node.process.poll() is None:
                node.kill()
        shutil.rmtree(shm, ignore_errors=True)


def test_stop(nodes):
    for node in nodes:
        node.process.send_signal(signal.SIGTERM)
    codes = [node.process.wait(timeout=10) for node in nodes]
    check(codes == [0, 0, 0], "SIGTERM ends a node with exit code 0", codes)
    states = [n.dump().about.get("state") for n in nodes]
    check(states == [STATE_CLOSED] * 3, "and its file says CLOSED", states)
    pending = [n.dump().of("raft_proposals_pending") for n in nodes]
    check(pending == [0, 0, 0], "nothing is left pending", pending)
    for node in nodes:
        d = node.dump()
        done = d.of("raft_proposal_duration_seconds_count")
        check(d.of("raft_proposals_total") == done + d.total("raft_proposals_failed_total"),
              f"node {node.number}: submitted = applied + failed", (d.of("raft_proposals_total"), done))


def entries_of(node):
    out = subprocess.run([NODE, "--inspect", "--data", node.data], capture_output=True, text=True, timeout=20)
    entries = {}
    for line in out.stdout.splitlines():
        if line.startswith("entry "):
            fields = dict(word.split("=") for word in line.split()[1:])
            entries[int(fields["index"])] = fields
    return entries, out.stdout.splitlines()[:3]


def test_logs(nodes, killed):
    logs = [entries_of(n)[0] for n in nodes]
    committed = int(min(n.dump().of("raft_commit_index") for n in nodes))
    check(committed > 100 and all(len(log) >= committed for log in logs), "the logs hold every committed entry",
          (committed, [len(log) for log in logs]))
    differ = [i for i in range(1, committed + 1) if len({(log.get(i, {}).get("crc"), log.get(i, {}).get("term")) for log in logs}) != 1]
    check(not differ, "the three logs agree on every committed entry", differ[:5])
    if killed:
        acknowledged, number = killed
        sequences = {int(f["sequence"]) for f in logs[0].values() if f.get("origin") == str(number)}
        later = nodes[number - 1].dump().acknowledged()
        check(len(sequences) >= acknowledged + later > acknowledged > 0,
              "every proposal that the killed node had seen applied is in the log", (len(sequences), acknowledged, later))


def test_no_telemetry(directory):
    port = free_ports(1)[0]
    log = os.path.join(directory, "blind.log")
    with open(log, "w") as out:
        process = subprocess.Popen([NODE, "--id", "1", "--bind", f"127.0.0.1:{port}", "--shm", "/nowhere/at/all", "--data",
                                    os.path.join(directory, "blind"), "--load", "50"], stderr=out)
    try:
        check(wait_for(lambda: "node 1 leads" in open(log).read()), "a node whose telemetry cannot open runs without",
              open(log).read())
        check("telemetry is off" in open(log).read(), "and says so")
    finally:
        process.terminate()
        check(process.wait(timeout=10) == 0, "and stops cleanly")


def main():
    for program in (NODE, DUMP):
        if not os.access(program, os.X_OK):
            print(f"{program} is not built")
            return 77
    directory = tempfile.mkdtemp(prefix="blix-cluster-")
    shm = tempfile.mkdtemp(prefix="blix-cluster-", dir="/dev/shm")
    ports = free_ports(3)
    nodes = [Node(directory, shm, i + 1, ports[i], ports[0]) for i in range(3)]
    try:
        test_start(nodes)
        test_metrics(nodes)
        killed = test_kill_leader(nodes)
        test_hostile(nodes)
        test_refusals(nodes, directory)
        test_stop(nodes)
        test_logs(nodes, killed)
        test_no_telemetry(directory)
        test_full_disk(directory)
        test_snapshots(directory)
    finally:
        for node in nodes:
            if node.process and node.process.poll() is None:
                node.kill()
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(shm, ignore_errors=True)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
