#!/usr/bin/python3
# timeout: 300 s
"""Goal: an operator who set OTEL_ variables learns from --check what they come to and from
--check-export whether the far end takes it, without a secret on the screen.

Method: the real agent against Debian's grpcio and Python's HTTP server, which say what they got.
"""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from otlp_testbed import BUILD, Skip, main  # noqa: E402

AGENT = os.path.join(BUILD, "blixard-agent")
E = "OTEL_EXPORTER_OTLP_"


def agent(*args, **variables):
    if not os.access(AGENT, os.X_OK):
        raise Skip(f"{AGENT} is not built")
    env = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")} | variables
    done = subprocess.run([AGENT, *args], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 1) and not done.stderr, done
    return done.returncode, done.stdout


def check_export(wanted, **variables):
    status, out = agent("--check-export", **variables)
    assert status == wanted, out
    assert "hush" not in out, out
    return out


def check(bed, wanted, *args, **variables):
    status, out = agent("--shm", os.path.join(bed.dir, "blix1"), "--check", *args,
                        STATE_DIRECTORY=os.path.join(bed.dir, "state"), **variables)
    assert status == wanted and "hush" not in out, (status, out)
    return out


def seed(bed):
    """the seed guide's block: traces, metrics and logs over gRPC with its header"""
    r = bed.grpc()
    url = r.url("localhost")
    block = {E + "ENDPOINT": url, E + "TRACES_ENDPOINT": url, E + "METRICS_ENDPOINT": url,
             E + "HEADERS": "Authorization=Bearer hush"}
    out = check(bed, 0, **block)
    for signal in ("traces", "metrics", "logs"):
        assert f"{signal} to {url} by grpc" in out, out
    assert not r.lines("request"), "--check must not send"
    out = check_export(0, **block)
    assert out.count("by grpc: accepted\n") == 3, out
    got = r.lines("request")
    assert len(got) == 3 and all(l["metadata"]["authorization"] == "Bearer hush" for l in got), got


def http(bed):
    """HTTP: each signal at its own path, in protobuf and in JSON, compressed or not"""
    for protocol, kind in (("http/protobuf", "application/x-protobuf"), ("http/json", "application/json")):
        for compression in ("none", "gzip"):
            r = bed.http()
            check_export(0, **{E + "ENDPOINT": r.url(), E + "PROTOCOL": protocol, E + "COMPRESSION": compression,
                               E + "HEADERS": "x-key=hush%2C1"})
            got = r.lines("request")
            assert [l["path"] for l in got] == ["/v1/traces", "/v1/metrics", "/v1/logs"], got
            for line in got:
                assert line["headers"]["content-type"] == kind and line["headers"]["x-key"] == "hush,1", line


def one_signal(bed):
    """none, an endpoint of its own, and a disabled SDK decide who is asked"""
    a, b = bed.http(), bed.http()
    both = {E + "ENDPOINT": a.url(), E + "PROTOCOL": "http/protobuf", E + "LOGS_ENDPOINT": b.url(path="/as/is/"),
            "OTEL_METRICS_EXPORTER": "none"}
    b.order(mode="status", code=503)
    out = check_export(1, **both)
    assert [l["path"] for l in a.lines("request")] == ["/v1/traces"], a.lines("request")
    assert [l["path"] for l in b.lines("request")] == ["/as/is/"], b.lines("request")
    assert "ok   export    traces" in out and "HTTP status 503" in out, out
    out = check_export(1, **both, OTEL_SDK_DISABLED="true")
    assert "OTEL_SDK_DISABLED" in out and len(a.lines("request")) == 1, out
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is not set" in check_export(1)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is not set" in check(bed, 0)


def tls(bed):
    """certificates: read, checked, presented; each wrong one named"""
    c = bed.certificates()
    r = bed.grpc(tls=(c["cert"], c["key"]), client_ca=c["ca"])
    files = {E + "ENDPOINT": r.url("localhost"), E + "CERTIFICATE": c["ca"], E + "CLIENT_CERTIFICATE": c["client_cert"],
             E + "CLIENT_KEY": c["client_key"]}
    out = check_export(0, **files)
    assert out.count("by grpc: accepted\n") == 3, out
    bare = files | {E + "ENDPOINT": r.url("localhost").removeprefix("https://")}
    assert "names no scheme" in check_export(0, **bare)
    out = check_export(1, **files | {E + "CERTIFICATE": c["other_ca"]})
    assert out.count("certificate is refused") == 3, out
    assert "client certificate" in check(bed, 0, **files)
    for variable, path, words in (("CERTIFICATE", "/nowhere/ca", "the CA certificate /nowhere/ca cannot be read"),
                                  ("CERTIFICATE", "/dev/zero", "the CA certificate /dev/zero is no regular file"),
                                  ("CLIENT_KEY", AGENT, f"the client key {AGENT} is larger"),
                                  ("CLIENT_KEY", c["key"], "key")):
        out = check(bed, 1, **files | {E + variable: path})
        assert words in out and out.count("BAD") == 3, out
        assert check_export(1, **files | {E + variable: path}).count("BAD") == 3


def mistakes(bed):
    """a mistake is named, costs itself alone and shows no secret"""
    r = bed.http()
    out = check(bed, 0, **{E + "ENDPOINT": r.url(path="/?key=hush"), E + "PROTOCOL": "http/protobuf",
                           E + "HEADERS": "good=1,evil=hush%0d%0aX: 1,alone-hush", E + "TIMEOUT": "soon", "OTEL_CONFIG_FILE": "/x"})
    for words in ("member 2", "member 3", "OTEL_EXPORTER_OTLP_TIMEOUT=soon", "OTEL_CONFIG_FILE", "/v1/traces?...", "1 header"):
        assert words in out, (words, out)
    out = check(bed, 0, **{E + "ENDPOINT": "http://user:hush@localhost:4317"})
    assert "credentials" in out and "nothing is sent" in out, out


def nobody(bed):
    """nobody there, and a server that speaks something else: status 1 and the reason"""
    r = bed.http()
    out = check_export(1, **{E + "ENDPOINT": r.url(), E + "PROTOCOL": "grpc"})
    assert out.count("BAD") == 3, out
    r.stop()
    assert check_export(1, **{E + "ENDPOINT": r.url()}).count("refused") == 3


def spool(bed):
    """--check looks at the directory of --spool"""
    assert bed.dir in check(bed, 0, "--spool", bed.dir)
    assert "cannot be used" in check(bed, 1, "--spool", os.path.join(bed.dir, "absent"))
    file = os.path.join(bed.dir, "file")
    with open(file, "w", encoding="utf-8"):
        os.chmod(file, 0o755)
    assert "Not a directory" in check(bed, 1, "--spool", file)


if __name__ == "__main__":
    sys.exit(main([seed, http, one_signal, tls, mistakes, nobody, spool]))
