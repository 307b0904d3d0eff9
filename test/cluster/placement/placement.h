/* placement.h - where a VM is to live. Pure: the same question has the same answer. Any thread. */
#ifndef CLUSTER_PLACEMENT_H
#define CLUSTER_PLACEMENT_H

#include "test/cluster/vm/vm.h"

enum { PLACEMENT_VICTIMS_MAX = 8 }; /* that one VM may displace */

enum placement_result {
	PLACEMENT_OK = 0,
	PLACEMENT_NO_HEALTHY_NODE,
	PLACEMENT_NO_VCPUS,
	PLACEMENT_NO_MEMORY,
	PLACEMENT_NO_DISK,
	PLACEMENT_CONSTRAINT, /* the node it insists on is not there, or not healthy */
	PLACEMENT_RESULTS,
};

struct placement_node {
	uint64_t node_id;
	bool healthy;
	struct vm_resources capacity;
	struct vm_resources allocated;
	size_t vms;
};

struct placement_question {
	const struct placement_node *nodes; /* ascending by id */
	size_t n_nodes;
	const struct vm *vms; /* all, placed or not: who could make room */
	size_t n_vms;
	const struct vm_request *request;
	uint64_t last_node; /* that round robin chose */
	uint64_t not_node;  /* that it is to leave; 0: none */
};

struct placement_answer {
	enum placement_result result;
	uint64_t node_id;
	const struct vm *victims[PLACEMENT_VICTIMS_MAX]; /* have to go first */
	size_t n_victims;
};

/* A node with room, by the strategy; without one, the node where the least has to make room. When
 * there is none either: what most healthy nodes lack. */
struct placement_answer placement_decide(const struct placement_question *question);

/* As metric labels spell it; of PLACEMENT_OK "". */
const char *placement_result_name(enum placement_result result);

#endif
