/* test/cluster/selftest/disk.c
 * Goal: what the node has made durable survives every crash, and damage is told from a torn write.
 * Method: write logs, votes and snapshots, cut and corrupt the files byte by byte, open them again.
 */
#include "record_double.h"
#include "tap.h"

#include "test/cluster/storage/hard_state.h"
#include "test/cluster/limits.h"
#include "test/cluster/storage/log_segment.h"
#include "test/cluster/storage/log_store.h"
#include "test/cluster/storage/snapshot_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char path[64];
static int dir;

/* ---- a directory of one's own ---------------------------------------------------------------- */

static void clean(void)
{
	DIR *list = opendir(path);
	struct dirent *entry;

	while ((entry = readdir(list))) {
		if (entry->d_name[0] != '.')
			unlinkat(dir, entry->d_name, 0);
	}
	closedir(list);
}

static uint8_t *read_whole(const char *name, size_t *ret_len)
{
	uint8_t *bytes = malloc(64 << 20);
	int fd = openat(dir, name, O_RDONLY);
	ssize_t len = read(fd, bytes, 64 << 20);

	close(fd);
	if (!bytes || len < 0)
		abort();
	*ret_len = (size_t)len;
	return bytes;
}

static void write_whole(const char *name, const uint8_t *bytes, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, bytes, len) != (ssize_t)len)
		abort();
	close(fd);
}

/* ---- entries --------------------------------------------------------------------------------- */

static char text[64];

static struct raft_entry entry_of(uint64_t index, uint64_t term)
{
	int len = snprintf(text, sizeof(text), "entry %llu of term %llu", (unsigned long long)index,
			   (unsigned long long)term);

	return (struct raft_entry){
		.term = term, .type = RAFT_COMMAND, .buf = {.base = text, .len = (size_t)len}};
}

static bool is_entry(const struct raft_entry *entry, uint64_t index, uint64_t term)
{
	struct raft_entry wanted = entry_of(index, term);

	return entry->term == term && entry->type == wanted.type &&
	       entry->buf.len == wanted.buf.len &&
	       !memcmp(entry->buf.base, wanted.buf.base, wanted.buf.len);
}

static int append(struct log_store *log, uint64_t n, uint64_t term)
{
	int err = 0;

	for (uint64_t i = 0; i < n && !err; i++) {
		struct raft_entry entry = entry_of(log_store_next(log), term);
		err = log_store_append(log, &entry, 1);
	}
	return err;
}

static struct log_store *open_log(void)
{
	char reason[LOG_REASON_MAX];
	struct log_store *log = NULL;

	return log_store_open(dir, &log, reason) ? NULL : log;
}

static int open_error(void)
{
	char reason[LOG_REASON_MAX];
	struct log_store *log = NULL;
	int err = log_store_open(dir, &log, reason);

	log_store_close(log);
	return err;
}

/* True when the log holds first .. next-1, with the term that term_of gives for each. */
static bool holds(struct log_store *log, uint64_t first, uint64_t next,
		  uint64_t (*term_of)(uint64_t index))
{
	struct raft_entry *entries;
	size_t n;
	bool good = log && log_store_first(log) == first && log_store_next(log) == next;

	if (!good || log_store_load(log, &entries, &n))
		return false;
	good = n == next - first;
	for (size_t i = 0; i < n; i++) {
		good &= is_entry(&entries[i], first + i, term_of(first + i));
		raft_free(entries[i].batch);
	}
	raft_free(entries);
	return good;
}

static uint64_t always_3(uint64_t index)
{
	(void)index;
	return 3;
}

static uint64_t then_4(uint64_t index)
{
	return index < 6 ? 3 : 4;
}

/* ---- cases ----------------------------------------------------------------------------------- */

static void test_reload(void)
{
	struct log_store *log = open_log();

	tap(log && log_store_next(log) == 1 && log_store_first(log) == 1,
	    "an empty directory is an empty log");
	bool good = !append(log, 10, 3) && !log_store_sync(log) && holds(log, 1, 11, always_3);
	log = log_store_close(log);
	log = open_log();
	tap(good && holds(log, 1, 11, always_3) && !log_store_torn_bytes(log),
	    "what was appended is there after opening again");
	log_store_close(log);
	clean();
}

