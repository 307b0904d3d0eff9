#!/usr/bin/python3
# timeout: 600 s
"""Goal: whatever a gRPC server does, each request gets exactly one verdict, and the right one.

Method: transport_send against Debian's grpcio (C core, official protos from npm where they can be
had) and against servers on Node's http2 that misbehave on purpose. Every run also proves that no
request was answered twice or never and that no descriptor was left (transport_send's exit code).
"""

import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from otlp_testbed import check_refused_certificates, expect, main, wait_for  # noqa: E402


STATUSES = {1: "retry", 2: "refused", 3: "refused", 4: "retry", 5: "refused", 6: "refused", 7: "config_error", 8: "too_large", 9: "refused",
            10: "retry", 11: "retry", 12: "config_error", 13: "refused", 14: "retry", 15: "retry", 16: "config_error"}


def hostile(mode, name, **wanted):
    def case(bed):
        r = bed.hostile(mode)
        expect(bed.send(r.url(), body=bed.body(), timeout_ms=8000)[0], **wanted)
    case.__doc__ = name
    return case


def second_request(bed):
    """grpc-h2c-second-request: one connection serves request after request"""
    r = bed.grpc()
    got = bed.send(r.url(), body=bed.body(), count=3)
    assert [v["verdict"] for v in got] == ["accepted"] * 3, got
    assert not any(v["message"] or v["rejected"] for v in got), got
    assert len({l["peer"] for l in r.lines("request")}) == 1


def many(bed):
    """grpc-1500-requests-one-connection: 5000 requests, official protos, each received once"""
    r = bed.grpc(protos=bed.official())
    got = bed.send(r.url("localhost"), body=bed.body(), count=5000, concurrency=50, deadline_s=120)
    assert len(got) == 5000 and {v["verdict"] for v in got} == {"accepted"}, got[:3]
    requests = r.lines("request")
    assert len(requests) == 5000 and len({l["peer"] for l in requests}) == 1, len(requests)


def headers(bed):
    """the request's headers are those of the specification, and a user's own arrive"""
    r = bed.grpc()
    expect(bed.send(r.url(), body=bed.body(), header="authorization=Bearer your-token", gzip=True)[0], verdict="accepted")
    request = r.lines("request")[0]
    assert request["metadata"]["authorization"] == "Bearer your-token", request
    assert request["metadata"]["user-agent"].startswith("Blixard/test OTel-OTLP-Exporter-C/"), request
    assert 0 < request["time_remaining_s"] <= 10.5, request


def drain(bed):
    """grpc-goaway-drain-no-loss: a server that drains mid-load loses nothing and gets nothing twice"""
    r = bed.grpc(protos="ours")
    r.order(mode="delay", delay_s=0.05)
    p = bed.sender(r.url(), body=bed.body(), count=200, concurrency=8)
    wait_for("half of it", lambda: len(r.lines("request")) >= 60)
    r.drain()
    got = bed.finish(p, 90)
    kinds = [v["verdict"] for v in got]
    # While the port is closed a connection is refused: an honest retry, never received.
    assert set(kinds) <= {"accepted", "retry"}, [v for v in got if v["verdict"] not in ("accepted", "retry")][:3]
    assert kinds.count("accepted") == len(r.lines("span")), (kinds.count("accepted"), len(r.lines("span")))
    assert kinds.count("accepted") >= 60


def goaway_node(bed):
    """goaway with more requests behind it: all answered, over a second connection"""
    r = bed.hostile("goaway-drain")
    got = bed.send(r.url(), body=bed.body(), count=40, concurrency=8)
    assert {v["verdict"] for v in got} == {"accepted"}, got
    assert r.text().count("request ") == 40 and r.text().count("connection") == 2, r.text()


def goaway_below(bed):
    """goaway whose last stream is below ours: what the server ignored is sent to a new connection"""
    r = bed.hostile("goaway-below")
    got = bed.send(r.url(), body=bed.body(), count=4, concurrency=4, timeout_ms=15000)
    assert {v["verdict"] for v in got} == {"accepted"}, (got, r.text())


