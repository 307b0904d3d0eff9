"""OTLP's messages for the receivers, from one of two sources.

official DIR   the .proto files of npm's @platformatic/promotel (byte-identical to opentelemetry-proto
               v1.0.0), compiled by protoc at test time: the judge of what we send.
ours           the table below, for the demo, which works with Debian's packages alone. Field numbers
               are facts; what the table leaves out is kept as unknown fields.
"""

import glob
import importlib
import os
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

PACKAGE = "opentelemetry.proto"
SIGNALS = {"trace": ("Trace", "traces"), "metrics": ("Metrics", "metrics"), "logs": ("Logs", "logs")}

# message: fields as "number name type", * repeated, ? inside the message's one oneof.
OURS = {
    "common.v1.AnyValue": "1 string_value string?,2 bool_value bool?,3 int_value int64?,4 double_value double?,"
                          "5 array_value common.v1.ArrayValue?,6 kvlist_value common.v1.KeyValueList?,7 bytes_value bytes?",
    "common.v1.ArrayValue": "1 values common.v1.AnyValue*",
    "common.v1.KeyValueList": "1 values common.v1.KeyValue*",
    "common.v1.KeyValue": "1 key string,2 value common.v1.AnyValue",
    "common.v1.InstrumentationScope": "1 name string,2 version string",
    "resource.v1.Resource": "1 attributes common.v1.KeyValue*,2 dropped_attributes_count uint32",
    "trace.v1.ResourceSpans": "1 resource resource.v1.Resource,2 scope_spans trace.v1.ScopeSpans*,3 schema_url string",
    "trace.v1.ScopeSpans": "1 scope common.v1.InstrumentationScope,2 spans trace.v1.Span*,3 schema_url string",
    "trace.v1.Span": "1 trace_id bytes,2 span_id bytes,3 trace_state string,4 parent_span_id bytes,5 name string,"
                     "6 kind int32,7 start_time_unix_nano fixed64,8 end_time_unix_nano fixed64,"
                     "9 attributes common.v1.KeyValue*,11 events trace.v1.Event*,13 links trace.v1.Link*,15 status trace.v1.Status",
    "trace.v1.Event": "1 time_unix_nano fixed64,2 name string,3 attributes common.v1.KeyValue*",
    "trace.v1.Link": "1 trace_id bytes,2 span_id bytes,3 trace_state string,4 attributes common.v1.KeyValue*",
    "trace.v1.Status": "2 message string,3 code int32",
    "logs.v1.ResourceLogs": "1 resource resource.v1.Resource,2 scope_logs logs.v1.ScopeLogs*,3 schema_url string",
    "logs.v1.ScopeLogs": "1 scope common.v1.InstrumentationScope,2 log_records logs.v1.LogRecord*,3 schema_url string",
    "logs.v1.LogRecord": "1 time_unix_nano fixed64,2 severity_number int32,3 severity_text string,5 body common.v1.AnyValue,"
                         "6 attributes common.v1.KeyValue*,9 trace_id bytes,10 span_id bytes,11 observed_time_unix_nano fixed64",
    "metrics.v1.ResourceMetrics": "1 resource resource.v1.Resource,2 scope_metrics metrics.v1.ScopeMetrics*,3 schema_url string",
    "metrics.v1.ScopeMetrics": "1 scope common.v1.InstrumentationScope,2 metrics metrics.v1.Metric*,3 schema_url string",
    "metrics.v1.Metric": "1 name string,2 description string,3 unit string,5 gauge metrics.v1.Points?,7 sum metrics.v1.Points?,"
                         "9 histogram metrics.v1.Points?,10 exponential_histogram metrics.v1.Points?",
    # What all kinds of points have in common; the rest stays unknown.
    "metrics.v1.Points": "1 data_points metrics.v1.Point*,2 aggregation_temporality int32",
    "metrics.v1.Point": "2 start_time_unix_nano fixed64,3 time_unix_nano fixed64,4 as_double double?,6 as_int sfixed64?",
}
for _service, (_name, _plural) in SIGNALS.items():
    _rejected = {"trace": "spans", "metrics": "data_points", "logs": "log_records"}[_service]
    _at = f"collector.{_service}.v1."
    OURS |= {
        f"{_at}Export{_name}ServiceRequest": f"1 resource_{'spans' if _service == 'trace' else _service} {_service}.v1.Resource{'Spans' if _service == 'trace' else _name}*",
        f"{_at}Export{_name}PartialSuccess": f"1 rejected_{_rejected} int64,2 error_message string",
        f"{_at}Export{_name}ServiceResponse": f"1 partial_success {_at}Export{_name}PartialSuccess",
    }


