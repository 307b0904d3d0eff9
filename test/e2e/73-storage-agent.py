#!/usr/bin/env python3
"""The agent with its probes: two nodes, one of them on a slow disk; then without rights, without BPF.

Goal: fsync latency of each node on its own page, devices and origins by name, one log line of a slow
wait, probes loaded once; without rights or with --no-bpf the families are absent, probe_up is 0, and
everything else is served. Least privilege is enough and is given up.
Method: the reference node on ext4 on a disk whose writes take 30 ms, its neighbour on the machine's.
"""
# timeout: 240 s
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from storage_rig import BUILD, Disk, Tap, mount_tracefs, need, own_mounts, run, skip, wait_for

need("nbdkit", "nbdfuse", "fusermount3", "losetup", "mkfs.ext4", "unshare", "setpriv", "bpftool")
if not os.path.exists("/dev/fuse"):
    skip("there is no /dev/fuse")
own_mounts()
mount_tracefs()
os.environ["PATH"] += ":/usr/sbin:/sbin"
tap = Tap()
work = tempfile.mkdtemp(prefix="blixard-storage-", dir="/var/tmp")
os.chmod(work, 0o755)
children = []


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def node(number, data, rate=20):
    shm = f"/dev/shm/blix-storage-{os.getpid()}-{number}"
    p = subprocess.Popen([f"{BUILD}/blixard-node", "--id", str(number), "--bind", f"127.0.0.1:{free_port()}", "--shm", shm,
                          "--data", data, "--load", str(rate), "--cluster", f"storage{number}"],
                         stdout=subprocess.DEVNULL, stderr=open(f"{work}/node{number}.log", "ab"))
    children.append(p)
    return p, shm


class Agent:
    def __init__(self, shms, *flags, prefix=(), binary=f"{BUILD}/blixard-agent"):
        self.ports = [free_port() for _ in shms]
        self.state = tempfile.mkdtemp(dir=work)
        os.chmod(self.state, 0o777)
        self.log = f"{self.state}/log"
        where = [x for shm, port in zip(shms, self.ports) for x in ("--shm", shm, "--listen", f"127.0.0.1:{port}")]
        self.process = subprocess.Popen([*prefix, binary, *where, *flags], stderr=open(self.log, "wb"),
                                        env=dict(os.environ, STATE_DIRECTORY=self.state))
        children.append(self.process)
        wait_for("the agent", self.answers)

    def answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(open(self.log).read())
        try:
            return self.metrics(0)
        except OSError:
            return None

    def metrics(self, i=0):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[i]}/metrics?names=canonical", timeout=10) as r:
            return r.read().decode()

    def health(self, query=""):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[0]}/health{query}", timeout=10) as r:
                return r.status, json.loads(r.read())
        except urllib.error.HTTPError as e:
            return e.code, json.loads(e.read())

    def said(self):
        return open(self.log).read()

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def value(text, name, **labels):
    """The sum of the samples of that name which have these labels; None if there are none."""
    found = []
    for line in text.splitlines():
        m = re.fullmatch(re.escape(name) + r"(?:\{(.*)\})? (\S+)", line)
        if not m:
            continue
        have = dict(re.findall(r'(\w+)="([^"]*)"', m.group(1) or ""))
        if all(have.get(k) == v for k, v in labels.items()):
            found.append(float(m.group(2)))
    return sum(found) if found else None


def mean(text, name, **labels):
    n = value(text, name + "_count", **labels)
    return value(text, name + "_sum", **labels) / n if n else None


def programs():
    return len([1 for line in run("bpftool", "prog", "list").splitlines() if " name rq_complete " in line])


