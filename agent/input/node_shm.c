/* agent/input/node_shm.c - see node_shm.h. */
#include "agent/input/node_shm.h"

#include "shm/buckets.h"
#include "shm/exemplar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { NOT_SHOWN = UINT32_MAX };

/* An exemplar's time may lie this far ahead of the clock pair, which is a tick old. */
#define EXEMPLAR_AHEAD_NS_MAX UINT64_C(60000000000)

struct shown_metric {
	uint32_t family; /* NOT_SHOWN: refused */
	bool gauge;
};

struct shown_series {
	uint32_t series; /* in the snapshot */
	uint8_t kind;
	bool overflow;
	bool fallen; /* one of its counters is below what it had been */
	uint32_t first_cell;
	uint32_t n_cells; /* shown */
	uint32_t gauge_idx;
	uint32_t exemplar_idx; /* BLIX_NO_ID: none */
	uint32_t n_exemplars;
	const struct blix_map_layout *layout; /* histogram */
};

struct node_shm {
	struct blix_map *map;
	struct snapshot *snapshot;
	bool native_histograms;
	bool gauges_hidden;
	struct shown_metric *metrics; /* by index in the file */
	uint32_t n_metrics, metrics_capacity;
	struct shown_series *series;
	uint32_t n_series, series_capacity;
	uint32_t series_seen; /* indexes of the file taken up */
	uint64_t *cells;      /* sums over the lanes, of this round */
	uint64_t *last;	      /* highest sums so far */
	uint64_t *gauges;     /* bits, of this round */
	uint32_t cells_used;
	uint32_t n_cells;
	uint32_t n_gauges;
	uint64_t *exemplar_ns; /* node's time of the exemplar shown, by index in the file */
	uint32_t n_exemplars;
	struct node_shm_counts counts;
};

struct node_shm *node_shm_new(struct blix_map *map, struct snapshot *snapshot,
			      bool native_histograms)
{
	const struct blix_view *view = blix_map_view(map);
	struct node_shm *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->map = map;
	n->snapshot = snapshot;
	n->native_histograms = native_histograms;
	n->n_cells = view->lane.n_cells;
	n->n_gauges = view->n_gauges;
	n->n_exemplars = view->n_exemplars;
	n->cells = calloc((size_t)n->n_cells + 1, sizeof(*n->cells));
	n->last = calloc((size_t)n->n_cells + 1, sizeof(*n->last));
	n->gauges = calloc((size_t)n->n_gauges + 1, sizeof(*n->gauges));
	n->exemplar_ns = calloc((size_t)n->n_exemplars + 1, sizeof(*n->exemplar_ns));
	if (!n->cells || !n->last || !n->gauges || !n->exemplar_ns)
		return node_shm_free(n);
	return n;
}

struct node_shm *node_shm_free(struct node_shm *n)
{
	if (!n)
		return NULL;
	free(n->metrics);
	free(n->series);
	free(n->cells);
	free(n->last);
	free(n->gauges);
	free(n->exemplar_ns);
	free(n);
	return NULL;
}

struct node_shm_counts node_shm_counts(const struct node_shm *n)
{
	return n->counts;
}

/* ---- registry to families ------------------------------------------------------------------- */

static int grow(void **array, uint32_t *capacity, uint32_t need, size_t size)
{
	uint32_t wanted = *capacity ? *capacity : 64;
	void *bigger;

	if (need <= *capacity)
		return 0;
	while (wanted < need)
		wanted *= 2;
	bigger = realloc(*array, wanted * size);
	if (!bigger)
		return -ENOMEM;
	*array = bigger;
	*capacity = wanted;
	return 0;
}

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Does this name belong to somebody else than the node? */
static bool name_is_foreign(const char *name, const struct blix_metric *row)
{
	static const char *const prefixes[] = {"process_", "blixard_agent_", "blixard_host_"};

	if (row)
		return row->owner != BLIX_OWNER_NODE;
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (starts_with(name, prefixes[i]))
			return true;
	for (row = blix_metric_next(NULL); row; row = blix_metric_next(row))
		if (row->seed && strcmp(row->seed, name) == 0)
			return true;
	return false;
}

static enum snapshot_type type_of(uint8_t kind)
{
	if (kind == BLIX_COUNTER)
		return SNAPSHOT_COUNTER;
	return kind == BLIX_HISTOGRAM ? SNAPSHOT_HISTOGRAM : SNAPSHOT_GAUGE;
}

