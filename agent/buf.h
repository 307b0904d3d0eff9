/* agent/buf.h - bytes with a hard maximum.
 *
 * Encoders append; nobody checks each append. The first one that does not fit, or finds no memory,
 * marks the buffer failed; later appends do nothing; the owner looks once, at the end. Includes
 * libc only. Thread rule: one thread at a time a buffer. */
#ifndef BLIX_AGENT_BUF_H
#define BLIX_AGENT_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buf {
	uint8_t *data;
	size_t len;
	size_t capacity;
	size_t max;  /* never grows beyond */
	bool failed; /* an append did not fit: data is incomplete and must not be used */
};

/* Caller's storage; buf_done() frees what it grew. */
void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b);
/* Forget the content, keep the memory. */
void buf_clear(struct buf *b);

/* Room for `len` more bytes: pointer to write them at, then buf_commit() how many were written.
 * NULL once the buffer has failed. */
uint8_t *buf_grow(struct buf *b, size_t len); /* slow path of buf_room */
static inline uint8_t *buf_room(struct buf *b, size_t len)
{
	return !b->failed && b->capacity - b->len >= len ? b->data + b->len : buf_grow(b, len);
}
static inline void buf_commit(struct buf *b, size_t len)
{
	b->len += len;
}

void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *text);
void buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