def goaway_calm(bed):
    """GOAWAY ENHANCE_YOUR_CALM: what was not looked at waits long, what was may have been taken"""
    r = bed.hostile("goaway-calm")
    got = {v["verdict"]: v for v in bed.send(r.url(), body=bed.body(), count=3, concurrency=3)}
    assert set(got) == {"accepted", "throttle"}, (got, r.text())
    expect(got["throttle"], delay_ms=10000, message="ENHANCE_YOUR_CALM")
    assert r.text().count("connection") == 1, r.text()
    r = bed.hostile("goaway-calm-taken")
    expect(bed.send(r.url(), body=bed.body())[0], verdict="lost", code=-1, message="closed")


def wrong_endpoint(bed):
    """who never spoke HTTP/2 is the wrong endpoint; who did and goes away is a server that goes away"""
    for mode in ("close", "reset", "garbage", "http1", "raw-http1"):
        r = bed.hostile(mode)
        expect(bed.send(r.url(), body=bed.body())[0], verdict="config_error", code=-1, message="4318")
    c = bed.certificates()
    r = bed.grpc(tls=(c["cert"], c["key"]))
    expect(bed.send(r.url().replace("https", "http"), body=bed.body())[0], verdict="config_error", code=-1, message="4318")
    r = bed.hostile("leaves")
    expect(bed.send(r.url(), body=bed.body())[0], verdict="lost", code=-1, message="closed")


def frozen(bed):
    """grpc-frozen-server-reconnect: after two timeouts the dead connection is not used again"""
    r = bed.grpc()
    expect(bed.send(r.url(), body=bed.body())[0], verdict="accepted")
    r.freeze()
    p = bed.sender(r.url(), body=bed.body(), count=5, timeout_ms=700)
    got = bed.finish(p)
    r.thaw()
    assert {v["verdict"] for v in got} == {"lost"}, got
    # Two requests time out on each connection; the fifth is the third one's first.
    assert "connections 3" in bed.said, bed.said


def mute(bed):
    """a server that accepts and never speaks is left after two timeouts"""
    r = bed.hostile("mute")
    got = bed.send(r.url(), body=bed.body(), count=4, timeout_ms=400)
    assert {v["verdict"] for v in got} == {"lost"}, got
    assert r.text().count("connection") == 2, r.text()


def deadline(bed):
    """the deadline is told to the server, kept by us, and the connection survives it"""
    r = bed.grpc()
    r.order(mode="delay", delay_s=3, times=1)
    began = time.monotonic()
    got = bed.send(r.url(), body=bed.body(), count=2, timeout_ms=1000)
    assert got[0]["verdict"] in ("lost", "retry") and got[1]["verdict"] == "accepted", got
    assert time.monotonic() - began < 20
    assert r.lines("request")[0]["time_remaining_s"] <= 1.1
    assert len({l["peer"] for l in r.lines("request")}) == 1


def statuses(bed):
    """every status of the table, from grpcio, means what OTLP says"""
    r = bed.grpc()
    for code, kind in STATUSES.items():
        r.order(mode="status", code=code, message="sch\u00f6n")
        expect(bed.send(r.url(), body=bed.body())[0], verdict=kind, code=code, message="sch\u00f6n", delay_ms=0)


def exhausted(bed):
    """grpc-exhausted-with/without-retryinfo: a wait, or too large"""
    r = bed.grpc()
    r.order(mode="status", code=8, retry_delay_s=1.5)
    expect(bed.send(r.url(), body=bed.body())[0], verdict="throttle", delay_ms=1500, code=8)
    r.order(mode="status", code=8)
    expect(bed.send(r.url(), body=bed.body())[0], verdict="too_large", delay_ms=0)


def large(bed):
    """4MiB-split: a message over the server's limit is too large, one below it is accepted"""
    r = bed.grpc()
    expect(bed.send(r.url(), body=bed.body(pad=5 << 20))[0], verdict="too_large", code=8)
    expect(bed.send(r.url(), body=bed.body(pad=5 << 20), gzip=True)[0], verdict="too_large", code=8)
    expect(bed.send(r.url(), body=bed.body(pad=3 << 20))[0], verdict="accepted")


