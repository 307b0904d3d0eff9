/* Goal: a lane has one owner at a time, comes back from the dead in order, and keeps its cells.
 * Method: thread ids are numbers here, so every owner, living or dead, is played by the test. */
#include "shm/lane.h"
#include "shm/slot.h"
#include "test/support/tiny_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { LANES = 4, TID = 1000 };

static struct tiny_file file;

static void setup(void)
{
	file = tiny_file_new(LANES, 4, 4);
}

static void teardown(void)
{
	tiny_file_done(&file);
}

TestSuite(lane, .init = setup, .fini = teardown);

static uint32_t claim(uint32_t tid)
{
	uint32_t lane = 0;

	cr_assert_eq(blix_lane_claim(&file.view, tid, &lane), 0);
	return lane;
}

static uint64_t owner(uint32_t lane)
{
	return blix_view_lane(&file.view, lane)->owner;
}

static uint64_t word(uint32_t tid, uint32_t gen)
{
	return (uint64_t)tid << 32 | gen;
}

/* is_dead() of these tests: everybody but the thread `arg` points at. */
static bool is_another(void *arg, uint32_t tid)
{
	return tid != *(uint32_t *)arg;
}

static bool is_this(void *arg, uint32_t tid)
{
	return tid == *(uint32_t *)arg;
}

Test(lane, every_lane_but_0_is_claimed_once_and_then_there_are_none)
{
	uint32_t lane = 77;

	for (uint32_t i = 1; i < LANES; i++) {
		cr_assert_eq(claim(TID + i), i);
		cr_assert_eq(owner(i), word(TID + i, 0));
	}
	cr_assert_eq(blix_lane_claim(&file.view, TID + LANES, &lane), -ENOSPC);
	cr_assert_eq(lane, 77, "written on success only");
	cr_assert_eq(owner(0), 0);
}

Test(lane, a_released_lane_is_free_for_the_next_with_its_cells_and_a_new_generation)
{
	uint32_t lane = claim(TID);

	blix_view_cells(&file.view, lane)[3] = 12345;
	cr_assert_eq(blix_lane_release(&file.view, lane, TID), 0);
	cr_assert_eq(owner(lane), word(0, 1));
	cr_assert_eq(claim(TID + 1), lane);
	cr_assert_eq(owner(lane), word(TID + 1, 1));
	cr_assert_eq(blix_view_cells(&file.view, lane)[3], 12345);
}

Test(lane, the_generation_wraps_without_touching_the_thread_id)
{
	blix_view_lane(&file.view, 1)->owner = word(0, UINT32_MAX);
	cr_assert_eq(claim(TID), 1);
	cr_assert_eq(owner(1), word(TID, UINT32_MAX));
	cr_assert_eq(blix_lane_release(&file.view, 1, TID), 0);
	cr_assert_eq(owner(1), 0);
}

Test(lane, a_stranger_cannot_release)
{
	uint32_t lane = claim(TID);

	cr_assert_eq(blix_lane_release(&file.view, lane, TID + 1), -EPERM);
	cr_assert_eq(owner(lane), word(TID, 0));
	cr_assert_eq(blix_lane_release(&file.view, lane, TID), 0);
	cr_assert_eq(blix_lane_release(&file.view, lane, TID), -EPERM, "not twice");
	cr_assert_eq(owner(lane), word(0, 1));
}

Test(lane, the_thread_context_is_invalid_at_claim_and_after_release)
{
	struct blix_thread_context *context = &blix_view_lane(&file.view, 1)->context;

	context->valid = 1;
	cr_assert_eq(claim(TID), 1);
	cr_assert_eq(context->valid, 0);
	cr_assert_eq(context->owner_tid, TID);
	context->valid = 1;
	cr_assert_eq(blix_lane_release(&file.view, 1, TID), 0);
	cr_assert_eq(context->valid, 0);
}

