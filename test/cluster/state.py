"""The state file of a running cluster: JSON that says where its nodes are and how to start them.

Written by what starts a cluster (demo.py, testbed.py), read by the relay, read and changed by `fault`:

    {"dir": "/tmp/...", "relay": {"pid": 7, "control": "/tmp/.../relay.sock"} or null,
     "nodes": [{"id": 1, "pid": 8, "agent_pid": 9, "port": 7001, "listen_port": 9001,
                "agent_port": 8001, "shm": "/dev/shm/blix1", "data": "/tmp/.../data1",
                "log": "/tmp/.../node1.log", "command": ["build/blixard-node", "--id", "1", ...]}],
     "collector": {"pid": 10, "word": "otelcol"},
     "in_force": [["freeze", 2]], "helpers": {"2": 4711}, "mounts": ["/tmp/.../data2"]}

`collector`, if there is one, receives what the agents export; `word` is one of its command line.
`port` is what peers and clients dial: the relay's when there is one, and then the node listens on
`listen_port`. `helpers` are processes that keep a fault up; `mounts` is to be unmounted at the end.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time


def read(path):
    with open(path) as f:
        return json.load(f)


def write(path, state):
    """Readers see the old file or the new one."""
    with open(path + ".new", "w") as f:
        json.dump(state, f, indent=1)
    os.replace(path + ".new", path)


@contextlib.contextmanager
def changing(path):
    """The state, written back at the end; one at a time."""
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = read(path)
        yield state
        write(path, state)


def new(directory):
    return {"dir": directory, "relay": None, "nodes": [], "in_force": [], "helpers": {}, "mounts": []}


def is_running(pid, *words):
    """Whether this process lives and has these words on its command line: pids are used again."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            dead = f.read().rpartition(")")[2].split()[0] in "ZX"
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            line = f.read().decode(errors="replace").split("\0")
    except OSError:
        return False
    return not dead and all(word in line for word in words)


def start_node(node):
    with open(node["log"], "ab") as log:
        process = subprocess.Popen(node["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   start_new_session=True)
    node["pid"] = process.pid
    return process


def end(pid, *words, seconds=5):
    """SIGTERM, and SIGKILL when that does not help."""
    for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + seconds
        if is_running(pid, *words):
            os.kill(pid, number)
        while number != signal.SIGCONT and is_running(pid, *words) and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # when it is our child
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.02)


def clean_up(state):
    """End everything that the file knows of, whoever started it."""
    for pid in state["helpers"].values():
        end(pid)
    for node in state["nodes"]:
        end(node["pid"], node["shm"])
    if state["relay"]:
        end(state["relay"]["pid"])
    for mount in state["mounts"]:
        subprocess.run(["umount", "-l", mount], stderr=subprocess.DEVNULL, check=False)
