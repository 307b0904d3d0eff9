/* image_fetch.h - fetches images from peers: what the image is, then the chunks that are not here,
 * a few at a time, each verified as it comes, then the whole. Loop thread only. */
#ifndef CLUSTER_IMAGE_FETCH_H
#define CLUSTER_IMAGE_FETCH_H

#include "chunk_worker.h"
#include "image_store.h"
#include "test/cluster/rpc/rpc_client.h"

struct image_fetches;

/* What a fetch needs; all borrowed. The store is the worker's. */
struct image_parts {
	struct rpc_queue *queue;
	struct chunk_worker *worker;
	struct image_store *store;
};

struct image_fetched {
	grpc_status_code code;
	const char *text;
	const struct image *image; /* when the code is OK; borrowed */
	size_t moved;
	size_t spared;
};

typedef void (*image_fetch_cb)(void *arg, const struct image_fetched *fetched);

/* NULL: no memory. */
struct image_fetches *image_fetches_new(const struct image_parts *parts);
/* After rpc_queue_close(). Accepts NULL; returns NULL. */
struct image_fetches *image_fetches_free(struct image_fetches *fetches);

/* Is this a numeric host:port? */
bool image_peer_is_good(const char *peer);

/* Fetch the image of this name, and of this digest unless that is NULL, from `peer`. `done` is
 * called once, never from within. 0; -EBUSY: too many at a time, or the node stops; -ENOMEM. */
int image_fetch(struct image_fetches *fetches, const char *name, const struct digest *digest,
		const char *peer, image_fetch_cb done, void *arg);

size_t image_fetches_count(const struct image_fetches *fetches);

/* The node stops: none begins any more. Then stop the worker, then hang up; done() of each that is
 * under way comes at the latest from rpc_queue_close(). */
void image_fetches_stop(struct image_fetches *fetches);
void image_fetches_hang_up(struct image_fetches *fetches);

#endif
