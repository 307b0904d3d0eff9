#!/usr/bin/env python3
"""The block probe against disks whose delay is known, with fio as the judge.

Goal: every trap of the flush machinery, errors counted exactly, means within 2 % of fio's, nothing
absurd after attaching under load.
Method: nbdkit behind a loop device injects the delay; fio, which knows nothing of BPF, says what it
felt; the probe's numbers come from its maps through test/support/bin/storage_probe.
"""
# timeout: 240 s
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from storage_rig import Disk, Probe, Tap, block, fio, need, own_mounts, skip, wait_for

need("fio", "nbdkit", "nbdfuse", "fusermount3", "losetup", "unshare")
if not os.path.exists("/dev/fuse"):
    skip("there is no /dev/fuse")
own_mounts()
tap = Tap()
QD1 = ["--direct=1", "--ioengine=psync", "--bs=4k", "--iodepth=1", "--size=32m"]


def open_probe(disk, *flags):
    probe = Probe("--block", "--device", disk.dev, *flags)
    if probe.first["error"]:
        skip(f"the block probe does not load: {probe.first['reason']}")
    return probe


def near(a, b, share):
    return b > 0 and abs(a - b) <= share * b


with Disk(["--filter=delay", "memory", "64M", "rdelay=20ms", "wdelay=50ms"]) as disk, \
        open_probe(disk) as probe:
    idle = block(probe.read(), disk.dev, "read")["n"]
    job = fio("read", f"--filename={disk.loop}", "--rw=randread", "--number_ios=60", *QD1)["read"]
    seen = block(probe.read(), disk.dev, "read")
    fio_us = job["clat_ns"]["mean"] / 1000
    tap.check(seen["n"] - idle == job["total_ios"] == 60, f"60 reads are counted as {seen['n'] - idle}")
    tap.check(20000 <= seen["mean_us"] <= fio_us and near(seen["mean_us"], fio_us, 0.02),
              f"20 ms read: the probe says {seen['mean_us']:.0f} us, fio {fio_us:.0f} us")
    tap.check(seen["bytes"] == 4096 * seen["n"], f"{seen['bytes']} bytes of {seen['n']} reads")
    job = fio("write", f"--filename={disk.loop}", "--rw=randwrite", "--number_ios=40", *QD1)["write"]
    seen = block(probe.read(), disk.dev, "write")
    fio_us = job["clat_ns"]["mean"] / 1000
    tap.check(seen["n"] == job["total_ios"] and 50000 <= seen["mean_us"] and near(seen["mean_us"], fio_us, 0.02),
              f"50 ms write: the probe says {seen['mean_us']:.0f} us, fio {fio_us:.0f} us")
    tap.check(seen["queued"] == seen["n"] and seen["queue_ns"] / seen["n"] < 20e6, "its time in the queue is not part of it")

# A flush takes 200 ms, reads and writes nothing: what the flush costs must not appear as a write.
FLUSH = ["eval", "get_size=echo 64M", "can_write=exit 0", "can_flush=exit 0",
         "pread=dd if=/dev/zero iflag=count_bytes count=$3 bs=64k 2>/dev/null", "pwrite=cat >/dev/null", "flush=sleep 0.2"]
with Disk(FLUSH) as disk, open_probe(disk) as probe:
    job = fio("flush", f"--filename={disk.loop}", "--rw=write", "--fdatasync=1", "--number_ios=25", "--ioengine=psync",
              "--bs=4k", "--size=32m", "--direct=1")
    a = probe.read()
    flush, wait, write = (block(a, disk.dev, op) for op in ("flush", "flush_wait", "write"))
    fio_us = job["sync"]["lat_ns"]["mean"] / 1000
    n = job["sync"]["lat_ns"]["N"]
    tap.check(wait["n"] >= n > 20, f"every one of {n} fdatasyncs waited for a flush: {wait['n']}")
    tap.check(near(flush["mean_us"], fio_us, 0.02) and flush["mean_us"] > 200000,
              f"200 ms flush: the device's mean is {flush['mean_us']:.0f} us, fio's {fio_us:.0f} us")
    tap.check(near(wait["mean_us"], fio_us, 0.02), f"what the caller waited: {wait['mean_us']:.0f} us")
    write_us = job["write"]["clat_ns"]["mean"] / 1000
    tap.check(write["n"] == 25 and near(write["mean_us"], write_us, 0.05) and write["mean_us"] < flush["mean_us"] / 2,
              f"the flush does not raise write: {write['mean_us']:.0f} us over {write['n']}, fio {write_us:.0f} us")
    tap.check(max(flush["top_s"], wait["top_s"], write["top_s"]) < 1, "no value is above a second")
    before = write["n"]
    wait_before = wait["n"]
    unmatched = a["block"]["unmatched"]
    job = fio("dsync", f"--filename={disk.loop}", "--rw=write", "--sync=dsync", "--number_ios=20", *QD1)["write"]
    a = probe.read()
    write, wait = block(a, disk.dev, "write"), block(a, disk.dev, "flush_wait")
    tap.check(write["n"] - before == job["total_ios"] == 20,
              f"20 O_DSYNC writes, which complete twice each, are counted as {write['n'] - before}")
    tap.check(a["block"]["unmatched"] == unmatched, "and their second completions are not called unmatched")
    tap.check(max(write["top_s"], wait["top_s"]) < 1, "nor do they give an absurd value")

with Disk(["--filter=error", "memory", "64M", "error-pread=EIO", "error-pread-rate=10%"]) as disk, open_probe(disk) as probe:
    errors_before = block(probe.read(), disk.dev, "read")["errors"]
    job = fio("errors", f"--filename={disk.loop}", "--rw=randread", "--number_ios=1000", "--continue_on_error=io",
              "--error_dump=0", *QD1, ok=False)
    seen = block(probe.read(), disk.dev, "read")
    tap.check(seen["errors"] - errors_before == job["total_err"] > 20,
              f"10 % injected EIO: fio met {job['total_err']}, the probe {seen['errors'] - errors_before}")

