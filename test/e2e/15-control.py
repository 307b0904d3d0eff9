#!/usr/bin/env python3
# timeout: 180 s
"""Goal: what an operator asks of a running agent arrives in the node's file within a second, ends by
itself, is shown, and nobody who may not can ask, stall or break anything.
Method: the real agent beside a real node, blixctl and raw sockets against it; the element is read from
the file by a program of its own (control_dump). Every wait is for a condition, with a deadline."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

BUILD = os.environ.get("B", "build")
AGENT, CTL = os.path.join(BUILD, "blixard-agent"), os.path.join(BUILD, "blixctl")
NODE = os.path.join(BUILD, "test/support/bin/test_node")
DUMP = os.path.join(BUILD, "test/support/bin/control_dump")
NEVER, NOBODY = 1 << 56, 65534

cases = failures = 0
processes = []


def check(good, name, detail=""):
    global cases, failures
    cases += 1
    failures += not good
    text = " ".join(str(detail).split())[:500]
    print(f"{'ok' if good else 'not ok'} {cases} - {name}{'' if good else ': ' + text}", flush=True)
    return good


def until(seconds, what):
    begin = time.monotonic()
    while True:
        result = what()
        if result or time.monotonic() - begin > seconds:
            return result
        time.sleep(0.02)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(*args, env=None, user=None):
    def become():
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)

    done = subprocess.run(args, capture_output=True, text=True, env=env, preexec_fn=become, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


def dump(path):
    code, text, _ = run(DUMP, path)
    if code:
        return None
    found = {"rules": {}}
    for line in text.splitlines():
        words = line.split()
        if words[0] == "threshold":
            found["threshold"], found["ticks"] = int(words[1]), int(words[3])
        elif words[0] == "log_min":
            found["log_min"] = int(words[1])
        elif words[0] == "rule":
            found["rules"][words[1]] = (int(words[3]), int(words[5]))
        elif words[0] == "generation":
            found["generation"] = int(words[1])
    return found


class Agent:
    def __init__(self, where, *options, shm="n1"):
        self.port = free_port()
        self.log = os.path.join(where, f"agent-{self.port}.log")
        self.env = dict(os.environ, RUNTIME_DIRECTORY=os.path.join(where, "run"),
                        STATE_DIRECTORY=os.path.join(where, f"state-{self.port}"))
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [AGENT, "--shm", os.path.join(where, shm), "--listen", f"127.0.0.1:{self.port}", *options],
                stderr=log, env=self.env)
        processes.append(self.process)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
            return answer.read().decode()

    def said(self):
        with open(self.log, encoding="utf-8") as log:
            return log.read()

    def stop(self):
        self.process.terminate()
        return self.process.wait(30)


def start_node(path, truth):
    node = subprocess.Popen([NODE, path, truth, "--threads", "1", "--rate", "10"], stdout=subprocess.PIPE, text=True)
    processes.append(node)
    node.stdout.readline()
    return node


def raw(path, data, half_close=True):
    """What the agent answers to these bytes; None if it hangs up without a word."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(path)
        s.sendall(data)
        if half_close:
            s.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while chunk := s.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass
        return answer or None


def orders(where, agent, shm):
    sock = os.path.join(where, "run", "n1.sock")
    ctl = lambda *a: run(CTL, *a, env=agent.env)
    check(until(20, lambda: "taking orders" in agent.said()), "the agent says where it takes orders", agent.said())
    mode = os.stat(sock).st_mode & 0o777
    check(mode == 0o660, "the socket's mode is 0660", oct(mode))
    code, out, err = ctl("status")
    check(code == 0 and "nothing is set" in out and shm in out, "blixctl finds the only agent and shows its files", out + err)
    check(until(20, lambda: '"draining":true' in agent.get("/status.json").replace(" ", "")), "the agent drains")
    check(dump(shm) is None, "nothing was written where nothing was asked for", dump(shm))
    check("blixard_agent_sampling_ratio" not in agent.get("/metrics?names=canonical").replace("# HELP blixard_agent_sampling_ratio", "").replace("# TYPE blixard_agent_sampling_ratio", ""),
          "no sampling ratio is shown while the node's own holds")

    code, out, err = ctl("sample", "1.0", "--name", "*/CreateVm", "--for", "3s")
    begin = time.monotonic()
    check(code == 0 and "*/CreateVm" in out, "blixctl sample is accepted", out + err)
    got = until(1, lambda: (dump(shm) or {"rules": {}})["rules"].get("*/CreateVm"))
    check(got and got[0] == 0 and 1 <= got[1] <= 3, "the rule is in the file within a second, with its ticks", got)
    status = json.loads(agent.get("/status.json"))["control"]
    check(any(s.get("name") == "*/CreateVm" and s["ratio"] == 1 and 0 < s["seconds_left"] <= 3 for s in status["settings"]),
          "/status.json shows it with the time left", status)
    check("Run-time control" in agent.get("/") and "*/CreateVm" in agent.get("/"), "the page shows it")
    check(until(30, lambda: not dump(shm)["rules"]), "it is gone from the file by itself", dump(shm))
    took = time.monotonic() - begin
    check(took > 2.5, "and not before its time", took)
    check(until(5, lambda: "has ended" in agent.said()), "the end is in the log")

    ctl("sample", "0.25", "--for", "1h")
    ctl("log-level", "warn", "--for", "2h")
    got = dump(shm)
    check(got.get("threshold") == NEVER // 4 * 3 and 3590 <= got["ticks"] <= 3600 and got.get("log_min") == 13,
          "general ratio and log level arrive exactly", got)
    check(re.search(r"^blixard_agent_sampling_ratio 0.25$", agent.get("/metrics?names=canonical"), re.M), "/metrics shows the ratio")
    code, out, _ = ctl("clear")
    got = dump(shm)
    check(code == 0 and "threshold" not in got and "log_min" not in got, "clear takes it all back", got)


