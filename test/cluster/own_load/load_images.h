/* load_images.h - the part of the load that is about images: each node shares one, and now and then
 * a changed one in its place; each fetches those of others. Loop thread only. */
#ifndef CLUSTER_LOAD_IMAGES_H
#define CLUSTER_LOAD_IMAGES_H

#include "test/cluster/image/images.h"

#include <raft.h>

struct load_images;

/* NULL: no memory. All are borrowed. */
struct load_images *load_images_start(struct images *images, const struct raft *raft,
				      uint64_t node_id);

/* Before images_stop(). Accepts NULL; returns NULL. */
struct load_images *load_images_stop(struct load_images *load);

#endif
