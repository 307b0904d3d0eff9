#!/usr/bin/env python3
"""make bench: our figures beside the physical limit and the peers, all measured in this run.

Nothing is asserted: machines are noisy. Read the ratios. A peer that is not installed is named and
left out. report.py BUILD_DIR [hot] [render] [otlp] [drain] [http] [idle] [storage] [loss]; all of them by default.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import lttng

BUILD = sys.argv[1] if len(sys.argv) > 1 else "build"
PARTS = sys.argv[2:] or ["hot", "render", "otlp", "drain", "http", "idle", "storage", "loss"]
HERE = os.path.dirname(os.path.abspath(__file__))
LINES = 2000
IDLE_S = 20
LOAD_S = 3


def bench(program, env=None, args=()):
    """{name/threads: median ns} of one benchmark program; empty when it is not built."""
    path = os.path.join(BUILD, "bench", program)
    if not os.path.exists(path):
        print(f"  (left out: {program} is not built; 'make deps' installs what it needs)")
        return {}
    done = subprocess.run([path, *args], capture_output=True, text=True, env=env, timeout=600, check=False)
    if done.returncode:
        print(f"  (left out: {program} failed: {done.stderr.strip()[-200:]})")
    rows = [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") == 5]
    return {f"{r[0]}/{r[1]}": float(r[2]) for r in rows}


def row(label, value, limit=None, unit="ns"):
    ratio = f"{value / limit:6.2f} x limit" if value is not None and limit else ""
    shown = f"{value:12,.2f} {unit}" if value is not None else f"{'-':>12}   "
    print(f"  {label:58}{shown}  {ratio}")


def hot():
    print("\nRecording, ns a call (median, thread CPU time)")
    results = bench("bench_hot")
    pcp_dir = tempfile.mkdtemp(prefix="blixard-bench-")
    os.mkdir(os.path.join(pcp_dir, "mmv"))
    results.update(bench("bench_pcp", dict(os.environ, PCP_TMP_DIR=pcp_dir)))
    shutil.rmtree(pcp_dir)
    results.update(bench("bench_prometheus_cpp"))
    try:
        with lttng.session(os.path.join(BUILD, "tools"), "blixard_bench") as env:
            results.update(bench("bench_lttng", env))
    except (lttng.Missing, subprocess.TimeoutExpired) as error:
        print(f"  (left out: LTTng-UST: {error})")
    print("  (left out: opentelemetry-cpp is not in Debian 12)")
    for threads in ("1", "2"):
        for kind in ("counter", "histogram", "span"):
            limit = next((v for k, v in results.items() if k.startswith(f"limit/{kind}: ")
                          and k.endswith("/" + threads) and "lock" not in k), None)
            for name, value in results.items():
                if f"/{kind}: " in name and name.endswith("/" + threads):
                    row(f"{name[:-2]}, {threads} thread{'s' if threads == '2' else ''}", value, limit)
    return results


def render(known):
    print("\nRendering, ns a sample line")
    results = bench("bench_render")
    if not known:
        known = bench("bench_prometheus_cpp")
    for name, value in sorted(results.items()):
        row(name[:-2], value)
    for name, value in known.items():
        found = re.match(r"(prometheus-cpp/render: text), (\d+) lines, a body", name)
        if found:
            row(f"{found.group(1)}, {found.group(2)} lines", value / int(found.group(2)))


def otlp():
    print("\nSpans to OTLP, ns a span, in a warm cache")
    results = bench("bench_otlp")
    limit = next((v for k, v in results.items() if "memcpy" in k), None)
    for name, value in results.items():
        row(name[:-2], value, limit)


def spool():
    print("\nA request of 8 KiB through the spool, us of wall time; the disk of $TMPDIR is what costs")
    for name, value in bench("bench_spool").items():
        row(name[:-2], value / 1000, unit="us")


def drain():
    print("\nA ring of spans to OTLP, ns a span, one core")
    results = bench("bench_drain")
    limit = next((v for k, v in results.items() if "memcpy" in k), None)
    for name, value in results.items():
        row(name[:-2], value, limit)
        if "ring ->" in name:
            row("", 1e9 / value, unit="spans/s")


def loss():
    print("\nSpans from two threads to a collector on python3-grpcio, over loopback; counted by both ends", flush=True)
    node = os.path.join(BUILD, "test/support/bin/span_node")
    if not os.path.exists(node):
        print(f"  (left out: {node} is not built)")
        return
    subprocess.run(["/usr/bin/python3", os.path.join(HERE, "loss.py"), BUILD], timeout=600, check=False)


# ---- processes ---------------------------------------------------------------------------------
def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_ticks_s(pid):
    """CPU time of the process with all its threads, past ones included; in steps of 10 ms."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_s(pid):
    """CPU time of the threads alive, to the nanosecond: for a process that hardly runs."""
    total_ns = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total_ns += int(f.read().split()[0])
    return total_ns / 1e9


def status_kb(pid, *keys):
    with open(f"/proc/{pid}/status") as f:
        values = dict(line.split(":", 1) for line in f if ":" in line)
    return sum(int(values[k].split()[0]) for k in keys)


