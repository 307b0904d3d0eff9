/* Goal: what is registered is found again, stays within its budgets, and reaches the file whole.
 * Method: registries of the test's own, attached to files laid out in plain memory; the tables of
 * those are read as bytes, without the code under test. */
#include "shm/buckets.h"
#include "shm/format.h"
#include "shm/registry.h"
#include "shm/utf8.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct blix_registry r;

enum { COUNTERS = 1u << BLIX_COUNTER, HISTOGRAMS = 1u << BLIX_HISTOGRAM };
#define LIST(...) ((const char *const[]){__VA_ARGS__})

static void *files[4]; /* a test makes two at most */
static int n_files;

static void free_files(void)
{
	while (n_files > 0)
		free(files[--n_files]);
}

TestSuite(registry, .fini = free_files);

static struct blix_view file_of(uint32_t cells)
{
	struct blix_format_options options = {
		.lanes = 1, .ring_bytes = 16 << 10, .cells = cells, .slots = 1};
	struct blix_view plan;
	void *base;

	cr_assert_eq(blix_format_plan(&options, &plan), 0);
	base = calloc(1, plan.size);
	cr_assert_not_null(base);
	files[n_files++] = base;
	return blix_view_at(&plan, base);
}

static uint32_t new_counter(const char *name, const char *key, uint32_t max_series)
{
	struct blix_registry_spec spec = {.name = name,
					  .kind = BLIX_COUNTER,
					  .label_keys = &key,
					  .n_label_keys = key ? 1 : 0,
					  .max_series = max_series};
	uint32_t slot = 0;

	cr_assert_eq(blix_registry_register(&r, &spec, &slot), 0, "%s", name);
	return slot;
}

static struct blix_series_desc counter(uint32_t slot, const char *value)
{
	struct blix_series_desc s = {0};

	cr_assert_eq(blix_registry_resolve(&r, slot, COUNTERS, &value, value ? 1 : 0, &s), 0, "%s",
		     value);
	return s;
}

/* A string of the file, as a reader would find it. */
static const char *string_in(const struct blix_view *v, uint32_t id)
{
	static char text[2000];
	const uint8_t *at = v->base + v->strings_off + (size_t)id * 8;
	uint16_t len;

	memcpy(&len, at, 2);
	memcpy(text, at + 2, len);
	text[len] = '\0';
	return text;
}

static const struct blix_metric_desc *metric_in(const struct blix_view *v, uint32_t i)
{
	return (const struct blix_metric_desc *)(void *)(v->base + v->metrics_off) + i;
}

static const struct blix_series_desc *series_in(const struct blix_view *v, uint32_t i)
{
	return (const struct blix_series_desc *)(void *)(v->base + v->series_off) + i;
}

/* ---- series --------------------------------------------------------------------------------- */

Test(registry, the_same_values_yield_the_same_series_and_others_another)
{
	uint32_t a = new_counter("a_total", "key", 0);
	uint32_t b = new_counter("b_total", "key", 0);
	struct blix_series_desc first = counter(a, "x");

	cr_expect_eq(counter(a, "x").first_cell, first.first_cell);
	cr_expect_neq(counter(a, "y").first_cell, first.first_cell);
	cr_expect_neq(counter(b, "x").first_cell, first.first_cell);
	cr_expect_gt(first.first_cell, 0u, "cell 0 is void");
}

Test(registry, beyond_max_series_one_overflow_series_takes_everything)
{
	uint32_t slot = new_counter("a_total", "key", 2);
	struct blix_series_desc one = counter(slot, "1");
	struct blix_series_desc two = counter(slot, "2");
	struct blix_series_desc three = counter(slot, "3");
	struct blix_series_desc four = counter(slot, "4");

	cr_expect_eq(one.flags | two.flags, 0u);
	cr_expect_eq(three.flags, (uint32_t)BLIX_SERIES_OVERFLOW);
	cr_expect_eq(three.first_cell, four.first_cell);
	cr_expect_neq(three.first_cell, one.first_cell);
	cr_expect_eq(counter(slot, "1").first_cell, one.first_cell, "those that fit stay");
	cr_expect_eq(r.stats[BLIX_STAT_SERIES_OVERFLOW], 2u);
	cr_expect_eq(three.exemplar_idx, BLIX_NO_ID);
}

