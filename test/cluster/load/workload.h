/* workload.h - which operation comes next: a seeded mix of what clients of a cluster do. The seed
 * alone decides method, target and arguments, but for VMs: an order waits until the last one of the
 * same VM has been answered, and a look at the VM takes its place. One thread. */
#ifndef LOAD_WORKLOAD_H
#define LOAD_WORKLOAD_H

#include "pace.h"
#include "proto/blixard_cluster.pb-c.h"

#include <grpc/status.h>
#include <stdbool.h>

enum { TARGETS_MAX = 16, WORKLOAD_NAME_MAX = 64, WORKLOAD_VALUE_MAX = 128 };

enum method {
	METHOD_PROPOSE_TASK,
	METHOD_SUBMIT_TASK,
	METHOD_GET_TASK_STATUS,
	METHOD_GET_CLUSTER_STATUS,
	METHOD_GET_RAFT_STATUS,
	METHOD_HEALTH_CHECK,
	METHODS,
};

struct method_info {
	const char *name;
	unsigned weight; /* in the mix */
	const ProtobufCMessageDescriptor *reply;
};

const struct method_info *workload_method(enum method method);

struct workload {
	uint64_t seed;
	unsigned n_targets;
	struct dice dice;
	unsigned weights; /* sum of all */
};

struct operation {
	enum method method;
	unsigned target;
	char name[WORKLOAD_NAME_MAX];
	uint8_t value[WORKLOAD_VALUE_MAX];
	union {
		ProtobufCMessage base;
		Blixard__ProposeTaskRequest propose_task;
		Blixard__SubmitTaskRequest submit_task;
		Blixard__GetTaskStatusRequest get_task_status;
		Blixard__GetClusterStatusRequest get_cluster_status;
		Blixard__GetRaftStatusRequest get_raft_status;
		Blixard__HealthCheckRequest health_check;
	} request;
};

struct workload workload_of(uint64_t seed, unsigned n_targets);

/* `ret_operation` points into itself: it is to be used where it is. */
void workload_next(struct workload *workload, struct operation *ret_operation);

#endif
