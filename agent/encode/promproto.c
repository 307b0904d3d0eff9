/* agent/encode/promproto.c - Prometheus' delimited protobuf, with classic and native histograms.
 *
 * Written directly: fields in ascending order, lengths in as few bytes as they need, so the bytes
 * are those that any canonical encoder makes of the same message (test_promproto.c compares with
 * protobuf-c). Names are those of the text formats; here a counter may have any name, but
 * shows its exemplars only where OpenMetrics can as well.
 *
 * A message's length stands before it and is known after it: one byte is left for it, and what was
 * written moves up where that was not enough.
 *
 * Pure; includes agent/model/, agent/buf.h and shm/buckets.h. */
#include "agent/encode/formats.h"
#include "agent/encode/select.h"
#include "agent/model/number.h"
#include "shm/buckets.h"

#include <math.h>

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2 };
enum { VARINT_BYTES_MAX = 10 };

/* Field numbers, as in proto/prometheus_client.proto. */
enum {
	FAMILY_NAME = 1,
	FAMILY_HELP = 2,
	FAMILY_TYPE = 3,
	FAMILY_METRIC = 4,
	FAMILY_UNIT = 5,
	METRIC_LABEL = 1,
	METRIC_GAUGE = 2,
	METRIC_COUNTER = 3,
	METRIC_HISTOGRAM = 7,
	LABEL_NAME = 1,
	LABEL_VALUE = 2,
	GAUGE_VALUE = 1,
	COUNTER_VALUE = 1,
	COUNTER_EXEMPLAR = 2,
	COUNTER_CREATED = 3,
	EXEMPLAR_LABEL = 1,
	EXEMPLAR_VALUE = 2,
	EXEMPLAR_TIMESTAMP = 3,
	TIMESTAMP_SECONDS = 1,
	TIMESTAMP_NANOS = 2,
	HISTOGRAM_COUNT = 1,
	HISTOGRAM_SUM = 2,
	HISTOGRAM_BUCKET = 3,
	HISTOGRAM_SCHEMA = 5,
	HISTOGRAM_ZERO_THRESHOLD = 6,
	HISTOGRAM_ZERO_COUNT = 7,
	HISTOGRAM_SPAN = 12,
	HISTOGRAM_DELTA = 13,
	HISTOGRAM_CREATED = 15,
	HISTOGRAM_EXEMPLAR = 16,
	BUCKET_COUNT = 1,
	BUCKET_BOUND = 2,
	BUCKET_EXEMPLAR = 3,
	SPAN_OFFSET = 1,
	SPAN_LENGTH = 2,
};

/* ---- fields ---------------------------------------------------------------------------------- */

static uint8_t *varint(uint8_t *at, uint64_t value)
{
	while (value >= 0x80) {
		*at++ = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	*at++ = (uint8_t)value;
	return at;
}

static uint8_t *tag(uint8_t *at, uint32_t field, enum wire wire)
{
	return varint(at, field << 3 | (uint32_t)wire);
}

static void put_varint(struct buf *b, uint32_t field, uint64_t value)
{
	uint8_t *start = buf_room(b, 2 * VARINT_BYTES_MAX);

	if (start)
		buf_commit(b, (size_t)(varint(tag(start, field, WIRE_VARINT), value) - start));
}

static void put_zigzag(struct buf *b, uint32_t field, int64_t value)
{
	put_varint(b, field, ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0));
}

/* Little-endian by shifts: on such a machine the compiler makes one store of it. */
static void put_double(struct buf *b, uint32_t field, double value)
{
	uint8_t *start = buf_room(b, VARINT_BYTES_MAX + sizeof(value)), *at;
	uint64_t bits;

	if (!start)
		return;
	memcpy(&bits, &value, sizeof(bits));
	at = tag(start, field, WIRE_64);
	for (uint32_t i = 0; i < 8; i++)
		at[i] = (uint8_t)(bits >> (8 * i));
	buf_commit(b, (size_t)(at + 8 - start));
}

static void put_bytes(struct buf *b, uint32_t field, const char *bytes, size_t len)
{
	uint8_t *start = buf_room(b, 2 * VARINT_BYTES_MAX + len), *at;

	if (!start)
		return;
	at = varint(tag(start, field, WIRE_BYTES), len);
	memcpy(at, bytes, len);
	buf_commit(b, (size_t)(at + len - start));
}

