/* shm/slot.c - see slot.h for the states; layout.h for struct blix_span_slot.
 *
 * The order of the stores decides what a kill between any two of them means. Each state carries
 * its own proof: ENDING is judged by the tail of end_lane, DROPPING by its drop count, and both are
 * stored, with the fields they need, before the step that they judge.
 * Includes: shm/ and libc. Thread rule: see slot.h; no function here blocks or allocates. */
#include "slot.h"

#include "atomic.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum {
	SLOT_WORDS = sizeof(struct blix_span_slot) / 8,
	BODY_WORDS = sizeof(struct blix_span_body) / 8,
	DATA_WORDS = sizeof(((struct blix_span_slot *)0)->data) / 8,
};
_Static_assert(offsetof(struct blix_span_slot, ctl) == 0, "ctl is the first word");

#define WORD(field)	      BLIX_SLOT_WORD(field)
#define BODY(field)	      (offsetof(struct blix_span_body, field) / 8)
#define IN_BODY(field, value) ((uint64_t)(value) << offsetof(struct blix_span_body, field) % 8 * 8)

static uint64_t ctl_gen(uint64_t ctl)
{
	return ctl >> BLIX_SLOT_STATE_BITS;
}

static unsigned int ctl_state(uint64_t ctl)
{
	return ctl & ((1u << BLIX_SLOT_STATE_BITS) - 1);
}

/* ---- begin ---------------------------------------------------------------------------------- */

/* FREE -> FILLING. Slots of lane 0 have many takers; those of other lanes only their owner. */
static bool take(struct blix_span_slot *slot, uint32_t lane, uint64_t *ret_gen)
{
	uint64_t ctl =
		blix_load_acquire(&slot->ctl); /* pairs with FREE of the thread that ended it */
	uint64_t gen = ctl_gen(ctl) + 1;

	if (ctl_state(ctl) != BLIX_SLOT_FREE)
		return false;
	if (lane != 0)
		blix_store_relaxed(&slot->ctl, blix_slot_ctl(gen, BLIX_SLOT_FILLING));
	else if (!blix_cas_acq_rel(&slot->ctl, &ctl, blix_slot_ctl(gen, BLIX_SLOT_FILLING)))
		return false;
	blix_fence_release(); /* FILLING before the fields; pairs with the fence of copy_out */
	*ret_gen = gen;
	return true;
}

static bool take_any(const struct blix_view *view, uint32_t lane, uint32_t *hint,
		     struct blix_slot_ref *ret_ref)
{
	uint32_t count = blix_view_slot_count(view, lane);
	uint32_t index = *hint;

	for (uint32_t i = 0; i < count; i++, index++) {
		uint64_t gen;

		if (index >= count)
			index = 0;
		if (!take(blix_view_slot(view, lane, index), lane, &gen))
			continue;
		*hint = index; /* most spans are short: it will be free again, and in the cache */
		*ret_ref = (struct blix_slot_ref){.lane = lane, .slot = index, .gen = gen};
		return true;
	}
	return false;
}

int blix_slot_begin(const struct blix_view *view, uint32_t lane, uint32_t *hint,
		    const struct blix_slot_head *head, struct blix_slot_ref *ret_ref)
{
	struct blix_slot_ref ref;
	struct blix_span_slot *slot;

	if (!take_any(view, lane, hint, &ref) && (lane == 0 || !take_any(view, 0, hint, &ref))) {
		blix_ring_count_drop(view, lane, BLIX_DROP_SPAN, BLIX_DROP_OPEN_LIMIT);
		return -ENOSPC;
	}
	slot = blix_view_slot(view, ref.lane, ref.slot);
	blix_slot_fill(slot, head);
	/* Release: the fields before OPEN. */
	blix_store_release(&slot->ctl, blix_slot_ctl(ref.gen, BLIX_SLOT_OPEN));
	*ret_ref = ref;
	return 0;
}

/* ---- end ------------------------------------------------------------------------------------ */

struct blix_span_slot *blix_slot_get(const struct blix_view *view, struct blix_slot_ref ref)
{
	struct blix_span_slot *slot;

