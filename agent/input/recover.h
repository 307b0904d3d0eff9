/* agent/input/recover.h - what a dead node's file tells of its end.
 *
 * All of it is a function of the file alone, so that a second agent, which finds other records
 * acknowledged, arrives at the same bytes. Work is done in steps, because a file may be very large.
 *
 * Thread rule: the loop thread. Includes: records.h, shm/. */
#ifndef BLIX_AGENT_INPUT_RECOVER_H
#define BLIX_AGENT_INPUT_RECOVER_H

#include "agent/input/records.h"
#include "shm/ring.h"
#include "shm/slot.h"

enum {
	RECOVER_RECORDS_STEP = 65536, /* record heads looked at in one step */
	RECOVER_SLOTS_STEP = 8192,
};

enum recover_stage { RECOVER_TIME, RECOVER_SLOTS, RECOVER_TOLD };

/* Zeroed memory is a recovery that has not begun. */
struct recover {
	enum recover_stage stage;
	uint32_t lane; /* to look at next */
	bool reading;
	struct blix_ring_reader reader;
	uint64_t last_ns;
	struct blix_slots_found found;
	struct records_end end;
};

/* Walk the heads of the records that the rings still hold; true once all were seen and r->end says
 * how the process ended. Its time is the later one of last record and last clock pair; a record more
 * than RECOVER_AHEAD_MAX_NS ahead of that pair is not believed. */
#define RECOVER_AHEAD_MAX_NS UINT64_C(3600000000000)
bool recover_time_step(struct recover *r, struct blix_map *map);

/* Visit the unfinished spans of the next lanes; true once all lanes were seen. */
bool recover_slots_step(struct recover *r, const struct blix_view *view, blix_slot_visit visit,
			void *arg);

/* Is there something to tell? A node that closed its file with nothing open ended in order. */
bool recover_worth_a_log(const struct recover *r);
/* "node 3 died, 2 spans open", into an empty place of a batch of logs. 0; errors of arena_alloc(). */
int recover_log(const struct recover *r, const struct records_clock *clock, uint64_t node_id,
		struct batch *b);

#endif
