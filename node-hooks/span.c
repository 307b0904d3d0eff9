/* node-hooks/span.c - spans: begin, what is added to them, end.
 *
 * A span is written into its slot from the beginning: each item's bytes first, then used_bytes with
 * release. So it is whole after a kill at any instruction. Its end copies the slot into the ring,
 * as one record, in place (slot.c).
 *
 * Thread rule: any thread; one span is one thread's at a time. */
#include "ids.h"
#include "items.h"
#include "w3c.h"

enum {
	PLACE_SLOT_MASK = (1 << BLIX_PLACE_SLOT_BITS) - 1,
	SLOT_BYTES = sizeof(((struct blix_span_slot *)0)->data),
	BODY_WORDS = sizeof(struct blix_span_body) / 8,
	BAGGAGE_VALUE_MAX = 256,
};
_Static_assert(2 * BLIX_CAP_SLOTS <= 1 << BLIX_PLACE_SLOT_BITS, "lane 0 has twice as many slots");
_Static_assert(sizeof(blix_span) == 32, "ABI");

/* The paths of every span are one piece each: calls between them cost as much as their work. */
#define INLINE inline __attribute__((always_inline))

/* ---- begin ---------------------------------------------------------------------------------- */

/* What a new span inherits; ids as the words they are in memory. */
struct origin {
	uint64_t trace[2];
	uint64_t span;
	uint8_t trace_flags;
	bool remote;
	struct blix_carried_text text;
};

struct ids {
	uint64_t trace[2];
	uint64_t span;
};

static uint64_t id_word(const uint8_t *id)
{
	uint64_t word;

	memcpy(&word, id, sizeof(word));
	return word;
}

static bool has_ids(const struct blix_context *context)
{
	return (id_word(context->trace_id) | id_word(context->trace_id + 8)) != 0 &&
	       id_word(context->span_id) != 0;
}

/* Copies of chosen baggage members. */
static void add_baggage(struct blix_run *run, uint8_t *n_attrs,
			const struct blix_carried_text *text)
{
	const struct blix_baggage_keys *keys = blix_load_acquire(&blix_baggage_keys_);
	char value[BAGGAGE_VALUE_MAX];
	uint32_t len;

	for (uint32_t i = 0; keys && i < keys->n; i++) {
		if (blix_w3c_baggage_value(text->baggage, text->baggage_len, keys->text[i], value,
					   sizeof(value), &len) &&
		    *n_attrs < blix_setting(span_attrs_max) &&
		    blix_run_text(run, keys->key[i], BLIX_ITEM_STRING, value, len,
				  blix_setting(span_value_chars)))
			++*n_attrs;
	}
}

static void add_carried(struct blix_span_slot *slot, const struct blix_carried_text *text)
{
	struct blix_run run = {.words = (blix_run_word *)(void *)slot->data, .size = SLOT_BYTES};
	uint8_t n_attrs = 0;

	if (text->tracestate_len > 0)
		(void)blix_run_put(&run, BLIX_NO_KEY, BLIX_ITEM_TRACESTATE, 0, text->tracestate,
				   text->tracestate_len);
	if (text->baggage_len > 0)
		add_baggage(&run, &n_attrs, text);
	blix_store_data(&slot->n_attrs, n_attrs);
	blix_store_release(&slot->used_bytes, run.used); /* the bytes before it */
}

/* The slot at a place, NULL if there is none. */
static INLINE struct blix_span_slot *slot_at(const struct blix_view *view, uint32_t place)
{
	uint32_t lane = (place - 1) >> BLIX_PLACE_SLOT_BITS;
	uint32_t index = (place - 1) & PLACE_SLOT_MASK;

	if (lane >= view->n_lanes || index >= blix_view_slot_count(view, lane))
		return NULL;
	return blix_view_slot(view, lane, index);
}

static __attribute__((noinline)) bool begin_elsewhere(struct blix_thread *thread,
						      struct blix_session *session,
						      struct blix_slot_head head,
						      uint32_t *ret_place, uint8_t *ret_generation)
{
	struct blix_slot_ref ref;

	if (blix_slot_begin(&session->view,
			    blix_thread_owns_lane(thread, session) ? thread->lane : 0,
			    &thread->slot_hint, &head, &ref) < 0)
		return false;
	*ret_place = 1 + (ref.lane << BLIX_PLACE_SLOT_BITS | ref.slot);
	*ret_generation = (uint8_t)ref.gen;
	return true;
}