FSYNC, BLOCK = "blixard_storage_fsync_duration_seconds", "blixard_storage_block_io_duration_seconds"
UP = "blixard_agent_bpf_probe_up"
try:
    with Disk(["--filter=delay", "memory", "96M", "delay-write=30ms"]) as disk:
        loop = os.path.basename(disk.loop)
        run("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=1", disk.loop)
        slow_dir = f"{work}/slow"
        os.mkdir(slow_dir)
        run("mount", disk.loop, slow_dir)
        try:
            node1, shm1 = node(1, f"{slow_dir}/data")
            node2, shm2 = node(2, f"{work}/data2")
            before = programs()
            agent = Agent([shm1, shm2], "--slow-io-ms", "10")
            up = value(agent.metrics(), UP, probe="block")
            if not up:
                skip("the block probe does not load here: " + " ".join(re.findall(r"probe block is off: (.*)", agent.said())))
            tap.check(programs() == before + 1, "an agent of two files loads its probes once")
            hook = re.search(UP + r'\{probe="sync",hook="(\w+)"\} 1', agent.metrics())
            tap.check(hook, f"the sync probe is up on {hook.group(1) if hook else 'nothing'}")

            def enough():
                a, b = agent.metrics(0), agent.metrics(1)
                return (a, b) if (value(a, FSYNC + "_count") or 0) > 40 and (value(b, FSYNC + "_count") or 0) > 40 and \
                    value(a, BLOCK + "_count", device=loop, origin="node") else None
            a, b = wait_for("fsyncs of both nodes", enough, 90)
            tap.check(mean(a, FSYNC) > 0.03, f"the node on the slow disk waits {mean(a, FSYNC) * 1000:.1f} ms in fsync")
            tap.check(mean(b, FSYNC) < mean(a, FSYNC), f"its neighbour {mean(b, FSYNC) * 1000:.1f} ms")
            own = mean(a, "blixard_storage_write_duration_seconds", table="raft_log")
            own = own or mean(a, "blixard_storage_write_duration_seconds")
            tap.check(own and mean(a, FSYNC) <= own * 1.05, f"the node itself measures {own * 1000:.1f} ms for write and sync")
            buckets = [(float(x) if x != "+Inf" else float("inf"), float(n)) for x, n in
                       re.findall(FSYNC + r'_bucket\{call="fdatasync",le="([^"]+)"\} (\S+)', a)]
            tap.check(len(buckets) == 22 and buckets == sorted(buckets) and buckets[0][0] == 2 ** -17 and buckets[-2][0] == 8,
                      f"{len(buckets)} buckets, powers of two from 2^-17 to 2^3 s")
            wrote = mean(a, BLOCK, device=loop, op="write", origin="node")
            tap.check(wrote and 0.03 <= wrote < 0.3, f"its writes on {loop} take {(wrote or 0) * 1000:.1f} ms, caused by the node")
            tap.check(value(b, BLOCK + "_count", device=loop, origin="node") is None and
                      value(b, BLOCK + "_count", device=loop, origin="other"), "on the neighbour's page they are somebody else's")
            tap.check(value(a, "blixard_storage_block_io_bytes_total", device=loop, op="write") > 4096 and
                      value(a, "blixard_storage_block_io_in_flight", device=loop, op="write") is not None and
                      value(a, "blixard_storage_block_io_errors_total", device=loop, op="write") == 0,
                      "bytes, requests in flight and errors are there")
            covered = value(a, "blixard_agent_bpf_block_coverage_ratio")
            tap.check(covered is not None and 0.95 <= covered <= 1.03, f"coverage against /proc/diskstats: {covered}")
            line = wait_for("a line about a slow wait", lambda: re.search(rf".*slow storage: .*device {loop}.*", agent.said()), 20).group(0)
            tap.check(re.search(rf"waited [\d.]+ ms in f(data)?sync, device {loop}, overlapping flush", line) is not None, line[-160:])
            tap.check(len(re.findall("slow storage", agent.said())) <= 2, "which is not repeated for each of them")
            slow = value(a, "blixard_storage_slow_io_events_total", layer="sync")
            tap.check(slow and slow >= 30, f"{slow} slow waits are counted")
            caps = re.search(r"CapEff:\s*(\w+)", open(f"/proc/{agent.process.pid}/status").read()).group(1)
            tap.check(not int(caps, 16) & (1 << 39 | 1 << 38 | 1 << 21), f"the rights that loading needed are gone: {caps}")

            # Exemplars: threads in spans on the slow disk. storage_stamp makes a file of its own, so its agent waits for it.
            stamp = subprocess.Popen([f"{BUILD}/test/support/bin/storage_stamp", slow_dir, "200", "--truth", f"{work}/truth"], stdout=subprocess.DEVNULL)
            children.append(stamp)
            traced = Agent([f"/dev/shm/blix-stamp-{stamp.pid}"])

            def exemplar():
                request = urllib.request.Request(f"http://127.0.0.1:{traced.ports[0]}/metrics?names=canonical",
                                                 headers={"Accept": "application/openmetrics-text; version=1.0.0"})
                with urllib.request.urlopen(request, timeout=10) as r:
                    text = r.read().decode()
                return re.search(FSYNC + r'_bucket\{call="fdatasync",le="([^"]+)"\} \S+ # \{trace_id="(\w{32})",span_id="(\w{16})"\} (\S+)', text)
            found = wait_for("an exemplar", exemplar, 60)
            le, trace_id, span_id, seconds = found.groups()
            tap.check(f"{trace_id} {span_id}" in open(f"{work}/truth").read().splitlines(),
                      f"the exemplar names a span that was there: {trace_id}")
            tap.check(0.01 <= float(seconds) <= float(le), f"{seconds} s, in the bucket up to {le} s")
            wait_for("a stamped and another wait", lambda: all((value(traced.metrics(), "blixard_storage_slow_io_stamped_total", result=r) or 0) > 0
                                                               for r in ("stamped", "none")), 30)
            tap.check(True, "stamped and other waits are counted")
            traced.stop()
            stamp.kill()
            stamp.wait()
            os.unlink(f"/dev/shm/blix-stamp-{stamp.pid}")

            # A new incarnation: counters go on, the old process is forgotten.
            n = value(agent.metrics(), FSYNC + "_count")
            node1.kill()
            node1.wait()
            node1, _ = node(1, f"{slow_dir}/data")
            later = wait_for("the next incarnation's fsyncs",
                             lambda: (value(agent.metrics(), FSYNC + "_count") or 0) > n + 10 and agent.metrics(), 60)
            tap.check(value(later, FSYNC + "_count", call="fdatasync") >= n - 5, "counters go on after a restart of the node")

            # Least privilege: a user without any other right. Binaries must be where it can reach them.
            shutil.copy(f"{BUILD}/blixard-agent", f"{work}/agent")
            user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]
            some = [*user, "--inh-caps=-all,+bpf,+perfmon", "--ambient-caps=-all,+bpf,+perfmon", "--bounding-set=-all,+bpf,+perfmon"]
            # (the file is the node's, so that --owner names it; it is only read)
            poor = Agent([shm2], "--owner", "0", prefix=some, binary=f"{work}/agent")
            text = poor.metrics()
            status = open(f"/proc/{poor.process.pid}/status").read()
            caps = re.search(r"CapEff:\s*(\w+)", status).group(1)
            tap.check(value(text, UP, probe="block") == 1, "CAP_BPF and CAP_PERFMON are enough for the block probe")
            tap.check(value(text, UP, probe="sync") == 1 or "passed over" in poor.said(), "the sync probe says which hooks it passed over")
            tap.check(int(caps, 16) == 0, f"and are given up: {caps}")
            wait_for("block I/O without any right left", lambda: value(poor.metrics(), BLOCK + "_count"), 30)
            tap.check(True, "maps are still read")
            poor.stop()
            none = [*user, "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"]
            for what, prefix, flags in (("without rights", none, ()), ("with --no-bpf", (), ("--no-bpf",))):
                bare = Agent([shm2], "--owner", "0", *flags, prefix=prefix, binary=f"{work}/agent")
                text = bare.metrics()
                tap.check(value(text, UP, probe="block", hook="none") == 0 and value(text, UP, probe="sync", hook="none") == 0,
                          f"{what} both probes are down")
                tap.check(not re.search(r"^blixard_storage_(block|fsync|slow)", text, re.M) and
                          value(text, "blixard_agent_bpf_map_full_total") is None, f"{what} their series are absent, not zero")
                tap.check(value(text, "blixard_host_disk_writes_completed_total") is not None and (prefix or value(text, "blixard_node_up") == 1),
                          f"{what} everything else is served")
                health = bare.health()
                tap.check(health[0] in (200, 503) and len(health[1]["degraded"]) == 2 and not health[1]["probes"]["block"]["up"] and
                          health[1]["probes"]["block"]["reason"], f"{what} /health is degraded: {health[1]['degraded'][0][:60]}")
                if not prefix:
                    tap.check(health[0] == 200 and bare.health("?include=probes")[0] == 503, "which is an error only for those who ask")
                if prefix:
                    tap.check(len(re.findall("probe block is off: .*CAP_BPF", bare.said())) == 1, "one line says what is missing")
                bare.stop()
            check = subprocess.run([*none, f"{work}/agent", "--check", "--shm", shm2, "--listen", f"127.0.0.1:{free_port()}",
                                    "--owner", "0"], capture_output=True, text=True, timeout=60,
                                   env=dict(os.environ, STATE_DIRECTORY=poor.state))
            tap.check(re.search(r"note +probe +block: off: .*CAP_BPF", check.stdout) is not None, "--check says so beforehand")
            agent.stop()
            wait_for("its programs to go", lambda: programs() <= before, 20)
            tap.check(True, "nothing is left in the kernel")
        finally:
            for p in children:
                if p.poll() is None:
                    p.kill()
                    p.wait()
            subprocess.run(["umount", slow_dir], capture_output=True)
finally:
    for name in os.listdir("/dev/shm"):
        if name.startswith(f"blix-storage-{os.getpid()}-"):
            os.unlink(f"/dev/shm/{name}")
    shutil.rmtree(work, ignore_errors=True)
tap.end()
