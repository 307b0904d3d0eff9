/* agent/model/arena.c - memory that is given back all at once. libc only; one thread at a time. */
#include "agent/model/arena.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

enum { ARENA_CHUNK_BYTES = 65536, ARENA_ALIGN = 16 };

struct arena_chunk {
	struct arena_chunk *next;
	uint64_t pad; /* keeps data[] aligned to ARENA_ALIGN */
	unsigned char data[];
};

void arena_init(struct arena *a, size_t max)
{
	*a = (struct arena){.max = max};
}

void arena_done(struct arena *a)
{
	while (a->chunks) {
		struct arena_chunk *next = a->chunks->next;

		free(a->chunks);
		a->chunks = next;
	}
	arena_init(a, a->max);
}

static int add_chunk(struct arena *a, size_t len)
{
	size_t capacity = len > ARENA_CHUNK_BYTES ? len : ARENA_CHUNK_BYTES;
	struct arena_chunk *chunk;

	if (capacity > a->max - a->total)
		return -ENOSPC;
	chunk = calloc(1, sizeof(*chunk) + capacity + ARENA_SLACK);
	if (!chunk)
		return -ENOMEM;
	chunk->next = a->chunks;
	a->chunks = chunk;
	a->used = 0;
	a->capacity = capacity;
	a->total += capacity;
	return 0;
}

int arena_alloc(struct arena *a, size_t len, void **ret_memory)
{
	int err;

	if (len > a->max)
		return -ENOSPC;
	len = (len + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
	if (a->capacity - a->used < len) {
		err = add_chunk(a, len);
		if (err)
			return err;
	}
	*ret_memory = a->chunks->data + a->used;
	a->used += len;
	return 0;
}