/* Most spans are short: the slot of the last one is free again, and in the cache. */
static INLINE bool begin_slot(struct blix_thread *thread, struct blix_session *session,
			      const struct blix_slot_head *head, uint32_t *ret_place,
			      uint8_t *ret_generation)
{
	uint32_t index = thread->slot_hint;
	uint64_t gen;

	if (__builtin_expect(index >= thread->own_n || thread->session != session ||
				     !blix_slot_begin_at(thread->own_slots + index, head, &gen),
			     0))
		return begin_elsewhere(thread, session, *head, ret_place, ret_generation);
	*ret_place = thread->own_first + index;
	*ret_generation = (uint8_t)gen;
	return true;
}

/* Give the span a slot. False: there is no file, or no free one. */
static INLINE bool record(struct blix_thread *thread, const struct ids *ids, uint8_t flags,
			  blix_name name, enum blix_span_kind kind, const struct origin *origin,
			  uint32_t *ret_place, uint8_t *ret_generation)
{
	struct blix_session *session = blix_thread_session(thread);
	struct blix_slot_head head;
	bool done;

	if (!session)
		return false;
	if (!blix_thread_enter(thread)) {
		blix_count_drop_anywhere(session, BLIX_DROP_SPAN, BLIX_DROP_REENTRANT);
		return false;
	}
	memcpy(head.trace_id, ids->trace, sizeof(head.trace_id));
	memcpy(head.span_id, &ids->span, sizeof(head.span_id));
	memcpy(head.parent_id, &origin->span, sizeof(head.parent_id));
	head.name_id = (name.id ? name.id : blix_own_keys_.overflow.id) - 1;
	head.scope_id = 0;
	head.kind = (uint8_t)kind;
	head.trace_flags = flags;
	head.span_flags = origin->remote ? BLIX_SPAN_PARENT_REMOTE : 0;
	head.tid = thread->tid;
	head.start_ns = blix_clock_now();
	done = begin_slot(thread, session, &head, ret_place, ret_generation);
	if (done && (origin->text.tracestate_len | origin->text.baggage_len))
		add_carried(slot_at(&session->view, *ret_place), &origin->text);
	blix_thread_leave(thread);
	return done;
}

/* The same for what most spans do not have: a tracestate or baggage of its parent, and a threshold
 * by which it decided, which it says in its tracestate for those who count spans. */
static __attribute__((noinline)) uint16_t carry(const struct ids *ids, struct origin *origin,
						uint64_t word, bool sampled,
						char tracestate[BLIX_TRACESTATE_BYTES])
{
	if (word & BLIX_THRESHOLD_TOLD) {
		origin->text.tracestate_len = blix_w3c_set_threshold(
			origin->text.tracestate, origin->text.tracestate_len,
			sampled ? word & ~BLIX_THRESHOLD_TOLD : BLIX_W3C_NO_THRESHOLD, tracestate);
		origin->text.tracestate = tracestate;
	}
	return blix_carried_new(ids->span, &origin->text);
}

static INLINE uint64_t threshold(blix_name name)
{
	return blix_load_relaxed(&blix_thresholds_[name.index < BLIX_NAMES_MAX ? name.index : 0]);
}

/* The handle is put together in registers and stored in two pieces, the size in which it is copied
 * ever after. */
typedef uint64_t pair __attribute__((vector_size(16), aligned(4), may_alias));

static INLINE blix_span make_handle(struct ids ids, uint32_t place, uint16_t carried,
				    uint8_t trace_flags, uint8_t generation)
{
	blix_span span;
	uint64_t rest = (uint64_t)place | (uint64_t)carried << 32 | (uint64_t)trace_flags << 48 |
			(uint64_t)generation << 56;

	((pair *)(void *)&span)[0] = (pair){ids.trace[0], ids.trace[1]};
	((pair *)(void *)&span)[1] = (pair){ids.span, rest};
	return span;
}
_Static_assert(offsetof(blix_span, place) == 24 && offsetof(blix_span, carried) == 28 &&
		       offsetof(blix_span, trace_flags) == 30 &&
		       offsetof(blix_span, generation) == 31,
	       "put together as words");

