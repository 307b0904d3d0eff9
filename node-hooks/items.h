/* node-hooks/items.h - append items (layout.h) to a run: in a span's slot, or on the stack.
 *
 * Words are stored one by one, each once: the run may be shared memory that somebody is looking at.
 * What does not fit is not begun. Thread rule: the run is the caller's. Includes: trace.h. */
#ifndef BLIX_HOOKS_ITEMS_H
#define BLIX_HOOKS_ITEMS_H

#include "trace.h"

typedef uint64_t __attribute__((may_alias)) blix_run_word;

struct blix_run {
	blix_run_word *words;
	uint32_t used; /* bytes, a multiple of 8 */
	uint32_t size;
};

/* The key of items that have none, as a handle. */
#define BLIX_NO_KEY ((blix_key){.id = 0})

static inline uint32_t blix_run_left(const struct blix_run *run)
{
	return run->size - run->used;
}

/* Store the head of an item of `len` bytes and return where its value goes. There must be room. */
static inline blix_run_word *blix_run_head(struct blix_run *run, blix_key key, uint8_t type,
					   uint8_t flags, uint32_t len)
{
	blix_run_word *at = run->words + run->used / 8;
	/* A struct blix_item as it lies in memory; the handle 0 is BLIX_NO_ID. */
	uint64_t head = (uint64_t)(key.id - 1) | (uint64_t)type << 32 | (uint64_t)flags << 40 |
			(uint64_t)len << 48;

	blix_store_data(at, head);
	run->used += (uint32_t)sizeof(struct blix_item) + ((len + 7) & ~7u);
	return at + 1;
}

/* `n` bytes, 1 to 7, as the first of a word: a call of memcpy() would cost more. */
static inline uint64_t blix_run_rest(const uint8_t *bytes, uint32_t n)
{
	uint32_t first;
	uint32_t last;

	if (n < 4)
		return (uint64_t)bytes[0] | (uint64_t)bytes[n / 2] << 8 * (n / 2) |
		       (uint64_t)bytes[n - 1] << 8 * (n - 1);
	memcpy(&first, bytes, 4);
	memcpy(&last, bytes + n - 4, 4);
	return first | (uint64_t)last << 8 * (n - 4);
}

/* The value of an item whose head is stored, with zeros up to a whole word. */
static inline void blix_run_bytes(blix_run_word *to, const void *from, uint32_t len)
{
	const uint8_t *bytes = from;
	uint64_t word;

	for (; len >= 8; len -= 8, bytes += 8) {
		memcpy(&word, bytes, 8);
		blix_store_data(to++, word);
	}
	if (len > 0)
		blix_store_data(to, blix_run_rest(bytes, len));
}

/* Append a whole item, or nothing. */
bool blix_run_put(struct blix_run *run, blix_key key, uint8_t type, uint8_t flags,
		  const void *value, uint32_t len);

/* Append text, cut between two characters to `max_chars` and to what is left. False: nothing of it
 * fits. */
bool blix_run_text(struct blix_run *run, blix_key key, uint8_t type, const char *text, uint64_t len,
		   uint32_t max_chars);

/* Append an attribute. False: dropped. */
bool blix_run_attr(struct blix_run *run, const struct blix_attr *attr, uint32_t max_chars);

/* Append attributes, at most `max`. Returns how many were dropped. */
uint32_t blix_run_attrs(struct blix_run *run, const struct blix_attr *attrs, size_t n, uint32_t max,
			uint32_t max_chars);

static inline uint16_t blix_add_u16(uint16_t to, uint64_t n)
{
	return n > (uint64_t)(UINT16_MAX - to) ? UINT16_MAX : (uint16_t)(to + n);
}

#endif
