/* note.c - see note.h. Loop thread only. */
#include "note.h"

#include <blixard_hooks.h>

#include <string.h>

void note_node(const char *state)
{
	blix_log_event(BLIX_INFO, "node.state", "the node has changed its state",
		       BLIX_STR("node.state", state));
}

void note_leader(uint64_t node_id, uint64_t term)
{
	blix_log_event(BLIX_WARN, "raft.leader.changed", "there is a new leader",
		       BLIX_I64("raft.leader_id", (int64_t)node_id),
		       BLIX_I64("raft.term", (int64_t)term));
}

void note_peer(uint64_t node_id, bool up)
{
	if (up)
		blix_log_event(BLIX_INFO, "peer.up", "a peer answers",
			       BLIX_I64("peer.id", (int64_t)node_id));
	else
		blix_log_event(BLIX_WARN, "peer.down", "a peer does not answer",
			       BLIX_I64("peer.id", (int64_t)node_id));
}

void note_vm_status(const char *name, const char *status)
{
	bool failed = !strcmp(status, "failed");

	blix_log_event(failed ? BLIX_ERROR : BLIX_INFO, "vm.status.changed",
		       "a VM has changed its status", BLIX_STR("vm.name", name),
		       BLIX_STR("vm.status", status));
}

void note_vm_lost(const char *name, uint64_t from, uint64_t to)
{
	blix_log_event(BLIX_ERROR, "vm.node.lost", "the node of a VM is lost",
		       BLIX_STR("vm.name", name), BLIX_I64("vm.source_node", (int64_t)from),
		       BLIX_I64("vm.target_node", (int64_t)to));
}
