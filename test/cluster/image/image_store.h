/* image_store.h - the images that this node knows of, each a small file, and their chunks.
 *
 * An image stays known when the cache has given up chunks of it: then it is incomplete, and can be
 * fetched again. One thread at a time: the chunk worker's, once it runs. */
#ifndef CLUSTER_IMAGE_STORE_H
#define CLUSTER_IMAGE_STORE_H

#include "chunk_store.h"
#include "image.h"

struct image_store;

struct image_plan {
	uint32_t *wanted; /* numbers of the chunks to move, each digest once; free() it */
	size_t n;
	size_t spared; /* chunks that need not be moved */
};

/* Files of images, chunks and files to share are in folders of the directory `dir`, borrowed.
 * 0; -ENOMEM; -errno of the disk. */
int image_store_open(int dir, uint64_t max_bytes, struct image_store **ret_store);
/* Accepts NULL; returns NULL. */
struct image_store *image_store_close(struct image_store *store);

/* Keep these bytes, or those of the file of this name in the folder of files to share, as an image,
 * in the place of another one of that name. free() what is returned.
 * -EINVAL: the names, or no bytes; -EFBIG: more than an image or the cache can have; -ENOENT: no
 * such file; -ENODATA: it became shorter; -ENOMEM; -errno of the disk. */
int image_store_share(struct image_store *store, const char *name, const void *data, size_t len,
		      struct image **ret_image);
int image_store_share_file(struct image_store *store, const char *name, const char *file,
			   struct image **ret_image);

/* The image of this name, and of this digest unless that is NULL; free() it. *ret_complete: are all
 * of its chunks here? -ENOENT; -ENOMEM. */
int image_store_find(struct image_store *store, const char *name, const struct digest *digest,
		     struct image **ret_image, bool *ret_complete);

/* What has to be moved for this image. -EFBIG: it will not fit; -ENOMEM. */
int image_store_plan(struct image_store *store, const struct image *image,
		     struct image_plan *ret_plan);

/* Verify an image of which all chunks are here, and keep it, as _share() does. -EBADMSG: it is not
 * what its digests say, and the chunk at fault, if one is, has been dropped; -ENOENT: a chunk is
 * gone; -ENOMEM; -errno of the disk. */
int image_store_finish(struct image_store *store, const struct image *image);

/* All of them, IMAGES_MAX at most, copies that free() takes, complete or not. How many. */
size_t image_store_list(struct image_store *store, struct image *ret_images[IMAGES_MAX],
			bool ret_complete[IMAGES_MAX]);

/* For chunks one by one. */
struct chunk_store *image_store_chunks(struct image_store *store);
size_t image_store_count(const struct image_store *store);

#endif
