/* Goal: requests are the bytes that any canonical encoder makes of the same message, with the fields
 * that the batch and the snapshot have.
 * Method: protobuf-c, a second implementation with messages of proto/otlp_messages.proto, unpacks
 * each body; its fields are compared with the fixture's, and what it packs again with the body. */
#include "agent/encode/otlp.h"
#include "agent/model/number.h"
#include "proto/otlp_messages.pb-c.h"
#include "shm/buckets.h"
#include "test/support/batch_fixture.h"
#include "test/support/model_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>

enum { BODY_BYTES_MAX = 64 << 20 };
#define TIME_NS 1700000100000000000ull
#define CREATED 1700000000123000000ull

static void *unpack(const ProtobufCMessageDescriptor *type, const struct buf *body)
{
	ProtobufCMessage *m;
	uint8_t *again;

	cr_assert_not(body->failed);
	m = protobuf_c_message_unpack(type, NULL, body->len, body->data);
	cr_assert_not_null(m);
	cr_assert_eq(protobuf_c_message_get_packed_size(m), body->len);
	again = malloc(body->len);
	(void)protobuf_c_message_pack(m, again);
	cr_expect_eq(memcmp(again, body->data, body->len), 0, "protobuf-c packs other bytes");
	free(again);
	return m;
}

static struct buf encode(const struct batch *b, uint32_t first, uint32_t n)
{
	struct buf body;

	buf_init(&body, BODY_BYTES_MAX);
	otlp_encode_batch(b, first, n, false, &body);
	return body;
}

/* ---- spans ----------------------------------------------------------------------------------- */

static void expect_everything(const Otlp__Span *s)
{
	static const char text[] = "q\"b\\s\nn\x01\xc3\xa9\xf0\x9f\x98\x80";

	cr_expect_eq(s->trace_id.len, 16);
	cr_expect_eq(s->trace_id.data[15], 0x10);
	cr_expect_eq(s->span_id.len, 8);
	cr_expect_eq(s->parent_span_id.data[7], 0x99);
	cr_expect_str_eq(s->name, "CreateVm");
	cr_expect_str_eq(s->trace_state, "vendor=a,other=b");
	cr_expect_eq(s->end_time_unix_nano - s->start_time_unix_nano, 1500);
	cr_expect_eq(s->flags, 0x301);
	cr_expect_eq(s->status->code, 2);
	cr_expect_str_eq(s->status->message, "no space");
	cr_expect_eq(s->dropped_attributes_count, 1);
	cr_expect_eq(s->dropped_events_count, 4);
	cr_expect_eq(s->dropped_links_count, 5);
	cr_assert_eq(s->n_events, 2);
	cr_expect_str_eq(s->events[0]->name, "exception");
	cr_expect_eq(s->events[0]->dropped_attributes_count, 2);
	cr_assert_eq(s->n_links, 2);
	cr_expect_eq(s->links[0]->flags, 0x301);
	cr_expect_eq(s->links[0]->trace_id.data[0], 0xaa);
	cr_expect_eq(s->links[1]->trace_id.data[0], 0xcc);
	cr_expect_str_eq(s->links[0]->trace_state, "v=1");
	cr_assert_eq(s->n_attributes, 14);
	cr_expect_eq(s->attributes[0]->value->value_case, OTLP__ANY_VALUE__VALUE_STRING_VALUE);
	cr_expect_str_eq(s->attributes[0]->value->string_value, "");
	cr_expect_str_eq(s->attributes[1]->value->string_value, text);
	cr_expect_eq(s->attributes[2]->value->value_case, OTLP__ANY_VALUE__VALUE_BOOL_VALUE);
	cr_expect_not(s->attributes[2]->value->bool_value);
	cr_expect_eq(s->attributes[4]->value->value_case, OTLP__ANY_VALUE__VALUE_INT_VALUE);
	cr_expect_eq(s->attributes[5]->value->int_value, INT64_MIN);
	cr_expect(isnan(s->attributes[8]->value->double_value));
	cr_expect_eq(s->attributes[10]->value->bytes_value.len, 4);
	cr_assert_eq(s->attributes[11]->value->array_value->n_values, 2);
	cr_expect_eq(s->attributes[11]->value->array_value->values[0]->int_value, -1);
	cr_expect_eq(s->attributes[13]->value->value_case, OTLP__ANY_VALUE__VALUE_ARRAY_VALUE);
}