def refusals(where, agent, shm):
    sock = os.path.join(where, "run", "n1.sock")
    ctl = lambda *a: run(CTL, *a, env=agent.env)
    before = dump(shm)["generation"]
    for args, word in ((("sample", "1.5", "--for", "1m"), "ratio"), (("sample", "1"), "how long"),
                       (("sample", "1", "--for", "8d"), "7d"), (("status", "--for", "1m"), "takes no"),
                       (("sing",), "unknown command"), ((), "what shall it do"), (("--loud", "status"), "unknown flag"),
                       (("sample", "1", "--for"), "needs a value")):
        code, _, err = ctl(*args)
        check(code == 2 and word in err, f"blixctl {' '.join(args)}: a wrong command line is told and exits with 2", (code, err))
    code, _, err = ctl("log-level", "loud", "--for", "1m")
    check(code == 1 and "level" in err, "what the agent refuses exits with 1", (code, err))
    code, _, err = ctl("sample", "1", "--name", "x" * 48, "--for", "1m")
    check(code == 1 and "47 bytes" in err, "a pattern too long is refused", (code, err))
    code, _, err = run(CTL, "status", env=dict(agent.env, RUNTIME_DIRECTORY=os.path.join(where, "none")))
    check(code == 1 and "blixard-agent --shm" in err, "no agent: it says how to start one", (code, err))
    other = Agent(where, shm="n2")
    until(20, lambda: "taking orders" in other.said())
    code, _, err = ctl("status")
    check(code == 1 and "--socket PATH" in err and "n2.sock" in err, "two agents: it asks which one", (code, err))
    code, out, err = ctl("--shm", shm, "status")
    check(code == 0 and f"agent {agent.process.pid}," in out, "--shm names the one", out + err)
    other.stop()
    code, _, err = run(CTL, "--socket", os.path.join(where, "none.sock"), "status")
    check(code == 1 and "no agent listens on" in err, "no such socket: exit status 1", (code, err))

    for name, line in (("nothing", b"\n"), ("no JSON", b"hello\n"), ("an array", b"[]\n"), ("deep nesting", b"[" * 4000 + b"\n"),
                       ("another version", b'{"version":2,"command":"status"}\n'), ("no version", b'{"command":"status"}\n'),
                       ("a key twice", b'{"version":1,"version":1,"command":"status"}\n'), ("bytes of no text", b"\xff\x00\xfe\n"),
                       ("an unknown argument", b'{"version":1,"command":"sample","ratio":1,"nme":"x","for":9}\n'),
                       ("no end", b'{"version":1,"command":"sample","ratio":1}\n'), ("a line too long", b"x" * 9000 + b"\n"),
                       ("a huge number", b'{"version":1,"command":"sample","ratio":1,"for":1e400}\n')):
        answer = raw(sock, line, half_close=False)
        try:
            good = json.loads(answer)["ok"] is False and json.loads(answer)["error"]
        except (TypeError, ValueError, KeyError):
            good = False
        check(good, f"hostile: {name} is refused in words", answer)
    check(dump(shm)["generation"] == before, "and changed nothing", dump(shm))
    check(raw(sock, b'{"version":1') is None, "half a line and then the end: hung up")
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(sock)
        slow.settimeout(60)
        slow.send(b"{")
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(7)]
        for s in crowd:
            s.connect(sock)
        code, out, err = ctl("status")
        check(code == 0, "eight idle clients: the next one gets its turn when they are timed out", out + err)
        check(slow.recv(1) == b"", "a slow client is cut off")
        for s in crowd:
            s.close()
    if os.geteuid() == 0:
        code, _, err = run(CTL, "--socket", sock, "status", user=NOBODY)
        check(code == 1 and "permission denied" in err, "another user may not even connect", (code, err))
        os.chmod(sock, 0o666)
        code, out, err = run(CTL, "--socket", sock, "clear", user=NOBODY)
        check(code == 1 and until(5, lambda: "refused process" in agent.said()), "nor give orders where the mode lets it connect", (code, out, err))


