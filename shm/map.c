/* shm/map.c - open a foreign telemetry file, ask about it, close it.
 *
 * The judging is done by map_validate.c and map_registry.c; here a file becomes a mapping and goes
 * away again. Thread rule: one thread at a time a map. Includes: shm/ only. */
#include "shm/map_private.h"

#include "shm/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	LOCK_BYTE_OWNER = 0,	/* held by the node for as long as it lives */
	LOCK_BYTE_CONSUMER = 1, /* held by the agent that drains and acknowledges */
};

/* ---- opening ------------------------------------------------------------------------------ */

static int refuse_open(int error, const char *path, char *reason)
{
	switch (error) {
	case ENOENT:
		return blix_map_refuse(reason, -ENOENT,
				       "%s does not exist: its node has not started", path);
	case ELOOP:
		return blix_map_refuse(
			reason, -ELOOP,
			"%s is a symbolic link, which is never followed: name the file", path);
	case EISDIR:
		return blix_map_refuse(reason, -EISDIR, "%s is a directory: name the file in it",
				       path);
	case ENXIO: /* a socket, or a device without its driver */
		return blix_map_refuse(reason, -EINVAL, "%s is no regular file: check --shm", path);
	case EACCES:
		return blix_map_refuse(reason, -EACCES,
				       "%s may not be opened: run the agent in the node's group",
				       path);
	default:
		return blix_map_refuse(reason, -error, "%s cannot be opened: %s", path,
				       strerror(error));
	}
}

static int check_inode(const struct stat *st, const char *path,
		       const struct blix_map_options *options, char *reason)
{
	uint64_t max_bytes = options->max_bytes ? options->max_bytes : BLIX_CAP_FILE_BYTES;

	if (S_ISDIR(st->st_mode))
		return refuse_open(EISDIR, path, reason);
	if (!S_ISREG(st->st_mode))
		return refuse_open(ENXIO, path, reason);
	if (options->check_owner && st->st_uid != options->owner && st->st_uid != 0)
		return blix_map_refuse(reason, -EPERM,
				       "%s belongs to uid %u, not to uid %u or root: check --owner",
				       path, st->st_uid, options->owner);
	if (st->st_nlink > 1)
		return blix_map_refuse(reason, -EPERM,
				       "%s has %lu links, a node makes one: remove the others",
				       path, (unsigned long)st->st_nlink);
	if ((uint64_t)st->st_size > max_bytes)
		return blix_map_refuse(reason, -EFBIG, "%s has %lld bytes, at most %llu are read",
				       path, (long long)st->st_size, (unsigned long long)max_bytes);
	return 0;
}