Test(registry, a_flood_of_values_beyond_max_series_takes_no_strings)
{
	uint32_t slot = new_counter("a_total", "key", 1);
	uint32_t used;
	char value[32];

	counter(slot, "first");
	used = r.strings_used;
	for (int i = 0; i < 10000; i++) {
		snprintf(value, sizeof(value), "flood %d", i);
		counter(slot, value);
	}
	cr_expect_eq(r.strings_used, used);
	cr_expect_eq(r.n_series, 2u, "the first and the overflow series");
	cr_expect_eq(r.stats[BLIX_STAT_SERIES_OVERFLOW], 10000u);
}

Test(registry, without_cells_left_labelled_series_overflow_and_others_record_nowhere)
{
	struct blix_view v = file_of(8);
	struct blix_series_desc s;
	uint32_t labelled;
	uint32_t plain;
	char value[16];

	cr_assert_eq(blix_registry_attach(&r, &v), 0);
	labelled = new_counter("a_total", "key", 0); /* takes cell 1 for its overflow */
	for (int i = 0; i < 6; i++) {		     /* cells 2 to 7 */
		snprintf(value, sizeof(value), "%d", i);
		cr_expect_eq(counter(labelled, value).flags, 0u);
	}
	cr_expect_eq(counter(labelled, "x").flags, (uint32_t)BLIX_SERIES_OVERFLOW);
	plain = new_counter("b_total", NULL, 0);
	cr_expect_eq(blix_registry_resolve(&r, plain, COUNTERS, NULL, 0, &s), -ENOSPC);
	cr_expect_eq(r.stats[BLIX_STAT_NO_CELLS], 1u);
	cr_expect_eq(blix_view_header(&v)->stats[BLIX_STAT_NO_CELLS], 1u, "and in the file");
}

Test(registry, wrong_slots_kinds_and_counts_of_values_are_counted)
{
	const char *const values[9] = {"1", "2", "3", "4", "5", "6", "7", "8", "9"};
	uint32_t slot = new_counter("a_total", "key", 0);
	struct blix_series_desc s;

	cr_expect_eq(blix_registry_resolve(&r, slot, HISTOGRAMS, LIST("x"), 1, &s), -ENOENT);
	cr_expect_eq(blix_registry_resolve(&r, slot + 1, COUNTERS, LIST("x"), 1, &s), -ENOENT);
	cr_expect_eq(blix_registry_resolve(&r, UINT32_MAX, COUNTERS, LIST("x"), 1, &s), -ENOENT);
	cr_expect_eq(r.stats[BLIX_STAT_UNKNOWN_SLOT], 3u);
	cr_expect_eq(blix_registry_resolve(&r, slot, COUNTERS, NULL, 0, &s), -EINVAL);
	cr_expect_eq(blix_registry_resolve(&r, slot, COUNTERS, NULL, 1, &s), -EINVAL);
	cr_expect_eq(blix_registry_resolve(&r, slot, COUNTERS, LIST("x", "y"), 2, &s), -EINVAL);
	cr_expect_eq(blix_registry_resolve(&r, slot, COUNTERS, values, 9, &s), -EINVAL);
	cr_expect_eq(r.stats[BLIX_STAT_LABEL_MISMATCH], 4u);
}

Test(registry, label_values_are_made_utf8_and_cut_between_characters)
{
	struct blix_view v = file_of(64);
	uint32_t slot = new_counter("a_total", "key", 0);
	char longest[2 * BLIX_LABEL_VALUE_MAX];
	struct blix_series_desc s;

	cr_assert_eq(blix_registry_attach(&r, &v), 0);
	s = counter(slot, "caf\xc3\xa9 \xff|\xe0\x80\x80|\xed\xa0\x80|");
	cr_expect_str_eq(string_in(&v, s.label_val_ids[0]),
			 "caf\xc3\xa9 "
			 "\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|"
			 "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|");
	memset(longest, 'x', sizeof(longest));
	memcpy(longest + BLIX_LABEL_VALUE_MAX - 1, "\xc3\xa9", 3);
	s = counter(slot, longest);
	cr_expect_eq(strlen(string_in(&v, s.label_val_ids[0])), BLIX_LABEL_VALUE_MAX - 1,
		     "the character that does not fit whole is left out");
	memset(longest, 'x', BLIX_LABEL_VALUE_MAX);
	longest[BLIX_LABEL_VALUE_MAX] = '\0';
	s = counter(slot, longest);
	cr_expect_eq(strlen(string_in(&v, s.label_val_ids[0])), BLIX_LABEL_VALUE_MAX);
}

