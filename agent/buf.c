/* agent/buf.c - bytes with a hard maximum. libc only; one thread at a time a buffer. */
#include "agent/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUF_CAPACITY_MIN = 4096, BUF_FORMAT_BYTES = 512 };

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){.max = max};
}

void buf_done(struct buf *b)
{
	free(b->data);
	*b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
}

uint8_t *buf_grow(struct buf *b, size_t len)
{
	size_t capacity = b->capacity ? b->capacity : BUF_CAPACITY_MIN;
	uint8_t *data;

	if (b->failed)
		return NULL;
	if (len > b->max - b->len) {
		b->failed = true;
		return NULL;
	}
	while (capacity - b->len < len)
		capacity = capacity > b->max / 2 ? b->max : capacity * 2;
	if (capacity > b->max)
		capacity = b->max;
	data = realloc(b->data, capacity ? capacity : 1);
	if (!data) {
		b->failed = true;
		return NULL;
	}
	b->data = data;
	b->capacity = capacity;
	return b->data + b->len;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
	uint8_t *at;

	if (!len)
		return;
	at = buf_room(b, len);
	if (!at)
		return;
	memcpy(at, data, len);
	buf_commit(b, len);
}

void buf_adds(struct buf *b, const char *text)
{
	buf_add(b, text, strlen(text));
}

void buf_addf(struct buf *b, const char *format, ...)
{
	char small[BUF_FORMAT_BYTES];
	va_list args;
	uint8_t *at;
	int len;

	va_start(args, format);
	len = vsnprintf(small, sizeof(small), format, args);
	va_end(args);
	if (len < 0) {
		b->failed = true;
		return;
	}
	if ((size_t)len < sizeof(small)) {
		buf_add(b, small, (size_t)len);
		return;
	}
	/* One byte more, for the terminator that vsnprintf always writes. */
	at = buf_room(b, (size_t)len + 1);
	if (!at)
		return;
	va_start(args, format);
	(void)vsnprintf((char *)at, (size_t)len + 1, format, args);
	va_end(args);
	buf_commit(b, (size_t)len);
}
