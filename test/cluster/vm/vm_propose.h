/* vm_propose.h - the one place where commands about VMs are made and submitted. Loop thread only.
 */
#ifndef CLUSTER_VM_PROPOSE_H
#define CLUSTER_VM_PROPOSE_H

#include "test/cluster/raft/proposals.h"
#include "test/cluster/state/vm_command.h"

/* Submit an operation on the VM of this name. */
void vm_propose(struct proposals *proposals, enum command_op op, const char *name,
		const union vm_value *value);

/* The same, and `done` is called with how it ended. */
void vm_propose_and_tell(struct proposals *proposals, enum command_op op, const char *name,
			 const union vm_value *value, proposal_done done, void *arg);

#endif
