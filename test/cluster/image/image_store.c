/* image_store.c - see image_store.h. One thread at a time. */
#include "image_store.h"

#include "test/cluster/storage/disk.h"
#include "test/cluster/log.h"
#include "test/cluster/record/record_image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct known {
	struct image *image;
	uint64_t used; /* the store's clock */
};

struct image_store {
	int images;
	int files;
	struct chunk_store *chunks;
	uint64_t max_bytes;
	uint64_t clock;
	struct known known[IMAGES_MAX];
	size_t n;
	uint8_t chunk[CHUNK_BYTES]; /* the one at work */
};

/* ---- the images known ------------------------------------------------------------------------ */

static struct known *find(struct image_store *store, const char *name)
{
	for (size_t i = 0; i < store->n; i++) {
		if (!strcmp(store->known[i].image->name, name)) {
			store->known[i].used = ++store->clock;
			return &store->known[i];
		}
	}
	return NULL;
}

static void forget_oldest(struct image_store *store)
{
	struct known *oldest = &store->known[0];

	for (size_t i = 1; i < store->n; i++) {
		if (store->known[i].used < oldest->used)
			oldest = &store->known[i];
	}
	(void)unlinkat(store->images, oldest->image->name, 0);
	free(oldest->image);
	*oldest = store->known[--store->n];
}

/* Takes the image over. */
static void remember(struct image_store *store, struct image *image)
{
	struct known *known = find(store, image->name);

	if (known) {
		free(known->image);
		known->image = image;
		return;
	}
	if (store->n == IMAGES_MAX)
		forget_oldest(store);
	store->known[store->n++] = (struct known){.image = image, .used = ++store->clock};
}

static int write_file(struct image_store *store, const struct image *image)
{
	static const char unfinished[] = ".unfinished"; /* no image has such a name */
	Blixard__VmImage message = image_to_message(image);
	uint8_t *bytes = malloc(blixard__vm_image__get_packed_size(&message));

	if (!bytes)
		return -ENOMEM;
	size_t len = blixard__vm_image__pack(&message, bytes);
	int fd = openat(store->images, unfinished,
			O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int err = fd < 0 ? -errno : disk_write(fd, bytes, len, 0);
	if (fd >= 0 && close(fd) && !err)
		err = -errno;
	if (!err && renameat(store->images, unfinished, store->images, image->name))
		err = -errno;
	free(bytes);
	return err;
}

static int keep(struct image_store *store, const struct image *image)
{
	struct image *copy = image_copy(image);
	int err = copy ? write_file(store, image) : -ENOMEM;

	if (err)
		free(copy);
	else
		remember(store, copy);
	return err;
}

static bool is_complete(struct image_store *store, const struct image *image)
{
	for (size_t i = 0; i < image->n_chunks; i++) {
		if (!chunk_store_has(store->chunks, &image->chunks[i]))
			return false;
	}
	return true;
}

int image_store_find(struct image_store *store, const char *name, const struct digest *digest,
		     struct image **ret_image, bool *ret_complete)
{
	const struct known *known = find(store, name);

	if (!known || (digest && !digest_equal(digest, &known->image->digest)))
		return -ENOENT;
	struct image *copy = image_copy(known->image);
	if (!copy)
		return -ENOMEM;
	*ret_complete = is_complete(store, copy);
	*ret_image = copy;
	return 0;
}

size_t image_store_list(struct image_store *store, struct image *ret_images[IMAGES_MAX],
			bool ret_complete[IMAGES_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < store->n; i++) {
		ret_images[n] = image_copy(store->known[i].image);
		if (!ret_images[n])
			break;
		ret_complete[n] = is_complete(store, ret_images[n]);
		n++;
	}
	return n;
}

/* ---- sharing --------------------------------------------------------------------------------- */

/* Where the bytes of a new image are. */
struct source {
	const uint8_t *data; /* NULL: in the file */
	int fd;
	uint64_t size;
};

static int share_chunk(struct image_store *store, const struct source *source, struct image *image,
		       size_t i, struct digest_stream *whole)
{
	uint64_t at = (uint64_t)i * CHUNK_BYTES;
	size_t len = image_chunk_len(image, i);
	const uint8_t *data = source->data ? source->data + at : store->chunk;

	int err = source->data ? 0 : disk_read(source->fd, store->chunk, len, at);
	if (!err)
		err = digest_add(whole, data, len);
	if (!err)
		err = digest_of(data, len, &image->chunks[i]);
	if (err)
		return err;
	bool has = chunk_store_has(store->chunks, &image->chunks[i]);
	record_image_cache(has);
	return has ? 0 : chunk_store_put(store->chunks, &image->chunks[i], data, len);
}

static int share(struct image_store *store, const char *name, const struct source *source,
		 struct image **ret_image)
{
	if (!image_name_is_good(name) || !source->size)
		return -EINVAL;
	if (!image_chunks_of(source->size) || source->size > store->max_bytes)
		return -EFBIG;
	struct image *image = image_new(name, source->size);
	struct digest_stream *whole = digest_begin();
	int err = image && whole ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < image->n_chunks; i++)
		err = share_chunk(store, source, image, i, whole);
	int end = digest_end(whole, err ? NULL : &image->digest);
	if (!err)
		err = end;
	if (!err)
		err = keep(store, image);
	if (err) {
		free(image);
		return err;
	}
	*ret_image = image;
	return 0;
}

int image_store_share(struct image_store *store, const char *name, const void *data, size_t len,
		      struct image **ret_image)
{
	return share(store, name, &(struct source){.data = data, .fd = -1, .size = len}, ret_image);
}

int image_store_share_file(struct image_store *store, const char *name, const char *file,
			   struct image **ret_image)
{
	struct source source = {.data = NULL};
	struct stat status;

