/* agent/input/node_shm.h - the registry of a node's file as families, and its cells as values.
 *
 * Names, help, units and bounds come from the file, so an older or newer node is shown as it
 * describes itself; the seed guide's aliases and the subset relation come from this build's
 * catalogue, by name. A name that belongs to the host's or the agent's families is refused.
 *
 * Values are read into private memory first. Only when the whole round turned out to be good do
 * they go into the snapshot, so a file that is truncated meanwhile leaves the last values alone.
 *
 * Thread rule: the loop thread. Includes: model/, shm/, libc. */
#ifndef BLIX_AGENT_INPUT_NODE_SHM_H
#define BLIX_AGENT_INPUT_NODE_SHM_H

#include "agent/model/snapshot.h"
#include "shm/map.h"

struct node_shm;

/* For one attached file: counters start from 0 with it. All arguments are borrowed until
 * node_shm_free(); the snapshot may already hold other families. NULL: no memory. */
struct node_shm *node_shm_new(struct blix_map *map, struct snapshot *snapshot,
			      bool native_histograms);
struct node_shm *node_shm_free(struct node_shm *n); /* accepts NULL, returns NULL */

/* Take up what the file has registered since the last call and read every value.
 * 0; -ENODATA: the file was truncated or is poisoned: nothing was changed; -ENOMEM: the same. */
int node_shm_collect(struct node_shm *n);

/* Gauges say nothing once their node is gone. */
void node_shm_hide_gauges(struct node_shm *n, bool hidden);

struct node_shm_counts {
	uint32_t metrics; /* shown */
	uint32_t series;
	uint64_t refused;     /* metrics and series that could not be shown */
	uint64_t regressions; /* counters that fell; shown with the last value before */
};
struct node_shm_counts node_shm_counts(const struct node_shm *n);

#endif
