#!/usr/bin/env bash
# timeout: 180 s
# Goal: the reference node's disk and wire formats, its replicated state and its placement keep
# their promises.
# Method: compile its self-tests, which stand beside it, once as they are and once with the address and
# undefined-behaviour sanitizers, and run both.
set -u
cd "$(dirname "$0")/../.." || exit 1

cc=${CC:-gcc}
out=$(mktemp -d /tmp/blix-selftest-XXXXXX)
trap 'rm -rf "$out"' EXIT

node=test/cluster
flags=(-I. -Inode-hooks -I"${B:-build}/include" -D_GNU_SOURCE -std=gnu17 -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes
	-Wmissing-prototypes -Wundef -Wvla -Werror -g)
sanitizers="address,undefined"
failed=0

# run_test NAME VARIANT SOURCE... -- FLAG...
run_test() {
	local name=$1 variant=$2 program="$out/$1-$2" sources=()
	shift 2
	while [ "$1" != -- ]; do
		sources+=("$1")
		shift
	done
	shift
	if ! "$cc" "${flags[@]}" "$@" -o "$program" "$node/selftest/$name.c" "${sources[@]}" -lraft -levent_core; then
		echo "not ok - $name ($variant): does not compile"
		failed=1
		return
	fi
	"$program" > "$out/log" 2> "$out/errors" || failed=1
	sed -E "s/^((not )?ok [0-9]+ - )/\1$name ($variant): /" "$out/log"
	if [ -s "$out/errors" ]; then
		echo "not ok - $name ($variant): $(grep -m1 -E 'ERROR|runtime error' "$out/errors" || head -1 "$out/errors")"
		failed=1
	fi
}

mkdir -p "$out/gen"
protoc-c --c_out="$out/gen" proto/blixard_cluster.proto || exit 1

for variant in plain sanitized; do
	extra=(-O2)
	[ "$variant" = sanitized ] && extra=(-O1 "-fsanitize=$sanitizers" -fno-sanitize-recover=all)
	run_test wire "$variant" "$node"/{raft/wire_raft,state/command,state/table}.c -- "${extra[@]}"
	run_test disk "$variant" "$node"/selftest/{record,trace}_double.c \
		"$node"/{storage/{disk,hard_state,log_segment,log_store,snapshot_file},raft/wire_raft}.c \
		shm/crc32c.c -- "${extra[@]}"
	run_test placement "$variant" "$node"/{placement/placement,vm/vm}.c -- "${extra[@]}"
	run_test vms "$variant" "$node"/selftest/{record,trace}_double.c \
		"$node"/{vm/vm,state/{vms,vm_command,command,table,fsm}}.c -- "${extra[@]}"
	run_test vm_local "$variant" "$node"/selftest/trace_double.c "$node"/vm/{vm_local,vm}.c -- "${extra[@]}"
	run_test load "$variant" "$node"/load/{latency,pace,tally,workload}.c "$out/gen/proto/blixard_cluster.pb-c.c" \
		-- "${extra[@]}" -I"$out/gen" -Wl,--no-as-needed -lprotobuf-c -lm
	run_test images "$variant" "$node"/selftest/{record,trace}_double.c \
		"$node"/{storage/disk,image/{chunk_digest,chunk_store,chunk_worker,image,image_sends,image_store}}.c \
		"$out/gen/proto/blixard_cluster.pb-c.c" -- "${extra[@]}" -I"$out/gen" -Wl,--no-as-needed -lprotobuf-c -lcrypto
done
exit $failed