Test(otlp, spans_are_what_protobuf_c_packs_and_keep_every_field)
{
	struct batch *b = fixture_spans();
	struct buf body = encode(b, 0, 3);
	Otlp__TraceRequest *m = unpack(&otlp__trace_request__descriptor, &body);
	Otlp__ResourceSpans *group = m->resource_spans[0];
	Otlp__ScopeSpans *scope = group->scope_spans[0];

	cr_expect_eq(m->n_resource_spans, 1);
	cr_expect_str_eq(group->schema_url, OTLP_SCHEMA_URL);
	cr_expect_str_eq(scope->schema_url, OTLP_SCHEMA_URL);
	cr_expect_str_eq(group->resource->attributes[0]->value->string_value, "blixard-node");
	cr_expect_str_eq(scope->scope->name, "blixard-hooks");
	cr_assert_eq(scope->n_spans, 3);
	expect_everything(scope->spans[0]);
	cr_expect_null(scope->spans[1]->status, "unset is not sent");
	cr_expect_eq(scope->spans[1]->parent_span_id.len, 0, "a root has no parent");
	cr_expect_eq(scope->spans[1]->flags, 0x100);
	cr_expect_eq(scope->spans[2]->status->code, 1);
	cr_expect_str_eq(scope->spans[2]->status->message, "", "a message with ERROR only");
	cr_expect_eq(scope->spans[2]->end_time_unix_nano, UINT64_MAX);
	cr_expect_eq(scope->spans[2]->dropped_links_count, UINT32_MAX);
	otlp__trace_request__free_unpacked(m, NULL);
	buf_done(&body);
	batch_release(b);
}

Test(otlp, a_range_of_a_batch_is_those_items_and_an_empty_one_is_nothing)
{
	struct batch *b = fixture_many_spans(BATCH_ITEMS_MAX);
	struct buf body = encode(b, 500, 100);
	Otlp__TraceRequest *m = unpack(&otlp__trace_request__descriptor, &body);

	cr_expect_eq(m->resource_spans[0]->scope_spans[0]->n_spans, 12);
	cr_expect_eq(m->resource_spans[0]->scope_spans[0]->spans[0]->start_time_unix_nano,
		     b->spans[500].start_unix_ns);
	otlp__trace_request__free_unpacked(m, NULL);
	buf_clear(&body);
	otlp_encode_batch(b, 512, 1, false, &body);
	otlp_encode_batch(b, 3, 0, false, &body);
	otlp_encode_batch(b, 512, 1, true, &body);
	cr_expect_eq(body.len, 0);
	cr_expect_not(body.failed);
	buf_done(&body);
	batch_release(b);
}

Test(otlp, a_body_fits_its_exact_length_behind_other_bytes_and_fails_one_byte_below)
{
	struct batch *b = fixture_many_spans(300);
	struct buf body = encode(b, 0, 300), tight;

	for (size_t less = 0; less <= 1; less++) {
		/* Room is asked for with the longest tag and length, so "exact" is within that. */
		buf_init(&tight, body.len + 3 + (less ? 0 : 32) - less);
		buf_adds(&tight, "abc");
		otlp_encode_batch(b, 0, 300, false, &tight);
		cr_expect_eq(tight.failed, less == 1);
		if (!less) {
			cr_expect_eq(tight.len, body.len + 3);
			cr_expect_eq(memcmp(tight.data, "abc", 3), 0);
			cr_expect_eq(memcmp(tight.data + 3, body.data, body.len), 0);
		}
		buf_done(&tight);
	}
	buf_done(&body);
	batch_release(b);
}

