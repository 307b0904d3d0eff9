/* shm/exemplar.h - one exemplar slot: the last traced observation of a series, under a seqlock.
 *
 * `seq` is odd while a thread writes. A writer that finds it odd, or loses the race for it, goes
 * away: an exemplar is a sample, the next one will do. A thread that dies in between leaves the
 * slot odd for ever, and readers ignore it.
 *
 * Thread rule: any thread may write, any process may read. Header only, so that the hot path can
 * inline it; async-signal-safe. Includes: shm/ only. */
#ifndef BLIX_SHM_EXEMPLAR_H
#define BLIX_SHM_EXEMPLAR_H

#include "atomic.h"
#include "layout.h"

#include <stdbool.h>

#define BLIX_EXEMPLAR_MIN_AGE_NS UINT64_C(1000000000)

enum {
	BLIX_EXEMPLAR_TRIES_MAX = 4,
	BLIX_EXEMPLAR_FIRST_WORD = offsetof(struct blix_exemplar, value) / 8,
	BLIX_EXEMPLAR_END_WORD = offsetof(struct blix_exemplar, rsv) / 8,
};
_Static_assert(offsetof(struct blix_exemplar, value) == 8, "seq and bucket share the first word");

/* The slot's numbers as 64-bit words, whatever their type. */
typedef uint64_t __attribute__((may_alias)) blix_exemplar_word;

/* May the slot take a new exemplar at `now_ns`? Rarely more than once a second, so that a hot
 * series costs one load. Asked before blix_exemplar_write(), by the caller. */
static inline bool blix_exemplar_due(const struct blix_exemplar *slot, uint64_t now_ns)
{
	uint64_t t_ns = blix_load_relaxed(&slot->t_ns);

	/* Unsigned: a time from the future counts as old, so it cannot block the slot for ever. */
	return t_ns == 0 || now_ns - t_ns > BLIX_EXEMPLAR_MIN_AGE_NS;
}

/* Store `value` (its seq is ignored). False: another thread is writing this slot; nothing done. */
static inline bool blix_exemplar_write(struct blix_exemplar *slot,
				       const struct blix_exemplar *value)
{
	blix_exemplar_word *to = (blix_exemplar_word *)slot;
	const blix_exemplar_word *from = (const blix_exemplar_word *)value;
	uint32_t seq = blix_load_relaxed(&slot->seq);

	if ((seq & 1) || !blix_cas_acq_rel(&slot->seq, &seq, seq + 1))
		return false;
	blix_fence_release(); /* the odd seq before the data; pairs with the fence of try_read */
	blix_store_data(&slot->bucket, value->bucket);
	for (int i = BLIX_EXEMPLAR_FIRST_WORD; i < BLIX_EXEMPLAR_END_WORD; i++)
		blix_store_data(&to[i], from[i]);
	blix_store_release(&slot->seq, seq + 2); /* the data before the even seq */
	return true;
}

/* Copy the slot if it holds something and stands still long enough for one of a few tries.
 * True: *ret_value is consistent (its numbers are still unvalidated). Written on success only. */
static inline bool blix_exemplar_try_read(const struct blix_exemplar *slot,
					  struct blix_exemplar *ret_value)
{
	const blix_exemplar_word *from = (const blix_exemplar_word *)slot;
	struct blix_exemplar copy = {0};
	blix_exemplar_word *to = (blix_exemplar_word *)&copy;

	for (int tries = 0; tries < BLIX_EXEMPLAR_TRIES_MAX; tries++) {
		uint32_t seq = blix_load_acquire(
			&slot->seq); /* pairs with the release at the end of write */

		if (seq == 0)
			return false;
		if (seq & 1)
			continue;
		copy.bucket = blix_load_data(&slot->bucket);
		for (int i = BLIX_EXEMPLAR_FIRST_WORD; i < BLIX_EXEMPLAR_END_WORD; i++)
			to[i] = blix_load_data(&from[i]);
		blix_fence_acquire(); /* the data before the second look at seq */
		if (blix_load_relaxed(&slot->seq) != seq)
			continue;
		copy.seq = seq;
		*ret_value = copy;
		return true;
	}
	return false;
}

#endif