def lives(where, agent, node, shm):
    ctl = lambda *a: run(CTL, *a, env=agent.env)
    sock = os.path.join(where, "run", "n1.sock")
    ctl("sample", "1", "--name", "*", "--for", "1h")
    node.terminate()
    node.wait(30)
    node = start_node(shm, os.path.join(where, "truth2"))
    check(until(30, lambda: (dump(shm) or {"rules": {}})["rules"].get("*")), "a new incarnation has the settings at once", dump(shm))
    second = Agent(where, "--node-log-level", "error")
    check(until(30, lambda: "belongs to another running agent" in second.said()), "a second agent leaves the socket alone", second.said())
    agent.process.send_signal(signal.SIGKILL)
    agent.process.wait()
    check(os.path.exists(sock), "a killed agent leaves its socket behind")
    check(until(40, lambda: "taking orders" in second.said()), "the second takes over the stale socket", second.said())
    got = until(40, lambda: (lambda d: d if d.get("log_min") == 17 and not d["rules"] else None)(dump(shm)))
    check(got, "and its own settings replace those of the dead one", dump(shm))
    code, out, err = ctl("status")
    check(code == 0 and "log-level error  without end  (config)" in out, "blixctl shows what the flag set", out + err)
    check(second.stop() == 0 and not os.path.exists(sock), "an agent that stops removes its socket")
    return node


def configuration(where, shm):
    path = os.path.join(where, "agent.json")

    def write(value):
        with open(path, "w", encoding="utf-8") as f:
            json.dump(value, f)

    write({"sampling": {"ratio": 0.5, "rules": [{"name": "raft*", "ratio": 0, "for": "1h"}, {"name": "a?", "ratio": 1}]}})
    agent = Agent(where, "--config", path)
    got = until(30, lambda: (lambda d: d if d.get("threshold") == NEVER // 2 else None)(dump(shm)))
    check(got and list(got["rules"]) == ["raft*", "a?"] and got["rules"]["raft*"][0] == NEVER and got["ticks"] <= 60,
          "the configuration file's sampling holds, in its order, with few ticks where it has no end", dump(shm))
    write({"sampling": {"rules": [{"name": "a?", "ratio": 0.5}]}, "node-log-level": "debug"})
    agent.process.send_signal(signal.SIGHUP)
    got = until(30, lambda: (lambda d: d if d.get("log_min") == 5 else None)(dump(shm)))
    check(got and "threshold" not in got and got["rules"] == {"a?": (NEVER // 2, 60)}, "SIGHUP replaces it", dump(shm))
    write({"sampling": {"rules": [{"name": "", "ratio": 0.5}]}})
    agent.process.send_signal(signal.SIGHUP)
    check(until(30, lambda: "rule 1" in agent.said()), "a wrong one is told", agent.said())
    check(dump(shm)["rules"] == {"a?": (NEVER // 2, 60)}, "and the configuration stays as it was", dump(shm))
    generation = dump(shm)["generation"]
    check(until(60, lambda: dump(shm)["generation"] > generation), "what has no end is written again before its ticks run out")
    agent.stop()


def main():
    for program in (AGENT, CTL, NODE, DUMP):
        if not os.access(program, os.X_OK):
            print(f"{program} is missing: make test-programs")
            return 77
    where = tempfile.mkdtemp(prefix="blix-control-", dir="/dev/shm")
    os.chmod(where, 0o755)
    try:
        shm = os.path.join(where, "n1")
        node = start_node(shm, os.path.join(where, "truth"))
        agent = Agent(where)
        orders(where, agent, shm)
        refusals(where, agent, shm)
        lives(where, agent, node, shm)
        configuration(where, shm)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(where, ignore_errors=True)
    print(f"1..{cases}")
    return 1 if failures else 0


sys.exit(main())
