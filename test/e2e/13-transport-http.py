#!/usr/bin/python3
# timeout: 240 s
"""Goal: OTLP over HTTP: each answer, and each way of not answering, gets exactly one verdict, the right one.

Method: transport_send against a receiver on Python's http.server (official protos from npm where they
can be had) and against servers of Node that misbehave on purpose.
"""

import email.utils
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from otlp_testbed import check_refused_certificates, expect, main  # noqa: E402

PATH = "/v1/traces"


def send(bed, r, path=PATH, **more):
    options = {"protocol": "http", "body": bed.body()} | more
    return bed.send(r.url(path=path), **options)


def official(bed):
    """2000 requests over kept connections, official protos, gzip"""
    r = bed.http(protos=bed.official())
    got = send(bed, r, count=2000, concurrency=4, gzip=True)
    assert len(got) == 2000 and {v["verdict"] for v in got} == {"accepted"}
    assert not any(v["message"] or v["rejected"] for v in got), got[0]
    requests = r.lines("request")
    assert len(requests) == 2000 and len({l["peer"] for l in requests}) <= 4
    sent = requests[0]["headers"]
    assert sent["content-type"] == "application/x-protobuf" and sent["content-encoding"] == "gzip" and "expect" not in sent, sent


def headers(bed):
    """headers-percent/injection: a user's header arrives, one with a line end is refused"""
    r = bed.http()
    expect(send(bed, r, header="authorization=Bearer your-token")[0], verdict="accepted")
    assert r.lines("request")[0]["headers"]["authorization"] == "Bearer your-token"
    assert r.lines("request")[0]["headers"]["user-agent"].startswith("Blixard/test OTel-OTLP-Exporter-C/")
    assert send(bed, r, header="x=a\r\ninjected: b")[0]["error"] == "EINVAL"


def no_expect(bed):
    """a large body does not wait for 100-continue"""
    r = bed.http()
    expect(send(bed, r, body=bed.body(pad=3 << 20))[0], verdict="accepted")
    assert "expect" not in r.lines("request")[0]["headers"]


def statuses(bed):
    """http-413-not-retried, and every other status of the table"""
    r = bed.http()
    table = {400: "refused", 401: "config_error", 403: "config_error", 404: "config_error", 408: "refused", 413: "too_large", 429: "throttle", 500: "refused",
             501: "refused", 502: "retry", 503: "retry", 504: "retry"}
    for code, kind in table.items():
        r.order(mode="status", code=code, body="words of the server")
        expect(send(bed, r)[0], verdict=kind, code=code, delay_ms=0, message="words of the server")


def retry_after(bed):
    """retry-after-date/seconds/garbage"""
    r = bed.http()
    for text, low, high in (("7", 7000, 7001), (email.utils.formatdate(time.time() + 60, usegmt=True), 40000, 61001), ("soon", 0, 1), ("-5", 0, 1),
                            ("99999999", 600000, 600001), (email.utils.formatdate(time.time() - 60, usegmt=True), 0, 1)):
        r.order(mode="status", code=503, retry_after=text)
        expect(send(bed, r)[0], verdict="throttle" if low else "retry", delay_ms=range(low, high))


def error_bodies(bed):
    """google.rpc.Status as JSON is quoted, a page of HTML is not"""
    r = bed.http()
    r.order(mode="status", code=400, type="application/json", body='{"code":3,"message":"bad span"}')
    expect(send(bed, r)[0], verdict="refused", message="bad span")
    r.order(mode="status", code=400, type="text/html", body="<html>secret</html>")
    assert "secret" not in send(bed, r)[0]["message"]


def partial(bed):
    """partial-success-never-retried and partial-warning, protobuf, gzip answers"""
    r = bed.http()
    for packed in (False, True):
        r.order(mode="partial", rejected=3, message="too old", gzip=packed)
        expect(send(bed, r)[0], verdict="accepted", rejected=3, message="too old")
        r.order(mode="partial", rejected=0, message="warning", gzip=packed)
        expect(send(bed, r)[0], verdict="accepted", rejected=0, message="warning")


