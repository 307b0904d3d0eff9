/* chunk_store.c - see chunk_store.h. One thread at a time.
 *
 * The index is a table of buckets by the first bytes of the digest, and a ring in the order of
 * use. */
#include "chunk_store.h"

#include "test/cluster/storage/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUCKETS = 4096 };

struct chunk {
	struct chunk *next; /* in its bucket */
	struct chunk *newer;
	struct chunk *older;
	struct digest digest;
	uint32_t len;
};

struct chunk_store {
	int dir;
	uint64_t max_bytes;
	uint64_t bytes;
	uint64_t n;
	uint64_t evicted;
	struct chunk ring; /* .newer is the oldest, .older the newest */
	struct chunk *buckets[BUCKETS];
};

/* ---- the index ------------------------------------------------------------------------------- */

static struct chunk **bucket_of(struct chunk_store *store, const struct digest *digest)
{
	return &store->buckets[(digest->bytes[0] << 8 | digest->bytes[1]) % BUCKETS];
}

static void ring_remove(struct chunk *chunk)
{
	chunk->newer->older = chunk->older;
	chunk->older->newer = chunk->newer;
}

static void ring_add_newest(struct chunk_store *store, struct chunk *chunk)
{
	chunk->newer = &store->ring;
	chunk->older = store->ring.older;
	chunk->older->newer = chunk;
	store->ring.older = chunk;
}

static struct chunk *find(struct chunk_store *store, const struct digest *digest)
{
	struct chunk *chunk = *bucket_of(store, digest);

	while (chunk && !digest_equal(&chunk->digest, digest))
		chunk = chunk->next;
	if (chunk) {
		ring_remove(chunk);
		ring_add_newest(store, chunk);
	}
	return chunk;
}

static void forget(struct chunk_store *store, struct chunk *chunk)
{
	struct chunk **link = bucket_of(store, &chunk->digest);

	while (*link != chunk)
		link = &(*link)->next;
	*link = chunk->next;
	ring_remove(chunk);
	store->bytes -= chunk->len;
	store->n--;
	free(chunk);
}

