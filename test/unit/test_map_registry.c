/* Goal: a well-formed descriptor comes out as it went in, a malformed one is skipped and counted,
 * and never harms its neighbours; files of older and newer minors are read as far as known.
 * Method: a file made by test/support/shm_file.c, with good entries around the one that a test
 * damages before it is published. */
#include "shm/map.h"
#include "shm/registry.h"
#include "test/support/shm_file.h"

#include "shm/buckets.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[] = "/dev/shm/blix-test-reg-XXXXXX";
static char path[64];
static struct shm_file *file;
static struct blix_map *map;
static char reason[BLIX_REASON_MAX];

static void setup(void)
{
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/blix1", dir);
	file = shm_file_new(path, NULL);
}

static void teardown(void)
{
	map = blix_map_close(map);
	file = shm_file_free(file);
	unlink(path);
	cr_expect_eq(rmdir(dir), 0);
}

TestSuite(registry, .init = setup, .fini = teardown);

static void open_map(void)
{
	map = blix_map_close(map);
	cr_assert_eq(blix_map_open(path, &(struct blix_map_options){0}, &map, reason), 0, "%s",
		     reason);
}

static uint32_t add_metric(const char *name, enum blix_kind kind)
{
	return shm_file_metric(
		file, &(struct shm_file_metric){
			      .name = name, .kind = kind, .bounds = {10, 20, 30}, .n_bounds = 3});
}

static struct blix_metric_desc *metric_desc(uint32_t index)
{
	return &file->metrics[index];
}

/* ---- what is good ---------------------------------------------------------------------------- */

Test(registry, metric_and_series_make_the_round_trip)
{
	uint32_t m = shm_file_metric(file, &(struct shm_file_metric){.name = "blixard_x_seconds",
								     .kind = BLIX_HISTOGRAM,
								     .help = "What x costs.",
								     .unit = "s",
								     .slot = 77,
								     .flags = BLIX_METRIC_STORED_NS,
								     .max_series = 9,
								     .keys = {"method", "code"},
								     .bounds = {100, 200},
								     .n_bounds = 2});
	uint32_t s = shm_file_series(file, m, "CreateVm", "caf\xc3\xa9 \n");
	uint32_t o = shm_file_overflow(file, m);
	const struct blix_map_metric *metric;
	const struct blix_map_series *series;

	open_map();
	cr_assert_eq(blix_map_metric_count(map), 1);
	metric = blix_map_metric(map, m);
	cr_assert_not_null(metric);
	cr_expect_eq(metric->slot, 77);
	cr_expect_eq(metric->kind, BLIX_HISTOGRAM);
	cr_expect_eq(metric->flags, BLIX_METRIC_STORED_NS);
	cr_expect_eq(metric->max_series, 9);
	cr_expect_eq(metric->overflow_series, o);
	cr_expect_str_eq(metric->name, "blixard_x_seconds");
	cr_expect_str_eq(metric->help, "What x costs.");
	cr_expect_str_eq(metric->unit, "s");
	cr_expect_eq(metric->n_label_keys, 2);
	cr_expect_str_eq(metric->label_keys[0], "method");
	cr_expect_str_eq(metric->label_keys[1], "code");
	cr_assert_not_null(metric->layout);
	cr_expect_eq(metric->layout->n_bounds, 2);
	cr_expect_eq(metric->layout->bounds[1], 200);

	cr_assert_eq(blix_map_series_count(map), 2);
	series = blix_map_series(map, s);
	cr_assert_not_null(series);
	cr_expect_eq(series->metric, m);
	cr_expect_eq(series->first_cell, 1);
	cr_expect_eq(series->n_cells, 4);
	cr_expect_eq(series->gauge_idx, BLIX_NO_ID);
	cr_expect_eq(series->exemplar_idx, 0);
	cr_expect_eq(series->n_exemplars, 3);
	cr_expect_not(series->overflow);
	cr_expect_str_eq(series->label_values[0], "CreateVm");
	cr_expect_str_eq(series->label_values[1], "caf\xc3\xa9 \n");
	series = blix_map_series(map, o);
	cr_assert_not_null(series);
	cr_expect(series->overflow);
	cr_expect_str_eq(series->label_values[1], "");
	cr_expect_null(blix_map_series(map, 2));
	cr_expect_null(blix_map_metric(map, 1));
	cr_expect_null(blix_map_metric(map, UINT32_MAX));
	cr_expect_eq(blix_map_rejected(map), 0);
}