static int open_file(const char *path, const struct blix_map_options *options, struct stat *ret_st,
		     char *reason)
{
	int flags = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	int fd = open(path, flags | (options->consumer ? O_RDWR : O_RDONLY));
	int err;

	if (fd < 0)
		return refuse_open(errno, path, reason);
	err = fstat(fd, ret_st) < 0 ? refuse_open(errno, path, reason)
				    : check_inode(ret_st, path, options, reason);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

/* Map [off, off + len) and guard it. */
static int map_guarded(int fd, int protection, uint64_t off, uint64_t len, uint8_t **ret_base,
		       int *ret_slot)
{
	void *base = mmap(NULL, len, protection, MAP_SHARED, fd, (off_t)off);
	int slot;

	if (base == MAP_FAILED)
		return -errno;
	slot = blix_map_guard_add(base, len);
	if (slot < 0) {
		munmap(base, len);
		return slot;
	}
	*ret_base = base;
	*ret_slot = slot;
	return 0;
}

static int map_parts(struct blix_map *map, const struct blix_map_options *options, const char *path,
		     char *reason)
{
	struct blix_view *v = &map->view;
	uint32_t layout_ver;
	int err = map_guarded(map->fd, PROT_READ, 0, v->size, &v->base, &map->guard_file);

	if (!err && options->consumer)
		err = map_guarded(map->fd, PROT_READ | PROT_WRITE, v->consumer_off, v->consumer_len,
				  &v->consumer, &map->guard_consumer);
	if (err)
		return blix_map_refuse(reason, err, "%s cannot be mapped: %s", path,
				       strerror(-err));
	if (!options->consumer)
		return 0;
	layout_ver = blix_load_relaxed(&blix_view_consumer(v)->layout_ver);
	if (layout_ver != 1 && !blix_map_poisoned(map)) /* a hole: see copy_parts() */
		return blix_map_refuse(reason, -EPROTONOSUPPORT,
				       "%s has consumer pages of version %u, this reader knows 1: "
				       "upgrade blixard-agent",
				       path, layout_ver);
	return 0;
}

/* What is private and copied at open: the resource and the registry so far. */
static int copy_parts(struct blix_map *map, const char *path, char *reason)
{
	const struct blix_view *v = &map->view;
	size_t padded = (v->resource_len + 7) & ~UINT64_C(7);
	int err = blix_map_registry_init(&map->registry, v);

	map->resource = calloc(1, padded + 1);
	if (err || !map->resource)
		return blix_map_refuse(reason, err ? err : -ENOMEM, "%s: no memory to read it",
				       path);
	blix_map_copy_words(map->resource, v->base + v->resource_off, padded);
	/* What is malformed is counted; it is no reason to refuse the rest. */
	(void)blix_map_registry_load(&map->registry, v);
	if (blix_map_poisoned(map))
		return blix_map_refuse(reason, -ENODATA,
				       "%s was truncated while it was opened; restart its node",
				       path);
	return 0;
}

int blix_map_open(const char *path, const struct blix_map_options *options,
		  struct blix_map **ret_map, char reason[BLIX_REASON_MAX])
{
	struct blix_map *map = calloc(1, sizeof(*map));
	struct stat st = {0};
	int err;

	if (!map)
		return blix_map_refuse(reason, -ENOMEM, "%s: no memory to read it", path);
	map->guard_file = -1;
	map->guard_consumer = -1;
	map->fd = open_file(path, options, &st, reason);
	err = map->fd < 0 ? map->fd : 0;
	if (!err)
		err = blix_map_validate(map->fd, path, (uint64_t)st.st_size, &map->view,
					&map->identity, reason);
	if (!err)
		err = map_parts(map, options, path, reason);
	if (!err)
		err = copy_parts(map, path, reason);
	if (err) {
		blix_map_close(map);
		return err;
	}
	map->identity.dev = st.st_dev;
	map->identity.ino = st.st_ino;
	map->pair_mono_ns = map->identity.open_mono_ns;
	map->pair_real_ns = map->identity.open_real_ns;
	*ret_map = map;
	return 0;
}

struct blix_map *blix_map_close(struct blix_map *map)
{
	if (!map)
		return NULL;
	blix_map_guard_remove(map->guard_file);
	blix_map_guard_remove(map->guard_consumer);
	if (map->view.base)
		munmap(map->view.base, map->view.size);
	if (map->view.consumer)
		munmap(map->view.consumer, map->view.consumer_len);
	if (map->fd >= 0)
		close(map->fd);
	blix_map_registry_done(&map->registry);
	free(map->resource);
	free(map);
	return NULL;
}

/* ---- state of the file -------------------------------------------------------------------- */

const struct blix_map_identity *blix_map_identity(const struct blix_map *map)
{
	return &map->identity;
}

const struct blix_view *blix_map_view(const struct blix_map *map)
{
	return &map->view;
}

bool blix_map_poisoned(const struct blix_map *map)
{
	return blix_map_guard_hit(map->guard_file) || blix_map_guard_hit(map->guard_consumer);
}

int blix_map_refresh(struct blix_map *map)
{
	struct stat st;
	int err;

	if (fstat(map->fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size < map->view.size || blix_map_poisoned(map))
		return -ENODATA;
	err = blix_map_registry_load(&map->registry, &map->view);
	return blix_map_poisoned(map) ? -ENODATA : err;
}

/* Asking for a read lock meets write locks only: a stranger who may merely read the file cannot
 * make a dead node look alive. */
enum blix_owner_state blix_map_owner_state(const struct blix_map *map)
{
	struct flock lock = {
		.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = LOCK_BYTE_OWNER, .l_len = 1};

	if (fcntl(map->fd, F_OFD_GETLK, &lock) < 0)
		return BLIX_OWNER_ALIVE; /* cannot happen; nothing is drained or buried on a doubt
					  */
	return lock.l_type == F_UNLCK ? BLIX_OWNER_GONE : BLIX_OWNER_ALIVE;
}

int blix_map_lock_consumer(struct blix_map *map)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCK_BYTE_CONSUMER, .l_len = 1};

	if (fcntl(map->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

int blix_map_is_at(const struct blix_map *map, const char *path)
{
	struct stat st;

	if (fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	return st.st_dev == map->identity.dev && st.st_ino == map->identity.ino;
}

const uint8_t *blix_map_resource(const struct blix_map *map, size_t *ret_len)
{
	*ret_len = (size_t)map->view.resource_len;
	return map->resource;
}

/* ---- registry ----------------------------------------------------------------------------- */

uint32_t blix_map_metric_count(const struct blix_map *map)
{
	return map->registry.n_metrics;
}

const struct blix_map_metric *blix_map_metric(const struct blix_map *map, uint32_t index)
{
	const struct blix_map_registry *r = &map->registry;

	return index < r->n_metrics && r->metrics[index].name ? &r->metrics[index] : NULL;
}

uint32_t blix_map_series_count(const struct blix_map *map)
{
	return map->registry.n_series;
}

const struct blix_map_series *blix_map_series(const struct blix_map *map, uint32_t index)
{
	const struct blix_map_registry *r = &map->registry;

	return index < r->n_series && r->series[index].metric != BLIX_NO_ID ? &r->series[index]
									    : NULL;
}

uint64_t blix_map_generation(const struct blix_map *map)
{
	return map->registry.generation;
}

uint64_t blix_map_rejected(const struct blix_map *map)
{
	return map->registry.rejected;
}

const char *blix_map_string(struct blix_map *map, uint32_t id)
{
	return blix_map_get_string(&map->registry, &map->view, id);
}
