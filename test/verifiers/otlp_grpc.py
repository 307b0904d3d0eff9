#!/usr/bin/python3
"""An OTLP/gRPC receiver on Debian's python3-grpcio (C core), which shares no code with ours.

  otlp_grpc.py [--protos ours|DIR] [--listen 127.0.0.1:0] [--control FILE] [--record FILE]
               [--summary FILE] [--tls CERT KEY [--client-ca CA]] [--max-streams N] [--tree]

Prints `listening PORT` once it answers. SIGUSR1 drains: GOAWAY, what runs may end, then a new server
on the same port (`listening PORT` again). SIGTERM ends it. How it behaves and what it writes down:
otlp_record.py. With --tree it prints one trace at its end.
"""

import argparse
import base64
import queue
import signal
import sys
import threading
import time
from concurrent import futures

import grpc

from otlp_protos import SIGNALS, Protos
from otlp_record import Control, Recorder

CODES = {code.value[0]: code for code in grpc.StatusCode}


def varint(value):
    out = bytearray()
    while True:
        out.append(value & 127 | (128 if value > 127 else 0))
        value >>= 7
        if not value:
            return bytes(out)


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def retry_info(code, message, delay_s):
    """google.rpc.Status with one RetryInfo, by hand: three fields of three messages."""
    seconds, nanos = int(delay_s), int(delay_s % 1 * 1e9)
    duration = b"\x08" + varint(seconds) + (b"\x10" + varint(nanos) if nanos else b"")
    any_value = field(1, b"type.googleapis.com/google.rpc.RetryInfo") + field(2, field(1, duration))
    return b"\x08" + varint(code) + field(2, message.encode()) + field(3, any_value)


class Receiver:
    def __init__(self, args):
        self.protos = Protos(args.protos)
        self.control = Control(args.control)
        self.recorder = Recorder(args.record, keep_traces=args.tree)

    def abort(self, context, order):
        code, message = order.get("code", 14), order.get("message", "told to")
        if "retry_delay_s" in order:
            context.set_trailing_metadata([("grpc-status-details-bin", retry_info(code, message, order["retry_delay_s"]))])
        context.abort(CODES[code], message)

    def handle(self, service, request, context):
        order = self.control.next()
        mode = order["mode"]
        left_s = context.time_remaining()
        metadata = {k: v if isinstance(v, str) else base64.b64encode(v).decode() for k, v in context.invocation_metadata()}
        self.recorder.note(service=service, mode=mode, time_remaining_s=left_s, peer=context.peer(), metadata=metadata,
                           identity=[i.decode() for i in context.peer_identities() or []])
        if order.get("gzip"):
            context.set_compression(grpc.Compression.Gzip)
        if mode == "status":
            self.abort(context, order)
        if mode == "freeze":
            while context.is_active():
                time.sleep(0.05)
            return self.protos.response(service)()
        if mode == "delay":
            time.sleep(order.get("delay_s", 1))
        n = self.recorder.take(service, request)
        if mode == "partial":
            text = order.get("message", "told to")
            if order.get("bomb"):
                text = "0" * order["bomb"]
            return self.protos.partial(service, min(n, order.get("rejected", 3)) if n else order.get("rejected", 3), text)
        return self.protos.response(service)()

    def handlers(self):
        for service, (name, _) in SIGNALS.items():
            def unary(request, context, service=service):
                return self.handle(service, request, context)
            method = grpc.unary_unary_rpc_method_handler(
                unary, request_deserializer=self.protos.request(service).FromString,
                response_serializer=lambda response: response.SerializeToString())
            yield grpc.method_handlers_generic_handler(
                f"opentelemetry.proto.collector.{service}.v1.{name}Service", {"Export": method})


def serve(receiver, args, listen):
    options = [("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", args.max_streams)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=options)
    server.add_generic_rpc_handlers(tuple(receiver.handlers()))
    if args.tls:
        cert, key = (open(path, "rb").read() for path in args.tls)
        ca = open(args.client_ca, "rb").read() if args.client_ca else None
        credentials = grpc.ssl_server_credentials([(key, cert)], root_certificates=ca, require_client_auth=ca is not None)
        port = server.add_secure_port(listen, credentials)
    else:
        port = server.add_insecure_port(listen)
    if port == 0:
        raise RuntimeError(f"cannot listen on {listen}")
    server.start()
    print(f"listening {port}", flush=True)
    return server, f"{listen.rsplit(':', 1)[0]}:{port}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protos", default="ours")
    parser.add_argument("--listen", default="127.0.0.1:0")
    for name in ("--control", "--record", "--summary", "--client-ca"):
        parser.add_argument(name)
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--max-streams", type=int, default=100)
    parser.add_argument("--tree", action="store_true")
    args = parser.parse_args()

    orders = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda n, _: orders.put(n))
    receiver = Receiver(args)
    server, listen = serve(receiver, args, args.listen)
    while True:
        try:
            order = orders.get(timeout=0.5)
        except queue.Empty:
            receiver.recorder.save_summary(args.summary)
            continue
        server.stop(10 if order == signal.SIGUSR1 else 1).wait()
        if order != signal.SIGUSR1:
            break
        server, listen = serve(receiver, args, listen)
    receiver.recorder.save_summary(args.summary)
    if args.tree:
        print(receiver.recorder.tree(), flush=True)
    return 0


if __name__ == "__main__":
    assert threading.current_thread() is threading.main_thread()
    sys.exit(main())
