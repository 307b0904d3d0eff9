/* log_store.c - the list of segments, and the one that is being written. See log_store.h. */
#include "log_store.h"

#include "bytes.h"
#include "disk.h"
#include "test/cluster/limits.h"
#include "log_segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	/* Once it is this long a segment is closed; one append may make it longer by its own size.
	 */
	SEGMENT_FILE_MAX = SEGMENT_BYTES + (64 << 20),
	STAGING_MIN_BYTES = 64 << 10,
};

struct log_store {
	int dir;
	int fd; /* of the last segment; -1 while there is none */
	struct segment *segments;
	size_t n_segments;
	size_t capacity;
	uint64_t next;
	uint64_t synced; /* bytes of the last segment that are durable */
	uint64_t torn_bytes;
	uint8_t *staging;
	size_t staging_bytes;
};

static struct segment *last_segment(const struct log_store *store)
{
	return store->n_segments ? &store->segments[store->n_segments - 1] : NULL;
}

static int push_segment(struct log_store *store, uint64_t first)
{
	if (store->n_segments == store->capacity) {
		size_t capacity = store->capacity ? store->capacity * 2 : 16;
		struct segment *segments = realloc(store->segments, capacity * sizeof(*segments));
		if (!segments)
			return -ENOMEM;
		store->segments = segments;
		store->capacity = capacity;
	}
	store->segments[store->n_segments++] = (struct segment){.first = first};
	return 0;
}

static void close_last(struct log_store *store)
{
	if (store->fd >= 0)
		close(store->fd);
	store->fd = -1;
}

/* Forget the last segment and delete its file. */
static int pop_segment(struct log_store *store)
{
	char name[SEGMENT_NAME_BYTES];
	struct segment *segment = last_segment(store);

	close_last(store);
	segment_name(segment->first, name);
	if (unlinkat(store->dir, name, 0) && errno != ENOENT)
		return -errno;
	free(segment->offsets);
	store->n_segments--;
	return 0;
}

