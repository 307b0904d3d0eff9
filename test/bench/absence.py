#!/usr/bin/env python3
"""How long a node can be without its agent: rate x absence -> spans lost, as a table in markdown.

  absence.py [--build DIR] [--threads 8] [--quick]

span_node traces at the given rate; the agent, which exports to a real receiver of a few lines (it counts
distinct span ids and answers), is killed, stays away, and is started again; then the node ends. Lost is what
the node's truth has and the receiver has not; counted, what node and agent say of it. Run it on a quiet machine; rows of 30 s only up to 10,000/s."""

import argparse
import json
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
RATES, ABSENCES_S = (1000, 10000, 100000), (0, 0.2, 2, 30)


def one(bed, rate, absence_s, threads):
    """(spans ended, spans lost, counted as lost by node and agent, the rate that was reached)"""
    from custody_rig import Rig
    from otlp_testbed import wait_for
    with Rig(bed) as rig:
        receiver = rig.receive(records=False)
        agent = rig.agent(OTEL_LOGS_EXPORTER="none")
        began = time.monotonic()
        node = rig.node(rate=rate, threads=threads)
        time.sleep(1)
        if absence_s:
            agent.kill()
            time.sleep(absence_s)
            agent = rig.agent(OTEL_LOGS_EXPORTER="none")
        time.sleep(1)
        node.stop()
        took_s = time.monotonic() - began
        ended, last = node.spans_ended(), [0, time.monotonic()]

        def over():
            got = receiver.summary().get("distinct_spans", 0)
            if got != last[0]:
                last[:] = [got, time.monotonic()]
            return got >= ended or time.monotonic() - last[1] > 15
        wait_for("nothing moves any more", over, 600)
        refused = sum(int(v) for k, v in agent.samples().items() if k.startswith('blixard_agent_ring_dropped_total{kind="span"'))
        counted = refused + json.loads(agent.get("/status.json"))["file"]["ring"]["lost"]
        return ended, ended - last[0], counted, ended / took_s


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="no row of 30 s")
    args = parser.parse_args()
    os.environ["B"] = args.build
    sys.path.insert(0, os.path.join(HERE, "../support"))
    from otlp_testbed import Bed, Skip
    print(f"| spans/s over {args.threads} threads | agent away | spans | lost | counted | share |\n|---|---|---|---|---|---|", flush=True)
    try:
        for rate in RATES:
            for absence_s in ABSENCES_S:
                if absence_s > 10 and (rate > 10000 or args.quick):
                    continue
                with Bed() as bed:
                    ended, lost, counted, reached = one(bed, rate, absence_s, args.threads)
                print(f"| {rate:,} ({reached:,.0f} reached) | {absence_s} s | {ended:,} | {lost:,} | {counted:,} | {100 * lost / ended:.2f} % |", flush=True)
    except Skip as why:
        print(f"skipped: {why}")
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())
