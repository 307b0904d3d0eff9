/* Goal: a span is at every moment in exactly one of the states of slot.h, and whatever state a
 * death leaves is told rightly by recovery and by settle. Method: one small file; deaths are
 * acted by setting a slot's words as the dying thread would have left them. Every instruction of
 * the same transitions is the business of test/torture/step_writer.c. */
#include "shm/slot.h"
#include "test/support/tiny_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 3, SLOTS = 4, SLOTS0 = 2, TID = 700 };

static struct tiny_file file;
static struct blix_ring_writer writer; /* of lane 1 */
static uint32_t hint;

static void setup(void)
{
	file = tiny_file_new(LANES, SLOTS, SLOTS0);
	cr_assert_eq(blix_ring_writer_init(&writer, &file.view, 1), 0);
}

static void teardown(void)
{
	tiny_file_done(&file);
}

TestSuite(slot, .init = setup, .fini = teardown);

static struct blix_slot_ref begin(uint32_t lane, uint64_t id)
{
	struct blix_slot_head head = tiny_head(id, TID);
	struct blix_slot_ref ref;

	cr_assert_eq(blix_slot_begin(&file.view, lane, &hint, &head, &ref), 0);
	return ref;
}

static int end(struct blix_slot_ref ref, uint64_t id, bool listening)
{
	uint64_t words[TINY_BODY_WORDS_MAX];
	struct blix_ring_entry entry = tiny_entry(id, BLIX_REC_SPAN, BLIX_REC_PRIORITY, words);

	return blix_slot_end(&file.view, ref, &writer, &entry, listening);
}

static struct blix_span_slot *slot_of(struct blix_slot_ref ref)
{
	return blix_view_slot(&file.view, ref.lane, ref.slot);
}

static void set_state(struct blix_slot_ref ref, enum blix_slot_state state)
{
	slot_of(ref)->ctl = ref.gen << 8 | state;
}

static uint64_t drops(uint32_t lane, enum blix_drop_reason reason)
{
	return blix_view_ring(&file.view, lane)->drops[BLIX_DROP_SPAN][reason];
}

struct found {
	struct blix_slots_found counts;
	uint32_t n;
	uint64_t ids[32];
	enum blix_slot_state states[32];
};

static void visit(void *arg, uint32_t lane, uint32_t index, enum blix_slot_state state,
		  const struct blix_span_slot *slot)
{
	struct found *found = arg;

	cr_assert_lt(lane, LANES);
	cr_assert_lt(index, blix_view_slot_count(&file.view, lane));
	cr_assert(tiny_slot_ok(slot, &found->ids[found->n]), "the copy is whole");
	found->states[found->n++] = state;
}

static struct found recover(void)
{
	struct found found = {0};

	found.counts = blix_slots_recover(&file.view, visit, &found);
	cr_assert_eq(found.counts.crashed, found.n);
	return found;
}

/* ---- begin and end -------------------------------------------------------------------------- */

Test(slot, a_span_lives_in_its_slot_until_its_record_is_in_the_ring)
{
	struct blix_slot_ref ref = begin(1, 42);
	struct found found = recover();
	uint64_t buf[TINY_RECORD_WORDS_MAX];
	struct blix_ring_reader reader;
	uint64_t id;
	int n;

	cr_assert_eq(found.n, 1);
	cr_assert_eq(found.ids[0], 42);
	cr_assert_eq(found.states[0], BLIX_SLOT_OPEN);
	cr_assert_eq(blix_slot_get(&file.view, ref), slot_of(ref));

	cr_assert_eq(end(ref, 42, true), 0);
	cr_assert_eq(recover().n, 0);
	cr_assert_null(blix_slot_get(&file.view, ref));
	blix_ring_reader_init(&reader, &file.view, 1);
	n = blix_ring_next(&reader, buf, TINY_RECORD_WORDS_MAX);
	cr_assert(tiny_record_ok(buf, n, &id));
	cr_assert_eq(id, 42);
}

