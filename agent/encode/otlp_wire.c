/* agent/encode/otlp_wire.c - see otlp_wire.h. Pure; includes buf.h. */
#include "agent/encode/otlp_wire.h"

int wire_grow(struct wire *w, size_t len)
{
	struct buf *b = w->out;
	size_t before = b->capacity;

	if (!buf_grow(b, w->used + len))
		return -1;
	/* Its bytes came along with the rest of the old memory; their place is at the new end. */
	if (w->used)
		memmove(b->data + b->capacity - w->used, b->data + before - w->used, w->used);
	return 0;
}

void wire_end(struct wire *w)
{
	struct buf *b = w->out;

	if (b->failed || !w->used)
		return;
	memmove(b->data + b->len, b->data + b->capacity - w->used, w->used);
	buf_commit(b, w->used);
	w->used = 0;
}