/* ---- messages -------------------------------------------------------------------------------- */

/* Where the message's content will start; field 0: without a tag, as the delimited format has it.
 */
static size_t begin(struct buf *b, uint32_t field)
{
	uint8_t *start = buf_room(b, VARINT_BYTES_MAX + 1), *at = start;

	if (!start)
		return 0;
	if (field)
		at = tag(at, field, WIRE_BYTES);
	buf_commit(b, (size_t)(at + 1 - start));
	return b->len;
}

static void end(struct buf *b, size_t content)
{
	uint8_t length[VARINT_BYTES_MAX];
	size_t len, more;

	if (b->failed)
		return;
	len = b->len - content;
	more = (size_t)(varint(length, len) - length) - 1;
	if (!buf_room(b, more))
		return;
	if (more)
		memmove(b->data + content + more, b->data + content, len);
	memcpy(b->data + content - 1, length, more + 1);
	buf_commit(b, more);
}

static void put_timestamp(struct buf *b, uint32_t field, uint64_t unix_ns)
{
	size_t message = begin(b, field);

	put_varint(b, TIMESTAMP_SECONDS, unix_ns / NUMBER_NS_PER_S);
	put_varint(b, TIMESTAMP_NANOS, unix_ns % NUMBER_NS_PER_S);
	end(b, message);
}

static void put_label(struct buf *b, uint32_t field, const char *name, const char *value,
		      size_t value_len)
{
	size_t message = begin(b, field);

	put_bytes(b, LABEL_NAME, name, strlen(name));
	put_bytes(b, LABEL_VALUE, value, value_len);
	end(b, message);
}