def partial_json(bed):
    """a JSON request and its partial success"""
    r = bed.http()
    path = os.path.join(bed.dir, "body.json")
    with open(path, "w", encoding="utf-8") as f:
        f.write('{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0123456789abcdef0123456789abcdef","spanId":"0123456789abcdef","name":"j"}]}]}]}')
    expect(got := send(bed, r, protocol="json", body=path)[0], verdict="accepted", rejected=0)
    assert not got["message"], got
    r.order(mode="partial", rejected=1, message="json")
    expect(send(bed, r, protocol="json", body=path)[0], verdict="accepted", rejected=1, message="json")
    assert r.lines("span")[0]["trace_id"] == "0123456789abcdef0123456789abcdef"


def odd_success(bed):
    """200 with an undecodable or enormous body is a success with a warning"""
    r = bed.http()
    r.order(mode="accept", body="<html>fine</html>")
    expect(send(bed, r)[0], verdict="accepted", message="cannot be read")
    r.order(mode="partial", rejected=0, bomb=6 << 20)
    expect(send(bed, r)[0], verdict="accepted", message="larger")
    r.order(mode="partial", rejected=0, bomb=64 << 20, gzip=True)
    expect(send(bed, r, timeout_ms=30000)[0], verdict="accepted", message="larger")


def redirect(bed):
    """redirects are not followed"""
    r = bed.http()
    r.order(mode="status", code=307, location="http://127.0.0.1:1/")
    expect(send(bed, r)[0], verdict="config_error", code=307)
    assert len(r.lines("request")) == 1


def closed(bed):
    """a connection closed without an answer: nobody knows"""
    r = bed.http()
    r.order(mode="close")
    expect(send(bed, r)[0], verdict="lost")


def frozen(bed):
    """a frozen server costs deadlines, and is reached again when it thaws"""
    r = bed.http()
    r.order(mode="freeze")
    got = send(bed, r, count=3, timeout_ms=400)
    assert {v["verdict"] for v in got} == {"lost"}, got
    r.order(mode="accept")
    expect(send(bed, r)[0], verdict="accepted")


def refused(bed):
    """nothing listens"""
    r = bed.http()
    r.stop()
    expect(send(bed, r)[0], verdict="retry")


def proxy(bed):
    """proxy-env-ignored-for-loopback, and honoured elsewhere"""
    r = bed.http()
    env = {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1", "all_proxy": "http://127.0.0.1:1"}
    expect(send(bed, r, env=env)[0], verdict="accepted")
    env = {"http_proxy": f"http://127.0.0.1:{r.port}"}
    bed.send("http://collector.invalid:4318/v1/traces", protocol="http", body=bed.body(), env=env)
    assert r.lines("request")[-1]["path"].startswith("http://collector.invalid:4318/"), r.lines("request")[-1]


def tls(bed):
    """mtls over HTTP"""
    c = bed.certificates()
    r = bed.http(tls=(c["cert"], c["key"]), client_ca=c["ca"])
    mine = {"ca": c["ca"], "cert": c["client_cert"], "key": c["client_key"]}
    for host in ("localhost", "127.0.0.1"):
        expect(bed.send(r.url(host, PATH), protocol="http", body=bed.body(), **mine)[0], verdict="accepted")
    expect(send(bed, r, **mine | {"ca": c["other_ca"]})[0], verdict="config_error")
    expect(send(bed, r, ca=c["ca"])[0], verdict="config_error")


def refused_certificates(bed):
    """a certificate for another host, an expired one and a self-signed one are refused"""
    check_refused_certificates(bed, bed.http, PATH)


def grpc_port(bed):
    """HTTP towards a gRPC port says so"""
    r = bed.grpc()
    expect(send(bed, r)[0], verdict="config_error", code=-1, message="4317")


def cancel(bed):
    """cancelled in any state: each ends cancelled, once"""
    r = bed.hostile("mute")
    for after_ms in (1, 5, 100):
        got = bed.send(r.url("localhost", PATH), protocol="http", body=bed.body(), count=8, concurrency=8, cancel_after_ms=after_ms)
        assert {v["verdict"] for v in got} == {"cancelled"} and len(got) == 8, got


if __name__ == "__main__":
    sys.exit(main([official, headers, no_expect, statuses, retry_after, error_bodies, partial, partial_json, odd_success, redirect, closed, frozen,
                   refused, proxy, tls, refused_certificates, grpc_port, cancel]))