Test(otlp, logs_are_what_protobuf_c_packs_and_keep_every_field)
{
	struct batch *b = fixture_logs();
	struct buf body = encode(b, 0, 2);
	Otlp__LogsRequest *m = unpack(&otlp__logs_request__descriptor, &body);
	Otlp__LogRecord **logs = m->resource_logs[0]->scope_logs[0]->log_records;

	cr_assert_eq(m->resource_logs[0]->scope_logs[0]->n_log_records, 2);
	cr_expect_eq(logs[0]->severity_number, 18);
	cr_expect_str_eq(logs[0]->severity_text, "ERROR2");
	cr_expect_str_eq(logs[0]->body->string_value, "disk \"a\" is full");
	cr_expect_str_eq(logs[0]->event_name, "disk.full");
	cr_expect_eq(logs[0]->observed_time_unix_nano - logs[0]->time_unix_nano, 7);
	cr_expect_eq(logs[0]->dropped_attributes_count, 9);
	cr_expect_eq(logs[0]->flags, 1);
	cr_expect_eq(logs[1]->trace_id.len, 0);
	cr_expect_eq(logs[1]->severity_number, 0);
	cr_expect_eq(logs[1]->body->value_case, OTLP__ANY_VALUE__VALUE_STRING_VALUE);
	otlp__logs_request__free_unpacked(m, NULL);
	buf_done(&body);
	batch_release(b);
}

/* ---- metrics --------------------------------------------------------------------------------- */

static Otlp__MetricsRequest *metrics_of(const struct snapshot *s, struct otlp_metrics_options o,
					uint32_t *ret_points)
{
	struct batch_resource *r = fixture_resource();
	Otlp__MetricsRequest *m = NULL;
	struct buf body;

	buf_init(&body, BODY_BYTES_MAX);
	o.time_unix_ns = TIME_NS;
	cr_assert_eq(otlp_encode_metrics(s, r, &o, &body, ret_points), 0);
	if (body.len)
		m = unpack(&otlp__metrics_request__descriptor, &body);
	buf_done(&body);
	batch_resource_release(r);
	return m;
}

static Otlp__Metric *find(const Otlp__MetricsRequest *m, const char *name)
{
	const Otlp__ScopeMetrics *scope = m->resource_metrics[0]->scope_metrics[0];

	for (size_t i = 0; i < scope->n_metrics; i++)
		if (!strcmp(scope->metrics[i]->name, name))
			return scope->metrics[i];
	return NULL;
}

Test(otlp_metrics, counters_and_gauges_keep_their_values_and_kinds)
{
	struct snapshot *s = fixture_small();
	uint32_t points;
	Otlp__MetricsRequest *m = metrics_of(s, (struct otlp_metrics_options){0}, &points);
	Otlp__Metric *requests = find(m, "app_requests"), *level = find(m, "app_level");
	Otlp__Metric *busy = find(m, "app_busy");

	cr_expect_eq(points, 2 + 1 + 3 + 5 + 1 + 2);
	cr_expect(requests->sum->is_monotonic);
	cr_expect_eq(requests->sum->aggregation_temporality, 2);
	cr_expect_eq(requests->sum->data_points[0]->as_int, 42);
	cr_expect_eq(requests->sum->data_points[0]->start_time_unix_nano, CREATED);
	cr_expect_eq(requests->sum->data_points[0]->n_exemplars, 1);
	cr_expect_float_eq(requests->sum->data_points[1]->as_double, 0x1p64, 0,
			   "beyond int64: a double, not negative");
	cr_expect_float_eq(busy->sum->data_points[0]->as_double, 1.5, 0);
	cr_expect_eq(busy->sum->data_points[2]->value_case,
		     OTLP__NUMBER_DATA_POINT__VALUE_AS_DOUBLE, "a zero is a value");
	cr_expect_eq(busy->sum->data_points[0]->start_time_unix_nano, TIME_NS,
		     "an unknown start: of no length");
	cr_expect_str_eq(busy->unit, "s");
	cr_expect_eq(level->gauge->data_points[0]->as_int, INT64_MIN);
	cr_expect_eq(level->gauge->data_points[0]->start_time_unix_nano, 0);
	cr_expect_null(find(m, "app_hidden"));
	cr_expect_null(find(m, "app_empty"));
	otlp__metrics_request__free_unpacked(m, NULL);
	snapshot_free(s);
}

Test(otlp_metrics, an_unknown_start_is_the_time_of_the_first_point)
{
	struct snapshot *s = fixture_small();
	uint32_t points;
	Otlp__MetricsRequest *m =
		metrics_of(s, (struct otlp_metrics_options){.unknown_start_unix_ns = 5}, &points);

	cr_expect_eq(find(m, "app_busy")->sum->data_points[0]->start_time_unix_nano, 5);
	otlp__metrics_request__free_unpacked(m, NULL);
	snapshot_free(s);
}

