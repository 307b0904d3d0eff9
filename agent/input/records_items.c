/* agent/input/records_items.c - the items of spans and logs: attributes, events, links, texts.
 *
 * Nesting is what the format has and no more: an event or link in a span, an array in an attribute,
 * scalars in an array. Thread rule and includes: records_private.h. */
#include "agent/input/records_private.h"

#include "agent/input/utf8_text.h"
#include "shm/item.h"

#include <errno.h>
#include <string.h>

/* ---- lists ----------------------------------------------------------------------------------- */

int records_place(const void *from, uint32_t n, size_t size, struct arena *memory, void **ret_at)
{
	void *room = NULL;
	int e = n ? arena_take(memory, n * size, &room) : 0;

	if (e < 0)
		return e;
	if (n)
		memcpy(room, from, n * size);
	*ret_at = room;
	return 0;
}

int records_place_attrs(const struct records_attrs *list, struct arena *memory, uint32_t dropped,
			struct batch_attrs *ret_attrs)
{
	void *at;
	int e = records_place(list->at, list->n, sizeof(list->at[0]), memory, &at);

	if (e < 0)
		return e;
	*ret_attrs = (struct batch_attrs){at, list->n, dropped + list->dropped};
	return 0;
}

static bool same_text(const struct batch_text *a, const struct batch_text *b)
{
	return a->len == b->len && (a->at == b->at || memcmp(a->at, b->at, a->len) == 0);
}

void records_add_attr(struct records *r, struct records_attrs *list, const struct batch_attr *attr)
{
	for (uint32_t i = 0; i < list->n; i++)
		if (same_text(&list->at[i].key, &attr->key)) {
			list->at[i].value = attr->value;
			r->counts->overwritten++;
			return;
		}
	if (list->n < BATCH_ATTRS_MAX) {
		list->at[list->n++] = *attr;
		return;
	}
	list->dropped++;
	r->counts->cut++;
}

/* ---- values ---------------------------------------------------------------------------------- */

static bool is_attribute(uint8_t type)
{
	return type >= BLIX_ITEM_BOOL && type <= BLIX_ITEM_ARRAY;
}

static int take_text(struct records *r, const struct blix_item_seen *item, struct arena *memory,
		     struct batch_text *ret_text)
{
	return utf8_text(item->value, item->head.len, memory, &r->counts->repaired, ret_text);
}

/* A value that is one word. -EBADMSG: it is none. */
static int take_word(struct records *r, const struct blix_item_seen *item, struct arena *memory,
		     struct batch_value *ret_value)
{
	struct batch_text text;
	uint64_t word;
	int e;

	if (item->head.len != sizeof(word))
		return -EBADMSG;
	memcpy(&word, item->value, sizeof(word));
	switch (item->head.type) {
	case BLIX_ITEM_BOOL:
		*ret_value = (struct batch_value){BATCH_BOOL, 0, {.boolean = word != 0}};
		return 0;
	case BLIX_ITEM_I64:
		*ret_value = (struct batch_value){BATCH_I64, 0, {.i64 = (int64_t)word}};
		return 0;
	case BLIX_ITEM_F64:
		*ret_value = (struct batch_value){.type = BATCH_F64};
		memcpy(&ret_value->f64, &word, sizeof(word));
		return 0;
	default:
		e = word < BLIX_NO_ID ? names_get(r->names, (uint32_t)word, memory, &text)
				      : -ENOENT;
		if (e < 0)
			return e == -ENOENT ? -EBADMSG : e;
		*ret_value = (struct batch_value){BATCH_STRING, text.len, {.text = text.at}};
		return 0;
	}
}

static int take_scalar(struct records *r, const struct blix_item_seen *item, struct arena *memory,
		       struct batch_value *ret_value)
{
	struct batch_text text;
	int e;