/* The general case, in a frame of its own: it carries text, or must tell its threshold. */
static __attribute__((noinline)) blix_span begin_with_text(struct blix_thread *thread,
							   blix_name name, enum blix_span_kind kind,
							   struct origin origin)
{
	struct ids ids = {.trace = {origin.trace[0], origin.trace[1]}};
	uint8_t flags = origin.trace_flags & BLIX_TRACE_RANDOM;
	uint16_t carried = 0;
	uint32_t place = 0;
	uint8_t generation = 0;
	bool sampled = origin.trace_flags & BLIX_TRACE_SAMPLED;
	bool is_root = (ids.trace[0] | ids.trace[1]) == 0 || origin.span == 0;
	uint64_t word = 0;
	char tracestate[BLIX_TRACESTATE_BYTES]; /* touched only by who has one */

	if (is_root) {
		origin.span = 0;
		origin.remote = false;
		origin.text.tracestate_len = 0; /* it belongs to another trace */
		blix_id_trace(thread, ids.trace);
		flags = BLIX_TRACE_RANDOM;
	}
	ids.span = blix_id_span(thread);
	if (is_root || !blix_setting(parent_based)) {
		word = threshold(name);
		sampled = blix_is_sampled(word, ids.trace[1]);
	}
	flags |= sampled ? BLIX_TRACE_SAMPLED : 0;
	if ((word & BLIX_THRESHOLD_TOLD) != 0 || origin.text.tracestate_len != 0 ||
	    origin.text.baggage_len != 0)
		carried = carry(&ids, &origin, word, sampled, tracestate);
	if (sampled && !record(thread, &ids, flags, name, kind, &origin, &place, &generation))
		place = generation = 0;
	return make_handle(ids, place, carried, flags, generation);
}

/* A span that is recorded, most often, and carries no text. */
static __attribute__((noinline)) blix_span begin_recorded(struct blix_thread *thread,
							  blix_name name, enum blix_span_kind kind,
							  struct ids ids, uint8_t flags,
							  bool remote)
{
	bool is_root = (ids.trace[0] | ids.trace[1]) == 0 || ids.span == 0;
	struct origin origin = {.trace = {ids.trace[0], ids.trace[1]},
				.span = ids.span,
				.trace_flags = flags,
				.remote = remote};
	bool sampled = flags & BLIX_TRACE_SAMPLED;
	uint32_t place = 0;
	uint8_t generation = 0;

	flags &= BLIX_TRACE_RANDOM;
	if (is_root || !blix_setting(parent_based)) {
		uint64_t word = threshold(name);

		if (__builtin_expect((word & BLIX_THRESHOLD_TOLD) != 0, 0))
			return begin_with_text(thread, name, kind, origin);
		if (is_root) {
			origin.span = 0;
			origin.remote = false;
			blix_id_trace(thread, ids.trace);
			flags = BLIX_TRACE_RANDOM;
		}
		sampled = blix_is_sampled(word, ids.trace[1]);
	}
	ids.span = blix_id_span(thread);
	flags |= sampled ? BLIX_TRACE_SAMPLED : 0;
	if (sampled && !record(thread, &ids, flags, name, kind, &origin, &place, &generation))
		place = generation = 0;
	return make_handle(ids, place, 0, flags, generation);
}

/* What follows an unsampled parent and carries nothing is but an id. */
static INLINE blix_span begin(struct blix_thread *thread, blix_name name, enum blix_span_kind kind,
			      const struct origin *from)
{
	struct ids ids = {.trace = {from->trace[0], from->trace[1]}, .span = from->span};

	if (__builtin_expect((from->text.tracestate_len | from->text.baggage_len) != 0, 0))
		return begin_with_text(thread, name, kind, *from);
	if ((from->trace_flags & BLIX_TRACE_SAMPLED) != 0 || (ids.trace[0] | ids.trace[1]) == 0 ||
	    from->span == 0 || !blix_setting(parent_based))
		return begin_recorded(thread, name, kind, ids, from->trace_flags, from->remote);
	ids.span = blix_id_span(thread);
	return make_handle(ids, 0, 0, from->trace_flags & BLIX_TRACE_RANDOM, 0);
}