static enum snapshot_number number_of(const struct blix_map_metric *metric)
{
	if (metric->kind == BLIX_GAUGE_F64)
		return SNAPSHOT_F64;
	if (metric->kind != BLIX_GAUGE && metric->flags & BLIX_METRIC_STORED_NS)
		return SNAPSHOT_NS;
	if (metric->kind == BLIX_GAUGE || metric->kind == BLIX_UPDOWN)
		return SNAPSHOT_I64;
	return SNAPSHOT_U64;
}

/* The catalogue's row, if it means the same thing as what the file describes. */
static const struct blix_metric *matching_row(const struct blix_map_metric *metric)
{
	const struct blix_metric *row = blix_metric_find(metric->name, strlen(metric->name));

	return row && type_of((uint8_t)row->kind) == type_of(metric->kind) ? row : NULL;
}

static int add_family(struct node_shm *n, const struct blix_map_metric *metric,
		      uint32_t *ret_family)
{
	const struct blix_metric *row = matching_row(metric);
	uint32_t before = snapshot_family_count(n->snapshot);
	struct snapshot_bounds bounds;
	struct snapshot_family spec = {
		.name = metric->name,
		.alias = row ? row->seed : NULL,
		.help = metric->help,
		.unit = metric->unit,
		.subset_of = row ? row->subset_of : NULL,
		.type = type_of(metric->kind),
		.number = number_of(metric),
		.updown = metric->kind == BLIX_UPDOWN,
		.created_unix_ns = blix_map_identity(n->map)->open_real_ns,
	};
	int r;

	if (spec.type == SNAPSHOT_GAUGE)
		spec.created_unix_ns = 0;
	if (metric->kind == BLIX_HISTOGRAM) {
		if (!metric->layout)
			return -EINVAL;
		r = snapshot_bounds_from(metric->layout->bounds, metric->layout->n_bounds,
					 spec.number == SNAPSHOT_NS, &bounds);
		if (r < 0)
			return r;
		spec.bounds = &bounds;
	}
	r = snapshot_family(n->snapshot, &spec, ret_family);
	return r == 0 && *ret_family < before ? -EEXIST : r; /* found: not this metric's own */
}

static void take_metric(struct node_shm *n, uint32_t index)
{
	const struct blix_map_metric *metric = blix_map_metric(n->map, index);
	struct shown_metric *shown = &n->metrics[index];
	const struct blix_metric *row;

	shown->family = NOT_SHOWN;
	if (!metric)
		return; /* malformed: the map has counted it */
	shown->gauge = type_of(metric->kind) == SNAPSHOT_GAUGE;
	row = blix_metric_find(metric->name, strlen(metric->name));
	if (name_is_foreign(metric->name, row) || add_family(n, metric, &shown->family) < 0) {
		shown->family = NOT_SHOWN;
		n->counts.refused++;
		return;
	}
	n->counts.metrics++;
	snapshot_hide_family(n->snapshot, shown->family, shown->gauge && n->gauges_hidden);
}

/* The overflow series stands for label sets that are not known: it has one label of its own. */
static uint32_t labels_of(const struct blix_map_metric *metric,
			  const struct blix_map_series *series, struct snapshot_label *labels)
{
	if (series->overflow) {
		labels[0] = (struct snapshot_label){"otel_metric_overflow", "true"};
		return 1;
	}
	for (uint32_t i = 0; i < metric->n_label_keys; i++)
		labels[i] = (struct snapshot_label){metric->label_keys[i], series->label_values[i]};
	return metric->n_label_keys;
}

/* Cells shown of a series; 0 if the file gives it fewer than its kind needs. */
static uint32_t cells_of(const struct node_shm *n, const struct blix_map_metric *metric,
			 const struct blix_map_series *series, bool *ret_exponential)
{
	uint32_t need = metric->kind == BLIX_HISTOGRAM ? metric->layout->n_bounds + 2 : 1;

	*ret_exponential = false;
	if (series->n_cells < need || series->first_cell > n->n_cells ||
	    series->n_cells > n->n_cells - series->first_cell)
		return 0;
	if (metric->kind == BLIX_HISTOGRAM && metric->flags & BLIX_METRIC_EXPONENTIAL &&
	    n->native_histograms && series->n_cells >= need + BLIX_EXP_CELLS) {
		*ret_exponential = true;
		need += BLIX_EXP_CELLS;
	}
	return need;
}

static bool has_exemplars(const struct node_shm *n, const struct blix_map_series *series)
{
	return series->exemplar_idx != BLIX_NO_ID && series->n_exemplars > 0 &&
	       series->exemplar_idx <= n->n_exemplars &&
	       series->n_exemplars <= n->n_exemplars - series->exemplar_idx;
}

