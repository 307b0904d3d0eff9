/* Goal: each figure of an output appears under its family with its labels, all reasons at zero from the
 * start, nothing of what does not exist, and no more than the catalogue allows.
 * Method: made-up figures, each number another one; the snapshot is read series by series. */
#include "agent/input/self_export.h"
#include "shm/metric.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct snapshot *s;
static struct self_export self;
static struct figures figures;

static void setup(void)
{
	s = snapshot_new();
	cr_assert(s);
	cr_assert_eq(self_export_register(&self, s, 1000), 0);
	figures = (struct figures){.spool_path = "", .spool_cover_s = -1};
}

static void teardown(void)
{
	snapshot_free(s);
}

TestSuite(self_export, .init = setup, .fini = teardown);

static void add_pipe(const char *exporter, const char *signal, uint64_t base)
{
	struct figures_pipe *p = &figures.pipes[figures.n++];

	*p = (struct figures_pipe){
		.exporter = exporter,
		.signal = signal,
		.sent = base + 1,
		.rejected = base + 2,
		.requests = base + 3,
		.lost_verdicts = base + 4,
		.retries = base + 5,
		.throttled_ns = base + 6,
		.last_success_unix_ns = UINT64_C(1700000000500000000),
		.waiting = base + 7,
		.capacity = base + 8,
		.spool_items = base + 9,
		.spool_bytes = base + 10,
		.spool_oldest_unix_ns = UINT64_C(1600000000250000000),
	};
	for (int i = 0; i < FIGURES_DROPS; i++)
		p->dropped[i] = base + 20 + (uint64_t)i;
	for (int i = 0; i < FIGURES_FAILURES; i++)
		p->failures[i] = base + 40 + (uint64_t)i;
}

static const struct snapshot_family *family_of(const char *name, uint32_t *ret_index)
{
	for (uint32_t f = 0; f < snapshot_family_count(s); f++)
		if (strcmp(snapshot_family_at(s, f)->name, name) == 0) {
			*ret_index = f;
			return snapshot_family_at(s, f);
		}
	return NULL;
}

/* The shown series whose label values are these; NULL: none. */
static const struct snapshot_series *shown(const char *family_name, const char *exporter,
					   const char *signal, const char *third)
{
	const char *const wanted[3] = {exporter, signal, third};
	uint32_t index = 0, n = third ? 3 : exporter ? 2 : 0;
	const struct snapshot_family *family = family_of(family_name, &index);

	cr_assert(family, "%s", family_name);
	for (uint32_t i = 0; i < family->n_series; i++) {
		const struct snapshot_series *x = snapshot_family_series(s, index, i);
		bool same = x->n_labels == n && !x->hidden;

		for (uint32_t k = 0; same && k < n; k++)
			same = strcmp(x->labels[k].value, wanted[k]) == 0;
		if (same)
			return x;
	}
	return NULL;
}

static uint64_t value(const char *family_name, const char *signal, const char *third)
{
	const struct snapshot_series *x = shown(family_name, signal ? "otlp" : NULL, signal, third);

	cr_assert(x, "%s %s %s", family_name, signal ? signal : "", third ? third : "");
	return *snapshot_value_at(s, x->value);
}

static double number(const char *family_name, const char *signal)
{
	uint64_t bits = value(family_name, signal, NULL);
	double d;

	memcpy(&d, &bits, sizeof(d));
	return d;
}

#define E(name) "blixard_agent_export_" name
#define P(name) "blixard_agent_spool_" name

Test(self_export, every_figure_of_a_pipe_is_shown_by_its_labels)
{
	add_pipe("otlp", "traces", 1000);
	add_pipe("otlp", "logs", 2000);
	figures.spool_used = true;
	self_export_collect(&self, s, &figures);
	cr_expect_eq(value(E("items_total"), "traces", "sent"), 1001u);
	cr_expect_eq(value(E("items_total"), "traces", "rejected"), 1002u);
	cr_expect_eq(value(E("items_total"), "logs", "sent"), 2001u);
	cr_expect_eq(value(E("requests_total"), "traces", NULL), 1003u);
	cr_expect_eq(value(E("lost_verdicts_total"), "traces", NULL), 1004u);
	cr_expect_eq(value(E("retries_total"), "traces", NULL), 1005u);
	cr_expect_eq(value(E("throttled_seconds_total"), "logs", NULL), 2006u, "ns");
	cr_expect_eq(value(E("queue_length"), "traces", NULL), 1007u);
	cr_expect_eq(value(E("queue_capacity"), "traces", NULL), 1008u);
	cr_expect_eq(value(P("items"), "traces", NULL), 1009u);
	cr_expect_eq(value(P("bytes"), "logs", NULL), 2010u);
	cr_expect_float_eq(number(E("last_success_timestamp_seconds"), "traces"), 1700000000.5,
			   1e-6);
	cr_expect_float_eq(number(P("oldest_timestamp_seconds"), "traces"), 1600000000.25, 1e-6);
	for (int i = 0; i < FIGURES_DROPS; i++)
		cr_expect_eq(value(E("dropped_items_total"), "traces", figures_drop_names[i]),
			     1020u + (unsigned int)i, "%s", figures_drop_names[i]);
	for (int i = 0; i < FIGURES_FAILURES; i++)
		cr_expect_eq(value(E("failures_total"), "logs", figures_failure_names[i]),
			     2040u + (unsigned int)i, "%s", figures_failure_names[i]);
	figures.pipes[0].sent++;
	self_export_collect(&self, s, &figures);
	cr_expect_eq(value(E("items_total"), "traces", "sent"), 1002u, "the same series again");
}

