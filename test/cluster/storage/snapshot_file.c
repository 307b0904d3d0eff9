/* snapshot_file.c - see snapshot_file.h. Thread rule: one thread at a time. */
#include "snapshot_file.h"

#include "bytes.h"
#include "disk.h"
#include "test/cluster/limits.h"
#include "shm/format.h"
#include "test/cluster/raft/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const uint64_t head_magic = 0x50414e534e584c42ULL; /* "BLXNSNAP" */
static const char temporary_name[] = "snapshot.tmp";

enum {
	HEAD_BYTES = 64,
	CRC_AT = HEAD_BYTES - 8, /* checksum of all bytes but the last 8 of the head */
	NAME_BYTES = 64,
};

static void file_name(uint64_t index, uint64_t term, char name[NAME_BYTES])
{
	snprintf(name, NAME_BYTES, "snapshot-%020" PRIu64 "-%020" PRIu64, index, term);
}

static bool parse_name(const char *name, uint64_t *ret_index, uint64_t *ret_term)
{
	char canonical[NAME_BYTES];
	uint64_t index, term;

	if (sscanf(name, "snapshot-%20" SCNu64 "-%20" SCNu64, &index, &term) != 2)
		return false;
	file_name(index, term, canonical);
	if (strcmp(name, canonical))
		return false;
	*ret_index = index;
	*ret_term = term;
	return true;
}

static uint32_t checksum(const uint8_t *bytes, size_t len)
{
	return blix_crc32c(bytes, CRC_AT) ^ blix_crc32c(bytes + HEAD_BYTES, len - HEAD_BYTES);
}

static uint8_t *encode(const struct raft_snapshot *snapshot, size_t *ret_len)
{
	size_t conf_bytes = wire_configuration_bytes(&snapshot->configuration), data_bytes = 0;

	for (unsigned i = 0; i < snapshot->n_bufs; i++)
		data_bytes += snapshot->bufs[i].len;
	size_t len = HEAD_BYTES + conf_bytes + data_bytes;
	uint8_t *bytes = malloc(len);
	if (!bytes)
		return NULL;

	struct writer w = writer_of(bytes, len);
	put_u64(&w, head_magic);
	put_u64(&w, snapshot->index);
	put_u64(&w, snapshot->term);
	put_u64(&w, snapshot->configuration_index);
	put_u64(&w, conf_bytes);
	put_u64(&w, data_bytes);
	put_zeros(&w, HEAD_BYTES - 6 * 8);
	wire_put_configuration(&w, &snapshot->configuration);
	for (unsigned i = 0; i < snapshot->n_bufs; i++)
		put_bytes(&w, snapshot->bufs[i].base, snapshot->bufs[i].len);

	struct writer crc = writer_of(bytes + CRC_AT, HEAD_BYTES - CRC_AT);
	put_u32(&crc, checksum(bytes, len));
	*ret_len = len;
	return bytes;
}

static int write_file(int dir, const char *name, const uint8_t *bytes, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	int err = disk_write(fd, bytes, len, 0);
	if (!err)
		err = disk_sync(fd);
	close(fd);
	return err;
}

/* Calls visit(name, index, term) for each snapshot in the directory. */
struct newest {
	uint64_t index;
	uint64_t term;
	bool found;
};

static int for_each(int dir,
		    void (*visit)(int dir, const char *name, uint64_t index, uint64_t term,
				  struct newest *newest),
		    struct newest *newest)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	uint64_t index, term;

	if (!list) {
		int err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	while ((entry = readdir(list))) {
		if (parse_name(entry->d_name, &index, &term))
			visit(dir, entry->d_name, index, term, newest);
	}
	closedir(list);
	return 0;
}

static void keep_newest(int dir, const char *name, uint64_t index, uint64_t term,
			struct newest *newest)
{
	(void)dir;
	(void)name;
	if (newest->found &&
	    (index < newest->index || (index == newest->index && term < newest->term)))
		return;
	*newest = (struct newest){.index = index, .term = term, .found = true};
}

