/* node-hooks/ids.h - new random ids, within the functions that need them. ids.c seeds them.
 * Thread rule: the thread's own state. Includes: trace.h. */
#ifndef BLIX_HOOKS_IDS_H
#define BLIX_HOOKS_IDS_H

#include "trace.h"

static inline uint64_t blix_id_rotate(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static inline uint64_t blix_id_next(struct blix_thread *thread)
{
	uint64_t *s = thread->random;
	uint64_t result = blix_id_rotate(s[0] + s[3], 23) + s[0];
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = blix_id_rotate(s[3], 45);
	return result;
}

/* New ids, as the words they are in memory. */
static inline uint64_t blix_id_span(struct blix_thread *thread)
{
	uint64_t id;

	if (__builtin_expect(!thread->seeded, 0))
		blix_ids_seed(thread);
	do
		id = blix_id_next(thread);
	while (__builtin_expect(id == 0 || id == UINT64_MAX, 0)); /* both mean something */
	return id;
}

static inline void blix_id_trace(struct blix_thread *thread, uint64_t ret_id[2])
{
	if (__builtin_expect(!thread->seeded, 0))
		blix_ids_seed(thread);
	ret_id[0] = blix_id_next(thread) << 32 |
		    __builtin_bswap32(blix_load_relaxed(&blix_epoch_seconds_));
	do
		ret_id[1] = blix_id_next(thread);
	while (__builtin_expect(ret_id[1] == 0, 0));
}

#endif