Test(registry, a_full_string_table_sends_new_values_to_the_overflow_series)
{
	uint32_t slots[4];
	char value[BLIX_LABEL_VALUE_MAX + 1];
	struct blix_series_desc s = {0};
	char number[16];
	int n = 0;

	for (int i = 0; i < 4; i++) {
		char name[32];

		snprintf(name, sizeof(name), "m%d_total", i);
		slots[i] = new_counter(name, "key", 1024);
	}
	memset(value, 'v', sizeof(value));
	value[BLIX_LABEL_VALUE_MAX] = '\0';
	while (!s.flags && n < 4000) {
		snprintf(number, sizeof(number), "%07d", n);
		memcpy(value, number, 7);
		s = counter(slots[n++ / 1000], value);
	}
	cr_expect_eq(s.flags, (uint32_t)BLIX_SERIES_OVERFLOW);
	cr_expect_eq(r.stats[BLIX_STAT_STRINGS_FULL], 1u);
	cr_expect_leq(r.strings_used, (uint32_t)BLIX_REGISTRY_STRINGS_BYTES);
	cr_expect_gt(n, 900);
	cr_expect_eq(counter(slots[0], "7").flags, 0u, "a short one may still fit");
}

/* ---- runtime metrics ------------------------------------------------------------------------ */

Test(registry, registering_the_same_metric_again_yields_its_slot)
{
	uint32_t slot = new_counter("a_total", "key", 7);
	struct blix_registry_spec spec = {.name = "a_total",
					  .kind = BLIX_COUNTER,
					  .label_keys = LIST("key"),
					  .n_label_keys = 1,
					  .max_series = 7};
	uint32_t again = 0;

	cr_expect_geq(slot, (uint32_t)BLIX_CATALOGUE_SLOTS);
	cr_expect_eq(blix_registry_register(&r, &spec, &again), 0);
	cr_expect_eq(again, slot);
	spec.max_series = 8;
	cr_expect_eq(blix_registry_register(&r, &spec, &again), -EEXIST);
	spec.max_series = 7;
	spec.help = "Other.";
	cr_expect_eq(blix_registry_register(&r, &spec, &again), -EEXIST);
	spec.help = NULL;
	spec.label_keys = LIST("kez");
	cr_expect_eq(blix_registry_register(&r, &spec, &again), -EEXIST);
	cr_expect_neq(new_counter("b_total", "key", 7), slot);
}

static int try(const struct blix_registry_spec *spec)
{
	uint32_t slot;

	return blix_registry_register(&r, spec, &slot);
}

/* One byte too long each, when filled. */
static char long_name[BLIX_NAME_MAX + 2];
static char long_key[BLIX_LABEL_KEY_MAX + 2];
static char long_unit[BLIX_UNIT_MAX + 2];

static const uint64_t falling[] = {2, 1};
static const uint64_t equal[] = {1, 1};
static const uint64_t zero[] = {0, 1};
static const uint64_t good[BLIX_BOUNDS_MAX + 1] = {1, 2, 3};
static const char *const nine[9] = {"a", "b", "c", "d", "e", "f", "g", "h", "i"};

