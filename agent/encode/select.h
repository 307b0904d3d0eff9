/* agent/encode/select.h - what every metric encoder shows: so that no two formats can differ.
 *
 * Pure. Private to encode/; includes agent/model/. */
#ifndef BLIX_AGENT_ENCODE_SELECT_H
#define BLIX_AGENT_ENCODE_SELECT_H

#include "agent/encode/encode.h"

enum { SELECT_TOTAL_BYTES = 6 }; /* of "_total" */

/* A family that is hidden, or none of whose series can be seen, is not there at all. */
static inline bool select_family(const struct snapshot_view *view,
				 const struct snapshot_family *family)
{
	if (family->hidden)
		return false;
	for (uint32_t i = 0; i < family->n_series; i++)
		if (!view->series[family->series[i]].hidden)
			return true;
	return false;
}

/* "seed" replaces names where the seed guide has its own, and removes none of the others. */
static inline bool select_canonical(const struct snapshot_family *family, enum encode_names names)
{
	return names != ENCODE_NAMES_SEED || !family->alias;
}
static inline bool select_alias(const struct snapshot_family *family, enum encode_names names)
{
	return names != ENCODE_NAMES_CANONICAL && family->alias;
}

/* Whether a counter's name ends in _total. Only then can OpenMetrics call it a counter, show its
 * exemplars and say since when it counts. */
bool select_total(const struct snapshot_family *family, struct snapshot_text name);

/* Whether the i-th exemplar is to be shown: one is set, names a trace, and lies in its bucket.
 * The last is a rule of the formats, and nothing that a node writes is taken on trust. */
bool select_exemplar_checked(const struct snapshot_family *family,
			     const struct snapshot_exemplar *exemplar, uint32_t i);
static inline bool select_exemplar(const struct snapshot_view *view,
				   const struct snapshot_family *family,
				   const struct snapshot_series *series, uint32_t i)
{
	const struct snapshot_exemplar *exemplar;

	if (series->exemplar == UINT32_MAX)
		return false;
	exemplar = &view->exemplars[series->exemplar + i];
	return exemplar->set && select_exemplar_checked(family, exemplar, i);
}

/* A value's bits as the double that protobuf carries. */
double select_double(const struct snapshot_family *family, uint64_t bits);

#endif