Test(registry, every_kind_is_read_by_its_own_rule)
{
	uint32_t c = shm_file_plain(file, add_metric("a_total", BLIX_COUNTER));
	uint32_t u = shm_file_plain(file, add_metric("b", BLIX_UPDOWN));
	uint32_t g = shm_file_plain(file, add_metric("c", BLIX_GAUGE));
	uint32_t f = shm_file_plain(file, add_metric("d", BLIX_GAUGE_F64));
	uint32_t h = shm_file_plain(file, add_metric("e", BLIX_HISTOGRAM));
	uint64_t sums[32];
	double value;
	uint64_t bits;

	shm_file_add(file, c, 0, 7);
	shm_file_add(file, u, 0, (uint64_t)-5);
	shm_file_add(file, u, 1, 3);
	shm_file_set(file, g, -9);
	shm_file_set_f64(file, f, 0.25);
	shm_file_observe(file, h, 0, 20);
	shm_file_observe(file, h, 1, 31);
	open_map();
	blix_map_sum_cells(map, sums, 32);
	cr_expect_eq(sums[blix_map_series(map, c)->first_cell], 7);
	cr_expect_eq((int64_t)sums[blix_map_series(map, u)->first_cell], -2);
	cr_expect_eq((int64_t)blix_map_gauge(map, blix_map_series(map, g)->gauge_idx), -9);
	bits = blix_map_gauge(map, blix_map_series(map, f)->gauge_idx);
	memcpy(&value, &bits, sizeof(value));
	cr_expect_eq(value, 0.25);
	cr_expect_eq(blix_map_series(map, g)->n_cells, 0);
	cr_expect_eq(blix_map_series(map, h)->n_cells, 5);
	cr_expect_eq(sums[blix_map_series(map, h)->first_cell + 1], 1);
	cr_expect_eq(sums[blix_map_series(map, h)->first_cell + 3], 1);
	cr_expect_eq(sums[blix_map_series(map, h)->first_cell + 4], 51);
	cr_expect_eq(blix_map_rejected(map), 0);
}

Test(registry, later_registration_shows_after_refresh)
{
	uint32_t m = shm_file_metric(
		file,
		&(struct shm_file_metric){.name = "a_total", .kind = BLIX_COUNTER, .keys = {"k"}});
	uint32_t s = shm_file_series(file, m, "one");
	const struct blix_map_series *kept;
	uint64_t generation;

	open_map();
	kept = blix_map_series(map, s);
	generation = blix_map_generation(map);
	cr_expect_eq(blix_map_refresh(map), 0);
	cr_expect_eq(blix_map_generation(map), generation);

	shm_file_series(file, m, "two");
	shm_file_plain(file, add_metric("b", BLIX_GAUGE));
	cr_expect_eq(blix_map_series_count(map), 1, "not before the refresh");
	cr_expect_eq(blix_map_refresh(map), 0);
	cr_expect_neq(blix_map_generation(map), generation);
	cr_assert_eq(blix_map_series_count(map), 3);
	cr_assert_eq(blix_map_metric_count(map), 2);
	cr_expect_str_eq(blix_map_series(map, 1)->label_values[0], "two");
	cr_expect_eq(blix_map_series(map, 2)->metric, 1);
	cr_expect_eq(blix_map_series(map, s), kept, "indexes and copies are stable");
}

Test(registry, help_is_one_line_and_values_are_kept_as_they_are)
{
	uint32_t m = shm_file_metric(file, &(struct shm_file_metric){.name = "a_total",
								     .kind = BLIX_COUNTER,
								     .help = "two\nlines\x7f",
								     .unit = "\t",
								     .keys = {"k"}});
	uint32_t s = shm_file_series(file, m, "two\nlines\x7f");

	open_map();
	cr_expect_str_eq(blix_map_metric(map, m)->help, "two lines ");
	cr_expect_str_eq(blix_map_metric(map, m)->unit, " ");
	cr_expect_str_eq(blix_map_series(map, s)->label_values[0], "two\nlines\x7f");
}

Test(registry, series_that_records_nowhere_is_absent_and_not_malformed)
{
	uint32_t c = shm_file_plain(file, add_metric("a_total", BLIX_COUNTER));
	uint32_t g = shm_file_plain(file, add_metric("b", BLIX_GAUGE));

	file->series[c].first_cell = 0;
	file->series[g].gauge_idx = 0;
	open_map();
	cr_expect_null(blix_map_series(map, c));
	cr_expect_null(blix_map_series(map, g));
	cr_expect_eq(blix_map_series_count(map), 2);
	cr_expect_eq(blix_map_rejected(map), 0);
}

Test(registry, exponential_cells_follow_the_classic_ones)
{
	uint32_t m = shm_file_metric(
		file, &(struct shm_file_metric){.name = "h",
						.kind = BLIX_HISTOGRAM,
						.flags = BLIX_METRIC_EXPONENTIAL,
						.bounds = {1},
						.n_bounds = 1,
						.exponential_cells = BLIX_EXP_CELLS});
	uint32_t s = shm_file_plain(file, m);

	open_map();
	cr_assert_not_null(blix_map_series(map, s));
	cr_expect_eq(blix_map_series(map, s)->n_cells, 3 + BLIX_EXP_CELLS);
	file->series[s].n_cells--;
	open_map();
	cr_expect_null(blix_map_series(map, s));
	cr_expect_eq(blix_map_rejected(map), 1);
}

