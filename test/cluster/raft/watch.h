/* watch.h - looks at Raft after each of its steps and records what has changed. Loop thread
 * only. */
#ifndef CLUSTER_WATCH_H
#define CLUSTER_WATCH_H

#include "test/cluster/record/trace.h"

#include <raft.h>
#include <stdbool.h>
#include <stdint.h>

struct transport;

struct watch {
	const struct raft *raft;
	struct transport *transport;
	uint64_t node_id;
	raft_index committed;
	raft_index applied;
	raft_term term;
	raft_id leader; /* the last one known, with its term */
	raft_term leader_term;
	raft_index configuration; /* what tells one configuration from the next */
	raft_index uncommitted;
	unsigned members;
	bool restored;
	bool started;
	blix_span election; /* this node stands for one */
};

/* After raft_start(): what was on disk is not counted as committed or applied by this process. */
void watch_init(struct watch *watch, struct raft *raft, struct transport *transport);

/* After each step of Raft. */
void watch_raft(struct watch *watch);

/* A snapshot was restored: the entries it stands for were not applied one by one. */
void watch_restored(struct watch *watch);

/* Now and then. */
void watch_peers(const struct watch *watch);

#endif
