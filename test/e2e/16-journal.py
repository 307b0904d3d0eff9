#!/usr/bin/env python3
# timeout: 120 s
"""Goal: the real journald takes our entries and journalctl finds them by trace id.
Method: systemd-journald in a mount namespace of its own, with empty /run and /var/log, so that it
touches nothing of the machine; logs through agent/export/journal.c; journalctl reads them back."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

BUILD = os.path.abspath(os.environ.get("B", "build"))
SEND = os.path.join(BUILD, "test/support/bin/journal_send")
JOURNALD = "/lib/systemd/systemd-journald"
N = 300
cases = failures = 0

INSIDE = """
set -e
mount -t tmpfs none /run
mount -t tmpfs none /var/log
mkdir -p /run/systemd/journal /run/log/journal
printf '[Journal]\\nStorage=volatile\\nRateLimitBurst=0\\nReadKMsg=no\\nForwardToSyslog=no\\n' > /run/journald.conf
mkdir -p /run/systemd/journald.conf.d && cp /run/journald.conf /run/systemd/journald.conf.d/test.conf
%s 2>"$OUT/journald.err" & pid=$!
for i in $(seq 300); do [ -S /run/systemd/journal/socket ] && break; sleep 0.1; done
%s /run/systemd/journal/socket %d > "$OUT/sent"
for i in $(seq 300); do
  journalctl -D /run/log/journal -o json --all TRACE_ID=abababababababababababababababab > "$OUT/read" 2>"$OUT/journalctl.err" || true
  [ "$(wc -l < "$OUT/read")" -ge %d ] && break
  sleep 0.1
done
kill $pid
"""


def check(good, name, detail=""):
    global cases, failures
    cases += 1
    failures += not good
    print(f"{'ok' if good else 'not ok'} {cases} - {name}{'' if good else ': ' + str(detail)[:400]}", flush=True)


def main():
    if not os.access(JOURNALD, os.X_OK) or not shutil.which("journalctl"):
        print("systemd-journald is missing")
        return 77
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/run"], capture_output=True, check=False).returncode:
        print("no mount namespaces here")
        return 77
    out = tempfile.mkdtemp(prefix="blix-journal-")
    try:
        done = subprocess.run(["unshare", "-m", "bash", "-c", INSIDE % (JOURNALD, SEND, N, N)], env=dict(os.environ, OUT=out),
                              capture_output=True, text=True, timeout=110, check=False)
        said = {name: open(os.path.join(out, name), encoding="utf-8", errors="replace").read()
                if os.path.exists(os.path.join(out, name)) else "" for name in ("sent", "read", "journald.err", "journalctl.err")}
        check(said["sent"].strip() == f"{N} sent, 0 dropped", "every log was sent", (said["sent"], said["journald.err"], done.stderr))
        entries = [json.loads(line) for line in said["read"].splitlines()]
        check(len(entries) == N, "journalctl finds each by its trace id", (len(entries), said["journalctl.err"]))
        good = [e for e in entries if e["MESSAGE"] == "two\nlines" and e["PRIORITY"] == "4" and e["SPAN_ID"] == "cd" * 8
                and e["BLIXARD_NODE"] == "42" and e["RPC_METHOD"] == "CreateVm" and e["SYSLOG_IDENTIFIER"] == "blixard-node"]
        check(len(good) == N - 1, "with its fields", entries[:1])
        check(sum(len(e["MESSAGE"] or "") == 400000 for e in entries) == 1, "one larger than a datagram is whole")
    finally:
        shutil.rmtree(out, ignore_errors=True)
    print(f"1..{cases}")
    return 1 if failures else 0


sys.exit(main())
