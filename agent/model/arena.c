/* agent/model/arena.c - memory that is given back all at once. libc only; one thread at a time. */
#include "agent/model/arena.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_CHUNK_BYTES = 65536, ARENA_ALIGN = 16 };

struct arena_chunk {
	struct arena_chunk *next;
	uint64_t capacity; /* and keeps data[] aligned to ARENA_ALIGN */
	unsigned char data[];
};

void arena_init(struct arena *a, size_t max)
{
	*a = (struct arena){.max = max};
}

void arena_init_pooled(struct arena *a, size_t max, struct arena_pool *pool)
{
	*a = (struct arena){.max = max, .pool = pool};
}

/* ---- the pool -------------------------------------------------------------------------------- */

#ifdef __SANITIZE_ADDRESS__
enum { POOLS_KEEP = false };
#else
enum { POOLS_KEEP = true };
#endif

static bool keep(struct arena_pool *pool, struct arena_chunk *chunk)
{
	if (!POOLS_KEEP || !pool || pool->n >= pool->max ||
	    chunk->capacity != ARENA_POOL_CHUNK_BYTES)
		return false;
	chunk->next = pool->chunks;
	pool->chunks = chunk;
	pool->n++;
	return true;
}

static struct arena_chunk *take_kept(struct arena_pool *pool, size_t capacity)
{
	struct arena_chunk *chunk = pool->chunks;

	if (!chunk || capacity != ARENA_POOL_CHUNK_BYTES)
		return NULL;
	pool->chunks = chunk->next;
	pool->n--;
	return chunk;
}

void arena_pool_drain(struct arena_pool *pool)
{
	struct arena_chunk *chunk;

	while ((chunk = take_kept(pool, ARENA_POOL_CHUNK_BYTES)))
		free(chunk);
}

/* ---- chunks ---------------------------------------------------------------------------------- */

void arena_done(struct arena *a)
{
	while (a->chunks) {
		struct arena_chunk *next = a->chunks->next;

		if (!keep(a->pool, a->chunks))
			free(a->chunks);
		a->chunks = next;
	}
	arena_init_pooled(a, a->max, a->pool);
}

/* With a pool it was used before, or soon will have been: it is zeroed piece by piece. */
static struct arena_chunk *new_chunk(struct arena *a, size_t capacity)
{
	struct arena_chunk *chunk = a->pool ? take_kept(a->pool, capacity) : NULL;
	size_t bytes = sizeof(*chunk) + capacity + ARENA_SLACK;

	if (!chunk)
		chunk = a->pool ? malloc(bytes) : calloc(1, bytes);
	if (chunk)
		chunk->capacity = capacity;
	return chunk;
}

static int add_chunk(struct arena *a, size_t len)
{
	size_t usual = a->pool ? ARENA_POOL_CHUNK_BYTES : ARENA_CHUNK_BYTES;
	size_t capacity = len > usual ? len : usual;
	struct arena_chunk *chunk;

	if (capacity > a->max - a->total)
		return -ENOSPC;
	chunk = new_chunk(a, capacity);
	if (!chunk)
		return -ENOMEM;
	chunk->next = a->chunks;
	a->chunks = chunk;
	a->used = 0;
	a->capacity = capacity;
	a->total += capacity;
	return 0;
}

/* ---- allocations ----------------------------------------------------------------------------- */

int arena_take(struct arena *a, size_t len, void **ret_memory)
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

int arena_alloc(struct arena *a, size_t len, void **ret_memory)
{
	int err = arena_take(a, len, ret_memory);

	if (err == 0 && a->pool)
		memset(*ret_memory, 0, len);
	return err;
}