static struct blix_registry writer;

/* The reader must not be stricter than the library that writes. */
static void expect_catalogue_accepted(bool exponential)
{
	const struct blix_format_options format = {
		.strings_bytes = BLIX_REGISTRY_STRINGS_BYTES,
		.metrics = BLIX_REGISTRY_METRICS,
		.series = BLIX_REGISTRY_SERIES,
		.layouts = BLIX_REGISTRY_LAYOUTS,
		.gauges = BLIX_REGISTRY_GAUGES,
		.exemplars = BLIX_REGISTRY_EXEMPLARS,
		.cells = exponential ? BLIX_REGISTRY_CELLS_BOTH : BLIX_REGISTRY_CELLS,
	};

	file = shm_file_free(file);
	file = shm_file_new(path, &(struct shm_file_options){.format = format});
	memset(&writer, 0, sizeof(writer));
	(void)blix_registry_set_exponential(&writer, exponential);
	blix_registry_catalogue(&writer);
	cr_assert_eq(blix_registry_attach(&writer, &file->view), 0);
	open_map();
	cr_expect_eq(blix_map_rejected(map), 0);
	cr_expect_gt(blix_map_metric_count(map), 20);
	for (uint32_t i = 0; i < blix_map_metric_count(map); i++)
		cr_expect_not_null(blix_map_metric(map, i), "metric %u", i);
	for (uint32_t i = 0; i < blix_map_series_count(map); i++)
		cr_expect_not_null(blix_map_series(map, i), "series %u", i);
}

Test(registry, whole_catalogue_of_the_hooks_is_accepted)
{
	expect_catalogue_accepted(false);
	expect_catalogue_accepted(true);
}

/* ---- what is not: metrics ----------------------------------------------------------------- */

/* A good metric before and one after; `damage` spoils the one in between. The good ones stay. */
static void expect_metric_rejected(void (*damage)(struct blix_metric_desc *d), const char *what)
{
	uint32_t bad;
	uint32_t series;

	file = shm_file_free(file);
	file = shm_file_new(path, NULL);
	shm_file_plain(file, add_metric("before_total", BLIX_COUNTER));
	bad = shm_file_metric(file, &(struct shm_file_metric){.name = "bad",
							      .kind = BLIX_HISTOGRAM,
							      .keys = {"one", "two"},
							      .bounds = {1, 2},
							      .n_bounds = 2});
	series = shm_file_series(file, bad, "x", "y");
	shm_file_plain(file, add_metric("after", BLIX_HISTOGRAM));
	open_map();
	cr_expect_eq(blix_map_rejected(map), 0, "%s: good before the damage", what);
	damage(metric_desc(bad));
	open_map();
	cr_expect_eq(blix_map_rejected(map), 2, "%s: the metric and its series: %lu", what,
		     (unsigned long)blix_map_rejected(map));
	cr_expect_null(blix_map_metric(map, bad), "%s", what);
	cr_expect_null(blix_map_series(map, series), "%s", what);
	cr_expect_not_null(blix_map_metric(map, bad - 1), "%s", what);
	cr_expect_not_null(blix_map_metric(map, bad + 1), "%s", what);
	cr_expect_not_null(blix_map_series(map, series - 1), "%s", what);
	cr_expect_not_null(blix_map_series(map, series + 1), "%s", what);
}

#define METRIC_DAMAGE(name, ...)                                                                   \
	static void name(struct blix_metric_desc *d)                                               \
	{                                                                                          \
		__VA_ARGS__;                                                                       \
	}

