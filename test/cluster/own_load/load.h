/* load.h - the proposals that a node makes by itself, at a steady rate. Loop thread only. */
#ifndef CLUSTER_LOAD_H
#define CLUSTER_LOAD_H

#include "test/cluster/state/fsm.h"
#include "test/cluster/raft/proposals.h"

struct load;

/* All are borrowed. `vms`: how many VMs it keeps, at most. NULL: no memory. */
struct load *load_start(struct event_base *base, struct proposals *proposals, const struct fsm *fsm,
			uint64_t node_id, uint32_t per_second, uint32_t vms);

/* Accepts NULL; returns NULL. */
struct load *load_stop(struct load *load);

#endif