Test(self_export, without_outputs_nothing_is_shown_and_the_names_are_taken)
{
	for (int none = 0; none < 2; none++) {
		self_export_collect(&self, s, none ? NULL : &figures);
		for (uint32_t f = 0; f < snapshot_family_count(s); f++)
			for (uint32_t i = 0; i < snapshot_family_at(s, f)->n_series; i++)
				cr_expect(snapshot_family_series(s, f, i)->hidden, "%s",
					  snapshot_family_at(s, f)->name);
	}
	for (uint32_t slot = BLIX_agent_export_items_total; slot <= BLIX_agent_spool_degraded;
	     slot++) {
		const struct blix_metric *row;
		uint32_t index;

		if (blix_metric_describe(slot, &row) == 0)
			cr_expect(family_of(row->name, &index), "%s", row->name);
	}
}

Test(self_export, a_pipe_that_never_worked_shows_zeros_and_no_spool)
{
	add_pipe("otlp", "metrics", 0);
	figures.pipes[0] = (struct figures_pipe){.exporter = "otlp", .signal = "metrics"};
	self_export_collect(&self, s, &figures);
	cr_expect_eq(value(E("items_total"), "metrics", "rejected"), 0u);
	cr_expect_eq(value(E("dropped_items_total"), "metrics", "spool_full"), 0u);
	cr_expect_eq(value(E("failures_total"), "metrics", "config"), 0u);
	cr_expect_float_eq(number(E("last_success_timestamp_seconds"), "metrics"), 0, 0);
	cr_expect_null(shown(P("items"), "otlp", "metrics", NULL));
	cr_expect_null(shown(P("degraded"), NULL, NULL, NULL));
	figures.spool_used = true;
	self_export_collect(&self, s, &figures);
	cr_expect_eq(value(P("items"), "metrics", NULL), 0u);
	cr_expect_null(shown(P("oldest_timestamp_seconds"), "otlp", "metrics", NULL));
	cr_expect_eq(value(P("degraded"), NULL, NULL), 0u);
	cr_expect_null(shown(P("cover_seconds"), NULL, NULL, NULL), "it does not fill");
	figures.spool_degraded = true;
	figures.spool_cover_s = 61.5;
	self_export_collect(&self, s, &figures);
	cr_expect_eq(value(P("degraded"), NULL, NULL), 1u);
	cr_expect_float_eq(number(P("cover_seconds"), NULL), 61.5, 0);
}

Test(self_export, gauges_beyond_their_range_are_held_at_its_end)
{
	add_pipe("otlp", "traces", 0);
	figures.pipes[0].waiting = UINT64_MAX;
	self_export_collect(&self, s, &figures);
	cr_expect_eq(value(E("queue_length"), "traces", NULL), (uint64_t)INT64_MAX);
}

Test(self_export, the_catalogue_allows_for_every_pipe_there_can_be)
{
	static char names[FIGURES_PIPES_MAX][8];

	for (int i = 0; i < FIGURES_PIPES_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "p%d", i);
		add_pipe(names[i], "traces", 0);
	}
	self_export_collect(&self, s, &figures);
	cr_expect_eq(self.n_pipes, FIGURES_PIPES_MAX);
	for (int i = 0; i < FIGURES_PIPES_MAX; i++)
		cr_expect(shown(E("failures_total"), names[i], "traces", "config"));
	for (uint32_t f = 0; f < snapshot_family_count(s); f++) {
		const struct snapshot_family *family = snapshot_family_at(s, f);
		const struct blix_metric *m = blix_metric_find(family->name, strlen(family->name));

		cr_assert(m, "%s", family->name);
		cr_expect_leq(family->n_series, m->max_series, "%s", family->name);
	}
	/* One more than that is left out, and costs the others nothing. */
	figures.pipes[0].exporter = "another";
	figures.pipes[1].sent = 4711;
	self_export_collect(&self, s, &figures);
	cr_expect_null(shown(E("items_total"), "another", "traces", "sent"));
	cr_expect_eq(*snapshot_value_at(s, shown(E("items_total"), "p1", "traces", "sent")->value),
		     4711u);
}

Test(self_export, after_a_reset_the_pipes_come_back)
{
	add_pipe("otlp", "traces", 0);
	self_export_collect(&self, s, &figures);
	snapshot_reset(s);
	cr_assert_eq(self_export_register(&self, s, 2000), 0);
	cr_expect_null(shown(E("items_total"), "otlp", "traces", "sent"));
	self_export_collect(&self, s, &figures);
	cr_expect_eq(value(E("items_total"), "traces", "sent"), 1u);
}

Test(self_export, failures_never_exceed_requests)
{
	uint64_t sum = 0;

	add_pipe("otlp", "traces", 0); /* 3 requests, 255 failures */
	self_export_collect(&self, s, &figures);
	snapshot_clamp_subsets(s);
	for (int i = 0; i < FIGURES_FAILURES; i++)
		sum += value(E("failures_total"), "traces", figures_failure_names[i]);
	cr_expect_leq(sum, 3u);
}