METRIC_DAMAGE(kind_zero, d->kind = 0)
METRIC_DAMAGE(kind_unknown, d->kind = 6)
METRIC_DAMAGE(too_many_keys, d->n_label_keys = 9)
METRIC_DAMAGE(nine_good_keys, {
	const char *const names[8] = {"k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"};

	for (int i = 0; i < 8; i++)
		d->label_key_ids[i] = shm_file_string(file, names[i]);
	d->n_label_keys = 9; /* the ninth would be layout_id: string 0, a name */
})
METRIC_DAMAGE(name_beyond_strings, d->name_id = file->next_string / 8)
METRIC_DAMAGE(name_beyond_table, d->name_id = BLIX_NO_ID)
METRIC_DAMAGE(name_overflows, d->name_id = UINT32_MAX / 8 + 1)
METRIC_DAMAGE(name_empty, d->name_id = shm_file_string(file, ""))
METRIC_DAMAGE(name_with_digit_first, d->name_id = shm_file_string(file, "0bad"))
METRIC_DAMAGE(name_with_blank, d->name_id = shm_file_string(file, "b ad"))
METRIC_DAMAGE(name_not_ascii, d->name_id = shm_file_string(file, "b\xc3\xa9"))
METRIC_DAMAGE(name_taken, d->name_id = metric_desc(0)->name_id)
METRIC_DAMAGE(name_is_a_bucket_of_another, d->name_id = shm_file_string(file, "before"))
METRIC_DAMAGE(slot_taken, d->slot = metric_desc(0)->slot)
METRIC_DAMAGE(slot_beyond, d->slot = 1 << 16)
METRIC_DAMAGE(help_not_utf8, d->help_id = shm_file_string(file, "\xff"))
METRIC_DAMAGE(unit_beyond, d->unit_id = 1 << 20)
METRIC_DAMAGE(key_twice, d->label_key_ids[1] = d->label_key_ids[0])
METRIC_DAMAGE(key_reserved, d->label_key_ids[1] = shm_file_string(file, "le"))
METRIC_DAMAGE(key_internal, d->label_key_ids[1] = shm_file_string(file, "__name__"))
METRIC_DAMAGE(key_of_overflow, d->label_key_ids[0] = shm_file_string(file, "otel_metric_overflow"))
METRIC_DAMAGE(key_no_name, d->label_key_ids[0] = shm_file_string(file, "a-b"))
METRIC_DAMAGE(layout_beyond, d->layout_id = 2)
METRIC_DAMAGE(layout_none, d->layout_id = BLIX_NO_ID)
METRIC_DAMAGE(overflow_beyond, d->overflow_series = 256)
METRIC_DAMAGE(exponential_gauge, (d->kind = BLIX_GAUGE, d->flags = BLIX_METRIC_EXPONENTIAL))

Test(registry, malformed_metric_is_skipped_with_its_series_and_nothing_else)
{
#define TRY(damage) expect_metric_rejected(damage, #damage)
	TRY(kind_zero);
	TRY(kind_unknown);
	TRY(too_many_keys);
	TRY(nine_good_keys);
	TRY(name_beyond_strings);
	TRY(name_beyond_table);
	TRY(name_overflows);
	TRY(name_empty);
	TRY(name_with_digit_first);
	TRY(name_with_blank);
	TRY(name_not_ascii);
	TRY(name_taken);
	TRY(name_is_a_bucket_of_another);
	TRY(slot_taken);
	TRY(slot_beyond);
	TRY(help_not_utf8);
	TRY(unit_beyond);
	TRY(key_twice);
	TRY(key_reserved);
	TRY(key_internal);
	TRY(key_of_overflow);
	TRY(key_no_name);
	TRY(layout_beyond);
	TRY(layout_none);
	TRY(overflow_beyond);
	TRY(exponential_gauge);
#undef TRY
}

Test(registry, layouts_must_ascend_and_fit)
{
	uint32_t m = add_metric("a", BLIX_HISTOGRAM);
	uint32_t other = shm_file_metric(
		file, &(struct shm_file_metric){
			      .name = "b", .kind = BLIX_HISTOGRAM, .bounds = {5}, .n_bounds = 1});

	open_map();
	cr_expect_not_null(blix_map_metric(map, m));
	file->layouts[0].bounds[2] = file->layouts[0].bounds[1];
	open_map();
	cr_expect_null(blix_map_metric(map, m));
	cr_expect_not_null(blix_map_metric(map, other));
	file->layouts[0].bounds[2] = 30;
	file->layouts[0].n_bounds = 25;
	open_map();
	cr_expect_null(blix_map_metric(map, m));
	cr_expect_eq(blix_map_rejected(map), 2, "layout and metric");
	file->layouts[0].n_bounds = 24;
	for (uint32_t i = 0; i < 24; i++)
		file->layouts[0].bounds[i] = i;
	open_map();
	cr_expect_not_null(blix_map_metric(map, m));
	file->layouts[0].rsv_tail[0] = 99; /* would ascend */
	file->layouts[0].n_bounds = 25;
	open_map();
	cr_expect_null(blix_map_metric(map, m));
}

static uint32_t sample_names_clash(const char *first, enum blix_kind first_kind, const char *second,
				   enum blix_kind second_kind)
{
	uint32_t b;

	file = shm_file_free(file);
	file = shm_file_new(path, NULL);
	add_metric(first, first_kind);
	b = add_metric(second, second_kind);
	open_map();
	cr_expect_not_null(blix_map_metric(map, 0));
	return blix_map_metric(map, b) == NULL;
}

