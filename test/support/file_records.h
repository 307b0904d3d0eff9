/* test/support/file_records.h - what a telemetry file holds of spans and logs, read for tests.
 *
 * Spans and logs in the rings, in the order of their lanes, and the spans open in slots. Thread
 * rule: none, one call at a time. Includes: shm/. */
#ifndef BLIX_TEST_SUPPORT_FILE_RECORDS_H
#define BLIX_TEST_SUPPORT_FILE_RECORDS_H

#include "shm/item.h"
#include "shm/map.h"

enum { RECORDS_MAX = 4096, RECORD_ITEMS_MAX = 2048 };

struct record_read {
	uint16_t type; /* enum blix_record_type */
	uint16_t flags;
	bool open; /* a span in its slot: end_ns is 0 */
	uint32_t lane;
	uint64_t seq;
	uint64_t t_ns;
	struct blix_span_body span; /* if a span */
	struct blix_log_body log;   /* if a log */
	uint32_t items_len;
	uint8_t items[RECORD_ITEMS_MAX];
};

struct file_records {
	struct blix_map *map;
	uint32_t n;
	uint64_t lost;
	struct record_read *of;
};

/* Read the file at `path` now. Ends the program with a message if it cannot be. */
struct file_records file_records_read(const char *path);
void file_records_free(struct file_records *records);

/* The string behind an id; "" for BLIX_NO_ID. Static memory, four at a time. */
const char *file_records_string(const struct file_records *records, uint32_t id);

/* The n-th span, or log, whose name, or body, is `text`; NULL. */
const struct record_read *file_records_span(const struct file_records *records, const char *name,
					    uint32_t n);
const struct record_read *file_records_log(const struct file_records *records, const char *body,
					   uint32_t n);

/* The n-th item of a type, in a record or in the value of another item; with `key` of that key
 * only. False: none. *ret_item points into the record. */
bool file_records_item(const struct file_records *records, struct blix_items run, uint8_t type,
		       const char *key, uint32_t n, struct blix_item_seen *ret_item);
struct blix_items file_records_items(const struct record_read *record);

/* Attributes: the text of a string, the word of a number. False: none of this type and key. */
bool file_records_text(const struct file_records *records, const struct record_read *record,
		       const char *key, char *ret_text, size_t size);
bool file_records_word(const struct file_records *records, const struct record_read *record,
		       uint8_t type, const char *key, uint64_t *ret_word);

#endif
