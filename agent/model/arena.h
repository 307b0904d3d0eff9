/* agent/model/arena.h - memory that is given back all at once, for the strings of a model.
 *
 * Every allocation is aligned for a pointer, zeroed, and followed by ARENA_SLACK readable bytes,
 * so that a reader may copy in wide blocks. Bounded. One thread at a time. Includes libc only. */
#ifndef BLIX_AGENT_MODEL_ARENA_H
#define BLIX_AGENT_MODEL_ARENA_H

#include <stddef.h>

enum { ARENA_SLACK = 32 };

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks; /* the first one is being filled */
	size_t used;		    /* of the first chunk */
	size_t capacity;
	size_t total; /* bytes taken from the system */
	size_t max;
};

void arena_init(struct arena *a, size_t max);
void arena_done(struct arena *a); /* may be used again */

/* 0, or -ENOSPC (max reached), -ENOMEM. */
int arena_alloc(struct arena *a, size_t len, void **ret_memory);

#endif
