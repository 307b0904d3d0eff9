/* load_vms.h - what a load's clients do with VMs: create, start, stop and delete them by dice whose
 * throws are the same in every run. Loop thread only. */
#ifndef CLUSTER_LOAD_VMS_H
#define CLUSTER_LOAD_VMS_H

#include "test/cluster/state/fsm.h"
#include "test/cluster/raft/proposals.h"

struct load_vms {
	uint64_t node_id;
	uint32_t vms; /* at most, of this node's clients */
	uint64_t dice;
	uint64_t last_ns;
};

struct load_vms load_vms_of(uint64_t node_id, uint32_t vms);

/* Propose something about one of the VMs. False: it is not time, or it is fine as it is. */
bool load_vms_propose(struct load_vms *load, struct proposals *proposals, const struct fsm *fsm,
		      uint64_t now_ns);

#endif
