/* agent/model/subset.c - no family shows more than the one it is a part of. model/ and libc only;
 * one thread at a time. See snapshot_clamp_subsets() in snapshot.h for the rule. */
#include "agent/model/snapshot_private.h"

#include <string.h>

/* Label of the series that collects what found no series of its own. Which label sets end there
 * differs between two families, so such series compare only with a total over everything. */
static const char overflow_key[] = "otel_metric_overflow";

static uint32_t find_family(const struct snapshot *s, const char *name)
{
	for (uint32_t i = 0; i < s->n_families; i++)
		if (!strcmp(s->families[i].name, name))
			return i;
	return SNAPSHOT_NONE;
}

static bool carries(const struct snapshot_series *series, const struct snapshot_label *label)
{
	for (uint32_t i = 0; i < series->n_labels; i++)
		if (!strcmp(series->labels[i].key, label->key))
			return !strcmp(series->labels[i].value, label->value);
	return false;
}

static bool extends(const struct snapshot_series *part, const struct snapshot_series *whole)
{
	for (uint32_t i = 0; i < whole->n_labels; i++)
		if (!strcmp(whole->labels[i].key, overflow_key) ||
		    !carries(part, &whole->labels[i]))
			return false;
	return true;
}

static bool comparable(const struct snapshot_family *part, const struct snapshot_family *whole)
{
	return part != whole && part->type == SNAPSHOT_COUNTER && whole->type == SNAPSHOT_COUNTER &&
	       part->number == whole->number && part->number != SNAPSHOT_F64 &&
	       part->number != SNAPSHOT_I64;
}

/* Find the parents anew where either family grew; usually there is nothing to do. */
static bool link_parents(struct snapshot *s, uint32_t family)
{
	const struct snapshot_family *part = &s->families[family], *whole;
	struct family_state *state = &s->family_states[family];

	if (state->superset == SNAPSHOT_NONE)
		state->superset = find_family(s, part->subset_of);
	if (state->superset == SNAPSHOT_NONE)
		return false;
	whole = &s->families[state->superset];
	if (!comparable(part, whole))
		return false;
	if (state->linked == part->n_series && state->linked_superset == whole->n_series)
		return true;
	for (uint32_t i = 0; i < part->n_series; i++) {
		struct series_state *link = &s->series_states[part->series[i]];

		link->parent = SNAPSHOT_NONE;
		for (uint32_t j = 0; j < whole->n_series && link->parent == SNAPSHOT_NONE; j++)
			if (extends(&s->series[part->series[i]], &s->series[whole->series[j]]))
				link->parent = whole->series[j];
	}
	state->linked = part->n_series;
	state->linked_superset = whole->n_series;
	return true;
}

static uint64_t *value_of(struct snapshot *s, uint32_t series)
{
	return &s->values[s->series[series].value];
}

/* The part of `parent` that grew most since the last clamp, or is largest if none grew. */
static uint32_t pick(struct snapshot *s, const struct snapshot_family *part, uint32_t parent,
		     uint64_t *ret_available)
{
	uint32_t grown = SNAPSHOT_NONE, largest = SNAPSHOT_NONE;
	uint64_t most_grown = 0, most = 0;

	for (uint32_t i = 0; i < part->n_series; i++) {
		uint32_t series = part->series[i];
		uint64_t value = *value_of(s, series), shown = s->series_states[series].shown;

		if (s->series_states[series].parent != parent)
			continue;
		if (value > shown && value - shown > most_grown) {
			most_grown = value - shown;
			grown = series;
		}
		if (value > most) {
			most = value;
			largest = series;
		}
	}
	*ret_available = grown == SNAPSHOT_NONE ? most : most_grown;
	return grown == SNAPSHOT_NONE ? largest : grown;
}

static void take_excess(struct snapshot *s, const struct snapshot_family *part, uint32_t parent)
{
	unsigned __int128 excess = s->series_states[parent].sum - *value_of(s, parent);

	while (excess > 0) {
		uint64_t available, taken;
		uint32_t series = pick(s, part, parent, &available);

		/* Every round empties a growth or a series, and together they hold the excess. */
		taken = available < excess ? available : (uint64_t)excess;
		*value_of(s, series) -= taken;
		excess -= taken;
	}
}

static void clamp_family(struct snapshot *s, uint32_t family)
{
	const struct snapshot_family *part = &s->families[family];
	const struct snapshot_family *whole = &s->families[s->family_states[family].superset];

	for (uint32_t i = 0; i < whole->n_series; i++)
		s->series_states[whole->series[i]].sum = 0;
	for (uint32_t i = 0; i < part->n_series; i++) {
		uint32_t parent = s->series_states[part->series[i]].parent;

		if (parent != SNAPSHOT_NONE)
			s->series_states[parent].sum += *value_of(s, part->series[i]);
	}
	for (uint32_t i = 0; i < whole->n_series; i++)
		if (s->series_states[whole->series[i]].sum > *value_of(s, whole->series[i]))
			take_excess(s, part, whole->series[i]);
	for (uint32_t i = 0; i < part->n_series; i++)
		s->series_states[part->series[i]].shown = *value_of(s, part->series[i]);
}

void snapshot_clamp_subsets(struct snapshot *s)
{
	for (uint32_t i = 0; i < s->n_families; i++)
		if (s->families[i].subset_of && link_parents(s, i))
			clamp_family(s, i);
}