	if (!image_name_is_good(file))
		return -EINVAL;
	/* A pipe of that name must not hold up the thread. */
	source.fd = openat(store->files, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (source.fd < 0)
		return errno == ELOOP ? -EINVAL : -errno;
	int err = fstat(source.fd, &status) ? -errno : 0;
	if (!err && !S_ISREG(status.st_mode))
		err = -EINVAL;
	if (!err) {
		source.size = (uint64_t)status.st_size;
		err = share(store, name, &source, ret_image);
	}
	close(source.fd);
	return err;
}

/* ---- fetching -------------------------------------------------------------------------------- */

struct numbered {
	const struct digest *digest;
	uint32_t number;
};

static int by_digest(const void *a, const void *b)
{
	const struct numbered *x = a, *y = b;
	int order = memcmp(x->digest, y->digest, sizeof(*x->digest));

	return order ? order : (x->number > y->number) - (x->number < y->number);
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

int image_store_plan(struct image_store *store, const struct image *image,
		     struct image_plan *ret_plan)
{
	struct image_plan plan = {.n = 0};

	if (image->size > store->max_bytes)
		return -EFBIG;
	struct numbered *sorted = calloc(image->n_chunks, sizeof(*sorted));
	plan.wanted = calloc(image->n_chunks, sizeof(*plan.wanted));
	if (!sorted || !plan.wanted) {
		free(sorted);
		free(plan.wanted);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < image->n_chunks; i++)
		sorted[i] = (struct numbered){.digest = &image->chunks[i], .number = i};
	qsort(sorted, image->n_chunks, sizeof(*sorted), by_digest);
	for (size_t i = 0; i < image->n_chunks; i++) {
		if (i && digest_equal(sorted[i].digest, sorted[i - 1].digest)) {
			plan.spared++; /* it comes, or is there, for the first of them */
			continue;
		}
		bool has = chunk_store_has(store->chunks, sorted[i].digest);
		record_image_cache(has);
		if (has)
			plan.spared++;
		else
			plan.wanted[plan.n++] = sorted[i].number;
	}
	qsort(plan.wanted, plan.n, sizeof(*plan.wanted), by_number);
	free(sorted);
	*ret_plan = plan;
	return 0;
}

int image_store_finish(struct image_store *store, const struct image *image)
{
	struct digest_stream *whole = digest_begin();
	struct digest actual;
	int err = whole ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < image->n_chunks; i++) {
		size_t len;
		err = chunk_store_verify(store->chunks, &image->chunks[i], store->chunk, &len);
		if (!err && len != image_chunk_len(image, i))
			err = -EBADMSG;
		if (!err)
			err = digest_add(whole, store->chunk, len);
	}
	int end = digest_end(whole, err ? NULL : &actual);
	if (!err)
		err = end;
	if (!err && !digest_equal(&actual, &image->digest))
		err = -EBADMSG;
	return err ? err : keep(store, image);
}

struct chunk_store *image_store_chunks(struct image_store *store)
{
	return store->chunks;
}

size_t image_store_count(const struct image_store *store)
{
	return store->n;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int open_folder(int dir, const char *name, int *ret_fd)
{
	if (mkdirat(dir, name, 0700) && errno != EEXIST)
		return -errno;
	*ret_fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return *ret_fd < 0 ? -errno : 0;
}

static int load_file(struct image_store *store, const char *name)
{
	struct image *image = NULL;
	uint8_t *bytes;
	size_t len;

	int err = disk_read_file(store->images, name, RPC_MESSAGE_MAX_BYTES, &bytes, &len);
	if (err)
		return err;
	Blixard__VmImage *message = blixard__vm_image__unpack(NULL, len, bytes);
	err = image_from_message(message, &image);
	if (!err && strcmp(image->name, name) != 0) {
		free(image);
		err = -EINVAL;
	}
	if (!err)
		remember(store, image);
	if (message)
		blixard__vm_image__free_unpacked(message, NULL);
	free(bytes);
	return err;
}

/* An image that cannot be read is no loss: it can be fetched again. */
static int load(struct image_store *store)
{
	int fd = openat(store->images, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int err = 0;

	if (!stream) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	while ((entry = readdir(stream)) && err != -ENOMEM) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		err = load_file(store, entry->d_name);
		if (err && err != -ENOMEM) {
			log_line(LOG_WARN, "image %s: %s, forgotten", entry->d_name,
				 strerror(-err));
			(void)unlinkat(store->images, entry->d_name, 0);
		}
	}
	closedir(stream);
	return err == -ENOMEM ? err : 0;
}

int image_store_open(int dir, uint64_t max_bytes, struct image_store **ret_store)
{
	struct image_store *store = calloc(1, sizeof(*store));
	int chunks = -1;

	if (!store)
		return -ENOMEM;
	store->images = store->files = -1;
	store->max_bytes = max_bytes;
	int err = open_folder(dir, "images", &store->images);
	if (!err)
		err = open_folder(dir, "images-to-share", &store->files);
	if (!err)
		err = open_folder(dir, "chunks", &chunks);
	if (!err)
		err = chunk_store_open(chunks, max_bytes, &store->chunks);
	if (!err)
		err = load(store);
	if (err) {
		image_store_close(store);
		return err;
	}
	*ret_store = store;
	return 0;
}

struct image_store *image_store_close(struct image_store *store)
{
	if (!store)
		return NULL;
	for (size_t i = 0; i < store->n; i++)
		free(store->known[i].image);
	chunk_store_close(store->chunks);
	if (store->images >= 0)
		close(store->images);
	if (store->files >= 0)
		close(store->files);
	free(store);
	return NULL;
}
