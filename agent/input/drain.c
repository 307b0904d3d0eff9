/* agent/input/drain.c - see drain.h. */
#include "agent/input/drain_private.h"

#include "shm/atomic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum {
	CUT_SHARE = 4,	      /* of a ring, read since the last cut: time for another one */
	WAKE_INTERVAL_MS = 5, /* polls closer than this need no wake-up in between */
};
#define WAKE_FILL 0.25 /* the writer wakes us above it */

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

static void on_acknowledged(void *arg, const struct custody_mark *mark)
{
	struct drain *d = arg;

	blix_ring_ack(d->view, mark->lane, mark->pos, mark->seq, mark->lost);
}

static void set_options(struct drain *d, const struct drain_options *options)
{
	static const uint32_t defaults[BATCH_SIGNALS] = {
		[BATCH_TRACES] = DRAIN_SPANS_DELAY_MS,
		[BATCH_LOGS] = DRAIN_LOGS_DELAY_MS,
	};

	if (options)
		d->options = *options;
	for (int i = 0; i < BATCH_SIGNALS; i++) {
		d->options.wants[i] = d->options.wants[i] && d->options.batch;
		if (d->options.delay_ms[i] == 0)
			d->options.delay_ms[i] = defaults[i];
	}
}

static int take_memory(struct drain *d, struct batch_resource *resource)
{
	d->record_words = d->view->lane.ring_bytes / 8 / 8; /* no record is longer */
	d->record = malloc((size_t)d->record_words * 8);
	d->marks = calloc(d->n_lanes, sizeof(d->marks[0]));
	d->records = records_new(d->map, resource, &d->totals->decoding);
	d->custody = custody_new(on_acknowledged, d);
	if (!d->record || !d->marks || !d->records || !d->custody)
		return -ENOMEM;
	return drain_open_init(d);
}

int drain_new(struct blix_map *map, struct batch_resource *resource,
	      const struct drain_options *options, struct drain_totals *totals,
	      struct drain **ret_drain)
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
	d->map = map;
	d->view = view;
	d->totals = totals;
	d->n_lanes = view->n_lanes;
	d->interval_ms = DRAIN_INTERVAL_MAX_MS;
	d->resource = batch_resource_hold(resource);
	set_options(d, options);
	r = take_memory(d, resource);
	if (r < 0) {
		drain_free(d, false);
		return r;
	}
	d->finished = drain_is_done(map);
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
	drain_open_done(d);
	custody_free(d->custody);
	records_free(d->records);
	batch_resource_release(d->resource);
	free(d->marks);
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

/* Everything that was read of this lane is now in a batch, or wanted by nobody. */
static void note_placed(struct drain_lane *lane)
{
	lane->placed.pos = lane->reader.pos;
	lane->placed.seq = lane->reader.expect;
	lane->placed.lost = lane->reader.lost;
}

static void open_lane(struct drain *d, uint32_t index)
{
	struct drain_lane *lane = &d->lanes[index];

	if (blix_ring_reader_resume(&lane->reader, d->view, index) < 0)
		d->totals->corrupt++;
	lane->lost = lane->reader.lost; /* counted by an earlier consumer */
	lane->placed.lane = index;
	lane->cut_pos = lane->reader.pos;
	note_placed(lane);
	lane->open = true;
}

static bool is_wanted(const struct drain *d, enum drain_kind kind)
{
	switch (kind) {
	case DRAIN_SPAN:
		return d->options.wants[BATCH_TRACES];
	case DRAIN_LOG:
	case DRAIN_MARK:
		return d->options.wants[BATCH_LOGS];
	default:
		return false;
	}
}

/* False: no memory for it; it was not taken. */
static bool take_record(struct drain *d, uint32_t lane, uint32_t n_words)
{
	struct blix_record head;
	enum drain_kind kind;

	memcpy(&head, d->record, sizeof(head));
	kind = kind_of(head.type);
	if (n_words > 0 && is_wanted(d, kind) && !drain_place(d, lane, d->record, n_words)) {
		d->totals->decoding.no_memory++;
		return false;
	}
	d->totals->records[kind]++;
	/* Longer than any batch: nobody gets it. */
	d->totals->decoding.too_large += n_words == 0 && is_wanted(d, kind);
	return true;
}

static void add_growth(uint64_t *total, uint64_t *counted, uint64_t now)
{
	*total += now - *counted;
	*counted = now;
}

