/* workload.c - see workload.h. */
#include "workload.h"

#include <inttypes.h>
#include <stdio.h>

/* Few enough that keys and tasks of many runs with different seeds fit into a node's table. */
enum { KEYS = 500, TASKS = 500, DELETE_PERCENT = 10 };

static const struct method_info methods[METHODS] = {
	[METHOD_PROPOSE_TASK] = {"ProposeTask", 40, &blixard__propose_task_reply__descriptor},
	[METHOD_SUBMIT_TASK] = {"SubmitTask", 10, &blixard__submit_task_reply__descriptor},
	[METHOD_GET_TASK_STATUS] = {"GetTaskStatus", 20,
				    &blixard__get_task_status_reply__descriptor},
	[METHOD_GET_CLUSTER_STATUS] = {"GetClusterStatus", 10,
				       &blixard__get_cluster_status_reply__descriptor},
	[METHOD_GET_RAFT_STATUS] = {"GetRaftStatus", 10,
				    &blixard__get_raft_status_reply__descriptor},
	[METHOD_HEALTH_CHECK] = {"HealthCheck", 10, &blixard__health_check_reply__descriptor},
};

const struct method_info *workload_method(enum method method)
{
	return &methods[method];
}

struct workload workload_of(uint64_t seed, unsigned n_targets)
{
	struct workload workload = {.seed = seed, .n_targets = n_targets, .dice = dice_of(seed)};

	for (unsigned i = 0; i < METHODS; i++)
		workload.weights += methods[i].weight;
	return workload;
}

static enum method next_method(struct workload *w)
{
	unsigned thrown = dice_throw(&w->dice, w->weights);
	unsigned method = 0;

	while (thrown >= methods[method].weight)
		thrown -= methods[method++].weight;
	return (enum method)method;
}

static ProtobufCBinaryData next_value(struct workload *w, struct operation *op)
{
	size_t len = dice_throw(&w->dice, WORKLOAD_VALUE_MAX + 1);

	for (size_t i = 0; i < len; i++)
		op->value[i] = (uint8_t)dice_throw(&w->dice, 256);
	return (ProtobufCBinaryData){.len = len, .data = op->value};
}

static void name_it(struct workload *w, struct operation *op, const char *kind, uint32_t of)
{
	snprintf(op->name, sizeof(op->name), "%s-%" PRIu64 "-%" PRIu32, kind, w->seed,
		 dice_throw(&w->dice, of));
}

static void propose_task(struct workload *w, struct operation *op)
{
	Blixard__ProposeTaskRequest *request = &op->request.propose_task;

	blixard__propose_task_request__init(request);
	name_it(w, op, "load", KEYS);
	request->key = op->name;
	request->delete_ = dice_throw(&w->dice, 100) < DELETE_PERCENT;
	if (!request->delete_)
		request->value = next_value(w, op);
}

static void submit_task(struct workload *w, struct operation *op)
{
	Blixard__SubmitTaskRequest *request = &op->request.submit_task;

	blixard__submit_task_request__init(request);
	name_it(w, op, "load", TASKS);
	request->task_id = op->name;
	request->command = next_value(w, op);
}

static void get_task_status(struct workload *w, struct operation *op)
{
	Blixard__GetTaskStatusRequest *request = &op->request.get_task_status;

	blixard__get_task_status_request__init(request);
	name_it(w, op, "load", TASKS);
	request->task_id = op->name;
}

void workload_next(struct workload *w, struct operation *op)
{
	op->method = next_method(w);
	op->target = dice_throw(&w->dice, w->n_targets);
	switch (op->method) {
	case METHOD_PROPOSE_TASK:
		propose_task(w, op);
		break;
	case METHOD_SUBMIT_TASK:
		submit_task(w, op);
		break;
	case METHOD_GET_TASK_STATUS:
		get_task_status(w, op);
		break;
	case METHOD_GET_CLUSTER_STATUS:
		blixard__get_cluster_status_request__init(&op->request.get_cluster_status);
		break;
	case METHOD_GET_RAFT_STATUS:
		blixard__get_raft_status_request__init(&op->request.get_raft_status);
		break;
	default:
		blixard__health_check_request__init(&op->request.health_check);
		break;
	}
}
