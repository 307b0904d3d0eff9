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
