/* Goal: the protobuf body is canonical, says what the text formats say, and its native histograms
 * give every observation its bucket.
 * Method: protobuf-c, which shares no code with the encoder, takes each message apart; packed again
 * it must give the same bytes. Native buckets are read back from spans and deltas by the rule of
 * the format and compared with the cells. protobuf_decode.py does the same with Google's library.
 */
#include "agent/encode/encode.h"
#include "agent/model/number.h"
#include "shm/buckets.h"
#include "test/support/model_fixture.h"

#include "proto/prometheus_client.pb-c.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

typedef Io__Prometheus__Client__MetricFamily family_message;
typedef Io__Prometheus__Client__Metric metric_message;
typedef Io__Prometheus__Client__Histogram histogram_message;
typedef Io__Prometheus__Client__Exemplar exemplar_message;

enum { FAMILIES_MAX = 1024 };

static struct buf out;
static family_message *families[FAMILIES_MAX];
static uint32_t n_families;

static void forget(void)
{
	for (uint32_t i = 0; i < n_families; i++)
		io__prometheus__client__metric_family__free_unpacked(families[i], NULL);
	n_families = 0;
}

static void set_up(void)
{
	buf_init(&out, 64 << 20);
}

static void tear_down(void)
{
	forget();
	buf_done(&out);
}

TestSuite(promproto, .init = set_up, .fini = tear_down);

