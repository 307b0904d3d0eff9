#!/usr/bin/python3
"""An OTLP/HTTP receiver on Python's http.server: protobuf and JSON, gzip both ways.

  otlp_http.py [--protos ours|DIR] [--listen 127.0.0.1:0] [--control FILE] [--record FILE]
               [--summary FILE] [--tls CERT KEY [--client-ca CA]]

Prints `listening PORT`. How it behaves and what it writes down: otlp_record.py.
"""

import argparse
import gzip
import json
import signal
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format

from otlp_protos import Protos
from otlp_record import Control, Recorder

PATHS = {"/v1/traces": "trace", "/v1/metrics": "metrics", "/v1/logs": "logs"}
IDS = ("traceId", "spanId", "parentSpanId")


def from_otlp_json(node):
    """OTLP's JSON has ids in hex where protobuf's has base64: back to protobuf's, strictly."""
    import base64
    if isinstance(node, list):
        return [from_otlp_json(n) for n in node]
    if not isinstance(node, dict):
        return node
    return {k: base64.b64encode(bytes.fromhex(v)).decode() if k in IDS else from_otlp_json(v) for k, v in node.items()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, content_type, headers=(), order=None):
        if order and order.get("gzip"):
            body = gzip.compress(body)
            headers = [*headers, ("Content-Encoding", "gzip")]
        self.send_response(status)
        for name, value in [("Content-Type", content_type), ("Content-Length", str(len(body))), *headers]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def success(self, service, order, is_json, n):
        protos = self.server.protos
        response = protos.response(service)()
        if order["mode"] == "partial":
            text = "0" * order["bomb"] if order.get("bomb") else order.get("message", "told to")
            response = protos.partial(service, order.get("rejected", 3), text)
        body = json_format.MessageToJson(response, indent=None).encode() if is_json else response.SerializeToString()
        if "body" in order:
            body = order["body"].encode()
        self.reply(200, body, "application/json" if is_json else "application/x-protobuf", order=order)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        service, order = PATHS.get(self.path.split("?")[0]), self.server.control.next()
        self.server.recorder.note(service=service, path=self.path, mode=order["mode"], bytes=len(body), peer=self.client_address[1],
                                  headers={k.lower(): v for k, v in self.headers.items()})
        if order["mode"] == "freeze":
            while self.server.control.next()["mode"] == "freeze":
                time.sleep(0.05)
        if order["mode"] == "close":
            self.close_connection = True
            return
        if order["mode"] == "delay":
            time.sleep(order.get("delay_s", 1))
        if order["mode"] == "status":
            headers = [("Retry-After", order["retry_after"])] if "retry_after" in order else []
            headers += [("Location", order["location"])] if "location" in order else []
            self.reply(order["code"], order.get("body", "told to").encode(), order.get("type", "text/plain"), headers, order)
            return
        if not service:
            self.reply(404, b"<html>no such page</html>", "text/html")
            return
        try:
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            is_json = self.headers.get("Content-Type") == "application/json"
            request = self.server.protos.request(service)()
            if is_json:
                json_format.ParseDict(from_otlp_json(json.loads(body)), request)
            else:
                request.ParseFromString(body)
        except Exception as error:  # a receiver judges: what it cannot read it says so
            self.reply(400, f"cannot be read: {error}".encode(), "text/plain")
            return
        self.success(service, order, is_json, self.server.recorder.take(service, request))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protos", default="ours")
    parser.add_argument("--listen", default="127.0.0.1:0")
    for name in ("--control", "--record", "--summary", "--client-ca"):
        parser.add_argument(name)
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    args = parser.parse_args()

    host, port = args.listen.rsplit(":", 1)
    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.daemon_threads = True
    server.protos, server.control, server.recorder = Protos(args.protos), Control(args.control), Recorder(args.record)
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*args.tls)
        if args.client_ca:
            context.load_verify_locations(args.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening {server.server_address[1]}", flush=True)
    while not stop.wait(0.5):
        server.recorder.save_summary(args.summary)
    server.recorder.save_summary(args.summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
