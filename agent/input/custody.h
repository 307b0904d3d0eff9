/* agent/input/custody.h - how far may the rings forget?
 *
 * The drain cuts what it has read into batches. A cut says for each lane that moved how far reading
 * had got, and lives until all of its batches were freed. Cuts are acknowledged in their order: the
 * longest run of finished ones from the front, so that a lane's head never passes a record that
 * somebody still answers for. A cut with an abandoned batch is never finished: from there on
 * nothing is acknowledged, and the next agent reads it again.
 *
 * Batches outlive the drain: a freed custody waits for them, acknowledging nothing.
 *
 * Thread rule: the loop thread. Bounded by CUSTODY_*. Includes: batch.h, libc. */
#ifndef BLIX_AGENT_INPUT_CUSTODY_H
#define BLIX_AGENT_INPUT_CUSTODY_H

#include "agent/model/batch.h"

enum {
	CUSTODY_CUTS_MAX = 256,
	CUSTODY_BYTES_MAX = 48 << 20, /* memory of the batches that are out */
};

/* Everything below `pos` of a lane was read; what an acknowledgement stores (shm/ring.h). */
struct custody_mark {
	uint32_t lane;
	uint64_t pos;
	uint64_t seq;
	uint64_t lost;
};

typedef void (*custody_ack)(void *arg, const struct custody_mark *mark);

struct custody;

/* NULL: no memory. */
struct custody *custody_new(custody_ack ack, void *arg);
/* Acknowledge nothing from here on. Accepts NULL; returns NULL. */
struct custody *custody_free(struct custody *c);

/* Close a cut: reading has got to `marks`, and all that was read since the last cut is in `batches`
 * or is wanted by nobody. Sets the batches' hooks; they must not have been held by anybody else.
 * Without batches it is finished at once, in its turn.
 * 0; -ENOMEM: it is not kept, so nothing will be acknowledged any more. */
int custody_cut(struct custody *c, const struct custody_mark *marks, uint32_t n_marks,
		struct batch *const *batches, uint32_t n_batches);

/* May another cut be made? False: stop reading; the ring is the queue. */
bool custody_has_room(const struct custody *c);

struct custody_figures {
	uint32_t cuts;	  /* not acknowledged yet */
	uint32_t batches; /* not freed yet */
	uint64_t bytes;
	uint64_t items[BATCH_SIGNALS]; /* not acknowledged yet */
	bool stuck;		       /* something was abandoned: acknowledgement has stopped */
};
void custody_figures(const struct custody *c, struct custody_figures *ret_figures);

#endif
