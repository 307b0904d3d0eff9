#!/usr/bin/env python3
"""The peer python3-prometheus-client as a server: peer_client.py PORT LINES; runs until killed."""

import signal
import sys

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

registry = CollectorRegistry()
port, lines = int(sys.argv[1]), int(sys.argv[2])
counter = Counter("bench_requests", "Requests.", ["method", "code"], registry=registry)
histogram = Histogram("bench_request_duration_seconds", "Time.", ["method"], registry=registry,
                      buckets=(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5))
for i in range(lines // 2 // 2):  # a counter shows two lines: _total and _created
    counter.labels(f"Method{i}", "UNAVAILABLE").inc(i * 37 + 1)
for i in range(lines // 2 // 14):
    for k in range(1, 201):
        histogram.labels(f"Method{i}").observe(k * k * 1e-4)
start_http_server(port, "127.0.0.1", registry)
print("ready", flush=True)
signal.pause()
