/* storage.h - the thread that owns the disk.
 *
 * Raft's loop hands it jobs through a bounded queue and is called back, in order, on the loop. The
 * thread takes everything that waits at once, so that many appends share one fdatasync.
 *
 * A full disk delays the job, counted, until there is room again: Raft 0.15 cannot take an entry
 * back that it has already sent to others. A disk that fails otherwise is final, since what a
 * failed sync leaves on the medium is unknown: the node is told, and must stop. Calls: loop thread
 * only. */
#ifndef CLUSTER_STORAGE_H
#define CLUSTER_STORAGE_H

#include "log_store.h"

#include <event2/event.h>
#include <raft.h>
#include <stdbool.h>

struct storage;

struct storage_events {
	void (*done)(void *arg);	     /* callbacks have just been delivered */
	void (*fatal)(void *arg, int error); /* the disk failed for good; once */
	void *arg;
};

/* `dir` is borrowed; `log` is owned from here on. 0 or -errno. */
int storage_start(struct event_base *base, int dir, struct log_store *log,
		  const struct storage_events *events, struct storage **ret_storage);

/* Each: 0, and `cb` will be called on the loop; -EAGAIN when too much is waiting; -ENOMEM. What the
 * arguments point to must live until then. */
int storage_append(struct storage *storage, struct raft_io_append *request,
		   const struct raft_entry *entries, unsigned n, raft_io_append_cb cb);
int storage_truncate(struct storage *storage, raft_index index);
int storage_put(struct storage *storage, unsigned trailing, struct raft_io_snapshot_put *request,
		const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb);
int storage_get(struct storage *storage, struct raft_io_snapshot_get *request,
		raft_io_snapshot_get_cb cb);

/* True while there is room for a message's entries: a follower ignores them otherwise. */
bool storage_has_room(struct storage *storage);

/* Finish what waits, then call `stopped` on the loop. */
void storage_stop(struct storage *storage, void (*stopped)(void *arg), void *arg);

/* After `stopped` was called. Accepts NULL; returns NULL. */
struct storage *storage_free(struct storage *storage);

#endif
