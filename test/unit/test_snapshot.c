/* Goal: the model keeps what it is given, refuses what no exposition could carry or what exceeds a
 * limit, leaves nothing behind when it refuses, and keeps every subset within its whole.
 * Method: each rule and each errno of snapshot.h provoked, from both sides of each limit. */
#include "agent/model/number.h"
#include "agent/model/snapshot.h"
#include "shm/buckets.h"
#include "test/support/model_fixture.h"
#include "test/support/scarce_memory.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct snapshot *s;

static void set_up(void)
{
	s = snapshot_new();
	cr_assert_not_null(s);
}

static void tear_down(void)
{
	s = snapshot_free(s);
	cr_expect_null(s);
}

TestSuite(snapshot, .init = set_up, .fini = tear_down);

static int add_family(const char *name, enum snapshot_type type, uint32_t *ret_family)
{
	static const struct snapshot_bounds bounds = {.n = 2, .value = {1, 2}};
	const struct snapshot_family spec = {
		.name = name,
		.type = type,
		.number = type == SNAPSHOT_HISTOGRAM ? SNAPSHOT_NS : SNAPSHOT_U64,
		.bounds = &bounds,
	};

	return snapshot_family(s, &spec, ret_family);
}

static uint32_t family(const char *name, enum snapshot_type type)
{
	uint32_t f = UINT32_MAX;

	cr_assert_eq(add_family(name, type, &f), 0, "%s", name);
	return f;
}

static int add_one_label(uint32_t f, const char *key, const char *value, uint32_t *ret_series)
{
	const struct snapshot_label label = {key, value};

	return snapshot_series(s, f, &label, 1, false, false, ret_series);
}

static uint32_t series(uint32_t f, const char *key, const char *value)
{
	uint32_t i = UINT32_MAX;

	cr_assert_eq(key ? add_one_label(f, key, value, &i)
			 : snapshot_series(s, f, NULL, 0, false, false, &i),
		     0);
	return i;
}

static const char *text_of(uint32_t f, uint32_t i)
{
	static char text[4096];
	const struct snapshot_series *one = snapshot_family_series(s, f, i);

	(void)snprintf(text, sizeof(text), "%.*s", (int)one->text_len, one->text);
	return text;
}

/* ---- families -------------------------------------------------------------------------------- */

Test(snapshot, finds_a_family_again_and_leaves_it_as_it_was)
{
	struct snapshot_family spec = {
		.name = "a_total", .help = "First.", .type = SNAPSHOT_COUNTER};
	uint32_t f, again;

	cr_assert_eq(snapshot_family(s, &spec, &f), 0);
	spec.help = "Second.";
	spec.type = SNAPSHOT_GAUGE;
	cr_assert_eq(snapshot_family(s, &spec, &again), 0);
	cr_expect_eq(again, f);
	cr_expect_eq(snapshot_family_count(s), 1);
	cr_expect_str_eq(snapshot_family_at(s, f)->help, "First.");
	cr_expect_eq(snapshot_family_at(s, f)->type, SNAPSHOT_COUNTER);
}

Test(snapshot, copies_the_strings_and_bounds_of_a_family)
{
	struct snapshot_bounds bounds = {.n = 2, .value = {0.5, 1}, .le = {"\"", "wrong"}};
	char name[] = "a_seconds", alias[] = "a", help[] = "Text.", unit[] = "s";
	const struct snapshot_family spec = {
		.name = name,
		.alias = alias,
		.help = help,
		.unit = unit,
		.type = SNAPSHOT_HISTOGRAM,
		.bounds = &bounds,
		.created_unix_ns = 5,
	};
	const struct snapshot_family *f;
	uint32_t index;

	cr_assert_eq(snapshot_family(s, &spec, &index), 0);
	memset(&bounds, 0xff, sizeof(bounds));
	name[0] = alias[0] = help[0] = unit[0] = 'X';
	f = snapshot_family_at(s, index);
	cr_expect_str_eq(f->name, "a_seconds");
	cr_expect_str_eq(f->alias, "a");
	cr_expect_str_eq(f->help, "Text.");
	cr_expect_str_eq(f->unit, "s");
	cr_expect_str_eq(f->unit_suffix, "seconds");
	cr_expect_eq(f->created_unix_ns, 5);
	cr_expect_eq(f->bounds->n, 2);
	cr_expect_eq(f->bounds->value[1], 1);
	cr_expect_str_eq(f->bounds->le[0], "0.5");
	cr_expect_str_eq(f->bounds->le[1], "1.0");
	cr_expect_eq(f->le[2].len, strlen("le=\"+Inf\""));
	cr_expect_eq(memcmp(f->le[2].at, "le=\"+Inf\"", f->le[2].len), 0);
}

