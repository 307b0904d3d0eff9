/* chunk_store.h - the chunks of images that this node has: files named by their digest, in a
 * directory of their own, bounded in bytes and number; the one unused for longest goes first.
 *
 * A chunk is written whole or not at all, but not synced: what a crash of the machine spoils, the
 * digest tells. One thread at a time. */
#ifndef CLUSTER_CHUNK_STORE_H
#define CLUSTER_CHUNK_STORE_H

#include "chunk_digest.h"
#include "test/cluster/limits.h"

struct chunk_store;

struct chunk_stats {
	uint64_t chunks;
	uint64_t bytes;
	uint64_t max_bytes;
	uint64_t evicted; /* since it was opened */
};

/* `dir` is taken over. What is no chunk in it is removed. 0; -ENOMEM; -errno of the disk. */
int chunk_store_open(int dir, uint64_t max_bytes, struct chunk_store **ret_store);
/* Accepts NULL; returns NULL. */
struct chunk_store *chunk_store_close(struct chunk_store *store);

/* Is it there? Then that was a use. */
bool chunk_store_has(struct chunk_store *store, const struct digest *digest);

/* Keep `data`, which must be of this digest. Having it already is fine.
 * -EBADMSG: it is not of the digest; -EINVAL: of no length, or more than CHUNK_BYTES;
 * -ENOSPC: larger than all there may be, or the disk is full; -ENOMEM; -errno of the disk. */
int chunk_store_put(struct chunk_store *store, const struct digest *digest, const void *data,
		    size_t len);

/* Read it, unverified. -ENOENT: not there. -EBADMSG: its file is not as long as it was, and has
 * been dropped; -errno of the disk. */
int chunk_store_get(struct chunk_store *store, const struct digest *digest,
		    uint8_t ret_data[CHUNK_BYTES], size_t *ret_len);

/* Read and verify it: -EBADMSG also when the digest is wrong, and it has been dropped. */
int chunk_store_verify(struct chunk_store *store, const struct digest *digest,
		       uint8_t ret_data[CHUNK_BYTES], size_t *ret_len);

struct chunk_stats chunk_store_stats(const struct chunk_store *store);

#endif
