/* agent/input/self_export.c - see self_export.h. */
#include "agent/input/self_export.h"

#include "agent/input/registration.h"

#include "shm/metric.h"

#include <stddef.h>
#include <string.h>

static const char *const results[SELF_EXPORT_RESULTS] = {"sent", "rejected"};

/* The families of one series a pipe. */
static const struct value_spec {
	uint32_t slot;
	size_t offset; /* of a u64 in struct figures_pipe */
	bool moment;   /* ns of Unix time, shown as seconds */
	bool spooled;  /* there only where there is a spool */
	bool if_set;   /* absent while it is 0 */
} specs[SELF_EXPORT_VALUES] = {
	{BLIX_agent_export_requests_total, offsetof(struct figures_pipe, requests), false, false,
	 false},
	{BLIX_agent_export_lost_verdicts_total, offsetof(struct figures_pipe, lost_verdicts), false,
	 false, false},
	{BLIX_agent_export_retries_total, offsetof(struct figures_pipe, retries), false, false,
	 false},
	{BLIX_agent_export_throttled_seconds_total, offsetof(struct figures_pipe, throttled_ns),
	 false, false, false},
	{BLIX_agent_export_last_success_timestamp_seconds,
	 offsetof(struct figures_pipe, last_success_unix_ns), true, false, false},
	{BLIX_agent_export_queue_length, offsetof(struct figures_pipe, waiting), false, false,
	 false},
	{BLIX_agent_export_queue_capacity, offsetof(struct figures_pipe, capacity), false, false,
	 false},
	{BLIX_agent_spool_items, offsetof(struct figures_pipe, spool_items), false, true, false},
	{BLIX_agent_spool_bytes, offsetof(struct figures_pipe, spool_bytes), false, true, false},
	{BLIX_agent_spool_oldest_timestamp_seconds,
	 offsetof(struct figures_pipe, spool_oldest_unix_ns), true, true, true},
};

/* ---- families -------------------------------------------------------------------------------- */

int self_export_register(struct self_export *self, struct snapshot *s, uint64_t start_unix_ns)
{
	struct registration r = {.s = s, .start_unix_ns = start_unix_ns};

	self->results = registration_family(&r, BLIX_agent_export_items_total);
	self->dropped = registration_family(&r, BLIX_agent_export_dropped_items_total);
	self->failures = registration_family(&r, BLIX_agent_export_failures_total);
	for (int i = 0; i < SELF_EXPORT_VALUES; i++)
		self->values[i] = registration_family(&r, specs[i].slot);
	/* Without a series: nothing is sampled out here, and no credentials have an end. */
	registration_family(&r, BLIX_agent_export_sampled_out_items_total);
	registration_family(&r, BLIX_agent_export_credentials_expiry_timestamp_seconds);
	self->cover = registration_series(
		&r, registration_family(&r, BLIX_agent_spool_cover_seconds), NULL, 0);
	self->degraded = registration_series(&r, registration_family(&r, BLIX_agent_spool_degraded),
					     NULL, 0);
	self->n_pipes = 0;
	if (r.error == 0) {
		snapshot_hide_series(s, self->cover, true);
		snapshot_hide_series(s, self->degraded, true);
	}
	return r.error;
}

/* ---- a pipe's series ------------------------------------------------------------------------- */

static int register_pipe(struct self_export *self, struct snapshot *s, struct self_export_pipe *p)
{
	struct registration r = {.s = s};
	struct snapshot_label labels[3] = {{"exporter", p->exporter}, {"signal", p->signal}};

	for (int i = 0; i < SELF_EXPORT_RESULTS; i++) {
		labels[2] = (struct snapshot_label){"result", results[i]};
		p->results[i] = registration_series(&r, self->results, labels, 3);
	}
	for (int i = 0; i < FIGURES_DROPS; i++) {
		labels[2] = (struct snapshot_label){"reason", figures_drop_names[i]};
		p->dropped[i] = registration_series(&r, self->dropped, labels, 3);
	}
	for (int i = 0; i < FIGURES_FAILURES; i++) {
		labels[2] = (struct snapshot_label){"reason", figures_failure_names[i]};
		p->failures[i] = registration_series(&r, self->failures, labels, 3);
	}
	for (int i = 0; i < SELF_EXPORT_VALUES; i++)
		p->values[i] = registration_series(&r, self->values[i], labels, 2);
	return r.error;
}

/* The series of a pipe, made when it is seen first. NULL: they did not fit. */
static const struct self_export_pipe *pipe_of(struct self_export *self, struct snapshot *s,
					      const struct figures_pipe *f)
{
	struct self_export_pipe *p = self->pipes;

	for (; p < self->pipes + self->n_pipes; p++)
		if (strcmp(p->exporter, f->exporter) == 0 && strcmp(p->signal, f->signal) == 0)
			return p->failed ? NULL : p;
	if (self->n_pipes == FIGURES_PIPES_MAX)
		return NULL;
	*p = (struct self_export_pipe){.exporter = f->exporter, .signal = f->signal};
	p->failed = register_pipe(self, s, p) < 0;
	self->n_pipes++;
	return p->failed ? NULL : p;
}

/* ---- values ---------------------------------------------------------------------------------- */

static int64_t clamp_i64(uint64_t value)
{
	return value < INT64_MAX ? (int64_t)value : INT64_MAX;
}

static void set_value(struct snapshot *s, uint32_t in_series, const struct value_spec *spec,
		      const struct figures_pipe *f, bool has_spool)
{
	uint64_t value;

	memcpy(&value, (const char *)f + spec->offset, sizeof(value));
	if (spec->moment)
		snapshot_set_f64(s, in_series,
				 (double)(value / 1000000000u) +
					 (double)(value % 1000000000u) * 1e-9);
	else /* the same bits for a counter and a gauge */
		snapshot_set_i64(s, in_series, clamp_i64(value));
	snapshot_hide_series(s, in_series,
			     (spec->spooled && !has_spool) || (spec->if_set && value == 0));
}

static void set_pipe(struct snapshot *s, const struct self_export_pipe *p,
		     const struct figures_pipe *f, bool has_spool)
{
	snapshot_set_u64(s, p->results[0], f->sent);
	snapshot_set_u64(s, p->results[1], f->rejected);
	for (int i = 0; i < FIGURES_DROPS; i++)
		snapshot_set_u64(s, p->dropped[i], f->dropped[i]);
	for (int i = 0; i < FIGURES_FAILURES; i++)
		snapshot_set_u64(s, p->failures[i], f->failures[i]);
	for (int i = 0; i < SELF_EXPORT_VALUES; i++)
		set_value(s, p->values[i], &specs[i], f, has_spool);
}

void self_export_collect(struct self_export *self, struct snapshot *s,
			 const struct figures *figures)
{
	bool has_spool = figures && figures->spool_used;

	for (uint32_t i = 0; figures && i < figures->n; i++) {
		const struct self_export_pipe *p = pipe_of(self, s, &figures->pipes[i]);

		if (p)
			set_pipe(s, p, &figures->pipes[i], has_spool);
	}
	snapshot_set_f64(s, self->cover, has_spool ? figures->spool_cover_s : 0);
	snapshot_hide_series(s, self->cover, !has_spool || figures->spool_cover_s < 0);
	snapshot_set_i64(s, self->degraded, has_spool && figures->spool_degraded);
	snapshot_hide_series(s, self->degraded, !has_spool);
}