static uint32_t at_most(uint32_t value, uint32_t max)
{
	return value < max ? value : max;
}

static INLINE blix_span begin_below(struct blix_thread *thread, blix_name name,
				    enum blix_span_kind kind, const struct blix_context *context)
{
	struct origin origin = {
		.trace = {id_word(context->trace_id), id_word(context->trace_id + 8)},
		.span = id_word(context->span_id),
		.trace_flags = context->trace_flags,
		.remote = context->remote != 0,
		.text = {.tracestate = context->tracestate,
			 .baggage = context->baggage,
			 .tracestate_len = at_most(context->tracestate_len, BLIX_TRACESTATE_BYTES),
			 .baggage_len = at_most(context->baggage_len, BLIX_BAGGAGE_BYTES)},
	};

	return begin(thread, name, kind, &origin);
}

/* A stack frame of its own for what most spans do not have. */
static __attribute__((noinline)) blix_span begin_carrying(struct blix_thread *thread,
							  blix_name name, enum blix_span_kind kind,
							  const blix_span *parent)
{
	struct blix_context context = blix_context_of(*parent);

	return begin_below(thread, name, kind, &context);
}

static inline __attribute__((always_inline)) blix_span begin_under(struct blix_thread *thread,
								   blix_name name,
								   enum blix_span_kind kind,
								   const blix_span *parent)
{
	struct origin origin = {
		.trace = {id_word(parent->trace_id), id_word(parent->trace_id + 8)},
		.span = id_word(parent->span_id),
		.trace_flags = parent->trace_flags,
	};

	if (parent->carried)
		return begin_carrying(thread, name, kind, parent);
	return begin(thread, name, kind, &origin);
}

blix_span blix_span_begin(blix_name name, enum blix_span_kind kind,
			  const struct blix_context *parent)
{
	struct blix_thread *thread = &blix_thread_;

	if (parent)
		return begin_below(thread, name, kind, parent);
	return begin_under(thread, name, kind, &thread->current);
}

blix_span blix_span_begin_under(blix_name name, enum blix_span_kind kind, blix_span parent)
{
	return begin_under(&blix_thread_, name, kind, &parent);
}

/* ---- finding it again ----------------------------------------------------------------------- */

/* A change of a span's slot, from open_change() to close_change(). */
struct change {
	struct blix_thread *thread;
	struct blix_session *session;
	struct blix_span_slot *slot;
	uint64_t gen;
	uint64_t counts; /* the word of used_bytes, the flags and how many of what there are */
	struct blix_run run;
};

#define HAVE(c, field)	 ((uint8_t)((c)->counts >> offsetof(struct blix_span_slot, field) % 8 * 8))
#define ADD(c, field, n) ((c)->counts += BLIX_SLOT_PART(field, n))

/* The slot of an open span. Its random id proves that the slot is still its own, whichever session
 * the handle is of. */
static INLINE struct blix_span_slot *find(const struct blix_thread *thread,
					  const struct blix_session *session, const blix_span *span,
					  uint64_t *ret_gen)
{
	uint32_t index = span->place - thread->own_first;
	struct blix_span_slot *slot;
	uint64_t ctl;

	if (__builtin_expect(index < thread->own_n && thread->session == session, 1))
		slot = thread->own_slots + index;
	else
		slot = slot_at(&session->view, span->place);
	if (!slot)
		return NULL;
	ctl = blix_load_acquire(&slot->ctl);
	if ((ctl & 0xff) != BLIX_SLOT_OPEN || (uint8_t)(ctl >> 8) != span->generation ||
	    blix_load_data((blix_run_word *)(void *)slot->span_id) != id_word(span->span_id))
		return NULL;
	*ret_gen = ctl >> 8;
	return slot;
}

static blix_run_word *counts_of(struct blix_span_slot *slot)
{
	return (blix_run_word *)(void *)&slot->used_bytes;
}

static __attribute__((noinline, cold)) void stale(const struct blix_session *session)
{
	blix_count_stat(session, BLIX_STAT_STALE_HANDLE);
}

