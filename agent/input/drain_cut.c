/* agent/input/drain_cut.c - batches being filled, and cutting them. See drain_private.h. */
#include "agent/input/drain_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int drain_open_init(struct drain *d)
{
	for (int i = 0; i < BATCH_SIGNALS; i++) {
		d->open[i].origin_of = calloc(d->n_lanes + 1, sizeof(uint32_t));
		if (!d->open[i].origin_of)
			return -ENOMEM;
	}
	return 0;
}

void drain_open_done(struct drain *d)
{
	for (int i = 0; i < BATCH_SIGNALS; i++) {
		if (d->open[i].batch)
			batch_release(d->open[i].batch); /* no hook yet: simply memory */
		free(d->open[i].origin_of);
	}
}

/* ---- filling --------------------------------------------------------------------------------- */

struct batch *drain_batch(struct drain *d, enum batch_signal signal)
{
	struct drain_open *open = &d->open[signal];
	void *origins;

	if (open->batch)
		return open->batch;
	open->batch = batch_new(signal, d->resource);
	if (!open->batch)
		return NULL;
	if (arena_alloc(&open->batch->memory, (d->n_lanes + 1) * sizeof(open->batch->origins[0]),
			&origins) < 0) {
		batch_release(open->batch);
		open->batch = NULL;
		return NULL;
	}
	open->batch->origins = origins;
	open->since_ms = d->clock_ms;
	memset(open->origin_of, 0, (d->n_lanes + 1) * sizeof(open->origin_of[0]));
	return open->batch;
}

void drain_note_origin(struct drain *d, enum batch_signal signal, uint32_t lane, uint64_t seq)
{
	struct drain_open *open = &d->open[signal];
	uint32_t *of = &open->origin_of[lane == DRAIN_SLOTS ? d->n_lanes : lane];

	if (*of == 0) {
		open->batch->origins[open->batch->n_origins] =
			(struct batch_origin){.lane = lane, .first_seq = seq, .last_seq = seq};
		*of = ++open->batch->n_origins;
		return;
	}
	open->batch->origins[*of - 1].last_seq = seq;
}

static int decode(struct drain *d, enum batch_signal signal, const uint64_t *record,
		  uint32_t n_words)
{
	struct batch *b = drain_batch(d, signal);

	if (!b)
		return -ENOMEM;
	return signal == BATCH_TRACES ? records_span(d->records, record, n_words, b)
				      : records_log(d->records, record, n_words, b);
}

/* One record does not even fit an empty batch. What it took of that is given back. */
void drain_give_up(struct drain *d, enum batch_signal signal)
{
	struct drain_open *open = &d->open[signal];

	records_too_large(d->records);
	if (open->batch && open->batch->n == 0) {
		batch_release(open->batch);
		open->batch = NULL;
	}
}

/* A batch that is full makes room by being cut. What does not fit an empty one is given up and
 * counted. */
bool drain_place(struct drain *d, uint32_t lane, const uint64_t *record, uint32_t n_words)
{
	struct blix_record head;
	enum batch_signal signal;
	int e;

	memcpy(&head, record, sizeof(head));
	signal = head.type == BLIX_REC_SPAN ? BATCH_TRACES : BATCH_LOGS;
	e = decode(d, signal, record, n_words);
	if (e == -ENOSPC && d->open[signal].batch->n > 0) {
		drain_cut(d);
		e = decode(d, signal, record, n_words);
	}
	if (e == 0)
		drain_note_origin(d, signal, lane, head.seq);
	else if (e == -ENOSPC)
		drain_give_up(d, signal);
	return e != -ENOMEM;
}

/* ---- cutting --------------------------------------------------------------------------------- */

/* How far each lane that moved has got. */
static uint32_t gather_marks(struct drain *d)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < d->n_lanes; i++) {
		struct drain_lane *lane = &d->lanes[i];

		if (!lane->open || lane->placed.pos == lane->cut_pos)
			continue;
		lane->cut_pos = lane->placed.pos;
		d->marks[n++] = lane->placed;
	}
	return n;
}

/* An open batch that holds nothing stays open: its one record may have been refused. */
static uint32_t seal_open(struct drain *d, struct batch *batches[BATCH_SIGNALS])
{
	uint32_t n = 0;

	for (int i = 0; i < BATCH_SIGNALS; i++) {
		struct batch *b = d->open[i].batch;

		if (!b || b->n == 0)
			continue;
		d->open[i].batch = NULL;
		if (d->options.process)
			d->options.process(d->options.arg, b);
		batch_seal(b);
		batches[n++] = b;
	}
	return n;
}

void drain_cut(struct drain *d)
{
	struct batch *batches[BATCH_SIGNALS];
	uint32_t n_batches, n_marks;

	if (blix_map_poisoned(d->map)) /* what was read may have come from a hole */
		return;
	n_batches = seal_open(d, batches);
	n_marks = gather_marks(d);
	if (n_marks == 0 && n_batches == 0)
		return;
	/* Without memory for the cut nothing is acknowledged any more; the batches still go out. */
	(void)custody_cut(d->custody, d->marks, n_marks, batches, n_batches);
	for (uint32_t i = 0; i < n_batches; i++)
		d->options.batch(d->options.arg, batches[i]);
}

void drain_flush(struct drain *d)
{
	drain_cut(d);
}

uint32_t drain_open_items(const struct drain *d, enum batch_signal signal)
{
	return d->open[signal].batch ? d->open[signal].batch->n : 0;
}

uint32_t drain_due_ms(const struct drain *d)
{
	uint32_t soonest = UINT32_MAX;

	for (int i = 0; i < BATCH_SIGNALS; i++) {
		const struct drain_open *open = &d->open[i];
		uint64_t age_ms = d->clock_ms - open->since_ms;
		uint32_t delay_ms = d->options.delay_ms[i];
		uint32_t left;

		if (!open->batch || open->batch->n == 0)
			continue;
		left = age_ms < delay_ms ? delay_ms - (uint32_t)age_ms : 0;
		soonest = left < soonest ? left : soonest;
	}
	return soonest;
}
