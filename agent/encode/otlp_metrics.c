/* agent/encode/otlp_metrics.c - a snapshot as an OTLP ExportMetricsServiceRequest.
 *
 * Backwards: see otlp_wire.h. Pure; includes agent/model/, agent/buf.h, shm/{metric,buckets}.h. */
#include "agent/encode/otlp_private.h"
#include "agent/encode/select.h"
#include "shm/buckets.h"
#include "shm/metric.h"

#include <errno.h>
#include <math.h>

enum {
	METRIC_NAME = 1,
	METRIC_DESCRIPTION = 2,
	METRIC_UNIT = 3,
	METRIC_GAUGE = 5,
	METRIC_SUM = 7,
	METRIC_HISTOGRAM = 9,
	METRIC_EXPONENTIAL = 10,
	DATA_POINT = 1, /* of each of them */
	DATA_TEMPORALITY = 2,
	DATA_MONOTONIC = 3,
	NUMBER_START = 2,
	NUMBER_TIME = 3,
	NUMBER_DOUBLE = 4,
	NUMBER_EXEMPLAR = 5,
	NUMBER_INT = 6,
	NUMBER_ATTRIBUTE = 7,
	HISTOGRAM_START = 2,
	HISTOGRAM_TIME = 3,
	HISTOGRAM_COUNT = 4,
	HISTOGRAM_SUM = 5,
	HISTOGRAM_COUNTS = 6,
	HISTOGRAM_BOUNDS = 7,
	HISTOGRAM_EXEMPLAR = 8,
	HISTOGRAM_ATTRIBUTE = 9,
	EXPONENTIAL_ATTRIBUTE = 1,
	EXPONENTIAL_START = 2,
	EXPONENTIAL_TIME = 3,
	EXPONENTIAL_COUNT = 4,
	EXPONENTIAL_SUM = 5,
	EXPONENTIAL_SCALE = 6,
	EXPONENTIAL_ZERO_COUNT = 7,
	EXPONENTIAL_POSITIVE = 8,
	EXPONENTIAL_EXEMPLAR = 11,
	EXPONENTIAL_ZERO_THRESHOLD = 14,
	BUCKETS_OFFSET = 1,
	BUCKETS_COUNTS = 2,
	EXEMPLAR_TIME = 2,
	EXEMPLAR_DOUBLE = 3,
	EXEMPLAR_SPAN_ID = 4,
	EXEMPLAR_TRACE_ID = 5,
	EXEMPLAR_INT = 6,
	TEMPORALITY_DELTA = 1,
	TEMPORALITY_CUMULATIVE = 2,
};

struct job {
	struct wire w;
	struct snapshot_view view;
	const struct otlp_metrics_options *o;
	uint32_t points;
	/* of the family at hand */
	const struct snapshot_family *family;
	bool delta;
	bool exponential;
};

/* ---- names ----------------------------------------------------------------------------------- */

/* Cut "_<word>" off the end where something is left before it. */
static size_t cut(const char *name, size_t len, const char *word)
{
	size_t n = strlen(word);

	if (n && len > n + 1 && name[len - n - 1] == '_' && !memcmp(name + len - n, word, n))
		return len - n - 1;
	return len;
}

size_t otlp_name(const struct snapshot_family *family, char name[OTLP_NAME_BYTES_MAX])
{
	static const char prefix[] = "blixard_";
	size_t len = family->name_text.len;

	if (len >= OTLP_NAME_BYTES_MAX)
		len = OTLP_NAME_BYTES_MAX - 1;
	memcpy(name, family->name, len);
	if (family->type == SNAPSHOT_COUNTER)
		len = cut(name, len, "total");
	/* An exporter to Prometheus appends "ratio" to gauges alone. */
	if (strcmp(family->unit_suffix, "ratio") != 0 ||
	    (family->type == SNAPSHOT_GAUGE && !family->updown))
		len = cut(name, len, family->unit_suffix);
	if (len > sizeof(prefix) - 1 && !memcmp(name, prefix, sizeof(prefix) - 1))
		name[sizeof(prefix) - 2] = '.';
	name[len] = '\0';
	return len;
}

/* ---- values ---------------------------------------------------------------------------------- */

static const uint64_t *values_of(const struct job *job, const struct snapshot_series *series)
{
	return (job->delta ? job->o->delta->values : job->view.values) + series->value;
}

