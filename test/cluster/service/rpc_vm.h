/* rpc_vm.h - the methods about VMs: thin, for what they do is done by the state machine, the placer
 * and the runtime of the node that holds the VM. Loop thread only. */
#ifndef CLUSTER_RPC_VM_H
#define CLUSTER_RPC_VM_H

#include "test/cluster/state/fsm.h"
#include "test/cluster/placement/placer.h"
#include "test/cluster/raft/proposals.h"

struct scheduled;

/* All are borrowed. */
struct rpc_vm {
	const struct fsm *fsm;
	struct proposals *proposals;
	struct placer *const *placer; /* it is NULL while the node stops */
	uint64_t node_id;
	struct scheduled *first; /* created, and nobody knows yet where */
	size_t n_scheduled;	 /* with those that are not yet created */
};

/* 0; -ENOSPC. `rpc` is borrowed until the server is freed. */
int rpc_vm_serve(struct rpc_vm *rpc, struct rpc_server *server);

/* Something was applied, or time has passed: answer the calls that waited for it. */
void rpc_vm_look(struct rpc_vm *rpc);

/* Let go of the calls that still wait. */
void rpc_vm_stop(struct rpc_vm *rpc);

#endif
