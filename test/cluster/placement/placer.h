/* placer.h - the leader's part in placing VMs: asks placement.h where each VM that waits is to
 * live, and proposes the answer.
 *
 * A VM that should run on a node which the leader has not heard of for failover_ms gets another
 * node, unless it was to live on that one and no other. What the lost node still runs ends as soon
 * as it hears of that: until then there may be two, for nothing here can switch a node off. Loop
 * thread only. */
#ifndef CLUSTER_PLACER_H
#define CLUSTER_PLACER_H

#include "test/cluster/state/fsm.h"
#include "placement.h"
#include "test/cluster/raft/proposals.h"

#include <event2/event.h>

struct placer;

struct placer_setup {
	struct event_base *base; /* borrowed, like all here */
	struct proposals *proposals;
	const struct fsm *fsm;
	const struct raft *raft;
	uint32_t failover_ms; /* VMs of a node that is gone for so long go elsewhere */
	/* Can this node be reached? */
	bool (*is_healthy)(void *arg, uint64_t node_id);
	void *arg;
};

/* NULL: no memory. */
struct placer *placer_start(const struct placer_setup *setup);

/* A command was applied with this result. */
void placer_applied(struct placer *placer, const struct command *command, int result);

/* The nodes as a decision would see them now. How many. */
size_t placer_nodes(const struct placer *placer, struct placement_node ret_nodes[MEMBERS_MAX]);

/* Where a VM would go if it were asked for now; counted as an attempt. */
struct placement_answer placer_ask(struct placer *placer, const struct vm_request *request);

/* The same for one that is to leave this node. */
struct placement_answer placer_ask_other(struct placer *placer, const struct vm_request *request,
					 uint64_t not_node);

/* Accepts NULL; returns NULL. */
struct placer *placer_stop(struct placer *placer);

#endif
