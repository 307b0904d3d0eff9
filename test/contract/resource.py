#!/usr/bin/env python3
"""The resource in a telemetry file is a valid OTLP Resource with the right attributes.

The example program writes a file; the file is read here byte by byte and decoded by the protobuf
runtime with a descriptor made from the published field numbers, so nothing of the project's own
reading or encoding is involved.
"""

import os
import struct
import subprocess
import sys
import tempfile

try:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ImportError:
    print("skip: python3-protobuf is not installed")
    sys.exit(77)

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
NODE = os.path.join(ROOT, os.environ.get("B", "build"), "example", "node")
RESOURCE_SECTION = 9


def resource_class():
    """opentelemetry.proto.resource.v1.Resource, as far as strings go."""
    file = descriptor_pb2.FileDescriptorProto(name="resource.proto", package="t", syntax="proto3")

    def message(name, *fields):
        m = file.message_type.add(name=name)
        for number, field, kind, type_name, repeated in fields:
            m.field.add(name=field, number=number, type=kind, type_name=type_name, label=3 if repeated else 1)

    text, whole, nested = 9, 13, 11
    message("AnyValue", (1, "string_value", text, None, False))
    message("KeyValue", (1, "key", text, None, False), (2, "value", nested, ".t.AnyValue", False))
    message("Resource", (1, "attributes", nested, ".t.KeyValue", True), (2, "dropped", whole, None, False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName("t.Resource"))


def resource_bytes(path):
    with open(path, "rb") as f:
        data = f.read()
    assert data[:8] == b"BLIXSHM\x01", data[:8]
    toc_off, toc_count, stride = struct.unpack_from("<III", data, 0x14)
    for i in range(toc_count):
        kind, _, off, length = struct.unpack_from("<IIQQ", data, toc_off + i * stride)
        if kind == RESOURCE_SECTION:
            return data[off:off + length]
    raise AssertionError("no RESOURCE section")


def attributes(directory, **environment):
    path = os.path.join(directory, "blix1")
    env = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    subprocess.run([NODE, path, "0"], env=dict(env, **environment), check=True, timeout=20, stdout=subprocess.DEVNULL)
    message = resource_class()()
    message.ParseFromString(resource_bytes(path))
    assert not message.UnknownFields(), "unknown fields"
    found = {a.key: a.value.string_value for a in message.attributes}
    assert len(found) == len(message.attributes), "a key twice"
    return found


def expect(found, **wanted):
    for key, value in wanted.items():
        key = key.replace("__", ".")
        assert found.get(key) == value, f"{key}: {found.get(key)!r}, expected {value!r}"


def main():
    if not os.access(NODE, os.X_OK):
        print(f"skip: {NODE} is missing")
        return 77
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        plain = attributes(directory)
        expect(plain, service__name="blixard", service__instance__id="default/1", service__version="0.1.0",
               host__name=os.uname().nodename, telemetry__sdk__name="blixard", telemetry__sdk__language="c")
        # Lengths on both sides of one and two bytes of varint, in value, pair and key.
        for n in (100, 115, 121, 122, 123, 124, 127, 128, 129, 255, 256, 4000):
            long = attributes(directory, OTEL_RESOURCE_ATTRIBUTES=f"long={'x' * n},{'k' * n}=v")
            expect(long, long="x" * n)
            assert long["k" * n] == "v", n
        given = attributes(directory, OTEL_SERVICE_NAME="svc",
                           OTEL_RESOURCE_ATTRIBUTES="a%20b=c%2Cd%3D,zone=z%C3%BCrich,empty=,service.name=no")
        expect(given, service__name="svc", zone="z\u00fcrich", empty="")
        assert given["a b"] == "c,d="
        bad = attributes(directory, OTEL_RESOURCE_ATTRIBUTES="zone=1,broken")
        assert "zone" not in bad and bad["service.name"] == "blixard"
    print("resource decoded")
    return 0


if __name__ == "__main__":
    sys.exit(main())