static void put_id(struct buf *b, const char *name, const uint8_t *bytes, uint32_t n)
{
	static const char digits[] = "0123456789abcdef";
	char text[2 * sizeof(((struct snapshot_exemplar *)0)->trace_id)];

	for (uint32_t i = 0; i < n; i++) {
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	put_label(b, EXEMPLAR_LABEL, name, text, 2 * (size_t)n);
}

static void put_exemplar(struct buf *b, uint32_t field, const struct snapshot_family *family,
			 const struct snapshot_exemplar *exemplar)
{
	size_t message = begin(b, field);

	put_id(b, "trace_id", exemplar->trace_id, sizeof(exemplar->trace_id));
	put_id(b, "span_id", exemplar->span_id, sizeof(exemplar->span_id));
	put_double(b, EXEMPLAR_VALUE, select_double(family, exemplar->value));
	put_timestamp(b, EXEMPLAR_TIMESTAMP, exemplar->unix_ns);
	end(b, message);
}

/* ---- metrics --------------------------------------------------------------------------------- */

struct job {
	struct buf *out;
	struct snapshot_view view;
	const struct encode_options *options;
	bool counter_exemplars; /* of the family at hand, under the name at hand */
};

static void put_gauge(const struct job *job, const struct snapshot_family *family,
		      const struct snapshot_series *series)
{
	size_t message = begin(job->out, METRIC_GAUGE);

	put_double(job->out, GAUGE_VALUE, select_double(family, job->view.values[series->value]));
	end(job->out, message);
}

static void put_counter(const struct job *job, const struct snapshot_family *family,
			const struct snapshot_series *series)
{
	size_t message = begin(job->out, METRIC_COUNTER);

	put_double(job->out, COUNTER_VALUE, select_double(family, job->view.values[series->value]));
	if (job->counter_exemplars && select_exemplar(&job->view, family, series, 0))
		put_exemplar(job->out, COUNTER_EXEMPLAR, family,
			     &job->view.exemplars[series->exemplar]);
	if (family->created_unix_ns)
		put_timestamp(job->out, COUNTER_CREATED, family->created_unix_ns);
	end(job->out, message);
}

/* The classic buckets; +Inf too, for it may carry an exemplar. */
static void put_buckets(const struct job *job, const struct snapshot_family *family,
			const struct snapshot_series *series)
{
	const uint64_t *cells = job->view.values + series->value;
	uint32_t n = family->bounds->n;
	uint64_t count = 0;

	for (uint32_t i = 0; i <= n; i++) {
		size_t message = begin(job->out, HISTOGRAM_BUCKET);

		count += cells[i];
		put_varint(job->out, BUCKET_COUNT, count);
		put_double(job->out, BUCKET_BOUND, i < n ? family->bounds->value[i] : INFINITY);
		if (select_exemplar(&job->view, family, series, i))
			put_exemplar(job->out, BUCKET_EXEMPLAR, family,
				     &job->view.exemplars[series->exemplar + i]);
		end(job->out, message);
	}
}

/* First cell from `from` on that is not 0; BLIX_EXP_CELLS if none. */
static uint32_t next_used(const uint64_t *cells, uint32_t from)
{
	while (from < BLIX_EXP_CELLS && !cells[from])
		from++;
	return from;
}

/* The end of a run that starts at `from`. A gap of up to GAP_MAX empty buckets costs less inside a
 * run than a run of its own does. */
static uint32_t run_end(const uint64_t *cells, uint32_t from)
{
	enum { GAP_MAX = 2 };
	uint32_t at = from;

	for (;;) {
		uint32_t next;

		while (at < BLIX_EXP_CELLS && cells[at])
			at++;
		next = next_used(cells, at);
		if (next == BLIX_EXP_CELLS || next - at > GAP_MAX)
			return at;
		at = next;
	}
}

static void put_span(struct buf *b, int32_t offset, uint32_t length)
{
	size_t message = begin(b, HISTOGRAM_SPAN);

	put_zigzag(b, SPAN_OFFSET, offset);
	put_varint(b, SPAN_LENGTH, length);
	end(b, message);
}

static void put_spans(struct buf *b, const uint64_t *cells)
{
	uint32_t from = next_used(cells, BLIX_EXP_FIRST);
	int32_t previous_end = 0;

	/* Neither a zero count nor a span would read as a classic histogram: an empty span says
	 * that this is a native one. */
	if (from == BLIX_EXP_CELLS)
		put_span(b, 0, 0);
	while (from < BLIX_EXP_CELLS) {
		int32_t index = blix_native_index(blix_exp_otlp_index(from));
		uint32_t to = run_end(cells, from);

		put_span(b, index - previous_end, to - from);
		previous_end = index + (int32_t)(to - from);
		from = next_used(cells, to);
	}
}

static void put_deltas(struct buf *b, const uint64_t *cells)
{
	uint64_t previous = 0;

	for (uint32_t from = next_used(cells, BLIX_EXP_FIRST); from < BLIX_EXP_CELLS;) {
		uint32_t to = run_end(cells, from);

		for (; from < to; from++) {
			put_zigzag(b, HISTOGRAM_DELTA, (int64_t)(cells[from] - previous));
			previous = cells[from];
		}
		from = next_used(cells, to);
	}
}

/* Newer servers read a native histogram's exemplars here, older ones those of the classic buckets:
 * both are filled. In order of time, because one older than its predecessor is refused. */
static void put_native_exemplars(const struct job *job, const struct snapshot_family *family,
				 const struct snapshot_series *series)
{
	uint32_t order[BLIX_BOUNDS_MAX + 1], n = 0;

	for (uint32_t i = 0; i <= family->bounds->n; i++) {
		const struct snapshot_exemplar *all = job->view.exemplars + series->exemplar;
		uint32_t at = n;

		if (!select_exemplar(&job->view, family, series, i))
			continue;
		for (; at > 0 && all[order[at - 1]].unix_ns > all[i].unix_ns; at--)
			order[at] = order[at - 1];
		order[at] = i;
		n++;
	}
	for (uint32_t i = 0; i < n; i++)
		put_exemplar(job->out, HISTOGRAM_EXEMPLAR, family,
			     &job->view.exemplars[series->exemplar + order[i]]);
}

static uint64_t sum_of(const uint64_t *cells, uint32_t n)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += cells[i];
	return sum;
}