static size_t read_varint(const uint8_t **at, const uint8_t *end)
{
	size_t value = 0;
	uint32_t shift = 0, byte;

	do {
		cr_assert_lt(*at, end);
		byte = *(*at)++;
		value |= (size_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	return value;
}

/* Encode and take apart; every message must pack to the bytes it came from. */
static void decode(const struct snapshot *s, struct encode_options options)
{
	const uint8_t *at, *end;

	forget();
	buf_clear(&out);
	encoders[ENCODE_PROTOBUF].encode(s, &options, &out);
	cr_assert(!out.failed);
	for (at = out.data, end = at + out.len; at < end;) {
		size_t len = read_varint(&at, end);
		uint8_t *packed = malloc(len + 1);
		family_message *f;

		cr_assert_not_null(packed);
		cr_assert_leq(len, (size_t)(end - at));
		cr_assert_lt(n_families, FAMILIES_MAX);
		f = io__prometheus__client__metric_family__unpack(NULL, len, at);
		cr_assert_not_null(f);
		cr_assert_eq(f->base.n_unknown_fields, 0);
		cr_assert_eq(io__prometheus__client__metric_family__get_packed_size(f), len);
		cr_assert_eq(io__prometheus__client__metric_family__pack(f, packed), len);
		cr_assert_eq(memcmp(packed, at, len), 0, "%s", f->name);
		free(packed);
		families[n_families++] = f;
		at += len;
	}
}

static const family_message *find(const char *name)
{
	for (uint32_t i = 0; i < n_families; i++)
		if (!strcmp(families[i]->name, name))
			return families[i];
	return NULL;
}

Test(promproto, is_what_a_canonical_encoder_makes_of_the_whole_catalogue)
{
	struct snapshot *s = fixture_rich();

	for (int names = ENCODE_NAMES_BOTH; names <= ENCODE_NAMES_SEED; names++) {
		decode(s, (struct encode_options){.names = (enum encode_names)names});
		cr_expect_gt(n_families, 100);
		decode(s, (struct encode_options){.names = (enum encode_names)names,
						  .native_histograms = true});
		cr_expect_gt(n_families, 100);
	}
	snapshot_free(s);
}

Test(promproto, carries_names_types_help_units_and_labels)
{
	struct snapshot *s = fixture_small();
	const family_message *f;

	decode(s, (struct encode_options){.names = ENCODE_NAMES_BOTH});
	f = find("app_requests_total");
	cr_assert_not_null(f);
	cr_expect_str_eq(f->help, "Requests of \"all\" kinds \\ and\nlines.");
	cr_expect_eq(f->type, IO__PROMETHEUS__CLIENT__METRIC_TYPE__COUNTER);
	cr_expect_eq(f->n_metric, 2);
	cr_expect_eq(f->metric[1]->n_label, 1);
	cr_expect_str_eq(f->metric[1]->label[0]->name, "path");
	cr_expect_str_eq(f->metric[1]->label[0]->value, "q\"b\\s\nn\xef\xbf\xbdz");
	cr_expect_eq(f->metric[1]->counter->value, 18446744073709551615.0);
	f = find("requests_failed");
	cr_assert_not_null(f, "an alias is a counter here, too");
	cr_expect_eq(f->type, IO__PROMETHEUS__CLIENT__METRIC_TYPE__COUNTER);
	cr_expect_str_eq(f->help, "Alias of app_requests_failed_total. Requests that failed.");
	cr_expect_eq(f->metric[0]->counter->value, 7);
	f = find("app_busy_seconds_total");
	cr_assert_not_null(f);
	cr_expect_str_eq(f->unit, "seconds");
	cr_expect_eq(f->metric[1]->counter->value, 1e-9);
	cr_expect_null(f->metric[1]->counter->created_timestamp, "not known");
	f = find("app_temperature");
	cr_assert_not_null(f);
	cr_expect_eq(f->type, IO__PROMETHEUS__CLIENT__METRIC_TYPE__GAUGE);
	cr_expect_eq(f->n_metric, 5, "without the hidden one");
	cr_expect_eq(f->metric[0]->gauge->value, 0.1);
	cr_expect(isnan(f->metric[2]->gauge->value));
	cr_expect_eq(find("app_level")->metric[0]->gauge->value, -9223372036854775808.0);
	cr_expect_null(find("app_hidden"));
	cr_expect_null(find("app_empty"));
	snapshot_free(s);
}

static void expect_exemplar(const exemplar_message *exemplar, double value, int64_t seconds,
			    int32_t nanos)
{
	cr_assert_not_null(exemplar);
	cr_expect_eq(exemplar->value, value);
	cr_expect_eq(exemplar->n_label, 2);
	cr_expect_str_eq(exemplar->label[0]->name, "trace_id");
	cr_expect_str_eq(exemplar->label[0]->value, "abababababababababababababababab");
	cr_expect_str_eq(exemplar->label[1]->name, "span_id");
	cr_expect_str_eq(exemplar->label[1]->value, "cdcdcdcdcdcdcdcd");
	cr_expect_eq(exemplar->timestamp->seconds, seconds);
	cr_expect_eq(exemplar->timestamp->nanos, nanos);
}

Test(promproto, carries_classic_buckets_exemplars_and_the_time_of_creation)
{
	static const uint64_t counts[] = {3, 3, 5, 6};
	static const double bounds[] = {0.005, 1, 2.5, INFINITY};
	struct snapshot *s = fixture_small();
	const histogram_message *h;
	const family_message *f;

	decode(s, (struct encode_options){.names = ENCODE_NAMES_BOTH});
	f = find("wait");
	cr_assert_not_null(f);
	cr_expect_null(f->unit, "the alias does not end in it");
	h = f->metric[0]->histogram;
	cr_expect_eq(h->sample_count, 6);
	cr_expect_eq(h->sample_sum, 12.345678901);
	cr_assert_eq(h->n_bucket, 4);
	for (uint32_t i = 0; i < 4; i++) {
		cr_expect_eq(h->bucket[i]->cumulative_count, counts[i]);
		cr_expect_eq(h->bucket[i]->upper_bound, bounds[i]);
	}
	expect_exemplar(h->bucket[0]->exemplar, 0.004, 1700000003, 0);
	cr_expect_null(h->bucket[1]->exemplar, "it is not in its bucket");
	expect_exemplar(h->bucket[3]->exemplar, 7, 1700000002, 0);
	cr_expect_eq(h->created_timestamp->seconds, 1700000000);
	cr_expect_eq(h->created_timestamp->nanos, 123000000);
	cr_expect(!h->has_schema && !h->n_positive_span && !h->n_exemplars, "no native part");
	expect_exemplar(find("app_requests_total")->metric[0]->counter->exemplar, 1, 1700000001,
			500000000);
	cr_expect_eq(find("app_requests_total")->metric[0]->counter->created_timestamp->seconds,
		     1700000000);
	snapshot_free(s);
}

Test(promproto, shows_no_exemplar_on_an_alias_that_openmetrics_calls_unknown)
{
	struct snapshot *s = snapshot_new();
	const struct snapshot_family spec = {
		.name = "x_total", .alias = "x_failed", .type = SNAPSHOT_COUNTER};
	uint32_t f, i, n;

	cr_assert_eq(snapshot_family(s, &spec, &f), 0);
	cr_assert_eq(snapshot_series(s, f, NULL, 0, false, true, &i), 0);
	*snapshot_exemplars(s, i, &n) = (struct snapshot_exemplar){.set = true, .trace_id = {1}};
	decode(s, (struct encode_options){.names = ENCODE_NAMES_BOTH});
	cr_expect_not_null(find("x_total")->metric[0]->counter->exemplar);
	cr_expect_null(find("x_failed")->metric[0]->counter->exemplar);
	snapshot_free(s);
}

Test(promproto, carries_native_buckets_beside_the_classic_ones)
{
	struct snapshot *s = fixture_small();
	const histogram_message *h;

	decode(s,
	       (struct encode_options){.names = ENCODE_NAMES_CANONICAL, .native_histograms = true});
	h = find("app_wait_seconds")->metric[0]->histogram;
	cr_expect_eq(h->sample_count, 6, "of the native buckets");
	cr_expect_eq(h->n_bucket, 4);
	cr_expect_eq(h->schema, 3);
	cr_expect_eq(h->zero_threshold, 0x1p-20);
	cr_expect_eq(h->zero_count, 2, "zero and what lies under the grid");
	/* 4 ms: 2^(-64/8) < 0.004 <= 2^(-63/8); 2 s: (2^(7/8), 2^(8/8)]; then what lies over. */
	cr_assert_eq(h->n_positive_span, 3);
	cr_expect_eq(h->positive_span[0]->offset, -63);
	cr_expect_eq(h->positive_span[0]->length, 1);
	cr_expect_eq(h->positive_span[1]->offset, 8 - -62);
	cr_expect_eq(h->positive_span[1]->length, 1);
	cr_expect_eq(h->positive_span[2]->offset, 12 * 8 + 1 - 9);
	cr_assert_eq(h->n_positive_delta, 3);
	cr_expect_eq(h->positive_delta[0], 1);
	cr_expect_eq(h->positive_delta[1], 1);
	cr_expect_eq(h->positive_delta[2], -1);
	cr_assert_eq(h->n_exemplars, 2);
	expect_exemplar(h->exemplars[0], 7, 1700000002, 0); /* in order of time */
	expect_exemplar(h->exemplars[1], 0.004, 1700000003, 0);
	expect_exemplar(h->bucket[0]->exemplar, 0.004, 1700000003, 0);
	snapshot_free(s);
}

Test(promproto, an_empty_native_histogram_is_told_from_a_classic_one)
{
	struct snapshot *s = fixture_small();
	const histogram_message *h;

	decode(s,
	       (struct encode_options){.names = ENCODE_NAMES_CANONICAL, .native_histograms = true});
	h = find("app_wait_seconds")->metric[1]->histogram;
	cr_expect(h->has_schema);
	cr_expect_eq(h->sample_count, 0);
	cr_expect_eq(h->zero_count, 0);
	cr_assert_eq(h->n_positive_span, 1);
	cr_expect(h->positive_span[0]->has_offset && h->positive_span[0]->offset == 0);
	cr_expect(h->positive_span[0]->has_length && h->positive_span[0]->length == 0);
	cr_expect_eq(h->n_positive_delta, 0);
	snapshot_free(s);
}

/* Count of the native bucket `index`, read as a server reads spans and deltas. */
static uint64_t native_count(const histogram_message *h, int32_t index)
{
	int32_t at = 0;
	int64_t count = 0;
	size_t delta = 0;

	for (size_t i = 0; i < h->n_positive_span; i++) {
		at += h->positive_span[i]->offset;
		for (uint32_t k = 0; k < h->positive_span[i]->length; k++, at++) {
			cr_assert_lt(delta, h->n_positive_delta);
			count += h->positive_delta[delta++];
			cr_assert_geq(count, 0);
			if (at == index)
				return (uint64_t)count;
		}
	}
	return 0;
}

Test(promproto, every_pattern_of_used_cells_comes_back_bucket_by_bucket)
{
	struct snapshot *s = snapshot_new();
	const struct snapshot_bounds bounds = {.n = 1, .value = {1}};
	const struct snapshot_family spec = {.name = "h_seconds",
					     .type = SNAPSHOT_HISTOGRAM,
					     .number = SNAPSHOT_NS,
					     .bounds = &bounds};
	uint32_t f, i, n;
	uint64_t state = 1, *cells;

	cr_assert_eq(snapshot_family(s, &spec, &f), 0);
	cr_assert_eq(snapshot_series(s, f, NULL, 0, true, false, &i), 0);
	cells = snapshot_values(s, i, &n) + 3;
	for (uint32_t round = 0; round < 300; round++) {
		const histogram_message *h;
		uint64_t sum = 0, spans = 0;

		for (uint32_t c = 0; c < BLIX_EXP_CELLS; c++) {
			state = state * 6364136223846793005ull + 1442695040888963407ull;
			cells[c] = (state >> 58) < round % 64 ? state >> (32 + round % 32) : 0;
			sum += cells[c];
		}
		decode(s, (struct encode_options){.native_histograms = true});
		h = families[0]->metric[0]->histogram;
		cr_assert_eq(h->sample_count, sum);
		cr_assert_eq(h->zero_count, cells[BLIX_EXP_ZERO] + cells[BLIX_EXP_UNDER]);
		for (uint32_t c = BLIX_EXP_FIRST; c < BLIX_EXP_CELLS; c++)
			cr_assert_eq(native_count(h, (int32_t)c - BLIX_EXP_FIRST - 160 + 1),
				     cells[c], "round %u, cell %u", round, c);
		for (size_t k = 0; k < h->n_positive_span; k++)
			spans += h->positive_span[k]->length;
		cr_assert_eq(spans, h->n_positive_delta);
		cr_assert(!spans || native_count(h, 98) == 0);
	}
	snapshot_free(s);
}

/* A duration lies in the bucket that Prometheus would say it lies in: (2^((i-1)/8), 2^(i/8)]. */
Test(promproto, native_buckets_hold_what_their_index_says)
{
	struct snapshot *s = snapshot_new();
	const struct snapshot_bounds bounds = {.n = 1, .value = {1}};
	const struct snapshot_family spec = {.name = "h_seconds",
					     .type = SNAPSHOT_HISTOGRAM,
					     .number = SNAPSHOT_NS,
					     .bounds = &bounds};
	uint32_t f, i, n;
	uint64_t state = 1, *cells;

	cr_assert_eq(snapshot_family(s, &spec, &f), 0);
	cr_assert_eq(snapshot_series(s, f, NULL, 0, true, false, &i), 0);
	cells = snapshot_values(s, i, &n) + 3;
	for (uint32_t round = 0; round < 2000; round++) {
		const histogram_message *h;
		uint64_t ns;
		double seconds;

		state = state * 6364136223846793005ull + 1442695040888963407ull;
		ns = 1000 + (state >> 22 >> (state & 31));
		if (ns > BLIX_EXP_NS_MAX)
			continue;
		cells[blix_exp_cell(ns)] = 1;
		decode(s, (struct encode_options){.native_histograms = true});
		cells[blix_exp_cell(ns)] = 0;
		h = families[0]->metric[0]->histogram;
		cr_assert_eq(h->n_positive_span, 1);
		seconds = number_ns_to_f64(ns);
		cr_assert_gt(seconds, exp2((h->positive_span[0]->offset - 1) / 8.0));
		cr_assert_leq(seconds, exp2(h->positive_span[0]->offset / 8.0));
	}
	snapshot_free(s);
}

Test(promproto, a_body_that_does_not_fit_is_marked_and_stays_within_its_maximum)
{
	struct snapshot *s = fixture_small();
	const struct encode_options options = {.native_histograms = true};
	size_t whole;

	decode(s, options);
	whole = out.len;
	for (size_t max = 0; max < whole; max += 3) {
		struct buf small;

		buf_init(&small, max);
		encoders[ENCODE_PROTOBUF].encode(s, &options, &small);
		cr_expect(small.failed, "max %zu of %zu", max, whole);
		cr_expect_leq(small.len, max);
		buf_done(&small);
	}
	snapshot_free(s);
}
