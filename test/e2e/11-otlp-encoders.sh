#!/usr/bin/env bash
# Goal: decoders that are not ours read from every OTLP body what the fixtures put in, in both forms.
# Method: otlp_fixture writes bodies; Google's Python library with the official .proto files, and the
# decoder of OpenTelemetry's JavaScript SDK, read them; the values are compared with a list written by
# hand, the JSON with the protobuf. Damaged bodies must be refused.
#
# Prints TAP. B is the build directory.
# timeout: 240 s
# Functions are called by name.
# shellcheck disable=SC2317
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${B:-build}

for program in node npm protoc; do
	if ! command -v "$program" >/dev/null; then
		echo "$program is not installed"
		exit 77
	fi
done
if [ ! -x "$build/test/support/bin/otlp_fixture" ]; then
	echo "otlp_fixture is not built"
	exit 77
fi
work=$(mktemp -d /tmp/blix-otlp-XXXXXX)
trap 'rm -rf "$work"' EXIT
if ! timeout 120 npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$work" \
	@platformatic/promotel@0.2.2 @opentelemetry/otlp-transformer@0.213.0 protobufjs@7 >"$work/npm.log" 2>&1; then
	echo "the official messages cannot be installed: no way to the npm registry?"
	exit 77
fi

cases=0
failed=0
case_() {
	local name=$1
	shift
	cases=$((cases + 1))
	if "$@" >"$work/said" 2>&1; then
		echo "ok $cases - $name"
	else
		failed=1
		echo "not ok $cases - $name"
		sed 's/^/# /' "$work/said" | head -20
	fi
}

official() {
	mkdir "$work/protos" "$work/bodies" &&
		(cd "$work/node_modules/@platformatic/promotel/proto" &&
			find opentelemetry -name '*.proto' -exec protoc --python_out="$work/protos" {} +) &&
		"$build/test/support/bin/otlp_fixture" "$work/bodies"
}

signal() {
	case $1 in
	traces | logs) echo "$1" ;;
	*) echo metrics ;;
	esac
}

decode() { # NAME pb|json
	local form=()
	[ "$2" = pb ] || form=(json)
	/usr/bin/python3 -B test/verifiers/otlp_decode.py "$work/protos" "$(signal "$1")" "${form[@]}" <"$work/bodies/$1.$2"
}

says() { # the decoded body has the fixture's values
	decode "$1" pb >"$work/$1.pb.decoded" || { cat "$work/$1.pb.decoded"; return 1; }
	/usr/bin/python3 -B test/verifiers/otlp_expect.py "$1" <"$work/$1.pb.decoded"
}

alike() {
	decode "$1" json >"$work/$1.json.decoded" || { cat "$work/$1.json.decoded"; return 1; }
	diff "$work/$1.pb.decoded" "$work/$1.json.decoded"
}

refuses() { # NAME FORM FROM TO: with its first FROM become TO the body is refused, not by a crash
	local out form=()
	[ "$2" = pb ] || form=(json)
	cp "$work/bodies/$1.$2" "$work/bodies/bad.$2"
	/usr/bin/python3 - "$work/bodies/bad.$2" "$3" "$4" <<-'PY' || return 1
		import sys
		path, old, new = sys.argv[1], *(x.encode().decode("unicode_escape").encode("latin-1") for x in sys.argv[2:])
		body = open(path, "rb").read()
		assert old in body
		open(path, "wb").write(body.replace(old, new, 1))
	PY
	mv "$work/bodies/bad.$2" "$work/bodies/bad_$1.$2"
	out=$(/usr/bin/python3 -B test/verifiers/otlp_decode.py "$work/protos" "$(signal "$1")" \
		"${form[@]}" <"$work/bodies/bad_$1.$2") && return 1
	echo "$out"
	[[ $out == refused:* ]]
}

cat >"$work/decode.js" <<'JS'
// The decoder that OpenTelemetry's SDK was generated with knows newer fields: flags, eventName.
const fs = require('fs'), path = require('path');
const base = path.join(path.dirname(require.resolve('@opentelemetry/otlp-transformer/package.json')), 'build/src/generated/root.js');
const collector = require(base).opentelemetry.proto.collector;
const kinds = { traces: collector.trace.v1.ExportTraceServiceRequest, logs: collector.logs.v1.ExportLogsServiceRequest };
const [name, file] = process.argv.slice(2);
const kind = kinds[name] || collector.metrics.v1.ExportMetricsServiceRequest;
const body = fs.readFileSync(file);
const message = kind.decode(body);
const again = Buffer.from(kind.encode(message).finish());
const wrong = (why) => { console.log(why); process.exit(1); };
const fields = kind.toObject(message, { longs: String });
if (name === 'traces') {
  const spans = fields.resourceSpans[0].scopeSpans[0].spans;
  if (spans.map((s) => s.flags).join() !== '769,256,1023') wrong('flags ' + spans.map((s) => s.flags));
  if (spans[0].links[0].flags !== 769) wrong('link flags');
  if (spans[0].attributes[0].value.stringValue !== '') wrong('the empty string is lost');
} else if (name === 'logs') {
  const logs = fields.resourceLogs[0].scopeLogs[0].logRecords;
  if (logs[0].eventName !== 'disk.full') wrong('event name');
} else {
  const metrics = fields.resourceMetrics[0].scopeMetrics[0].metrics;
  if (metrics.some((m) => !(m.sum || m.gauge || m.histogram || m.exponentialHistogram))) wrong('no data');
  if (name === 'exponential' && metrics.at(-1).exponentialHistogram.dataPoints[0].zeroThreshold !== 2 ** -20) wrong('threshold');
}
if (again.length !== body.length) wrong(`encodes to ${again.length} bytes, not ${body.length}`);
JS
javascript() {
	node "$work/decode.js" "$1" "$work/bodies/$1.pb"
}

case_ "the official messages compile, and the bodies are written" official
for name in traces logs metrics exponential delta rich; do
	case_ "$name: Google's library reads what the fixture put in" says "$name"
	case_ "$name: the JSON says the same as the protobuf" alike "$name"
	case_ "$name: OpenTelemetry's JavaScript decoder reads it, with the newer fields" javascript "$name"
done
case_ "a verifier refuses invalid UTF-8" refuses traces pb CreateVm 'Create\xffm'
case_ "a verifier refuses invalid UTF-8 in a newer field" refuses logs pb 'disk.full' 'disk.ful\xff'
case_ "a verifier refuses an enum by name in JSON" refuses traces json '"kind":2' '"kind":"SPAN_KIND_SERVER"'
case_ "a verifier refuses a time that is a number in JSON" refuses logs json \
	'"timeUnixNano":"1700000000000000001"' '"timeUnixNano":1700000000000000001'
case_ "a verifier refuses an id that is not hex" refuses traces json '"traceId":"1010' '"traceId":"EBA='
echo "1..$cases"
exit $failed