Test(registry, metrics_whose_samples_would_share_a_name_are_one_too_many)
{
	cr_expect(sample_names_clash("a", BLIX_HISTOGRAM, "a_count", BLIX_GAUGE));
	cr_expect(sample_names_clash("a", BLIX_HISTOGRAM, "a_sum", BLIX_GAUGE));
	cr_expect(sample_names_clash("a_bucket", BLIX_GAUGE, "a", BLIX_HISTOGRAM));
	cr_expect(sample_names_clash("a_total", BLIX_COUNTER, "a", BLIX_GAUGE));
	cr_expect_not(sample_names_clash("a_total", BLIX_GAUGE, "a", BLIX_GAUGE));
	cr_expect_not(sample_names_clash("a", BLIX_GAUGE, "a_count", BLIX_GAUGE));
	cr_expect_not(sample_names_clash("total", BLIX_COUNTER, "_total", BLIX_COUNTER));
}

Test(registry, longest_name_and_text_are_accepted_and_longer_ones_are_not)
{
	char text[1026];
	uint32_t m;

	memset(text, 'n', sizeof(text));
	text[200] = '\0';
	m = add_metric(text, BLIX_GAUGE);
	text[200] = 'n';
	text[201] = '\0';
	add_metric(text, BLIX_GAUGE);
	text[201] = 'n';
	text[1024] = '\0';
	metric_desc(m)->help_id = shm_file_string(file, text);
	open_map();
	cr_expect_not_null(blix_map_metric(map, m));
	cr_expect_null(blix_map_metric(map, m + 1));
	cr_expect_eq(strlen(blix_map_metric(map, m)->help), 1024);
	text[1024] = 'n';
	text[1025] = '\0';
	metric_desc(m)->help_id = shm_file_string(file, text);
	open_map();
	cr_expect_null(blix_map_metric(map, m));
}

/* ---- what is not: series ------------------------------------------------------------------ */

enum { FIRST = 0, BAD = 1, LAST = 2 };

/* Three series of one metric; `damage` spoils the middle one. The others stay. */
static void expect_series_rejected(enum blix_kind kind, void (*damage)(struct blix_series_desc *d),
				   const char *what)
{
	uint32_t m;

	file = shm_file_free(file);
	file = shm_file_new(path, NULL);
	m = shm_file_metric(file, &(struct shm_file_metric){.name = "x_total",
							    .kind = kind,
							    .keys = {"k"},
							    .bounds = {1, 2},
							    .n_bounds = 2});
	shm_file_series(file, m, "first");
	shm_file_series(file, m, "bad");
	shm_file_series(file, m, "last");
	open_map();
	cr_expect_eq(blix_map_rejected(map), 0, "%s: good before the damage", what);
	damage(&file->series[BAD]);
	open_map();
	cr_expect_eq(blix_map_rejected(map), 1, "%s", what);
	cr_expect_not_null(blix_map_series(map, FIRST), "%s", what);
	cr_expect_null(blix_map_series(map, BAD), "%s", what);
	cr_expect_not_null(blix_map_series(map, LAST), "%s", what);
}

#define SERIES_DAMAGE(name, ...)                                                                   \
	static void name(struct blix_series_desc *d)                                               \
	{                                                                                          \
		__VA_ARGS__;                                                                       \
	}

SERIES_DAMAGE(metric_beyond, d->metric = 1)
SERIES_DAMAGE(metric_none, d->metric = BLIX_NO_ID)
SERIES_DAMAGE(cell_beyond, d->first_cell = file->view.lane.n_cells)
SERIES_DAMAGE(cells_reach_beyond, d->first_cell = file->view.lane.n_cells - 3)
SERIES_DAMAGE(cell_overflows, d->first_cell = UINT32_MAX)
SERIES_DAMAGE(no_cells, d->n_cells = 0)
SERIES_DAMAGE(cells_of_another, d->first_cell = file->series[FIRST].first_cell)
SERIES_DAMAGE(last_cell_of_another, d->first_cell -= 1)
SERIES_DAMAGE(gauge_beyond, d->gauge_idx = 64)
SERIES_DAMAGE(gauge_of_another, d->gauge_idx = file->series[FIRST].gauge_idx)
SERIES_DAMAGE(exemplar_beyond, d->exemplar_idx = 64)
SERIES_DAMAGE(exemplars_reach_beyond, d->exemplar_idx = 62)
SERIES_DAMAGE(exemplar_of_another, d->exemplar_idx = file->series[FIRST].exemplar_idx)
SERIES_DAMAGE(values_of_another, d->label_val_ids[0] = file->series[FIRST].label_val_ids[0])
SERIES_DAMAGE(value_none, d->label_val_ids[0] = BLIX_NO_ID)
SERIES_DAMAGE(value_beyond, d->label_val_ids[0] = file->next_string / 8)

