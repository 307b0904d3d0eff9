/* inspect.c - prints a data directory: what was voted, the snapshot, and each entry of the log. For
 * tests and for people who wonder what a node has kept. The node must not run. Main thread. */
#include "node.h"

#include "test/cluster/state/command.h"
#include "test/cluster/storage/disk.h"
#include "test/cluster/storage/hard_state.h"
#include "test/cluster/storage/log_store.h"
#include "shm/format.h"
#include "test/cluster/storage/snapshot_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int print_snapshot(int dir)
{
	struct raft_snapshot *snapshot;

	int err = snapshot_file_read(dir, &snapshot);
	if (err)
		return err;
	if (snapshot)
		printf("snapshot index=%llu term=%llu members=%u bytes=%zu\n", snapshot->index,
		       snapshot->term, snapshot->configuration.n, snapshot->bufs[0].len);
	snapshot_free(snapshot);
	return 0;
}

static void print_entry(uint64_t index, const struct raft_entry *entry)
{
	struct command command;

	printf("entry index=%" PRIu64 " term=%llu type=%u crc=%08x", index, entry->term,
	       entry->type, blix_crc32c(entry->buf.base, entry->buf.len));
	if (entry->type == RAFT_COMMAND &&
	    !command_decode(entry->buf.base, entry->buf.len, &command))
		printf(" origin=%" PRIu64 " sequence=%" PRIu64, command.origin, command.sequence);
	putchar('\n');
}

static int print_log(int dir, char reason[LOG_REASON_MAX])
{
	struct log_store *log;
	struct raft_entry *entries;
	size_t n;

	int err = log_store_open(dir, &log, reason);
	if (err)
		return err;
	uint64_t first = log_store_first(log);
	printf("log first=%" PRIu64 " next=%" PRIu64 " segments=%zu torn=%" PRIu64 "\n", first,
	       log_store_next(log), log_store_segments(log), log_store_torn_bytes(log));
	err = log_store_load(log, &entries, &n);
	for (size_t i = 0; !err && i < n; i++) {
		print_entry(first + i, &entries[i]);
		raft_free(entries[i].batch);
	}
	if (!err)
		raft_free(entries);
	log_store_close(log);
	return err;
}

int node_inspect(const struct options *options)
{
	char reason[LOG_REASON_MAX] = "";
	struct hard_state state;
	int dir;

	int err = disk_open_dir(options->data, &dir);
	if (!err)
		err = hard_state_open(dir, 0, &state);
	if (!err) {
		printf("state node=%" PRIu64 " term=%" PRIu64 " vote=%" PRIu64 "\n", state.node_id,
		       state.term, state.vote);
		hard_state_close(&state);
		err = print_snapshot(dir);
	}
	if (!err)
		err = print_log(dir, reason);
	if (err)
		fprintf(stderr, "blixard-node: %s: %s\n", options->data,
			reason[0] ? reason : strerror(-err));
	return err ? 1 : 0;
}
