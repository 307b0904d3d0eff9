/* agent/input/self_export.h - the families about what leaves the host: the agent's outputs.
 *
 * The families are there from the start, so that no metric of a node can take their names; their series
 * appear with the pipe they are about, all reasons at once and at zero, so that a rate sees the first fault.
 * One agent has one set of outputs: each of its nodes' pages shows the same figures.
 *
 * Thread rule: the loop thread. Includes: model/, shm/metric.h, libc. */
#ifndef BLIX_AGENT_INPUT_SELF_EXPORT_H
#define BLIX_AGENT_INPUT_SELF_EXPORT_H

#include "agent/model/figures.h"
#include "agent/model/snapshot.h"

enum {
	SELF_EXPORT_RESULTS = 2, /* sent, rejected */
	SELF_EXPORT_VALUES = 10, /* one series a pipe: see the table in self_export.c */
};

/* Of one pipe. */
struct self_export_pipe {
	const char *exporter, *signal; /* static */
	bool failed;		       /* its series did not fit: it is left out */
	uint32_t results[SELF_EXPORT_RESULTS];
	uint32_t dropped[FIGURES_DROPS];
	uint32_t failures[FIGURES_FAILURES];
	uint32_t values[SELF_EXPORT_VALUES];
};

struct self_export {
	uint32_t results, dropped, failures, values[SELF_EXPORT_VALUES]; /* families */
	uint32_t cover, degraded;					 /* series */
	uint32_t n_pipes;
	struct self_export_pipe pipes[FIGURES_PIPES_MAX];
};

/* Add the families to a snapshot that does not have them; pipes seen before are forgotten.
 * 0; errors of snapshot_family(). */
int self_export_register(struct self_export *self, struct snapshot *s, uint64_t start_unix_ns);

/* Set the values. NULL: nothing leaves the host, and nothing is shown. */
void self_export_collect(struct self_export *self, struct snapshot *s,
			 const struct figures *figures);

#endif