Test(otlp_metrics, explicit_histograms_have_their_buckets_sum_and_fitting_exemplars)
{
	struct snapshot *s = fixture_small();
	uint32_t points;
	Otlp__MetricsRequest *m = metrics_of(s, (struct otlp_metrics_options){0}, &points);
	Otlp__Histogram *h = find(m, "app_wait")->histogram;
	Otlp__HistogramDataPoint *p = h->data_points[0], *empty = h->data_points[1];

	cr_assert_eq(p->n_bucket_counts, 4);
	cr_assert_eq(p->n_explicit_bounds, 3);
	cr_expect_eq(p->count, 6);
	cr_expect_eq(p->bucket_counts[0], 3);
	cr_expect_eq(p->bucket_counts[3], 1);
	cr_expect_float_eq(p->explicit_bounds[2], 2.5, 0);
	cr_expect_float_eq(p->sum, 12.345678901, 1e-12);
	cr_expect_eq(p->n_exemplars, 2, "one is not in its bucket");
	cr_expect_eq(empty->count, 0);
	cr_expect_eq(empty->has_sum_case, OTLP__HISTOGRAM_DATA_POINT__HAS_SUM_SUM);
	cr_expect_eq(empty->n_bucket_counts, 4);
	otlp__metrics_request__free_unpacked(m, NULL);
	snapshot_free(s);
}

/* A histogram of one observation in each of the cells [first, last]. */
static struct snapshot *one_histogram(uint32_t first, uint32_t last)
{
	const struct snapshot_bounds bounds = {.n = 1, .value = {1}};
	const struct snapshot_family spec = {.name = "blixard_x_seconds",
					     .unit = "s",
					     .type = SNAPSHOT_HISTOGRAM,
					     .number = SNAPSHOT_NS,
					     .bounds = &bounds};
	struct snapshot *s = snapshot_new();
	uint32_t f, i, n;

	cr_assert_eq(snapshot_family(s, &spec, &f), 0);
	cr_assert_eq(snapshot_series(s, f, NULL, 0, true, false, &i), 0);
	for (uint32_t c = first; c <= last; c++)
		snapshot_values(s, i, &n)[3 + c] = c - first + 1;
	return s;
}

Test(otlp_metrics, exponential_buckets_lie_where_the_grid_puts_them)
{
	struct snapshot *s = one_histogram(blix_exp_cell(1500000000), blix_exp_cell(1500000000));
	uint32_t points;
	Otlp__MetricsRequest *m =
		metrics_of(s, (struct otlp_metrics_options){.exponential = true}, &points);
	Otlp__ExponentialHistogramDataPoint *p =
		find(m, "blixard.x")->exponential_histogram->data_points[0];
	double base = exp2(exp2(-p->scale));

	cr_expect_eq(p->scale, 3);
	cr_expect_float_eq(p->zero_threshold, 0x1p-20, 0);
	cr_assert_eq(p->positive->n_bucket_counts, 1);
	cr_expect_lt(pow(base, p->positive->offset), 1.5);
	cr_expect_geq(pow(base, p->positive->offset + 1), 1.5);
	cr_expect_eq(p->count, 1);
	otlp__metrics_request__free_unpacked(m, NULL);
	snapshot_free(s);
}

Test(otlp_metrics, exponential_buckets_merge_in_pairs_beyond_160_and_not_at_160)
{
	for (uint32_t width = 159; width <= 161; width++) {
		uint32_t first = BLIX_EXP_FIRST + 1, points;
		struct snapshot *s = one_histogram(first, first + width - 1);
		Otlp__MetricsRequest *m =
			metrics_of(s, (struct otlp_metrics_options){.exponential = true}, &points);
		Otlp__ExponentialHistogramDataPoint *p =
			find(m, "blixard.x")->exponential_histogram->data_points[0];
		int32_t steps = width > 160;
		uint64_t sum = 0;

		cr_expect_eq(p->scale, 3 - steps, "%u", width);
		cr_expect_leq(p->positive->n_bucket_counts, 160);
		for (size_t i = 0; i < p->positive->n_bucket_counts; i++)
			sum += p->positive->bucket_counts[i];
		cr_expect_eq(sum, p->count);
		cr_expect_eq(p->count, (uint64_t)width * (width + 1) / 2);
		/* -160 + 1 is odd: alone in its pair, so the second bucket is the second pair. */
		cr_expect_eq(p->positive->offset, steps ? -80 : -159);
		cr_expect_eq(p->positive->bucket_counts[1], steps ? 2 + 3 : 2);
		otlp__metrics_request__free_unpacked(m, NULL);
		snapshot_free(s);
	}
}