/* Ten entries: 1-5 synced, 6-8 synced, 9-10 not. */
static void make_log(void)
{
	struct log_store *log = open_log();

	if (append(log, 5, 3) || log_store_sync(log) || append(log, 3, 3) || log_store_sync(log) ||
	    append(log, 2, 3))
		abort();
	log_store_close(log);
}

static void test_torn(void)
{
	char name[SEGMENT_NAME_BYTES];
	size_t len, record = segment_record_bytes(strlen("entry 1 of term 3"));
	bool good = true;

	make_log();
	segment_name(1, name);
	uint8_t *bytes = read_whole(name, &len);
	for (size_t cut = 0; cut < len; cut++) {
		uint64_t whole = cut < LOG_HEAD_BYTES ? 0 : (cut - LOG_HEAD_BYTES) / record;

		write_whole(name, bytes, cut);
		struct log_store *log = open_log();
		size_t kept = cut < LOG_HEAD_BYTES ? 0 : LOG_HEAD_BYTES + whole * record;
		good &= log && log_store_torn_bytes(log) == cut - kept;
		good &= holds(log, 1, whole + 1, always_3);
		/* It can be written on, and read again. */
		good &= !append(log, 1, 3) && !log_store_sync(log);
		uint64_t next = log_store_next(log);
		log_store_close(log);
		log = open_log();
		good &= holds(log, 1, next, always_3);
		log_store_close(log);
		clean();
	}
	free(bytes);
	tap(good, "a log cut at any byte keeps its whole entries and goes on");
}

static void test_flipped(void)
{
	char name[SEGMENT_NAME_BYTES];
	size_t len, record = segment_record_bytes(strlen("entry 1 of term 3"));
	bool durable_found = true, torn_cut = true;

	make_log();
	segment_name(1, name);
	uint8_t *bytes = read_whole(name, &len);
	for (size_t i = 0; i < len; i++) {
		bytes[i] ^= 0x40;
		write_whole(name, bytes, len);
		if (i < LOG_HEAD_BYTES + 8 * record) {
			/* Records 9 and 10 say that everything before them was synced. */
			durable_found &= open_error() == -EBADMSG;
		} else {
			struct log_store *log = open_log();
			torn_cut &= log && log_store_next(log) < 11 && log_store_next(log) >= 9 &&
				    log_store_torn_bytes(log) > 0;
			log_store_close(log);
		}
		bytes[i] ^= 0x40;
	}
	free(bytes);
	clean();
	tap(durable_found, "a wrong bit in what was durable is told, wherever it is");
	tap(torn_cut, "a wrong bit in what was never synced is cut off");
}

static void test_truncate(void)
{
	struct log_store *log = open_log();
	bool good =
		!append(log, 10, 3) && !log_store_truncate(log, 6) && holds(log, 1, 6, always_3);

	good &= !append(log, 3, 4) && !log_store_sync(log) && holds(log, 1, 9, then_4);
	log_store_close(log);
	log = open_log();
	tap(good && holds(log, 1, 9, then_4), "a truncated log goes on with other entries");
	good = !log_store_truncate(log, 100) && log_store_next(log) == 9;
	good &= !log_store_truncate(log, 1) && log_store_next(log) == 1;
	log_store_close(log);
	log = open_log();
	tap(good && log_store_next(log) == 1,
	    "it can be truncated to nothing, and beyond its end to no effect");
	log_store_close(log);
	clean();
}

static int append_large(struct log_store *log, unsigned n)
{
	static uint8_t data[512 << 10];
	struct raft_entry entry = {
		.term = 1, .type = RAFT_COMMAND, .buf = {.base = data, .len = sizeof(data)}};
	int err = 0;

	for (unsigned i = 0; i < n && !err; i++)
		err = log_store_append(log, &entry, 1);
	return err ? err : log_store_sync(log);
}

