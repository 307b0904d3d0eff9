/* shm/slot.h - spans under construction: begin, end, and what a crash leaves of them.
 *
 * A span lives in a slot of the shared file from its beginning until its record is in a ring, so
 * that a killed process loses none. The slot's `ctl` word tells at every instant which it is:
 *
 *   FREE -> FILLING -> OPEN -> ENDING -> FREE        the record was committed
 *                                 \-> DROPPING -> FREE    the ring refused, the drop was counted
 *
 * ENDING carries the position the record will have, DROPPING the drop count before the drop: one
 * compare with the ring decides after a crash whether the span is complete, dropped or crashed.
 *
 * Thread rule: slots of a lane are begun by its owner, those of lane 0 by anybody; a span may be
 * ended by any one thread. Ending one span from two threads at the same time is misuse.
 * Includes: shm/ only. */
#ifndef BLIX_SHM_SLOT_H
#define BLIX_SHM_SLOT_H

#include "lane.h"
#include "ring.h"

#include <string.h>

/* What is known of a span when it begins. */
struct blix_slot_head {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t parent_id[8]; /* all zero: a root */
	uint64_t start_ns;
	uint32_t name_id;
	uint16_t scope_id;
	uint8_t kind;
	uint8_t trace_flags;
	uint8_t span_flags;
	uint32_t tid;
};

/* Names one span in one slot; stale once the span has ended. */
struct blix_slot_ref {
	uint32_t lane;
	uint32_t slot;
	uint64_t gen;
};

/* The path of every span is one piece: calls within it cost as much as their work. */
#define BLIX_SLOT_INLINE inline __attribute__((always_inline))

enum { BLIX_SLOT_STATE_BITS = 8 };

/* A slot as words, whatever its fields: most are stored and copied so, because a load at the size
 * of the store before it costs least. */
typedef uint64_t __attribute__((may_alias)) blix_slot_word;

#define BLIX_SLOT_WORD(field) (offsetof(struct blix_span_slot, field) / 8)
#define BLIX_SLOT_PART(field, value)                                                               \
	((uint64_t)(value) << offsetof(struct blix_span_slot, field) % 8 * 8)

static inline uint64_t blix_slot_ctl(uint64_t gen, enum blix_slot_state state)
{
	return gen << BLIX_SLOT_STATE_BITS | state;
}

static BLIX_SLOT_INLINE void blix_slot_store_id(blix_slot_word *to, const uint8_t *from,
						size_t n_words)
{
	uint64_t words[2];

	memcpy(words, from, n_words * 8);
	for (size_t i = 0; i < n_words; i++)
		blix_store_data(to + i, words[i]);
}

/* Every word that a span may have changed, each once. end_pos to drop_before belong to ENDING and
 * DROPPING, which store them first; nobody ever stores the reserved ones. */
static BLIX_SLOT_INLINE void blix_slot_fill(struct blix_span_slot *slot,
					    const struct blix_slot_head *head)
{
	blix_slot_word *words = (blix_slot_word *)slot;

	blix_slot_store_id(words + BLIX_SLOT_WORD(trace_id), head->trace_id, 2);
	blix_slot_store_id(words + BLIX_SLOT_WORD(span_id), head->span_id, 1);
	blix_slot_store_id(words + BLIX_SLOT_WORD(parent_id), head->parent_id, 1);
	blix_store_data(words + BLIX_SLOT_WORD(start_ns), head->start_ns);
	blix_store_data(words + BLIX_SLOT_WORD(name_id),
			BLIX_SLOT_PART(name_id, head->name_id) |
				BLIX_SLOT_PART(scope_id, head->scope_id) |
				BLIX_SLOT_PART(kind, head->kind) | BLIX_SLOT_PART(status, 0));
	blix_store_data(words + BLIX_SLOT_WORD(tid),
			BLIX_SLOT_PART(tid, head->tid) |
				BLIX_SLOT_PART(span_flags, head->span_flags));
	blix_store_data(words + BLIX_SLOT_WORD(used_bytes),
			BLIX_SLOT_PART(trace_flags, head->trace_flags));
	blix_store_data(words + BLIX_SLOT_WORD(dropped_attrs), 0);
}
_Static_assert(BLIX_SLOT_WORD(scope_id) == BLIX_SLOT_WORD(name_id) &&
		       BLIX_SLOT_WORD(kind) == BLIX_SLOT_WORD(name_id) &&
		       BLIX_SLOT_WORD(status) == BLIX_SLOT_WORD(name_id) &&
		       BLIX_SLOT_WORD(span_flags) == BLIX_SLOT_WORD(tid) &&
		       BLIX_SLOT_WORD(trace_flags) == BLIX_SLOT_WORD(used_bytes) &&
		       BLIX_SLOT_WORD(n_links) == BLIX_SLOT_WORD(used_bytes) &&
		       BLIX_SLOT_WORD(dropped_links) == BLIX_SLOT_WORD(dropped_attrs),
	       "stored as whole words");

