/* test/support/file_records.c - see records.h. */
#include "file_records.h"

#include "shm/ring.h"
#include "shm/slot.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUF_WORDS = 512 };

static struct record_read *add(struct file_records *r)
{
	struct record_read *to;

	if (r->n == RECORDS_MAX)
		errx(1, "more than %d records", RECORDS_MAX);
	to = &r->of[r->n++];
	memset(to, 0, sizeof(*to));
	return to;
}

static void take_record(struct file_records *r, uint32_t lane, const uint64_t *buf,
			uint32_t n_words)
{
	struct record_read *to = add(r);
	struct blix_record head;
	size_t body_len;

	memcpy(&head, buf, sizeof(head));
	to->type = head.type;
	to->flags = head.flags;
	to->lane = lane;
	to->seq = head.seq;
	to->t_ns = head.t_ns;
	body_len = head.type == BLIX_REC_SPAN ? sizeof(to->span) : sizeof(to->log);
	memcpy(head.type == BLIX_REC_SPAN ? (void *)&to->span : (void *)&to->log,
	       buf + sizeof(head) / 8, body_len);
	to->items_len = n_words * 8 - (uint32_t)(sizeof(head) + body_len);
	if (to->items_len > RECORD_ITEMS_MAX)
		errx(1, "a record of %u bytes of items", to->items_len);
	memcpy(to->items, (const uint8_t *)buf + sizeof(head) + body_len, to->items_len);
}

static void take_slot(void *arg, uint32_t lane, uint32_t index, enum blix_slot_state state,
		      const struct blix_span_slot *slot)
{
	struct record_read *to = add(arg);

	(void)index;
	(void)state;
	to->type = BLIX_REC_SPAN;
	to->open = true;
	to->lane = lane;
	memcpy(to->span.trace_id, slot->trace_id, 16);
	memcpy(to->span.span_id, slot->span_id, 8);
	memcpy(to->span.parent_id, slot->parent_id, 8);
	to->span.start_ns = slot->start_ns;
	to->span.name_id = slot->name_id;
	to->span.kind = slot->kind;
	to->span.status = slot->status;
	to->span.trace_flags = slot->trace_flags;
	to->span.span_flags = (uint8_t)slot->span_flags;
	to->span.dropped_attrs = slot->dropped_attrs;
	to->items_len = slot->used_bytes;
	if (to->items_len > sizeof(slot->data))
		errx(1, "a slot with %u bytes", to->items_len);
	memcpy(to->items, slot->data, to->items_len);
}

struct file_records file_records_read(const char *path)
{
	struct file_records r = {.of = calloc(RECORDS_MAX, sizeof(struct record_read))};
	char reason[BLIX_REASON_MAX] = "";
	const struct blix_view *view;
	uint64_t buf[BUF_WORDS];
	int n;

	if (!r.of || blix_map_open(path, &(struct blix_map_options){0}, &r.map, reason) < 0 ||
	    blix_map_refresh(r.map) < 0)
		errx(1, "%s: %s", path, reason);
	view = blix_map_view(r.map);
	for (uint32_t lane = 0; lane < view->n_lanes; lane++) {
		struct blix_ring_reader reader;

		blix_ring_reader_init(&reader, view, lane);
		while ((n = blix_ring_next(&reader, buf, BUF_WORDS)) != 0) {
			if (n < 0)
				errx(1, "lane %u: %d", lane, n);
			take_record(&r, lane, buf, (uint32_t)n);
		}
		r.lost += reader.lost;
	}
	(void)blix_slots_recover(view, take_slot, &r);
	return r;
}

void file_records_free(struct file_records *r)
{
	r->map = blix_map_close(r->map);
	free(r->of);
	r->of = NULL;
}

const char *file_records_string(const struct file_records *r, uint32_t id)
{
	static char texts[4][256];
	static unsigned int turn;
	const struct blix_view *view = blix_map_view(r->map);
	const uint8_t *at = view->base + view->strings_off + (uint64_t)id * 8;
	char *text = texts[turn++ % 4];
	uint16_t len;

	if (id == BLIX_NO_ID)
		return "";
	if ((uint64_t)id * 8 + 2 > blix_view_header(view)->reg_strings_len)
		return "(dangling)";
	memcpy(&len, at, sizeof(len));
	snprintf(text, sizeof(texts[0]), "%.*s", (int)len, (const char *)at + 2);
	return text;
}

struct blix_items file_records_items(const struct record_read *record)
{
	return blix_items_of(record->items, record->items_len);
}

bool file_records_item(const struct file_records *r, struct blix_items run, uint8_t type,
		       const char *key, uint32_t n, struct blix_item_seen *ret_item)
{
	struct blix_item_seen item;

	while (blix_items_next(&run, &item)) {
		if (item.head.type != type ||
		    (key && strcmp(file_records_string(r, item.head.key_id), key) != 0))
			continue;
		if (n-- == 0) {
			*ret_item = item;
			return true;
		}
	}
	if (run.left > 0)
		errx(1, "the run ends in %u bytes that are no item", run.left);
	return false;
}

const struct record_read *file_records_span(const struct file_records *r, const char *name,
					    uint32_t n)
{
	for (uint32_t i = 0; i < r->n; i++)
		if (r->of[i].type == BLIX_REC_SPAN &&
		    strcmp(file_records_string(r, r->of[i].span.name_id), name) == 0 && n-- == 0)
			return &r->of[i];
	return NULL;
}

const struct record_read *file_records_log(const struct file_records *r, const char *body,
					   uint32_t n)
{
	for (uint32_t i = 0; i < r->n; i++) {
		struct blix_item_seen item;

		if (r->of[i].type == BLIX_REC_LOG &&
		    file_records_item(r, file_records_items(&r->of[i]), BLIX_ITEM_BODY, NULL, 0,
				      &item) &&
		    item.head.len == strlen(body) && memcmp(item.value, body, item.head.len) == 0 &&
		    n-- == 0)
			return &r->of[i];
	}
	return NULL;
}

bool file_records_text(const struct file_records *r, const struct record_read *record,
		       const char *key, char *ret_text, size_t size)
{
	struct blix_item_seen item;

	if (!file_records_item(r, file_records_items(record), BLIX_ITEM_STRING, key, 0, &item))
		return false;
	snprintf(ret_text, size, "%.*s", (int)item.head.len, (const char *)item.value);
	return true;
}

bool file_records_word(const struct file_records *r, const struct record_read *record, uint8_t type,
		       const char *key, uint64_t *ret_word)
{
	struct blix_item_seen item;

	if (!file_records_item(r, file_records_items(record), type, key, 0, &item) ||
	    item.head.len != 8)
		return false;
	memcpy(ret_word, item.value, 8);
	return true;
}
