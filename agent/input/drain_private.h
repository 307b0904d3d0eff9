/* agent/input/drain_private.h - what a drain is made of; for the drain*.c files alone.
 *
 * drain.c	  interface; reading the rings
 * drain_cut.c	  open batches, and cutting them
 * drain_finish.c after the node's end */
#ifndef BLIX_AGENT_INPUT_DRAIN_PRIVATE_H
#define BLIX_AGENT_INPUT_DRAIN_PRIVATE_H

#include "agent/input/drain.h"
#include "agent/input/recover.h"
#include "shm/ring.h"

#define DRAIN_SLOTS UINT32_MAX /* origin of what came from slots and not from a lane */

struct drain_lane {
	struct blix_ring_reader reader;
	bool open;
	uint64_t lost; /* already added to the totals */
	uint64_t corrupt;
	uint64_t duplicates;
	struct custody_mark placed; /* everything below is in a batch, or wanted by nobody */
	uint64_t cut_pos;	    /* placed.pos at the last cut */
};

/* A batch being filled. */
struct drain_open {
	struct batch *batch; /* NULL: none */
	uint64_t since_ms;   /* of the drain's clock */
	uint32_t *origin_of; /* by lane, the last for slots: index in batch->origins, plus 1 */
};

struct drain {
	struct blix_map *map;
	const struct blix_view *view;
	struct drain_totals *totals;
	struct drain_options options;
	struct batch_resource *resource;
	struct records *records;
	struct custody *custody;
	struct recover recover;
	uint64_t clock_ms; /* sum of what drain_poll() was told */
	uint32_t interval_ms;
	uint32_t next_lane; /* where an exhausted budget makes us go on */
	double fill;	    /* of the fullest ring after the last poll, not acknowledged */
	bool recovering;    /* drain_finish() has work to do, and is not waiting for somebody */
	bool finished;	    /* marked done */
	bool no_memory;	    /* the last poll ended at a record that could not be kept */
	uint64_t *record;
	uint32_t record_words;
	uint32_t n_lanes;
	struct drain_open open[BATCH_SIGNALS];
	struct custody_mark *marks; /* n_lanes; scratch of a cut */
	struct drain_lane lanes[];
};

/* drain_cut.c */
int drain_open_init(struct drain *d);
void drain_open_done(struct drain *d);
/* One record, whose seq is known, into its batch. False: no memory; it must be read again. */
bool drain_place(struct drain *d, uint32_t lane, const uint64_t *record, uint32_t n_words);
void drain_cut(struct drain *d);
void drain_give_up(struct drain *d, enum batch_signal signal);
/* The batch being filled for a signal, with an origin noted; NULL: no memory. */
struct batch *drain_batch(struct drain *d, enum batch_signal signal);
void drain_note_origin(struct drain *d, enum batch_signal signal, uint32_t lane, uint64_t seq);
/* Milliseconds until the oldest open batch is due; 0: now; UINT32_MAX: nothing is open. */
uint32_t drain_due_ms(const struct drain *d);

#endif
