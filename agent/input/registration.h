/* agent/input/registration.h - put rows of the catalogue into a snapshot, many at a time.
 *
 * A registration goes on after its first error and reports it at the end, so that nobody checks each row.
 * Thread rule: the snapshot's. Includes: model/, shm/metric.h. */
#ifndef BLIX_AGENT_INPUT_REGISTRATION_H
#define BLIX_AGENT_INPUT_REGISTRATION_H

#include "agent/model/snapshot.h"

struct registration {
	struct snapshot *s;
	uint64_t start_unix_ns; /* since when its counters count */
	int error;		/* the first one; 0 */
};

/* The family of a slot of metrics.def. */
static inline uint32_t registration_family(struct registration *r, uint32_t slot)
{
	const struct blix_metric *row;
	uint32_t id = 0;
	int e = blix_metric_describe(slot, &row);

	if (e == 0)
		e = snapshot_family_of(r->s, row, r->start_unix_ns, &id);
	if (r->error == 0)
		r->error = e;
	return id;
}

static inline uint32_t registration_series(struct registration *r, uint32_t family,
					   const struct snapshot_label *labels, uint32_t n_labels)
{
	uint32_t id = 0;

	if (r->error == 0)
		r->error = snapshot_series(r->s, family, labels, n_labels, false, false, &id);
	return id;
}

#endif
