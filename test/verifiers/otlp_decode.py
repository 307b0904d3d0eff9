"""An OTLP request on stdin, decoded by Google's library with the official messages, as canonical JSON.

otlp_decode.py PROTOS SIGNAL [json]: PROTOS is a directory in which protoc has put the Python modules of
the official .proto files; SIGNAL is traces, logs or metrics. With `json` the input is OTLP's JSON
mapping, which differs from protobuf's own in ids being hex; a key or enum name that the mapping does
not have is refused.

Strict: invalid UTF-8, and bytes that do not come back from encoding again, are refused. Fields that
the official messages (v1.0.0) do not know yet are listed by number; any others are refused.
"""
import base64
import importlib
import json
import sys

MODULES = {"traces": ("trace", "ExportTraceServiceRequest"), "logs": ("logs", "ExportLogsServiceRequest"),
           "metrics": ("metrics", "ExportMetricsServiceRequest")}
IDS = {"traceId", "spanId", "parentSpanId"}
# Span.flags, Link.flags, LogRecord.event_name came after v1.0.0.
NEWER = {("Span", 16), ("Link", 6), ("LogRecord", 12)}


class Wrong(Exception):
    pass


def request(protos, signal):
    sys.path.insert(0, protos)
    name, message = MODULES[signal]
    module = importlib.import_module(f"opentelemetry.proto.collector.{name}.v1.{name}_service_pb2")
    return getattr(module, message)()


def unknown(message, found):
    for field in message.UnknownFields():
        key = (message.DESCRIPTOR.name, field.field_number)
        if key not in NEWER:
            raise Wrong(f"unknown field {key}")
        found.append([*key, field.data if isinstance(field.data, int) else field.data.decode("utf-8")])
    for descriptor, value in message.ListFields():
        if descriptor.message_type:
            for each in value if descriptor.label == descriptor.LABEL_REPEATED else [value]:
                unknown(each, found)


def hex_to_base64(value, newer, where=""):
    """OTLP's JSON as protobuf's: ids base64; what v1.0.0 lacks is taken out; enum names refused."""
    if isinstance(value, list):
        return [hex_to_base64(each, newer, where) for each in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, each in value.items():
        if "_" in key:
            raise Wrong(f"key {key} is not lowerCamelCase")
        if key in ("kind", "code", "severityNumber", "aggregationTemporality") and type(each) is not int:
            raise Wrong(f"{key} is {each!r}: enums are integers")
        if key.endswith("UnixNano") and type(each) is not str:
            raise Wrong(f"{key} is {each!r}: 64-bit integers are strings")
        if key in IDS:
            if each != each.lower() or len(each) not in (16, 32):
                raise Wrong(f"{key} is {each!r}")
            result[key] = base64.b64encode(bytes.fromhex(each)).decode()
        elif (where in ("spans", "links") and key == "flags") or (where == "logRecords" and key == "eventName"):
            newer.append([{"spans": "Span", "links": "Link", "logRecords": "LogRecord"}[where],
                          {"spans": 16, "links": 6, "logRecords": 12}[where], each])
        else:
            result[key] = hex_to_base64(each, newer, key)
    return result


def no_twice(pairs):
    if len({key for key, _ in pairs}) != len(pairs):
        raise Wrong("a key twice")
    return dict(pairs)


def main():
    from google.protobuf import json_format
    protos, signal, *form = sys.argv[1:]
    body = sys.stdin.buffer.read()
    message, newer = request(protos, signal), []
    if form == ["json"]:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=no_twice)
        json_format.ParseDict(hex_to_base64(document, newer), message)
    else:
        message.ParseFromString(body)
        unknown(message, newer)
        if message.SerializeToString() != body:
            raise Wrong("encodes to other bytes again")
    if not message.ListFields():
        raise Wrong("empty")
    result = json_format.MessageToDict(message)
    json.dump({"request": result, "newer": sorted(newer, key=str)}, sys.stdout, sort_keys=True, indent=1)


if __name__ == "__main__":
    try:
        main()
    except Exception as why:  # whatever the library says is a refusal
        print(f"refused: {type(why).__name__}: {why}")
        sys.exit(1)