Test(otlp_metrics, the_whole_catalogue_is_what_protobuf_c_packs_and_splits_into_ranges)
{
	struct snapshot *s = fixture_rich();
	uint32_t all, points, sum = 0, n = snapshot_family_count(s);
	Otlp__MetricsRequest *m =
		metrics_of(s, (struct otlp_metrics_options){.exponential = true}, &all);

	otlp__metrics_request__free_unpacked(m, NULL);
	for (uint32_t first = 0; first < n; first += 7) {
		const struct otlp_metrics_options o = {
			.exponential = true, .first_family = first, .n_families = 7};

		m = metrics_of(s, o, &points);
		sum += points;
		otlp__metrics_request__free_unpacked(m, NULL);
	}
	cr_expect_eq(sum, all);
	cr_expect_null(metrics_of(s, (struct otlp_metrics_options){.first_family = n}, &points));
	cr_expect_eq(points, 0);
	snapshot_free(s);
}

Test(otlp_metrics, up_down_counters_are_sums_that_are_not_monotonic)
{
	struct snapshot *s = snapshot_new();
	const struct blix_metric *row = NULL;
	uint32_t f, i, points, n = 0;
	Otlp__MetricsRequest *m;

	while ((row = blix_metric_next(row)))
		if (row->kind == BLIX_UPDOWN) {
			cr_assert_eq(snapshot_family_of(s, row, 1, &f), 0);
			cr_assert_eq(snapshot_series(s, f, NULL, 0, false, false, &i), 0);
			n++;
		}
	if (!n) { /* the catalogue has none; a run-time metric may be one */
		const struct snapshot_family spec = {
			.name = "x", .type = SNAPSHOT_GAUGE, .updown = true};

		cr_assert_eq(snapshot_family(s, &spec, &f), 0);
		cr_assert_eq(snapshot_series(s, f, NULL, 0, false, false, &i), 0);
	}
	m = metrics_of(s, (struct otlp_metrics_options){0}, &points);
	for (uint32_t k = 0; k < points; k++) {
		Otlp__Metric *metric = m->resource_metrics[0]->scope_metrics[0]->metrics[k];

		cr_assert_eq(metric->data_case, OTLP__METRIC__DATA_SUM);
		cr_expect_not(metric->sum->is_monotonic);
		cr_expect_eq(metric->sum->aggregation_temporality, 2);
	}
	otlp__metrics_request__free_unpacked(m, NULL);
	snapshot_free(s);
}

/* A view of `s` as it is, all of it starting at `start`, but for series `skipped`. */
struct view {
	uint64_t starts[16];
	bool skipped[16];
	struct delta_view v;
};

static void make_view(struct view *view, const struct snapshot *s, uint64_t start, uint32_t skipped)
{
	for (uint32_t i = 0; i < 16; i++) {
		view->starts[i] = start;
		view->skipped[i] = i == skipped;
	}
	view->v = (struct delta_view){snapshot_view(s).values, view->starts, view->skipped};
}

