"""Disks with a known delay, fio as the judge, and the probes: for test/e2e/70-storage-*.

A disk is nbdkit (memory behind delay or error filters) seen as a file through nbdfuse and as a block
device through a loop device: a real blk-mq device, and no special kernel driver. Everything is taken
down in the order that cannot hang: loop device, mount, servers by their own pids.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("B", "build")
PROBE = f"{BUILD}/test/support/bin/storage_probe"
TRACEFS = "/sys/kernel/tracing"


def skip(reason):
    print(f"skip: {reason}")
    sys.exit(77)


def need(*programs):
    if os.geteuid() != 0:
        skip("needs root, for BPF and loop devices")
    for program in programs:
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            skip(f"{program} is not installed")
    if not os.path.exists("/sys/kernel/btf/vmlinux"):
        skip("this kernel has no BTF (/sys/kernel/btf/vmlinux)")


def own_mounts():
    """A mount namespace of our own with tracefs in it, so that nothing of the machine changes."""
    if os.environ.get("STORAGE_RIG_UNSHARED"):
        return
    env = dict(os.environ, STORAGE_RIG_UNSHARED="1")
    os.execvpe("unshare", ["unshare", "-m", "--propagation", "slave", sys.executable, *sys.argv], env)


def mount_tracefs():
    if not os.path.exists(f"{TRACEFS}/events"):
        subprocess.run(["mount", "-t", "tracefs", "tracefs", TRACEFS], capture_output=True)
    return os.path.exists(f"{TRACEFS}/events/syscalls/sys_enter_fsync")


def wait_for(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise TimeoutError(f"{what} did not happen within {seconds} s")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Disk:
    """`plugin`: nbdkit's own words, e.g. ["--filter=delay", "memory", "64M", "rdelay=20ms"]."""

    def __init__(self, plugin, loop=True):
        self.dir = tempfile.mkdtemp(prefix="blixard-disk-")
        self.mount = f"{self.dir}/mnt"
        os.mkdir(self.mount)
        self.file = f"{self.mount}/disk"
        self.loop, self.processes = None, []
        sock = f"{self.dir}/sock"
        try:
            self.start(["nbdkit", "-f", "-t", "8", "-U", sock, *plugin])
            wait_for("nbdkit", lambda: os.path.exists(sock))
            self.start(["nbdfuse", self.file, f"nbd+unix:///?socket={sock}"])
            wait_for("nbdfuse", lambda: os.path.exists(self.file))
            if loop:
                self.loop = run("losetup", "-f", "--show", "--direct-io=on", self.file).strip()
        except BaseException:
            self.close()
            raise

    def start(self, command):
        self.processes.append(subprocess.Popen(command, stderr=subprocess.PIPE))

    @property
    def dev(self):
        st = os.stat(self.loop)
        return f"{os.major(st.st_rdev)}:{os.minor(st.st_rdev)}"

    def close(self):
        if self.loop:
            subprocess.run(["losetup", "-d", self.loop], capture_output=True)
        subprocess.run(["fusermount3", "-u", self.mount], capture_output=True)
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Probe:
    def __init__(self, *flags, prefix=()):
        self.process = subprocess.Popen([*prefix, PROBE, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.first = json.loads(self.process.stdout.readline() or '{"error": -1, "reason": "no answer"}')

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def read(self):
        return self.ask("read")

    def drain(self):
        self.process.stdin.write("drain\n")
        self.process.stdin.flush()
        events = []
        while True:
            event = json.loads(self.process.stdout.readline())
            if not event:
                return events
            events.append(event)

    def close(self):
        self.process.stdin.close()
        self.notes = self.process.stderr.read()
        self.process.wait(10)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.close()


def block(answer, dev, op):
    """All origins of one device and operation together."""
    rows = [r for r in answer["block"]["series"] if r["dev"] == dev and r["op"] == op]
    total = {k: sum(r[k] for r in rows) for k in ("n", "sum_ns", "bytes", "errors", "queue_ns", "queued")}
    total["mean_us"] = total["sum_ns"] / total["n"] / 1000 if total["n"] else 0
    total["top_s"] = max((2 ** ((r["top_otlp"] + 1) / 4) for r in rows if r["n"]), default=0)
    return total


def fio(name, *args, ok=True, process=None):
    """fio's own figures of its first job. `process`: called with the Popen before fio does its work."""
    command = ["fio", f"--name={name}", "--output-format=json", "--thread", "--allow_file_create=1", *args]
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if process:
        process(p)
    out, err = p.communicate(timeout=300)
    if ok and p.returncode != 0:
        raise RuntimeError(f"fio: {err.strip()} {out[-300:]}")
    return json.loads(out[out.index("{"):])["jobs"][0]


class Tap:
    def __init__(self):
        self.n, self.failed = 0, 0

    def check(self, good, what):
        self.n += 1
        self.failed += not good
        print(f"{'ok' if good else 'not ok'} {self.n} - {what}", flush=True)

    def skip(self, what, why):
        self.n += 1
        print(f"ok {self.n} - {what} # skip {why}", flush=True)

    def end(self):
        print(f"1..{self.n}")
        sys.exit(1 if self.failed else 0)
