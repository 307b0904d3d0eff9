/* vm.h - what is known of a VM and of a node that can hold VMs. Plain data, any thread.
 *
 * In this cluster a "VM" is a supervised child process with limits (vm_process.h): small, but it is
 * created, started, watched, crashes and is recovered like a real one. */
#ifndef CLUSTER_VM_H
#define CLUSTER_VM_H

#include "test/cluster/limits.h"
#include "test/cluster/record/trace_context.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vm_strategy {
	VM_MOST_AVAILABLE,
	VM_LEAST_AVAILABLE,
	VM_ROUND_ROBIN,
	VM_MANUAL,
	VM_SPREAD,   /* each node is a failure domain of its own */
	VM_PRIORITY, /* apart from others that matter as much */
	VM_LOCALITY, /* near who asked: on the node that is wished for, if it has room */
	VM_COST,     /* on as few and small nodes as possible */
	VM_STRATEGIES,
};

enum vm_desired { VM_WANT_RUNNING, VM_WANT_STOPPED, VM_WANT_DELETED, VM_DESIRES };

/* As the node that holds it has seen it last. */
enum vm_status {
	VM_CREATING, /* also while it waits for a node */
	VM_STARTING,
	VM_RUNNING,
	VM_STOPPING,
	VM_STOPPED,
	VM_FAILED,
	VM_STATUSES,
};

struct vm_resources {
	uint32_t vcpus;
	uint64_t memory_bytes;
	uint64_t disk_bytes;
};

/* What a client asks for. */
struct vm_request {
	struct vm_resources needs;
	uint8_t priority; /* a higher one may take the place of a lower one */
	enum vm_strategy strategy;
	uint64_t wanted_node; /* of VM_MANUAL, and wished for by VM_LOCALITY; else 0 */
};

struct vm {
	char name[VM_NAME_MAX + 1];
	uint64_t number; /* of its creation: no two VMs ever have the same */
	struct vm_request request;
	enum vm_desired desired;
	uint64_t orders;    /* starts, stops and deletes asked for so far */
	uint64_t node_id;   /* that holds it; 0: it waits for one */
	uint64_t placement; /* number of the placement: no two ever have the same */
	enum vm_status status;
	uint32_t restarts;
	struct trace_context context; /* of the last command that wanted something of it */
};

struct vm_node {
	uint64_t node_id;
	uint64_t life; /* of the process that says so: a new one says so again */
	struct vm_resources capacity;
};

/* As metric labels and RPCs spell them. */
const char *vm_desired_name(enum vm_desired desired);
bool vm_strategy_of(const char *name, enum vm_strategy *ret_strategy); /* false: no such */
const char *vm_strategy_name(enum vm_strategy strategy);
const char *vm_status_name(enum vm_status status);

/* 1 to VM_NAME_MAX bytes of [a-zA-Z0-9._-], beginning with a letter or digit. */
bool vm_name_is_valid(const char *name, size_t len);

/* At least one vCPU and some memory, and nothing beyond what the limits allow. */
bool vm_request_is_valid(const struct vm_request *request);

bool vm_fits(const struct vm_resources *needs, const struct vm_resources *capacity,
	     const struct vm_resources *allocated);
void vm_add(struct vm_resources *sum, const struct vm_resources *more);
void vm_subtract(struct vm_resources *sum, const struct vm_resources *less);

#endif