static void test_segments(void)
{
	struct log_store *log = open_log();
	char name[SEGMENT_NAME_BYTES];

	bool good = !append_large(log, 40) && log_store_segments(log) >= 4;
	size_t segments = log_store_segments(log);
	log_store_close(log);
	log = open_log();
	tap(good && log && log_store_next(log) == 41 && log_store_segments(log) == segments,
	    "a long log is kept in several segments");
	good = !log_store_drop_head(log, 30) && log_store_first(log) > 1 &&
	       log_store_first(log) <= 30;
	uint64_t first = log_store_first(log);
	log_store_close(log);
	log = open_log();
	tap(good && log && log_store_first(log) == first && log_store_next(log) == 41,
	    "its head can be dropped, whole segments at a time");
	good = !log_store_truncate(log, first + 2) && log_store_next(log) == first + 2 &&
	       log_store_segments(log) == 1 && !append(log, 1, 3);
	tap(good, "truncating goes back over segments");
	good = !append_large(log, 30) && log_store_segments(log) >= 3;
	log_store_close(log);
	segment_name(first, name);
	size_t len;
	uint8_t *bytes = read_whole(name, &len);
	write_whole(name, bytes, len - 8);
	tap(good && open_error() == -EBADMSG, "a segment cut short before others is damage");
	write_whole(name, bytes, len);
	free(bytes);
	log = open_log();
	good = log && !log_store_reset(log, 1000) && log_store_next(log) == 1000 &&
	       !append(log, 2, 3) && !log_store_sync(log);
	log_store_close(log);
	log = open_log();
	tap(good && log && log_store_first(log) == 1000 && log_store_next(log) == 1002,
	    "after a reset the log begins where a snapshot ends");
	log_store_close(log);
	segment_name(2000, name);
	write_whole(name, (const uint8_t *)"x", 1);
	tap(open_error() == -EBADMSG, "a gap between segments is damage");
	clean();
}

/* The size limit of files stands in for a disk that takes a part of a write and then no more. */
static void test_full(void)
{
	struct log_store *log = open_log();
	struct rlimit limit, before;

	bool good = !append(log, 5, 3) && !log_store_sync(log);
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = 400;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	unsigned errors = recorded_errors[STORAGE_WRITE];
	int err = append(log, 5, 3);
	uint64_t next = log_store_next(log);
	setrlimit(RLIMIT_FSIZE, &before);
	tap(good && err == -EFBIG && next < 11 && recorded_errors[STORAGE_WRITE] == errors + 1,
	    "a write that fails half way is an error, and counted");
	good = holds(log, 1, next, always_3) && !append(log, 11 - next, 3) && !log_store_sync(log);
	log_store_close(log);
	log = open_log();
	tap(good && holds(log, 1, 11, always_3) && !log_store_torn_bytes(log),
	    "and it can be repeated when there is room");
	struct raft_entry large = entry_of(1, 1);
	large.buf.len = ENTRY_MAX_BYTES + 1;
	tap(log_store_append(log, &large, 1) == -EMSGSIZE, "an entry beyond the limit is refused");
	log_store_close(log);
	clean();
}

static void test_hard_state(void)
{
	struct hard_state state;
	size_t len;

	bool good = !hard_state_open(dir, 7, &state) && !state.term &&
		    !hard_state_save(&state, 4, 2) && !hard_state_save(&state, 5, 0) &&
		    !hard_state_save(&state, 5, 3);
	hard_state_close(&state);
	good &= !hard_state_open(dir, 7, &state) && state.term == 5 && state.vote == 3;
	hard_state_close(&state);
	tap(good, "term and vote are there after opening again");
	tap(hard_state_open(dir, 8, &state) == -ENXIO && state.node_id == 7,
	    "another node's directory is refused, and its owner named");

	uint8_t *bytes = read_whole("state", &len);
	good = len == 2 * HARD_STATE_SLOT_BYTES;
	for (size_t i = 0; i < len; i++) {
		bytes[i] ^= 1;
		write_whole("state", bytes, len);
		bytes[i] ^= 1;
		good &= !hard_state_open(dir, 7, &state) && state.term == 5 &&
			(state.vote == 3 || state.vote == 0);
		hard_state_close(&state);
	}
	tap(good, "a torn save leaves the one before it");
	bytes[0] ^= 1;
	bytes[HARD_STATE_SLOT_BYTES] ^= 1;
	write_whole("state", bytes, len);
	tap(hard_state_open(dir, 7, &state) == -EBADMSG, "without a whole slot it is damaged");
	free(bytes);
	clean();
}