def partial(bed):
    """partial-success-never-retried and partial-warning: accepted, with count and words"""
    r = bed.grpc()
    r.order(mode="partial", rejected=3, message="three too old")
    expect(bed.send(r.url(), body=bed.body(spans=5))[0], verdict="accepted", rejected=3, message="three too old")
    r.order(mode="partial", rejected=0, message="slow down, please")
    expect(bed.send(r.url(), body=bed.body())[0], verdict="accepted", rejected=0, message="slow down")


def gzip(bed):
    """gzip-request and gzip-response with grpcio"""
    r = bed.grpc()
    r.order(mode="partial", rejected=2, message="packed", gzip=True)
    expect(bed.send(r.url(), body=bed.body(spans=200), gzip=True)[0], verdict="accepted", rejected=2, message="packed")
    assert len(r.lines("span")) == 200


def tls(bed):
    """mtls: names and numbers verified, both sides' certificates asked for"""
    c = bed.certificates()
    r = bed.grpc(tls=(c["cert"], c["key"]), client_ca=c["ca"])
    mine = {"ca": c["ca"], "cert": c["client_cert"], "key": c["client_key"], "body": bed.body()}
    for host in ("localhost", "127.0.0.1"):
        expect(bed.send(r.url(host), **mine)[0], verdict="accepted")
    expect(bed.send(r.url(), **mine | {"ca": c["other_ca"]})[0], verdict="config_error", message="certificate is refused")
    expect(bed.send(r.url(), ca=c["ca"], body=bed.body())[0], verdict="config_error")
    expect(bed.send(r.url().replace("https", "http"), body=bed.body())[0], verdict="config_error", message="4318")


def refused_certificates(bed):
    """a certificate for another host, an expired one and a self-signed one are refused"""
    check_refused_certificates(bed, bed.grpc)


def h1_only(bed):
    """grpc-tls-h1-only-peer: a configuration error with advice"""
    c = bed.certificates()
    for mode in ("tls-h1-only", "tls-no-alpn"):
        r = bed.hostile(mode, tls=(c["cert"], c["key"]))
        expect(bed.send(r.url(), ca=c["ca"], body=bed.body())[0], verdict="config_error")


def plain_for_tls(bed):
    """https:// towards a server without TLS says so"""
    r = bed.grpc()
    expect(bed.send(r.url().replace("http", "https"), body=bed.body())[0], verdict="config_error", message="does not speak TLS")
    r = bed.hostile("raw-http1")
    expect(bed.send(r.url().replace("http", "https"), body=bed.body())[0], verdict="config_error", message="does not speak TLS")
    for mode in ("close", "reset"):
        r = bed.hostile(mode)
        expect(bed.send(r.url().replace("http", "https"), body=bed.body())[0], verdict="config_error", message="did you mean http://?")


def refused(bed):
    """nothing listens: retry at once, not at the deadline"""
    r = bed.hostile("mute")
    url = r.url()
    r.stop()
    began = time.monotonic()
    expect(bed.send(url, body=bed.body(), timeout_ms=60000)[0], verdict="retry", message="refused")
    assert time.monotonic() - began < 30


def unresolved(bed):
    """a name that does not exist is for the operator; a resolver that does not answer is not"""
    name = "no-such-host.invalid"
    try:
        socket.getaddrinfo(name, 4317)
    except socket.gaierror as error:  # which of the two it is depends on where this runs
        kind = "config_error" if error.errno == socket.EAI_NONAME else "retry"
    expect(bed.send(f"http://{name}:4317", body=bed.body(), timeout_ms=60000)[0], verdict=kind, code=-1, message="cannot be resolved")


def cancel(bed):
    """cancelled in any state: each ends cancelled, once"""
    for mode in ("silent", "mute"):
        r = bed.hostile(mode)
        for after_ms in (1, 5, 50, 300):
            got = bed.send(r.url("localhost"), body=bed.body(), count=8, concurrency=8, cancel_after_ms=after_ms)
            assert {v["verdict"] for v in got} == {"cancelled"} and len(got) == 8, got