static void delete_other(int dir, const char *name, uint64_t index, uint64_t term,
			 struct newest *newest)
{
	/* One that cannot be deleted is only older and in the way of nobody. */
	if (index != newest->index || term != newest->term)
		(void)unlinkat(dir, name, 0);
}

int snapshot_file_write(int dir, const struct raft_snapshot *snapshot)
{
	struct newest newest = {.index = snapshot->index, .term = snapshot->term, .found = true};
	char name[NAME_BYTES];
	size_t len;
	uint8_t *bytes = encode(snapshot, &len);

	if (!bytes)
		return -ENOMEM;
	/* The Raft message that carries it to a peer has a few bytes of its own. */
	int err =
		len > FRAME_MAX_BYTES - 1024 ? -EFBIG : write_file(dir, temporary_name, bytes, len);
	free(bytes);
	if (err) {
		(void)unlinkat(dir, temporary_name, 0);
		return err;
	}
	file_name(snapshot->index, snapshot->term, name);
	if (renameat(dir, temporary_name, dir, name))
		return -errno;
	err = disk_sync_dir(dir);
	return err ? err : for_each(dir, delete_other, &newest);
}

void snapshot_free(struct raft_snapshot *snapshot)
{
	if (!snapshot)
		return;
	raft_configuration_close(&snapshot->configuration);
	if (snapshot->bufs) {
		raft_free(snapshot->bufs[0].base);
		raft_free(snapshot->bufs);
	}
	raft_free(snapshot);
}

static int copy_data(struct raft_snapshot *snapshot, const uint8_t *data, size_t len)
{
	snapshot->bufs = raft_calloc(1, sizeof(*snapshot->bufs));
	if (!snapshot->bufs)
		return -ENOMEM;
	snapshot->n_bufs = 1;
	snapshot->bufs[0].base = raft_malloc(len ? len : 1);
	if (!snapshot->bufs[0].base)
		return -ENOMEM;
	memcpy(snapshot->bufs[0].base, data, len);
	snapshot->bufs[0].len = len;
	return 0;
}

static int decode(const uint8_t *bytes, size_t len, const struct newest *newest,
		  struct raft_snapshot *snapshot)
{
	struct reader r = reader_of(bytes, len);

	if (len < HEAD_BYTES || get_u64(&r) != head_magic)
		return -EBADMSG;
	snapshot->index = get_u64(&r);
	snapshot->term = get_u64(&r);
	snapshot->configuration_index = get_u64(&r);
	uint64_t conf_bytes = get_u64(&r), data_bytes = get_u64(&r);
	(void)get_bytes(&r, CRC_AT - 6 * 8);
	if (get_u32(&r) != checksum(bytes, len) || snapshot->index != newest->index ||
	    snapshot->term != newest->term || conf_bytes > len || data_bytes > len ||
	    conf_bytes + data_bytes + HEAD_BYTES != len)
		return -EBADMSG;
	struct reader conf = reader_of(bytes + HEAD_BYTES, conf_bytes);
	int err = wire_get_configuration(&conf, &snapshot->configuration);
	if (err)
		return err == -EPROTO ? -EBADMSG : err;
	return copy_data(snapshot, bytes + HEAD_BYTES + conf_bytes, data_bytes);
}

int snapshot_file_read(int dir, struct raft_snapshot **ret_snapshot)
{
	struct newest newest = {.found = false};
	struct raft_snapshot *snapshot;
	char name[NAME_BYTES];
	uint8_t *bytes;
	size_t len;

	int err = for_each(dir, keep_newest, &newest);
	if (err)
		return err;
	if (!newest.found) {
		*ret_snapshot = NULL;
		return 0;
	}
	file_name(newest.index, newest.term, name);
	err = disk_read_file(dir, name, FRAME_MAX_BYTES, &bytes, &len);
	if (err)
		return err;
	snapshot = raft_calloc(1, sizeof(*snapshot));
	err = snapshot ? decode(bytes, len, &newest, snapshot) : -ENOMEM;
	free(bytes);
	if (err) {
		snapshot_free(snapshot);
		return err;
	}
	*ret_snapshot = snapshot;
	return 0;
}