Test(otlp_metrics, exemplars_of_before_the_interval_or_after_its_end_are_not_in_it)
{
	static const struct {
		uint64_t start;
		size_t n;
	} rows[] = {{1700000001499999999ull, 1}, {1700000001500000000ull, 0}};
	struct snapshot *s = fixture_small();

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct otlp_metrics_options o = {.temporality = OTLP_DELTA};
		struct view view;
		uint32_t points;
		Otlp__MetricsRequest *m;

		make_view(&view, s, rows[i].start, UINT32_MAX);
		o.delta = &view.v;
		m = metrics_of(s, o, &points);
		cr_expect_eq(find(m, "app_requests")->sum->data_points[0]->n_exemplars, rows[i].n);
		cr_expect_eq(find(m, "app_requests")->sum->data_points[0]->start_time_unix_nano,
			     rows[i].start);
		otlp__metrics_request__free_unpacked(m, NULL);
	}
	for (int after = 0; after <= 1; after++) {
		uint32_t n, points;
		Otlp__MetricsRequest *m;

		snapshot_exemplars(s, 0, &n)->unix_ns = after ? TIME_NS + 1 : TIME_NS;
		m = metrics_of(s, (struct otlp_metrics_options){0}, &points);
		cr_expect_eq(find(m, "app_requests")->sum->data_points[0]->n_exemplars,
			     after ? 0u : 1u);
		otlp__metrics_request__free_unpacked(m, NULL);
	}
	snapshot_free(s);
}

Test(otlp_metrics, series_that_the_tracker_skipped_are_left_out_of_deltas_alone)
{
	struct snapshot *s = fixture_small();
	struct otlp_metrics_options o = {.temporality = OTLP_DELTA};
	uint32_t all, points;
	struct view view;

	make_view(&view, s, 5, UINT32_MAX);
	o.delta = &view.v;
	otlp__metrics_request__free_unpacked(metrics_of(s, o, &all), NULL);
	make_view(&view, s, 5, 0);
	otlp__metrics_request__free_unpacked(metrics_of(s, o, &points), NULL);
	cr_expect_eq(points, all - 1);
	o.temporality = OTLP_CUMULATIVE;
	otlp__metrics_request__free_unpacked(metrics_of(s, o, &points), NULL);
	cr_expect_eq(points, all);
	snapshot_free(s);
}

/* One counter of the catalogue of this owner. */
static const struct blix_metric *counter_of(enum blix_owner owner)
{
	const struct blix_metric *row = NULL;

	while ((row = blix_metric_next(row)))
		if (row->kind == BLIX_COUNTER && row->owner == owner)
			return row;
	abort();
}

Test(otlp_metrics, each_temporality_applies_to_the_instruments_that_it_names)
{
	enum { CUMULATIVE = 2, DELTA = 1 };
	static const struct {
		enum otlp_temporality preference;
		int node, host, updown;
	} rows[] = {
		{OTLP_CUMULATIVE, CUMULATIVE, CUMULATIVE, CUMULATIVE},
		{OTLP_DELTA, DELTA, DELTA, CUMULATIVE},
		{OTLP_LOWMEMORY, DELTA, CUMULATIVE, CUMULATIVE},
	};
	const struct snapshot_family updown = {.name = "x", .type = SNAPSHOT_GAUGE, .updown = true};
	struct snapshot *s = snapshot_new();
	uint32_t f, i, points;
	struct view view;

	cr_assert_eq(snapshot_family_of(s, counter_of(BLIX_OWNER_NODE), 1, &f), 0);
	cr_assert_eq(snapshot_series(s, f, NULL, 0, false, false, &i), 0);
	cr_assert_eq(snapshot_family_of(s, counter_of(BLIX_OWNER_HOST), 1, &f), 0);
	cr_assert_eq(snapshot_series(s, f, NULL, 0, false, false, &i), 0);
	cr_assert_eq(snapshot_family(s, &updown, &f), 0);
	cr_assert_eq(snapshot_series(s, f, NULL, 0, false, false, &i), 0);
	make_view(&view, s, 5, UINT32_MAX);
	for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
		const struct otlp_metrics_options o = {.temporality = rows[k].preference,
						       .delta = &view.v};
		Otlp__MetricsRequest *m = metrics_of(s, o, &points);
		Otlp__Metric **metrics = m->resource_metrics[0]->scope_metrics[0]->metrics;

		cr_expect_eq(metrics[0]->sum->aggregation_temporality, rows[k].node, "%zu", k);
		cr_expect_eq(metrics[1]->sum->aggregation_temporality, rows[k].host, "%zu", k);
		cr_expect_eq(metrics[2]->sum->aggregation_temporality, rows[k].updown, "%zu", k);
		otlp__metrics_request__free_unpacked(m, NULL);
	}
	snapshot_free(s);
}