/* Open the last segment for writing and make its length on disk what we believe it is. */
static int reopen_last(struct log_store *store)
{
	char name[SEGMENT_NAME_BYTES];
	struct segment *segment = last_segment(store);

	if (!segment)
		return 0;
	segment_name(segment->first, name);
	if (store->fd < 0)
		store->fd = openat(store->dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (store->fd < 0)
		return -errno;
	if (ftruncate(store->fd, (off_t)segment->size))
		return -errno;
	int err = disk_sync(store->fd);
	if (!err)
		store->synced = segment->size;
	return err;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int compare_first(const void *a, const void *b)
{
	uint64_t x = ((const struct segment *)a)->first, y = ((const struct segment *)b)->first;

	return x < y ? -1 : x > y;
}

static int list_segments(struct log_store *store)
{
	int fd = openat(store->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	uint64_t first;
	int err = 0;

	if (!list) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	while (!err && (entry = readdir(list))) {
		if (segment_parse_name(entry->d_name, &first))
			err = push_segment(store, first);
	}
	closedir(list);
	if (store->n_segments)
		qsort(store->segments, store->n_segments, sizeof(*store->segments), compare_first);
	return err;
}

static int damaged(char reason[LOG_REASON_MAX], const struct segment *segment, const char *what)
{
	snprintf(reason, LOG_REASON_MAX,
		 "log segment %" PRIu64 " is damaged at byte %" PRIu64 ": %s", segment->first,
		 segment->size, what);
	return -EBADMSG;
}

/* Take up one segment. Only the last one may be torn. */
static int open_segment(struct log_store *store, size_t i, char reason[LOG_REASON_MAX])
{
	struct segment *segment = &store->segments[i];
	bool last = i == store->n_segments - 1;
	char name[SEGMENT_NAME_BYTES];
	uint8_t *bytes;
	size_t len;

	if (i && segment->first != segment[-1].first + segment[-1].n)
		return damaged(reason, segment, "entries before it are missing");
	segment_name(segment->first, name);
	int err = disk_read_file(store->dir, name, SEGMENT_FILE_MAX, &bytes, &len);
	if (err)
		return err;
	if (segment_check_head(bytes, len, segment->first)) {
		err = segment_scan(segment, bytes, len);
		if (err == -EBADMSG)
			damaged(reason, segment, "entries after it were durable");
		else if (!err && !last && segment->size != len)
			err = damaged(reason, segment, "more segments follow");
	} else if (!last || len > LOG_HEAD_BYTES) {
		err = damaged(reason, segment, "its head is wrong");
	}
	if (!err)
		store->torn_bytes += len - segment->size;
	free(bytes);
	return err;
}

static int open_all(struct log_store *store, char reason[LOG_REASON_MAX])
{
	int err = list_segments(store);

	for (size_t i = 0; !err && i < store->n_segments; i++)
		err = open_segment(store, i, reason);
	if (err)
		return err;
	/* A segment without entries was created and not yet used, and perhaps not even its head is
	 * whole: the next append makes it anew. */
	struct segment *last = last_segment(store);
	store->next = last ? last->first + last->n : 1;
	if (last && !last->n) {
		err = pop_segment(store);
		if (!err)
			err = disk_sync_dir(store->dir);
	}
	return err ? err : reopen_last(store);
}

int log_store_open(int dir, struct log_store **ret_store, char reason[LOG_REASON_MAX])
{
	struct log_store *store = calloc(1, sizeof(*store));

	reason[0] = '\0';
	if (!store)
		return -ENOMEM;
	store->dir = dir;
	store->fd = -1;
	int err = open_all(store, reason);
	if (err) {
		if (!reason[0])
			snprintf(reason, LOG_REASON_MAX, "the log cannot be read: %s",
				 strerror(-err));
		log_store_close(store);
		return err;
	}
	*ret_store = store;
	return 0;
}

struct log_store *log_store_close(struct log_store *store)
{
	if (!store)
		return NULL;
	close_last(store);
	for (size_t i = 0; i < store->n_segments; i++)
		free(store->segments[i].offsets);
	free(store->segments);
	free(store->staging);
	free(store);
	return NULL;
}

uint64_t log_store_first(const struct log_store *store)
{
	return store->n_segments ? store->segments[0].first : store->next;
}

uint64_t log_store_next(const struct log_store *store)
{
	return store->next;
}

uint64_t log_store_torn_bytes(const struct log_store *store)
{
	return store->torn_bytes;
}

size_t log_store_segments(const struct log_store *store)
{
	return store->n_segments;
}

/* ---- loading --------------------------------------------------------------------------------- */

static int copy_entry(const struct record *record, struct raft_entry *entry)
{
	void *data = raft_malloc(record->len ? record->len : 1);

	if (!data)
		return -ENOMEM;
	memcpy(data, record->data, record->len);
	*entry = (struct raft_entry){
		.term = record->term,
		.type = record->type,
		.buf = {.base = data, .len = record->len},
		.batch = data,
	};
	return 0;
}

/* Appends the segment's entries to entries[*n]. What was whole at opening must be whole now. */
static int load_segment(const struct log_store *store, const struct segment *segment,
			struct raft_entry *entries, size_t *n)
{
	char name[SEGMENT_NAME_BYTES];
	struct record record;
	uint8_t *bytes;
	size_t len;

	segment_name(segment->first, name);
	int err = disk_read_file(store->dir, name, SEGMENT_FILE_MAX, &bytes, &len);
	if (err)
		return err;
	for (uint32_t i = 0; !err && i < segment->n; i++) {
		err = -EBADMSG;
		if (segment_decode_record(bytes, len, segment->offsets[i], &record))
			err = copy_entry(&record, &entries[*n]);
		if (!err)
			(*n)++;
	}
	free(bytes);
	return err;
}

int log_store_load(const struct log_store *store, struct raft_entry **ret_entries, size_t *ret_n)
{
	size_t total = (size_t)(store->next - log_store_first(store)), n = 0;
	struct raft_entry *entries = NULL;
	int err = 0;

	if (total) {
		entries = raft_calloc(total, sizeof(*entries));
		if (!entries)
			return -ENOMEM;
	}
	for (size_t i = 0; !err && i < store->n_segments; i++)
		err = load_segment(store, &store->segments[i], entries, &n);
	if (err) {
		while (n)
			raft_free(entries[--n].batch);
		raft_free(entries);
		return err;
	}
	*ret_entries = entries;
	*ret_n = n;
	return 0;
}

/* ---- appending ------------------------------------------------------------------------------- */

static int create_segment(struct log_store *store)
{
	char name[SEGMENT_NAME_BYTES];
	uint8_t head[LOG_HEAD_BYTES];

	int err = push_segment(store, store->next);
	if (err)
		return err;
	segment_name(store->next, name);
	segment_encode_head(store->next, head);
	close_last(store);
	store->fd = openat(store->dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (store->fd < 0) {
		err = -errno;
		store->n_segments--;
		/* The previous segment is the one that is written again. */
		return reopen_last(store) ? -EIO : err;
	}
	/* Durable before the first record, so that a bad head with records behind it is damage. */
	err = disk_write(store->fd, head, sizeof(head), 0);
	if (!err && (disk_sync(store->fd) || disk_sync_dir(store->dir)))
		return -EIO;
	if (err)
		return pop_segment(store) || reopen_last(store) ? -EIO : err;
	last_segment(store)->size = LOG_HEAD_BYTES;
	store->synced = LOG_HEAD_BYTES;
	return 0;
}

static int make_room(struct log_store *store)
{
	const struct segment *last = last_segment(store);

	if (last && last->size < SEGMENT_BYTES)
		return 0;
	int err = last ? log_store_sync(store) : 0;
	return err ? -EIO : create_segment(store);
}

static int stage(struct log_store *store, size_t bytes)
{
	if (bytes <= store->staging_bytes)
		return 0;
	size_t wanted = bytes > STAGING_MIN_BYTES ? bytes : STAGING_MIN_BYTES;
	uint8_t *staging = realloc(store->staging, wanted);
	if (!staging)
		return -ENOMEM;
	store->staging = staging;
	store->staging_bytes = wanted;
	return 0;
}

int log_store_append(struct log_store *store, const struct raft_entry *entries, unsigned n)
{
	size_t bytes = 0, at = 0;

	for (unsigned i = 0; i < n; i++) {
		if (entries[i].buf.len > ENTRY_MAX_BYTES)
			return -EMSGSIZE;
		bytes += segment_record_bytes(entries[i].buf.len);
	}
	if (bytes > SEGMENT_FILE_MAX - SEGMENT_BYTES - LOG_HEAD_BYTES)
		return -EMSGSIZE;
	int err = make_room(store);
	if (!err)
		err = stage(store, bytes);
	if (err)
		return err;

	struct segment *segment = last_segment(store);
	uint32_t n_before = segment->n;
	for (unsigned i = 0; i < n && !err; i++) {
		segment_encode_record(store->next + i, store->synced, &entries[i],
				      store->staging + at);
		err = segment_add(segment, (uint32_t)(segment->size + at));
		at += segment_record_bytes(entries[i].buf.len);
	}
	if (!err)
		err = disk_write(store->fd, store->staging, bytes, segment->size);
	if (err) {
		segment->n = n_before;
		return ftruncate(store->fd, (off_t)segment->size) ? -EIO : err;
	}
	segment->size += bytes;
	store->next += n;
	return 0;
}

int log_store_sync(struct log_store *store)
{
	struct segment *segment = last_segment(store);

	if (!segment || store->synced == segment->size)
		return 0;
	int err = disk_sync(store->fd);
	if (!err)
		store->synced = segment->size;
	return err;
}

/* ---- dropping -------------------------------------------------------------------------------- */

int log_store_truncate(struct log_store *store, uint64_t index)
{
	int err = 0;

	if (index >= store->next)
		return 0;
	/* From the end, so that a crash in between leaves a log without gaps. */
	while (!err && store->n_segments && last_segment(store)->first >= index)
		err = pop_segment(store);
	struct segment *segment = last_segment(store);
	if (!err && segment && index < segment->first + segment->n) {
		segment->size = segment->offsets[index - segment->first];
		segment->n = (uint32_t)(index - segment->first);
	}
	if (!err)
		err = reopen_last(store);
	if (!err)
		err = disk_sync_dir(store->dir);
	if (!err)
		store->next = index;
	return err;
}

int log_store_drop_head(struct log_store *store, uint64_t index)
{
	size_t dropped = 0;
	int err = 0;

	while (dropped + 1 < store->n_segments && store->segments[dropped + 1].first <= index) {
		char name[SEGMENT_NAME_BYTES];

		segment_name(store->segments[dropped].first, name);
		if (unlinkat(store->dir, name, 0) && errno != ENOENT) {
			err = -errno;
			break;
		}
		free(store->segments[dropped].offsets);
		dropped++;
	}
	if (dropped) {
		store->n_segments -= dropped;
		memmove(store->segments, store->segments + dropped,
			store->n_segments * sizeof(*store->segments));
		if (!err)
			err = disk_sync_dir(store->dir);
	}
	return err;
}

int log_store_reset(struct log_store *store, uint64_t next)
{
	int err = 0;

	while (!err && store->n_segments)
		err = pop_segment(store);
	if (!err)
		err = disk_sync_dir(store->dir);
	if (!err)
		store->next = next;
	return err;
}