def switches(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as f:
            total += sum(int(l.split()[1]) for l in f if "ctxt_switches" in l)
    return total


class Server:
    """A /metrics server under measurement."""

    def __init__(self, name, command, port, before=None):
        self.name, self.url, self.before = name, f"http://127.0.0.1:{port}/metrics", before
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(self.url, timeout=2) as answer:
                    self.lines = sum(1 for l in answer.read().splitlines() if not l.startswith(b"#"))
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.stop()
                    raise RuntimeError(f"{name} does not answer at {self.url}") from None
                time.sleep(0.05)

    def stop(self):
        for process in (self.process, self.before):
            if process:
                process.terminate()
                process.wait(10)


def our_agent(lines):
    shm = f"/dev/shm/blix-bench-{os.getpid()}"
    node = subprocess.Popen([f"{BUILD}/bench/bench_node", shm, str(lines)], stdout=subprocess.PIPE)
    node.stdout.readline()
    port = free_port()
    state = tempfile.mkdtemp(prefix="blixard-bench-")
    os.environ["STATE_DIRECTORY"] = state
    return Server("blixard-agent", [f"{BUILD}/blixard-agent", "--shm", shm, "--listen", f"127.0.0.1:{port}"],
                  port, before=node), (shm, state)


def peers(lines):
    port = free_port()
    yield lambda: Server("prometheus-cpp", [f"{BUILD}/bench/bench_prometheus_cpp", str(port), str(lines)], port)
    port2 = free_port()
    yield lambda: Server("python3-prometheus-client", ["/usr/bin/python3", f"{HERE}/peer_client.py", str(port2),
                                                       str(lines)], port2)
    port3 = free_port()
    exporter = f"{BUILD}/tools/usr/bin/prometheus-node-exporter"
    yield lambda: Server("node_exporter", [exporter, f"--web.listen-address=127.0.0.1:{port3}"], port3)


def each_server(lines, measure):
    shm = state = None
    try:
        server, (shm, state) = our_agent(lines)
        measure(server)
        server.stop()
    finally:
        if shm and os.path.exists(shm):
            os.unlink(shm)
        if state:
            shutil.rmtree(state, ignore_errors=True)
    for make in peers(lines):
        try:
            server = make()
        except (OSError, RuntimeError) as error:
            print(f"  (left out: {error})")
            continue
        measure(server)
        server.stop()


def load(server):
    before = cpu_ticks_s(server.process.pid)
    done = subprocess.run(["wrk", "-t1", "-c2", f"-d{LOAD_S}s", "--latency", server.url],
                          capture_output=True, text=True, timeout=60, check=False).stdout
    used = cpu_ticks_s(server.process.pid) - before
    count = int(re.search(r"(\d+) requests in", done).group(1))
    p50, p99 = (re.search(rf"{p}%\s+(\S+)", done).group(1) for p in (50, 99))
    print(f"  {server.name:28}{server.lines:7} lines {count / LOAD_S:10,.0f} requests/s   p50 {p50:>9}"
          f"   p99 {p99:>9}   CPU {1000 * used / max(1, count):8.3f} ms a request")


def http():
    print("\nA scrape over keep-alive, two connections on loopback (wrk)")
    if not shutil.which("wrk"):
        print("  (left out: wrk is not installed: apt-get install wrk)")
        return
    each_server(LINES, load)


def idle(server):
    time.sleep(1)
    pid = server.process.pid
    cpu, woken, start = cpu_s(pid), switches(pid), time.monotonic()
    time.sleep(IDLE_S)
    took = time.monotonic() - start
    rss = status_kb(pid, "RssAnon", "RssFile") / 1024
    shm = status_kb(pid, "RssShmem") / 1024
    print(f"  {server.name:28} RssAnon+RssFile {rss:6.1f} MiB   shared memory {shm:5.1f} MiB"
          f"   CPU {100 * (cpu_s(pid) - cpu) / took:7.4f} %   {(switches(pid) - woken) / took:6.1f} switches/s")


def storage():
    print("\nStorage probes in the kernel, ns an I/O by the kernel's own clock")
    with tempfile.NamedTemporaryFile(dir="/var/tmp", prefix="blixard-bench-") as f:
        f.write(os.urandom(16 << 20))
        f.flush()
        os.fsync(f.fileno())
        for name, value in bench("bench_storage", args=(f.name,)).items():
            row(name[:-2], value)


def main():
    with open("/proc/cpuinfo") as f:
        model = next((l.split(":")[1].strip() for l in f if l.startswith("model name")), "unknown CPU")
    print(f"{model}, {os.cpu_count()} CPUs, kernel {os.uname().release}")
    known = hot() if "hot" in PARTS else {}
    if "render" in PARTS:
        render(known)
    if "otlp" in PARTS:
        otlp()
        spool()
    if "drain" in PARTS:
        drain()
    if "http" in PARTS:
        http()
    if "loss" in PARTS:
        loss()
    if "storage" in PARTS:
        storage()
    if "idle" in PARTS:
        print(f"\nIdle for {IDLE_S} s with a node up and nobody scraping")
        each_server(LINES, idle)


if __name__ == "__main__":
    main()