	if (ref.lane >= view->n_lanes || ref.slot >= blix_view_slot_count(view, ref.lane))
		return NULL;
	slot = blix_view_slot(view, ref.lane, ref.slot);
	if (blix_load_acquire(&slot->ctl) != blix_slot_ctl(ref.gen, BLIX_SLOT_OPEN))
		return NULL;
	return slot;
}

static struct blix_span_slot *get_counted(const struct blix_view *view, struct blix_slot_ref ref)
{
	struct blix_span_slot *slot = blix_slot_get(view, ref);

	if (!slot)
		blix_add_shared(&blix_view_header(view)->stats[BLIX_STAT_STALE_HANDLE], 1);
	return slot;
}

/* The ring refused: count it so that a kill at any point leaves the span either counted or
 * reported, never both. */
static void drop(const struct blix_view *view, struct blix_span_slot *slot, uint64_t gen,
		 uint32_t lane, enum blix_drop_reason reason)
{
	const uint64_t *count = &blix_view_ring(view, lane)->drops[BLIX_DROP_SPAN][reason];

	blix_store_relaxed(&slot->drop_reason, reason);
	blix_store_relaxed(&slot->drop_before, blix_load_relaxed(count));
	blix_store_release(&slot->ctl, blix_slot_ctl(gen, BLIX_SLOT_DROPPING));
	blix_ring_count_drop(view, lane, BLIX_DROP_SPAN, reason);
}

/* The record of a span, put together in the ring from what its slot holds: its head, its items as
 * they are. A reason, or BLIX_DROP_NONE. */
static BLIX_SLOT_INLINE int write_own(const struct blix_span_slot *slot,
				      struct blix_ring_writer *writer,
				      const struct blix_ring_entry *record, bool listening)
{
	const blix_slot_word *from = (const blix_slot_word *)slot;
	uint32_t n_items = record->n_words - BODY_WORDS;
	uint64_t end_ns = record->t_ns;
	int reason = blix_ring_reserve(writer, record->type, record->flags, record->n_words, end_ns,
				       listening);
	blix_ring_word *to = writer->body;

	if (__builtin_expect(reason != BLIX_DROP_NONE, 0))
		return reason;
	for (uint32_t i = 0; i <= BODY(start_ns); i++) /* the three ids and the start */
		blix_store_data(to + i, blix_load_data(from + WORD(trace_id) + i));
	blix_store_data(to + BODY(end_ns), end_ns);
	blix_store_data(to + BODY(name_id), blix_load_data(from + WORD(name_id)));
	blix_store_data(to + BODY(trace_flags),
			IN_BODY(trace_flags, blix_load_data(&slot->trace_flags)) |
				IN_BODY(span_flags, (uint8_t)blix_load_data(&slot->span_flags)) |
				blix_load_data(from + WORD(dropped_attrs)) << 16);
	to += BODY_WORDS;
	from += WORD(data);
	for (uint32_t i = 0; i < n_items; i++)
		blix_store_data(to + i, blix_load_data(from + i));
	blix_ring_commit(writer);
	return BLIX_DROP_NONE;
}
#define SAME_SHIFT(field, first)                                                                   \
	(offsetof(struct blix_span_slot, field) - offsetof(struct blix_span_slot, first) ==        \
	 offsetof(struct blix_span_body, field) - offsetof(struct blix_span_body, first))
_Static_assert(SAME_SHIFT(span_id, trace_id) && SAME_SHIFT(parent_id, trace_id) &&
		       SAME_SHIFT(start_ns, trace_id) && SAME_SHIFT(scope_id, name_id) &&
		       SAME_SHIFT(kind, name_id) && SAME_SHIFT(status, name_id) &&
		       SAME_SHIFT(dropped_events, dropped_attrs) &&
		       SAME_SHIFT(dropped_links, dropped_attrs) && WORD(data) * 8 == 128 &&
		       offsetof(struct blix_span_slot, dropped_attrs) % 8 == 0 &&
		       offsetof(struct blix_span_body, name_id) % 8 == 0 &&
		       offsetof(struct blix_span_body, dropped_attrs) % 8 == 2 &&
		       BODY(trace_flags) == BODY_WORDS - 1,
	       "copied as whole words");

static BLIX_SLOT_INLINE int write_record(const struct blix_span_slot *slot,
					 struct blix_ring_writer *writer,
					 const struct blix_ring_entry *record, bool listening)
{
	if (record->body)
		return blix_ring_write(writer, record, listening);
	assert(record->n_words >= BODY_WORDS && record->n_words <= BODY_WORDS + DATA_WORDS);
	return write_own(slot, writer, record, listening);
}