/* Read one lane until it is empty, *budget is spent, or too much is out. False: it is not empty. */
static bool read_lane(struct drain *d, uint32_t index, size_t *budget)
{
	struct drain_lane *lane = &d->lanes[index];
	bool empty = false;

	while (!empty && *budget > 0 && custody_has_room(d->custody)) {
		const struct blix_ring_reader before = lane->reader;
		int words = blix_ring_next(&lane->reader, d->record, d->record_words);
		size_t cost = sizeof(struct blix_record);

		if ((words > 0 || words == -EMSGSIZE) &&
		    !take_record(d, index, words > 0 ? (uint32_t)words : 0)) {
			lane->reader = before;
			d->no_memory = true;
			return false;
		}
		if (words > 0)
			cost = (size_t)words * 8;
		note_placed(lane);
		if (lane->placed.pos - lane->cut_pos > d->view->lane.ring_bytes / CUT_SHARE)
			drain_cut(d);
		empty = words == 0 || words == -EAGAIN || words == -ENOTRECOVERABLE;
		*budget -= cost < *budget ? cost : *budget;
	}
	return empty;
}

static void count_lane(struct drain *d, struct drain_lane *lane)
{
	const struct blix_ring_reader *reader = &lane->reader;

	add_growth(&d->totals->lost, &lane->lost, reader->lost);
	add_growth(&d->totals->corrupt, &lane->corrupt, reader->corrupt);
	add_growth(&d->totals->duplicates, &lane->duplicates, reader->duplicates);
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

/* Not read yet, as a share of the ring: what the time since the last poll brought. */
static double lane_unread(const struct drain *d, uint32_t index)
{
	uint64_t tail = blix_load_acquire(&blix_view_ring(d->view, index)->tail);
	int64_t unread = (int64_t)(tail - d->lanes[index].reader.pos);
	double share = unread > 0 ? (double)unread / (double)d->view->lane.ring_bytes : 0;

	return share < 1 ? share : 1;
}

/* True: there may be more in it. */
static bool poll_lane(struct drain *d, uint32_t index, size_t *budget, double *most)
{
	struct drain_lane *lane = &d->lanes[index];
	double unread;
	bool more;

	if (!lane->open) {
		if (!lane_used(d->view, index))
			return false;
		open_lane(d, index);
	}
	if (lane->reader.quarantined)
		return false;
	unread = lane_unread(d, index);
	*most = unread > *most ? unread : *most;
	more = !read_lane(d, index, budget);
	count_lane(d, lane);
	return more;
}

/* Lanes that were never used are empty, and their pages stay untouched. */
static void note_fill(struct drain *d)
{
	d->fill = 0;
	for (uint32_t i = 0; i < d->n_lanes; i++) {
		double fill = d->lanes[i].open ? lane_fill(d->view, i) : 0;

		d->fill = fill > d->fill ? fill : d->fill;
	}
}

/* What nobody waits for is acknowledged at once, the rest when its time has come. */
static void cut_if_due(struct drain *d)
{
	uint32_t due_ms = drain_due_ms(d);

	if (due_ms == 0 || due_ms == UINT32_MAX)
		drain_cut(d);
}

bool drain_poll(struct drain *d, uint32_t elapsed_ms)
{
	size_t budget = DRAIN_BUDGET_BYTES;
	bool more = false, room;
	double most = 0;

	drain_beat(d);
	d->no_memory = false;
	d->clock_ms += elapsed_ms;
	records_refresh(d->records, d->map);
	for (uint32_t n = 0; n < d->n_lanes; n++)
		more |= poll_lane(d, (d->next_lane + n) % d->n_lanes, &budget, &most);
	d->next_lane = d->n_lanes ? (d->next_lane + 1) % d->n_lanes : 0;
	room = custody_has_room(d->custody);
	d->totals->held_up += (more && !room) || d->no_memory;
	cut_if_due(d);
	note_fill(d);
	d->interval_ms = d->no_memory	? DRAIN_INTERVAL_HELD_MS
			 : more && room ? DRAIN_INTERVAL_MIN_MS
					: drain_next_interval(most, elapsed_ms, d->interval_ms);
	return more;
}

uint32_t drain_interval_ms(const struct drain *d)
{
	uint32_t due_ms = drain_due_ms(d);
	uint32_t ms = d->interval_ms;

	/* The writer cannot tell what was read from what was not, so its wake-up is no help now. */
	if (d->fill > WAKE_FILL && ms > DRAIN_INTERVAL_HELD_MS)
		ms = DRAIN_INTERVAL_HELD_MS;
	if (d->recovering && custody_has_room(d->custody))
		ms = DRAIN_INTERVAL_MIN_MS;
	if (due_ms < ms)
		ms = due_ms > DRAIN_INTERVAL_MIN_MS ? due_ms : DRAIN_INTERVAL_MIN_MS;
	return ms;
}

bool drain_wants_wake(const struct drain *d)
{
	return d->fill <= WAKE_FILL && drain_interval_ms(d) >= WAKE_INTERVAL_MS;
}

void drain_custody(const struct drain *d, struct custody_figures *ret_figures)
{
	custody_figures(d->custody, ret_figures);
}

uint32_t *drain_wake_word(const struct drain *d)
{
	return &blix_view_consumer(d->view)->wake_armed;
}

uint32_t drain_quarantined_lanes(const struct drain *d)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < d->n_lanes; i++)
		n += d->lanes[i].open && d->lanes[i].reader.quarantined;
	return n;
}