static void put_histogram(const struct job *job, const struct snapshot_family *family,
			  const struct snapshot_series *series)
{
	size_t message = begin(job->out, METRIC_HISTOGRAM);
	const uint64_t *classic = job->view.values + series->value;
	uint32_t n = family->bounds->n;
	const uint64_t *cells = classic + n + 2;
	bool native = job->options->native_histograms && series->has_exponential;

	/* The two sets of cells are written one after the other, so the count is of those that a
	 * reader will check it against. */
	put_varint(job->out, HISTOGRAM_COUNT,
		   native ? sum_of(cells, BLIX_EXP_CELLS) : sum_of(classic, n + 1));
	put_double(job->out, HISTOGRAM_SUM, select_double(family, classic[n + 1]));
	put_buckets(job, family, series);
	if (native) {
		put_zigzag(job->out, HISTOGRAM_SCHEMA, BLIX_EXP_SCALE);
		put_double(job->out, HISTOGRAM_ZERO_THRESHOLD, BLIX_EXP_ZERO_THRESHOLD_SECONDS);
		put_varint(job->out, HISTOGRAM_ZERO_COUNT,
			   cells[BLIX_EXP_ZERO] + cells[BLIX_EXP_UNDER]);
		put_spans(job->out, cells);
		put_deltas(job->out, cells);
	}
	if (family->created_unix_ns)
		put_timestamp(job->out, HISTOGRAM_CREATED, family->created_unix_ns);
	if (native)
		put_native_exemplars(job, family, series);
	end(job->out, message);
}

/* ---- families -------------------------------------------------------------------------------- */

static void put_metric(const struct job *job, const struct snapshot_family *family,
		       const struct snapshot_series *series)
{
	size_t message = begin(job->out, FAMILY_METRIC);

	for (uint32_t i = 0; i < series->n_labels; i++)
		put_label(job->out, METRIC_LABEL, series->labels[i].key, series->labels[i].value,
			  strlen(series->labels[i].value));
	switch (family->type) {
	case SNAPSHOT_COUNTER:
		put_counter(job, family, series);
		break;
	case SNAPSHOT_GAUGE:
		put_gauge(job, family, series);
		break;
	case SNAPSHOT_HISTOGRAM:
		put_histogram(job, family, series);
		break;
	}
	end(job->out, message);
}

static uint64_t type_of(const struct snapshot_family *family)
{
	static const uint8_t types[] = {
		[SNAPSHOT_COUNTER] = 0, [SNAPSHOT_GAUGE] = 1, [SNAPSHOT_HISTOGRAM] = 4};

	return types[family->type];
}

static void put_help(struct buf *b, const struct snapshot_family *family, bool alias)
{
	char help[3 * SNAPSHOT_HELP_BYTES_MAX + SNAPSHOT_NAME_BYTES_MAX + 32];
	size_t len = strlen(family->help), n = 0;

	if (alias) {
		memcpy(help, "Alias of ", 9);
		memcpy(help + 9, family->name, family->name_text.len);
		n = 9 + family->name_text.len;
		help[n++] = '.';
		if (len)
			help[n++] = ' ';
	}
	memcpy(help + n, family->help, len);
	if (n + len)
		put_bytes(b, FAMILY_HELP, help, n + len);
}

static void put_family(struct job *job, const struct snapshot_family *family,
		       struct snapshot_text name, bool alias)
{
	size_t message = begin(job->out, 0);

	job->counter_exemplars = select_total(family, name);
	put_bytes(job->out, FAMILY_NAME, name.at, name.len);
	put_help(job->out, family, alias);
	put_varint(job->out, FAMILY_TYPE, type_of(family));
	for (uint32_t i = 0; i < family->n_series; i++) {
		const struct snapshot_series *series = &job->view.series[family->series[i]];

		if (!series->hidden)
			put_metric(job, family, series);
	}
	if (family->unit_suffix[0] && !alias)
		put_bytes(job->out, FAMILY_UNIT, family->unit_suffix, strlen(family->unit_suffix));
	end(job->out, message);
}

void encode_protobuf(const struct snapshot *s, const struct encode_options *o, struct buf *out)
{
	struct job job = {.out = out, .view = snapshot_view(s), .options = o};

	for (uint32_t i = 0; i < job.view.n_families; i++) {
		const struct snapshot_family *family = &job.view.families[i];

		if (!select_family(&job.view, family))
			continue;
		if (select_canonical(family, o->names))
			put_family(&job, family, family->name_text, false);
		if (select_alias(family, o->names))
			put_family(&job, family, family->alias_text, true);
	}
}