static INLINE bool open_change(struct change *c, const blix_span *span)
{
	uint32_t used;

	c->thread = &blix_thread_;
	c->session = blix_thread_session(c->thread);
	if (!c->session)
		return false;
	if (!blix_thread_enter(c->thread)) {
		stale(c->session);
		return false;
	}
	c->slot = find(c->thread, c->session, span, &c->gen);
	if (!c->slot) {
		blix_thread_leave(c->thread);
		stale(c->session);
		return false;
	}
	c->counts = blix_load_relaxed(counts_of(c->slot));
	used = (uint32_t)c->counts;
	c->run = (struct blix_run){
		.words = (blix_run_word *)(void *)c->slot->data,
		.used = used > SLOT_BYTES || used % 8 ? SLOT_BYTES
						      : used, /* scribbled over: full */
		.size = SLOT_BYTES,
	};
	return true;
}

static INLINE void close_change(struct change *c)
{
	/* Release: the items' bytes before it; pairs with the recovery's acquire of ctl. One store
	 * for all counts: it costs as much as one of them, and is read in one piece again. */
	blix_store_release(counts_of(c->slot), (c->counts & ~(uint64_t)UINT32_MAX) | c->run.used);
	blix_thread_leave(c->thread);
}
_Static_assert(offsetof(struct blix_span_slot, used_bytes) % 8 == 0 &&
		       BLIX_SLOT_WORD(n_links) == BLIX_SLOT_WORD(used_bytes),
	       "one word");

static void count_dropped(uint16_t *count, uint64_t n)
{
	if (n > 0)
		blix_store_data(count, blix_add_u16(blix_load_data(count), n));
}

/* ---- attributes ----------------------------------------------------------------------------- */

static void add_attrs(struct change *c, const struct blix_attr *attrs, size_t n)
{
	uint8_t have = HAVE(c, n_attrs);
	uint32_t max = blix_setting(span_attrs_max);
	uint32_t dropped = blix_run_attrs(&c->run, attrs, n, max > have ? max - have : 0,
					  blix_setting(span_value_chars));

	ADD(c, n_attrs, n - dropped);
	count_dropped(&c->slot->dropped_attrs, dropped);
}

void blix_span_attrs(blix_span span, const struct blix_attr *attrs, size_t n)
{
	struct change c;

	if (span.place == 0 || !open_change(&c, &span))
		return;
	add_attrs(&c, attrs, n);
	close_change(&c);
}

static void add_one(const blix_span *span, struct blix_attr attr)
{
	struct change c;

	if (!open_change(&c, span))
		return;
	add_attrs(&c, &attr, 1);
	close_change(&c);
}

/* May one more attribute with an item of `len` bytes be added? It is counted either way. */
static INLINE bool admit(struct change *c, blix_key key, uint32_t len)
{
	if (__builtin_expect(key.id == 0 || HAVE(c, n_attrs) >= blix_setting(span_attrs_max) ||
				     len > blix_run_left(&c->run),
			     0)) {
		count_dropped(&c->slot->dropped_attrs, 1);
		return false;
	}
	ADD(c, n_attrs, 1);
	return true;
}

static __attribute__((noinline)) void add_word_anywhere(blix_span span, blix_key key, uint8_t type,
							uint64_t word)
{
	struct change c;

	if (!open_change(&c, &span))
		return;
	if (admit(&c, key, sizeof(struct blix_item) + 8))
		blix_store_data(blix_run_head(&c.run, key, type, 0, 8), word);
	close_change(&c);
}

static __attribute__((noinline)) void add_text_anywhere(blix_span span, blix_key key,
							const char *text, size_t len_bytes)
{
	add_one(&span, blix_attr_text(key, text, len_bytes));
}

/* The common case, without a call and its frame: an open span in a slot of the thread's own lane.
 * NULL: it takes the general way, which knows all others. */
static INLINE struct blix_span_slot *own_open(const struct blix_thread *thread,
					      const blix_span *span)
{
	uint32_t index = span->place - thread->own_first;
	struct blix_span_slot *slot = thread->own_slots + index;
	uint64_t ctl;

	if (blix_self_.epoch != blix_load_relaxed(&blix_epoch_) || thread->busy ||
	    index >= thread->own_n)
		return NULL;
	ctl = blix_load_acquire(&slot->ctl);
	if ((uint16_t)ctl != ((unsigned int)span->generation << 8 | BLIX_SLOT_OPEN) ||
	    blix_load_data((blix_run_word *)(void *)slot->span_id) != id_word(span->span_id))
		return NULL;
	return slot;
}