def bad_material(bed):
    """TLS material and addresses that cannot be used are refused with the part that is wrong"""
    junk = bed.body()
    c = bed.certificates()
    for options, word in (({"ca": junk}, "CA"), ({"cert": junk, "key": c["client_key"]}, "certificate"),
                          ({"cert": c["client_cert"], "key": c["key"]}, "key"), ({"cert": c["client_cert"]}, "needs its key")):
        got = bed.send("https://127.0.0.1:1", **options)[0]
        assert got["error"] == "EPROTO" and word in got["reason"], got
    assert bed.send("ftp://x:1")[0]["error"] == "EINVAL"
    assert bed.send("http://127.0.0.1:1", header="grpc-status=0")[0]["error"] == "EINVAL"
    assert bed.send("http://127.0.0.1:1", header="x=a\r\ny: z")[0]["error"] == "EINVAL"


# ---- the same from @grpc/grpc-js, which shares nothing with the C core -----------------------------

def js_requests(bed):
    """grpc-js: second-request, and 1500 requests on one connection with at most 4 streams at once"""
    r = bed.grpcjs()
    got = bed.send(r.url("localhost"), body=bed.body(), count=1500, concurrency=50, gzip=True, deadline_s=200,
                   header="authorization=Bearer your-token")
    assert len(got) == 1500 and {v["verdict"] for v in got} == {"accepted"}, got[:3]
    requests = r.lines("request")
    assert len(requests) == len(r.lines("span")) == 1500 and len({l["peer"] for l in requests}) == 1, len(requests)
    assert max(l["running"] for l in requests) <= 4
    assert {l["metadata"]["authorization"] for l in requests} == {"Bearer your-token"}
    assert 0 < requests[0]["deadline_ms"] <= 10500, requests[0]


def js_statuses(bed):
    """grpc-js: trailers-only with each status of the table, and its words"""
    r = bed.grpcjs()
    for code, kind in STATUSES.items():
        r.order(mode="status", code=code, message="sch\u00f6n 100% %41")
        expect(bed.send(r.url(), body=bed.body())[0], verdict=kind, code=code, message="sch\u00f6n 100% %41", delay_ms=0)


def js_exhausted(bed):
    """grpc-js: exhausted with and without RetryInfo in grpc-status-details-bin"""
    r = bed.grpcjs()
    for code in (8, 14):
        r.order(mode="status", code=code, retry_delay_s=2.5, message="later")
        expect(bed.send(r.url(), body=bed.body())[0], verdict="throttle", delay_ms=2500, code=code, message="later")
    r.order(mode="status", code=8)
    expect(bed.send(r.url(), body=bed.body())[0], verdict="too_large", delay_ms=0)


def js_partial(bed):
    """grpc-js: partial-success-never-retried and partial-warning; gzip-request, gzip-response"""
    for more in ((), ("--gzip", "1")):
        r = bed.grpcjs(more=more)
        r.order(mode="partial", rejected=3, message="three too old")
        expect(bed.send(r.url(), body=bed.body(spans=5), gzip=True)[0], verdict="accepted", rejected=3, message="three too old")
        r.order(mode="partial", rejected=0, message="slow down, please")
        expect(bed.send(r.url(), body=bed.body())[0], verdict="accepted", rejected=0, message="slow down")
        assert len(r.lines("request")) == 2


def js_large(bed):
    """grpc-js: 4MiB-split, plain and compressed"""
    r = bed.grpcjs()
    expect(bed.send(r.url(), body=bed.body(pad=5 << 20))[0], verdict="too_large", code=8)
    expect(bed.send(r.url(), body=bed.body(pad=5 << 20), gzip=True)[0], verdict="too_large", code=8)
    expect(bed.send(r.url(), body=bed.body(pad=3 << 20))[0], verdict="accepted")


def js_drain(bed):
    """grpc-js: goaway-drain-no-loss"""
    r = bed.grpcjs()
    r.order(mode="delay", delay_s=0.05)
    p = bed.sender(r.url(), body=bed.body(), count=200, concurrency=8)
    wait_for("a quarter of it", lambda: len(r.lines("request")) >= 50)
    r.drain()
    kinds = [v["verdict"] for v in bed.finish(p, 120)]
    # While the port is closed a connection is refused: an honest retry, never received.
    assert set(kinds) <= {"accepted", "retry"}, kinds
    assert kinds.count("accepted") == len(r.lines("span")) >= 50, (kinds.count("accepted"), len(r.lines("span")))