static uint8_t *string_at(uint32_t id)
{
	return file->view.base + file->view.strings_off + (uint64_t)id * 8;
}

SERIES_DAMAGE(value_with_nul, string_at(d->label_val_ids[0])[3] = '\0')
SERIES_DAMAGE(value_reaches_beyond_strings, {
	d->label_val_ids[0] = shm_file_string(file, "the last one");
	memset(string_at(d->label_val_ids[0] + 2), 'x', 64); /* text, but not published */
	string_at(d->label_val_ids[0])[0] = 40;
	memset(string_at(d->label_val_ids[0]) + 14, 'x', 2);
})
SERIES_DAMAGE(value_reaches_beyond_section, {
	d->label_val_ids[0] = (uint32_t)file->view.strings_len / 8 - 1;
	memset(string_at(d->label_val_ids[0]) + 2, 'x', 14); /* text, but of the next section */
	string_at(d->label_val_ids[0])[0] = 7;
	blix_view_header(&file->view)->reg_strings_len = UINT32_MAX;
})
SERIES_DAMAGE(value_not_utf8, d->label_val_ids[0] = shm_file_string(file, "\xc0\x80"))

Test(registry, malformed_series_is_skipped_and_nothing_else)
{
#define TRY(kind, damage) expect_series_rejected(kind, damage, #damage)
	TRY(BLIX_COUNTER, metric_beyond);
	TRY(BLIX_COUNTER, metric_none);
	TRY(BLIX_COUNTER, cell_beyond);
	TRY(BLIX_HISTOGRAM, cells_reach_beyond);
	TRY(BLIX_HISTOGRAM, cell_overflows);
	TRY(BLIX_COUNTER, no_cells);
	TRY(BLIX_COUNTER, cells_of_another);
	TRY(BLIX_HISTOGRAM, last_cell_of_another);
	TRY(BLIX_GAUGE, gauge_beyond);
	TRY(BLIX_GAUGE_F64, gauge_of_another);
	TRY(BLIX_COUNTER, exemplar_beyond);
	TRY(BLIX_HISTOGRAM, exemplars_reach_beyond);
	TRY(BLIX_COUNTER, exemplar_of_another);
	TRY(BLIX_UPDOWN, values_of_another);
	TRY(BLIX_UPDOWN, value_none);
	TRY(BLIX_GAUGE, value_beyond);
	TRY(BLIX_GAUGE, value_not_utf8);
	TRY(BLIX_GAUGE, value_with_nul);
	TRY(BLIX_GAUGE, value_reaches_beyond_strings);
	TRY(BLIX_GAUGE, value_reaches_beyond_section);
#undef TRY
}

Test(registry, same_values_under_another_id_are_still_a_duplicate)
{
	uint32_t m = shm_file_metric(file, &(struct shm_file_metric){.name = "a_total",
								     .kind = BLIX_COUNTER,
								     .keys = {"k", "l"}});
	uint8_t *text;

	shm_file_series(file, m, "ab", "c");
	shm_file_series(file, m, "aX", "c");
	shm_file_series(file, m, "a", "bc"); /* joined the same, but not the same */
	text = file->view.base + file->view.strings_off + file->series[1].label_val_ids[0] * 8 + 2;
	text[1] = 'b';
	open_map();
	cr_expect_not_null(blix_map_series(map, 0));
	cr_expect_null(blix_map_series(map, 1));
	cr_expect_not_null(blix_map_series(map, 2));
}

Test(registry, only_one_overflow_series_of_a_metric)
{
	uint32_t m = shm_file_metric(
		file,
		&(struct shm_file_metric){.name = "a_total", .kind = BLIX_COUNTER, .keys = {"k"}});

	shm_file_overflow(file, m);
	shm_file_overflow(file, m);
	shm_file_series(file, m, "");
	open_map();
	cr_expect_not_null(blix_map_series(map, 0));
	cr_expect_null(blix_map_series(map, 1));
	cr_expect_not_null(blix_map_series(map, 2), "empty values are not the overflow");
}

Test(registry, descriptor_that_claims_too_much_takes_nothing_from_others)
{
	uint32_t m = shm_file_metric(
		file,
		&(struct shm_file_metric){.name = "a_total", .kind = BLIX_COUNTER, .keys = {"k"}});

	shm_file_series(file, m, "greedy");
	shm_file_series(file, m, "good");
	file->series[0].n_cells = UINT32_MAX;
	file->series[0].n_exemplars = UINT32_MAX;
	open_map();
	cr_expect_eq(blix_map_rejected(map), 0);
	cr_expect_eq(blix_map_series(map, 0)->n_cells, 1);
	cr_expect_eq(blix_map_series(map, 0)->n_exemplars, 1);
	cr_expect_not_null(blix_map_series(map, 1));
}

