#!/usr/bin/env python3
# timeout: 120 s
"""Goal: any gRPC client can call a node, gets the status that gRPC defines for what it did, and finds
exactly its calls at /metrics.
Method: three nodes with an agent beside each; a client made from our .proto by Debian's grpc_tools
calls the leader and a follower, well and badly, and counts by itself what it got; each node's
counters must have grown by that and nothing else. Between nodes, what one says it called is what
the other says it served."""

import collections
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cluster"))
from testbed import Checks, free_ports, load_stubs, wait_for  # noqa: E402

try:
    import grpc
except ImportError as missing:
    print(f"{missing.name} is not installed")
    sys.exit(77)

BUILD = os.environ.get("B", "build")
NODE, AGENT = os.path.join(BUILD, "blixard-node"), os.path.join(BUILD, "blixard-agent")
FAILING = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "RESOURCE_EXHAUSTED")
# What nodes call on each other, at any time: these are compared between nodes.
BETWEEN_NODES = ("SendRaftMessage", "Forward")
MIB = 1 << 20

check = Checks()
pb = stubs = None


class Node:
    """A node, its agent, a client of it, and what that client has seen."""

    def __init__(self, directory, shm, number, ports):
        self.number, self.port, self.agent_port = number, ports[number - 1], ports[number + 2]
        self.shm = os.path.join(shm, f"blix{number}")
        self.log = os.path.join(directory, f"node{number}.log")
        command = [NODE, "--id", str(number), "--bind", f"127.0.0.1:{self.port}", "--shm", self.shm,
                   "--data", os.path.join(directory, f"data{number}")]
        if number > 1:
            command += ["--join", f"127.0.0.1:{ports[0]}"]
        state = os.path.join(directory, f"agent{number}")
        os.mkdir(state)
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, stderr=log)
            self.agent = subprocess.Popen([AGENT, "--shm", self.shm, "--listen", f"127.0.0.1:{self.agent_port}"],
                                          stderr=log, env=dict(os.environ, STATE_DIRECTORY=state))
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[
            ("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)])
        self.stub = stubs.ClusterStub(self.channel)
        self.seen = collections.Counter()
        self.before = {}

    def metrics(self):
        url = f"http://127.0.0.1:{self.agent_port}/metrics?names=canonical"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return {}
        return {k: float(v) for k, _, v in (line.rpartition(" ") for line in lines if line and line[0] != "#")}

    def of(self, name):
        return self.metrics().get("blixard_" + name, 0)

    def words(self):
        with open(self.log) as log:
            return log.read()

    # ---- calls, each remembered with its end ----------------------------------------------------
    def remember(self, method, code):
        self.seen[(method, code)] += 1

    def ask(self, method, request=None, timeout=10, **fields):
        """(code, reply or what the server says)."""
        request = request if request is not None else getattr(pb, method + "Request")(**fields)
        try:
            reply, code = getattr(self.stub, method)(request, timeout=timeout), "OK"
        except grpc.RpcError as error:
            reply, code = error.details(), error.code().name
        self.remember(method, code)
        return code, reply

    def ask_raw(self, path, data, method, **more):
        """A call of bytes to any path."""
        call = self.channel.unary_unary(path, request_serializer=None, response_deserializer=None)
        try:
            call(data, timeout=10, **more)
            code = "OK"
        except grpc.RpcError as error:
            code = error.code().name
        self.remember(method, code)
        return code

    # ---- what the node says of it -----------------------------------------------------------------
    def counts(self):
        """Requests by method, failures by method and code."""
        totals, failures = collections.Counter(), collections.Counter()
        for key, value in self.metrics().items():
            found = re.fullmatch(r'blixard_grpc_requests(_failed)?_total\{method="(\w+)"(?:,code="(\w+)")?\}', key)
            if found and value and found.group(2) not in BETWEEN_NODES:
                if found.group(1):
                    failures[(found.group(2), found.group(3))] += int(value)
                else:
                    totals[found.group(2)] += int(value)
        return totals, failures

    def begin(self):
        self.before = self.counts()
        self.seen.clear()

    def difference(self):
        """What does not agree; empty when the node has counted what the client has seen."""
        totals, failures = self.counts()
        totals.subtract(self.before[0])
        failures.subtract(self.before[1])
        mine, mine_failed = collections.Counter(), collections.Counter()
        for (method, code), n in self.seen.items():
            if method not in BETWEEN_NODES:
                mine[method] += n
                if code in FAILING:
                    mine_failed[(method, code)] += n
        wrong = {k: (mine[k], totals[k]) for k in set(mine) | set(totals) if mine[k] != totals[k]}
        wrong.update({k: (mine_failed[k], failures[k]) for k in set(mine_failed) | set(failures) if mine_failed[k] != failures[k]})
        return wrong


def agrees(node, name):
    if not wait_for(lambda: not node.difference(), 5):
        check(False, name, {k: f"client {a}, node {b}" for k, (a, b) in node.difference().items()})
    else:
        check(True, name)


def leader_of(nodes):
    leaders = [n for n in nodes if n.of("raft_is_leader") == 1]
    return leaders[0] if len(leaders) == 1 else None


def settled(nodes, members=3):
    all_of_them = [n.metrics() for n in nodes]
    return (sum(m.get("blixard_raft_is_leader", 0) for m in all_of_them) == 1
            and all(m.get("blixard_cluster_nodes") == members == m.get("blixard_cluster_nodes_healthy") for m in all_of_them))


# ---- the cases -------------------------------------------------------------------------------------
def test_methods(node, nodes, who):
    """Every method, as it is meant to be called."""
    code, reply = node.ask("HealthCheck")
    check(code == "OK" and reply.healthy, f"{who}: HealthCheck", (code, reply))
    code, reply = node.ask("GetRaftStatus")
    leads = node is leader_of(nodes)
    check(code == "OK" and reply.node_id == node.number and reply.state == ("leader" if leads else "follower")
          and reply.term > 0 and reply.leader_id == leader_of(nodes).number and 0 < reply.applied_index <= reply.commit_index,
          f"{who}: GetRaftStatus", (code, reply))
    code, reply = node.ask("GetClusterStatus")
    check(code == "OK" and reply.cluster == "default" and {m.node_id for m in reply.members} == {1, 2, 3}
          and all(m.role == "voter" and m.healthy for m in reply.members), f"{who}: GetClusterStatus", (code, reply))
    key = f"key-{who}"
    first = node.ask("ProposeTask", key=key, value=b"\0\xff")
    second = node.ask("ProposeTask", key=key, delete=True)
    check(first[0] == second[0] == "OK" and second[1].sequence > first[1].sequence, f"{who}: ProposeTask", (first, second))
    check(node.ask("ProposeTask", key=key, delete=True)[0] == "NOT_FOUND", f"{who}: what is not there is not deleted")
    code, _ = node.ask("SubmitTask", task_id=who, command=b"run")
    check(code == "OK", f"{who}: SubmitTask", code)
    code, reply = node.ask("GetTaskStatus", task_id=who)
    check(code == "OK" and reply.status == "submitted" and reply.command == b"run", f"{who}: GetTaskStatus", (code, reply))
    check(node.ask("SubmitTask", task_id=who, command=b"run")[0] == "ALREADY_EXISTS", f"{who}: a task is submitted once")
    check(node.ask("GetTaskStatus", task_id="none")[0] == "NOT_FOUND", f"{who}: no such task")


def test_membership(node, nodes, leader):
    """Changes go to the leader: there, the same calls are counted again when a follower passes them on."""
    member = nodes[1]

    def ask(method, **fields):
        code, _ = node.ask(method, **fields)
        return code

    def relayed(method, code):
        if node is not leader:
            leader.remember(method, code)
        return code

    address = f"127.0.0.1:{member.port}"
    codes = [relayed("JoinCluster", ask("JoinCluster", cluster="default", node_id=2, address=address)),
             relayed("JoinCluster", ask("JoinCluster", cluster="default", node_id=2, address="127.0.0.1:1")),
             ask("JoinCluster", cluster="other", node_id=9, address="127.0.0.1:1"),
             ask("JoinCluster", cluster="default", node_id=9, address="not an address"),
             ask("JoinCluster", cluster="default", node_id=0, address=address),
             relayed("LeaveCluster", ask("LeaveCluster", node_id=77))]
    wanted = ["OK", "ALREADY_EXISTS", "FAILED_PRECONDITION", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "NOT_FOUND"]
    check(codes == wanted, f"node {node.number}: who may join and leave", codes)


def test_bad_requests(node, who):
    service = "/blixard.Cluster/"
    codes = [node.ask_raw(p, b"", "other") for p in (service + "Nonsense", service, "/other.Service/HealthCheck", "/x",
                                                     service + "HealthCheck/", service + "x" * 300, service + "healthcheck")]
    check(set(codes) == {"UNIMPLEMENTED"}, f"{who}: unknown methods are UNIMPLEMENTED", codes)
    codes = [node.ask_raw(service + m, d, m) for m, d in (("HealthCheck", b"\xff\xff"), ("ProposeTask", b"\x0a\x7fshort"),
                                                         ("JoinCluster", b"\x08"), ("GetTaskStatus", os.urandom(4096)))]
    check(set(codes) == {"INVALID_ARGUMENT"}, f"{who}: what does not decode is INVALID_ARGUMENT", codes)
    codes = [node.ask_raw(service + "HealthCheck", b"\x7a\x80\x80\xc0\x02" + bytes(5 * MIB), "HealthCheck"),
             node.ask_raw(service + "HealthCheck", bytes(20 * MIB), "HealthCheck")]
    check(set(codes) == {"RESOURCE_EXHAUSTED"}, f"{who}: too large a request is RESOURCE_EXHAUSTED", codes)
    codes = [node.ask("ProposeTask", **f)[0] for f in ({"key": ""}, {"key": "k" * 65}, {"key": "k", "value": bytes(257)},
                                                       {"key": "k", "value": b"v", "delete": True})]
    codes += [node.ask("SubmitTask", task_id=t)[0] for t in ("", "t" * 64)]
    codes += [node.ask("SubmitTask", task_id="t", command=bytes(257))[0], node.ask("GetTaskStatus", task_id="")[0]]
    check(set(codes) == {"INVALID_ARGUMENT"}, f"{who}: fields out of range are INVALID_ARGUMENT", codes)
    call = node.channel.stream_unary(service + "HealthCheck")
    try:
        call(iter([]), timeout=10)
        code = "OK"
    except grpc.RpcError as error:
        code = error.code().name
    node.remember("HealthCheck", code)
    check(code == "INVALID_ARGUMENT", f"{who}: a call without a request is INVALID_ARGUMENT", code)
    never = threading.Event()
    calls = [node.channel.stream_unary(service + "HealthCheck").future(iter(never.wait, None)) for _ in range(3)]
    codes = [call.code().name for call in calls]
    never.set()
    for code in codes:
        node.remember("HealthCheck", code)
    check(set(codes) == {"DEADLINE_EXCEEDED"}, f"{who}: a request that never comes is not waited for", codes)
    code = node.ask_raw(service + "HealthCheck", bytes(100000), "HealthCheck", compression=grpc.Compression.Gzip)
    check(code == "UNIMPLEMENTED", f"{who}: a compressed request is UNIMPLEMENTED", code)


def test_strange_peers(node):
    """What claims to come from a node."""
    def faults(reason):
        return node.of(f'peer_faults_total{{reason="{reason}"}}')

    identity, frame = faults("identity"), faults("frame")
    good = {"cluster": "default", "from": 9, "to": node.number, "address": "127.0.0.1:1"}
    strange = [dict(good, cluster="other"), dict(good, to=9), {**good, "from": node.number}, {**good, "from": 0}]
    codes = [node.ask("SendRaftMessage", **s)[0] for s in strange]
    codes.append(node.ask("Forward", cluster="other", command=b"x")[0])
    check(set(codes) == {"FAILED_PRECONDITION"}, "who is of another cluster, or means another node, is refused", codes)
    check(wait_for(lambda: faults("identity") - identity == 5), "and counted", faults("identity") - identity)
    codes = [node.ask("SendRaftMessage", **dict(good, messages=[m]))[0] for m in (b"", b"\1", b"\3\0" + b"\xff" * 40, os.urandom(500))]
    codes += [node.ask("SendRaftMessage", **dict(good, address=a))[0] for a in ("", "x" * 200)]
    codes += [node.ask("Forward", cluster="default", command=c)[0] for c in (b"", b"\1", bytes(5000), os.urandom(100))]
    check(set(codes) == {"INVALID_ARGUMENT"}, "Raft messages and commands that do not decode are refused", codes)
    check(wait_for(lambda: faults("frame") - frame == 10), "and counted", faults("frame") - frame)


def test_between_nodes(nodes):
    def served(method):
        return sum(n.of(f'grpc_requests_total{{method="{method}"}}') for n in nodes)

    def called(method):
        return sum(n.of(f'grpc_client_requests_total{{method="{method}"}}') for n in nodes)

    mine = sum(k for n in nodes for (m, _), k in n.seen.items() if m == "Forward")
    ended = wait_for(lambda: called("Forward") and served("Forward") == called("Forward") + mine)
    check(ended, "as many Forwards were served as nodes have called", (served("Forward"), called("Forward"), mine))
    low, high = called("SendRaftMessage"), served("SendRaftMessage")
    check(high >= low > 10, "and as many SendRaftMessages, but for those under way", (low, high))
    wrong = []
    for n in nodes:
        m = n.metrics()
        for family in ("grpc_request", "grpc_client_request"):
            for key, value in m.items():
                if key.startswith(f"blixard_{family}s_total"):
                    timed = m.get(key.replace("s_total", "_duration_seconds_count"), 0)
                    if abs(timed - value) > (0 if "Raft" not in key and "Forward" not in key else 5):
                        wrong.append((n.number, key, value, timed))
    check(not wrong, "every request is timed", wrong)


def test_traffic(nodes):
    """What one node says it sent to another, the other says it received. Both go on meanwhile."""
    def sent(a, b):
        return a.of(f'peer_sent_bytes_total{{peer="{b.number}"}}')

    def received(a, b):
        return b.of(f'peer_received_bytes_total{{peer="{a.number}"}}')

    pairs = [(a, b) for a in nodes for b in nodes if a is not b]
    begin = {(a, b): (sent(a, b), received(a, b)) for a, b in pairs}
    for i in range(60):
        nodes[i % 3].ask("ProposeTask", key=f"traffic{i % 3}", value=bytes(250))
    wrong = {}
    for a, b in pairs:
        under_way = 600  # heartbeats between the looks at both ends
        out, come = sent(a, b) - begin[a, b][0], received(a, b) - begin[a, b][1]
        if not -under_way <= out - come <= under_way or not come:
            wrong[a.number, b.number] = (out, come)
    check(not wrong, "what one node sent, the other has received", wrong)
    check(max(sent(a, b) - begin[a, b][0] for a, b in pairs) > 60 * 250, "and it is the entries' bytes and more")


def test_without_quorum(leader, others):
    """The others stand still: writes wait, run out of time, are given up, and in the end there is no leader."""
    for n in others:
        n.process.send_signal(signal.SIGSTOP)
    try:
        calls = [leader.stub.ProposeTask.future(pb.ProposeTaskRequest(key=f"k{i}"), timeout=t) for i, t in ((1, 0.3), (2, 20))]
        check(wait_for(lambda: leader.of("grpc_requests_in_flight") >= 2, 2), "calls in flight show")
        calls[1].cancel()
        check(calls[0].code().name == "DEADLINE_EXCEEDED", "a deadline is kept", calls[0].code())
        check(calls[1].code().name == "CANCELLED", "a client may give up", calls[1].code())
        for call in calls:
            leader.remember("ProposeTask", call.code().name)
        agrees(leader, "both are counted as what they are")
        many = [leader.stub.ProposeTask.future(pb.ProposeTaskRequest(key=f"m{i}"), timeout=10) for i in range(1500)]
        codes = collections.Counter(call.code().name for call in many)
        for code, n in codes.items():
            leader.seen[("ProposeTask", code)] += n
        check(codes["RESOURCE_EXHAUSTED"] + codes["UNKNOWN"] + codes["UNAVAILABLE"] == 1500,
              "without a quorum nothing is acknowledged, and nobody waits long", codes)
        refused = leader.of('peer_faults_total{reason="limit"}')
        check(codes["RESOURCE_EXHAUSTED"] == refused > 0, "more calls than may be served at a time are refused", (codes, refused))
        check(wait_for(lambda: leader.of("raft_is_leader") == 0), "the leader steps down")
        check(leader.ask("ProposeTask", key="x")[0] == "UNAVAILABLE", "then there is no leader: UNAVAILABLE")
        code, reply = leader.ask("HealthCheck")
        check(code == "OK" and not reply.healthy and reply.message, "and HealthCheck says so", (code, reply))
        check(leader.ask("LeaveCluster", node_id=2)[0] == "UNAVAILABLE", "nobody can leave either")
        agrees(leader, "every one of these is counted by its code")
        check(wait_for(lambda: leader.of("grpc_requests_in_flight") == 0, 3), "nothing is left in flight", leader.of("grpc_requests_in_flight"))
    finally:
        for n in others:
            n.process.send_signal(signal.SIGCONT)
    check(wait_for(lambda: settled([leader, *others])), "with the others back there is a leader again", leader.words()[-500:])


def test_leave(nodes):
    leader = leader_of(nodes)
    leaving = next(n for n in nodes if n is not leader)
    rest = [n for n in nodes if n is not leaving]
    asked = next(n for n in rest if n is not leader)
    code, reply = asked.ask("LeaveCluster", node_id=leaving.number)
    check(code == "OK" and wait_for(lambda: settled(rest, 2)), "a member leaves", (code, reply))
    code, reply = asked.ask("JoinCluster", cluster="default", node_id=leaving.number, address=f"127.0.0.1:{leaving.port}")
    check(code == "OK" and wait_for(lambda: settled(nodes)), "and joins again", (code, reply, asked.words()[-300:]))


def test_stop(nodes):
    """A write that waits for a quorum while its node is told to stop."""
    leader = leader_of(nodes)
    others = [n for n in nodes if n is not leader]
    for n in others:
        n.process.send_signal(signal.SIGSTOP)
    call = leader.stub.ProposeTask.future(pb.ProposeTaskRequest(key="last"), timeout=20)
    wait_for(lambda: leader.of("raft_proposals_pending") > 0, 2)
    leader.process.terminate()
    check(call.code().name == "CANCELLED", "a node that stops answers what it has taken", call.code())
    check(leader.process.wait(timeout=10) == 0, "and ends cleanly")
    for n in others:
        n.process.send_signal(signal.SIGCONT)
    for n in others:
        n.process.terminate()
    check([n.process.wait(timeout=10) for n in others] == [0, 0], "as the others do")


def run(nodes):
    if not check(wait_for(lambda: settled(nodes), 30), "three nodes are one cluster", [n.words() for n in nodes]):
        return
    leader = leader_of(nodes)
    followers = [n for n in nodes if n is not leader]
    for n in nodes:
        n.begin()
    for node, who in ((leader, "leader"), (followers[0], "follower")):
        test_methods(node, nodes, who)
        test_membership(node, nodes, leader)
        test_bad_requests(node, who)
    code, reply = followers[1].ask("GetTaskStatus", task_id="leader")
    check(wait_for(lambda: followers[1].ask("GetTaskStatus", task_id="leader")[0] == "OK"), "what one node took, all have")
    for n in nodes:
        agrees(n, f"node {n.number} has counted what its clients have seen")
    test_strange_peers(followers[0])
    check(settled(nodes), "the cluster does not mind")
    test_between_nodes(nodes)
    test_traffic(nodes)
    test_without_quorum(leader, followers)
    test_leave(nodes)
    check(all(n.process.poll() is None for n in nodes), "every node lives")
    test_stop(nodes)


def main():
    global pb, stubs
    for program in (NODE, AGENT):
        if not os.access(program, os.X_OK):
            print(f"{program} is not built")
            return 77
    directory = tempfile.mkdtemp(prefix="blix-grpc-")
    shm = tempfile.mkdtemp(prefix="blix-grpc-", dir="/dev/shm")
    nodes = []
    try:
        found = load_stubs(directory)
        if not found:
            print("python3-grpc-tools is not installed")
            return 77
        _, pb, stubs = found
        ports = free_ports(6)
        nodes = [Node(directory, shm, i, ports) for i in (1, 2, 3)]
        run(nodes)
    finally:
        for n in nodes:
            n.channel.close()
            for process in (n.agent, n.process):
                if process.poll() is None:
                    process.kill()
                    process.wait()
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(shm, ignore_errors=True)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