Test(slot, own_slots_are_taken_first_then_those_of_lane_0_then_none)
{
	struct blix_slot_head head = tiny_head(1, TID);
	struct blix_slot_ref ref;

	for (uint64_t i = 0; i < SLOTS; i++)
		cr_assert_eq(begin(1, i).lane, 1);
	for (uint64_t i = 0; i < SLOTS + SLOTS0; i++)
		cr_assert_eq(begin(1, SLOTS + i).lane, 0);
	cr_assert_eq(recover().n, 2 * SLOTS + SLOTS0);

	cr_assert_eq(blix_slot_begin(&file.view, 1, &hint, &head, &ref), -ENOSPC);
	cr_assert_eq(drops(1, BLIX_DROP_OPEN_LIMIT), 1);
	cr_assert_eq(blix_slot_begin(&file.view, 0, &hint, &head, &ref), -ENOSPC);
	cr_assert_eq(drops(0, BLIX_DROP_OPEN_LIMIT), 1);
	cr_assert_eq(begin(2, 99).lane, 2, "other lanes have their own");
}

Test(slot, a_freed_slot_is_found_again_and_its_old_reference_is_stale)
{
	struct blix_slot_ref refs[SLOTS];
	struct blix_slot_ref again;

	for (uint64_t i = 0; i < SLOTS; i++)
		refs[i] = begin(1, i);
	cr_assert_eq(end(refs[2], 2, true), 0);
	again = begin(1, 77);
	cr_assert_eq(again.slot, refs[2].slot);
	cr_assert_eq(again.gen, refs[2].gen + 1);
	cr_assert_null(blix_slot_get(&file.view, refs[2]));
	cr_assert_eq(end(refs[2], 2, true), -ESTALE);
	cr_assert_eq(blix_view_header(&file.view)->stats[BLIX_STAT_STALE_HANDLE], 1);
	cr_assert_not_null(blix_slot_get(&file.view, again), "its successor was not touched");
}

Test(slot, a_slot_carries_nothing_over_to_its_next_span)
{
	struct blix_span_slot *slot = blix_view_slot(&file.view, 1, 0);

	memset(slot, 0xa5, sizeof(*slot));
	slot->ctl = 9 << 8 | BLIX_SLOT_FREE;
	cr_assert_eq(begin(1, 4).gen, 10);
	cr_assert_eq(recover().ids[0], 4); /* visit() looks at every field */
	cr_assert_eq(slot->n_events + slot->n_links + slot->dropped_events + slot->dropped_links,
		     0);
	cr_assert_eq(slot->rsv[0], 0);
}

Test(slot, ending_twice_or_with_a_foreign_reference_does_nothing_but_count)
{
	struct blix_slot_ref ref = begin(1, 5);
	struct blix_slot_ref foreign[] = {
		{.lane = LANES, .slot = 0, .gen = 1},
		{.lane = 1, .slot = SLOTS, .gen = 1},
		{.lane = 0, .slot = SLOTS + SLOTS0, .gen = 1},
		{.lane = 1, .slot = ref.slot, .gen = ref.gen + 1},
		{.lane = UINT32_MAX, .slot = 0, .gen = 1},
		{.lane = 1, .slot = UINT32_MAX, .gen = UINT64_MAX},
		{0},
	};
	const size_t n = sizeof(foreign) / sizeof(foreign[0]);
	uint64_t tail;

	cr_assert_eq(end(ref, 5, true), 0);
	tail = writer.tail;
	cr_assert_eq(end(ref, 5, true), -ESTALE);
	for (size_t i = 0; i < n; i++)
		cr_assert_eq(end(foreign[i], 5, true), -ESTALE, "case %zu", i);
	cr_assert_eq(writer.tail, tail);
	cr_assert_eq(blix_view_header(&file.view)->stats[BLIX_STAT_STALE_HANDLE], n + 1);
}

Test(slot, a_refused_span_is_counted_dropped_and_its_slot_freed)
{
	uint64_t before;
	int ret;

	while ((ret = end(begin(1, 3), 3, true)) == 0)
		continue;
	cr_assert_eq(ret, -ENOBUFS);
	cr_assert_eq(drops(1, BLIX_DROP_FULL), 1);
	before = writer.tail;
	cr_assert_eq(end(begin(1, 3), 3, true), -ENOBUFS);
	cr_assert_eq(drops(1, BLIX_DROP_FULL), 2);
	cr_assert_eq(writer.tail, before);
	cr_assert_eq(recover().n, 0);
}

Test(slot, a_span_may_end_through_another_lane_than_it_began_in)
{
	struct blix_slot_ref in_lane_0 = begin(0, 10);
	struct blix_slot_ref in_lane_2 = begin(2, 11);

	cr_assert_eq(end(in_lane_0, 10, true), 0);
	cr_assert_eq(end(in_lane_2, 11, true), 0);
	cr_assert_eq(recover().n, 0);
	cr_assert_eq(writer.seq, 2);
}

