/* agent/input/drain.c - see drain.h. */
#include "agent/input/drain.h"

#include "shm/atomic.h"
#include "shm/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

struct lane {
	struct blix_ring_reader reader;
	bool open;
	uint64_t lost; /* already added to the totals */
	uint64_t corrupt;
	uint64_t duplicates;
};

struct drain {
	const struct blix_view *view;
	struct drain_totals *totals;
	uint32_t interval_ms;
	uint32_t next_lane; /* where an exhausted budget makes us go on */
	uint64_t *record;
	uint32_t record_words;
	uint32_t n_lanes;
	struct lane lanes[];
};

const char *drain_kind_name(enum drain_kind kind)
{
	static const char *const names[DRAIN_KINDS] = {"span", "log", "mark", "unknown"};

	return names[kind];
}

static enum drain_kind kind_of(uint16_t type)
{
	switch (type) {
	case BLIX_REC_SPAN:
		return DRAIN_SPAN;
	case BLIX_REC_LOG:
		return DRAIN_LOG;
	case BLIX_REC_MARK:
		return DRAIN_MARK;
	default:
		return DRAIN_UNKNOWN;
	}
}

/* An owner word that is still 0 means that the lane was never used; its pages stay untouched. */
static bool lane_used(const struct blix_view *view, uint32_t lane)
{
	return blix_load_relaxed(&blix_view_lane(view, lane)->owner) != 0;
}

/* ---- start and end -------------------------------------------------------------------------- */

/* Sign in. The id lets the next agent tell that another one had been here. */
static void sign_in(const struct blix_view *view)
{
	struct blix_consumer *consumer = blix_view_consumer(view);
	uint8_t id[sizeof(consumer->agent_id)] = {0};
	ssize_t got = getrandom(id, sizeof(id), GRND_NONBLOCK);

	(void)got; /* early at boot it may fail: an id of zeros is as good as none */
	for (size_t i = 0; i < sizeof(id); i++)
		blix_store_relaxed(&consumer->agent_id[i], id[i]);
	blix_store_relaxed(&consumer->agent_pid, (uint32_t)getpid());
	blix_store_relaxed(&consumer->flags, blix_load_relaxed(&consumer->flags) &
						     ~(uint32_t)BLIX_CONSUMER_BACK_SOON);
}

int drain_new(struct blix_map *map, struct drain_totals *totals, struct drain **ret_drain)
{
	const struct blix_view *view = blix_map_view(map);
	struct drain *d;
	int r;

	if (!view->consumer)
		return -EBADF;
	r = blix_map_lock_consumer(map); /* first: a standby asks each second */
	if (r < 0)
		return r;
	d = calloc(1, sizeof(*d) + view->n_lanes * sizeof(d->lanes[0]));
	if (!d)
		return -ENOMEM;
	d->view = view;
	d->totals = totals;
	d->n_lanes = view->n_lanes;
	d->interval_ms = DRAIN_INTERVAL_MAX_MS;
	d->record_words = view->lane.ring_bytes / 8 / 8; /* no record is longer */
	d->record = malloc((size_t)d->record_words * 8);
	if (!d->record) {
		free(d);
		return -ENOMEM;
	}
	sign_in(view);
	drain_beat(d);
	*ret_drain = d;
	return 0;
}

struct drain *drain_free(struct drain *d, bool back_soon)
{
	if (!d)
		return NULL;
	if (back_soon) {
		struct blix_consumer *consumer = blix_view_consumer(d->view);

		blix_store_relaxed(&consumer->flags,
				   blix_load_relaxed(&consumer->flags) | BLIX_CONSUMER_BACK_SOON);
		drain_beat(d); /* so that the node looks at the flag */
	}
	free(d->record);
	free(d);
	return NULL;
}

void drain_beat(struct drain *d)
{
	blix_add_owned(&blix_view_consumer(d->view)->beat, 1u);
}

void drain_note_exit(struct drain *d, uint64_t mono_ns)
{
	struct blix_consumer *consumer = blix_view_consumer(d->view);

	if (blix_load_relaxed(&consumer->exit_ns) == 0)
		blix_store_relaxed(&consumer->exit_ns, mono_ns);
}

void drain_mark_done(struct drain *d)
{
	struct blix_consumer *consumer = blix_view_consumer(d->view);

	blix_store_relaxed(&consumer->flags,
			   blix_load_relaxed(&consumer->flags) | BLIX_CONSUMER_DONE);
}

/* A read-only map has the consumer pages too, in its read-only view of the file. */
uint64_t drain_exit_mono_ns(const struct blix_map *map, uint64_t now_mono_ns)
{
	const struct blix_view *view = blix_map_view(map);
	const struct blix_consumer *consumer =
		(const struct blix_consumer *)(const void *)(view->base + view->consumer_off);
	uint64_t exit_ns = blix_load_relaxed(&consumer->exit_ns);

	return exit_ns < now_mono_ns ? exit_ns : now_mono_ns;
}

