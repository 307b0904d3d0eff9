#!/usr/bin/env bash
# The example, built against the installed header, runs, says what it did and closes its file.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${B:-build}
[ -x "$build/example/node" ] || { echo "skip: $build/example/node is missing"; exit 77; }
dir=$(mktemp -d /dev/shm/blix-test-XXXXXX)
trap 'rm -rf "$dir"' EXIT

said=$(timeout 20 "$build/example/node" "$dir/blix1")
[ "$said" = "$dir/blix1: 5 proposals, 10 requests, term 7" ] || { echo "said: $said"; exit 1; }
state=$(od -An -t u4 -j 256 -N 4 "$dir/blix1" | tr -d ' ')
[ "$state" = 2 ] || { echo "state $state, expected 2 (closed)"; exit 1; }

if timeout 20 "$build/example/node" "$dir/absent/blix1" 0 > "$dir/out" 2>&1; then
	echo "no failure where there is no directory"
	exit 1
fi
grep -q "telemetry off: the directory does not exist" "$dir/out" || { cat "$dir/out"; exit 1; }
echo "the example works"