static const struct blix_registry_spec bad[] = {
	{.kind = BLIX_COUNTER},
	{.name = "", .kind = BLIX_GAUGE},
	{.name = "9lives", .kind = BLIX_GAUGE},
	{.name = "with-dash", .kind = BLIX_GAUGE},
	{.name = "caf\xc3\xa9", .kind = BLIX_GAUGE},
	{.name = long_name, .kind = BLIX_GAUGE},
	{.name = "a", .kind = BLIX_COUNTER},
	{.name = "_total", .kind = BLIX_COUNTER},
	{.name = "a_total", .kind = BLIX_GAUGE},
	{.name = "a", .kind = 0},
	{.name = "a", .kind = 6},
	{.name = "a", .kind = BLIX_GAUGE, .unit = long_unit},
	{.name = "a", .kind = BLIX_GAUGE, .unit = "a b"},
	{.name = "a", .kind = BLIX_GAUGE, .max_series = BLIX_SERIES_LIMIT + 1},
	{.name = "a", .kind = BLIX_GAUGE, .n_label_keys = 1},
	{.name = "a", .kind = BLIX_GAUGE, .label_keys = nine, .n_label_keys = 9},
	{.name = "a", .kind = BLIX_GAUGE, .label_keys = LIST(long_key), .n_label_keys = 1},
	{.name = "a", .kind = BLIX_GAUGE, .label_keys = LIST("__x"), .n_label_keys = 1},
	{.name = "a", .kind = BLIX_GAUGE, .label_keys = LIST("le"), .n_label_keys = 1},
	{.name = "a", .kind = BLIX_GAUGE, .label_keys = LIST("quantile"), .n_label_keys = 1},
	{.name = "a",
	 .kind = BLIX_GAUGE,
	 .label_keys = LIST("otel_metric_overflow"),
	 .n_label_keys = 1},
	{.name = "a", .kind = BLIX_GAUGE, .label_keys = LIST("k", "k"), .n_label_keys = 2},
	{.name = "a", .kind = BLIX_GAUGE, .label_keys = LIST(NULL), .n_label_keys = 1},
	{.name = "a", .kind = BLIX_GAUGE, .bounds = good, .n_bounds = 3},
	{.name = "a", .kind = BLIX_HISTOGRAM, .unit = "s", .bounds = falling, .n_bounds = 2},
	{.name = "a", .kind = BLIX_HISTOGRAM, .unit = "s", .bounds = equal, .n_bounds = 2},
	{.name = "a", .kind = BLIX_HISTOGRAM, .unit = "s", .bounds = zero, .n_bounds = 2},
	{.name = "a", .kind = BLIX_HISTOGRAM, .unit = "s", .bounds = good, .n_bounds = 0},
	{.name = "a",
	 .kind = BLIX_HISTOGRAM,
	 .unit = "s",
	 .bounds = good,
	 .n_bounds = BLIX_BOUNDS_MAX + 1},
	{.name = "a", .kind = BLIX_HISTOGRAM, .unit = "By"},
};

Test(registry, specs_out_of_range_are_refused)
{
	memset(long_name, 'n', sizeof(long_name));
	long_name[BLIX_NAME_MAX + 1] = '\0';
	memset(long_key, 'k', sizeof(long_key));
	long_key[BLIX_LABEL_KEY_MAX + 1] = '\0';
	memset(long_unit, 'u', sizeof(long_unit));
	long_unit[BLIX_UNIT_MAX + 1] = '\0';
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(try(&bad[i]), -EINVAL, "spec %zu", i);
	cr_expect_eq(try(NULL), -EINVAL);
	cr_expect_eq(r.n_metrics, 0u);

	long_name[BLIX_NAME_MAX] = '\0';
	cr_expect_eq(try(&(struct blix_registry_spec){.name = long_name, .kind = BLIX_GAUGE}), 0);
	long_key[BLIX_LABEL_KEY_MAX] = '\0';
	long_unit[BLIX_UNIT_MAX] = '\0';
	cr_expect_eq(try(&(struct blix_registry_spec){
			     .name = "at_the_limit",
			     .kind = BLIX_GAUGE,
			     .unit = long_unit,
			     .max_series = BLIX_SERIES_LIMIT,
			     .label_keys = LIST(long_key, "b", "c", "d", "e", "f", "g", "h"),
			     .n_label_keys = 8}),
		     0);
}