/* Is there room for one more attribute with an item of `len` bytes? */
static INLINE bool has_room(uint64_t counts, blix_key key, uint64_t len)
{
	return key.id != 0 && (uint32_t)counts <= SLOT_BYTES &&
	       len <= SLOT_BYTES - (uint32_t)counts &&
	       (uint8_t)(counts >> 40) < blix_setting(span_attrs_max);
}
_Static_assert(offsetof(struct blix_span_slot, n_attrs) % 8 * 8 == 40, "shifted");

/* Append one attribute's head and count it, once its value is stored. */
static INLINE blix_run_word *add_begin(struct blix_thread *thread, struct blix_span_slot *slot,
				       uint64_t counts, blix_key key, uint8_t type, uint32_t len)
{
	struct blix_run run = {.words = (blix_run_word *)(void *)slot->data,
			       .used = (uint32_t)counts,
			       .size = SLOT_BYTES};

	(void)blix_thread_enter(thread);
	return blix_run_head(&run, key, type, 0, len);
}

static INLINE void add_end(struct blix_thread *thread, struct blix_span_slot *slot, uint64_t counts,
			   uint32_t item_bytes)
{
	/* Release: as in close_change(). */
	blix_store_release(counts_of(slot),
			   counts + BLIX_SLOT_PART(n_attrs, 1) + (uint64_t)item_bytes);
	blix_thread_leave(thread);
}

static INLINE void add_word(const blix_span *span, blix_key key, uint8_t type, uint64_t word)
{
	struct blix_thread *thread = &blix_thread_;
	struct blix_span_slot *slot;
	uint64_t counts;

	if (span->place == 0)
		return;
	slot = own_open(thread, span);
	counts = slot ? blix_load_relaxed(counts_of(slot)) : 0;
	if (__builtin_expect(!slot || !has_room(counts, key, sizeof(struct blix_item) + 8), 0)) {
		add_word_anywhere(*span, key, type, word);
		return;
	}
	blix_store_data(add_begin(thread, slot, counts, key, type, 8), word);
	add_end(thread, slot, counts, sizeof(struct blix_item) + 8);
}

static INLINE void add_text(const blix_span *span, blix_key key, const char *text, size_t len)
{
	struct blix_thread *thread = &blix_thread_;
	struct blix_span_slot *slot = own_open(thread, span);
	uint64_t counts = slot ? blix_load_relaxed(counts_of(slot)) : 0;
	uint64_t item_bytes = sizeof(struct blix_item) + ((len + 7) & ~(size_t)7);

	if (__builtin_expect(!slot || !text || len > SLOT_BYTES ||
				     len > blix_setting(span_value_chars) ||
				     !has_room(counts, key, item_bytes),
			     0)) {
		add_text_anywhere(*span, key, text, len); /* cut, perhaps */
		return;
	}
	blix_run_bytes(add_begin(thread, slot, counts, key, BLIX_ITEM_STRING, (uint32_t)len), text,
		       (uint32_t)len);
	add_end(thread, slot, counts, (uint32_t)item_bytes);
}

void blix_span_text(blix_span span, blix_key key, const char *text, size_t len_bytes)
{
	if (span.place != 0)
		add_text(&span, key, text, len_bytes);
}

void blix_span_str(blix_span span, blix_key key, const char *text)
{
	if (span.place != 0)
		add_text(&span, key, text ? text : "", text ? strlen(text) : 0);
}

void blix_span_i64(blix_span span, blix_key key, int64_t value)
{
	add_word(&span, key, BLIX_ITEM_I64, (uint64_t)value);
}

void blix_span_f64(blix_span span, blix_key key, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	add_word(&span, key, BLIX_ITEM_F64, bits);
}

void blix_span_bool(blix_span span, blix_key key, int value)
{
	add_word(&span, key, BLIX_ITEM_BOOL, value != 0);
}

void blix_span_bytes(blix_span span, blix_key key, const void *bytes, size_t len_bytes)
{
	if (span.place != 0)
		add_one(&span, blix_attr_bytes(key, bytes, len_bytes));
}