Test(snapshot, refuses_names_outside_the_grammar)
{
	static const char *const bad[] = {"",	 "1a",	"a-b",	    "a b", "a.b",
					  "a\n", "a\"", "\xc3\xa9", "{"};
	static const char *const good[] = {"a", "_", "A1", "a:b", "_1"};
	char longest[SNAPSHOT_NAME_BYTES_MAX + 2] = "";
	uint32_t f = 77;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(add_family(bad[i], SNAPSHOT_GAUGE, &f), -EINVAL, "%s", bad[i]);
	cr_expect_eq(add_family(NULL, SNAPSHOT_GAUGE, &f), -EINVAL);
	memset(longest, 'a', SNAPSHOT_NAME_BYTES_MAX + 1);
	cr_expect_eq(add_family(longest, SNAPSHOT_GAUGE, &f), -EINVAL);
	cr_expect_eq(f, 77, "written on success only");
	cr_expect_eq(snapshot_family_count(s), 0);
	longest[SNAPSHOT_NAME_BYTES_MAX] = '\0';
	cr_expect_eq(add_family(longest, SNAPSHOT_HISTOGRAM, &f), 0);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		cr_expect_eq(add_family(good[i], SNAPSHOT_GAUGE, &f), 0, "%s", good[i]);
	const struct snapshot_family odd_alias = {.name = "ok", .alias = "no-good"};
	cr_expect_eq(snapshot_family(s, &odd_alias, &f), -EINVAL);
}

Test(snapshot, refuses_bounds_that_are_no_bounds)
{
	struct snapshot_bounds bounds = {.n = 2, .value = {1, 1}};
	struct snapshot_family spec = {.name = "h", .type = SNAPSHOT_HISTOGRAM, .bounds = &bounds};
	uint32_t f;

	cr_expect_eq(snapshot_family(s, &spec, &f), -EINVAL, "not ascending");
	bounds.value[1] = INFINITY;
	cr_expect_eq(snapshot_family(s, &spec, &f), -EINVAL, "+Inf is implied");
	bounds.value[1] = NAN;
	cr_expect_eq(snapshot_family(s, &spec, &f), -EINVAL);
	bounds = (struct snapshot_bounds){.n = 0};
	cr_expect_eq(snapshot_family(s, &spec, &f), -EINVAL, "none");
	bounds.n = BLIX_BOUNDS_MAX + 1;
	cr_expect_eq(snapshot_family(s, &spec, &f), -EINVAL, "too many");
	spec.bounds = NULL;
	cr_expect_eq(snapshot_family(s, &spec, &f), -EINVAL);
	bounds.n = BLIX_BOUNDS_MAX;
	for (uint32_t i = 0; i < BLIX_BOUNDS_MAX; i++)
		bounds.value[i] = i;
	spec.bounds = &bounds;
	cr_expect_eq(snapshot_family(s, &spec, &f), 0);
}

/* What the strict OpenMetrics parser calls clashing names; see also 10-encoders.sh. */
Test(snapshot, refuses_families_that_would_share_a_sample_name)
{
	static const struct {
		const char *first;
		enum snapshot_type first_type;
		const char *second;
		enum snapshot_type second_type;
		int err;
	} pairs[] = {
		{"x_total", SNAPSHOT_COUNTER, "x", SNAPSHOT_GAUGE, -EEXIST},
		{"x", SNAPSHOT_GAUGE, "x_total", SNAPSHOT_COUNTER, -EEXIST},
		{"x_total", SNAPSHOT_COUNTER, "x", SNAPSHOT_COUNTER, -EEXIST},
		{"x_total", SNAPSHOT_COUNTER, "x_created", SNAPSHOT_GAUGE, -EEXIST},
		{"x_total", SNAPSHOT_COUNTER, "x", SNAPSHOT_HISTOGRAM, -EEXIST},
		{"x", SNAPSHOT_HISTOGRAM, "x_bucket", SNAPSHOT_GAUGE, -EEXIST},
		{"x", SNAPSHOT_HISTOGRAM, "x_count", SNAPSHOT_GAUGE, -EEXIST},
		{"x", SNAPSHOT_HISTOGRAM, "x_sum", SNAPSHOT_GAUGE, -EEXIST},
		{"x", SNAPSHOT_HISTOGRAM, "x_created", SNAPSHOT_COUNTER, -EEXIST},
		{"x_sum", SNAPSHOT_GAUGE, "x", SNAPSHOT_HISTOGRAM, -EEXIST},
		{"x", SNAPSHOT_HISTOGRAM, "x_total", SNAPSHOT_GAUGE, 0},
		{"x", SNAPSHOT_GAUGE, "x_total", SNAPSHOT_GAUGE, 0},
		{"x", SNAPSHOT_GAUGE, "x_bucket", SNAPSHOT_GAUGE, 0},
		{"x", SNAPSHOT_COUNTER, "x_total", SNAPSHOT_GAUGE, 0},
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		uint64_t refused = snapshot_refused(s);
		uint32_t f;

		snapshot_reset(s);
		cr_assert_eq(add_family(pairs[i].first, pairs[i].first_type, &f), 0);
		cr_expect_eq(add_family(pairs[i].second, pairs[i].second_type, &f), pairs[i].err,
			     "%s then %s", pairs[i].first, pairs[i].second);
		cr_expect_eq(snapshot_refused(s) - refused, pairs[i].err ? 1 : 0);
		cr_expect_eq(snapshot_family_count(s), pairs[i].err ? 1 : 2);
	}
}