Test(slot, a_thread_without_a_lane_ends_its_spans_through_lane_0)
{
	uint64_t words[TINY_BODY_WORDS_MAX];
	struct blix_ring_entry entry = tiny_entry(6, BLIX_REC_SPAN, 0, words);
	struct blix_lane_shared shared = {0};
	struct blix_slot_ref ref = begin(0, 6);

	cr_assert_eq(blix_slot_end_shared(&file.view, ref, &shared, TID, &entry, true), 0);
	cr_assert_eq(shared.writer.seq, 1);
	cr_assert_eq(blix_slot_end_shared(&file.view, ref, &shared, TID, &entry, true), -ESTALE);
	cr_assert_eq(blix_lane_owner_tid(blix_view_lane(&file.view, 0)->owner), 0, "unlocked");
	cr_assert_eq(recover().n, 0);
}

Test(slot, a_busy_lane_0_costs_the_span_and_is_counted)
{
	uint64_t words[TINY_BODY_WORDS_MAX];
	struct blix_ring_entry entry = tiny_entry(6, BLIX_REC_SPAN, 0, words);
	struct blix_lane_shared shared = {0};
	struct blix_slot_ref ref = begin(0, 6);

	cr_assert_eq(blix_lane_trylock_shared(&file.view, &shared, TID + 1), 0);
	cr_assert_eq(blix_slot_end_shared(&file.view, ref, &shared, TID, &entry, true), -ENOBUFS);
	cr_assert_eq(drops(0, BLIX_DROP_CONTENDED), 1);
	cr_assert_eq(recover().n, 0);
	cr_assert_eq(blix_lane_owner_tid(blix_view_lane(&file.view, 0)->owner), TID + 1,
		     "the holder still holds it");
}

/* ---- after a death -------------------------------------------------------------------------- */

/* One span in each way to die: 1 open, 2 ending before and 3 after its record, 4 dropping before
 * and 5 after the count, 6 filling, 7 free. All on the ring of lane 1. */
static void die_in_every_state(struct blix_slot_ref refs[8])
{
	struct blix_ring *ring = blix_view_ring(&file.view, 1);

	cr_assert_eq(end(begin(1, 0), 0, true), 0); /* so that the tail is somewhere */
	for (uint64_t id = 1; id <= 7; id++)
		refs[id] = begin(id < 4 ? 1 : 2, id);
	set_state(refs[2], BLIX_SLOT_ENDING);
	slot_of(refs[2])->end_lane = 1;
	slot_of(refs[2])->end_pos = ring->tail;
	set_state(refs[3], BLIX_SLOT_ENDING);
	slot_of(refs[3])->end_lane = 1;
	slot_of(refs[3])->end_pos = ring->tail - 8;
	ring->drops[BLIX_DROP_SPAN][BLIX_DROP_SHED] = 7;
	set_state(refs[4], BLIX_SLOT_DROPPING);
	slot_of(refs[4])->end_lane = 1;
	slot_of(refs[4])->drop_reason = BLIX_DROP_SHED;
	slot_of(refs[4])->drop_before = 7;
	set_state(refs[5], BLIX_SLOT_DROPPING);
	slot_of(refs[5])->end_lane = 1;
	slot_of(refs[5])->drop_reason = BLIX_DROP_SHED;
	slot_of(refs[5])->drop_before = 6;
	set_state(refs[6], BLIX_SLOT_FILLING);
	set_state(refs[7], BLIX_SLOT_FREE);
}

Test(slot, recovery_tells_crashed_from_complete_and_dropped)
{
	struct blix_slot_ref refs[8];
	struct found found;

	die_in_every_state(refs);
	found = recover();
	cr_assert_eq(found.n, 3);
	cr_assert_eq(found.ids[0], 1);
	cr_assert_eq(found.states[0], BLIX_SLOT_OPEN);
	cr_assert_eq(found.ids[1], 2);
	cr_assert_eq(found.states[1], BLIX_SLOT_ENDING);
	cr_assert_eq(found.ids[2], 4);
	cr_assert_eq(found.states[2], BLIX_SLOT_DROPPING);
	cr_assert_eq(found.counts.complete, 1);
	cr_assert_eq(found.counts.dropped, 1);
	cr_assert_eq(found.counts.torn, 1);
	cr_assert_eq(found.counts.invalid, 0);
}

