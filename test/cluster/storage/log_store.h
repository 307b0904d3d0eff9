/* log_store.h - the Raft log on disk.
 *
 * A directory holds segments `log-<first index, 20 digits>`, each a head and records one after the
 * other, in order and without gaps:
 *
 *   segment head   LOG_HEAD_BYTES: magic, first index, crc
 *   record         LOG_RECORD_BYTES: crc, length, index, term, synced, type; then the data, padded
 *                  to 8 bytes. The checksum covers everything after itself.
 *
 * `synced` is how much of the segment was durable when the record was written. After a crash the
 * last segment may end in a torn write: whatever follows the first bad record is cut off, and
 * counted. But if a later record proves by its `synced` that the bad one had been durable, the disk
 * has lost acknowledged entries, and opening fails with -EBADMSG instead of hiding it.
 *
 * Entries appended are durable after log_store_sync(), not before. Thread rule: one thread at a
 * time (the main thread while opening, the storage thread afterwards). */
#ifndef CLUSTER_LOG_STORE_H
#define CLUSTER_LOG_STORE_H

#include <raft.h>
#include <stddef.h>
#include <stdint.h>

enum { LOG_HEAD_BYTES = 32, LOG_RECORD_BYTES = 40, LOG_REASON_MAX = 192 };

struct log_store;

/* `dir` is borrowed until close. 0; -EBADMSG: damaged, `reason` says where; -ENOMEM; -errno. */
int log_store_open(int dir, struct log_store **ret_store, char reason[LOG_REASON_MAX]);

/* Accepts NULL; returns NULL. */
struct log_store *log_store_close(struct log_store *store);

uint64_t log_store_first(const struct log_store *store);      /* index; == next when empty */
uint64_t log_store_next(const struct log_store *store);	      /* index of the next entry */
uint64_t log_store_torn_bytes(const struct log_store *store); /* cut off when it was opened */
size_t log_store_segments(const struct log_store *store);

/* Read all entries; *ret_entries comes from raft_malloc() (NULL when there are none), each with a
 * batch of its own. 0; -EBADMSG, -ENOMEM, -errno: nothing is left allocated. */
int log_store_load(const struct log_store *store, struct raft_entry **ret_entries, size_t *ret_n);

/* Append at log_store_next(). 0, or -errno with the store as it was before: after -ENOSPC the call
 * may be repeated. -EIO where even going back failed: the store must not be used further. */
int log_store_append(struct log_store *store, const struct raft_entry *entries, unsigned n);

/* Make everything appended durable. A failure is final. */
int log_store_sync(struct log_store *store);

/* Drop the entries from `index` on; durable on return. */
int log_store_truncate(struct log_store *store, uint64_t index);

/* Drop segments that hold only entries below `index`; the one being written stays. */
int log_store_drop_head(struct log_store *store, uint64_t index);

/* Drop everything; the next entry will be `next`. */
int log_store_reset(struct log_store *store, uint64_t next);

#endif
