/* test/support/bin/span_dump.c - every span and log record in the rings of a telemetry file, as JSON.
 *
 * span_dump PATH: one object a line. A span: {"kind": "span", "name", "trace", "span", "parent",
 * "span_kind", "remote", "start", "end", "status", "text", "attributes": {...}, "events": [name...],
 * "links": ["trace:span"...]}. A log: {"kind": "log", "event", "body",
 * "trace", "span", "severity", "attributes"}. It reads what is there without acknowledging it, so it
 * disturbs nobody; what an agent has had overwritten is gone. Written against layout.h and item.h
 * alone, so that tests do not see spans with the eyes of the agent. Exit 1 with the reader's reason
 * when the file cannot be opened. */
#include "shm/item.h"
#include "shm/layout.h"
#include "shm/map.h"
#include "shm/ring.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUF_WORDS = 8192 };

static const struct blix_view *view;

static json_t *text(const void *bytes, size_t len)
{
	json_t *string = json_stringn(bytes, len);

	return string ? string : json_string("(not UTF-8)");
}

/* A string id is its place in the table, in words of 8 bytes: a length of two bytes, and the text. */
static json_t *string_of(uint32_t id)
{
	uint64_t off = (uint64_t)id * 8;
	uint16_t len;

	if (id == BLIX_NO_ID || off + sizeof(len) > view->strings_len)
		return json_string("");
	memcpy(&len, view->base + view->strings_off + off, sizeof(len));
	if (off + sizeof(len) + len > view->strings_len)
		return json_string("(out of range)");
	return text(view->base + view->strings_off + off + sizeof(len), len);
}

static json_t *hex(const uint8_t *bytes, size_t n)
{
	char digits[2 * 16 + 1];

	for (size_t i = 0; i < n; i++)
		snprintf(digits + 2 * i, 3, "%02x", bytes[i]);
	return json_string(digits);
}

static json_t *value_of(const struct blix_item_seen *item)
{
	uint64_t word = 0;
	double real;

	if (item->head.type == BLIX_ITEM_STRING || item->head.type == BLIX_ITEM_BYTES)
		return text(item->value, item->head.len);
	if (item->head.len == sizeof(word))
		memcpy(&word, item->value, sizeof(word));
	memcpy(&real, &word, sizeof(real));
	switch (item->head.type) {
	case BLIX_ITEM_BOOL:
		return json_boolean(word);
	case BLIX_ITEM_I64:
		return json_integer((json_int_t)word);
	case BLIX_ITEM_F64:
		return json_real(real);
	case BLIX_ITEM_STRING_ID:
		return string_of((uint32_t)word);
	default:
		return NULL;
	}
}

static json_t *link_of(const struct blix_item_seen *item)
{
	struct blix_link link;
	char ids[2 * (16 + 8) + 2] = "";

	if (item->head.len < sizeof(link))
		return json_string("(short)");
	memcpy(&link, item->value, sizeof(link));
	for (size_t i = 0; i < sizeof(link.trace_id); i++)
		snprintf(ids + 2 * i, 3, "%02x", link.trace_id[i]);
	ids[32] = ':';
	for (size_t i = 0; i < sizeof(link.span_id); i++)
		snprintf(ids + 33 + 2 * i, 3, "%02x", link.span_id[i]);
	return json_string(ids);
}

static void add_items(json_t *object, const void *run, size_t len)
{
	json_t *attributes = json_object(), *events = json_array(), *links = json_array();
	struct blix_items items = blix_items_of(run, (uint32_t)len);
	struct blix_item_seen item;

	while (blix_items_next(&items, &item)) {
		json_t *value = value_of(&item);

		if (value) {
			json_t *key = string_of(item.head.key_id);
			json_object_set_new(attributes, json_string_value(key), value);
			json_decref(key);
		} else if (item.head.type == BLIX_ITEM_EVENT) {
			json_array_append_new(events, string_of(item.head.key_id));
		} else if (item.head.type == BLIX_ITEM_LINK) {
			json_array_append_new(links, link_of(&item));
		} else if (item.head.type == BLIX_ITEM_STATUS) {
			json_object_set_new(object, "text", text(item.value, item.head.len));
		} else if (item.head.type == BLIX_ITEM_BODY) {
			json_object_set_new(object, "body", text(item.value, item.head.len));
		}
	}
	json_object_set_new(object, "attributes", attributes);
	json_object_set_new(object, "events", events);
	json_object_set_new(object, "links", links);
}

