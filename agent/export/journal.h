/* agent/export/journal.h - logs of the nodes to the systemd journal, by its native protocol.
 *
 * One datagram a log. Directly and not through sd_journal_sendv(), whose socket blocks: a journal
 * that stands still must not hold up the loop. What it does not take now waits in a bounded queue;
 * a batch that has waited for JOURNAL_WAIT_MS, or finds the queue full, is dropped and counted.
 *
 * Thread rule: the loop thread; nothing sleeps. Includes: model/, buf.h, log.h, libevent. */
#ifndef BLIX_AGENT_EXPORT_JOURNAL_H
#define BLIX_AGENT_EXPORT_JOURNAL_H

#include "agent/buf.h"
#include "agent/model/batch.h"

#include <stdint.h>

enum {
	JOURNAL_QUEUE_MAX = 16, /* batches that wait */
	JOURNAL_BURST = 256,	/* logs sent before the loop gets its turn again */
	JOURNAL_RETRY_MS = 100,
	JOURNAL_WAIT_MS = 10000,
	JOURNAL_ENTRY_BYTES_MAX = 1 << 20,
	JOURNAL_FIELD_MAX = 64, /* of a field's name, as journald has it */
};
#define JOURNAL_SOCKET "/run/systemd/journal/socket"

struct event_base;
struct journal;

struct journal_counts {
	uint64_t sent;
	uint64_t dropped; /* in logs: the journal took too long, or refused them for good */
	uint32_t waiting; /* batches */
};

/* `path` of the journal's socket, NULL: JOURNAL_SOCKET; copied. It need not exist yet.
 * 0; -ENAMETOOLONG; -ENOMEM; or as socket(2) says. */
int journal_new(struct event_base *base, const char *path, struct journal **ret_journal);

/* Take a sealed batch of logs: held until it is sent or dropped. One of traces is ignored. */
void journal_take(struct journal *j, struct batch *b);

void journal_counts(const struct journal *j, struct journal_counts *ret_counts);

/* Batches that wait are abandoned: their records stay in the ring. Accepts NULL; returns NULL. */
struct journal *journal_free(struct journal *j);

/* ---- pure parts, for tests ------------------------------------------------------------------- */

/* One log as an entry of the native protocol, appended to `out`. */
void journal_encode(const struct batch_log *log, const struct batch_resource *resource,
		    struct buf *out);

/* The field of an attribute: upper case, '_' for what a field may not have, "ATTR_" in front where
 * the name is one that journald or this agent gives a meaning. Terminated. */
void journal_field(const char *key, size_t len, char ret_field[JOURNAL_FIELD_MAX + 1]);

#endif