Test(snapshot, drops_an_alias_that_is_taken_and_keeps_the_family)
{
	const struct snapshot_family spec = {
		.name = "blixard_term", .alias = "term", .type = SNAPSHOT_GAUGE};
	uint32_t f;

	family("term", SNAPSHOT_GAUGE);
	cr_assert_eq(snapshot_family(s, &spec, &f), 0);
	cr_expect_null(snapshot_family_at(s, f)->alias);
	cr_expect_eq(snapshot_family_at(s, f)->alias_text.len, 0);
	cr_expect_eq(snapshot_refused(s), 1);
}

Test(snapshot, an_alias_takes_its_name_away_from_later_families)
{
	const struct snapshot_family spec = {
		.name = "blixard_x_total", .alias = "x_failed", .type = SNAPSHOT_COUNTER};
	uint32_t f;

	cr_assert_eq(snapshot_family(s, &spec, &f), 0);
	cr_expect_eq(add_family("x_failed", SNAPSHOT_COUNTER, &f), -EEXIST);
	cr_expect_eq(add_family("x_failed", SNAPSHOT_GAUGE, &f), -EEXIST);
}

Test(snapshot, cleans_and_escapes_help)
{
	char help[SNAPSHOT_HELP_BYTES_MAX + 10];
	struct snapshot_family spec = {
		.name = "a", .help = "q\" b\\ n\n r\r bad\xff", .type = SNAPSHOT_GAUGE};
	const struct snapshot_family *f;
	uint32_t index;

	cr_assert_eq(snapshot_family(s, &spec, &index), 0);
	f = snapshot_family_at(s, index);
	cr_expect_str_eq(f->help, "q\" b\\ n\n r  bad\xef\xbf\xbd");
	cr_expect_str_eq(f->help_text.at, "q\" b\\\\ n\\n r  bad\xef\xbf\xbd");
	cr_expect_str_eq(f->help_openmetrics.at, "q\\\" b\\\\ n\\n r  bad\xef\xbf\xbd");
	/* A character across the limit is left out whole. */
	memset(help, 'h', sizeof(help));
	memcpy(help + SNAPSHOT_HELP_BYTES_MAX - 1, "\xe2\x82\xac", 4);
	spec = (struct snapshot_family){.name = "b", .help = help, .type = SNAPSHOT_GAUGE};
	cr_assert_eq(snapshot_family(s, &spec, &index), 0);
	cr_expect_eq(snapshot_family_at(s, index)->help_text.len, SNAPSHOT_HELP_BYTES_MAX - 1);
}

Test(snapshot, stops_at_the_maximum_of_families)
{
	uint32_t f;
	char name[32];

	for (uint32_t i = 0; i < SNAPSHOT_FAMILIES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "f%u", i);
		cr_assert_eq(add_family(name, SNAPSHOT_GAUGE, &f), 0);
		cr_assert_eq(f, i);
	}
	cr_expect_eq(add_family("one_more", SNAPSHOT_GAUGE, &f), -ENOSPC);
	cr_expect_eq(snapshot_refused(s), 1);
	cr_expect_eq(add_family("f0", SNAPSHOT_GAUGE, &f), 0, "known ones are still found");
	cr_expect_eq(f, 0);
}

/* ---- series ---------------------------------------------------------------------------------- */

Test(snapshot, finds_a_series_again_by_its_labels_in_any_order)
{
	const struct snapshot_label one[] = {{"a", "1"}, {"b", "2"}},
				    two[] = {{"b", "2"}, {"a", "1"}},
				    other[] = {{"a", "2"}, {"b", "1"}};
	uint32_t f = family("x", SNAPSHOT_GAUGE), g = family("y", SNAPSHOT_GAUGE), i, k;

	cr_assert_eq(snapshot_series(s, f, one, 2, false, false, &i), 0);
	cr_assert_eq(snapshot_series(s, f, two, 2, false, false, &k), 0);
	cr_expect_eq(i, k);
	cr_assert_eq(snapshot_series(s, f, other, 2, false, false, &k), 0);
	cr_expect_neq(i, k);
	cr_assert_eq(snapshot_series(s, g, one, 2, false, false, &k), 0);
	cr_expect_neq(i, k, "another family's");
	cr_assert_eq(snapshot_series(s, f, one, 1, false, false, &k), 0);
	cr_expect_neq(i, k, "fewer labels");
	cr_expect_eq(snapshot_family_at(s, f)->n_series, 3);
	cr_expect_str_eq(text_of(f, 0), "a=\"1\",b=\"2\"");
}