Test(slot, recovery_changes_nothing_and_repeats_itself)
{
	struct blix_slot_ref refs[8];
	struct blix_view copy;
	struct found first, second;
	uint8_t *bytes = malloc(file.view.size);

	die_in_every_state(refs);
	memcpy(bytes, file.view.base, file.view.size);
	first = recover();
	second = recover();
	cr_assert_eq(memcmp(&first, &second, sizeof(first)), 0);
	copy = tiny_view_at(&file.view, bytes);
	cr_assert_eq(memcmp(copy.base, file.view.base, file.view.size), 0);
	free(bytes);
}

Test(slot, recovery_survives_slots_that_no_writer_leaves)
{
	struct blix_slot_ref ref = begin(1, 1);
	struct blix_span_slot *slot = slot_of(ref);

	for (unsigned int state = BLIX_SLOT_DROPPING + 1; state < 256; state++) {
		slot->ctl = ref.gen << 8 | state;
		cr_assert_eq(recover().counts.invalid, 1, "state %u", state);
	}
	set_state(ref, BLIX_SLOT_ENDING);
	slot->end_lane = LANES;
	cr_assert_eq(recover().counts.invalid, 1);
	slot->end_lane = UINT32_MAX;
	cr_assert_eq(recover().counts.invalid, 1);
	set_state(ref, BLIX_SLOT_DROPPING);
	slot->end_lane = 1;
	slot->drop_reason = BLIX_DROP_REASONS;
	cr_assert_eq(recover().counts.invalid, 1);
	slot->drop_reason = BLIX_DROP_REASONS - 1;
	cr_assert_eq(recover().counts.invalid, 0);
}

Test(slot, settling_a_lane_resolves_what_its_owner_was_ending_anywhere)
{
	struct blix_slot_ref refs[8];
	struct blix_slot_ref other;

	die_in_every_state(refs);
	other = begin(0, 8); /* being ended by the living owner of lane 2 */
	set_state(other, BLIX_SLOT_ENDING);
	slot_of(other)->end_lane = 2;
	slot_of(other)->end_pos = 0;

	cr_assert_eq(blix_slots_settle(&file.view, 1), 2);
	cr_assert_not_null(blix_slot_get(&file.view, refs[1]));
	cr_assert_not_null(blix_slot_get(&file.view, refs[2]), "open again");
	cr_assert_not_null(blix_slot_get(&file.view, refs[4]), "open again");
	cr_assert_eq(slot_of(refs[3])->ctl, refs[3].gen << 8 | BLIX_SLOT_FREE);
	cr_assert_eq(slot_of(refs[5])->ctl, refs[5].gen << 8 | BLIX_SLOT_FREE);
	cr_assert_eq(slot_of(refs[6])->ctl & 255, BLIX_SLOT_FILLING, "lane 2's owner fills it");
	cr_assert_eq(slot_of(other)->ctl & 255, BLIX_SLOT_ENDING, "not lane 1's business");
	cr_assert_eq(blix_slots_settle(&file.view, 1), 0, "and again changes nothing");

	/* The reopened span can be ended by a living thread, and then is complete, once. */
	cr_assert_eq(end(refs[2], 2, true), 0);
	cr_assert_eq(end(refs[4], 4, true), 0);
	cr_assert_eq(recover().n, 2, "span 1 and lane 2's");
}

Test(slot, settling_frees_half_filled_slots_of_that_lane_only)
{
	struct blix_slot_ref mine = begin(1, 1);
	struct blix_slot_ref shared = begin(0, 2);

	set_state(mine, BLIX_SLOT_FILLING);
	set_state(shared, BLIX_SLOT_FILLING);
	cr_assert_eq(blix_slots_settle(&file.view, 0), 0);
	cr_assert_eq(slot_of(shared)->ctl & 255, BLIX_SLOT_FILLING, "it may be a living thread's");
	cr_assert_eq(slot_of(mine)->ctl & 255, BLIX_SLOT_FILLING);
	cr_assert_eq(blix_slots_settle(&file.view, 1), 0);
	cr_assert_eq(slot_of(mine)->ctl & 255, BLIX_SLOT_FREE);
	cr_assert_eq(slot_of(shared)->ctl & 255, BLIX_SLOT_FILLING);
}
