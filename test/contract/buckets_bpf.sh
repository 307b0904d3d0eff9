#!/bin/sh
# The grid compiles for the kernel: shm/buckets.h alone, for the bpf target, without warnings,
# without calls of helper functions that do not exist there (128-bit maths, counting zeros), and
# within the verifier's limits for a small program.
set -eu

cd "$(dirname "$0")/../.."
clang=${CLANG:-clang}

if ! command -v "$clang" >/dev/null; then
	echo "skip: $clang is not installed"
	exit 77
fi
if ! "$clang" -print-targets 2>/dev/null | grep -q '^ *bpf '; then
	echo "skip: $clang has no bpf target"
	exit 77
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

cat >"$dir/grid.bpf.c" <<'END'
#include "shm/buckets.h"

uint64_t cells[BLIX_BPF_CELLS] __attribute__((section(".data")));

__attribute__((section("prog"), used)) int count(const uint64_t *ns)
{
	uint32_t cell = blix_bpf_cell(*ns);

	cells[cell]++;
	return (int)blix_bpf_pow2_bucket(cell) + blix_native_index(blix_bpf_otlp_index(cell));
}
END

fail=0
for opt in -O1 -O2; do
	if ! "$clang" -target bpf "$opt" -g -std=gnu17 -Wall -Wextra -Wshadow -Wconversion -Wundef \
		-Werror -I. -c "$dir/grid.bpf.c" -o "$dir/grid.o"; then
		echo "shm/buckets.h does not compile for the bpf target with $opt"
		fail=1
		continue
	fi
	"$clang" -target bpf "$opt" -std=gnu17 -I. -S "$dir/grid.bpf.c" -o "$dir/grid.s"
	if grep -E '^[[:space:]]+call' "$dir/grid.s"; then
		echo "the code for the bpf target calls a function with $opt"
		fail=1
	fi
	n=$(grep -cE '^[[:space:]]+[a-z(*].*[=;]|^[[:space:]]+(if|goto|exit)' "$dir/grid.s")
	if [ "$n" -lt 20 ] || [ "$n" -gt 300 ]; then
		echo "$n instructions with $opt; between 20 and 300 were expected"
		fail=1
	fi
done
exit "$fail"
