/* agent/input/records.c - see records.h. The values of attributes: records_items.c. */
#include "agent/input/records_private.h"

#include "shm/ring.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct batch_text unknown = {"unknown", 7};

/* ---- time ------------------------------------------------------------------------------------ */

/* Unix time of the clock's zero, as a two's complement difference: either may be the larger. */
static int64_t offset_of(uint64_t mono_ns, uint64_t unix_ns)
{
	return (int64_t)(unix_ns - mono_ns);
}

void records_clock_update(struct records_clock *clock, uint64_t mono_ns, uint64_t unix_ns)
{
	int64_t ahead = (int64_t)((uint64_t)offset_of(mono_ns, unix_ns) -
				  (uint64_t)offset_of(clock->mono_ns, clock->unix_ns));
	bool unset = clock->mono_ns == 0 && clock->unix_ns == 0;

	if (unset || ahead > (int64_t)RECORDS_CLOCK_STEP_NS)
		*clock = (struct records_clock){mono_ns, unix_ns};
}

uint64_t records_clock_unix_ns(const struct records_clock *clock, uint64_t mono_ns)
{
	uint64_t unix_ns;

	if (mono_ns >= clock->mono_ns)
		return __builtin_add_overflow(clock->unix_ns, mono_ns - clock->mono_ns, &unix_ns) ||
				       unix_ns > INT64_MAX
			       ? INT64_MAX
			       : unix_ns;
	return clock->unix_ns > clock->mono_ns - mono_ns
		       ? clock->unix_ns - (clock->mono_ns - mono_ns)
		       : 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

struct records *records_new(struct blix_map *map, struct batch_resource *resource,
			    struct records_counts *counts)
{
	const struct blix_map_identity *id = blix_map_identity(map);
	struct records *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->counts = counts;
	r->names = names_new(map, resource);
	if (!r->names)
		return records_free(r);
	records_clock_update(&r->clock, id->open_mono_ns, id->open_real_ns);
	records_refresh(r, map);
	return r;
}

struct records *records_free(struct records *r)
{
	if (!r)
		return NULL;
	names_free(r->names);
	free(r);
	return NULL;
}

void records_refresh(struct records *r, struct blix_map *map)
{
	struct blix_map_life life;

	blix_map_life(map, &life);
	records_clock_update(&r->clock, life.pair_mono_ns, life.pair_real_ns);
}

const struct records_clock *records_clock(const struct records *r)
{
	return &r->clock;
}

void records_too_large(struct records *r)
{
	r->counts->too_large++;
}

struct batch_text records_name(struct records *r, uint32_t id, struct arena *memory)
{
	struct batch_text name;

	return names_get(r->names, id, memory, &name) == 0 && name.len > 0 ? name : unknown;
}

/* ---- spans ----------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i])
			return false;
	return true;
}

/* A name that has no entry is told by a placeholder: the span is still worth having. */
static int span_name(struct records *r, uint32_t id, struct arena *memory,
		     struct batch_text *ret_name)
{
	int e = names_get(r->names, id, memory, ret_name);

	if (e == 0 && ret_name->len > 0)
		return 0;
	if (e < 0 && e != -ENOENT)
		return e;
	r->counts->damaged++;
	*ret_name = unknown;
	return 0;
}

/* What a record's body and a slot have in common. */
static int fill_span(struct records *r, struct batch *b, const struct blix_span_body *body,
		     struct batch_span *span)
{
	int e = span_name(r, body->name_id, &b->memory, &span->name);

	if (e < 0)
		return e;
	memcpy(span->trace_id, body->trace_id, sizeof(span->trace_id));
	memcpy(span->span_id, body->span_id, sizeof(span->span_id));
	memcpy(span->parent_id, body->parent_id, sizeof(span->parent_id));
	span->start_unix_ns = records_clock_unix_ns(&r->clock, body->start_ns);
	span->end_unix_ns = records_clock_unix_ns(&r->clock, body->end_ns);
	if (span->end_unix_ns < span->start_unix_ns) {
		r->counts->damaged++;
		span->end_unix_ns = span->start_unix_ns;
	}
	span->flags = body->trace_flags | BATCH_FLAG_HAS_IS_REMOTE;
	if (body->span_flags & BLIX_SPAN_PARENT_REMOTE)
		span->flags |= BATCH_FLAG_IS_REMOTE;
	span->kind = body->kind >= 1 && body->kind <= 5 ? body->kind : 1;
	span->status = body->status <= 2 ? body->status : 0;
	r->counts->damaged += span->kind != body->kind;
	r->counts->damaged += span->status != body->status;
	return 0;
}

/* The place is zeroed again for the next one. */
static int undo_span(struct batch_span *span, int e)
{
	memset(span, 0, sizeof(*span));
	return e;
}

/* The parts found among the items, into the batch's memory. */
static int place_span_parts(struct records *r, struct batch *b, const struct blix_span_body *body,
			    struct batch_span *span)
{
	struct records_parts *p = &r->parts;
	int e = records_place_attrs(&p->attrs, &b->memory, body->dropped_attrs, &span->attrs);

	if (e == 0)
		e = records_place(p->events, p->n_events, sizeof(*p->events), &b->memory,
				  (void **)&span->events);
	if (e == 0)
		e = records_place(p->links, p->n_links, sizeof(*p->links), &b->memory,
				  (void **)&span->links);
	span->n_events = p->n_events;
	span->n_links = p->n_links;
	span->dropped_events = body->dropped_events + p->dropped_events;
	span->dropped_links = body->dropped_links + p->dropped_links;
	span->trace_state = p->trace_state;
	if (span->status == 2)
		span->status_message = p->status;
	return e;
}

/* Is it a span at all? A batch of spans only. */
static int admit_span(struct records *r, const struct batch *b, const struct blix_span_body *body)
{
	assert(b->signal == BATCH_TRACES && !b->sealed);

	if (is_zero(body->trace_id, sizeof(body->trace_id)) ||
	    is_zero(body->span_id, sizeof(body->span_id))) {
		r->counts->refused++;
		return -EBADMSG;
	}
	return b->n < BATCH_ITEMS_MAX ? 0 : -ENOSPC;
}

int records_span(struct records *r, const uint64_t *record, uint32_t n_words, struct batch *b)
{
	const uint8_t *bytes = (const uint8_t *)record;
	size_t len = (size_t)n_words * 8,
	       heads = sizeof(struct blix_record) + sizeof(struct blix_span_body);
	struct batch_span *span;
	struct blix_span_body body;
	struct blix_record head;
	int e;

	if (len < heads) {
		r->counts->refused++;
		return -EBADMSG;
	}
	memcpy(&head, bytes, sizeof(head));
	memcpy(&body, bytes + sizeof(head), sizeof(body));
	e = admit_span(r, b, &body);
	if (e < 0)
		return e;
	span = &b->spans[b->n];
	e = fill_span(r, b, &body, span);
	if (e == 0)
		e = records_take_items(r, bytes + heads, (uint32_t)(len - heads), &b->memory, true);
	if (e == 0)
		e = place_span_parts(r, b, &body, span);
	if (e < 0)
		return undo_span(span, e);
	span->priority = (head.flags & BLIX_REC_PRIORITY) || span->status == 2;
	b->n++;
	return 0;
}

/* ---- spans that were left open --------------------------------------------------------------- */

/* One more attribute, over what the span carried under this key. */
static void say(struct records *r, const char *key, struct batch_value value)
{
	struct batch_attr attr = {.key = {key, (uint32_t)strlen(key)}, .value = value};

	if (r->parts.attrs.n == BATCH_ATTRS_MAX) { /* what tells of a crash matters more */
		r->parts.attrs.n--;
		r->parts.attrs.dropped++;
	}
	records_add_attr(r, &r->parts.attrs, &attr);
}

static void say_end(struct records *r, const struct records_end *end)
{
	say(r, "blixard.span.state",
	    (struct batch_value){BATCH_STRING, (uint32_t)strlen(end->state), {.text = end->state}});
	if (end->has_exit_code)
		say(r, "process.exit.code",
		    (struct batch_value){BATCH_I64, 0, {.i64 = end->exit_code}});
	if (end->has_signal)
		say(r, "blixard.exit.signal",
		    (struct batch_value){BATCH_I64, 0, {.i64 = end->signal}});
}

/* No part of a span may lie behind its end. */
static void end_after_parts(struct batch_span *span)
{
	for (uint32_t i = 0; i < span->n_events; i++)
		if (span->events[i].unix_ns > span->end_unix_ns)
			span->end_unix_ns = span->events[i].unix_ns;
}

static struct blix_span_body body_of_slot(const struct blix_span_slot *slot,
					  const struct records_end *end)
{
	struct blix_span_body body = {
		.start_ns = slot->start_ns,
		.end_ns = end->at_ns > slot->start_ns ? end->at_ns : slot->start_ns,
		.name_id = slot->name_id,
		.scope_id = slot->scope_id,
		.kind = slot->kind,
		.status = 2,
		.trace_flags = slot->trace_flags,
		.span_flags = (uint8_t)slot->span_flags,
		.dropped_attrs = slot->dropped_attrs,
		.dropped_events = slot->dropped_events,
		.dropped_links = slot->dropped_links,
	};

	memcpy(body.trace_id, slot->trace_id, sizeof(body.trace_id));
	memcpy(body.span_id, slot->span_id, sizeof(body.span_id));
	memcpy(body.parent_id, slot->parent_id, sizeof(body.parent_id));
	return body;
}

int records_slot(struct records *r, const struct blix_span_slot *slot,
		 const struct records_end *end, struct batch *b)
{
	struct blix_span_body body = body_of_slot(slot, end);
	uint32_t used = slot->used_bytes;
	struct batch_span *span;
	int e = admit_span(r, b, &body);

	if (e < 0)
		return e;
	if (used > sizeof(slot->data)) {
		r->counts->damaged++;
		used = sizeof(slot->data);
	}
	span = &b->spans[b->n];
	e = fill_span(r, b, &body, span);
	if (e == 0)
		e = records_take_items(r, slot->data, used, &b->memory, true);
	if (e < 0)
		return undo_span(span, e);
	say_end(r, end);
	r->parts.status = (struct batch_text){end->message, (uint32_t)strlen(end->message)};
	e = place_span_parts(r, b, &body, span);
	if (e < 0)
		return undo_span(span, e);
	end_after_parts(span);
	span->crashed = true;
	span->priority = true;
	b->n++;
	return 0;
}

/* ---- logs ------------------------------------------------------------------------------------ */

static int fill_log(struct records *r, struct batch *b, const struct blix_log_body *body,
		    uint64_t t_ns, struct batch_log *log)
{
	enum { INFO = 9 };

	log->unix_ns = records_clock_unix_ns(&r->clock, t_ns);
	log->observed_unix_ns = log->unix_ns; /* the node saw it happen */
	if (!is_zero(body->trace_id, sizeof(body->trace_id))) {
		memcpy(log->trace_id, body->trace_id, sizeof(log->trace_id));
		memcpy(log->span_id, body->span_id, sizeof(log->span_id));
	}
	log->flags = body->trace_flags;
	log->severity = body->severity >= 1 && body->severity <= 24 ? body->severity : INFO;
	r->counts->damaged += log->severity != body->severity;
	if (body->event_id == BLIX_NO_ID)
		return 0;
	return span_name(r, body->event_id, &b->memory, &log->event_name);
}

int records_log(struct records *r, const uint64_t *record, uint32_t n_words, struct batch *b)
{
	const uint8_t *bytes = (const uint8_t *)record;
	size_t len = (size_t)n_words * 8,
	       heads = sizeof(struct blix_record) + sizeof(struct blix_log_body);
	struct blix_log_body body;
	struct blix_record head;
	struct batch_log *log;
	int e;

	assert(b->signal == BATCH_LOGS && !b->sealed);

	if (len < heads) {
		r->counts->refused++;
		return -EBADMSG;
	}
	if (b->n == BATCH_ITEMS_MAX)
		return -ENOSPC;
	memcpy(&head, bytes, sizeof(head));
	memcpy(&body, bytes + sizeof(head), sizeof(body));
	log = &b->logs[b->n];
	e = fill_log(r, b, &body, head.t_ns, log);
	if (e == 0)
		e = records_take_items(r, bytes + heads, (uint32_t)(len - heads), &b->memory,
				       false);
	if (e == 0)
		e = records_place_attrs(&r->parts.attrs, &b->memory, body.dropped_attrs,
					&log->attrs);
	if (e < 0) {
		memset(log, 0, sizeof(*log)); /* for the next one */
		return e;
	}
	log->body = r->parts.body;
	log->priority = head.flags & BLIX_REC_PRIORITY;
	b->n++;
	return 0;
}