Test(lane, lanes_of_the_dead_are_freed_and_those_of_the_living_kept)
{
	uint32_t alive = TID + 2;
	struct blix_lane_shared shared = {0};

	for (uint32_t i = 1; i < LANES; i++)
		claim(TID + i);
	blix_view_lane(&file.view, 1)->context.valid = 1;
	blix_view_cells(&file.view, 1)[0] = 9;
	cr_assert_eq(blix_lane_trylock_shared(&file.view, &shared, TID + 9), 0);

	cr_assert_eq(blix_lane_reclaim_dead(&file.view, is_another, &alive), 3);
	cr_assert_eq(owner(0), word(0, 1), "the lock of a dead holder");
	cr_assert_eq(owner(1), word(0, 1));
	cr_assert_eq(owner(2), word(alive, 0));
	cr_assert_eq(owner(3), word(0, 1));
	cr_assert_eq(blix_view_lane(&file.view, 1)->context.valid, 0);
	cr_assert_eq(blix_view_cells(&file.view, 1)[0], 9);
	cr_assert_eq(blix_lane_reclaim_dead(&file.view, is_another, &alive), 0);
}

Test(lane, a_lane_being_settled_is_nobodys_to_take_or_settle)
{
	uint32_t lane;
	uint32_t nobody = 0;
	struct blix_lane_shared shared = {0};

	for (uint32_t i = 0; i < LANES; i++)
		blix_view_lane(&file.view, i)->owner = word(BLIX_LANE_SETTLING, 5);
	cr_assert_eq(blix_lane_claim(&file.view, TID, &lane), -ENOSPC);
	cr_assert_eq(blix_lane_reclaim_dead(&file.view, is_another, &nobody), 0);
	cr_assert_eq(blix_lane_trylock_shared(&file.view, &shared, TID), -EBUSY);
}

Test(lane, settling_fails_when_the_owner_word_has_changed)
{
	uint32_t lane = claim(TID);

	cr_assert_eq(blix_lane_settle(&file.view, lane, word(TID, 7)), -EAGAIN);
	cr_assert_eq(owner(lane), word(TID, 0));
	cr_assert_eq(blix_lane_settle(&file.view, lane, word(TID, 0)), 0);
	cr_assert_eq(owner(lane), word(0, 1));
}

Test(lane, settling_resolves_the_spans_its_owner_was_ending)
{
	struct blix_slot_head head = tiny_head(5, TID);
	struct blix_slot_ref ref;
	uint32_t hint = 0;
	uint32_t lane = claim(TID);
	struct blix_span_slot *slot;

	cr_assert_eq(blix_slot_begin(&file.view, lane, &hint, &head, &ref), 0);
	slot = blix_slot_get(&file.view, ref);
	slot->end_lane = lane;
	slot->end_pos = 0;
	slot->ctl = ref.gen << 8 | BLIX_SLOT_ENDING;
	cr_assert_eq(blix_lane_settle(&file.view, lane, owner(lane)), 0);
	cr_assert_not_null(blix_slot_get(&file.view, ref), "open again, before the lane is free");
}

Test(lane, lanes_with_the_claimers_own_id_are_settled_first)
{
	struct blix_lane_shared shared = {0};
	uint32_t lane;

	for (uint32_t i = 1; i < LANES; i++)
		claim(TID + i);
	blix_view_lane(&file.view, 1)->owner = word(TID + 3, 0); /* one thread, two lanes */
	cr_assert_eq(blix_lane_trylock_shared(&file.view, &shared, TID + 3), 0);

	cr_assert_eq(blix_lane_claim(&file.view, TID + 3, &lane), 0);
	cr_assert_eq(owner(lane), word(TID + 3, 1));
	cr_assert_eq(lane, 1);
	cr_assert_eq(owner(3), word(0, 1));
	cr_assert_eq(owner(2), word(TID + 2, 0));
	cr_assert_eq(owner(0), word(0, 1));
}

/* ---- lane 0 --------------------------------------------------------------------------------- */