static int show_series(struct node_shm *n, const struct blix_map_series *series,
		       struct shown_series *ret_shown)
{
	const struct blix_map_metric *metric = blix_map_metric(n->map, series->metric);
	struct snapshot_label labels[SNAPSHOT_LABELS_MAX];
	bool exponential = false, exemplars = has_exemplars(n, series);
	struct shown_series shown = {
		.kind = metric->kind,
		.overflow = series->overflow,
		.first_cell = series->first_cell,
		.gauge_idx = series->gauge_idx,
		.exemplar_idx = exemplars ? series->exemplar_idx : BLIX_NO_ID,
		.n_exemplars = exemplars ? series->n_exemplars : 0,
		.layout = metric->layout,
	};
	uint32_t n_labels = labels_of(metric, series, labels);
	int r;

	if (metric->kind == BLIX_GAUGE || metric->kind == BLIX_GAUGE_F64) {
		if (series->gauge_idx >= n->n_gauges)
			return -ENOSPC;
	} else {
		shown.n_cells = cells_of(n, metric, series, &exponential);
		if (shown.n_cells == 0)
			return -ENOSPC;
	}
	r = snapshot_series(n->snapshot, n->metrics[series->metric].family, labels, n_labels,
			    exponential, exemplars, &shown.series);
	if (r < 0)
		return r;
	if (shown.first_cell + shown.n_cells > n->cells_used)
		n->cells_used = shown.first_cell + shown.n_cells;
	*ret_shown = shown;
	return 0;
}

static void take_series(struct node_shm *n, uint32_t index)
{
	const struct blix_map_series *series = blix_map_series(n->map, index);

	if (!series || series->metric >= n->n_metrics ||
	    n->metrics[series->metric].family == NOT_SHOWN)
		return;
	if (show_series(n, series, &n->series[n->n_series]) < 0)
		n->counts.refused++;
	else
		n->n_series++;
	n->counts.series = n->n_series;
}

static int take_up_registry(struct node_shm *n)
{
	uint32_t metrics = blix_map_metric_count(n->map);
	uint32_t series = blix_map_series_count(n->map);

	if (grow((void **)&n->metrics, &n->metrics_capacity, metrics, sizeof(*n->metrics)) < 0 ||
	    grow((void **)&n->series, &n->series_capacity, series, sizeof(*n->series)) < 0)
		return -ENOMEM;
	for (; n->n_metrics < metrics; n->n_metrics++)
		take_metric(n, n->n_metrics);
	for (; n->series_seen < series; n->series_seen++)
		take_series(n, n->series_seen);
	return 0;
}

/* ---- cells to values ------------------------------------------------------------------------- */

/* A counter within one incarnation never falls. If a faulty node makes it fall, its last value is
 * shown, and the event is counted once for each fall. */
static uint64_t monotone(struct node_shm *n, uint32_t cell, bool *fallen)
{
	uint64_t now = n->cells[cell];

	if (now < n->last[cell]) {
		*fallen = true;
		return n->last[cell];
	}
	n->last[cell] = now;
	return now;
}

static void set_fallen(struct node_shm *n, struct shown_series *shown, bool fallen)
{
	n->counts.regressions += fallen && !shown->fallen;
	shown->fallen = fallen;
}

static void show_counter(struct node_shm *n, struct shown_series *shown)
{
	bool fallen = false;
	uint64_t value = monotone(n, shown->first_cell, &fallen);

	set_fallen(n, shown, fallen);
	snapshot_set_u64(n->snapshot, shown->series, value);
	snapshot_hide_series(n->snapshot, shown->series, shown->overflow && value == 0);
}

static void show_histogram(struct node_shm *n, struct shown_series *shown)
{
	uint32_t n_values;
	uint64_t *values = snapshot_values(n->snapshot, shown->series, &n_values);
	bool fallen = false, any = false;

	if (n_values > shown->n_cells)
		n_values = shown->n_cells;
	for (uint32_t i = 0; i < n_values; i++) {
		values[i] = monotone(n, shown->first_cell + i, &fallen);
		any |= values[i] != 0;
	}
	set_fallen(n, shown, fallen);
	snapshot_hide_series(n->snapshot, shown->series, shown->overflow && !any);
}

static void show_gauge(struct node_shm *n, const struct shown_series *shown)
{
	uint64_t bits = shown->kind == BLIX_UPDOWN ? n->cells[shown->first_cell]
						   : n->gauges[shown->gauge_idx];
	double number;

	if (shown->kind == BLIX_GAUGE_F64) {
		memcpy(&number, &bits, sizeof(number));
		snapshot_set_f64(n->snapshot, shown->series, number);
	} else {
		snapshot_set_i64(n->snapshot, shown->series, (int64_t)bits);
	}
	snapshot_hide_series(n->snapshot, shown->series, shown->overflow && bits == 0);
}