/* The calling thread owns writer->lane, or holds its lock. */
static BLIX_SLOT_INLINE int finish(const struct blix_view *view, struct blix_span_slot *slot,
				   uint64_t gen, struct blix_ring_writer *writer,
				   const struct blix_ring_entry *record, bool listening)
{
	int reason;

	assert(record->type == BLIX_REC_SPAN);

	blix_store_relaxed(&slot->end_lane, writer->lane);
	blix_store_relaxed(&slot->end_pos, writer->tail);
	blix_store_release(&slot->ctl,
			   blix_slot_ctl(gen, BLIX_SLOT_ENDING)); /* where, before ENDING */
	reason = write_record(slot, writer, record, listening);
	if (reason != BLIX_DROP_NONE)
		drop(view, slot, gen, writer->lane, (enum blix_drop_reason)reason);
	blix_store_release(&slot->ctl,
			   blix_slot_ctl(gen, BLIX_SLOT_FREE)); /* the outcome before FREE */
	return reason == BLIX_DROP_NONE ? 0 : -ENOBUFS;
}

int blix_slot_end_at(const struct blix_view *view, struct blix_span_slot *slot, uint64_t gen,
		     struct blix_ring_writer *writer, const struct blix_ring_entry *record,
		     bool listening)
{
	return finish(view, slot, gen, writer, record, listening);
}

int blix_slot_end(const struct blix_view *view, struct blix_slot_ref ref,
		  struct blix_ring_writer *writer, const struct blix_ring_entry *record,
		  bool listening)
{
	struct blix_span_slot *slot = get_counted(view, ref);

	assert(writer->lane != 0);

	if (!slot)
		return -ESTALE;
	return finish(view, slot, ref.gen, writer, record, listening);
}

int blix_slot_end_shared(const struct blix_view *view, struct blix_slot_ref ref,
			 struct blix_lane_shared *shared, uint32_t tid,
			 const struct blix_ring_entry *record, bool listening)
{
	struct blix_span_slot *slot = get_counted(view, ref);
	int ret;

	if (!slot)
		return -ESTALE;
	/* The lock comes before ENDING: the position in it must not move under us. */
	if (blix_lane_trylock_shared(view, shared, tid) < 0) {
		blix_ring_count_drop(view, 0, BLIX_DROP_SPAN, BLIX_DROP_CONTENDED);
		blix_store_release(&slot->ctl, blix_slot_ctl(ref.gen, BLIX_SLOT_FREE));
		return -ENOBUFS;
	}
	ret = finish(view, slot, ref.gen, &shared->writer, record, listening);
	blix_lane_unlock_shared(view, shared);
	return ret;
}

/* ---- after a death -------------------------------------------------------------------------- */

enum outcome { UNFINISHED, DONE, INVALID };

/* Did a span in ENDING or DROPPING get where it was going? The fields are not trusted. */
static enum outcome judge(const struct blix_view *view, unsigned int state, uint32_t end_lane,
			  uint64_t end_pos, uint32_t drop_reason, uint64_t drop_before)
{
	const struct blix_ring *ring;

	if (end_lane >= view->n_lanes)
		return INVALID;
	ring = blix_view_ring(view, end_lane);
	if (state == BLIX_SLOT_ENDING)
		return (int64_t)(blix_load_acquire(&ring->tail) - end_pos) > 0 ? DONE : UNFINISHED;
	if (drop_reason >= BLIX_DROP_REASONS)
		return INVALID;
	return blix_load_acquire(&ring->drops[BLIX_DROP_SPAN][drop_reason]) > drop_before
		       ? DONE
		       : UNFINISHED;
}

