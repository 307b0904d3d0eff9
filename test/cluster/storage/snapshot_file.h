/* snapshot_file.h - the newest snapshot on disk.
 *
 * `snapshot-<index>-<term>` holds a head (magic, index, term, configuration index, lengths, crc),
 * the configuration and the state machine's bytes. It is written under a temporary name, synced,
 * and renamed, so the name exists only when the content does. Older snapshots are then deleted.
 * Thread rule: one thread at a time. */
#ifndef CLUSTER_SNAPSHOT_FILE_H
#define CLUSTER_SNAPSHOT_FILE_H

#include <raft.h>

/* Durable when it returns 0. -EFBIG: too large to be sent to a peer; -errno. */
int snapshot_file_write(int dir, const struct raft_snapshot *snapshot);

/* 0: *ret_snapshot and all in it come from raft_malloc() and are the caller's; NULL: there is none.
 * -EBADMSG: damaged; -ENOMEM; -errno. */
int snapshot_file_read(int dir, struct raft_snapshot **ret_snapshot);

/* Free what snapshot_file_read() gave. Accepts NULL. */
void snapshot_free(struct raft_snapshot *snapshot);

#endif
