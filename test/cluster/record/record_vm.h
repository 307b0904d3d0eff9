/* record_vm.h - what the node tells the world about VMs, named for what happened: record.h's rules.
 *
 * Operations on VMs are counted by the node that carries them out, decisions by the leader that
 * makes them. A recovery is not a start: nobody has ordered it. Loop thread only. */
#ifndef CLUSTER_RECORD_VM_H
#define CLUSTER_RECORD_VM_H

#include "test/cluster/placement/placement.h"
#include "test/cluster/vm/vm.h"

enum vm_operation { VM_OP_CREATE, VM_OP_START, VM_OP_STOP, VM_OP_DELETE, VM_OPS };

/* Once, from record_open(). */
void record_vm_open(void);

void record_vm_begun(enum vm_operation op);
void record_vm_failed(enum vm_operation op);

/* A create or start has succeeded. */
void record_vm_took(enum vm_operation op, uint64_t duration_ns);

void record_vm_checked(bool passed);
void record_vm_status_changed(void);
void record_vm_recovery_begun(void);
void record_vm_recovery_failed(void);

/* On this node, now. */
void record_vms(size_t placed, size_t running, size_t unhealthy);
void record_capacity(const struct vm_resources *capacity, const struct vm_resources *allocated);

/* A decision was made; PLACEMENT_OK: it found a node. */
void record_placement(enum vm_strategy strategy, enum placement_result result,
		      uint64_t duration_ns);
void record_placement_pending(size_t waiting);
void record_preempted(void);

/* A command about a VM that this node submitted changed nothing: `error` as of vms_apply(). */
void record_vm_refused(int error);

#endif
