/* Goal: OpenMetrics 1.0 without any of the faults that make Prometheus drop a whole scrape, and
 * with the same samples as text 0.0.4. Method: golden bodies of a small model, and each rule of
 * exemplars, units and names by itself. The strict parser of another project reads the body of the
 * whole catalogue in 10-encoders.sh. */
#include "agent/encode/encode.h"
#include "test/support/golden.h"
#include "test/support/model_fixture.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static struct buf out;
static struct snapshot *s;

static void set_up(void)
{
	buf_init(&out, 64 << 20);
	s = snapshot_new();
	cr_assert_not_null(s);
}

static void tear_down(void)
{
	buf_done(&out);
	snapshot_free(s);
}

TestSuite(openmetrics, .init = set_up, .fini = tear_down);

static const char *render(const struct snapshot *model, struct encode_options options)
{
	buf_clear(&out);
	encoders[ENCODE_OPENMETRICS].encode(model, &options, &out);
	buf_add(&out, "", 1);
	cr_assert(!out.failed);
	out.len--;
	return (const char *)out.data;
}

static void expect_golden(const char *name, struct encode_options options)
{
	struct snapshot *small = fixture_small();
	char reason[GOLDEN_REASON_MAX] = "";

	(void)render(small, options);
	cr_expect_eq(golden_compare(name, out.data, out.len, reason), 0, "%s", reason);
	snapshot_free(small);
}

Test(openmetrics, is_as_recorded_under_both_names)
{
	expect_golden("small.both.openmetrics",
		      (struct encode_options){.names = ENCODE_NAMES_BOTH});
}

Test(openmetrics, is_as_recorded_under_the_seed_names)
{
	expect_golden("small.seed.openmetrics",
		      (struct encode_options){.names = ENCODE_NAMES_SEED});
}

Test(openmetrics, is_as_recorded_with_created_lines)
{
	expect_golden(
		"small.created.openmetrics",
		(struct encode_options){.names = ENCODE_NAMES_CANONICAL, .created_lines = true});
}

Test(openmetrics, ends_even_when_there_is_nothing_to_say)
{
	cr_expect_str_eq(render(s, (struct encode_options){0}), "# EOF\n");
}

static uint32_t add(const struct snapshot_family *spec)
{
	uint32_t f, i;

	cr_assert_eq(snapshot_family(s, spec, &f), 0);
	cr_assert_eq(snapshot_series(s, f, NULL, 0, false, true, &i), 0);
	return i;
}

static void set_exemplar(uint32_t series, uint32_t which, uint64_t value)
{
	uint32_t n;
	struct snapshot_exemplar *exemplars = snapshot_exemplars(s, series, &n);

	cr_assert_lt(which, n);
	exemplars[which] = (struct snapshot_exemplar){
		.set = true, .value = value, .trace_id = {1}, .unix_ns = 1000000001};
}

#define EXEMPLAR " # {trace_id=\"01000000000000000000000000000000\",span_id=\"0000000000000000\"} "

Test(openmetrics, shows_exemplars_on_totals_and_buckets_only)
{
	const struct snapshot_bounds bounds = {.n = 1, .value = {1}};
	uint32_t counter = add(&(struct snapshot_family){
			 .name = "c_total", .alias = "c_failed", .type = SNAPSHOT_COUNTER}),
		 gauge = add(&(struct snapshot_family){.name = "g", .type = SNAPSHOT_GAUGE}),
		 histogram = add(&(struct snapshot_family){
			 .name = "h", .type = SNAPSHOT_HISTOGRAM, .bounds = &bounds});

	set_exemplar(counter, 0, 1);
	set_exemplar(gauge, 0, 1);
	set_exemplar(histogram, 0, 1);
	set_exemplar(histogram, 1, 2);
	cr_expect_str_eq(render(s, (struct encode_options){0}),
			 "# TYPE c counter\n"
			 "c_total 0" EXEMPLAR "1 1.000000001\n"
			 "# TYPE c_failed unknown\n"
			 "# HELP c_failed Alias of c_total.\n"
			 "c_failed 0\n"
			 "# TYPE g gauge\n"
			 "g 0\n"
			 "# TYPE h histogram\n"
			 "h_bucket{le=\"1.0\"} 0" EXEMPLAR "1 1.000000001\n"
			 "h_bucket{le=\"+Inf\"} 0" EXEMPLAR "2 1.000000001\n"
			 "h_sum 0\n"
			 "h_count 0\n"
			 "# EOF\n");
}

