/* agent/input/drain_finish.c - after the node's end. See drain_private.h.
 *
 * Recovery is repeated by each agent until one has seen everything it gave into other hands; only
 * then is the file marked done. */
#include "agent/input/drain_private.h"

#include "shm/atomic.h"

#include <errno.h>

static bool has_flag(const struct blix_view *view, uint32_t flag)
{
	const struct blix_consumer *consumer =
		(const struct blix_consumer *)(const void *)(view->base + view->consumer_off);

	return blix_load_relaxed(&consumer->flags) & flag;
}

bool drain_is_done(const struct blix_map *map)
{
	return has_flag(blix_map_view(map), BLIX_CONSUMER_DONE);
}

static void mark_done(struct drain *d)
{
	struct blix_consumer *consumer = blix_view_consumer(d->view);

	blix_store_relaxed(&consumer->flags,
			   blix_load_relaxed(&consumer->flags) | BLIX_CONSUMER_DONE);
	d->finished = true;
}

/* ---- what it left open ----------------------------------------------------------------------- */

static int decode_slot(struct drain *d, const struct blix_span_slot *slot)
{
	struct batch *b = drain_batch(d, BATCH_TRACES);

	return b ? records_slot(d->records, slot, &d->recover.end, b) : -ENOMEM;
}

static void on_slot(void *arg, uint32_t lane, uint32_t index, enum blix_slot_state state,
		    const struct blix_span_slot *slot)
{
	struct drain *d = arg;
	int e;

	(void)state; /* OPEN, or dead on its way out: the same to whoever waits for the span */
	if (!d->options.wants[BATCH_TRACES])
		return;
	e = decode_slot(d, slot);
	if (e == -ENOSPC && d->open[BATCH_TRACES].batch->n > 0) {
		drain_cut(d);
		e = decode_slot(d, slot);
	}
	if (e == 0)
		drain_note_origin(d, BATCH_TRACES, DRAIN_SLOTS, (uint64_t)lane << 32 | index);
	else if (e == -ENOMEM)
		d->totals->decoding.no_memory++;
	else if (e == -ENOSPC)
		drain_give_up(d, BATCH_TRACES);
}

static void tell(struct drain *d)
{
	uint64_t node_id = blix_map_identity(d->map)->node_id;
	struct batch *b;

	d->totals->spans_crashed += d->recover.found.crashed;
	d->totals->spans_torn += d->recover.found.torn;
	if (!d->options.wants[BATCH_LOGS] || !recover_worth_a_log(&d->recover))
		return;
	if (d->open[BATCH_LOGS].batch && d->open[BATCH_LOGS].batch->n == BATCH_ITEMS_MAX)
		drain_cut(d);
	b = drain_batch(d, BATCH_LOGS);
	if (b && recover_log(&d->recover, records_clock(d->records), node_id, b) == 0)
		drain_note_origin(d, BATCH_LOGS, DRAIN_SLOTS, 0);
	else
		drain_give_up(d, BATCH_LOGS);
}

static bool recover_step(struct drain *d)
{
	struct recover *r = &d->recover;

	if (r->stage == RECOVER_TIME && !recover_time_step(r, d->map))
		return false;
	if (r->stage == RECOVER_SLOTS) {
		if (!custody_has_room(d->custody)) {
			d->totals->held_up++;
			return false;
		}
		if (!recover_slots_step(r, d->view, on_slot, d))
			return false;
		tell(d);
		drain_cut(d);
	}
	return true;
}

bool drain_finish(struct drain *d)
{
	struct custody_figures figures;

	if (d->finished)
		return true;
	d->recovering = !recover_step(d);
	if (d->recovering)
		return false;
	custody_figures(d->custody, &figures);
	/* What was read while the file was a hole is void, and so is what it would say. */
	if (figures.cuts > 0 || figures.stuck || blix_map_poisoned(d->map))
		return false;
	mark_done(d);
	return true;
}
