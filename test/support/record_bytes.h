/* test/support/record_bytes.h - spans and logs written by hand, byte by byte as layout.h says.
 *
 * Independent of the hooks and of the agent's decoder on purpose. Thread rule: one thread a value.
 * Includes: shm/, shm_file.h. */
#ifndef BLIX_TEST_RECORD_BYTES_H
#define BLIX_TEST_RECORD_BYTES_H

#include "shm/ring.h"
#include "shm/slot.h"
#include "test/support/shm_file.h"

enum { RECORD_BYTES_MAX = 60000 };

/* A run of items, or a whole body with items behind it. Zeroed memory is empty. */
struct record_bytes {
	uint32_t len;
	_Alignas(8) uint8_t at[RECORD_BYTES_MAX];
};

void record_put(struct record_bytes *r, const void *bytes, uint32_t len); /* as it is */
void record_item(struct record_bytes *r, uint8_t type, uint32_t key_id, const void *value,
		 uint32_t len); /* head, value, padding */
void record_word(struct record_bytes *r, uint8_t type, uint32_t key_id, uint64_t word);
void record_text(struct record_bytes *r, uint8_t type, uint32_t key_id, const char *text);

/* A span body whose ids are made of `n` (not 0); 1 us long, ends at end_ns. */
struct blix_span_body record_span_body(uint64_t n, uint32_t name_id, uint64_t end_ns);
void record_span(struct record_bytes *r, uint64_t n, uint32_t name_id, uint64_t end_ns);
void record_log(struct record_bytes *r, uint8_t severity, const char *body);

/* Commit it to a ring; BLIX_DROP_NONE or the drop reason. */
int record_write(struct blix_ring_writer *writer, uint16_t type, uint16_t flags, uint64_t t_ns,
		 const struct record_bytes *r, bool listening);

/* The words of the whole record as a reader gets them; returns how many. `words` holds
 * RECORD_BYTES_MAX / 8 + 3. */
uint32_t record_words(uint16_t type, uint16_t flags, uint64_t seq, uint64_t t_ns,
		      const struct record_bytes *r, uint64_t *words);

/* Leave a span open in a slot of `lane`, with these items. */
void record_open_span(struct shm_file *f, uint32_t lane, uint64_t n, uint32_t name_id,
		      uint64_t start_ns, const struct record_bytes *items);

#endif
