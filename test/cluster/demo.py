#!/usr/bin/env python3
"""make demo: three nodes, an agent beside each, a Prometheus that scrapes the agents, and an OTLP
receiver that gets what they export and at the end shows one trace through the cluster as a tree.

With OTEL_EXPORTER_OTLP_ENDPOINT (or one signal's own) in the environment there is no receiver: agents
export to where it says. Nodes and agents get the demo's environment as it is.

Prints the URLs to open and a live line for each node until Ctrl-C, or until DEMO_SECONDS have passed
since everything answered. Everything it made is gone afterwards. Exit code 0 only when the whole
cluster was up and healthy and Prometheus had scraped all of it.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import state

RECEIVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../verifiers/otlp_grpc.py")
ENDPOINTS = ["OTEL_EXPORTER_OTLP_" + part + "ENDPOINT" for part in ("", "TRACES_", "METRICS_", "LOGS_")]
START_DEADLINE_S = 60
STOP_DEADLINE_S = 10


class DemoError(Exception):
    """Something a person can act on; shown as one line."""


def setting(name, default):
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise DemoError(f"{name}={text} is not a whole number") from None
    if not 0 < value <= 65535:
        raise DemoError(f"{name}={text} is out of range: 1 to 65535")
    return value


def get(url, timeout_s=2.0):
    """(status, body); status 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")
    except (OSError, ValueError):
        return 0, ""


def samples(text):
    """Unlabelled samples of a text 0.0.4 body, and sums over the labelled ones by name."""
    values = {}
    for line in text.splitlines():
        if line and line[0] != "#":
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0]
            try:
                values[name] = values.get(name, 0.0) + float(value)
            except ValueError:
                continue
    return values


class Program:
    """A child with its log; ended by pid, politely first."""

    def __init__(self, name, command, log_path, env=None):
        self.name, self.log_path, self.command = name, log_path, command
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT, env=env,
                                            start_new_session=True)

    def alive(self):
        return self.process.poll() is None

    def last_lines(self, n=5):
        with open(self.log_path, errors="replace") as log:
            return "".join("    " + line for line in log.readlines()[-n:])

    def stop(self, deadline):
        if self.alive():
            self.process.terminate()
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Node:
    """One node with its agent, and what the last look at it found."""

    def __init__(self, demo, index):
        self.index = index
        self.grpc_port = demo.grpc_port + index - 1
        self.agent_port = self.grpc_port + 1000
        self.listen_port = self.grpc_port + 2000  # when there is a relay at grpc_port
        self.shm = f"{demo.shm_prefix}{index}"
        self.url = f"http://127.0.0.1:{self.agent_port}"
        self.node = self.agent = None
        self.values, self.before, self.seen_s, self.before_s = {}, {}, 0.0, 0.0
        self.was_healthy = False

    def look(self):
        status, body = get(self.url + "/metrics")
        self.before, self.before_s = self.values, self.seen_s
        self.values, self.seen_s = (samples(body) if status == 200 else {}), time.monotonic()

    def health(self):
        return get(self.url + "/health")

    def rate(self, name):
        if name not in self.values or name not in self.before:
            return 0.0
        return max(0.0, self.values[name] - self.before[name]) / max(0.001, self.seen_s - self.before_s)

    def mean_ms(self, name):
        n = self.values.get(name + "_count", 0) - self.before.get(name + "_count", 0)
        total = self.values.get(name + "_sum", 0) - self.before.get(name + "_sum", 0)
        return 1000 * total / n if n > 0 else 0.0

    def summary(self):
        up = self.values.get("blixard_node_up")
        if not self.values:
            return f"node {self.index}  agent does not answer on port {self.agent_port}"
        if not up:
            return f"node {self.index}  DOWN  its agent keeps serving its last counters: {self.url}/health"
        role = "leader  " if self.values.get("blixard_raft_is_leader") else "follower"
        return (f"node {self.index}  up  {role}  term {self.values.get('blixard_raft_term', 0):.0f}"
                f"  commit {self.values.get('blixard_raft_commit_index', 0):,.0f}"
                f"  proposals {self.rate('blixard_raft_proposals_total'):,.0f}/s"
                f" ({self.mean_ms('blixard_raft_proposal_duration_seconds'):.2f} ms)"
                f"  writes {self.rate('blixard_storage_writes_total'):,.0f}/s"
                f" ({self.mean_ms('blixard_storage_write_duration_seconds'):.2f} ms)"
                f"  gRPC {self.rate('blixard_grpc_requests_total'):,.0f}/s"
                f"  VMs {self.values.get('blixard_vms_running', 0):.0f}/{self.values.get('blixard_vms', 0):.0f}"
                f"  peers {self.values.get('blixard_peer_connections_active', 0):.0f}")