Test(openmetrics, leaves_out_exemplars_outside_their_bucket_or_without_a_trace)
{
	const struct snapshot_bounds bounds = {.n = 2, .value = {1, 2}};
	uint32_t n, h = add(&(struct snapshot_family){
			    .name = "h", .type = SNAPSHOT_HISTOGRAM, .bounds = &bounds});
	static const struct {
		uint32_t bucket;
		uint64_t value;
		bool shown;
	} cases[] = {
		{0, 0, true},  {0, 1, true},  {0, 2, false}, {1, 1, false},	    {1, 2, true},
		{1, 3, false}, {2, 2, false}, {2, 3, true},  {2, UINT64_MAX, true},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(snapshot_exemplars(s, h, &n), 0, 3 * sizeof(struct snapshot_exemplar));
		set_exemplar(h, cases[i].bucket, cases[i].value);
		cr_expect_eq(strstr(render(s, (struct encode_options){0}), "trace_id") != NULL,
			     cases[i].shown, "case %zu", i);
		snapshot_exemplars(s, h, &n)[cases[i].bucket].trace_id[0] = 0;
		cr_expect_null(strstr(render(s, (struct encode_options){0}), "trace_id"));
	}
}

Test(openmetrics, names_a_unit_only_where_the_name_ends_in_it)
{
	static const struct {
		const char *name, *unit;
		enum snapshot_type type;
		const char *shown;
	} cases[] = {
		{"a_seconds", "s", SNAPSHOT_GAUGE, "# UNIT a_seconds seconds\n"},
		{"b_bytes_total", "By", SNAPSHOT_COUNTER, "# UNIT b_bytes bytes\n"},
		{"c_ratio", "1", SNAPSHOT_GAUGE, "# UNIT c_ratio ratio\n"},
		{"d_duration", "s", SNAPSHOT_GAUGE, NULL},
		{"seconds", "s", SNAPSHOT_GAUGE, NULL},
		{"eseconds", "s", SNAPSHOT_GAUGE, NULL},
		{"milliseconds", "s", SNAPSHOT_GAUGE, NULL},
		{"_seconds", "s", SNAPSHOT_GAUGE, NULL},
		{"x_seconds", "s", SNAPSHOT_GAUGE, "# UNIT x_seconds seconds\n"},
		{"f_seconds_total", "s", SNAPSHOT_GAUGE, NULL},
		{"g_things", "{thing}", SNAPSHOT_GAUGE, NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *unit;

		snapshot_reset(s);
		(void)add(&(struct snapshot_family){
			.name = cases[i].name, .unit = cases[i].unit, .type = cases[i].type});
		unit = strstr(render(s, (struct encode_options){0}), "# UNIT");
		cr_expect_eq(unit != NULL, cases[i].shown != NULL, "%s", cases[i].name);
		if (unit && cases[i].shown)
			cr_expect_eq(strncmp(unit, cases[i].shown, strlen(cases[i].shown)), 0, "%s",
				     unit);
	}
}

/* The same names and values, whatever was negotiated: else each switch would make new series. */
Test(openmetrics, has_the_sample_lines_of_the_text_format_and_no_others)
{
	struct snapshot *rich = fixture_rich();
	const struct encode_options options = {.names = ENCODE_NAMES_BOTH};
	const char *om, *text;
	struct buf plain;
	uint32_t lines = 0;

	buf_init(&plain, 64 << 20);
	encoders[ENCODE_TEXT].encode(rich, &options, &plain);
	buf_add(&plain, "", 1);
	cr_assert(!plain.failed);
	om = render(rich, options);
	text = (const char *)plain.data;
	for (;; lines++) {
		while (*om == '#')
			om = strchr(om, '\n') + 1;
		while (*text == '#')
			text = strchr(text, '\n') + 1;
		if (!*om || !*text)
			break;
		size_t len = strcspn(text, "\n");

		cr_assert_eq(strncmp(om, text, len), 0, "%.120s", text);
		cr_assert(om[len] == '\n' || !strncmp(om + len, " # {", 4), "%.120s", om);
		om = strchr(om, '\n') + 1;
		text = strchr(text, '\n') + 1;
	}
	cr_expect_eq(*om, '\0');
	cr_expect_eq(*text, '\0');
	cr_expect_gt(lines, 2000);
	buf_done(&plain);
	snapshot_free(rich);
}