static void print(json_t *object)
{
	json_dumpf(object, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(object);
}

static json_t *span_of(const struct blix_span_body *body)
{
	json_t *object = json_object();

	json_object_set_new(object, "kind", json_string("span"));
	json_object_set_new(object, "name", string_of(body->name_id));
	json_object_set_new(object, "trace", hex(body->trace_id, sizeof(body->trace_id)));
	json_object_set_new(object, "span", hex(body->span_id, sizeof(body->span_id)));
	json_object_set_new(object, "parent", hex(body->parent_id, sizeof(body->parent_id)));
	json_object_set_new(object, "span_kind", json_integer(body->kind));
	json_object_set_new(object, "remote",
			    json_boolean(body->span_flags & BLIX_SPAN_PARENT_REMOTE));
	json_object_set_new(object, "start", json_integer((json_int_t)body->start_ns));
	json_object_set_new(object, "end", json_integer((json_int_t)body->end_ns));
	json_object_set_new(object, "status", json_integer(body->status));
	json_object_set_new(
		object, "dropped",
		json_integer(body->dropped_attrs + body->dropped_events + body->dropped_links));
	return object;
}

static void print_log(const uint8_t *bytes, size_t len)
{
	struct blix_log_body body;
	json_t *object = json_object();

	memcpy(&body, bytes, sizeof(body));
	json_object_set_new(object, "kind", json_string("log"));
	json_object_set_new(object, "event", string_of(body.event_id));
	json_object_set_new(object, "trace", hex(body.trace_id, sizeof(body.trace_id)));
	json_object_set_new(object, "span", hex(body.span_id, sizeof(body.span_id)));
	json_object_set_new(object, "severity", json_integer(body.severity));
	add_items(object, bytes + sizeof(body), len - sizeof(body));
	print(object);
}

static void print_record(const uint64_t *words)
{
	struct blix_record head;
	const uint8_t *bytes = (const uint8_t *)words + sizeof(head);
	struct blix_span_body body;

	memcpy(&head, words, sizeof(head));
	size_t len = head.size - sizeof(head);
	if (head.type == BLIX_REC_SPAN && len >= sizeof(body)) {
		memcpy(&body, bytes, sizeof(body));
		json_t *object = span_of(&body);
		add_items(object, bytes + sizeof(body), len - sizeof(body));
		print(object);
	} else if (head.type == BLIX_REC_LOG && len >= sizeof(struct blix_log_body)) {
		print_log(bytes, len);
	}
}

static void print_lane(uint32_t lane)
{
	static uint64_t buf[BUF_WORDS];
	struct blix_ring_reader reader;

	blix_ring_reader_init(&reader, view, lane);
	for (;;) {
		int n = blix_ring_next(&reader, buf, BUF_WORDS);

		if (n > 0)
			print_record(buf);
		else if (n == 0 || n == -ENOTRECOVERABLE)
			return;
	}
}

int main(int argc, char **argv)
{
	char reason[BLIX_REASON_MAX];
	struct blix_map *map;

	if (argc != 2) {
		fprintf(stderr, "usage: span_dump PATH\n");
		return 2;
	}
	if (blix_map_open(argv[1], &(struct blix_map_options){0}, &map, reason) ||
	    blix_map_refresh(map)) {
		fprintf(stderr, "span_dump: %s: %s\n", argv[1], reason);
		return 1;
	}
	view = blix_map_view(map);
	for (uint32_t lane = 0; lane < view->n_lanes; lane++)
		print_lane(lane);
	blix_map_close(map);
	return 0;
}
