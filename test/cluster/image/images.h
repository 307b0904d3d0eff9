/* images.h - the images of a node: its cache, the thread that works on it, the transfers in both
 * directions. Loop thread only. */
#ifndef CLUSTER_IMAGES_H
#define CLUSTER_IMAGES_H

#include "image_fetch.h"
#include "image_sends.h"
#include "test/cluster/rpc/rpc_server.h"

struct images {
	struct event_base *base;
	struct image_parts parts;
	struct image_fetches *fetches;
	struct image_sends sends;
	struct event *timer;
	bool stopping;
};

/* What is asked of the store; embedded in what it is for. */
struct image_share {
	struct chunk_job job;
	struct images *images;
	char name[IMAGE_NAME_MAX + 1];
	char file[IMAGE_NAME_MAX + 1]; /* "": these bytes */
	uint8_t *data;		       /* borrowed */
	size_t len;
	struct image *image; /* made; to be freed by whoever asked */
	int err;	     /* of image_store_share(); -ECANCELED: the node stops */
	void (*done)(struct image_share *share);
};

/* The cache is in the directory `dir`, borrowed. Close it also when this fails.
 * 0; -ENOMEM; -errno of the disk. */
int images_open(struct images *images, struct event_base *base, struct rpc_queue *queue, int dir,
		uint64_t cache_max_bytes);

/* The methods ShareVmImage, GetVmImage, ListP2pImages and GetP2pStatus. 0; -ENOSPC. */
int images_serve(struct images *images, struct rpc_server *server);

/* Share it on the thread. 0; -EBUSY: too much to do; then done() is not called. */
int images_share(struct images *images, struct image_share *share);

/* Whoever waits is told. After it no method may be called any more. */
void images_stop(struct images *images);

/* After images_stop() and rpc_queue_close(). */
void images_close(struct images *images);

#endif