Test(registry, names_whose_samples_would_meet_are_refused)
{
	const struct blix_registry_spec first[] = {
		{.name = "h", .kind = BLIX_HISTOGRAM, .unit = "s"},
		{.name = "g", .kind = BLIX_GAUGE},
		{.name = "c_total", .kind = BLIX_COUNTER},
		{.name = "q_count", .kind = BLIX_GAUGE},
	};
	const struct blix_registry_spec clash[] = {
		{.name = "h_count", .kind = BLIX_GAUGE},
		{.name = "h_sum", .kind = BLIX_GAUGE},
		{.name = "h_bucket", .kind = BLIX_UPDOWN},
		{.name = "g_total", .kind = BLIX_COUNTER},
		{.name = "c", .kind = BLIX_GAUGE},
		{.name = "q", .kind = BLIX_HISTOGRAM, .unit = "s"},
		{.name = "blixard_raft_term", .kind = BLIX_GAUGE},
		{.name = "raft_term", .kind = BLIX_GAUGE}, /* the seed's name for it */
	};
	const struct blix_registry_spec fine[] = {
		{.name = "h_counts", .kind = BLIX_GAUGE},
		{.name = "g_count", .kind = BLIX_GAUGE},
	};

	for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++)
		cr_assert_eq(try(&first[i]), 0, "%s", first[i].name);
	for (size_t i = 0; i < sizeof(clash) / sizeof(clash[0]); i++)
		cr_expect_eq(try(&clash[i]), -EEXIST, "%s", clash[i].name);
	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
		cr_expect_eq(try(&fine[i]), 0, "%s", fine[i].name);
}

Test(registry, without_descriptors_or_layouts_left_registering_is_enospc)
{
	char name[32];
	uint64_t bound = 1;
	struct blix_registry_spec spec = {.name = name,
					  .kind = BLIX_HISTOGRAM,
					  .unit = "By",
					  .bounds = &bound,
					  .n_bounds = 1};
	int err = 0;

	for (; err == 0 && bound < 100; bound++) {
		snprintf(name, sizeof(name), "h%d", (int)bound);
		err = try(&spec);
	}
	cr_expect_eq(err, -ENOSPC, "layouts");
	cr_expect_eq(r.n_layouts, (uint32_t)BLIX_REGISTRY_LAYOUTS);
	bound = 1;
	strcpy(name, "shares_a_layout");
	cr_expect_eq(try(&spec), 0);

	spec = (struct blix_registry_spec){.name = name, .kind = BLIX_GAUGE};
	err = 0;
	for (int i = 0; err == 0 && i < 1000; i++) {
		snprintf(name, sizeof(name), "g%d", i);
		err = try(&spec);
	}
	cr_expect_eq(err, -ENOSPC, "descriptors");
	cr_expect_eq(r.n_metrics, (uint32_t)BLIX_REGISTRY_METRICS);
}

/* ---- the file ------------------------------------------------------------------------------- */

Test(registry, what_was_registered_before_and_after_attaching_is_in_the_file)
{
	struct blix_view v = file_of(1024);
	struct blix_header *h = blix_view_header(&v);
	uint32_t a = new_counter("a_total", "key", 0);
	uint64_t gen;

	counter(a, "before");
	cr_assert_eq(blix_registry_attach(&r, &v), 0);
	cr_expect_eq(h->reg_metrics, 1u);
	cr_expect_eq(h->reg_series, 2u);
	cr_expect_str_eq(string_in(&v, metric_in(&v, 0)->name_id), "a_total");
	cr_expect_str_eq(string_in(&v, metric_in(&v, 0)->label_key_ids[0]), "key");
	cr_expect_eq(metric_in(&v, 0)->overflow_series, 0u);
	cr_expect_eq(series_in(&v, 0)->flags, (uint32_t)BLIX_SERIES_OVERFLOW);
	cr_expect_eq(series_in(&v, 0)->label_val_ids[0], BLIX_NO_ID);
	cr_expect_str_eq(string_in(&v, series_in(&v, 1)->label_val_ids[0]), "before");

	gen = h->reg_gen;
	counter(a, "before");
	cr_expect_eq(h->reg_gen, gen, "nothing new, no new generation");
	counter(a, "after");
	cr_expect_gt(h->reg_gen, gen);
	cr_expect_eq(h->reg_series, 3u);
	cr_expect_eq(h->reg_strings_len, r.strings_used);
	cr_expect_str_eq(string_in(&v, series_in(&v, 2)->label_val_ids[0]), "after");
}

