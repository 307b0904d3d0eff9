/* agent/input/names.h - the texts behind string ids, kept for as long as the batches that use them.
 *
 * Records name spans, keys and events by ids into the file's string table; batches outlive the
 * file. So each text is copied once into the memory of the resource that every batch of this life
 * holds. When that is full (a hostile file, or very many names) a text goes into the batch itself.
 *
 * Thread rule: the loop thread. Includes: batch.h, shm/map.h, libc. */
#ifndef BLIX_AGENT_INPUT_NAMES_H
#define BLIX_AGENT_INPUT_NAMES_H

#include "agent/model/batch.h"
#include "shm/map.h"

struct names;

/* `map` and `resource` are borrowed until names_free(). NULL: no memory. */
struct names *names_new(struct blix_map *map, struct batch_resource *resource);
struct names *names_free(struct names *n); /* accepts NULL, returns NULL */

/* The text of `id`. `memory`: the batch that will use it.
 * 0; -ENOENT: there is none, or it is malformed; -ENOSPC, -ENOMEM: of arena_alloc(). */
int names_get(struct names *n, uint32_t id, struct arena *memory, struct batch_text *ret_text);

#endif
