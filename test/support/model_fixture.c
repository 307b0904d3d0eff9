/* test/support/model_fixture.c - models with known content. Fails by abort(): a fixture that cannot
 * be built is a fault of the test. */
#include "test/support/model_fixture.h"

#include "shm/buckets.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_RICH_VALUES = 3 };

static void must(int err)
{
	if (err)
		abort();
}

static struct snapshot *must_new(void)
{
	struct snapshot *s = snapshot_new();

	if (!s)
		abort();
	return s;
}

static uint32_t family(struct snapshot *s, struct snapshot_family spec)
{
	uint32_t f;

	must(snapshot_family(s, &spec, &f));
	return f;
}

static uint32_t series(struct snapshot *s, uint32_t f, const char *key, const char *value)
{
	const struct snapshot_label label = {key, value};
	uint32_t i;

	must(snapshot_series(s, f, &label, key ? 1 : 0, true, true, &i));
	return i;
}

static void set_exemplar(struct snapshot_exemplar *exemplar, uint64_t value, uint64_t unix_ns)
{
	*exemplar = (struct snapshot_exemplar){.set = true, .value = value, .unix_ns = unix_ns};
	memset(exemplar->trace_id, 0xab, sizeof(exemplar->trace_id));
	memset(exemplar->span_id, 0xcd, sizeof(exemplar->span_id));
}

/* ---- small ----------------------------------------------------------------------------------- */

static const uint64_t small_created = 1700000000123000000ull;

static void add_small_counters(struct snapshot *s)
{
	uint32_t n, f = family(s, (struct snapshot_family){
					  .name = "app_requests_total",
					  .alias = "requests_total",
					  .help = "Requests of \"all\" kinds \\ and\nlines.",
					  .type = SNAPSHOT_COUNTER,
					  .created_unix_ns = small_created,
				  });
	uint32_t plain = series(s, f, "path", "/a"), odd = series(s, f, "path", "q\"b\\s\nn\xffz");

	snapshot_set_u64(s, plain, 42);
	snapshot_set_u64(s, odd, UINT64_MAX);
	set_exemplar(snapshot_exemplars(s, plain, &n), 1, 1700000001500000000ull);
	f = family(s, (struct snapshot_family){
			      .name = "app_requests_failed_total",
			      .alias = "requests_failed",
			      .help = "Requests that failed.",
			      .type = SNAPSHOT_COUNTER,
			      .created_unix_ns = small_created,
		      });
	snapshot_set_u64(s, series(s, f, NULL, NULL), 7);
	f = family(s, (struct snapshot_family){
			      .name = "app_busy_seconds_total",
			      .help = "Time spent.",
			      .unit = "s",
			      .type = SNAPSHOT_COUNTER,
			      .number = SNAPSHOT_NS,
		      });
	snapshot_set_u64(s, series(s, f, "mode", "user"), 1500000000);
	snapshot_set_u64(s, series(s, f, "mode", "idle"), 1);
	snapshot_set_u64(s, series(s, f, "mode", "zero"), 0);
}

static void add_small_gauges(struct snapshot *s)
{
	uint32_t f = family(s, (struct snapshot_family){
				       .name = "app_temperature",
				       .help = "Any double.",
				       .type = SNAPSHOT_GAUGE,
				       .number = SNAPSHOT_F64,
			       });

	snapshot_set_f64(s, series(s, f, "at", "tenth"), 0.1);
	snapshot_set_f64(s, series(s, f, "at", "third"), 1.0 / 3);
	snapshot_set_f64(s, series(s, f, "at", "nan"), NAN);
	snapshot_set_f64(s, series(s, f, "at", "low"), -INFINITY);
	snapshot_set_f64(s, series(s, f, "at", "whole"), 4294967296.0);
	snapshot_set_f64(s, series(s, f, "at", "hidden"), 1);
	snapshot_hide_series(s, series(s, f, "at", "hidden"), true);
	f = family(s, (struct snapshot_family){
			      .name = "app_level",
			      .alias = "level_total",
			      .help = "An integer that may be negative.",
			      .type = SNAPSHOT_GAUGE,
			      .number = SNAPSHOT_I64,
		      });
	snapshot_set_i64(s, series(s, f, NULL, NULL), INT64_MIN);
	f = family(s, (struct snapshot_family){.name = "app_hidden", .type = SNAPSHOT_GAUGE});
	snapshot_set_u64(s, series(s, f, NULL, NULL), 1);
	snapshot_hide_family(s, f, true);
	(void)family(s, (struct snapshot_family){.name = "app_empty", .type = SNAPSHOT_GAUGE});
}

static void add_small_histogram(struct snapshot *s)
{
	const struct snapshot_bounds bounds = {.n = 3, .value = {0.005, 1, 2.5}};
	const uint64_t cells[] = {3, 0, 2, 1, 12345678901};
	uint32_t n, f = family(s, (struct snapshot_family){
					  .name = "app_wait_seconds",
					  .alias = "wait",
					  .help = "Time waited.",
					  .unit = "s",
					  .type = SNAPSHOT_HISTOGRAM,
					  .number = SNAPSHOT_NS,
					  .bounds = &bounds,
					  .created_unix_ns = small_created,
				  });
	uint32_t some = series(s, f, "op", "read"), none = series(s, f, NULL, NULL);
	struct snapshot_exemplar *exemplars = snapshot_exemplars(s, some, &n);
	uint64_t *values;

	(void)none;
	set_exemplar(&exemplars[0], 4000000, 1700000003000000000ull);
	set_exemplar(&exemplars[1], 9000000000, 1700000003000000000ull); /* not in its bucket */
	set_exemplar(&exemplars[3], 7000000000, 1700000002000000000ull);
	values = snapshot_values(s, some, &n);
	memcpy(values, cells, sizeof(cells));
	values += 5;
	values[BLIX_EXP_ZERO] = 1;
	values[BLIX_EXP_UNDER] = 1;
	values[blix_exp_cell(4000000)] = 1;
	values[blix_exp_cell(2000000000)] += 2;
	values[BLIX_EXP_OVER] = 1;
}

