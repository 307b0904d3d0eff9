/* Goal: text 0.0.4 as Prometheus really takes it, the same under every name and with hidden parts
 * left out whole.
 * Method: golden bodies of a small model; then rules that hold for every line of a large one. */
#include "agent/encode/encode.h"
#include "test/support/golden.h"
#include "test/support/model_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct buf out;

static void set_up(void)
{
	buf_init(&out, 64 << 20);
}

static void tear_down(void)
{
	buf_done(&out);
}

TestSuite(text, .init = set_up, .fini = tear_down);

static const char *render(const struct snapshot *s, struct encode_options options)
{
	buf_clear(&out);
	encoders[ENCODE_TEXT].encode(s, &options, &out);
	buf_add(&out, "", 1);
	cr_assert(!out.failed);
	out.len--;
	return (const char *)out.data;
}

static void expect_golden(const char *name, struct encode_options options)
{
	struct snapshot *s = fixture_small();
	char reason[GOLDEN_REASON_MAX] = "";

	(void)render(s, options);
	cr_expect_eq(golden_compare(name, out.data, out.len, reason), 0, "%s", reason);
	snapshot_free(s);
}

Test(text, is_as_recorded_under_both_names)
{
	expect_golden("small.both.text", (struct encode_options){.names = ENCODE_NAMES_BOTH});
}

Test(text, is_as_recorded_under_canonical_names)
{
	expect_golden("small.canonical.text",
		      (struct encode_options){.names = ENCODE_NAMES_CANONICAL});
}

Test(text, is_as_recorded_under_the_seed_names)
{
	expect_golden("small.seed.text", (struct encode_options){.names = ENCODE_NAMES_SEED});
}

Test(text, is_as_recorded_with_created_lines)
{
	expect_golden("small.created.text",
		      (struct encode_options){.names = ENCODE_NAMES_BOTH, .created_lines = true});
}

Test(text, native_histograms_change_nothing_here)
{
	expect_golden("small.both.text", (struct encode_options){.names = ENCODE_NAMES_BOTH,
								 .native_histograms = true});
}

Test(text, of_an_empty_model_is_empty)
{
	struct snapshot *s = snapshot_new();

	cr_expect_str_eq(render(s, (struct encode_options){0}), "");
	snapshot_free(s);
}

Test(text, a_family_without_visible_series_is_not_there_at_all)
{
	struct snapshot *s = snapshot_new();
	const struct snapshot_family spec = {.name = "x", .help = "H.", .type = SNAPSHOT_GAUGE};
	const struct snapshot_label label = {"k", "v"};
	uint32_t f, a, b;

	cr_assert_eq(snapshot_family(s, &spec, &f), 0);
	cr_expect_str_eq(render(s, (struct encode_options){0}), "");
	cr_assert_eq(snapshot_series(s, f, NULL, 0, false, false, &a), 0);
	cr_assert_eq(snapshot_series(s, f, &label, 1, false, false, &b), 0);
	snapshot_hide_series(s, a, true);
	cr_expect_str_eq(render(s, (struct encode_options){0}),
			 "# HELP x H.\n# TYPE x gauge\nx{k=\"v\"} 0\n");
	snapshot_hide_series(s, b, true);
	cr_expect_str_eq(render(s, (struct encode_options){0}), "");
	snapshot_hide_series(s, a, false);
	snapshot_hide_family(s, f, true);
	cr_expect_str_eq(render(s, (struct encode_options){0}), "");
	snapshot_hide_family(s, f, false);
	cr_expect_str_eq(render(s, (struct encode_options){0}),
			 "# HELP x H.\n# TYPE x gauge\nx 0\n");
	snapshot_free(s);
}

Test(text, negative_durations_exist_in_gauges_only)
{
	struct snapshot *s = snapshot_new();
	const struct snapshot_family gauge = {
		.name = "g_seconds", .type = SNAPSHOT_GAUGE, .number = SNAPSHOT_NS};
	const struct snapshot_family counter = {
		.name = "c_seconds_total", .type = SNAPSHOT_COUNTER, .number = SNAPSHOT_NS};
	uint32_t f, i;

	cr_assert_eq(snapshot_family(s, &gauge, &f), 0);
	cr_assert_eq(snapshot_series(s, f, NULL, 0, false, false, &i), 0);
	snapshot_set_i64(s, i, -1500000000);
	cr_assert_eq(snapshot_family(s, &counter, &f), 0);
	cr_assert_eq(snapshot_series(s, f, NULL, 0, false, false, &i), 0);
	snapshot_set_u64(s, i, UINT64_MAX);
	cr_expect_str_eq(render(s, (struct encode_options){0}),
			 "# TYPE g_seconds gauge\ng_seconds -1.5\n"
			 "# TYPE c_seconds_total counter\nc_seconds_total 18446744073.709551615\n");
	snapshot_free(s);
}

Test(text, a_body_that_does_not_fit_is_marked_and_stays_within_its_maximum)
{
	struct snapshot *s = fixture_small();
	size_t whole;

	(void)render(s, (struct encode_options){0});
	whole = out.len;
	for (size_t max = 0; max < whole; max += 7) {
		struct buf small;

		buf_init(&small, max);
		encoders[ENCODE_TEXT].encode(s, &(struct encode_options){0}, &small);
		cr_expect(small.failed, "max %zu of %zu", max, whole);
		cr_expect_leq(small.len, max);
		buf_done(&small);
	}
	snapshot_free(s);
}

/* Names, braces, values and newlines of every line; the rest is for parsers that are not ours. */
Test(text, every_line_of_the_whole_catalogue_is_well_formed_and_unique)
{
	struct snapshot *s = fixture_rich();
	const char *body = render(s, (struct encode_options){.created_lines = true});
	const char *types = "";
	uint32_t lines = 0, families = 0;

	for (const char *at = body, *end; *at; at = end + 1, lines++) {
		end = strchr(at, '\n');
		cr_assert_not_null(end, "the last line ends, too");
		cr_assert_gt(end, at, "no blank lines");
		if (!strncmp(at, "# TYPE ", 7)) {
			families++;
			types = at + 7;
		}
		if (*at == '#')
			continue;
		size_t name = strcspn(types, " ");

		cr_assert_eq(strncmp(at, types, name), 0, "inside its family: %.60s", at);
		cr_assert_null(memchr(at, '\r', (size_t)(end - at)));
	}
	cr_expect_gt(families, 100);
	cr_expect_gt(lines, 2000);
	for (const char *type = body; (type = strstr(type, "\n# TYPE ")); type++) {
		char needle[300];
		int len = (int)strcspn(type + 8, " ");

		(void)snprintf(needle, sizeof(needle), "\n# TYPE %.*s ", len, type + 8);
		cr_expect_null(strstr(type + 1, needle), "%.*s is there twice", len, type + 8);
	}
	snapshot_free(s);
}