/* Open a span in this slot of a lane, not lane 0, that the caller owns. False: it is not free. */
static BLIX_SLOT_INLINE bool blix_slot_begin_at(struct blix_span_slot *slot,
						const struct blix_slot_head *head,
						uint64_t *ret_gen)
{
	uint64_t ctl =
		blix_load_acquire(&slot->ctl); /* pairs with FREE of the thread that ended it */
	uint64_t gen = (ctl >> BLIX_SLOT_STATE_BITS) + 1;

	if ((uint8_t)ctl != BLIX_SLOT_FREE)
		return false;
	blix_store_relaxed(&slot->ctl, blix_slot_ctl(gen, BLIX_SLOT_FILLING));
	blix_fence_release(); /* FILLING before the fields; pairs with the fence of copy_out */
	blix_slot_fill(slot, head);
	blix_store_release(&slot->ctl, blix_slot_ctl(gen, BLIX_SLOT_OPEN)); /* fields before OPEN */
	*ret_gen = gen;
	return true;
}

/* Open a span in a free slot of `lane`, which the caller owns, else in one of lane 0 (pass lane 0
 * to look there only). *hint is the caller's memory of where to look first; starts at 0.
 *
 * 0: the span is on record, *ret_ref names it.
 * -ENOSPC: no free slot; counted as a dropped span (OPEN_LIMIT) of `lane`. */
int blix_slot_begin(const struct blix_view *view, uint32_t lane, uint32_t *hint,
		    const struct blix_slot_head *head, struct blix_slot_ref *ret_ref);

/* The slot of an open span, to add payload to; NULL if the reference is stale or out of range. */
struct blix_span_slot *blix_slot_get(const struct blix_view *view, struct blix_slot_ref ref);

/* End a span: write `record` (its type must be SPAN) to the ring of the calling thread's lane and
 * free the slot. A record without a body (NULL) is made of what the slot holds; its n_words is then
 * that of struct blix_span_body and of the items together. The caller's re-entry flag must cover the whole call. Not for lane 0.
 *
 * 0; -ENOBUFS: the ring refused, the drop is counted, the slot is free; -ESTALE: not an open span,
 * nothing happened but BLIX_STAT_STALE_HANDLE. */
int blix_slot_end(const struct blix_view *view, struct blix_slot_ref ref,
		  struct blix_ring_writer *writer, const struct blix_ring_entry *record,
		  bool listening);

/* The same for a slot that the caller has just found open, with this generation. */
int blix_slot_end_at(const struct blix_view *view, struct blix_span_slot *slot, uint64_t gen,
		     struct blix_ring_writer *writer, const struct blix_ring_entry *record,
		     bool listening);

/* The same for a thread without a lane of its own: through lane 0, if its lock is free. If not, the
 * drop is counted CONTENDED (a kill in the midst of that both counts it and reports it crashed). */
int blix_slot_end_shared(const struct blix_view *view, struct blix_slot_ref ref,
			 struct blix_lane_shared *shared, uint32_t tid,
			 const struct blix_ring_entry *record, bool listening);

/* The owner of `lane` is dead: decide what became of the spans it was beginning or ending. Part of
 * settling a lane (lane.h); nobody may write to the lane's ring meanwhile. Returns how many spans
 * went back to OPEN. */
uint32_t blix_slots_settle(const struct blix_view *view, uint32_t lane);

/* Called for each span that a dead process left unfinished. `slot` is a private copy, its numbers
 * still unvalidated; its state in `state` is OPEN, or ENDING or DROPPING if it died on the way out.
 */
typedef void (*blix_slot_visit)(void *arg, uint32_t lane, uint32_t index,
				enum blix_slot_state state, const struct blix_span_slot *slot);

struct blix_slots_found {
	uint32_t crashed;  /* visited */
	uint32_t complete; /* ENDING, and the record is in the ring (or was) */
	uint32_t dropped;  /* DROPPING, and the drop is counted */
	uint32_t torn;	   /* FILLING: died before the span was open; nothing to tell */
	uint32_t invalid;  /* no state a writer leaves, or references out of range */
};

/* Visit the unfinished spans of a file whose owner is gone. A pure function of the file: the same
 * spans in the same order each time, until somebody writes to it. On a live file it shows the
 * spans open at the moment; one that changes while it is copied is left out. */
struct blix_slots_found blix_slots_recover(const struct blix_view *view, blix_slot_visit visit,
					   void *arg);
/* The same for the slots of one lane, adding to *found: a file may have very many. */
void blix_slots_recover_lane(const struct blix_view *view, uint32_t lane,
			     struct blix_slots_found *found, blix_slot_visit visit, void *arg);

#endif