static void write_shared(struct blix_lane_shared *shared, uint64_t id)
{
	uint64_t words[TINY_BODY_WORDS_MAX];
	struct blix_ring_entry entry = tiny_entry(id, BLIX_REC_LOG, 0, words);

	cr_assert_eq(blix_ring_write(&shared->writer, &entry, false), BLIX_DROP_NONE);
}

Test(lane, the_lock_of_lane_0_is_tried_and_handed_back)
{
	struct blix_lane_shared shared = {0};

	cr_assert_eq(blix_lane_trylock_shared(&file.view, &shared, TID), 0);
	cr_assert_eq(owner(0), word(TID, 0));
	cr_assert_eq(blix_lane_trylock_shared(&file.view, &shared, TID + 1), -EBUSY);
	cr_assert_eq(blix_lane_trylock_shared(&file.view, &shared, TID), -EBUSY, "not recursive");
	write_shared(&shared, 1);
	blix_lane_unlock_shared(&file.view, &shared);
	cr_assert_eq(owner(0), word(0, 1));
	cr_assert_eq(blix_lane_trylock_shared(&file.view, &shared, TID + 1), 0);
	cr_assert_eq(shared.writer.seq, 1, "the writer goes on");
}

Test(lane, after_a_dead_holder_the_writer_is_read_from_the_file_again)
{
	struct blix_lane_shared shared = {0};
	uint32_t dead = TID;

	cr_assert_eq(blix_lane_trylock_shared(&file.view, &shared, TID), 0);
	write_shared(&shared, 1);
	blix_lane_unlock_shared(&file.view, &shared);
	cr_assert_eq(blix_lane_trylock_shared(&file.view, &shared, TID), 0);
	write_shared(&shared, 2);
	shared.writer.seq = 99; /* died in the midst of its bookkeeping */
	shared.writer.tail += 8;

	cr_assert_eq(blix_lane_reclaim_dead(&file.view, is_this, &dead), 1);
	cr_assert_eq(blix_lane_trylock_shared(&file.view, &shared, TID + 1), 0);
	cr_assert_eq(shared.writer.seq, 2);
	cr_assert_eq(shared.writer.tail, blix_view_ring(&file.view, 0)->tail);
}

/* ---- many threads --------------------------------------------------------------------------- */

enum { THREADS = 8, ROUNDS = 2000 };

static void *churn(void *arg)
{
	uint32_t tid = *(uint32_t *)arg;

	for (int i = 0; i < ROUNDS; i++) {
		uint32_t lane;
		uint64_t *cell;

		if (blix_lane_claim(&file.view, tid, &lane) < 0) {
			cell = &blix_view_cells(&file.view, 0)[1];
			(void)__atomic_fetch_add(cell, 1, __ATOMIC_RELAXED);
			continue;
		}
		/* A plain add: another owner at the same time would be seen as a lost one. */
		cell = &blix_view_cells(&file.view, lane)[1];
		__atomic_store_n(cell, __atomic_load_n(cell, __ATOMIC_RELAXED) + 1,
				 __ATOMIC_RELAXED);
		if (blix_lane_release(&file.view, lane, tid) != 0)
			return NULL;
	}
	return arg;
}

Test(lane, sums_are_exact_however_lanes_change_hands, .timeout = 30)
{
	pthread_t threads[THREADS];
	uint32_t tids[THREADS];
	uint64_t sum = 0;

	for (uint32_t i = 0; i < THREADS; i++) {
		tids[i] = TID + i;
		cr_assert_eq(pthread_create(&threads[i], NULL, churn, &tids[i]), 0);
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		void *done;

		cr_assert_eq(pthread_join(threads[i], &done), 0);
		cr_assert_not_null(done, "a release found another owner");
	}
	for (uint32_t lane = 0; lane < LANES; lane++)
		sum += blix_view_cells(&file.view, lane)[1];
	cr_assert_eq(sum, THREADS * ROUNDS);
}
