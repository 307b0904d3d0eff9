#!/usr/bin/env python3
"""Run test programs one after another and add up what they say.

A program is one case, judged by its exit code (0 passed, 77 skipped, anything else failed), or, when
it prints TAP lines, as many cases as it prints. Criterion programs are asked for TAP. Each program
gets its own session and a time limit; what it printed is kept in LOGS/NAME.log. The last line is
`N passed, N failed, N skipped`; the exit code is 0 only when nothing failed and something passed.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time

TAP_LINE = re.compile(r"^(ok|not ok)\b(?:\s+\d+)?\s*(?:-\s*)?(.*)$")
SKIP = re.compile(r"#\s*skip\b\s*(.*)$", re.IGNORECASE)
TIMEOUT_LINE = re.compile(rb"^\s*(?:#|//|/\*|\*)\s*timeout:\s*(\d+)\s*s", re.MULTILINE)


class Result:
    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def command_of(path):
    if "/unit/test_" in path:
        return [path, "--output=tap:/dev/stdout"]
    if path.endswith(".py"):
        return ["/usr/bin/python3", path]
    if path.endswith(".sh"):
        return ["bash", path]
    return [path]


def time_limit_of(path, default_s):
    """A script may name its own limit in its head: `# timeout: 90 s`."""
    if not path.endswith((".py", ".sh")):
        return default_s
    with open(path, "rb") as f:
        found = TIMEOUT_LINE.search(f.read(4096))
    return int(found.group(1)) if found else default_s


def judge(name, code, timed_out, lines, limit_s):
    result = Result()
    for line in lines:
        tap = TAP_LINE.match(line)
        if not tap:
            continue
        verdict, text = tap.groups()
        skip = SKIP.search(text)
        if verdict == "not ok":
            result.failed.append(f"{name}: {text.strip() or 'unnamed case'}")
        elif skip:
            result.skipped.append(f"{name}: {text.strip()}")
        else:
            result.passed += 1
    if timed_out:
        result.failed.append(f"{name}: no end within {limit_s} s")
    elif code == 77 and not result.failed:
        reason = next((l for l in reversed(lines) if l.strip()), "no reason given")
        result.skipped.append(f"{name}: {reason.strip()}")
    elif code != 0 and not result.failed:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        result.failed.append(f"{name}: {how}")
    elif code == 0 and not (result.passed or result.failed or result.skipped):
        result.passed = 1
    return result


def end_session(process):
    """Whatever a program left behind ends with it; its session holds nothing of anybody else."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run_one(path, logs, default_limit_s):
    name = re.sub(r"^.*?(?=(unit|race|torture|corrupt|contract|e2e|verifiers|bench|example|support)/)", "", path)
    limit_s = time_limit_of(path, default_limit_s)
    log_path = os.path.join(logs, name.replace("/", "-") + ".log")
    started = time.monotonic()
    timed_out = False
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command_of(path), stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            timed_out, code = True, None
        end_session(process)
        if timed_out:
            process.wait()
    with open(log_path, errors="replace") as log:
        lines = log.read().splitlines()
    result = judge(name, code, timed_out, lines, limit_s)
    report(name, result, lines, time.monotonic() - started, log_path)
    return result


def report(name, result, lines, took_s, log_path):
    word = "FAIL" if result.failed else "ok" if result.passed else "skip"
    skipped = f", {len(result.skipped)} skipped" if result.skipped else ""
    print(f"{word:4} {name:44} {result.passed:5} passed{skipped}  {took_s:5.1f} s", flush=True)
    if result.failed:
        for line in result.failed[:20]:
            print(f"     {line}")
        print(f"     the last lines of {log_path}:")
        for line in lines[-25:]:
            print(f"     | {line[:200]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", default="build/test-logs", help="where outputs are kept")
    parser.add_argument("--limit", type=int, default=120, metavar="S", help="seconds a program may take")
    parser.add_argument("programs", nargs="*")
    args = parser.parse_args()
    os.makedirs(args.logs, exist_ok=True)

    total = Result()
    started = time.monotonic()
    for path in args.programs:
        total.add(run_one(path, args.logs, args.limit))
    for heading, entries in (("failed", total.failed), ("skipped", total.skipped)):
        if entries:
            print(f"\n{heading}:")
            for entry in entries:
                print(f"  {entry}")
    print(f"\n{len(args.programs)} programs in {time.monotonic() - started:.0f} s")
    print(f"{total.passed} passed, {len(total.failed)} failed, {len(total.skipped)} skipped")
    return 0 if total.passed and not total.failed else 1


if __name__ == "__main__":
    sys.exit(main())