/* Start of a point, before its time: a family that came into being after the snapshot was begun
 * gets an interval of no length. */
static uint64_t start_of(const struct job *job, uint32_t series)
{
	uint64_t start =
		job->delta ? job->o->delta->start_unix_ns[series] : job->family->created_unix_ns;

	if (!start)
		start = job->o->unknown_start_unix_ns;
	return start && start < job->o->time_unix_ns ? start : job->o->time_unix_ns;
}

/* Integers as integers. One beyond OTLP's signed range is a double rather than negative. */
static bool is_integer(const struct snapshot_family *family, uint64_t bits)
{
	return family->number == SNAPSHOT_I64 ||
	       (family->number == SNAPSHOT_U64 && bits <= INT64_MAX);
}

static void put_labels(struct wire *w, uint32_t field, const struct snapshot_series *series)
{
	for (uint32_t i = series->n_labels; i-- > 0;) {
		const struct snapshot_label *l = &series->labels[i];

		otlp_put_string_attr(w, field, l->key, strlen(l->key), l->value, strlen(l->value));
	}
}

static void put_exemplar(struct job *job, uint32_t field, const struct snapshot_exemplar *e)
{
	struct wire *w = &job->w;
	size_t message = wire_open(w);
	bool integer = is_integer(job->family, e->value);

	if (integer)
		wire_put_64(w, EXEMPLAR_INT, e->value);
	wire_put_bytes(w, EXEMPLAR_TRACE_ID, e->trace_id, sizeof(e->trace_id));
	wire_put_bytes(w, EXEMPLAR_SPAN_ID, e->span_id, sizeof(e->span_id));
	if (!integer)
		wire_put_double(w, EXEMPLAR_DOUBLE, select_double(job->family, e->value));
	wire_opt_64(w, EXEMPLAR_TIME, e->unix_ns);
	wire_close(w, field, message);
}

/* Those within the point's interval. */
static void put_exemplars(struct job *job, uint32_t field, const struct snapshot_series *series,
			  uint64_t start)
{
	uint32_t n = job->family->type == SNAPSHOT_HISTOGRAM ? job->family->bounds->n + 1 : 1;

	for (uint32_t i = n; i-- > 0;) {
		const struct snapshot_exemplar *e = job->view.exemplars + series->exemplar + i;

		if (select_exemplar(&job->view, job->family, series, i) && e->unix_ns > start &&
		    e->unix_ns <= job->o->time_unix_ns)
			put_exemplar(job, field, e);
	}
}

/* ---- points ---------------------------------------------------------------------------------- */

static void put_number(struct job *job, uint32_t index)
{
	const struct snapshot_series *series = &job->view.series[index];
	bool gauge = job->family->type == SNAPSHOT_GAUGE && !job->family->updown;
	uint64_t bits = *values_of(job, series), start = gauge ? 0 : start_of(job, index);
	struct wire *w = &job->w;
	size_t message = wire_open(w);

	put_labels(w, NUMBER_ATTRIBUTE, series);
	if (is_integer(job->family, bits))
		wire_put_64(w, NUMBER_INT, bits);
	if (job->family->type == SNAPSHOT_COUNTER)
		put_exemplars(job, NUMBER_EXEMPLAR, series, start);
	if (!is_integer(job->family, bits))
		wire_put_double(w, NUMBER_DOUBLE, select_double(job->family, bits));
	wire_opt_64(w, NUMBER_TIME, job->o->time_unix_ns);
	wire_opt_64(w, NUMBER_START, start);
	wire_close(w, DATA_POINT, message);
}

static uint64_t total(const uint64_t *cells, uint32_t n)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += cells[i];
	return sum;
}

/* The sum is there even if it is 0, and is not where observations may be negative. */
static void put_sum(struct job *job, uint32_t field, uint64_t bits)
{
	double sum = select_double(job->family, bits);

	if (sum >= 0)
		wire_put_double(&job->w, field, sum);
}

static void put_packed_64(struct wire *w, uint32_t field, const void *numbers, uint32_t n)
{
	size_t opened = wire_open(w);
	uint8_t *at = wire_room(w, (size_t)n * 8);

	if (!at || !n)
		return;
	for (uint32_t i = n; i-- > 0;) {
		uint64_t bits;

		memcpy(&bits, (const uint8_t *)numbers + (size_t)i * 8, sizeof(bits));
		at = wire_fixed_down(at, bits, 8);
	}
	wire_took(w, at);
	wire_close(w, field, opened);
}