static struct raft_snapshot *make_snapshot(uint64_t index)
{
	static struct raft_buffer bufs[2] = {{.base = (void *)(uintptr_t) "one,", .len = 4},
					     {.base = (void *)(uintptr_t) "two", .len = 3}};
	static struct raft_snapshot snapshot;

	snapshot = (struct raft_snapshot){
		.index = index, .term = 2, .configuration_index = 3, .bufs = bufs, .n_bufs = 2};
	raft_configuration_init(&snapshot.configuration);
	if (raft_configuration_add(&snapshot.configuration, 1, "127.0.0.1:7001", RAFT_VOTER) ||
	    raft_configuration_add(&snapshot.configuration, 2, "127.0.0.1:7002", RAFT_SPARE))
		abort();
	return &snapshot;
}

static int put_snapshot(uint64_t index)
{
	struct raft_snapshot *snapshot = make_snapshot(index);
	int err = snapshot_file_write(dir, snapshot);

	raft_configuration_close(&snapshot->configuration);
	return err;
}

static bool is_snapshot(const struct raft_snapshot *s, uint64_t index)
{
	return s && s->index == index && s->term == 2 && s->configuration_index == 3 &&
	       s->n_bufs == 1 && s->bufs[0].len == 7 && !memcmp(s->bufs[0].base, "one,two", 7) &&
	       s->configuration.n == 2 && s->configuration.servers[1].role == RAFT_SPARE &&
	       !strcmp(s->configuration.servers[1].address, "127.0.0.1:7002");
}

static void test_snapshot(void)
{
	static const char name[] = "snapshot-00000000000000000020-00000000000000000002";
	struct raft_snapshot *snapshot = NULL;
	size_t len;

	tap(!snapshot_file_read(dir, &snapshot) && !snapshot, "without a snapshot there is none");
	bool good = !put_snapshot(10) && !put_snapshot(20);
	write_whole("snapshot.tmp", (const uint8_t *)"half", 4);
	good &= !snapshot_file_read(dir, &snapshot) && is_snapshot(snapshot, 20);
	snapshot_free(snapshot);
	tap(good, "the newest snapshot is read, whatever else lies there");
	tap(faccessat(dir, "snapshot-00000000000000000010-00000000000000000002", F_OK, 0) < 0,
	    "the one before it is gone");
	uint8_t *bytes = read_whole(name, &len);
	good = true;
	for (size_t i = 0; i < len; i++) {
		if (i >= 60 && i < 64) /* not used */
			continue;
		bytes[i] ^= 4;
		write_whole(name, bytes, len);
		bytes[i] ^= 4;
		good &= snapshot_file_read(dir, &snapshot) == -EBADMSG;
	}
	for (size_t cut = 0; cut < len; cut++) {
		write_whole(name, bytes, cut);
		good &= snapshot_file_read(dir, &snapshot) == -EBADMSG;
	}
	free(bytes);
	tap(good, "a wrong or missing byte is found");
	clean();
}

int main(void)
{
	snprintf(path, sizeof(path), "/dev/shm/blix-selftest-XXXXXX");
	if (!mkdtemp(path))
		return 1;
	dir = open(path, O_RDONLY | O_DIRECTORY);
	test_reload();
	test_torn();
	test_flipped();
	test_truncate();
	test_segments();
	test_full();
	test_hard_state();
	test_snapshot();
	clean();
	close(dir);
	rmdir(path);
	return tap_done();
}