Test(snapshot, escapes_label_text_once_and_keeps_the_raw_value)
{
	uint32_t f = family("x", SNAPSHOT_GAUGE);
	const struct snapshot_series *one;

	series(f, "k", "q\" b\\ n\n \xff\xfe \xc3\xa9 \xed\xa0\x80 \xf4\x90\x80\x80");
	cr_expect_str_eq(text_of(f, 0), "k=\"q\\\" b\\\\ n\\n \xef\xbf\xbd\xef\xbf\xbd \xc3\xa9 "
					"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd "
					"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	one = snapshot_family_series(s, f, 0);
	cr_expect_eq(one->n_labels, 1);
	cr_expect_str_eq(one->labels[0].key, "k");
	cr_expect(!strncmp(one->labels[0].value, "q\" b\\ n\n \xef\xbf\xbd", 12));
}

/* Two values that look alike once cleaned would be one series to Prometheus. */
Test(snapshot, values_that_differ_only_in_invalid_bytes_are_one_series)
{
	uint32_t f = family("x", SNAPSHOT_GAUGE);

	cr_expect_eq(series(f, "k", "a\xff"), series(f, "k", "a\xfe"));
	cr_expect_neq(series(f, "k", "a\xff"), series(f, "k", "a"));
}

Test(snapshot, a_label_without_value_is_no_label)
{
	uint32_t f = family("x", SNAPSHOT_GAUGE);

	cr_expect_eq(series(f, "k", ""), series(f, NULL, NULL));
	cr_expect_eq(snapshot_family_series(s, f, 0)->text_len, 0);
	cr_expect_eq(snapshot_family_series(s, f, 0)->n_labels, 0);
}

Test(snapshot, refuses_labels_that_are_malformed_reserved_or_twice)
{
	static const char *const bad[] = {"",	"1a",	    "a-b",	"a:b",
					  "le", "quantile", "__name__", "__x"};
	const struct snapshot_label twice[] = {{"a", "1"}, {"b", "2"}, {"a", ""}};
	uint32_t f = family("x", SNAPSHOT_GAUGE), i = 77;

	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
		cr_expect_eq(add_one_label(f, bad[k], "v", &i), -EINVAL, "%s", bad[k]);
	cr_expect_eq(snapshot_series(s, f, twice, 3, false, false, &i), -EINVAL);
	cr_expect_eq(snapshot_series(s, f + 1, NULL, 0, false, false, &i), -EINVAL,
		     "no such family");
	cr_expect_eq(i, 77);
	cr_expect_eq(snapshot_family_at(s, f)->n_series, 0);
	cr_expect_eq(add_one_label(f, "_le", "v", &i), 0);
}

Test(snapshot, refuses_too_many_labels_and_too_long_values)
{
	char value[SNAPSHOT_VALUE_BYTES_MAX + 2];
	char keys[SNAPSHOT_LABELS_MAX + 1][8];
	struct snapshot_label labels[SNAPSHOT_LABELS_MAX + 1];
	uint32_t f = family("x", SNAPSHOT_GAUGE), i;

	memset(value, '\xff', sizeof(value)); /* each becomes three bytes */
	value[SNAPSHOT_VALUE_BYTES_MAX + 1] = '\0';
	cr_expect_eq(add_one_label(f, "k", value, &i), -ENOSPC);
	value[SNAPSHOT_VALUE_BYTES_MAX] = '\0';
	for (uint32_t k = 0; k <= SNAPSHOT_LABELS_MAX; k++) {
		(void)snprintf(keys[k], sizeof(keys[k]), "k%u", k);
		labels[k] = (struct snapshot_label){keys[k], value};
	}
	cr_expect_eq(snapshot_series(s, f, labels, SNAPSHOT_LABELS_MAX + 1, false, false, &i),
		     -ENOSPC);
	cr_expect_eq(snapshot_refused(s), 2);
	cr_expect_eq(snapshot_series(s, f, labels, SNAPSHOT_LABELS_MAX, false, false, &i), 0);
	cr_expect_eq(snapshot_family_series(s, f, 0)->text_len,
		     SNAPSHOT_LABELS_MAX * (3 * SNAPSHOT_VALUE_BYTES_MAX + 3) + 10 * 2 + 6 * 3 + 15,
		     "values, quotes and equals signs, keys, commas");
}

Test(snapshot, stops_at_the_maximum_of_series_and_still_finds_all_of_them)
{
	uint32_t f = family("x", SNAPSHOT_GAUGE), i;
	char value[32];

	for (uint32_t k = 0; k < SNAPSHOT_SERIES_MAX; k++) {
		(void)snprintf(value, sizeof(value), "%u", k);
		cr_assert_eq(add_one_label(f, "k", value, &i), 0);
		cr_assert_eq(i, k);
		snapshot_set_u64(s, i, k);
	}
	cr_expect_eq(add_one_label(f, "k", "one more", &i), -ENOSPC);
	cr_expect_eq(snapshot_refused(s), 1);
	for (uint32_t k = 0; k < SNAPSHOT_SERIES_MAX; k += 997) {
		(void)snprintf(value, sizeof(value), "%u", k);
		cr_assert_eq(add_one_label(f, "k", value, &i), 0);
		cr_assert_eq(i, k);
		cr_assert_eq(*snapshot_value_at(s, snapshot_family_series(s, f, k)->value), k);
	}
}

Test(snapshot, stops_at_the_maximum_of_values_and_of_exemplars)
{
	uint32_t f = family("h", SNAPSHOT_HISTOGRAM), i, n = 0;
	const uint32_t each = 4 + BLIX_EXP_CELLS;
	char value[32];
	int err = 0;

	for (; !err; n++) {
		const struct snapshot_label label = {"k", value};

		(void)snprintf(value, sizeof(value), "%u", n);
		err = snapshot_series(s, f, &label, 1, true, false, &i);
	}
	cr_expect_eq(err, -ENOSPC);
	cr_expect_eq(n - 1, SNAPSHOT_VALUES_MAX / each);
	snapshot_reset(s);
	f = family("h", SNAPSHOT_HISTOGRAM);
	for (err = 0, n = 0; !err; n++) {
		const struct snapshot_label label = {"k", value};

		(void)snprintf(value, sizeof(value), "%u", n);
		err = snapshot_series(s, f, &label, 1, false, true, &i);
	}
	cr_expect_eq(err, -ENOSPC);
	cr_expect_eq(n - 1, SNAPSHOT_EXEMPLARS_MAX / 3);
}

Test(snapshot, stops_at_the_maximum_of_text)
{
	char value[SNAPSHOT_VALUE_BYTES_MAX + 1];
	uint32_t f = family("x", SNAPSHOT_GAUGE), i, n = 0;
	int err = 0;

	memset(value, '\xff', SNAPSHOT_VALUE_BYTES_MAX);
	value[SNAPSHOT_VALUE_BYTES_MAX] = '\0';
	for (; !err; n++) {
		(void)snprintf(value, sizeof(value), "%06u", n);
		value[6] = '\xff';
		err = add_one_label(f, "k", value, &i);
		cr_assert_lt(n, SNAPSHOT_SERIES_MAX);
	}
	cr_expect_eq(err, -ENOSPC);
	cr_expect_gt(n, SNAPSHOT_TEXT_BYTES_MAX / (7 * SNAPSHOT_VALUE_BYTES_MAX));
	cr_expect_eq(snapshot_refused(s), 1);
	(void)memcpy(value, "000000", 6);
	cr_expect_eq(series(f, "k", value), 0, "known ones are still found");
}

/* Without memory it refuses, and goes on where it was once there is some. */
Test(snapshot, survives_the_end_of_memory)
{
	uint32_t f = family("x", SNAPSHOT_GAUGE), i, n_series = 0, n_families = 1;
	char text[SNAPSHOT_VALUE_BYTES_MAX + 1];
	int err = 0;

	if (!SCARCE_MEMORY_WORKS)
		cr_skip_test("a sanitizer needs address space without end");
	memset(text, 'v', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	scarce_memory_begin(4 << 20);
	for (; !err && n_series < SNAPSHOT_SERIES_MAX; n_series += !err) {
		(void)snprintf(text, sizeof(text), "%06u", n_series);
		text[6] = 'v';
		err = add_one_label(f, "k", text, &i);
	}
	cr_expect_eq(err, -ENOMEM);
	for (err = 0; !err && n_families < SNAPSHOT_FAMILIES_MAX; n_families += !err) {
		(void)snprintf(text, sizeof(text), "f%06u", n_families);
		text[7] = 'v';
		text[SNAPSHOT_NAME_BYTES_MAX] = '\0';
		err = add_family(text, SNAPSHOT_GAUGE, &i);
		text[SNAPSHOT_NAME_BYTES_MAX] = 'v';
	}
	cr_expect_eq(err, -ENOMEM);
	scarce_memory_end();
	cr_expect_eq(snapshot_family_at(s, f)->n_series, n_series);
	cr_expect_eq(snapshot_family_count(s), n_families);
	cr_expect_eq(snapshot_refused(s), 0, "no limit was reached");
	(void)snprintf(text, sizeof(text), "%06u", 0);
	text[6] = 'v';
	cr_expect_eq(series(f, "k", text), 0);
	cr_expect_eq(series(f, "k", "new"), n_series);
	cr_expect_eq(family("new", SNAPSHOT_GAUGE), n_families);
}

/* ---- values ---------------------------------------------------------------------------------- */

Test(snapshot, a_histogram_has_its_cells_in_the_documented_order)
{
	uint32_t f = family("h", SNAPSHOT_HISTOGRAM), g = family("g", SNAPSHOT_GAUGE), i, k, n;

	cr_assert_eq(snapshot_series(s, f, NULL, 0, true, true, &i), 0);
	(void)snapshot_values(s, i, &n);
	cr_expect_eq(n, 2 + 1 + 1 + BLIX_EXP_CELLS);
	cr_expect_not_null(snapshot_exemplars(s, i, &n));
	cr_expect_eq(n, 3);
	cr_expect(snapshot_family_series(s, f, 0)->has_exponential);
	i = series(f, "k", "v");
	(void)snapshot_values(s, i, &n);
	cr_expect_eq(n, 4);
	cr_expect_null(snapshot_exemplars(s, i, &n));
	cr_assert_eq(snapshot_series(s, g, NULL, 0, true, true, &i), 0);
	(void)snapshot_values(s, i, &n);
	cr_expect_eq(n, 1, "no exponential cells but in a histogram");
	const struct snapshot_bounds bounds = {.n = 1, .value = {1}};
	const struct snapshot_family in_bytes = {
		.name = "b_bytes", .type = SNAPSHOT_HISTOGRAM, .bounds = &bounds};
	cr_assert_eq(snapshot_family(s, &in_bytes, &f), 0);
	cr_assert_eq(snapshot_series(s, f, NULL, 0, true, false, &k), 0);
	(void)snapshot_values(s, k, &n);
	cr_expect_eq(n, 3, "nor where the grid of seconds means nothing");
	cr_expect_not_null(snapshot_exemplars(s, i, &n));
	cr_expect_eq(n, 1);
}

Test(snapshot, values_of_every_kind_come_back)
{
	uint32_t f = family("x", SNAPSHOT_GAUGE), i = series(f, NULL, NULL), n;
	double value;

	cr_expect_eq(*snapshot_values(s, i, &n), 0);
	snapshot_set_u64(s, i, UINT64_MAX);
	cr_expect_eq(*snapshot_values(s, i, &n), UINT64_MAX);
	snapshot_set_i64(s, i, -5);
	cr_expect_eq((int64_t)*snapshot_values(s, i, &n), -5);
	snapshot_set_f64(s, i, -0.25);
	memcpy(&value, snapshot_values(s, i, &n), sizeof(value));
	cr_expect_eq(value, -0.25);
	snapshot_hide_series(s, i, true);
	cr_expect(snapshot_family_series(s, f, 0)->hidden);
	snapshot_hide_family(s, f, true);
	cr_expect(snapshot_family_at(s, f)->hidden);
	snapshot_set_created(s, f, 9);
	cr_expect_eq(snapshot_family_at(s, f)->created_unix_ns, 9);
}

Test(snapshot, reset_removes_everything_but_the_count_of_refusals)
{
	uint32_t f = family("x", SNAPSHOT_GAUGE), i;

	series(f, "k", "v");
	cr_expect_eq(add_family("x_total", SNAPSHOT_COUNTER, &i), -EEXIST);
	snapshot_reset(s);
	cr_expect_eq(snapshot_family_count(s), 0);
	cr_expect_eq(snapshot_refused(s), 1);
	f = family("x_total", SNAPSHOT_COUNTER);
	cr_expect_eq(snapshot_family_at(s, f)->n_series, 0);
	cr_expect_eq(*snapshot_values(s, series(f, "k", "v"), &i), 0);
	cr_expect_null(snapshot_free(NULL));
}

/* ---- the catalogue --------------------------------------------------------------------------- */

Test(snapshot, takes_every_row_of_the_catalogue_with_its_alias)
{
	const struct blix_metric *metric = NULL;
	uint32_t f;

	while ((metric = blix_metric_next(metric))) {
		const struct snapshot_family *got;

		cr_assert_eq(snapshot_family_of(s, metric, 5, &f), 0, "%s", metric->name);
		got = snapshot_family_at(s, f);
		cr_expect_str_eq(got->name, metric->name);
		cr_expect_eq(!got->alias, !metric->seed, "%s", metric->name);
		cr_expect_eq(got->number == SNAPSHOT_NS,
			     blix_stored_in_ns(metric->kind, metric->unit));
		cr_expect_eq(got->created_unix_ns != 0, got->type != SNAPSHOT_GAUGE);
		cr_expect_eq(!got->subset_of, !metric->subset_of);
	}
	cr_expect_eq(snapshot_refused(s), 0);
}

Test(snapshot, spells_the_bounds_of_every_layout_as_the_catalogue_does)
{
	static const enum blix_layout layouts[] = {BLIX_LAYOUT_TIME, BLIX_LAYOUT_LONG,
						   BLIX_LAYOUT_POW2};

	for (size_t i = 0; i < 3; i++) {
		const struct blix_bounds *bounds = blix_layout_bounds(layouts[i]);

		cr_assert_gt(bounds->n, 0);
		for (uint32_t k = 0; k < bounds->n; k++) {
			char text[NUMBER_BYTES_MAX + 1];

			*number_put_le(text, bounds->seconds[k]) = '\0';
			cr_expect_str_eq(text, bounds->le[k]);
		}
	}
}

Test(snapshot, makes_bounds_from_integers)
{
	const uint64_t ns[] = {1000, 5000000, 1000000000}, flat[] = {1ull << 60, (1ull << 60) + 1};
	uint64_t many[BLIX_BOUNDS_MAX + 1];
	struct snapshot_bounds bounds;

	cr_assert_eq(snapshot_bounds_from(ns, 3, true, &bounds), 0);
	cr_expect_str_eq(bounds.le[0], "1e-06");
	cr_expect_str_eq(bounds.le[1], "0.005");
	cr_expect_str_eq(bounds.le[2], "1.0");
	cr_assert_eq(snapshot_bounds_from(ns, 3, false, &bounds), 0);
	cr_expect_str_eq(bounds.le[0], "1000.0");
	cr_expect_eq(snapshot_bounds_from(flat, 2, false, &bounds), -EINVAL, "one double for both");
	cr_expect_eq(snapshot_bounds_from(ns, 0, true, &bounds), -EINVAL);
	for (uint32_t i = 0; i <= BLIX_BOUNDS_MAX; i++)
		many[i] = i;
	cr_expect_eq(snapshot_bounds_from(many, BLIX_BOUNDS_MAX + 1, true, &bounds), -EINVAL);
	cr_expect_eq(snapshot_bounds_from(many, BLIX_BOUNDS_MAX, true, &bounds), 0);
}

/* ---- subsets --------------------------------------------------------------------------------- */

static uint32_t subset(const char *name, const char *of)
{
	const struct snapshot_family spec = {
		.name = name, .subset_of = of, .type = SNAPSHOT_COUNTER};
	uint32_t f;

	cr_assert_eq(snapshot_family(s, &spec, &f), 0);
	return f;
}

static uint32_t two_labels(uint32_t f, const char *method, const char *code)
{
	const struct snapshot_label labels[] = {{"code", code}, {"method", method}};
	uint32_t i;

	cr_assert_eq(snapshot_series(s, f, labels, 2, false, false, &i), 0);
	return i;
}

static uint64_t get(uint32_t i)
{
	uint32_t n;

	return *snapshot_values(s, i, &n);
}

Test(snapshot, a_part_never_exceeds_its_whole)
{
	uint32_t part = subset("failed_total", "all_total"),
		 whole = family("all_total", SNAPSHOT_COUNTER);
	uint32_t a = series(part, NULL, NULL), all = series(whole, NULL, NULL);

	snapshot_set_u64(s, all, 10);
	snapshot_set_u64(s, a, 10);
	snapshot_clamp_subsets(s);
	cr_expect_eq(get(a), 10, "as many is not more");
	snapshot_set_u64(s, a, 12);
	snapshot_clamp_subsets(s);
	cr_expect_eq(get(a), 10);
	cr_expect_eq(get(all), 10, "the whole is not touched");
}

Test(snapshot, parts_are_summed_under_the_whole_whose_labels_they_carry)
{
	uint32_t part = subset("failed_total", "all_total"),
		 whole = family("all_total", SNAPSHOT_COUNTER);
	uint32_t a = two_labels(part, "A", "1"), a2 = two_labels(part, "A", "2"),
		 b = two_labels(part, "B", "1"), c = two_labels(part, "C", "1");
	uint32_t all_a = series(whole, "method", "A"), all_b = series(whole, "method", "B");

	snapshot_set_u64(s, all_a, 10);
	snapshot_set_u64(s, all_b, 100);
	snapshot_set_u64(s, a, 4);
	snapshot_set_u64(s, a2, 9);
	snapshot_set_u64(s, b, 50);
	snapshot_set_u64(s, c, 7);
	snapshot_clamp_subsets(s);
	cr_expect_eq(get(a), 4);
	cr_expect_eq(get(a2), 6, "what grew most gives the excess");
	cr_expect_eq(get(b), 50);
	cr_expect_eq(get(c), 7, "no whole, nothing to exceed");
	/* A series that appears later is linked as well. */
	snapshot_set_u64(s, series(whole, "method", "C"), 5);
	snapshot_clamp_subsets(s);
	cr_expect_eq(get(c), 5);
	uint32_t late = two_labels(part, "A", "3");
	snapshot_set_u64(s, late, 50);
	snapshot_clamp_subsets(s);
	cr_expect_eq(get(late), 0, "the others hold all ten already");
}

/* A counter that steps back is a reset to rate(): it would show a burst that never was. */
Test(snapshot, clamping_never_makes_a_counter_step_back)
{
	uint32_t part = subset("failed_total", "all_total"),
		 whole = family("all_total", SNAPSHOT_COUNTER);
	uint32_t all = series(whole, NULL, NULL),
		 parts[3] = {series(part, "k", "a"), series(part, "k", "b"),
			     series(part, "k", "c")};
	uint64_t real[3] = {0}, shown[3] = {0}, state = 1;

	for (uint32_t round = 0; round < 20000; round++) {
		uint64_t seen, sum = 0;

		/* The whole is read before the parts, which have gone on counting meanwhile. */
		seen = real[0] + real[1] + real[2];
		for (uint32_t i = 0; i < 3; i++) {
			state = state * 6364136223846793005ull + 1442695040888963407ull;
			real[i] += state >> 61;
			snapshot_set_u64(s, parts[i], real[i]);
		}
		snapshot_set_u64(s, all, seen);
		snapshot_clamp_subsets(s);
		for (uint32_t i = 0; i < 3; i++) {
			cr_assert_geq(get(parts[i]), shown[i], "round %u, part %u", round, i);
			cr_assert_leq(get(parts[i]), real[i]);
			shown[i] = get(parts[i]);
			sum += shown[i];
		}
		cr_assert_eq(sum, seen, "no more is taken than the excess");
	}
}

Test(snapshot, clamping_follows_a_counter_that_started_again)
{
	uint32_t part = subset("failed_total", "all_total"),
		 whole = family("all_total", SNAPSHOT_COUNTER);
	uint32_t a = series(part, "k", "a"), b = series(part, "k", "b"),
		 all = series(whole, NULL, NULL);

	snapshot_set_u64(s, all, 1000);
	snapshot_set_u64(s, a, 500);
	snapshot_set_u64(s, b, 500);
	snapshot_clamp_subsets(s);
	snapshot_set_u64(s, all, 3);
	snapshot_set_u64(s, a, 3);
	snapshot_set_u64(s, b, 1);
	snapshot_clamp_subsets(s);
	cr_expect_eq(get(a) + get(b), 3);
	cr_expect_eq(get(b), 1);
}

Test(snapshot, the_overflow_series_is_compared_with_a_total_only)
{
	uint32_t part = subset("failed_total", "all_total"),
		 whole = family("all_total", SNAPSHOT_COUNTER);
	uint32_t rest = series(part, "otel_metric_overflow", "true");

	snapshot_set_u64(s, series(whole, "otel_metric_overflow", "true"), 1);
	snapshot_set_u64(s, rest, 9);
	snapshot_clamp_subsets(s);
	cr_expect_eq(get(rest), 9);
	snapshot_set_u64(s, series(whole, NULL, NULL), 4);
	snapshot_clamp_subsets(s);
	cr_expect_eq(get(rest), 4);
}

Test(snapshot, clamping_survives_values_whose_sum_overflows)
{
	uint32_t part = subset("failed_total", "all_total"),
		 whole = family("all_total", SNAPSHOT_COUNTER);
	uint32_t a = series(part, "k", "a"), b = series(part, "k", "b"),
		 all = series(whole, NULL, NULL);

	snapshot_set_u64(s, a, UINT64_MAX);
	snapshot_set_u64(s, b, UINT64_MAX);
	snapshot_set_u64(s, all, 5);
	snapshot_clamp_subsets(s);
	cr_expect_leq(get(a), 5);
	cr_expect_leq(get(b), 5);
	cr_expect_leq(get(a) + get(b), 5);
}

Test(snapshot, clamping_needs_another_family_of_the_same_kind)
{
	const struct snapshot_family in_ns = {
		.name = "ns_total", .type = SNAPSHOT_COUNTER, .number = SNAPSHOT_NS};
	uint32_t f, n = 0, parts[5];

	parts[n++] = series(subset("a_total", "gauge"), NULL, NULL);
	parts[n++] = series(subset("b_total", "nowhere"), NULL, NULL);
	parts[n++] = series(subset("c_total", "ns_total"), NULL, NULL);
	f = subset("d_total", "d_total");
	parts[n++] = series(f, NULL, NULL);
	parts[n++] = series(f, "k", "v");
	snapshot_set_u64(s, series(family("gauge", SNAPSHOT_GAUGE), NULL, NULL), 1);
	cr_assert_eq(snapshot_family(s, &in_ns, &f), 0);
	snapshot_set_u64(s, series(f, NULL, NULL), 1);
	for (uint32_t i = 0; i < n; i++)
		snapshot_set_u64(s, parts[i], 5);
	snapshot_clamp_subsets(s);
	for (uint32_t i = 0; i < n; i++)
		cr_expect_eq(get(parts[i]), 5, "part %u", i);
}

Test(snapshot, every_subset_of_the_catalogue_holds_after_clamping)
{
	struct snapshot *rich = fixture_rich();
	uint32_t checked = 0;

	snapshot_clamp_subsets(rich);
	for (uint32_t f = 0; f < snapshot_family_count(rich); f++) {
		const struct snapshot_family *part = snapshot_family_at(rich, f);
		uint64_t parts = 0, wholes = 0;

		if (!part->subset_of)
			continue;
		for (uint32_t g = 0; g < snapshot_family_count(rich); g++)
			if (!strcmp(snapshot_family_at(rich, g)->name, part->subset_of))
				for (uint32_t i = 0; i < snapshot_family_at(rich, g)->n_series; i++)
					wholes += *snapshot_value_at(
						rich, snapshot_family_series(rich, g, i)->value);
		for (uint32_t i = 0; i < part->n_series; i++)
			parts +=
				*snapshot_value_at(rich, snapshot_family_series(rich, f, i)->value);
		cr_expect_leq(parts, wholes, "%s", part->name);
		checked++;
	}
	cr_expect_gt(checked, 5);
	snapshot_free(rich);
}