Test(registry, a_second_file_gets_everything_and_the_first_nothing_more)
{
	struct blix_view one = file_of(1024);
	struct blix_view two = file_of(1024);
	uint32_t a = new_counter("a_total", "key", 0);
	struct blix_series_desc s;

	cr_assert_eq(blix_registry_attach(&r, &one), 0);
	s = counter(a, "x");
	blix_registry_detach(&r);
	counter(a, "y");
	cr_expect_eq(blix_view_header(&one)->reg_series, 2u);
	cr_assert_eq(blix_registry_attach(&r, &two), 0);
	cr_expect_eq(blix_view_header(&two)->reg_series, 3u);
	cr_expect_eq(series_in(&two, 1)->first_cell, s.first_cell, "handles stay good");
	cr_expect_str_eq(string_in(&two, series_in(&two, 1)->label_val_ids[0]), "x");
	cr_expect_str_eq(string_in(&two, series_in(&two, 2)->label_val_ids[0]), "y");
}

Test(registry, a_file_with_fewer_cells_than_are_in_use_is_refused)
{
	struct blix_view v = file_of(4);
	uint32_t a = new_counter("a_total", "key", 0);

	counter(a, "1");
	counter(a, "2");
	cr_expect_eq(blix_registry_limit_cells(&r, 3), 4u, "three in use, and the void cell");
	cr_expect_eq(counter(a, "3").flags, (uint32_t)BLIX_SERIES_OVERFLOW, "the limit holds");
	cr_expect_eq(blix_registry_attach(&r, &v), 0);
	blix_registry_detach(&r);
	cr_expect_eq(blix_registry_limit_cells(&r, 100), 100u);
	cr_expect_eq(counter(a, "3").flags, 0u);
	cr_expect_eq(blix_registry_attach(&r, &v), -ENOSPC);
}

Test(registry, no_two_series_share_cells_gauges_or_exemplars)
{
	static uint8_t cells[BLIX_REGISTRY_CELLS];
	static uint8_t gauges[BLIX_REGISTRY_GAUGES];
	static uint8_t exemplars[BLIX_REGISTRY_EXEMPLARS];

	blix_registry_catalogue(&r);
	for (uint32_t i = 0; i < r.n_series; i++) {
		const struct blix_series_desc *s = &r.series[i];

		for (uint32_t c = 0; c < s->n_cells; c++)
			cr_expect_eq(cells[s->first_cell + c]++, 0, "series %u", i);
		if (s->gauge_idx != BLIX_NO_ID)
			cr_expect_eq(gauges[s->gauge_idx]++, 0, "series %u", i);
		for (uint32_t e = 0; e < s->n_exemplars; e++)
			cr_expect_eq(exemplars[s->exemplar_idx + e]++, 0, "series %u", i);
	}
	cr_expect_eq(gauges[0], 0);
}

Test(registry, the_catalogue_registers_every_node_metric_with_its_zero_series)
{
	const struct blix_metric *row = NULL;
	uint32_t metrics = 0;
	uint32_t series = 0;

	while ((row = blix_metric_next(row))) {
		struct blix_labels labels;

		if (row->owner != BLIX_OWNER_NODE)
			continue;
		metrics++;
		blix_labels_begin(&labels, row->labels);
		series += labels.n_keys > 0; /* the overflow series */
		while (blix_labels_next(&labels))
			series++;
	}
	blix_registry_catalogue(&r);
	blix_registry_catalogue(&r);
	cr_expect_gt(metrics, 20u);
	cr_expect_eq(r.n_metrics, metrics);
	cr_expect_eq(r.n_series, series);
	for (uint32_t i = 0; i < BLIX_STAT_N; i++)
		cr_expect_eq(r.stats[i], 0u, "statistic %u", i);
}