# Attach and let go under load: what was under way is unmatched, never guessed.
with Disk(["--filter=delay", "memory", "64M", "delay-read=5ms"]) as disk:
    load = subprocess.Popen(["fio", "--name=load", f"--filename={disk.loop}", "--rw=randread", "--time_based",
                             "--runtime=100", "--ioengine=libaio", "--direct=1", "--bs=4k", "--iodepth=8", "--size=32m",
                             "--thread"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        worst, unmatched, counted = 0, 0, 0
        with open_probe(disk) as probe:
            for _ in range(100):
                a = wait_for("a read", lambda: (lambda x: x if block(x, disk.dev, "read")["n"] else None)(probe.read()))
                seen = block(a, disk.dev, "read")
                worst = max(worst, seen["top_s"])
                unmatched += a["block"]["unmatched"]
                counted += seen["n"]
                if probe.ask("reload")["error"]:
                    tap.check(False, "the probe loads again and again")
                    break
            fds = len(os.listdir(f"/proc/{probe.process.pid}/fd"))
        alive = load.poll() is None
    finally:
        load.terminate()
        load.wait()
    tap.check(alive and counted >= 100, f"100 times attached under load: {counted} counted, {unmatched} unmatched")
    tap.check(worst < 2, f"no absurd value: {worst:.2f} s at most")
    tap.check(fds < 40, f"no descriptor is left over: {fds} are open")


def reads_of(answer, dev, owner):
    return sum(r["n"] for r in answer["block"]["series"] if r["dev"] == dev and r["op"] == "read" and r["owner"] == owner)


NODE, VM, OTHER = 0, 16, 33  # bpf/events.h, enum storage_owner; this script plays the node in slot 0
with Disk(["memory", "64M"]) as disk, open_probe(disk) as probe:
    def direct_read():
        return ["dd", f"if={disk.loop}", "of=/dev/null", "bs=4k", "count=10", "iflag=direct", "status=none"]

    # udev and friends look at a new disk too: only what grows by our ten reads counts.
    def grown(owner, work):
        before = reads_of(probe.read(), disk.dev, owner)
        work()
        return reads_of(probe.read(), disk.dev, owner) - before

    tap.check(grown(OTHER, lambda: subprocess.run(direct_read(), check=True)) >= 10, "a stranger's reads are somebody else's")
    probe.ask(f"add {os.getpid()} 0")
    fd = os.open(disk.loop, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    tap.check(grown(NODE, lambda: os.pread(fd, 4096, 32 << 20)) >= 1, "a registered process's reads are the node's")
    os.close(fd)
    tap.check(grown(VM, lambda: subprocess.run(direct_read(), check=True)) == 10, "its child's ten reads are a VM's")
    tap.check(grown(VM, lambda: subprocess.run(["sh", "-c", " ".join(direct_read()) + "; true"], check=True)) == 10,
              "and a grandchild's")
    probe.ask(f"remove {os.getpid()}")
    tap.check(grown(VM, lambda: subprocess.run(direct_read(), check=True)) == 0, "no longer, once the node is gone")

    # A VM that left its parents is still in the node's unit.
    tree = tempfile.mkdtemp(prefix="blixard-cgroup-")
    mounted = subprocess.run(["mount", "-t", "cgroup2", "none", tree], capture_output=True).returncode == 0
    if not mounted:
        tap.skip("a process in the node's unit", "there is no unified cgroup tree")
    else:
        unit = f"{tree}/blixard-test-{os.getpid()}.service"
        try:
            os.makedirs(f"{unit}/vm")
            probe.ask(f"cgroup {os.stat(unit).st_ino} 1 0")
            script = f"echo $$ > {unit}/vm/cgroup.procs; exec " + " ".join(direct_read())
            tap.check(grown(VM, lambda: subprocess.run(["sh", "-c", script], check=True)) == 10,
                      "a process below the node's unit is a VM of it")
        finally:
            for d in (f"{unit}/vm", unit):
                os.rmdir(d)
            subprocess.run(["umount", tree], capture_output=True)
            os.rmdir(tree)


def programs():
    """Names of the BPF programs that the kernel holds now."""
    out = subprocess.run(["bpftool", "prog", "list"], capture_output=True, text=True,
                         env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin")).stdout
    return {line.split(":")[0] for line in out.splitlines() if " name rq_complete " in line}


with Disk(["memory", "64M"]) as disk:
    others = programs()
    probe = open_probe(disk)
    mine = programs() - others
    probe.process.kill()
    probe.process.wait()
    try:
        wait_for("the end of the killed agent's programs", lambda: not (programs() & mine), 20)
        gone = True
    except TimeoutError:
        gone = False
    tap.check(mine and gone, "a process that is killed leaves no program behind")

    # Without block_io_start (before 6.5) who began is unknown or the issuing thread; times stay right.
    with open_probe(disk, "--no-io-start") as probe:
        job = fio("old", f"--filename={disk.loop}", "--rw=randread", "--number_ios=200", *QD1)["read"]
        seen = block(probe.read(), disk.dev, "read")
        tap.check(seen["n"] == 200 and seen["queued"] == 0 and 0 < seen["mean_us"] <= job["clat_ns"]["mean"] / 1000,
                  f"without block_io_start: 200 reads counted as {seen['n']}, none with a queue time")
    with Probe("--block", "--btf", "/nonexistent") as probe:
        tap.check(probe.first["error"] < 0 and "BTF" in probe.first["reason"],
                  f"without BTF: {probe.first.get('reason')}")
tap.end()
