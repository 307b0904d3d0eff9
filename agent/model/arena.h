/* agent/model/arena.h - memory that is given back all at once, for the strings of a model.
 *
 * Every allocation is aligned for a pointer and followed by ARENA_SLACK readable bytes, so that a
 * reader may copy in wide blocks. Bounded. One thread at a time. Includes libc only.
 *
 * Arenas that come and go may share a pool: a few chunks are kept for the next one, because giving
 * memory back to the kernel and faulting it in again costs more than what is done with it. */
#ifndef BLIX_AGENT_MODEL_ARENA_H
#define BLIX_AGENT_MODEL_ARENA_H

#include <stddef.h>
#include <stdint.h>

enum { ARENA_SLACK = 32 };

struct arena_chunk;

/* Zeroed memory is an empty pool that keeps nothing. Under AddressSanitizer none does, so that what
 * was given back stays forbidden. */
struct arena_pool {
	struct arena_chunk *chunks;
	uint32_t n;
	uint32_t max; /* chunks kept, of ARENA_POOL_CHUNK_BYTES */
};
enum { ARENA_POOL_CHUNK_BYTES = 128 << 10 };

struct arena {
	struct arena_pool *pool;    /* NULL: none */
	struct arena_chunk *chunks; /* the first one is being filled */
	size_t used;		    /* of the first chunk */
	size_t capacity;
	size_t total; /* bytes taken from the system */
	size_t max;
};

void arena_init(struct arena *a, size_t max);
/* `pool` is borrowed until arena_done(), and is used by the same thread. */
void arena_init_pooled(struct arena *a, size_t max, struct arena_pool *pool);
void arena_done(struct arena *a);		/* may be used again */
void arena_pool_drain(struct arena_pool *pool); /* give back what it keeps */

/* Zeroed memory. 0, or -ENOSPC (max reached), -ENOMEM. */
int arena_alloc(struct arena *a, size_t len, void **ret_memory);
/* The same, of unknown content, for what is written at once. */
int arena_take(struct arena *a, size_t len, void **ret_memory);

#endif