static void put_explicit(struct job *job, uint32_t index)
{
	const struct snapshot_series *series = &job->view.series[index];
	const struct snapshot_bounds *bounds = job->family->bounds;
	const uint64_t *values = values_of(job, series);
	uint64_t start = start_of(job, index);
	struct wire *w = &job->w;
	size_t message = wire_open(w);

	put_labels(w, HISTOGRAM_ATTRIBUTE, series);
	put_exemplars(job, HISTOGRAM_EXEMPLAR, series, start);
	put_packed_64(w, HISTOGRAM_BOUNDS, bounds->value, bounds->n);
	put_packed_64(w, HISTOGRAM_COUNTS, values, bounds->n + 1);
	put_sum(job, HISTOGRAM_SUM, values[bounds->n + 1]);
	wire_opt_64(w, HISTOGRAM_COUNT, total(values, bounds->n + 1));
	wire_opt_64(w, HISTOGRAM_TIME, job->o->time_unix_ns);
	wire_opt_64(w, HISTOGRAM_START, start);
	wire_close(w, DATA_POINT, message);
}

struct exponential {
	int32_t scale, offset;
	uint32_t n;
	uint64_t counts[BLIX_EXP_CELLS];
};

/* The used part of the grid, pairs merged until it is narrow enough. */
static void narrow(const uint64_t *cells, struct exponential *ret)
{
	uint32_t first = BLIX_EXP_FIRST, last = BLIX_EXP_CELLS;

	while (first < BLIX_EXP_CELLS && !cells[first])
		first++;
	while (last > first && !cells[last - 1])
		last--;
	ret->scale = BLIX_EXP_SCALE;
	ret->n = last - first;
	ret->offset = ret->n ? blix_exp_otlp_index(first) : 0;
	memcpy(ret->counts, cells + first, ret->n * sizeof(*cells));
	for (; ret->n > OTLP_EXPONENTIAL_BUCKETS_MAX; ret->scale--)
		ret->n = blix_exp_merge_pairs(ret->counts, ret->n, &ret->offset);
}

static void put_buckets(struct wire *w, const struct exponential *e)
{
	size_t message = wire_open(w);

	if (!e->n)
		return;
	for (uint32_t i = e->n; i-- > 0;) {
		uint8_t *at = wire_room(w, WIRE_VARINT_BYTES_MAX);

		if (at)
			wire_took(w, wire_varint_down(at, e->counts[i]));
	}
	wire_close(w, BUCKETS_COUNTS, message);
	wire_opt_varint(w, BUCKETS_OFFSET, wire_zigzag(e->offset));
	wire_close(w, EXPONENTIAL_POSITIVE, message);
}

static void put_exponential(struct job *job, uint32_t index)
{
	const struct snapshot_series *series = &job->view.series[index];
	const uint64_t *values = values_of(job, series);
	uint32_t n = job->family->bounds->n;
	const uint64_t *cells = values + n + 2;
	uint64_t start = start_of(job, index);
	struct wire *w = &job->w;
	size_t message = wire_open(w);
	struct exponential e;

	narrow(cells, &e);
	wire_put_double(w, EXPONENTIAL_ZERO_THRESHOLD, BLIX_EXP_ZERO_THRESHOLD_SECONDS);
	put_exemplars(job, EXPONENTIAL_EXEMPLAR, series, start);
	put_buckets(w, &e);
	wire_opt_64(w, EXPONENTIAL_ZERO_COUNT, cells[BLIX_EXP_ZERO] + cells[BLIX_EXP_UNDER]);
	wire_opt_varint(w, EXPONENTIAL_SCALE, wire_zigzag(e.scale));
	put_sum(job, EXPONENTIAL_SUM, values[n + 1]);
	wire_opt_64(w, EXPONENTIAL_COUNT, total(cells, BLIX_EXP_CELLS));
	wire_opt_64(w, EXPONENTIAL_TIME, job->o->time_unix_ns);
	wire_opt_64(w, EXPONENTIAL_START, start);
	put_labels(w, EXPONENTIAL_ATTRIBUTE, series);
	wire_close(w, DATA_POINT, message);
}

/* ---- families -------------------------------------------------------------------------------- */