def _add_field(message, text):
    number, name, kind = text.split()
    field = message.field.add(name=name, number=int(number))
    field.label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
    if kind.endswith("?"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="value")
        field.oneof_index = 0
    kind = kind.rstrip("*?")
    if "." in kind:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = getattr(field, "TYPE_" + kind.upper())


def _ours():
    files = {}
    for path, fields in OURS.items():
        package, name = path.rsplit(".", 1)
        file = files.setdefault(package, descriptor_pb2.FileDescriptorProto(
            name=f"blixard/{package}.proto", package=f"{PACKAGE}.{package}", syntax="proto3"))
        message = file.message_type.add(name=name)
        for text in fields.split(","):
            _add_field(message, text)
            kind = text.split()[2].rstrip("*?")
            other = kind.rsplit(".", 1)[0] if "." in kind else package
            if other != package and f"blixard/{other}.proto" not in file.dependency:
                file.dependency.append(f"blixard/{other}.proto")
    pool = descriptor_pool.DescriptorPool()
    for package in sorted(files, key=lambda p: (p.startswith("collector"), p not in ("common.v1", "resource.v1"), p != "common.v1")):
        pool.Add(files[package])
    factory = message_factory.MessageFactory(pool)
    return lambda path: factory.GetPrototype(pool.FindMessageTypeByName(f"{PACKAGE}.{path}"))


def _official(directory):
    out = tempfile.mkdtemp(prefix="blix-protos-")
    files = glob.glob(os.path.join(directory, "opentelemetry/**/*.proto"), recursive=True)
    if not files:
        raise SystemExit(f"no opentelemetry/**/*.proto below {directory}")
    subprocess.run(["protoc", f"--proto_path={directory}", f"--python_out={out}", *files], check=True)
    sys.path.insert(0, out)

    def find(path):
        package, name = path.rsplit(".", 1)
        base = package.split(".")[-2]
        stem = f"{base}_service_pb2" if package.startswith("collector") else f"{base}_pb2"
        return getattr(importlib.import_module(f"{PACKAGE}.{package}.{stem}"), name)
    return find


class Protos:
    """find("trace.v1.Span") is a class; request/response by service: trace, metrics, logs."""

    def __init__(self, source):
        self.find = _ours() if source == "ours" else _official(source)

    def request(self, service):
        return self.find(f"collector.{service}.v1.Export{SIGNALS[service][0]}ServiceRequest")

    def response(self, service):
        return self.find(f"collector.{service}.v1.Export{SIGNALS[service][0]}ServiceResponse")

    def partial(self, service, rejected, text):
        response = self.response(service)()
        field = {"trace": "rejected_spans", "metrics": "rejected_data_points", "logs": "rejected_log_records"}[service]
        setattr(response.partial_success, field, rejected)
        response.partial_success.error_message = text
        return response


def plain(value):
    """An AnyValue as Python has it."""
    kind = next((f.name for f, _ in value.ListFields()), None)
    if kind is None:
        return None
    if kind == "array_value":
        return [plain(v) for v in value.array_value.values]
    if kind == "kvlist_value":
        return attributes(value.kvlist_value.values)
    got = getattr(value, kind)
    return got.hex() if isinstance(got, bytes) else got


def attributes(pairs):
    return {p.key: plain(p.value) for p in pairs}


def as_dict(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True)
