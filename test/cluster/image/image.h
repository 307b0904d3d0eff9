/* image.h - what an image is: a name, a length, the digest of the whole and those of its chunks.
 * Pure, any thread. */
#ifndef CLUSTER_IMAGE_H
#define CLUSTER_IMAGE_H

#include "chunk_digest.h"
#include "test/cluster/limits.h"
#include "proto/blixard_cluster.pb-c.h"

struct image {
	char name[IMAGE_NAME_MAX + 1];
	uint64_t size;
	struct digest digest;
	size_t n_chunks;
	struct digest chunks[]; /* all of CHUNK_BYTES but the last */
};

/* May an image, or a file to share, be called so? Letters, digits, '.', '_' and '-', not starting
 * with a dot: names become names of files. */
bool image_name_is_good(const char *name);

/* 0: no image is that long, or of no length. */
size_t image_chunks_of(uint64_t size);

/* Of chunk `i`. */
size_t image_chunk_len(const struct image *image, size_t i);

/* NULL: no memory. free() it. */
struct image *image_new(const char *name, uint64_t size);
struct image *image_copy(const struct image *image);

/* What somebody else says an image is. -EINVAL: it cannot be; -ENOMEM. free() it. */
int image_from_message(const Blixard__VmImage *message, struct image **ret_image);

/* Borrows from the image. */
Blixard__VmImage image_to_message(const struct image *image);

#endif