static bool is_shown(const struct job *job, uint32_t index, bool exponential)
{
	const struct snapshot_series *series = &job->view.series[index];

	return !series->hidden && !(job->delta && job->o->delta->skipped[index]) &&
	       (job->family->type != SNAPSHOT_HISTOGRAM ||
		(job->exponential && series->has_exponential) == exponential);
}

static uint32_t data_field(const struct snapshot_family *family, bool exponential)
{
	switch (family->type) {
	case SNAPSHOT_HISTOGRAM:
		return exponential ? METRIC_EXPONENTIAL : METRIC_HISTOGRAM;
	case SNAPSHOT_COUNTER:
		return METRIC_SUM;
	case SNAPSHOT_GAUGE:
		break;
	}
	return family->updown ? METRIC_SUM : METRIC_GAUGE;
}

static void put_family(struct job *job, bool exponential)
{
	const struct snapshot_family *family = job->family;
	uint32_t field = data_field(family, exponential), before = job->points;
	char name[OTLP_NAME_BYTES_MAX];
	struct wire *w = &job->w;
	size_t message = wire_open(w);

	if (family->type == SNAPSHOT_COUNTER)
		wire_put_varint(w, DATA_MONOTONIC, true);
	if (field != METRIC_GAUGE)
		wire_put_varint(w, DATA_TEMPORALITY,
				job->delta ? TEMPORALITY_DELTA : TEMPORALITY_CUMULATIVE);
	for (uint32_t i = family->n_series; i-- > 0;) {
		if (!is_shown(job, family->series[i], exponential))
			continue;
		if (field == METRIC_EXPONENTIAL)
			put_exponential(job, family->series[i]);
		else if (field == METRIC_HISTOGRAM)
			put_explicit(job, family->series[i]);
		else
			put_number(job, family->series[i]);
		job->points++;
	}
	if (job->points == before) { /* none was shown: take back what was written */
		w->used = message;
		return;
	}
	wire_close(w, field, message);
	wire_opt_bytes(w, METRIC_UNIT, family->unit, family->unit ? strlen(family->unit) : 0);
	wire_opt_bytes(w, METRIC_DESCRIPTION, family->help,
		       family->help ? strlen(family->help) : 0);
	wire_put_bytes(w, METRIC_NAME, name, otlp_name(family, name));
	wire_close(w, SCOPE_ITEM, message);
}

static bool is_delta(const struct snapshot_family *family, enum otlp_temporality temporality)
{
	const struct blix_metric *row;

	if (temporality == OTLP_CUMULATIVE || family->type == SNAPSHOT_GAUGE)
		return false;
	if (temporality == OTLP_DELTA || family->type == SNAPSHOT_HISTOGRAM)
		return true;
	row = blix_metric_find(family->name, family->name_text.len);
	return !row || row->owner == BLIX_OWNER_NODE;
}

static void encode(struct job *job, const struct batch_resource *r, uint32_t first, uint32_t end)
{
	struct otlp_frame frame = otlp_frame_open(&job->w);

	for (uint32_t i = end; i-- > first;) {
		job->family = &job->view.families[i];
		job->delta = is_delta(job->family, job->o->temporality);
		job->exponential = job->o->exponential && job->family->type == SNAPSHOT_HISTOGRAM;
		if (job->family->hidden)
			continue;
		/* Series without the cells are a metric of the other kind under the same name. */
		if (job->exponential)
			put_family(job, true);
		put_family(job, false);
	}
	if (!job->points)
		return;
	otlp_frame_close(&job->w, &frame, r);
	wire_end(&job->w);
}

int otlp_encode_metrics(const struct snapshot *s, const struct batch_resource *r,
			const struct otlp_metrics_options *o, struct buf *out, uint32_t *ret_points)
{
	struct buf body;
	struct job job = {.view = snapshot_view(s), .o = o};
	uint32_t first = o->first_family, end = job.view.n_families;

	if (o->temporality != OTLP_CUMULATIVE && !o->delta)
		return -EINVAL;
	if (o->n_families && first < end && o->n_families < end - first)
		end = first + o->n_families;
	buf_init(&body, out->max);
	job.w.out = o->json ? &body : out;
	encode(&job, r, first, end);
	if (o->json)
		otlp_json(OTLP_METRICS, &body, out);
	buf_done(&body);
	if (out->failed)
		return -ENOSPC;
	*ret_points = job.points;
	return 0;
}
