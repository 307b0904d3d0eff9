/* agent/model/delta.h - MODEL: what was counted since the far end last took over.
 *
 * For each series of each node life, the values last acknowledged and when. begin() compares a
 * snapshot with them; commit() makes that snapshot the new baseline once the deltas are in somebody
 * else's custody (accepted, refused for good, or spooled); rollback() forgets the attempt, so that
 * the next begin() covers the same time again. A delta that was committed is never computed again.
 *
 * Thread rule: one thread at a time. Bounded by DELTA_*: series that are new when there is no room
 * left are skipped and counted; those that have a baseline keep it. Includes: snapshot.h, libc. */
#ifndef BLIX_AGENT_MODEL_DELTA_H
#define BLIX_AGENT_MODEL_DELTA_H

#include "agent/model/snapshot.h"

enum {
	DELTA_LIVES_MAX = 32,	    /* the one touched longest ago goes first */
	DELTA_BYTES_MAX = 16 << 20, /* of one life, as serialised */
	DELTA_INCARNATION_BYTES = 32,
};

/* The snapshot's values with the baseline taken off, indexed as the snapshot's own are. Gauges are
 * as they were. Good until commit, rollback or the snapshot's next change. */
struct delta_view {
	const uint64_t *values;
	const uint64_t *start_unix_ns; /* of each series: its last committed point, or its family's
					  start; 0 = not known */
	const bool *skipped;	       /* series that the tracker has no room for */
};

struct delta;

struct delta *delta_new(void);		   /* NULL: no memory */
struct delta *delta_free(struct delta *d); /* accepts NULL, returns NULL */

/* incarnation: 32 hex digits, terminated. final: the life has ended, this is its last delta.
 * 0: ret_view; a commit or rollback must follow. -EALREADY: the final delta of this life was
 * committed, there is nothing to send. -EBUSY: an attempt is open. -EINVAL: incarnation, or time
 * not after the last committed one. -ENOMEM. */
int delta_begin(struct delta *d, const struct snapshot *s, const char *incarnation,
		uint64_t time_unix_ns, bool final, struct delta_view *ret_view);
void delta_commit(struct delta *d);   /* without an open attempt: nothing */
void delta_rollback(struct delta *d); /* the same */

/* Baselines as bytes: versioned, checksummed, little-endian. *ret_bytes is malloc()ed, the
 * caller's. An open attempt is not in it; what a commit would make of it is with `committed`.
 * 0; -ENOMEM. */
int delta_save(const struct delta *d, bool committed, uint8_t **ret_bytes, size_t *ret_len);
/* Replace all baselines. Bytes may be hostile; nothing changes on failure.
 * 0; -EBADMSG they are no such bytes or damaged; -EPROTONOSUPPORT version; -EBUSY; -ENOMEM. */
int delta_load(struct delta *d, const uint8_t *bytes, size_t len);

/* Series that found no room, since delta_new. */
uint64_t delta_skipped(const struct delta *d);

#endif