Test(registry, malformed_news_are_reported_once_a_batch)
{
	uint32_t m = shm_file_metric(
		file,
		&(struct shm_file_metric){.name = "a_total", .kind = BLIX_COUNTER, .keys = {"k"}});

	open_map();
	shm_file_series(file, m, "same");
	file->series[0].metric = 9;
	shm_file_series(file, m, "other");
	cr_expect_eq(blix_map_refresh(map), -EPROTO);
	cr_expect_eq(blix_map_rejected(map), 1);
	cr_expect_null(blix_map_series(map, 0));
	cr_expect_not_null(blix_map_series(map, 1));
	cr_expect_eq(blix_map_refresh(map), 0);
	cr_expect_eq(blix_map_rejected(map), 1);
}

Test(registry, counts_that_shrink_or_pass_the_table_change_nothing)
{
	struct blix_header *h = blix_view_header(&file->view);
	uint32_t unused = shm_file_string(file, "unused");

	shm_file_plain(file, add_metric("a_total", BLIX_COUNTER));
	open_map();
	h->reg_series = 0;
	h->reg_metrics = 0;
	h->reg_layouts = 0;
	h->reg_strings_len = 0;
	cr_expect_eq(blix_map_refresh(map), 0);
	cr_expect_eq(blix_map_series_count(map), 1);
	file->metrics[1] = file->metrics[0];
	file->metrics[1].slot++;
	file->metrics[1].name_id = unused; /* published before its count shrank, read only now */
	h->reg_metrics = 2;
	cr_expect_eq(blix_map_refresh(map), 0);
	cr_expect_str_eq(blix_map_metric(map, 1)->name, "unused");
	h->reg_series = UINT32_MAX;
	h->reg_metrics = UINT32_MAX;
	h->reg_layouts = UINT32_MAX;
	h->reg_strings_len = UINT32_MAX;
	cr_expect_eq(blix_map_refresh(map), -EPROTO);
	cr_expect_eq(blix_map_series_count(map), file->view.n_series);
	cr_expect_eq(blix_map_metric_count(map), file->view.n_metrics);
	cr_expect_not_null(blix_map_series(map, 0));
}

/* Strings as long as fits in two valid characters (0x0178), one at every 8 bytes: each swallows the
 * next 47. */
static uint32_t put_overlapping_strings(void)
{
	uint8_t *strings = file->view.base + file->view.strings_off;
	uint32_t from = file->next_string / 8;

	for (uint32_t id = from; id < file->view.strings_len / 8; id++) {
		char entry[9];

		snprintf(entry, sizeof(entry), "%c%c%06u", 0x78, 0x01, id);
		memcpy(strings + id * 8, entry, 8);
	}
	blix_view_header(&file->view)->reg_strings_len = (uint32_t)file->view.strings_len;
	return from;
}

Test(registry, overlapping_strings_cannot_make_the_reader_hoard)
{
	uint32_t m = shm_file_metric(
		file, &(struct shm_file_metric){.name = "a", .kind = BLIX_UPDOWN, .keys = {"k"}});
	uint64_t kept = 0;
	uint32_t from;

	for (uint32_t i = 0; i < 200; i++)
		shm_file_series(file, m, "x");
	from = put_overlapping_strings();
	for (uint32_t i = 0; i < 200; i++)
		file->series[i].label_val_ids[0] = from + i;
	open_map();
	for (uint32_t i = 0; i < 200; i++) {
		const struct blix_map_series *s = blix_map_series(map, i);

		kept += s ? strlen(s->label_values[0]) + 1 : 0;
	}
	cr_expect_gt(kept, file->view.strings_len);
	cr_expect_leq(kept, 2 * file->view.strings_len, "%lu bytes", (unsigned long)kept);
	cr_expect_gt(blix_map_rejected(map), 0);
}

/* ---- other minors ------------------------------------------------------------------------- */

/* Give the elements of a section another stride; what is new in a longer one is garbage to us. */
static void restride(uint32_t type, uint32_t stride, uint32_t used)
{
	struct blix_toc *toc = shm_file_toc(file, type);
	uint8_t *base = file->view.base + toc->off;
	uint8_t *copy = malloc(toc->len);
	uint32_t keep = stride < toc->stride ? stride : toc->stride;

	cr_assert_not_null(copy);
	cr_assert_leq((uint64_t)used * stride, toc->len);
	memcpy(copy, base, toc->len);
	memset(base, 0xee, toc->len);
	for (uint32_t i = 0; i < used; i++)
		memcpy(base + (uint64_t)i * stride, copy + (uint64_t)i * toc->stride, keep);
	free(copy);
	toc->stride = stride;
	toc->count = (uint32_t)(toc->len / stride);
}

