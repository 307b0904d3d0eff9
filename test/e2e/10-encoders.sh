#!/usr/bin/env bash
# Goal: parsers that are not ours accept every body the encoders can make, and read the same from
# all of them. Method: encode_fixture writes the whole catalogue in each format and name set; the
# verifiers and promtool read it. Each verifier is also shown a body it must refuse.
#
# Prints TAP. B is the build directory.
# timeout: 120 s
# Functions are called by name.
# shellcheck disable=SC2317
set -u

build=${B:-build}
here=$(cd "$(dirname "$0")/.." && pwd)
fixture=$build/test/support/bin/encode_fixture
work=$(mktemp -d /tmp/blixard-encoders.XXXXXX)
trap 'rm -rf "$work"' EXIT
cases=0
failed=0

# case NAME COMMAND...: one TAP line; what the command said follows a failure.
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

skip() {
	cases=$((cases + 1))
	echo "ok $cases - $1 # SKIP $2"
}

body() { # FORMAT NAMES [OPTION...] -> file
	"$fixture" "$@"
}

verifier() { # SCRIPT BODY [ARGUMENT...]
	local script=$1 file=$2
	shift 2
	/usr/bin/python3 -B "$here/verifiers/$script" "$@" <"$file"
}

refuses() { # a verifier must say no, by itself and not by a crash
	local out
	out=$(verifier "$@") && return 1
	echo "$out"
	[[ $out == refused:* ]]
}

same() {
	/usr/bin/python3 -B "$here/verifiers/same_values.py" "$work/text.$1" "$work/openmetrics.$1" "$work/protobuf.$1"
}

differs() {
	local out
	out=$(same "$1") && return 1
	echo "$out"
	[[ $out == differ:* ]]
}

same_with_22_aliases() {
	same both | grep ' 22 aliases$'
}

if [[ ! -x $fixture ]]; then
	echo "not ok 1 - $fixture is built"
	exit 1
fi
if ! /usr/bin/python3 -c 'import google.protobuf, prometheus_client' 2>"$work/said" || ! command -v protoc >"$work/said"; then
	echo "1..0 # SKIP python3-prometheus-client, python3-protobuf or protobuf-compiler is missing"
	exit 77
fi

# ---- every body is accepted, under every set of names ------------------------------------------
for names in both canonical seed; do
	for format in text openmetrics protobuf; do
		body $format $names >"$work/$format.$names" || failed=1
		body $format $names created native >"$work/$format.$names.full" || failed=1
	done
	case_ "the strict parser accepts OpenMetrics, names=$names" verifier openmetrics_strict.py "$work/openmetrics.$names"
	case_ "and with _created lines, names=$names" verifier openmetrics_strict.py "$work/openmetrics.$names.full"
	case_ "text 0.0.4 is as specified, names=$names" verifier text_parse.py "$work/text.$names"
	case_ "and with _created lines, names=$names" verifier text_parse.py "$work/text.$names.full"
	case_ "Google's library decodes protobuf, names=$names" verifier protobuf_decode.py "$work/protobuf.$names"
	case_ "and with native histograms, names=$names" verifier protobuf_decode.py "$work/protobuf.$names.full" native
	case_ "the three bodies have the same samples and values, names=$names" same $names
done
case_ "each of the 22 aliases equals its twin" same_with_22_aliases

# ---- the verifiers can say no ----------------------------------------------------------------------
sed '$d' "$work/openmetrics.both" >"$work/no-eof"
case_ "the strict parser refuses a body without its end" refuses openmetrics_strict.py "$work/no-eof"
sed '/^raft_proposals_failed{/s/$/ # {trace_id="0"} 1 1/' "$work/openmetrics.both" >"$work/alias-exemplar"
case_ "it refuses an exemplar on an alias" refuses openmetrics_strict.py "$work/alias-exemplar"
sed 's/^# TYPE raft_term gauge$/# TYPE raft_term counter/' "$work/openmetrics.both" >"$work/no-total"
case_ "it refuses a counter without _total" refuses openmetrics_strict.py "$work/no-total"
{ cat "$work/text.both" && grep '^raft_term ' "$work/text.both"; } >"$work/twice"
case_ "the text verifier refuses a sample outside its family" refuses text_parse.py "$work/twice"
head -c -1 "$work/text.both" >"$work/cut"
case_ "it refuses a last line that does not end" refuses text_parse.py "$work/cut"
head -c -1 "$work/protobuf.both" >"$work/cut"
case_ "the protobuf verifier refuses a body cut short" refuses protobuf_decode.py "$work/cut"
case_ "it misses native histograms where there are none" refuses protobuf_decode.py "$work/protobuf.both" native
for format in text openmetrics protobuf; do cp "$work/$format.both" "$work/$format.changed"; done
sed -i 's/^\(raft_term\) .*/\1 12345/' "$work/text.changed"
case_ "one value that differs between formats is found" differs changed
sed -i 's/^\(raft_term\) .*/\1 12345/' "$work/openmetrics.changed"
case_ "and found against protobuf" differs changed

# ---- promtool --------------------------------------------------------------------------------------
promtool=$build/tools/usr/bin/promtool
[[ -x $promtool ]] || promtool=$(command -v promtool)

silent() {
	"$promtool" check metrics <"$1" >"$work/lint" 2>&1
	local code=$?
	cat "$work/lint"
	[[ $code -eq 0 && ! -s $work/lint ]]
}

five_findings() {
	"$promtool" check metrics <"$work/text.both" 2>"$work/lint"
	local code=$?
	cat "$work/lint"
	[[ $code -eq 3 ]] && diff <(sort "$work/lint") - <<-'FINDINGS'
		grpc_requests_failed counter metrics should have "_total" suffix
		peer_reconnect_attempts counter metrics should have "_total" suffix
		raft_proposals_failed counter metrics should have "_total" suffix
		vm_create_failed counter metrics should have "_total" suffix
		vm_total non-counter metrics should not have "_total" suffix
	FINDINGS
}

if [[ -n $promtool ]]; then
	case_ "promtool has nothing to say about canonical names" silent "$work/text.canonical"
	case_ "promtool finds the five aliases it must, and nothing else" five_findings
else
	skip "promtool has nothing to say about canonical names" "promtool is missing"
	skip "promtool finds the five aliases it must, and nothing else" "promtool is missing"
fi

echo "1..$cases"
exit $failed
