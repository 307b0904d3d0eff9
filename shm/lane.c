/* shm/lane.c - see lane.h. Includes: shm/ and libc. Thread rule: any thread; nothing blocks. */
#include "lane.h"

#include "atomic.h"
#include "slot.h"

#include <assert.h>
#include <errno.h>

static uint64_t owner_word(uint32_t tid, uint32_t gen)
{
	return (uint64_t)tid << 32 | gen;
}

static uint32_t owner_gen(uint64_t owner)
{
	return (uint32_t)owner;
}

/* Until a span is attached nobody may be blamed for what this thread does. */
static void context_clear(struct blix_lane *lane, uint32_t owner_tid)
{
	blix_store_release(&lane->context.valid, 0);
	blix_store_relaxed(&lane->context.owner_tid, owner_tid);
}

int blix_lane_settle(const struct blix_view *view, uint32_t lane, uint64_t owner)
{
	struct blix_lane *control = blix_view_lane(view, lane);
	uint32_t gen = owner_gen(owner) + 1;

	assert(lane < view->n_lanes && blix_lane_owner_tid(owner) != 0);

	/* Whoever wins this settles; nobody can claim or lock the lane until it is free. */
	if (!blix_cas_acq_rel(&control->owner, &owner, owner_word(BLIX_LANE_SETTLING, gen)))
		return -EAGAIN;
	(void)blix_slots_settle(view, lane);
	if (lane != 0) /* lane 0 has no context */
		context_clear(control, 0);
	blix_store_release(&control->owner, owner_word(0, gen)); /* all of the above before it */
	return 0;
}

/* Another thread had this id, and lanes, and died without giving them back. */
static void settle_namesake(const struct blix_view *view, uint32_t tid)
{
	for (uint32_t lane = 0; lane < view->n_lanes; lane++) {
		uint64_t owner = blix_load_acquire(&blix_view_lane(view, lane)->owner);

		if (blix_lane_owner_tid(owner) == tid)
			(void)blix_lane_settle(view, lane, owner);
	}
}

int blix_lane_claim(const struct blix_view *view, uint32_t tid, uint32_t *ret_lane)
{
	assert(tid != 0 && tid != BLIX_LANE_SETTLING);

	settle_namesake(view, tid);
	/* Upwards, so that lanes used before are used again and the others stay untouched memory.
	 */
	for (uint32_t lane = 1; lane < view->n_lanes; lane++) {
		struct blix_lane *control = blix_view_lane(view, lane);
		uint64_t owner = blix_load_relaxed(&control->owner);

		if (blix_lane_owner_tid(owner) != 0)
			continue;
		/* Acquire: what the last owner, or who settled after it, left in the lane. */
		if (!blix_cas_acq_rel(&control->owner, &owner, owner_word(tid, owner_gen(owner))))
			continue;
		context_clear(control, tid);
		*ret_lane = lane;
		return 0;
	}
	return -ENOSPC;
}

int blix_lane_release(const struct blix_view *view, uint32_t lane, uint32_t tid)
{
	struct blix_lane *control = blix_view_lane(view, lane);
	uint64_t owner = blix_load_relaxed(&control->owner);

	assert(lane != 0 && lane < view->n_lanes);

	if (blix_lane_owner_tid(owner) != tid)
		return -EPERM;
	context_clear(control, 0);
	/* Only the owner leaves this value, so a plain store does. */
	blix_store_release(&control->owner, owner_word(0, owner_gen(owner) + 1));
	return 0;
}

uint32_t blix_lane_reclaim_dead(const struct blix_view *view, blix_lane_is_dead is_dead, void *arg)
{
	uint32_t settled = 0;

	for (uint32_t lane = 0; lane < view->n_lanes; lane++) {
		uint64_t owner = blix_load_acquire(&blix_view_lane(view, lane)->owner);
		uint32_t tid = blix_lane_owner_tid(owner);

		if (tid == 0 || tid == BLIX_LANE_SETTLING || !is_dead(arg, tid))
			continue;
		settled += blix_lane_settle(view, lane, owner) == 0;
	}
	return settled;
}

int blix_lane_trylock_shared(const struct blix_view *view, struct blix_lane_shared *shared,
			     uint32_t tid)
{
	struct blix_lane *control = blix_view_lane(view, 0);
	uint64_t owner = blix_load_relaxed(&control->owner);

	assert(tid != 0 && tid != BLIX_LANE_SETTLING);

	if (blix_lane_owner_tid(owner) != 0)
		return -EBUSY;
	if (!blix_cas_acq_rel(&control->owner, &owner, owner_word(tid, owner_gen(owner))))
		return -EBUSY;
	if (!shared->initialised || shared->owner_left != owner) {
		/* A damaged ring leaves a writer that refuses everything: that is its answer. */
		(void)blix_ring_writer_init(&shared->writer, view, 0);
		shared->initialised = true;
	}
	return 0;
}

void blix_lane_unlock_shared(const struct blix_view *view, struct blix_lane_shared *shared)
{
	struct blix_lane *control = blix_view_lane(view, 0);

	shared->owner_left = owner_word(0, owner_gen(blix_load_relaxed(&control->owner)) + 1);
	blix_store_release(&control->owner, shared->owner_left); /* the writer's state before it */
}
