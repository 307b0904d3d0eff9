/* shm/lane.h - who owns which lane: claim, release, and taking back the lanes of the dead.
 *
 * A lane's owner word is tid << 32 | generation. tid 0 means free; the generation grows by one
 * each time the lane is given up and never goes back, so a stale compare-and-swap cannot succeed.
 * Cells are never touched here: the next owner adds on top, sums over lanes never fall.
 *
 * Lane 0 is nobody's: threads that found no free lane share it, adding to its cells with atomic
 * adds and writing its ring under its owner word as a lock that is only ever tried.
 *
 * Thread rule: every function may be called from any thread. Includes: shm/ only. */
#ifndef BLIX_SHM_LANE_H
#define BLIX_SHM_LANE_H

#include "ring.h"

static inline uint32_t blix_lane_owner_tid(uint64_t owner)
{
	return (uint32_t)(owner >> 32);
}

/* Claim a lane other than 0 for the calling thread, whose id is `tid`. Lanes that carry this tid
 * already belonged to a dead thread of the same id: they are settled first (lane 0's lock too, so
 * do not call while holding it). The thread context starts out invalid, with owner_tid set.
 *
 * 0; -ENOSPC: all are taken, use lane 0. */
int blix_lane_claim(const struct blix_view *view, uint32_t tid, uint32_t *ret_lane);

/* Give the lane back. 0; -EPERM: `tid` does not own it, nothing happened. */
int blix_lane_release(const struct blix_view *view, uint32_t lane, uint32_t tid);

/* A dead owner's lane, of any index: resolve what it left half-done and free the lane. `owner` is
 * the word that was found.
 * 0; -EAGAIN: the word has changed since, nothing happened. */
int blix_lane_settle(const struct blix_view *view, uint32_t lane, uint64_t owner);

/* Settle every lane whose owner is_dead() says is gone; for the housekeeping thread. is_dead must
 * be sure (ESRCH of tgkill). Returns how many lanes were freed. */
typedef bool (*blix_lane_is_dead)(void *arg, uint32_t tid);
uint32_t blix_lane_reclaim_dead(const struct blix_view *view, blix_lane_is_dead is_dead, void *arg);

/* ---- lane 0 --------------------------------------------------------------------------------- */

/* The process's one writer of lane 0's ring; valid only while locked. */
struct blix_lane_shared {
	struct blix_ring_writer writer;
	uint64_t owner_left; /* the owner word as the last holder left it: if it differs, that
				holder died */
	bool initialised;
};

/* Zeroed memory is an initialised blix_lane_shared. Each open file needs its own. */

/* Try to become the writer of lane 0. Tried once, never waited for.
 * 0: shared->writer is ready (re-read from the file if the last holder died); -EBUSY: taken. */
int blix_lane_trylock_shared(const struct blix_view *view, struct blix_lane_shared *shared,
			     uint32_t tid);

/* Hand it back; only after a successful trylock by the same thread. */
void blix_lane_unlock_shared(const struct blix_view *view, struct blix_lane_shared *shared);

#endif