def js_frozen(bed):
    """grpc-js: frozen-server-reconnect, and the deadline of one call costs the connection nothing"""
    r = bed.grpcjs()
    r.order(mode="freeze", times=1)
    got = bed.send(r.url(), body=bed.body(), count=3, timeout_ms=1500)
    # The server keeps the deadline as well: whichever clock was first, it is not known to have taken it.
    assert got[0]["verdict"] in ("lost", "retry") and [v["verdict"] for v in got[1:]] == ["accepted"] * 2, got
    assert len({l["peer"] for l in r.lines("request")}) == 1
    r.freeze()
    got = bed.finish(bed.sender(r.url(), body=bed.body(), count=5, timeout_ms=700))
    r.thaw()
    assert {v["verdict"] for v in got} == {"lost"}, got
    assert "connections 3" in bed.said, bed.said


def js_tls(bed):
    """grpc-js: over TLS"""
    c = bed.certificates()
    r = bed.grpcjs(tls=(c["cert"], c["key"]))
    expect(bed.send(r.url("localhost"), ca=c["ca"], body=bed.body())[0], verdict="accepted")
    expect(bed.send(r.url("localhost"), ca=c["other_ca"], body=bed.body())[0], verdict="config_error", message="certificate is refused")


CASES = [
    second_request, many, headers, statuses, exhausted, large, partial, gzip, drain, goaway_node, goaway_below, goaway_calm, wrong_endpoint, deadline, frozen, mute,
    hostile("trailers-only", "grpc-trailers-only: status and decoded message", verdict="refused", code=3, message="café 100% %"),
    hostile("status-last-wins", "grpc-status-last-wins", verdict="retry", code=14, message="last"),
    hostile("no-trailers", "grpc-missing-status-is-not-success", verdict="lost", code=-1),
    hostile("retryinfo-unpadded", "grpc-retryinfo-unpadded-base64", verdict="throttle", delay_ms=2500, code=14),
    hostile("retryinfo-padded", "retryinfo with padding, on RESOURCE_EXHAUSTED", verdict="throttle", delay_ms=2500, code=8),
    hostile("details-garbage", "details that are not base64 leave the status as it is", verdict="retry", delay_ms=0, code=14),
    hostile("status-unknown-number", "a status nobody knows is UNKNOWN", verdict="refused", code=2),
    hostile("http503", "grpc-http503-proxy: its Retry-After is obeyed", verdict="throttle", delay_ms=7000),
    hostile("http502", "a proxy's 502 is a retry", verdict="retry"),
    hostile("http401", "a proxy's 401 is for the operator", verdict="config_error", message="401"),
    hostile("html", "a web page is not gRPC", verdict="config_error", message="4318"),
    hostile("rst-internal", "RST_STREAM INTERNAL_ERROR", verdict="refused"),
    hostile("rst-cancel", "RST_STREAM CANCEL", verdict="retry"),
    hostile("rst-calm", "RST_STREAM ENHANCE_YOUR_CALM is a long wait", verdict="throttle", delay_ms=10000),
    hostile("rst-refused-always", "REFUSED_STREAM for ever ends as a retry", verdict="retry", message="refused the stream"),
    hostile("rst-refused-twice", "REFUSED_STREAM twice is offered again", verdict="accepted"),
    hostile("header-bomb", "an answer of 160 kB of headers is cut off", verdict="refused", message="headers are larger"),
    hostile("body-bomb", "an answer over the limit is cut off", verdict="refused", message="larger"),
    hostile("gzip-bomb", "response-bomb: 64 MiB from 64 kB are not unpacked; it is accepted all the same", verdict="accepted", message="unpacks"),
    hostile("body-short", "OK with a body that breaks off is accepted, with a warning", verdict="accepted", message="cannot be read"),
    hostile("cut", "a connection cut mid-call: nobody knows", verdict="lost"),
    tls, refused_certificates, h1_only, plain_for_tls, refused, unresolved, cancel, bad_material,
    js_requests, js_statuses, js_exhausted, js_partial, js_large, js_drain, js_frozen, js_tls,
]

if __name__ == "__main__":
    sys.exit(main(CASES))