void blix_span_str_array(blix_span span, blix_key key, const char *const *strings, size_t n)
{
	if (span.place != 0)
		add_one(&span, blix_attr_str_array(key, strings, n));
}

/* ---- events, links, status ------------------------------------------------------------------ */

/* An item that holds items: room for its own head is left, its length is known at the end. */
static bool begin_nested(const struct change *c, uint32_t fixed_bytes, struct blix_run *nested)
{
	uint32_t head = sizeof(struct blix_item);

	if (blix_run_left(&c->run) < head + fixed_bytes)
		return false;
	*nested = (struct blix_run){
		.words = c->run.words + (c->run.used + head) / 8,
		.used = fixed_bytes,
		.size = blix_run_left(&c->run) - head,
	};
	return true;
}

static void store_words(blix_run_word *to, const void *from, uint32_t len)
{
	uint64_t word;

	for (uint32_t at = 0; at < len; at += 8) {
		memcpy(&word, (const uint8_t *)from + at, 8);
		blix_store_data(to + at / 8, word);
	}
}

void blix_span_event_add(blix_span span, blix_key name, const struct blix_attr *attrs, size_t n)
{
	struct blix_event event = {.t_ns = 0};
	struct blix_run nested;
	struct change c;

	if (span.place == 0)
		return;
	event.t_ns = blix_clock_now();
	if (!open_change(&c, &span))
		return;
	if (name.id == 0 || HAVE(&c, n_events) >= blix_setting(span_events_max) ||
	    !begin_nested(&c, sizeof(event), &nested)) {
		count_dropped(&c.slot->dropped_events, 1);
	} else {
		event.dropped_attrs =
			(uint16_t)blix_run_attrs(&nested, attrs, n, blix_setting(event_attrs_max),
						 blix_setting(span_value_chars));
		store_words(nested.words, &event, sizeof(event));
		(void)blix_run_head(&c.run, name, BLIX_ITEM_EVENT, 0, nested.used);
		ADD(&c, n_events, 1);
	}
	close_change(&c);
}

static bool add_link(struct change *c, const struct blix_context *to, const struct blix_attr *attrs,
		     size_t n)
{
	struct blix_link link = {
		.trace_flags = to->trace_flags,
		.link_flags = to->remote ? BLIX_SPAN_PARENT_REMOTE : 0,
	};
	struct blix_run nested;

	memcpy(link.trace_id, to->trace_id, sizeof(link.trace_id));
	memcpy(link.span_id, to->span_id, sizeof(link.span_id));
	if (HAVE(c, n_links) >= blix_setting(span_links_max) ||
	    !begin_nested(c, sizeof(link), &nested))
		return false;
	if (to->tracestate_len > 0)
		(void)blix_run_put(&nested, BLIX_NO_KEY, BLIX_ITEM_TRACESTATE, 0, to->tracestate,
				   at_most(to->tracestate_len, BLIX_TRACESTATE_BYTES));
	link.dropped_attrs = (uint16_t)blix_run_attrs(
		&nested, attrs, n, blix_setting(link_attrs_max), blix_setting(span_value_chars));
	store_words(nested.words, &link, sizeof(link));
	(void)blix_run_head(&c->run, BLIX_NO_KEY, BLIX_ITEM_LINK, 0, nested.used);
	ADD(c, n_links, 1);
	return true;
}

void blix_span_link_add(blix_span span, const struct blix_context *to,
			const struct blix_attr *attrs, size_t n)
{
	struct change c;

	if (span.place == 0 || !to || !has_ids(to) || !open_change(&c, &span))
		return;
	if (!add_link(&c, to, attrs, n))
		count_dropped(&c.slot->dropped_links, 1);
	close_change(&c);
}

static void set_status(struct change *c, enum blix_span_status status, const char *text)
{
	if (status == BLIX_SPAN_UNSET || blix_load_data(&c->slot->status) == BLIX_SPAN_OK)
		return;
	blix_store_data(&c->slot->status, (uint8_t)status);
	if (status == BLIX_SPAN_ERROR && text && *text)
		(void)blix_run_text(&c->run, BLIX_NO_KEY, BLIX_ITEM_STATUS, text, strlen(text),
				    UINT32_MAX);
}

void blix_span_status(blix_span span, enum blix_span_status status, const char *text)
{
	struct change c;

	if (span.place == 0 || !open_change(&c, &span))
		return;
	set_status(&c, status, text);
	close_change(&c);
}

