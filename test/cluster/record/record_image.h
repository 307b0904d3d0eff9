/* record_image.h - what the node tells the world about images, named for what happened: record.h's
 * rules. Any thread.
 *
 * A transfer is seen by both of its nodes: one sends, one receives. Chunks moved and spared are
 * counted by the one that receives. */
#ifndef CLUSTER_RECORD_IMAGE_H
#define CLUSTER_RECORD_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum image_direction { IMAGE_SEND, IMAGE_RECEIVE, IMAGE_DIRECTIONS };

/* Once, from the main thread, after record_open(). */
void record_image_open(void);

void record_image_begun(void);
void record_image_ended(enum image_direction direction, bool good, uint64_t duration_ns);
void record_image_bytes(enum image_direction direction, size_t bytes);
void record_image_chunk_moved(void);
void record_image_chunks_spared(size_t n);

/* A chunk was looked for in the cache. */
void record_image_cache(bool hit);

/* A received image was compared with its digests. */
void record_image_verified(bool good);

#endif