/* One slot, seen from the dead owner of `lane`. Returns whether the span went back to OPEN. */
static bool settle_slot(const struct blix_view *view, uint32_t lane, struct blix_span_slot *slot,
			bool own)
{
	uint64_t ctl = blix_load_acquire(&slot->ctl);
	unsigned int state = ctl_state(ctl);
	enum blix_slot_state next;

	if (state == BLIX_SLOT_FILLING && own) {
		next = BLIX_SLOT_FREE;
	} else if ((state == BLIX_SLOT_ENDING || state == BLIX_SLOT_DROPPING) &&
		   blix_load_relaxed(&slot->end_lane) == lane) {
		next = judge(view, state, lane, blix_load_relaxed(&slot->end_pos),
			     blix_load_relaxed(&slot->drop_reason),
			     blix_load_relaxed(&slot->drop_before)) == UNFINISHED
			       ? BLIX_SLOT_OPEN
			       : BLIX_SLOT_FREE;
	} else {
		return false;
	}
	/* A living thread may have moved a slot of its own on since the first load. */
	return blix_cas_acq_rel(&slot->ctl, &ctl, blix_slot_ctl(ctl_gen(ctl), next)) &&
	       next == BLIX_SLOT_OPEN;
}

uint32_t blix_slots_settle(const struct blix_view *view, uint32_t lane)
{
	uint32_t reopened = 0;

	for (uint32_t l = 0; l < view->n_lanes; l++) {
		/* Lane 0's slots are filled by many threads, and a FILLING one does not say whose
		 * it is. One that died there is lost until the next incarnation. */
		bool own = l == lane && lane != 0;

		for (uint32_t i = 0; i < blix_view_slot_count(view, l); i++)
			reopened += settle_slot(view, lane, blix_view_slot(view, l, i), own);
	}
	return reopened;
}

/* Private copy by words. False: it changed its state meanwhile. */
static bool copy_out(const struct blix_span_slot *slot, struct blix_span_slot *copy)
{
	const blix_slot_word *from = (const blix_slot_word *)slot;
	blix_slot_word *to = (blix_slot_word *)copy;
	uint64_t ctl = blix_load_acquire(&slot->ctl);

	for (uint32_t i = 1; i < SLOT_WORDS; i++)
		to[i] = blix_load_data(from + i);
	copy->ctl = ctl;
	blix_fence_acquire(); /* the fields before the second look; pairs with the fence of take */
	return blix_load_relaxed(&slot->ctl) == ctl;
}

static enum outcome judge_copy(const struct blix_view *view, const struct blix_span_slot *slot)
{
	unsigned int state = ctl_state(slot->ctl);

	if (state == BLIX_SLOT_OPEN)
		return UNFINISHED;
	if (state != BLIX_SLOT_ENDING && state != BLIX_SLOT_DROPPING)
		return INVALID;
	return judge(view, state, slot->end_lane, slot->end_pos, slot->drop_reason,
		     slot->drop_before);
}

static void recover_slot(const struct blix_view *view, uint32_t lane, uint32_t index,
			 struct blix_slots_found *found, blix_slot_visit visit, void *arg)
{
	const struct blix_span_slot *slot = blix_view_slot(view, lane, index);
	struct blix_span_slot copy;
	unsigned int state = ctl_state(blix_load_acquire(&slot->ctl));

	/* Most slots are free: they are not worth a copy. */
	if (state == BLIX_SLOT_FREE || !copy_out(slot, &copy))
		return;
	state = ctl_state(copy.ctl);
	if (state == BLIX_SLOT_FREE)
		return;
	if (state == BLIX_SLOT_FILLING) {
		found->torn++;
		return;
	}
	switch (judge_copy(view, &copy)) {
	case UNFINISHED:
		found->crashed++;
		visit(arg, lane, index, (enum blix_slot_state)state, &copy);
		break;
	case DONE:
		found->complete += state == BLIX_SLOT_ENDING;
		found->dropped += state == BLIX_SLOT_DROPPING;
		break;
	case INVALID:
		found->invalid++;
		break;
	}
}

void blix_slots_recover_lane(const struct blix_view *view, uint32_t lane,
			     struct blix_slots_found *found, blix_slot_visit visit, void *arg)
{
	for (uint32_t i = 0; i < blix_view_slot_count(view, lane); i++)
		recover_slot(view, lane, i, found, visit, arg);
}

struct blix_slots_found blix_slots_recover(const struct blix_view *view, blix_slot_visit visit,
					   void *arg)
{
	struct blix_slots_found found = {0};

	for (uint32_t lane = 0; lane < view->n_lanes; lane++)
		blix_slots_recover_lane(view, lane, &found, visit, arg);
	return found;
}