void blix_span_failed(blix_span span, const char *type, const char *text)
{
	struct blix_attr attrs[2];
	struct blix_attr error_type;
	size_t n = 0;
	struct change c;

	if (span.place == 0 || !open_change(&c, &span))
		return;
	set_status(&c, BLIX_SPAN_ERROR, text);
	error_type = blix_attr_str(blix_own_keys_.error_type, type ? type : "_OTHER");
	add_attrs(&c, &error_type, 1);
	close_change(&c);
	if (type)
		attrs[n++] = blix_attr_str(blix_own_keys_.exception_type, type);
	if (text && *text)
		attrs[n++] = blix_attr_str(blix_own_keys_.exception_message, text);
	if (n > 0)
		blix_span_event_add(span, blix_own_keys_.exception, attrs, n);
}

void blix_span_error(blix_span span, const char *text)
{
	blix_span_failed(span, NULL, text);
}

/* ---- end ------------------------------------------------------------------------------------ */

/* The record of a span; its body is what the slot holds. */
static INLINE struct blix_ring_entry describe(const struct change *c, uint64_t end_ns)
{
	const struct blix_span_slot *slot = c->slot;
	uint64_t start_ns = blix_load_data(&slot->start_ns);
	uint64_t end = end_ns > start_ns ? end_ns : start_ns;
	/* Three counts and reserved bytes, read as they are stored. */
	uint64_t dropped =
		blix_load_data((const blix_run_word *)(const void *)&slot->dropped_attrs);
	bool matters = (blix_load_data(&slot->status)) == BLIX_SPAN_ERROR ||
		       end - start_ns > blix_setting(slow_ns);

	return (struct blix_ring_entry){
		.type = BLIX_REC_SPAN,
		.flags = (uint16_t)((matters ? BLIX_REC_PRIORITY : 0) |
				    (dropped << 16 ? BLIX_REC_TRUNCATED : 0)),
		.n_words = BODY_WORDS + c->run.used / 8,
		.t_ns = end,
	};
}

/* A signal handler ends a span in the middle of another change: it is dropped, and its slot free. */
static __attribute__((noinline, cold)) void end_reentrant(const struct blix_session *session,
							  blix_span span)
{
	uint64_t gen;
	struct blix_span_slot *slot = find(&blix_thread_, session, &span, &gen);

	if (!slot) {
		stale(session);
		return;
	}
	blix_count_drop_anywhere(session, BLIX_DROP_SPAN, BLIX_DROP_REENTRANT);
	blix_store_release(&slot->ctl, gen << 8 | BLIX_SLOT_FREE);
}

static __attribute__((noinline)) void end_shared(struct blix_thread *thread,
						 struct blix_session *session, blix_span span,
						 uint64_t gen, struct blix_ring_entry entry)
{
	struct blix_slot_ref ref = {.lane = (span.place - 1) >> BLIX_PLACE_SLOT_BITS,
				    .slot = (span.place - 1) & PLACE_SLOT_MASK,
				    .gen = gen};

	(void)blix_slot_end_shared(&session->view, ref, &session->shared, thread->tid, &entry,
				   blix_load_relaxed(&session->listening));
}

static INLINE void end_recorded(const blix_span *span)
{
	uint64_t end_ns = blix_clock_now();
	struct blix_thread *thread = &blix_thread_;
	struct blix_session *session = blix_thread_session(thread);
	struct change c;
	struct blix_ring_entry entry;

	if (session && __builtin_expect(thread->busy, 0)) {
		end_reentrant(session, *span);
		return;
	}
	if (!open_change(&c, span))
		return;
	entry = describe(&c, end_ns);
	if (blix_thread_owns_lane(thread, session))
		(void)blix_slot_end_at(&session->view, c.slot, c.gen,
				       blix_thread_writer(thread, session), &entry,
				       blix_load_relaxed(&session->listening));
	else
		end_shared(thread, session, *span, c.gen, entry);
	blix_thread_leave(thread);
}

void blix_span_end(blix_span span)
{
	if (span.place)
		end_recorded(&span);
	if (span.carried)
		blix_carried_end(span.carried, id_word(span.span_id));
}