	switch (item->head.type) {
	case BLIX_ITEM_BOOL:
	case BLIX_ITEM_I64:
	case BLIX_ITEM_F64:
	case BLIX_ITEM_STRING_ID:
		return take_word(r, item, memory, ret_value);
	case BLIX_ITEM_STRING:
		e = take_text(r, item, memory, &text);
		if (e == 0)
			*ret_value =
				(struct batch_value){BATCH_STRING, text.len, {.text = text.at}};
		return e;
	case BLIX_ITEM_BYTES:
		*ret_value = (struct batch_value){
			BATCH_BYTES, item->head.len, {.text = (const char *)item->value}};
		return 0;
	default:
		return -EBADMSG;
	}
}

/* An array is of one type throughout and has no arrays in it, or it is none. */
static int take_array(struct records *r, const struct blix_item_seen *item, struct arena *memory,
		      struct batch_value *ret_value)
{
	struct blix_items items = blix_items_of(item->value, item->head.len);
	struct blix_item_seen element;
	struct batch_value *at = NULL;
	uint32_t n = 0;
	void *room;
	int e = arena_alloc(memory, item->head.len / sizeof(struct blix_item) * sizeof(*at), &room);

	at = room;
	while (e == 0 && blix_items_next(&items, &element)) {
		e = take_scalar(r, &element, memory, &at[n]);
		if (e == 0 && at[n].type != at[0].type)
			e = -EBADMSG;
		n++;
	}
	if (e < 0 || items.left > 0)
		return e < 0 ? e : -EBADMSG;
	*ret_value = (struct batch_value){BATCH_ARRAY, n, {.array = at}};
	return 0;
}

static int take_attr(struct records *r, const struct blix_item_seen *item, struct arena *memory,
		     struct records_attrs *list)
{
	struct batch_attr attr;
	int e = names_get(r->names, item->head.key_id, memory, &attr.key);

	if (e == 0 && attr.key.len == 0)
		e = -EBADMSG;
	if (e == 0)
		e = item->head.type == BLIX_ITEM_ARRAY ? take_array(r, item, memory, &attr.value)
						       : take_scalar(r, item, memory, &attr.value);
	if (e == -EBADMSG || e == -ENOENT) {
		r->counts->damaged++;
		list->dropped++;
		return 0;
	}
	if (e == 0)
		records_add_attr(r, list, &attr);
	return e;
}

/* ---- parts with attributes of their own ------------------------------------------------------ */

/* The attributes behind an event's or link's head; *ret_trace_state where it may have one. */
static int take_inner(struct records *r, const struct blix_item_seen *part, size_t head_bytes,
		      struct arena *memory, struct batch_text *ret_trace_state)
{
	struct blix_items items =
		blix_items_of(part->value + head_bytes, (uint32_t)(part->head.len - head_bytes));
	struct blix_item_seen item;
	int e = 0;

	r->parts.inner.n = 0;
	r->parts.inner.dropped = 0;
	while (e == 0 && blix_items_next(&items, &item)) {
		if (is_attribute(item.head.type))
			e = take_attr(r, &item, memory, &r->parts.inner);
		else if (item.head.type == BLIX_ITEM_TRACESTATE && ret_trace_state)
			e = take_text(r, &item, memory, ret_trace_state);
	}
	r->counts->damaged += items.left > 0;
	return e;
}

static int take_event(struct records *r, const struct blix_item_seen *item, struct arena *memory)
{
	struct records_parts *p = &r->parts;
	struct batch_event event = {0};
	struct blix_event head;
	int e;

	if (item->head.len < sizeof(head)) {
		r->counts->damaged++;
		p->dropped_events++;
		return 0;
	}
	if (p->n_events == RECORDS_EVENTS_MAX) {
		r->counts->cut++;
		p->dropped_events++;
		return 0;
	}
	memcpy(&head, item->value, sizeof(head));
	event.unix_ns = records_clock_unix_ns(&r->clock, head.t_ns);
	e = names_get(r->names, item->head.key_id, memory, &event.name);
	if (e == -ENOENT) {
		r->counts->damaged++;
		event.name = (struct batch_text){"unknown", 7};
		e = 0;
	}
	if (e == 0)
		e = take_inner(r, item, sizeof(head), memory, NULL);
	if (e == 0)
		e = records_place_attrs(&p->inner, memory, head.dropped_attrs, &event.attrs);
	if (e == 0)
		p->events[p->n_events++] = event;
	return e;
}

