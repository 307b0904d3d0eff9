/* image_sends.h - the transfers of other nodes that this one serves: who has begun, and ended or
 * fell silent. Loop thread only. */
#ifndef CLUSTER_IMAGE_SENDS_H
#define CLUSTER_IMAGE_SENDS_H

#include "test/cluster/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct image_sends {
	struct {
		uint64_t transfer;
		uint64_t started_ns;
		uint64_t heard_ns;
	} of[IMAGE_SENDS_MAX];
	size_t n;
};

/* 0, also when it has begun already; -EBUSY: too many at a time. */
int image_sends_begin(struct image_sends *sends, uint64_t transfer, uint64_t now_ns);

/* It is still going on. False: there is no such transfer. */
bool image_sends_heard(struct image_sends *sends, uint64_t transfer, uint64_t now_ns);

/* False: there is no such transfer. */
bool image_sends_end(struct image_sends *sends, uint64_t transfer, bool good, uint64_t now_ns);

/* Those that fell silent have failed. */
void image_sends_expire(struct image_sends *sends, uint64_t now_ns);

/* The node stops: so have all. */
void image_sends_stop(struct image_sends *sends, uint64_t now_ns);

#endif