static void restride_toc(uint32_t stride)
{
	struct blix_header *h = blix_view_header(&file->view);
	uint8_t *base = file->view.base + h->toc_off;
	uint8_t copy[2048];

	memcpy(copy, base, h->toc_count * h->toc_stride);
	memset(base, 0xee, sizeof(copy));
	for (uint32_t i = 0; i < h->toc_count; i++)
		memcpy(base + i * stride, copy + i * h->toc_stride, sizeof(struct blix_toc));
	h->toc_stride = stride;
	/* Two sections of the future, one of them nowhere: skipped without a look. */
	memcpy(base + h->toc_count * stride, &(struct blix_toc){.type = 12, .off = UINT64_MAX},
	       sizeof(struct blix_toc));
	h->toc_count += 2;
	shm_file_reseal(file);
}

static void add_usual_metrics(void)
{
	uint32_t m = shm_file_metric(
		file,
		&(struct shm_file_metric){.name = "a_total", .kind = BLIX_COUNTER, .keys = {"k"}});
	uint32_t h = add_metric("b", BLIX_HISTOGRAM);

	shm_file_add(file, shm_file_series(file, m, "one"), 0, 1);
	shm_file_add(file, shm_file_series(file, m, "two"), 1, 2);
	shm_file_observe(file, shm_file_plain(file, h), 1, 25);
}

static void expect_usual_metrics(void)
{
	uint64_t sums[8];

	open_map();
	cr_expect_eq(blix_map_rejected(map), 0);
	cr_assert_eq(blix_map_metric_count(map), 2);
	cr_assert_eq(blix_map_series_count(map), 3);
	cr_assert_not_null(blix_map_metric(map, 1));
	cr_expect_str_eq(blix_map_metric(map, 1)->name, "b");
	cr_expect_eq(blix_map_metric(map, 1)->layout->bounds[2], 30);
	cr_assert_not_null(blix_map_series(map, 1));
	cr_expect_str_eq(blix_map_series(map, 1)->label_values[0], "two");
	blix_map_sum_cells(map, sums, 8);
	cr_expect_eq(sums[blix_map_series(map, 0)->first_cell], 1);
	cr_expect_eq(sums[blix_map_series(map, 1)->first_cell], 2);
	cr_expect_eq(sums[blix_map_series(map, 2)->first_cell + 2], 1);
	cr_expect_eq(sums[blix_map_series(map, 2)->first_cell + 4], 25);
}

Test(registry, file_of_a_newer_minor_gives_what_is_known)
{
	add_usual_metrics();
	blix_view_header(&file->view)->abi_minor = 9;
	blix_view_header(&file->view)->compat = 0xff00ff;
	restride(BLIX_SEC_METRICS, 96, 2);
	restride(BLIX_SEC_SERIES, 200, 3);
	restride(BLIX_SEC_BUCKET_LAYOUTS, 264, 1);
	restride(BLIX_SEC_EXEMPLARS, 128, 5);
	restride_toc(80);
	expect_usual_metrics();
	cr_expect_eq(blix_map_identity(map)->abi_minor, 9);
	cr_expect_eq(blix_map_view(map)->exemplars_stride, 128);
}

Test(registry, shorter_element_has_a_tail_of_zeros)
{
	add_usual_metrics();
	restride(BLIX_SEC_SERIES, 56, 3);	  /* without flags */
	restride(BLIX_SEC_METRICS, 56, 2);	  /* without max_series, overflow_series */
	restride(BLIX_SEC_BUCKET_LAYOUTS, 32, 1); /* n_bounds and three bounds */
	expect_usual_metrics();
	cr_expect_eq(blix_map_metric(map, 1)->max_series, 0);
	cr_expect_eq(blix_map_metric(map, 1)->overflow_series, 0);
}

Test(registry, stride_0_reads_as_zeros_and_harms_nobody)
{
	add_usual_metrics();
	shm_file_toc(file, BLIX_SEC_SERIES)->stride = 0;
	open_map();
	cr_expect_eq(blix_map_series_count(map), 3);
	cr_expect_null(blix_map_series(map, 0));
	cr_expect_not_null(blix_map_metric(map, 0));
}

Test(registry, element_whose_stride_the_view_cannot_express_is_refused)
{
	const uint32_t types[] = {BLIX_SEC_GAUGES, BLIX_SEC_SLOTS0, BLIX_SEC_CONSUMER};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct blix_toc *toc = shm_file_toc(file, types[i]);
		const struct blix_toc good = *toc;

		toc->stride *= 2;
		toc->count /= 2;
		cr_expect_eq(blix_map_open(path, &(struct blix_map_options){0}, &map, reason),
			     -EPROTO, "%s", reason);
		*toc = good;
	}
}
