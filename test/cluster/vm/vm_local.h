/* vm_local.h - one VM on this node: its process, and what is to become of it. Loop thread only. */
#ifndef CLUSTER_VM_LOCAL_H
#define CLUSTER_VM_LOCAL_H

#include "test/cluster/record/trace.h"
#include "vm_process.h"

#include <event2/event.h>
#include <limits.h>

enum vm_phase {
	PHASE_IDLE,	 /* no process */
	PHASE_PREPARING, /* its disk is being made */
	PHASE_BOOTING,	 /* until it says that it is ready */
	PHASE_UP,
	PHASE_ENDING,  /* it was told to */
	PHASE_ERASING, /* its disk is being removed */
	PHASE_GONE,    /* nothing is left of it here */
};

struct vm_local {
	struct vm_local *next;
	char name[VM_NAME_MAX + 1];
	char disk[PATH_MAX];
	struct vm_resources needs;
	uint64_t placement;

	enum vm_phase phase;
	uint64_t phase_began_ns;
	bool killed; /* in this phase */
	struct vm_process process;
	struct event *readable;

	bool created;
	bool recovering; /* it went down without being told to */
	bool gave_up;
	bool stopping;	   /* on order: `span` is about that */
	uint64_t orders;   /* that were seen */
	uint32_t failures; /* of starting or staying up, in a row */
	uint64_t next_try_ns;

	uint64_t ping; /* sequence of the last */
	uint64_t ping_sent_ns;
	bool ping_is_out;
	unsigned pings_failed; /* in a row */

	enum vm_status status;
	uint32_t restarts;
	struct trace_context context; /* of what was last wanted of it */
	blix_span span;		      /* of the operation under way, or of the last one */
	blix_span check;	      /* of the ping that is out */

	uint64_t reported_ns; /* when the status was last proposed; 0: not since it has changed */
};

/* The placement that a disk's file name belongs to; 0: not the name of a disk. */
uint64_t vm_local_placement_of(const char *file);

/* A VM that was placed on this node. NULL: no memory. What its record says is where it goes on: one
 * that had been up in an earlier life of this node is to be recovered. */
struct vm_local *vm_local_new(const struct vm *vm, const char *directory);
struct vm_local *vm_local_free(struct vm_local *local);

/* One step towards what the replicated state wants; `vm` is NULL when it is no longer placed here.
 */
void vm_local_step(struct vm_local *local, const struct vm *vm, struct event_base *base,
		   uint64_t now_ns);

/* Its process has ended with this status of waitpid(2). */
void vm_local_ended(struct vm_local *local, int status, uint64_t now_ns);

/* Does it fail its health check, or is it down though it should be up? */
bool vm_local_is_unhealthy(const struct vm_local *local, const struct vm *vm);

#endif