struct snapshot *fixture_small(void)
{
	struct snapshot *s = must_new();

	add_small_counters(s);
	add_small_gauges(s);
	add_small_histogram(s);
	return s;
}

/* ---- rich ------------------------------------------------------------------------------------ */

/* A number that differs at every call and repeats at every run. */
static uint64_t next_number(uint64_t *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return *state >> 40;
}

static void fill_histogram(struct snapshot *s, uint32_t f, uint32_t i, uint64_t *state)
{
	const struct snapshot_family *family_ = snapshot_family_at(s, f);
	uint32_t n, n_exemplars = 0;
	uint64_t *values = snapshot_values(s, i, &n);
	struct snapshot_exemplar *exemplars = snapshot_exemplars(s, i, &n_exemplars);

	for (uint32_t round = 0; round < 40; round++) {
		/* Spread over all magnitudes: 0 .. 2^49 ns, that is past the last bound. */
		uint64_t ns = next_number(state) << 26 >> (next_number(state) % 64);
		uint32_t bucket = 0;

		while (bucket < family_->bounds->n &&
		       (double)ns / 1e9 > family_->bounds->value[bucket])
			bucket++;
		values[bucket]++;
		values[family_->bounds->n + 1] += ns;
		values[family_->bounds->n + 2 + blix_exp_cell(ns)]++;
		set_exemplar(&exemplars[bucket], ns, 1700000000000000000ull + ns);
	}
}

static void fill_value(struct snapshot *s, uint32_t f, uint32_t i, uint64_t *state)
{
	const struct snapshot_family *family_ = snapshot_family_at(s, f);
	uint32_t n;

	switch (family_->number) {
	case SNAPSHOT_U64:
		snapshot_set_u64(s, i, next_number(state) * 3);
		break;
	case SNAPSHOT_I64:
		snapshot_set_i64(s, i, (int64_t)next_number(state) - (1 << 23));
		break;
	case SNAPSHOT_F64:
		snapshot_set_f64(s, i, (double)next_number(state) / 1000.0);
		break;
	case SNAPSHOT_NS:
		snapshot_set_u64(s, i, next_number(state) * 1000003);
		break;
	}
	if (family_->type == SNAPSHOT_COUNTER)
		set_exemplar(snapshot_exemplars(s, i, &n), 1, 1700000000000000000ull + i);
}

static void fill(struct snapshot *s, uint32_t f, const struct snapshot_label *labels,
		 uint32_t n_labels, uint64_t *state)
{
	uint32_t i;

	must(snapshot_series(s, f, labels, n_labels, true, true, &i));
	if (snapshot_family_at(s, f)->type == SNAPSHOT_HISTOGRAM)
		fill_histogram(s, f, i, state);
	else
		fill_value(s, f, i, state);
}

/* Series for a row with keys that have no values from the start. */
static void fill_invented(struct snapshot *s, uint32_t f, const struct blix_labels *row,
			  uint64_t *state)
{
	static const char *const values[N_RICH_VALUES] = {"1", "a \"b\" \\ \n c", "\xc3\xa9"};
	struct snapshot_label labels[BLIX_LABELS_MAX];
	char keys[BLIX_LABELS_MAX][64];

	for (uint32_t v = 0; v < N_RICH_VALUES; v++) {
		for (uint32_t k = 0; k < row->n_keys; k++) {
			(void)snprintf(keys[k], sizeof(keys[k]), "%.*s", (int)row->key_lens[k],
				       row->keys[k]);
			labels[k] = (struct snapshot_label){keys[k], values[v]};
		}
		fill(s, f, labels, row->n_keys, state);
	}
}

static uint32_t fill_initial(struct snapshot *s, uint32_t f, struct blix_labels *row,
			     uint64_t *state)
{
	struct snapshot_label labels[BLIX_LABELS_MAX];
	char text[BLIX_LABELS_MAX][2][64];
	uint32_t n = 0;

	while (blix_labels_next(row)) {
		for (uint32_t k = 0; k < row->n_keys; k++) {
			(void)snprintf(text[k][0], sizeof(text[k][0]), "%.*s",
				       (int)row->key_lens[k], row->keys[k]);
			(void)snprintf(text[k][1], sizeof(text[k][1]), "%.*s",
				       (int)row->value_lens[k], row->values[k]);
			labels[k] = (struct snapshot_label){text[k][0], text[k][1]};
		}
		fill(s, f, labels, row->n_keys, state);
		n++;
	}
	return n;
}

struct snapshot *fixture_rich(void)
{
	struct snapshot *s = must_new();
	const struct blix_metric *metric = NULL;
	uint64_t state = 1;

	while ((metric = blix_metric_next(metric))) {
		struct blix_labels row;
		uint32_t f;

		must(snapshot_family_of(s, metric, 1699999999000000001ull, &f));
		blix_labels_begin(&row, metric->labels);
		if (!fill_initial(s, f, &row, &state))
			fill_invented(s, f, &row, &state);
	}
	return s;
}