static int remember(struct chunk_store *store, const struct digest *digest, uint32_t len)
{
	struct chunk **bucket = bucket_of(store, digest);
	struct chunk *chunk = malloc(sizeof(*chunk));

	if (!chunk)
		return -ENOMEM;
	*chunk = (struct chunk){.digest = *digest, .len = len, .next = *bucket};
	*bucket = chunk;
	ring_add_newest(store, chunk);
	store->bytes += len;
	store->n++;
	return 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

static void drop(struct chunk_store *store, struct chunk *chunk)
{
	char name[DIGEST_TEXT + 1];

	digest_text(&chunk->digest, name);
	(void)unlinkat(store->dir, name, 0);
	forget(store, chunk);
}

static void make_room(struct chunk_store *store, size_t len)
{
	while (store->n && (store->bytes + len > store->max_bytes || store->n >= CHUNKS_MAX)) {
		drop(store, store->ring.newer);
		store->evicted++;
	}
}

static int write_file(int dir, const char *name, const void *data, size_t len)
{
	static const char unfinished[] = "unfinished";
	int fd = openat(dir, unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
			0600);

	if (fd < 0)
		return -errno;
	int err = disk_write(fd, data, len, 0);
	if (close(fd) && !err)
		err = -errno;
	if (!err && renameat(dir, unfinished, dir, name))
		err = -errno;
	if (err)
		(void)unlinkat(dir, unfinished, 0);
	return err;
}

bool chunk_store_has(struct chunk_store *store, const struct digest *digest)
{
	return find(store, digest) != NULL;
}

int chunk_store_put(struct chunk_store *store, const struct digest *digest, const void *data,
		    size_t len)
{
	char name[DIGEST_TEXT + 1];
	struct digest actual;

	if (!len || len > CHUNK_BYTES)
		return -EINVAL;
	int err = digest_of(data, len, &actual);
	if (err)
		return err;
	if (!digest_equal(&actual, digest))
		return -EBADMSG;
	if (find(store, digest))
		return 0;
	if (len > store->max_bytes)
		return -ENOSPC;
	make_room(store, len);
	digest_text(digest, name);
	err = write_file(store->dir, name, data, len);
	if (err)
		return err;
	err = remember(store, digest, (uint32_t)len);
	if (err)
		(void)unlinkat(store->dir, name, 0);
	return err;
}

int chunk_store_get(struct chunk_store *store, const struct digest *digest,
		    uint8_t ret_data[CHUNK_BYTES], size_t *ret_len)
{
	struct chunk *chunk = find(store, digest);
	char name[DIGEST_TEXT + 1];
	uint8_t *data;
	size_t len;

	if (!chunk)
		return -ENOENT;
	digest_text(digest, name);
	int err = disk_read_file(store->dir, name, CHUNK_BYTES, &data, &len);
	if (!err && len != chunk->len) {
		free(data);
		err = -EBADMSG;
	}
	if (err == -ENOENT || err == -EFBIG || err == -ENODATA || err == -ELOOP)
		err = -EBADMSG; /* somebody else has been here */
	if (err == -EBADMSG)
		drop(store, chunk);
	if (err)
		return err;
	memcpy(ret_data, data, len);
	free(data);
	*ret_len = len;
	return 0;
}

int chunk_store_verify(struct chunk_store *store, const struct digest *digest,
		       uint8_t ret_data[CHUNK_BYTES], size_t *ret_len)
{
	struct digest actual;

	int err = chunk_store_get(store, digest, ret_data, ret_len);
	if (!err)
		err = digest_of(ret_data, *ret_len, &actual);
	if (err || digest_equal(&actual, digest))
		return err;
	drop(store, find(store, digest));
	return -EBADMSG;
}

struct chunk_stats chunk_store_stats(const struct chunk_store *store)
{
	return (struct chunk_stats){.chunks = store->n,
				    .bytes = store->bytes,
				    .max_bytes = store->max_bytes,
				    .evicted = store->evicted};
}

/* ---- opening --------------------------------------------------------------------------------- */

struct found {
	struct digest digest;
	uint32_t len;
	struct timespec written;
};

static int by_age(const void *a, const void *b)
{
	const struct timespec *x = &((const struct found *)a)->written;
	const struct timespec *y = &((const struct found *)b)->written;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

/* Is this file a chunk, by its looks? */
static bool look_at(int dir, const char *name, struct found *ret_found)
{
	struct stat status;

	if (!digest_parse(name, &ret_found->digest) ||
	    fstatat(dir, name, &status, AT_SYMLINK_NOFOLLOW) || !S_ISREG(status.st_mode) ||
	    !status.st_size || status.st_size > CHUNK_BYTES)
		return false;
	ret_found->len = (uint32_t)status.st_size;
	ret_found->written = status.st_mtim;
	return true;
}

/* Up to CHUNKS_MAX of them; what is beyond or no chunk goes. */
static size_t scan(struct chunk_store *store, DIR *stream, struct found *found)
{
	const struct dirent *entry;
	size_t n = 0;

	while ((entry = readdir(stream))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (n < CHUNKS_MAX && look_at(store->dir, entry->d_name, &found[n]))
			n++;
		else
			(void)unlinkat(store->dir, entry->d_name, 0);
	}
	return n;
}

static int load(struct chunk_store *store)
{
	int fd = openat(store->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct found *found = calloc(CHUNKS_MAX, sizeof(*found));
	int err = found ? 0 : -ENOMEM;

	if (!stream) {
		err = -errno;
		if (fd >= 0)
			close(fd);
	}
	size_t n = err || !stream ? 0 : scan(store, stream, found);
	if (n)
		qsort(found, n, sizeof(*found), by_age);
	for (size_t i = 0; i < n && !err; i++)
		err = remember(store, &found[i].digest, found[i].len);
	free(found);
	if (stream)
		closedir(stream);
	if (!err)
		make_room(store, 0);
	return err;
}

int chunk_store_open(int dir, uint64_t max_bytes, struct chunk_store **ret_store)
{
	struct chunk_store *store = calloc(1, sizeof(*store));

	if (!store) {
		close(dir);
		return -ENOMEM;
	}
	store->dir = dir;
	store->max_bytes = max_bytes;
	store->ring.newer = store->ring.older = &store->ring;
	int err = load(store);
	if (err) {
		chunk_store_close(store);
		return err;
	}
	*ret_store = store;
	return 0;
}

struct chunk_store *chunk_store_close(struct chunk_store *store)
{
	if (!store)
		return NULL;
	while (store->n)
		forget(store, store->ring.newer);
	close(store->dir);
	free(store);
	return NULL;
}