class Demo:
    def __init__(self, build):
        self.build = build
        self.grpc_port = setting("DEMO_GRPC_PORT", 7001)
        self.prometheus_port = setting("DEMO_PROMETHEUS_PORT", 9090)
        self.seconds = setting("DEMO_SECONDS", 0)
        self.state_file = os.environ.get("DEMO_STATE", "")
        self.shm_prefix = os.environ.get("DEMO_SHM_PREFIX", "/dev/shm/blix")
        self.programs, self.receiver, self.receiver_port = [], None, 0
        self.dir = tempfile.mkdtemp(prefix="blixard-demo-")
        self.nodes = [Node(self, index) for index in (1, 2, 3)]
        self.prometheus_url = f"http://127.0.0.1:{self.prometheus_port}"

    # ---- before ------------------------------------------------------------------------------
    def check_ports(self):
        wanted = [(n.grpc_port, "DEMO_GRPC_PORT") for n in self.nodes]
        wanted += [(n.agent_port, "DEMO_GRPC_PORT (agents listen 1000 above it)") for n in self.nodes]
        wanted += [(self.prometheus_port, "DEMO_PROMETHEUS_PORT")]
        if self.state_file:
            wanted += [(n.listen_port, "DEMO_GRPC_PORT (nodes behind the relay listen 2000 above it)") for n in self.nodes]
        for port, variable in wanted:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise DemoError(f"port {port} on 127.0.0.1 is taken ({error.strerror}); "
                                    f"set {variable} to move it") from None

    def check_files(self):
        for program in ("blixard-node", "blixard-agent", "tools/usr/bin/prometheus"):
            if not os.access(os.path.join(self.build, program), os.X_OK):
                raise DemoError(f"{self.build}/{program} is missing; run 'make demo' from the top folder")

    # ---- run ----------------------------------------------------------------------------------
    def start(self, name, command, env=None):
        program = Program(name, command, os.path.join(self.dir, name + ".log"), env)
        self.programs.append(program)
        return program

    def command_of(self, node):
        command = [os.path.abspath(f"{self.build}/blixard-node"), "--id", str(node.index),
                   "--bind", f"127.0.0.1:{node.grpc_port}", "--shm", node.shm,
                   "--data", os.path.join(self.dir, f"data{node.index}"), "--load", "100"]
        if self.state_file:
            command += ["--listen", f"127.0.0.1:{node.listen_port}"]
        if node.index > 1:
            command += ["--join", f"127.0.0.1:{self.grpc_port}"]
        return command

    def start_node(self, node):
        node.node = self.start(f"node{node.index}", self.command_of(node))

    # ---- what `fault` needs to know, and a relay that can part the nodes ----------------------------
    def start_relay(self):
        s = state.new(self.dir)
        s["relay"] = {"pid": 0, "control": os.path.join(self.dir, "relay.sock")}
        s["nodes"] = [{"id": n.index, "pid": 0, "agent_pid": 0, "port": n.grpc_port, "listen_port": n.listen_port,
                       "agent_port": n.agent_port, "shm": n.shm, "data": os.path.join(self.dir, f"data{n.index}"),
                       "log": os.path.join(self.dir, f"node{n.index}.log"), "command": self.command_of(n)}
                      for n in self.nodes]
        state.write(self.state_file, s)
        relay = self.start("relay", [sys.executable, os.path.join(os.path.dirname(__file__), "relay.py"), self.state_file])
        deadline = time.monotonic() + START_DEADLINE_S
        while not os.path.exists(s["relay"]["control"]):
            if not relay.alive() or time.monotonic() > deadline:
                raise DemoError(f"the relay does not start:\n{relay.last_lines()}")
            time.sleep(0.05)

    def write_pids(self):
        with state.changing(self.state_file) as s:
            s["relay"]["pid"] = next(p.process.pid for p in self.programs if p.name == "relay")
            for node, entry in zip(self.nodes, s["nodes"]):
                entry["pid"], entry["agent_pid"] = node.node.process.pid, node.agent.process.pid

    # ---- OpenTelemetry --------------------------------------------------------------------------
    def start_receiver(self):
        self.receiver = self.start("otlp", ["/usr/bin/python3", RECEIVER, "--protos", "ours", "--tree"])
        deadline = time.monotonic() + START_DEADLINE_S
        while not self.receiver_port:
            if not self.receiver.alive() or time.monotonic() > deadline:
                raise DemoError(f"the OTLP receiver does not start:\n{self.receiver.last_lines()}")
            time.sleep(0.02)
            with open(self.receiver.log_path, errors="replace") as log:
                self.receiver_port = next((int(line.split()[1]) for line in log if line.startswith("listening ")), 0)

    def agent_environment(self, node):
        env = dict(os.environ)
        for variable, name in (("STATE_DIRECTORY", "agent"), ("RUNTIME_DIRECTORY", "run")):
            env[variable] = os.path.join(self.dir, f"{name}{node.index}")
            os.mkdir(env[variable], 0o700)
        if self.receiver:
            for part in ("", "TRACES_", "METRICS_", "LOGS_"):  # whatever is set was not meant for this receiver
                env.pop(f"OTEL_EXPORTER_OTLP_{part}PROTOCOL", None)
            env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{self.receiver_port}"
            env.setdefault("OTEL_METRIC_EXPORT_INTERVAL", "2000")
        return env

    def print_tree(self):
        """What the receiver wrote when it ended, after the agents had sent the last they had."""
        with open(self.receiver.log_path, errors="replace") as log:
            lines = [line.rstrip("\n") for line in log]
        print("\nwhat the OTLP receiver got, one trace of it:")
        for line in lines:
            if not line.startswith("listening "):
                print("  " + line)

    def start_agent(self, node):
        node.agent = self.start(f"agent{node.index}", [f"{self.build}/blixard-agent", "--shm", node.shm],
                                self.agent_environment(node))

    def start_prometheus(self):
        targets = json.dumps([f"127.0.0.1:{n.agent_port}" for n in self.nodes])
        config = os.path.join(self.dir, "prometheus.yml")
        with open(config, "w") as f:
            f.write("global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n"
                    "scrape_configs:\n  - job_name: blixard\n    static_configs:\n"
                    f"      - targets: {targets}\n        labels: {{cluster: demo}}\n")
        self.prometheus = self.start("prometheus", [
            "bash", os.path.join(os.path.dirname(__file__), "../support/prometheus.sh"),
            f"{self.build}/tools", f"--config.file={config}",
            f"--storage.tsdb.path={self.dir}/prometheus", "--enable-feature=exemplar-storage",
            f"--web.listen-address=127.0.0.1:{self.prometheus_port}"])

    def scraped(self):
        """How many agents Prometheus has scraped well, by its own account."""
        query = urllib.parse.urlencode({"query": 'sum(up{job="blixard"})'})
        status, body = get(f"{self.prometheus_url}/api/v1/query?{query}")
        try:
            return int(float(json.loads(body)["data"]["result"][0]["value"][1])) if status == 200 else 0
        except (ValueError, KeyError, IndexError):
            return 0

    def wait_until_answering(self):
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            for program in self.programs:
                if not program.alive():
                    raise DemoError(f"{program.name} ended with {program.process.returncode}; "
                                    f"its last lines:\n{program.last_lines()}")
            if all(n.health()[0] == 200 for n in self.nodes) and self.scraped() == len(self.nodes):
                for node in self.nodes:
                    node.look()
                if all(n.values.get("blixard_raft_has_leader") for n in self.nodes):
                    return
            time.sleep(0.2)
        answers = ", ".join(f"node {n.index}: {n.health()[0] or 'no answer'}" for n in self.nodes)
        raise DemoError(f"not everything answered within {START_DEADLINE_S} s (health: {answers}; "
                        f"scraped by Prometheus: {self.scraped()} of 3)")

    def print_urls(self):
        print(f"\n  Prometheus   {self.prometheus_url}/   try: sum by (instance) (rate(raft_proposals_total[30s]))")
        for node in self.nodes:
            print(f"  node {node.index}       {node.url}/   /metrics /health /status.json"
                  f"   file {node.shm}   pid {node.node.process.pid}")
        if self.receiver:
            print(f"  OTLP         http://127.0.0.1:{self.receiver_port}/   gRPC; one trace is shown at the end")
        else:
            print("  OTLP         to where the environment says: " + ", ".join(v for v in ENDPOINTS if os.environ.get(v)))
        print(f"  logs         {self.dir}/*.log")
        if self.state_file:
            print(f"  faults       test/cluster/fault --state {self.state_file} --help")
        print("  try          kill -9 one of the pids, and watch its page and the others\n")

    def watch(self):
        """True when every look found everything healthy."""
        live = sys.stdout.isatty()
        started = time.monotonic()
        healthy, first = True, True
        end = started + (self.seconds or float("inf"))
        while time.monotonic() < end:
            time.sleep(max(0.1, min(1 if live else 5, end - time.monotonic())))
            for node in self.nodes:
                node.look()
            if live and not first:
                sys.stdout.write(f"\x1b[{len(self.nodes)}A")
            for node in self.nodes:
                print(("\x1b[2K" if live else "") + node.summary())
                healthy = healthy and node.health()[0] == 200
            if not live:
                print(f"-- {time.monotonic() - started:.0f} s")
            first = False
        return healthy and self.scraped() == len(self.nodes) and all(p.alive() for p in self.programs)

    # ---- after --------------------------------------------------------------------------------
    def stop_all(self, programs):
        deadline = time.monotonic() + STOP_DEADLINE_S
        for program in reversed(programs):
            if program.alive():
                program.process.terminate()
        for program in programs:
            program.stop(deadline)

    def clean_up(self, keep_logs):
        if self.state_file and os.path.exists(self.state_file):
            state.clean_up(state.read(self.state_file))  # nodes that `fault` has started are nobody's children
            for name in (self.state_file, self.state_file + ".lock"):
                if os.path.exists(name):
                    os.unlink(name)
        agents = [n.agent for n in self.nodes if n.agent]
        # Who sends ends before who receives: the last spans are to arrive.
        self.stop_all([p for p in self.programs if p not in agents and p is not self.receiver])
        self.stop_all(agents)
        if self.receiver:
            self.stop_all([self.receiver])
            if self.receiver_port:
                self.print_tree()
        for node in self.nodes:
            directory, name = os.path.split(node.shm)
            for entry in os.listdir(directory):
                if node.node and (entry == name or entry.startswith(name + ".o.")):
                    os.unlink(os.path.join(directory, entry))
        if keep_logs and self.programs:
            print(f"the logs are kept in {self.dir}", file=sys.stderr)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def run(self):
        self.check_files()
        self.check_ports()
        print("starting three nodes, three agents, Prometheus and an OTLP receiver ...")
        if not any(os.environ.get(variable) for variable in ENDPOINTS):
            self.start_receiver()
        if self.state_file:
            self.start_relay()
        for node in self.nodes:
            self.start_node(node)
        for node in self.nodes:
            self.start_agent(node)
        if self.state_file:
            self.write_pids()
        self.start_prometheus()
        self.wait_until_answering()
        self.print_urls()
        healthy = self.watch()
        print("everything was healthy to the end" if healthy else "NOT everything was healthy: see above")
        return 0 if healthy else 1


def interrupt(_signum, _frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build", help="folder of the programs")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    sys.stdout.reconfigure(line_buffering=True)  # a person may watch through a pipe
    demo, code = None, 1
    try:
        demo = Demo(args.build)
        code = demo.run()
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nstopping")
        code = 0
    finally:
        if demo:
            demo.clean_up(keep_logs=code != 0)
    return code


if __name__ == "__main__":
    sys.exit(main())