/* ---- reading --------------------------------------------------------------------------------- */

static void open_lane(struct drain *d, uint32_t index)
{
	struct lane *lane = &d->lanes[index];

	if (blix_ring_reader_resume(&lane->reader, d->view, index) < 0)
		d->totals->corrupt++;
	lane->lost = lane->reader.lost; /* counted by an earlier consumer */
	lane->open = true;
}

static void note_record(struct drain *d)
{
	struct blix_record head;

	memcpy(&head, d->record, sizeof(head));
	d->totals->records[kind_of(head.type)]++;
}

static void add_growth(uint64_t *total, uint64_t *counted, uint64_t now)
{
	*total += now - *counted;
	*counted = now;
}

/* Read one lane until it is empty or *budget is spent. False: it is not empty. */
static bool read_lane(struct drain *d, struct lane *lane, size_t *budget)
{
	bool empty = false;

	while (!empty && *budget > 0) {
		int words = blix_ring_next(&lane->reader, d->record, d->record_words);
		size_t cost = sizeof(struct blix_record);

		if (words > 0 || words == -EMSGSIZE)
			note_record(d);
		if (words > 0)
			cost = (size_t)words * 8;
		empty = words == 0 || words == -EAGAIN || words == -ENOTRECOVERABLE;
		*budget -= cost < *budget ? cost : *budget;
	}
	return empty;
}

/* Acknowledged at once: nothing but this agent's counters wants the records. */
static void acknowledge(struct drain *d, uint32_t index, uint64_t pos_before)
{
	struct lane *lane = &d->lanes[index];
	const struct blix_ring_reader *reader = &lane->reader;

	add_growth(&d->totals->lost, &lane->lost, reader->lost);
	add_growth(&d->totals->corrupt, &lane->corrupt, reader->corrupt);
	add_growth(&d->totals->duplicates, &lane->duplicates, reader->duplicates);
	if (reader->pos != pos_before)
		blix_ring_ack(d->view, index, reader->pos, reader->expect, reader->lost);
}

uint32_t drain_next_interval(double fill, uint32_t elapsed_ms, uint32_t interval_ms)
{
	double quarter_ms = DRAIN_INTERVAL_MAX_MS;
	uint32_t next;

	if (fill > 0 && elapsed_ms > 0 && (double)elapsed_ms * 0.25 < fill * quarter_ms)
		quarter_ms = (double)elapsed_ms * 0.25 / fill;
	next = quarter_ms > DRAIN_INTERVAL_MIN_MS ? (uint32_t)quarter_ms : DRAIN_INTERVAL_MIN_MS;
	/* Fast to shrink, slow to grow: a pause of a busy node must not cost records. */
	return next > 2 * interval_ms ? 2 * interval_ms : next;
}

static double lane_fill(const struct blix_view *view, uint32_t lane)
{
	struct blix_ring_fill fill = blix_ring_fill(view, lane);

	if (fill.capacity_bytes == 0)
		return 0;
	return (double)fill.unacknowledged_bytes / (double)fill.capacity_bytes;
}

double drain_fill(const struct blix_map *map)
{
	const struct blix_view *view = blix_map_view(map);
	double most = 0;

	for (uint32_t i = 0; i < view->n_lanes; i++) {
		double fill = lane_used(view, i) ? lane_fill(view, i) : 0;

		most = fill > most ? fill : most;
	}
	return most;
}

bool drain_poll(struct drain *d, uint32_t elapsed_ms)
{
	size_t budget = DRAIN_BUDGET_BYTES;
	bool more = false;
	double most = 0;

	drain_beat(d);
	for (uint32_t n = 0; n < d->n_lanes; n++) {
		uint32_t index = (d->next_lane + n) % d->n_lanes;
		struct lane *lane = &d->lanes[index];
		double fill;

		if (!lane->open) {
			if (!lane_used(d->view, index))
				continue;
			open_lane(d, index);
		}
		if (lane->reader.quarantined)
			continue;
		fill = lane_fill(d->view, index);
		most = fill > most ? fill : most;
		uint64_t before = lane->reader.pos;
		if (!read_lane(d, lane, &budget))
			more = true;
		acknowledge(d, index, before);
	}
	d->next_lane = d->n_lanes ? (d->next_lane + 1) % d->n_lanes : 0;
	d->interval_ms = more ? DRAIN_INTERVAL_MIN_MS
			      : drain_next_interval(most, elapsed_ms, d->interval_ms);
	return more;
}

uint32_t drain_interval_ms(const struct drain *d)
{
	return d->interval_ms;
}

uint32_t drain_quarantined_lanes(const struct drain *d)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < d->n_lanes; i++)
		n += d->lanes[i].open && d->lanes[i].reader.quarantined;
	return n;
}