/* ---- exemplars ------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *bytes, size_t len)
{
	uint8_t any = 0;

	for (size_t i = 0; i < len; i++)
		any |= bytes[i];
	return any == 0;
}

/* Does the exemplar lie in the bucket whose slot it is in? OpenMetrics demands it. */
static bool in_bucket(const struct shown_series *shown, uint32_t bucket, uint64_t value)
{
	if (shown->kind != BLIX_HISTOGRAM)
		return true;
	return (bucket == 0 || value > shown->layout->bounds[bucket - 1]) &&
	       (bucket == shown->layout->n_bounds || value <= shown->layout->bounds[bucket]);
}

static void show_exemplar(struct node_shm *n, const struct shown_series *shown, uint32_t i,
			  const struct blix_map_life *life, struct snapshot_exemplar *to)
{
	uint64_t *shown_ns = &n->exemplar_ns[shown->exemplar_idx + i];
	struct blix_exemplar from;

	if (!blix_exemplar_try_read(
		    blix_view_exemplar(blix_map_view(n->map), shown->exemplar_idx + i), &from))
		return;
	if (from.t_ns <= *shown_ns || is_zero(from.trace_id, sizeof(from.trace_id)) ||
	    is_zero(from.span_id, sizeof(from.span_id)) || !in_bucket(shown, i, from.value))
		return;
	/* A time far ahead would keep every later one out. */
	if (from.t_ns > life->pair_mono_ns &&
	    from.t_ns - life->pair_mono_ns > EXEMPLAR_AHEAD_NS_MAX)
		return;
	*shown_ns = from.t_ns;
	to->set = true;
	to->value = from.value;
	to->unix_ns = life->pair_real_ns + (from.t_ns - life->pair_mono_ns);
	memcpy(to->trace_id, from.trace_id, sizeof(to->trace_id));
	memcpy(to->span_id, from.span_id, sizeof(to->span_id));
}

static void show_exemplars(struct node_shm *n, const struct shown_series *shown,
			   const struct blix_map_life *life)
{
	uint32_t places;
	struct snapshot_exemplar *to = snapshot_exemplars(n->snapshot, shown->series, &places);

	if (!to)
		return;
	if (places > shown->n_exemplars)
		places = shown->n_exemplars;
	for (uint32_t i = 0; i < places; i++)
		show_exemplar(n, shown, i, life, &to[i]);
}

/* ---- a round --------------------------------------------------------------------------------- */

static void read_values(struct node_shm *n)
{
	blix_map_sum_cells(n->map, n->cells, n->cells_used);
	for (uint32_t i = 0; i < n->n_series; i++) {
		const struct shown_series *shown = &n->series[i];

		if (shown->kind == BLIX_GAUGE || shown->kind == BLIX_GAUGE_F64)
			n->gauges[shown->gauge_idx] = blix_map_gauge(n->map, shown->gauge_idx);
	}
}

static void show_values(struct node_shm *n)
{
	struct blix_map_life life;

	blix_map_life(n->map, &life);
	for (uint32_t i = 0; i < n->n_series; i++) {
		struct shown_series *shown = &n->series[i];

		if (shown->kind == BLIX_COUNTER)
			show_counter(n, shown);
		else if (shown->kind == BLIX_HISTOGRAM)
			show_histogram(n, shown);
		else
			show_gauge(n, shown);
		if (shown->n_exemplars)
			show_exemplars(n, shown, &life);
	}
}

int node_shm_collect(struct node_shm *n)
{
	int r = blix_map_refresh(n->map);

	if (r == -ENODATA)
		return r;
	r = take_up_registry(n);
	if (r < 0)
		return r;
	read_values(n);
	if (blix_map_poisoned(n->map))
		return -ENODATA;
	show_values(n);
	/* An exemplar that a hole swallowed reads as empty and changed nothing. */
	return blix_map_poisoned(n->map) ? -ENODATA : 0;
}

void node_shm_hide_gauges(struct node_shm *n, bool hidden)
{
	n->gauges_hidden = hidden;
	for (uint32_t i = 0; i < n->n_metrics; i++)
		if (n->metrics[i].gauge && n->metrics[i].family != NOT_SHOWN)
			snapshot_hide_family(n->snapshot, n->metrics[i].family, hidden);
}
