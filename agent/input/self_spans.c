/* agent/input/self_spans.c - see self_spans.h. */
#include "agent/input/self_spans.h"

#include "agent/input/registration.h"

#include "shm/metric.h"

#include <string.h>

static const char *const actions[SELF_SPANS_ACTIONS] = {"drop", "hash", "mask"};
static const struct {
	const char *reason;
	size_t offset;
} problems[SELF_SPANS_PROBLEMS] = {
	{"refused", offsetof(struct records_counts, refused)},
	{"too_large", offsetof(struct records_counts, too_large)},
	{"no_memory", offsetof(struct records_counts, no_memory)},
	{"damaged", offsetof(struct records_counts, damaged)},
	{"repaired", offsetof(struct records_counts, repaired)},
	{"overwritten", offsetof(struct records_counts, overwritten)},
	{"cut", offsetof(struct records_counts, cut)},
};
static const char *const kinds[BATCH_SIGNALS] = {"span", "log"};

/* ---- families -------------------------------------------------------------------------------- */

static uint32_t series(struct registration *r, uint32_t in_family, const char *key,
		       const char *value)
{
	const struct snapshot_label label = {key, value};

	return registration_series(r, in_family, &label, key ? 1 : 0);
}

int self_spans_register(struct self_spans *self, struct snapshot *s, uint64_t start_unix_ns)
{
	struct registration r = {.s = s, .start_unix_ns = start_unix_ns};
	uint32_t f = registration_family(&r, BLIX_agent_ring_unacknowledged_items);

	for (int i = 0; i < BATCH_SIGNALS; i++)
		self->unacknowledged[i] = series(&r, f, "kind", kinds[i]);
	self->crashed =
		series(&r, registration_family(&r, BLIX_agent_spans_crashed_total), NULL, NULL);
	self->torn = series(&r, registration_family(&r, BLIX_agent_spans_torn_total), NULL, NULL);
	f = registration_family(&r, BLIX_agent_redacted_total);
	for (int i = 0; i < SELF_SPANS_ACTIONS; i++)
		self->redacted[i] = series(&r, f, "action", actions[i]);
	f = registration_family(&r, BLIX_agent_decode_problems_total);
	for (int i = 0; i < SELF_SPANS_PROBLEMS; i++)
		self->problems[i] = series(&r, f, "reason", problems[i].reason);
	self->open_family = registration_family(&r, BLIX_span_open);
	self->oldest_family = registration_family(&r, BLIX_span_open_oldest_seconds);
	self->n_names = 0;
	return r.error;
}

/* ---- values ---------------------------------------------------------------------------------- */

static bool is_other(const char *name)
{
	return strcmp(name, "other") == 0;
}

/* The place of a name, made if it is new; a full table has one place for all others. -1: none. */
static int place_of(struct self_spans *self, struct snapshot *s, const char *name)
{
	struct registration r = {.s = s};
	uint32_t n = self->n_names;

	for (uint32_t i = 0; i < n; i++)
		if (strcmp(self->names[i].name, name) == 0)
			return (int)i;
	if (n == OPEN_SPANS_NAMES_MAX + 1)
		return OPEN_SPANS_NAMES_MAX;
	if (n == OPEN_SPANS_NAMES_MAX && !is_other(name))
		return place_of(self, s, "other");
	self->names[n].open = series(&r, self->open_family, "name", name);
	self->names[n].oldest = series(&r, self->oldest_family, "name", name);
	if (r.error)
		return -1;
	strcpy(self->names[n].name, name);
	self->n_names++;
	return (int)n;
}

static void set_open(struct self_spans *self, struct snapshot *s,
		     const struct self_spans_facts *facts)
{
	uint64_t count[OPEN_SPANS_NAMES_MAX + 1] = {0}, age_ns[OPEN_SPANS_NAMES_MAX + 1] = {0};

	for (uint32_t i = 0; facts->open && i < facts->open->n_names; i++) {
		const struct open_span_name *name = &facts->open->names[i];
		int at = place_of(self, s, name->name);
		uint64_t age = facts->now_mono_ns > name->start_mono_ns
				       ? facts->now_mono_ns - name->start_mono_ns
				       : 0;

		if (at < 0)
			continue;
		count[at] += name->count;
		age_ns[at] = age > age_ns[at] ? age : age_ns[at];
	}
	/* A name that was seen stays, at zero: a gauge that vanishes cannot be alerted on. */
	for (uint32_t i = 0; i < self->n_names; i++) {
		snapshot_set_i64(s, self->names[i].open, (int64_t)count[i]);
		snapshot_set_f64(s, self->names[i].oldest, (double)age_ns[i] * 1e-9);
	}
	snapshot_hide_family(s, self->open_family, !facts->open);
	snapshot_hide_family(s, self->oldest_family, !facts->open);
}

void self_spans_collect(struct self_spans *self, struct snapshot *s,
			const struct self_spans_facts *facts)
{
	for (int i = 0; i < BATCH_SIGNALS; i++)
		snapshot_set_i64(s, self->unacknowledged[i], (int64_t)facts->unacknowledged[i]);
	snapshot_set_u64(s, self->crashed, facts->crashed);
	snapshot_set_u64(s, self->torn, facts->torn);
	for (int i = 0; i < SELF_SPANS_ACTIONS; i++)
		snapshot_set_u64(s, self->redacted[i], facts->redacted[i]);
	for (int i = 0; i < SELF_SPANS_PROBLEMS; i++) {
		uint64_t count;

		memcpy(&count, (const char *)&facts->decoding + problems[i].offset, sizeof(count));
		snapshot_set_u64(s, self->problems[i], count);
	}
	set_open(self, s, facts);
}
