/* test/support/tiny_file.h - a telemetry file of a few pages, for tests of ring, slots and lanes.
 *
 * Laid out by hand as tightly as the format allows, so that a test can copy and compare all of it
 * thousands of times a second, and so that these tests stand without format.c. Also records and
 * spans whose every byte can be checked from their number alone. */
#ifndef TEST_SUPPORT_TINY_FILE_H
#define TEST_SUPPORT_TINY_FILE_H

#include "shm/ring.h"
#include "shm/slot.h"

enum {
	TINY_RING_BYTES = BLIX_RING_BYTES_MIN,
	TINY_RECORD_WORDS_MAX = TINY_RING_BYTES / 8 / 8,
	TINY_BODY_WORDS_MAX = 44,
};

struct tiny_file {
	struct blix_view view;
	int fd; /* a memfd: map it again for a second opinion */
};

/* Shared memory that survives fork. Aborts when there is none: a test cannot go on. */
struct tiny_file tiny_file_new(uint32_t lanes, uint32_t slots, uint32_t slots0);
void tiny_file_done(struct tiny_file *file);

/* The same file seen through another mapping of it, or a copy of its bytes. */
struct blix_view tiny_view_at(const struct blix_view *view, void *base);

/* A deterministic mixer: every test that needs "random" content takes it from here. */
uint64_t tiny_hash(uint64_t x);

/* Body of record `id`: its length and each word follow from the id. */
uint32_t tiny_body(uint64_t id, uint64_t words[TINY_BODY_WORDS_MAX]);

/* A record as blix_ring_next() gave it: is its body exactly that of some id? */
bool tiny_record_ok(const uint64_t *record, int n_words, uint64_t *ret_id);

/* An entry with body `id` in `words`, which must outlive it. */
struct blix_ring_entry tiny_entry(uint64_t id, uint16_t type, uint16_t flags,
				  uint64_t words[TINY_BODY_WORDS_MAX]);

/* The head of span `id`, and whether a recovered slot is whole and which span it holds. */
struct blix_slot_head tiny_head(uint64_t id, uint32_t tid);
bool tiny_slot_ok(const struct blix_span_slot *slot, uint64_t *ret_id);

#endif