Test(registry, exponential_cells_follow_only_where_the_unit_is_the_second)
{
	const uint64_t bounds[] = {10, 20};
	const struct blix_registry_spec seconds = {
		.name = "s", .kind = BLIX_HISTOGRAM, .unit = "s"};
	const struct blix_registry_spec bytes = {
		.name = "b", .kind = BLIX_HISTOGRAM, .unit = "By", .bounds = bounds, .n_bounds = 2};
	struct blix_series_desc s;
	uint32_t slot;

	cr_expect_not(blix_registry_set_exponential(&r, true));
	cr_assert_eq(blix_registry_register(&r, &seconds, &slot), 0);
	cr_assert_eq(blix_registry_resolve(&r, slot, HISTOGRAMS, NULL, 0, &s), 0);
	cr_expect_eq(s.n_cells, 16u + 2 + BLIX_EXP_CELLS);
	cr_expect_eq(s.n_exemplars, 17u);
	cr_expect_eq(blix_registry_metric_of(&r, &s).flags,
		     BLIX_METRIC_STORED_NS | BLIX_METRIC_EXPONENTIAL);
	cr_assert_eq(blix_registry_register(&r, &bytes, &slot), 0);
	cr_assert_eq(blix_registry_resolve(&r, slot, HISTOGRAMS, NULL, 0, &s), 0);
	cr_expect_eq(s.n_cells, 4u);
	cr_expect_eq(blix_registry_metric_of(&r, &s).flags, 0);
	cr_expect(blix_registry_set_exponential(&r, false), "one is registered the other way");
}

/* ---- the grid -------------------------------------------------------------------------------- */

static void check_value(const struct blix_grid *grid, uint64_t value)
{
	uint32_t expected = 0;

	while (expected < grid->n_bounds && value > grid->bounds[expected])
		expected++;
	cr_assert_eq(blix_grid_bucket(grid, value), expected, "%llu", (unsigned long long)value);
	cr_assert_eq(blix_classic_index(grid->bounds, grid->n_bounds, value), expected);
}

Test(registry, the_grid_finds_the_bucket_that_a_plain_search_finds)
{
	uint64_t state = 88172645463325252u;
	struct blix_grid grid;

	for (int round = 0; round < 400; round++) {
		uint64_t bounds[BLIX_GRID_BOUNDS];
		uint32_t n = (uint32_t)round % BLIX_GRID_BOUNDS + 1;
		uint64_t last = 0;

		for (uint32_t i = 0; i < n; i++) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			bounds[i] = last + 1 + (state >> (round < 200 ? 60 : 5 + state % 54));
			last = bounds[i] < UINT64_MAX / 2 ? bounds[i] : UINT64_MAX / 2 + i;
			bounds[i] = last;
		}
		blix_grid_init(&grid, bounds, n);
		for (uint32_t i = 0; i < n; i++)
			for (uint64_t d = 0; d < 3; d++)
				check_value(&grid, bounds[i] - 1 + d);
		for (uint32_t shift = 0; shift < 64; shift++) {
			check_value(&grid, UINT64_C(1) << shift);
			check_value(&grid, (UINT64_C(1) << shift) - 1);
			check_value(&grid, state >> shift);
		}
		check_value(&grid, UINT64_MAX);
	}
	for (uint64_t value = 0; value < 10000; value++)
		check_value(&grid, value);
}

Test(registry, utf8_is_told_from_bytes_that_only_look_like_it)
{
	static const struct {
		const char *text;
		bool valid;
	} cases[] = {
		{"", true},
		{"a", true},
		{"\xc2\x80", true},
		{"\xdf\xbf", true},
		{"\xe0\xa0\x80", true},
		{"\xed\x9f\xbf", true},
		{"\xee\x80\x80", true},
		{"\xf0\x90\x80\x80", true},
		{"\xf4\x8f\xbf\xbf", true},
		{"\x80", false},
		{"\xc1\xbf", false},
		{"\xe0\x9f\xbf", false},
		{"\xed\xa0\x80", false},
		{"\xf0\x8f\xbf\xbf", false},
		{"\xf4\x90\x80\x80", false},
		{"\xf5\x80\x80\x80", false},
		{"\xc3", false},
		{"\xe2\x82", false},
		{"a\xf0\x9f\x98", false},
		{"\xff", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect_eq(blix_utf8_valid((const uint8_t *)cases[i].text, strlen(cases[i].text)),
			     cases[i].valid, "case %zu", i);
}
