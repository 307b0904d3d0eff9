/* fsm.h - the state machine: applies committed commands to the table and to the VMs. Loop
 * thread only. */
#ifndef CLUSTER_FSM_H
#define CLUSTER_FSM_H

#include "command.h"
#include "table.h"
#include "vms.h"

#include <raft.h>
#include <stdbool.h>

struct fsm_events {
	/* `result`: 0, or why it changed nothing: the same on every node. */
	void (*applied)(void *arg, const struct command *command, int result);
	void (*restored)(void *arg); /* a snapshot took the place of everything before */
	void *arg;
};

struct fsm {
	struct raft_fsm raft; /* hand this to raft_init() */
	struct table *table;
	struct vms *vms;
	struct fsm_events events;
	/* Set before raft_start(): entries up to that index are those of an earlier life. */
	const struct raft *of;
	uint64_t loaded_index;
};

/* 0 or -ENOMEM. */
int fsm_init(struct fsm *fsm, const struct fsm_events *events);
void fsm_done(struct fsm *fsm);

/* Read a VM, or a row of the table, as a client of this node would. NULL: no such. */
const struct vm *fsm_read_vm(const struct fsm *fsm, const char *name, size_t len);
const struct row *fsm_read(const struct fsm *fsm, const char *key, size_t key_len);

#endif