static bool has_ids(const struct blix_link *link)
{
	uint8_t trace = 0, span = 0;

	for (size_t i = 0; i < sizeof(link->trace_id); i++)
		trace |= link->trace_id[i];
	for (size_t i = 0; i < sizeof(link->span_id); i++)
		span |= link->span_id[i];
	return trace && span;
}

static int take_link(struct records *r, const struct blix_item_seen *item, struct arena *memory)
{
	struct records_parts *p = &r->parts;
	struct batch_link link = {0};
	struct blix_link head = {0};
	int e;

	if (item->head.len >= sizeof(head))
		memcpy(&head, item->value, sizeof(head));
	if (!has_ids(&head)) { /* or cut short, and so still zero */
		r->counts->damaged++;
		p->dropped_links++;
		return 0;
	}
	if (p->n_links == RECORDS_LINKS_MAX) {
		r->counts->cut++;
		p->dropped_links++;
		return 0;
	}
	memcpy(link.trace_id, head.trace_id, sizeof(link.trace_id));
	memcpy(link.span_id, head.span_id, sizeof(link.span_id));
	link.flags = head.trace_flags | BATCH_FLAG_HAS_IS_REMOTE;
	if (head.link_flags & BLIX_SPAN_PARENT_REMOTE)
		link.flags |= BATCH_FLAG_IS_REMOTE;
	e = take_inner(r, item, sizeof(head), memory, &link.trace_state);
	if (e == 0)
		e = records_place_attrs(&p->inner, memory, head.dropped_attrs, &link.attrs);
	if (e == 0)
		p->links[p->n_links++] = link;
	return e;
}

/* ---- the run --------------------------------------------------------------------------------- */

static int take_part(struct records *r, const struct blix_item_seen *item, struct arena *memory,
		     bool is_span)
{
	switch (item->head.type) {
	case BLIX_ITEM_EVENT:
		return is_span ? take_event(r, item, memory) : 0;
	case BLIX_ITEM_LINK:
		return is_span ? take_link(r, item, memory) : 0;
	case BLIX_ITEM_STATUS:
		return take_text(r, item, memory, &r->parts.status);
	case BLIX_ITEM_TRACESTATE:
		return take_text(r, item, memory, &r->parts.trace_state);
	case BLIX_ITEM_BODY:
		return take_text(r, item, memory, &r->parts.body);
	default:
		return 0; /* of a newer minor */
	}
}

static void reset(struct records_parts *p)
{
	p->attrs.n = 0;
	p->attrs.dropped = 0;
	p->status = p->trace_state = p->body = (struct batch_text){"", 0};
	p->n_events = p->dropped_events = 0;
	p->n_links = p->dropped_links = 0;
}

int records_take_items(struct records *r, const void *run, uint32_t len, struct arena *memory,
		       bool is_span)
{
	struct blix_item_seen item;
	struct blix_items items;
	void *copy;
	int e;

	reset(&r->parts);
	if (len == 0)
		return 0;
	e = arena_take(memory, len, &copy); /* texts point into it */
	if (e < 0)
		return e;
	memcpy(copy, run, len);
	items = blix_items_of(copy, len);
	while (e == 0 && blix_items_next(&items, &item))
		e = is_attribute(item.head.type) ? take_attr(r, &item, memory, &r->parts.attrs)
						 : take_part(r, &item, memory, is_span);
	r->counts->damaged += items.left > 0;
	return e;
}
