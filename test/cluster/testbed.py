"""A cluster for tests: nodes with an agent beside each, behind a relay, and the state file that `fault`
works on. Everything is on free ports and in folders of its own, and gone after close()."""

import importlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import state

HERE = os.path.dirname(os.path.abspath(__file__))


def wait_for(condition, seconds=15):
    """The condition's first true value, or its last false one."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.05)


def free_ports(n):
    taken = [socket.socket() for _ in range(n)]
    for s in taken:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in taken]
    for s in taken:
        s.close()
    return ports


def load_stubs(directory):
    """A gRPC client made from our .proto: (grpc, messages, stubs); None: a package is missing."""
    try:
        from grpc_tools import protoc
        grpc = importlib.import_module("grpc")
    except ImportError:
        return None
    if protoc.main(["protoc", "-Iproto", f"--python_out={directory}", f"--grpc_python_out={directory}", "proto/blixard_cluster.proto"]):
        return None
    if directory not in sys.path:
        sys.path.insert(0, directory)
    return grpc, importlib.import_module("blixard_cluster_pb2"), importlib.import_module("blixard_cluster_pb2_grpc")


class Metrics(dict):
    """Samples by `name{labels}`; names without the prefix blixard_."""

    def of(self, name):
        return self.get(name, 0.0)

    def total(self, family, **labels):
        wanted = [f'{k}="{v}"' for k, v in labels.items()]
        return sum(v for k, v in self.items() if k.partition("{")[0] == family and all(w in k for w in wanted))


class Node:
    def __init__(self, bed, number):
        self.bed, self.number = bed, number
        self.agent = None

    def entry(self):
        return self.bed.state()["nodes"][self.number - 1]

    @property
    def target(self):
        return f"127.0.0.1:{self.entry()['port']}"

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.entry()['agent_port']}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metrics(self):
        code, body = self.get("/metrics?names=canonical")
        found = Metrics()
        for line in body.splitlines() if code == 200 else ():
            if line and line[0] != "#":
                key, _, value = line.rpartition(" ")
                found[key.removeprefix("blixard_")] = float(value)
        return found

    def of(self, name):
        return self.metrics().of(name)

    def healthy(self):
        return self.get("/health")[0] == 200

    def words(self, n=1500):
        with open(self.entry()["log"], errors="replace") as log:
            return log.read()[-n:]


class Testbed:
    """`extra`: further arguments of every node. Without `relay` clients dial the nodes themselves; without
    `agents` nobody reads the nodes' files."""

    def __init__(self, build, n=3, extra=(), relay=True, agent_extra=(), agents=True):
        self.agents = agents
        self.build, self.children = os.path.abspath(build), []
        self.dir = tempfile.mkdtemp(prefix="blix-testbed-")
        self.shm = tempfile.mkdtemp(prefix="blix-testbed-", dir="/dev/shm")
        self.file = os.path.join(self.dir, "state.json")
        self.nodes = [Node(self, i + 1) for i in range(n)]
        s = state.new(self.dir)
        ports = free_ports(3 * n)
        for i in range(n):
            s["nodes"].append(self.describe(i + 1, ports[3 * i:3 * i + 3], s, extra, relay))
        if relay:
            s["relay"] = {"pid": 0, "control": os.path.join(self.dir, "relay.sock")}
        state.write(self.file, s)
        if relay:
            self.start_relay()
        for node in self.nodes:
            self.start(node, agent_extra)

    def describe(self, number, ports, s, extra, relay):
        port, listen_port, agent_port = ports
        first = s["nodes"][0]["port"] if number > 1 else 0
        data, shm = os.path.join(self.dir, f"data{number}"), os.path.join(self.shm, f"blix{number}")
        command = [os.path.join(self.build, "blixard-node"), "--id", str(number), "--bind", f"127.0.0.1:{port}",
                   "--shm", shm, "--data", data, *extra]
        if relay:
            command += ["--listen", f"127.0.0.1:{listen_port}"]
        if number > 1:
            command += ["--join", f"127.0.0.1:{first}"]
        return {"id": number, "pid": 0, "agent_pid": 0, "port": port, "listen_port": listen_port,
                "agent_port": agent_port, "shm": shm, "data": data,
                "log": os.path.join(self.dir, f"node{number}.log"), "command": command}

    def start_relay(self):
        process = subprocess.Popen([sys.executable, os.path.join(HERE, "relay.py"), self.file])
        self.children.append(process)
        with state.changing(self.file) as s:
            s["relay"]["pid"] = process.pid
        if not wait_for(lambda: os.path.exists(s["relay"]["control"])):
            raise RuntimeError("the relay does not start")

    def start(self, node, agent_extra):
        with state.changing(self.file) as s:
            entry = s["nodes"][node.number - 1]
            self.children.append(state.start_node(entry))
            if not self.agents:
                return
            directory = os.path.join(self.dir, f"agent{node.number}")
            os.mkdir(directory)
            with open(os.path.join(self.dir, f"agent{node.number}.log"), "w") as log:
                node.agent = subprocess.Popen(
                    [os.path.join(self.build, "blixard-agent"), "--shm", entry["shm"],
                     "--listen", f"127.0.0.1:{entry['agent_port']}", *agent_extra],
                    stderr=log, env=dict(os.environ, STATE_DIRECTORY=directory, RUNTIME_DIRECTORY=directory))
            entry["agent_pid"] = node.agent.pid
            self.children.append(node.agent)

    def state(self):
        return state.read(self.file)

    def leader(self):
        leaders = [n for n in self.nodes if n.healthy() and n.of("raft_is_leader") == 1]
        return leaders[0] if len(leaders) == 1 else None

    def leader_by_log(self):
        """The one that the nodes' own logs name, in the highest term that one of them has seen."""
        found = [(int(term), int(number)) for node in self.nodes
                 for number, term in re.findall(r"node (\d+) leads in term (\d+)", node.words(1 << 20))]
        return self.nodes[max(found)[1] - 1] if found else None

    def settled(self):
        """One leader, and every node healthy in everybody's eyes."""
        n = len(self.nodes)
        found = [node.metrics() for node in self.nodes]
        return (sum(m.of("raft_is_leader") for m in found) == 1 and all(m.of("node_up") == 1 for m in found)
                and all(m.of("cluster_nodes") == n == m.of("cluster_nodes_healthy") for m in found)
                and all(m.of("peer_connections_active") == n - 1 for m in found)
                and all(node.healthy() for node in self.nodes))

    def fault(self, *words):
        """(exit code, what it says)."""
        for child in self.children:
            child.poll()
        out = subprocess.run([sys.executable, os.path.join(HERE, "fault"), "--state", self.file, *map(str, words)],
                             capture_output=True, text=True, timeout=60)
        return out.returncode, out.stdout + out.stderr

    def close(self):
        state.clean_up(self.state())
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.rmtree(self.shm, ignore_errors=True)


class Checks:
    """Counts and prints cases as TAP."""

    def __init__(self):
        self.cases = self.failed = 0

    def __call__(self, good, name, detail=""):
        self.cases += 1
        self.failed += not good
        text = re.sub(r"\s*\n\s*", " | ", str(detail))[:900]
        print(f"{'ok' if good else 'not ok'} {self.cases} - {name}{'' if good else ': ' + text}", flush=True)
        return good

    def skip(self, name, why):
        self.cases += 1
        print(f"ok {self.cases} - {name} # SKIP {why}", flush=True)

    def end(self):
        print(f"1..{self.cases}")
        return 1 if self.failed else 0
