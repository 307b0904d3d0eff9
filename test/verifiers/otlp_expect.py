"""Does what otlp_decode.py read say what the fixtures put in? otlp_expect.py NAME < decoded JSON.

The values are written here once more, by hand from test/support/{batch,model}_fixture.c.
"""
import json
import math
import sys

START = 1700000000000000001
TIME = "1700000100000000000"
CREATED = "1700000000123000000"


class Wrong(Exception):
    pass


def same(what, got, wanted):
    if got != wanted:
        raise Wrong(f"{what}: {got!r}, not {wanted!r}")


ATTRIBUTES = [
    ("empty", {"stringValue": ""}),
    ("text", {"stringValue": "q\"b\\s\nn\x01\u00e9\U0001f600"}),
    ("no", {"boolValue": False}),
    ("yes", {"boolValue": True}),
    ("zero", {"intValue": "0"}),
    ("least", {"intValue": str(-2**63)}),
    ("most", {"intValue": str(2**63 - 1)}),
    ("tenth", {"doubleValue": 0.1}),
    ("nan", {"doubleValue": "NaN"}),
    ("inf", {"doubleValue": "-Infinity"}),
    ("bytes", {"bytesValue": "AP8QgA=="}),
    ("numbers", {"arrayValue": {"values": [{"intValue": "-1"}, {"intValue": "0"}]}}),
    ("texts", {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": ""}]}}),
    ("none", {"arrayValue": {}}),
]
ATTRIBUTES = [{"key": key, "value": value} for key, value in ATTRIBUTES]
RESOURCE = {"attributes": [
    {"key": "service.name", "value": {"stringValue": "blixard-node"}},
    {"key": "service.instance.id", "value": {"stringValue": "0123456789abcdef" * 2}},
    {"key": "process.pid", "value": {"intValue": "4711"}}]}


def items(request, groups, scopes, name):
    same("groups", len(request[groups]), 1)
    group = request[groups][0]
    same("resource", group["resource"], RESOURCE)
    same("scope", group[scopes][0]["scope"], {"name": "blixard-hooks", "version": "0.1.0"})
    same("schema", group["schemaUrl"], group[scopes][0]["schemaUrl"])
    return group[scopes][0][name]


def traces(decoded):
    full, root, limits = items(decoded["request"], "resourceSpans", "scopeSpans", "spans")
    same("attributes", full["attributes"], ATTRIBUTES)
    same("times", (full["startTimeUnixNano"], full["endTimeUnixNano"]), (str(START), str(START + 1500)))
    same("status", full["status"], {"message": "no space", "code": "STATUS_CODE_ERROR"})
    same("kind", full["kind"], "SPAN_KIND_SERVER")
    same("trace state", full["traceState"], "vendor=a,other=b")
    same("dropped", [full[f"dropped{x}Count"] for x in ("Attributes", "Events", "Links")], [1, 4, 5])
    same("events", full["events"], [
        {"timeUnixNano": "1700000000000000002", "name": "exception", "droppedAttributesCount": 2,
         "attributes": [{"key": "k", "value": {"stringValue": "v"}}]}, {}])
    same("link", full["links"][0]["traceState"], "v=1")
    same("root", sorted(root), ["endTimeUnixNano", "kind", "name", "spanId", "startTimeUnixNano", "traceId"])
    same("ok", limits["status"], {"code": "STATUS_CODE_OK"})
    same("limit", limits["endTimeUnixNano"], str(2**64 - 1))
    same("flags", decoded["newer"], sorted([["Link", 6, 0x301], ["Span", 16, 0x3ff], ["Span", 16, 0x100],
                                            ["Span", 16, 0x301]], key=str))


def logs(decoded):
    full, bare = items(decoded["request"], "resourceLogs", "scopeLogs", "logRecords")
    same("attributes", full["attributes"], ATTRIBUTES)
    same("severity", (full["severityNumber"], full["severityText"]), ("SEVERITY_NUMBER_ERROR2", "ERROR2"))
    same("body", full["body"], {"stringValue": 'disk "a" is full'})
    same("event", decoded["newer"], [["LogRecord", 12, "disk.full"]])
    same("bare", bare, {"observedTimeUnixNano": str(START), "body": {"stringValue": ""}})


def metrics_of(decoded):
    return {m["name"]: m for m in items(decoded["request"], "resourceMetrics", "scopeMetrics", "metrics")}


def value(point):
    return int(point["asInt"]) if "asInt" in point else float(point["asDouble"])


def metrics(decoded):
    m = metrics_of(decoded)
    same("names", sorted(m), ["app_busy", "app_level", "app_requests", "app_requests_failed", "app_temperature",
                              "app_wait"])
    same("cumulative", m["app_requests"]["sum"]["aggregationTemporality"], "AGGREGATION_TEMPORALITY_CUMULATIVE")
    same("monotonic", m["app_requests"]["sum"]["isMonotonic"], True)
    points = m["app_requests"]["sum"]["dataPoints"]
    same("requests", [value(p) for p in points], [42, 2.0**64])
    same("start", (points[0]["startTimeUnixNano"], points[0]["timeUnixNano"]), (CREATED, TIME))
    same("repaired", points[1]["attributes"][0]["value"]["stringValue"], 'q"b\\s\nn\ufffdz')
    same("busy", [value(p) for p in m["app_busy"]["sum"]["dataPoints"]], [1.5, 1e-9, 0.0])
    temperatures = [value(p) for p in m["app_temperature"]["gauge"]["dataPoints"]]
    same("temperature", temperatures[:2] + temperatures[3:], [0.1, 1 / 3, -math.inf, 2.0**32])
    same("nan", math.isnan(temperatures[2]), True)
    same("level", value(m["app_level"]["gauge"]["dataPoints"][0]), -2**63)
    some, none = m["app_wait"]["histogram"]["dataPoints"]
    same("buckets", (some["bucketCounts"], some["explicitBounds"], some["count"]),
         (["3", "0", "2", "1"], [0.005, 1.0, 2.5], "6"))
    same("sum", some["sum"], 12.345678901)
    same("exemplars", [e["asDouble"] for e in some["exemplars"]], [0.004, 7.0])
    same("sum of nothing", none["sum"], 0.0)


def exponential(decoded):
    some, none = metrics_of(decoded)["app_wait"]["exponentialHistogram"]["dataPoints"]
    buckets = some["positive"]
    counts = [int(c) for c in buckets["bucketCounts"]]
    same("count", int(some["count"]), int(some["zeroCount"]) + sum(counts))
    same("zeros", (int(some["zeroCount"]), some["zeroThreshold"]), (2, 2.0**-20))
    same("width", len(counts) <= 160, True)
    base = 2 ** 2 ** -some["scale"]
    observed = {0.004: 1, 2.0: 2, 4096.0001: 1}
    for seconds, n in observed.items():  # bucket i covers (base^i, base^(i+1)]
        index = math.ceil(round(math.log(seconds, base), 9)) - 1 - buckets["offset"]
        same(f"bucket of {seconds} s", counts[index], n)
    same("no sum lost", none["sum"], 0.0)


def delta(decoded):
    m = metrics_of(decoded)
    for name in ("app_requests", "app_busy"):
        same("delta", m[name]["sum"]["aggregationTemporality"], "AGGREGATION_TEMPORALITY_DELTA")
    same("requests", [value(p) for p in m["app_requests"]["sum"]["dataPoints"]], [5, 0])
    same("start", {p["startTimeUnixNano"] for p in m["app_requests"]["sum"]["dataPoints"]},
         {str(int(TIME) - 1000)})
    same("exemplars of before", "exemplars" in m["app_requests"]["sum"]["dataPoints"][0], False)
    same("buckets", m["app_wait"]["histogram"]["dataPoints"][0]["bucketCounts"], ["0"] * 4)
    same("level", value(m["app_level"]["gauge"]["dataPoints"][0]), -2**63)


def rich(decoded):
    m = metrics_of(decoded)
    same("names differ", len(m), len(items(decoded["request"], "resourceMetrics", "scopeMetrics", "metrics")))
    for name, metric in m.items():
        same(f"{name} has help", bool(metric["description"]), True)
        for point in metric.get("exponentialHistogram", {}).get("dataPoints", []):
            total = int(point.get("zeroCount", 0)) + sum(map(int, point["positive"]["bucketCounts"]))
            same(f"count of {name}", int(point["count"]), total)
            same(f"width of {name}", len(point["positive"]["bucketCounts"]) <= 160, True)
    same("many", len(m) > 50, True)


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](json.load(sys.stdin))
    except (Wrong, KeyError, IndexError, ValueError) as why:
        print(f"refused: {type(why).__name__}: {why}")
        sys.exit(1)
