/* vm_runtime.h - runs the VMs that are placed on this node.
 *
 * It compares what the replicated state wants with the processes there are, and moves each VM one
 * step at a time: creates its disk, starts, watches, stops, recovers and deletes it, and reports
 * what it sees through Raft until the replicated state says the same. Loop thread only. */
#ifndef CLUSTER_VM_RUNTIME_H
#define CLUSTER_VM_RUNTIME_H

#include "test/cluster/state/fsm.h"
#include "test/cluster/raft/proposals.h"

#include <event2/event.h>

struct vm_runtime;

struct vm_runtime_setup {
	struct event_base *base; /* borrowed, like all here */
	struct proposals *proposals;
	const struct fsm *fsm;
	const char *data;    /* directory of the node; the disks of the VMs lie below it */
	struct vm_node node; /* this one, and what it has to give */
};

/* 0 or -errno. Announces the node to the cluster, and begins when it has seen that applied: by then
 * it knows everything that was decided before it was started. */
int vm_runtime_start(const struct vm_runtime_setup *setup, struct vm_runtime **ret_runtime);

/* The replicated state may have changed. */
void vm_runtime_look(struct vm_runtime *runtime);

/* Ends every VM at once; in the cluster's eyes they stay, to be recovered in the next life. Accepts
 * NULL; returns NULL. */
struct vm_runtime *vm_runtime_stop(struct vm_runtime *runtime);

#endif
