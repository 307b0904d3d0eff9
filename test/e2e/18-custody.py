#!/usr/bin/env python3
# timeout: 1500 s
"""Goal: nothing is lost silently: every span and log record a node wrote is at the receiver, or counted
where it went, whatever becomes of agent, node, collector or disk.
Method: span_node keeps its truth in a file that survives SIGKILL; the real agent sends to real python3-grpcio
receivers, which write down what they took; both are compared span by span, by (process, name, thread, n).
A few rounds of each; CUSTODY_ROUNDS=100 for as many kills, and a collector that is down for a minute."""

import collections
import os
import random
import re
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from custody_rig import PER_BATCH, PER_LOG, STATE, Rig  # noqa: E402
from otlp_testbed import Skip, main, wait_for  # noqa: E402

ROUNDS = int(os.environ.get("CUSTODY_ROUNDS", "5"))
DOWN_S = 60 if ROUNDS >= 100 else 10
SEED = int(os.environ.get("CUSTODY_SEED", "0")) or random.randrange(1 << 32)
chance = random.Random(SEED)


def say(*words):
    print("#", *words, flush=True)


def need(good, *detail):
    if not good:
        raise AssertionError(" ".join(str(d) for d in detail))


# ---- who has what ------------------------------------------------------------------------------------
class Account:
    """What the receivers took, against what the nodes did. `wrong` is what must never be, `missing` what
    must be explained by a count."""

    def __init__(self, rig):
        self.wrong, self.missing, self.duplicates, self.crashed, self.under_way = [], [], 0, 0, 0
        self.spans, by_id = collections.defaultdict(list), {}
        for line in rig.read()["span"]:
            known = by_id.setdefault(line["span_id"], line)
            if known is not line:
                self.duplicates += 1
                if {**known, "at": 0} != {**line, "at": 0}:
                    self.wrong.append(f"two of one id that differ: {known} and {line}")
                continue
            a = line["attributes"]
            self.spans[line["resource"]["process.pid"], line["name"], a.get("thread"), a.get("n")].append(line)
        self.logs = collections.defaultdict(dict)
        for line in rig.received["log"]:
            a = line["attributes"]
            if line["body"] == "a hundred more":
                self.logs[line["resource"]["process.pid"], a["thread"], a["n"]][line["time"]] = line
        for node in rig.nodes:
            for index, truth in enumerate(node.threads()):
                self.of_thread(node.process.pid, index, truth)
        for key, left in self.spans.items():
            self.wrong.append(f"{len(left)} that the node never began: {key}")

    def one(self, key, ended):
        """The span of this key, or None. Once taken, it is accounted for."""
        found = self.spans.pop(key, [])
        if len(found) > 1:
            self.wrong.append(f"{len(found)} different spans are {key}")
        if not found:
            if ended:
                self.missing.append(key)
            return None
        state = found[0]["attributes"].get(STATE)
        if state not in ((None,) if ended else (None, "crashed")):
            self.wrong.append(f"{key} is {state}")
        self.crashed += state is not None
        return found[0]

    def of_thread(self, pid, index, truth):
        batches = [self.one((pid, "batch", index, n), n < truth.batches_ended) for n in range(truth.batches)]
        if batches and truth.begun > (truth.batches - 1) * PER_BATCH and batches[-1] is None and truth.batches > truth.batches_ended:
            self.missing.append((pid, "batch", index, truth.batches - 1))  # open, and more was done below it
        for n in range(truth.begun):
            span = self.one((pid, "work", index, n), n < truth.ended)
            if span:
                self.of_span(span, index, n, batches[n // PER_BATCH])
            elif n >= truth.ended:
                self.under_way += 1
                # Killed between the begin and the attributes: its own parent tells whose it is.
                parent = batches[n // PER_BATCH]
                self.find_nameless(pid, parent)
            if n % PER_LOG == 0:
                self.of_log((pid, index, n), batches[n // PER_BATCH], n < truth.ended)

    def find_nameless(self, pid, parent):
        for key in [k for k in self.spans if k[:2] == (pid, "work") and (k[2] is None or k[3] is None)]:
            if parent and any(s["parent_span_id"] == parent["span_id"] for s in self.spans[key]):
                self.crashed += len(self.spans.pop(key))

    def of_span(self, span, index, n, batch):
        wanted = {"thread": index, "n": n, "vm.name": "vm-0123456789", "even": n % 2 == 0}
        got = {k: v for k, v in span["attributes"].items() if k in wanted}
        if STATE not in span["attributes"] and span["attributes"] != wanted or any(wanted[k] != v or type(wanted[k]) is not type(v) for k, v in got.items()):
            self.wrong.append(f"attributes: {span['attributes']} instead of {wanted}")
        if not 0 < span["start"] <= span["end"]:
            self.wrong.append(f"times: {span}")
        if batch and (span["parent_span_id"], span["trace_id"]) != (batch["span_id"], batch["trace_id"]):
            self.wrong.append(f"not below its batch: {span}")

    def of_log(self, key, batch, written):
        """It belongs to the span that was the thread's current one: the batch."""
        logs = list(self.logs.pop(key, {}).values())
        if len(logs) > 1:
            self.wrong.append(f"{len(logs)} different logs of {key}")
        if batch and any((l["trace_id"], l["span_id"]) != (batch["trace_id"], batch["span_id"]) for l in logs):
            self.wrong.append(f"a log's ids are not its span's: {logs}")
        if not logs and written:
            self.missing.append((key[0], "log", *key[1:]))

    def missing_spans(self):
        return [k for k in self.missing if k[1] != "log"]


def node_dropped(agent, kind):
    return sum(int(v) for k, v in agent.samples().items() if k.startswith(f'blixard_agent_ring_dropped_total{{kind="{kind}"'))


def nothing_missing(rig, agent, what):
    """Every span and log of the truth is there, once; the node refused none."""
    account = Account(rig)
    say(f"{what}: {sum(n.spans_ended() for n in rig.nodes)} spans ended, {rig.distinct()} distinct received, {account.duplicates} duplicates, "
        f"{account.crashed} crashed, {account.under_way} were being begun")
    need(not account.wrong, len(account.wrong), "wrong:", account.wrong[:2])
    need(not account.missing, len(account.missing), "missing:", account.missing[:6], "refused by the node:", node_dropped(agent, "span"))
    need(node_dropped(agent, "span") + node_dropped(agent, "log") == 0, "the node's ring refused some:", agent.samples())
    return account


def all_there(rig):
    """As many spans and logs as ended, at least: then the account tells which."""
    logs = sum(t.logs for n in rig.nodes for t in n.threads())
    wait_for("every span arrives", lambda: rig.distinct() >= sum(n.spans_ended() for n in rig.nodes), 120)
    wait_for("every log arrives", lambda: len({(l["span_id"], l["time"]) for l in rig.read()["log"] if l["body"] == "a hundred more"}) >= logs, 60)


# ---- nothing happens ---------------------------------------------------------------------------------
def every_span_once(bed):
    """every span arrives exactly once, in its batch, with its attributes; logs carry its ids"""
    with Rig(bed) as rig:
        rig.receive()
        agent = rig.agent()
        node = rig.node(rate=2000)
        wait_for("some are done", lambda: node.spans_ended() > 6000)
        node.stop()
        all_there(rig)
        account = nothing_missing(rig, agent, "undisturbed")
        need(account.duplicates == 0 and account.crashed == 0, "duplicates or crashed:", account.duplicates, account.crashed)
        need(rig.received["log"] and account.under_way == 0, "no logs, or unfinished spans")


# ---- agent and node die ------------------------------------------------------------------------------
def agent_killed(bed):
    """the agent is killed at random under load, again and again: the distinct spans are the truth"""
    with Rig(bed) as rig:
        rig.receive()
        agent = rig.agent()
        node = rig.node(rate=1500)
        for _ in range(ROUNDS):
            time.sleep(chance.uniform(0, 0.8))
            agent.kill()
            agent = rig.agent(answers=chance.random() < 0.7)
        wait_for("it answers", agent.answers)
        node.stop()
        all_there(rig)
        nothing_missing(rig, agent, f"agent killed {ROUNDS} times")


def node_killed(bed):
    """the node is killed at random under load, again and again: each span once, complete or crashed, never both"""
    with Rig(bed) as rig:
        rig.receive()
        agent = rig.agent(OTEL_EXPORTER_OTLP_TIMEOUT="60000")
        for _ in range(ROUNDS):
            node = rig.node(rate=chance.choice((500, 2000, 6000)), threads=chance.choice((1, 4, 8)))
            time.sleep(chance.uniform(0, 0.5))
            node.kill()
        all_there(rig)
        rig.settle()
        account = nothing_missing(rig, agent, f"node killed {ROUNDS} times")
        need(account.duplicates == 0, account.duplicates, "arrived twice")
        need(account.crashed > 0, "no span was open at any kill: nothing was tested")


# ---- the collector -----------------------------------------------------------------------------------
def collector_down(bed):
    """the collector is down, then back: everything arrives, most of it through the spool"""
    with Rig(bed) as rig:
        rig.receive()
        agent = rig.agent()
        node = rig.node(rate=1000)
        rig.wait_received(500)
        rig.stop_receiving()
        time.sleep(DOWN_S)
        need("export_failing" in agent.log(), "the agent does not say that it fails")
        rig.receive()
        rig.wait_received(node.spans_ended(), 120)
        node.stop()
        all_there(rig)
        nothing_missing(rig, agent, f"collector down {DOWN_S} s")
        wait_for("the agent says that it works again", lambda: "export_recovered" in agent.log())


def collector_frozen(bed):
    """the collector freezes for 5 s and thaws: everything arrives"""
    with Rig(bed) as rig:
        receiver = rig.receive()
        agent = rig.agent(OTEL_EXPORTER_OTLP_TIMEOUT="3000")
        node = rig.node(rate=1000)
        rig.wait_received(500)
        receiver.freeze()
        time.sleep(5)
        receiver.thaw()
        node.stop()
        all_there(rig)
        nothing_missing(rig, agent, "collector frozen 5 s")


def collector_goes_away(bed):
    """the collector drains with GOAWAY under load, three times: everything arrives"""
    with Rig(bed) as rig:
        receiver = rig.receive()
        agent = rig.agent(OTEL_BSP_SCHEDULE_DELAY="20")
        node = rig.node(rate=2000)
        for times in (2, 3, 4):
            rig.wait_received(rig.distinct() + 500)
            receiver.drain()
            wait_for("it listens again", lambda n=times: receiver.listening(n))
        rig.wait_received(rig.distinct() + 500)
        node.stop()
        all_there(rig)
        nothing_missing(rig, agent, "three GOAWAYs")


def median(values):
    return sorted(values)[len(values) // 2]


def one_of_two_frozen(bed):
    """one of two destinations freezes: the other's latency is unchanged, and the ring never full"""
    with Rig(bed) as rig:
        traces, logs = bed.grpc(), bed.grpc()
        rig.endpoints |= {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": traces.url(), "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": logs.url()}
        agent = rig.agent(OTEL_EXPORTER_OTLP_TIMEOUT="3000")
        node = rig.node(rate=2000)

        def latencies(seconds):
            rig.read()
            before = len(rig.received["log"])
            time.sleep(seconds)
            lines = rig.read()["log"][before:]
            need(len(lines) > 10, "too few logs:", len(lines))
            return median([line["at"] - line["time"] / 1e9 for line in lines])
        rig.wait_received(500)
        calm_s = latencies(4)
        traces.freeze()
        frozen_s = latencies(8)
        traces.thaw()
        say(f"logs arrive after {calm_s * 1000:.0f} ms, with traces frozen {frozen_s * 1000:.0f} ms (medians)")
        need(frozen_s < 3 * max(calm_s, 0.1), "logs wait for the traces' destination:", calm_s, frozen_s)
        node.stop()
        all_there(rig)
        nothing_missing(rig, agent, "traces frozen")


def stopped_while_down(bed):
    """the agent is stopped while the destination is down, and started again when it is up: everything arrives"""
    with Rig(bed) as rig:
        rig.receive()
        agent = rig.agent()
        node = rig.node(rate=1000)
        rig.wait_received(200)
        rig.stop_receiving()
        before = node.spans_ended()
        wait_for("some more are done", lambda: node.spans_ended() > before + 3000)
        agent.stop()
        rig.receive()
        agent = rig.agent()
        node.stop()
        all_there(rig)
        nothing_missing(rig, agent, "stopped while down")


# ---- the spool's disk --------------------------------------------------------------------------------
def fill_spool(rig):
    """(agent, node): a running node, and some thousand of its spans in the spool of an agent without destination."""
    rig.receive()
    agent = rig.agent()
    node = rig.node(rate=1500)
    rig.wait_received(200)
    rig.stop_receiving()
    before = node.spans_ended()
    wait_for("some more are done", lambda: node.spans_ended() > before + 6000)
    return agent, node


def spool_lost(agent):
    """Items of the spool that the agent counted lost, by its own words."""
    return sum(int(n) for n in re.findall(r"(\d+) items of the spool are lost", agent.log()))


def spool_damaged(bed):
    """the spool is damaged while the agent is away: what can be read arrives whole, the rest is counted"""
    with Rig(bed) as rig:
        agent, node = fill_spool(rig)
        node.stop()
        agent.stop()
        path = os.path.join(rig.spool_dir, "spool.db")
        size = os.path.getsize(path)
        need(size > 100000, "there is nothing in the spool:", size)
        with open(path, "r+b") as f:
            for _ in range(3):
                place = chance.randrange(4096, size)
                f.seek(place)
                byte = f.read(1)[0]
                f.seek(place)
                f.write(bytes([byte ^ 1 << chance.randrange(8)]))
        rig.receive()
        agent = rig.agent()
        rig.settle()
        account = Account(rig)
        missing = account.missing_spans()
        need(agent.lives(), "the agent ended:", agent.log()[-400:])
        need(not account.wrong, account.wrong[:2])
        need(len(missing) < node.spans_ended() / 2, "most of it is lost:", len(missing), node.spans_ended())
        wait_for(f"{len(missing)} lost spans are counted", lambda: not missing or spool_lost(agent), 15)
        say(f"spool damaged: {len(missing)} of {node.spans_ended()} spans lost, {spool_lost(agent)} items counted lost")
        need(agent.lives() and spool_lost(agent) >= len(missing), "counted lost:", spool_lost(agent), "lost:", len(missing))


def wait_degraded(agent):
    wait_for("the agent says that the spool is degraded", lambda: "event=spool_degraded" in agent.log(), 30)


def spool_full(bed):
    """the spool's disk is full: the agent says so, the ring keeps what cannot be stored, everything arrives"""
    with Rig(bed) as rig:
        rig.small_disk(rig.spool_dir, 2)
        with open(os.path.join(rig.spool_dir, "ballast"), "wb", buffering=0) as f:
            f.write(bytes(1900 << 10))
        agent, node = fill_spool(rig)
        wait_degraded(agent)
        node.stop()
        rig.receive()
        all_there(rig)
        nothing_missing(rig, agent, "spool full")


def spool_read_only(bed):
    """the spool's disk is read-only: the agent says so, the ring keeps what cannot be stored, everything arrives"""
    with Rig(bed) as rig:
        rig.small_disk(rig.spool_dir, 16)
        need(os.system(f"mount -o remount,ro {rig.spool_dir}") == 0, "remount")
        agent, node = fill_spool(rig)
        wait_degraded(agent)
        agent.kill()
        agent = rig.agent()
        need(os.system(f"mount -o remount,rw {rig.spool_dir}") == 0, "remount")
        node.stop()
        rig.receive()
        all_there(rig)
        nothing_missing(rig, agent, "spool read-only")


def scrape_p99(agent, seconds):
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        agent.get("/metrics")
        took.append(time.monotonic() - begin)
        time.sleep(0.02)
    return sorted(took)[len(took) * 99 // 100]


def disk_slow(bed):
    """every sync takes 500 ms and the collector is down: scrapes are as fast as ever and the drain goes on"""
    if not shutil.which("strace"):
        raise Skip("strace is not installed")
    calls = "fsync,fdatasync"
    slow = ("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={calls},pwrite64",
            "-e", f"inject={calls}:delay_enter=500ms", "-e", "inject=pwrite64:delay_enter=20ms")
    with Rig(bed) as rig:
        rig.receive()
        agent = rig.agent(before=slow)
        node = rig.node(rate=1000)
        rig.wait_received(500)
        calm_s = scrape_p99(agent, 4)
        rig.stop_receiving()
        slow_s = scrape_p99(agent, 10)
        say(f"scrape p99 {calm_s * 1000:.1f} ms, with slow disk and no collector {slow_s * 1000:.1f} ms")
        need(slow_s < max(0.1, 3 * calm_s), "scrapes wait for the disk:", calm_s, slow_s)
        need(node_dropped(agent, "span") == 0, "the ring was full:", agent.samples())
        agent.stop()
        rig.receive()
        agent = rig.agent()
        node.stop()
        all_there(rig)
        nothing_missing(rig, agent, "disk slow")


CASES = [every_span_once, agent_killed, node_killed, collector_down, collector_frozen, collector_goes_away, one_of_two_frozen,
         stopped_while_down, spool_damaged, spool_full, spool_read_only, disk_slow]

if __name__ == "__main__":
    say(f"CUSTODY_SEED={SEED}")
    wanted = sys.argv[1:]
    sys.exit(main([c for c in CASES if not wanted or c.__name__ in wanted]))
