#!/bin/bash
# Goal: the torture programs can fail. Each mistake below was once made, or is the one somebody would
# make next; the program named beside it must find it.
#
# Method: copy one source of shm/, make the mistake with a line of sed, link the program with it and
# expect it to fail. A line that no longer changes the source is itself a failure: the list must
# follow the code. Prints TAP. Needs a compiler and ptrace; works below $B (default: build).
set -u
cd "$(dirname "$0")/../.." || exit 1

B=${B:-build}
CC=${CC:-gcc}
WORK=$B/mutants
CFLAGS=(-std=gnu17 -O2 -I. -D_GNU_SOURCE -w)
PARTS=(shm/ring.c shm/slot.c shm/lane.c test/support/tiny_file.c test/support/stepper.c)
LIMIT_S=20

rm -rf "$WORK"
mkdir -p "$WORK"

# name | source | program | edit
mutants() {
	cat <<'LIST'
slack: the floor's slack passes what was acknowledged|shm/ring.c|step_agent|s/if (listening && is_above(floor + head_size/if (0 \&\& is_above(floor + head_size/
admit: sheds though nobody listens|shm/ring.c|step_writer|s/^\tif (!listening)$/\tif (0)/
drop: counts a drop while the slot says ENDING|shm/slot.c|step_writer|/blix_slot_ctl(gen, BLIX_SLOT_DROPPING))/d
settle: a dead owner's lane is freed as it is|shm/lane.c|step_writer|/(void)blix_slots_settle(view, lane);/d
ack: overwrites the acknowledgement in use|shm/ring.c|step_agent|s/uint32_t other = 1 - (\(.*\));/uint32_t other = \1;/
quarantine: compares live tail and floor|shm/ring.c|kill_random|s/^\tif (reader->quarantined)$/\tif (tail - blix_load_acquire(\&ring->floor) > reader->view->lane.ring_bytes)\n\t\treturn give_up(reader, tail);\n&/
recheck: does not look at the floor again after copying|shm/ring.c|kill_random|s/^\tif (is_above(floor, pos)) { \/\* re-check.*$/\tif (0) {/
floor: stored after the bytes it gives up|shm/ring.c|step_writer|/blix_store_relaxed(&writer->ring->floor, floor)/d; s/^\twriter->tail += writer->reserved;/\tblix_store_relaxed(\&writer->ring->floor, writer->floor);\n&/
tail: published before the words are there|shm/ring.c|step_writer|s/^\tblix_ring_fill_words(writer->body.*/\tblix_store_release(\&writer->ring->tail, writer->tail + writer->reserved);\n&/
seq: a new owner repeats the last number|shm/ring.c|step_writer|s/\(writer->seq = blix_load_data(record + 1)\) + 1;/\1;/
order: ENDING before the position it is judged by|shm/slot.c|step_writer|/blix_store_relaxed(&slot->end_pos, writer->tail);/d; s/^\treason = write_record(slot, writer, record, listening);/\tblix_store_relaxed(\&slot->end_pos, writer->tail);\n&/
free: the slot is given up before the record is written|shm/slot.c|step_writer|s/^\treason = write_record(slot, writer, record, listening);/\tblix_store_release(\&slot->ctl, blix_slot_ctl(gen, BLIX_SLOT_FREE));\n&/
holder: lane 0's writer outlives the death of its holder|shm/lane.c|step_writer|s/ || shared->owner_left != owner//
LIST
}

# The programs, and everything that is not mutated, once.
for source in "${PARTS[@]}" test/torture/{step_writer,step_agent,kill_random}.c; do
	"$CC" "${CFLAGS[@]}" -c -o "$WORK/$(basename "$source" .c).o" "$source" || exit 1
done

try() {
	local number=$1 name=$2 source=$3 program=$4 edit=$5
	local stem=$WORK/$number object object_list=() part
	object=$(basename "$source" .c)

	sed "$edit" "$source" >"$stem.c"
	if cmp -s "$source" "$stem.c"; then
		echo "not ok $number - $name # the edit no longer applies to $source"
		return
	fi
	for part in "${PARTS[@]}"; do
		[ "$part" = "$source" ] || object_list+=("$WORK/$(basename "$part" .c).o")
	done
	if ! "$CC" "${CFLAGS[@]}" -Ishm -o "$stem" "$WORK/$program.o" "$stem.c" "${object_list[@]}" -lpthread; then
		echo "not ok $number - $name # $object does not compile"
		return
	fi
	timeout "$LIMIT_S" "$stem" "$((LIMIT_S - 5))" >"$stem.log" 2>&1
	case $? in
	0) echo "not ok $number - $name # $program did not find it" ;;
	77) echo "ok $number - $name # SKIP $(head -1 "$stem.log")" ;;
	*) echo "ok $number - $name" ;;
	esac
}

count=0
failed=0
while IFS='|' read -r name source program edit; do
	count=$((count + 1))
	line=$(try "$count" "$name" "$source" "$program" "$edit")
	echo "$line"
	[ "${line#not ok}" = "$line" ] || failed=1
done < <(mutants)
echo "1..$count"
exit "$failed"