Test(otlp_metrics, deltas_without_a_view_and_bodies_too_large_are_refused)
{
	struct snapshot *s = fixture_small();
	struct batch_resource *r = fixture_resource();
	struct otlp_metrics_options o = {.time_unix_ns = 1, .temporality = OTLP_DELTA};
	uint32_t points = 77;
	struct buf body;

	buf_init(&body, 100);
	cr_expect_eq(otlp_encode_metrics(s, r, &o, &body, &points), -EINVAL);
	o.temporality = OTLP_LOWMEMORY;
	cr_expect_eq(otlp_encode_metrics(s, r, &o, &body, &points), -EINVAL);
	o.temporality = OTLP_CUMULATIVE;
	cr_expect_eq(otlp_encode_metrics(s, r, &o, &body, &points), -ENOSPC);
	o.json = true;
	buf_clear(&body);
	cr_expect_eq(otlp_encode_metrics(s, r, &o, &body, &points), -ENOSPC);
	cr_expect_eq(points, 77);
	buf_done(&body);
	batch_resource_release(r);
	snapshot_free(s);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* As a Collector's Prometheus exporter names a metric: invalid characters become "_", the unit is
 * appended unless it is a word of the name, "_ratio" to gauges of unit 1, "_total" to monotonic
 * sums, moved to the end. */
static void prometheus_name(const struct snapshot_family *f, const char *otlp, char name[256])
{
	static const char *const units[][2] = {{"s", "seconds"}, {"By", "bytes"}, {"ms", "x"}};
	char padded[512], word[64];

	(void)snprintf(name, 256, "%s", otlp);
	for (char *at = name; *at; at++)
		if (*at == '.')
			*at = '_';
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		(void)snprintf(padded, sizeof(padded), "_%s_", name);
		(void)snprintf(word, sizeof(word), "_%s_", units[i][1]);
		if (!strcmp(f->unit, units[i][0]) && !strstr(padded, word))
			(void)snprintf(name + strlen(name), 64, "_%s", units[i][1]);
	}
	if (!strcmp(f->unit, "1") && f->type == SNAPSHOT_GAUGE && !f->updown)
		(void)snprintf(name + strlen(name), 64, "_ratio");
	if (f->type == SNAPSHOT_COUNTER)
		(void)snprintf(name + strlen(name), 64, "_total");
}

Test(otlp_names, every_name_of_the_catalogue_comes_back_canonical_from_a_collector)
{
	const struct blix_metric *row = NULL;
	uint32_t n = 0;

	while ((row = blix_metric_next(row))) {
		struct snapshot *s = snapshot_new();
		char otlp[OTLP_NAME_BYTES_MAX], name[256 + 200];
		uint32_t f;

		cr_assert_eq(snapshot_family_of(s, row, 0, &f), 0);
		cr_expect_eq(otlp_name(snapshot_family_at(s, f), otlp), strlen(otlp));
		prometheus_name(snapshot_family_at(s, f), otlp, name);
		cr_expect_str_eq(name, row->name, "%s: %s", otlp, name);
		snapshot_free(s);
		n++;
	}
	cr_expect_gt(n, 50);
}

Test(otlp_names, suffixes_go_and_words_stay)
{
	static const struct {
		const char *name, *unit, *otlp;
		enum snapshot_type type;
	} rows[] = {
		{"blixard_raft_proposals_total", "{proposal}", "blixard.raft_proposals",
		 SNAPSHOT_COUNTER},
		{"blixard_raft_term", "{term}", "blixard.raft_term", SNAPSHOT_GAUGE},
		{"blixard_cpu_ratio", "1", "blixard.cpu", SNAPSHOT_GAUGE},
		{"blixard_seconds", "s", "blixard", SNAPSHOT_GAUGE},
		{"process_cpu_seconds_total", "s", "process_cpu", SNAPSHOT_COUNTER},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct snapshot *s = snapshot_new();
		const struct snapshot_family spec = {
			.name = rows[i].name, .unit = rows[i].unit, .type = rows[i].type};
		char otlp[OTLP_NAME_BYTES_MAX];
		uint32_t f;

		cr_assert_eq(snapshot_family(s, &spec, &f), 0);
		(void)otlp_name(snapshot_family_at(s, f), otlp);
		cr_expect_str_eq(otlp, rows[i].otlp);
		snapshot_free(s);
	}
}
