/* workload.c - see workload.h. */
#include "workload.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Few enough that keys and tasks of many runs with different seeds fit into a node's table. */
enum { KEYS = 500, TASKS = 500, DELETE_PERCENT = 10 };

/* VMs are processes: however high the rate, each is ordered about at a person's pace. */
enum { VM_ORDER_EVERY_MS = 1000, STOP_PERCENT = 70, START_PERCENT = 60 };

/* A node moves few images at a time. */
enum { IMAGE_EVERY_MS = 500 };

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
	[METHOD_CREATE_VM] = {"CreateVm", 0, &blixard__create_vm_reply__descriptor},
	[METHOD_START_VM] = {"StartVm", 0, &blixard__start_vm_reply__descriptor},
	[METHOD_STOP_VM] = {"StopVm", 0, &blixard__stop_vm_reply__descriptor},
	[METHOD_DELETE_VM] = {"DeleteVm", 0, &blixard__delete_vm_reply__descriptor},
	/* Half of these become one of the orders above, when one is due. */
	[METHOD_GET_VM_STATUS] = {"GetVmStatus", 20, &blixard__get_vm_status_reply__descriptor},
	[METHOD_LIST_VMS] = {"ListVms", 5, &blixard__list_vms_reply__descriptor},
	[METHOD_SCHEDULE_VM_PLACEMENT] = {"ScheduleVmPlacement", 5,
					  &blixard__schedule_vm_placement_reply__descriptor},
	[METHOD_GET_CLUSTER_RESOURCE_SUMMARY] =
		{"GetClusterResourceSummary", 5,
		 &blixard__get_cluster_resource_summary_reply__descriptor},
	[METHOD_SHARE_VM_IMAGE] = {"ShareVmImage", 0, &blixard__share_vm_image_reply__descriptor},
	[METHOD_GET_VM_IMAGE] = {"GetVmImage", 0, &blixard__get_vm_image_reply__descriptor},
	[METHOD_LIST_P2P_IMAGES] = {"ListP2pImages", 5,
				    &blixard__list_p2p_images_reply__descriptor},
	/* Now and then one of these becomes one of the two that move an image. */
	[METHOD_GET_P2P_STATUS] = {"GetP2pStatus", 5, &blixard__get_p2p_status_reply__descriptor},
};

const struct method_info *workload_method(enum method method)
{
	return &methods[method];
}

void workload_init(struct workload *w, uint64_t seed, const char (*targets)[ADDRESS_MAX + 1],
		   unsigned n_targets, unsigned n_vms)
{
	struct dice bytes = dice_of(seed + 2);

	memset(w, 0, sizeof(*w));
	w->seed = seed;
	w->targets = targets;
	w->n_targets = n_targets;
	w->n_vms = n_vms;
	w->dice = dice_of(seed);
	w->vm_dice = dice_of(seed + 1);
	for (unsigned i = 0; i < METHODS; i++)
		w->weights += methods[i].weight;
	for (size_t i = 0; i < sizeof(w->image); i++)
		w->image[i] = (uint8_t)dice_throw(&bytes, 256);
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

/* ---- VMs ------------------------------------------------------------------------------------- */

static void name_vm(const struct workload *w, struct operation *op, unsigned vm)
{
	snprintf(op->name, sizeof(op->name), "load-%" PRIu64 "-%u", w->seed, vm);
}

/* Small and all of one priority: they fit, and nobody has to make room for them. */
static Blixard__VmRequest *describe_vm(struct operation *op)
{
	blixard__vm_resources__init(&op->needs);
	op->needs.vcpus = 1;
	op->needs.memory_bytes = 16 << 20;
	op->needs.disk_bytes = 4 << 20;
	blixard__vm_request__init(&op->vm_request);
	op->vm_request.needs = &op->needs;
	op->vm_request.priority = 1;
	return &op->vm_request;
}

static enum method next_order(struct workload *w, const struct load_vm *vm)
{
	uint32_t chance = dice_throw(&w->vm_dice, 100);

	switch (vm->state) {
	case LOAD_VM_RUNNING:
		return chance < STOP_PERCENT ? METHOD_STOP_VM : METHOD_DELETE_VM;
	case LOAD_VM_STOPPED:
		return chance < START_PERCENT ? METHOD_START_VM : METHOD_DELETE_VM;
	default:
		return METHOD_CREATE_VM;
	}
}

static void order_vm(struct workload *w, struct operation *op, enum method method, unsigned vm)
{
	op->method = method;
	op->vm = (int)vm;
	w->vms[vm].ordered = true;
	name_vm(w, op, vm);
	switch (method) {
	case METHOD_CREATE_VM:
		blixard__create_vm_request__init(&op->request.create_vm);
		op->request.create_vm.name = op->name;
		op->request.create_vm.request = describe_vm(op);
		break;
	case METHOD_START_VM:
		blixard__start_vm_request__init(&op->request.start_vm);
		op->request.start_vm.name = op->name;
		break;
	case METHOD_STOP_VM:
		blixard__stop_vm_request__init(&op->request.stop_vm);
		op->request.stop_vm.name = op->name;
		break;
	default:
		blixard__delete_vm_request__init(&op->request.delete_vm);
		op->request.delete_vm.name = op->name;
		break;
	}
}

/* An order, when one is due for the VM that was thrown; otherwise a look at it. */
static void attend_to_vm(struct workload *w, struct operation *op, uint64_t due_ns)
{
	unsigned vm = dice_throw(&w->dice, w->n_vms ? w->n_vms : 1);
	bool order = dice_throw(&w->dice, 2);

	if (order && w->n_vms && !w->vms[vm].ordered && due_ns >= w->vms[vm].next_order_ns) {
		order_vm(w, op, next_order(w, &w->vms[vm]), vm);
		return;
	}
	blixard__get_vm_status_request__init(&op->request.get_vm_status);
	name_vm(w, op, vm);
	op->request.get_vm_status.name = op->name;
}

void workload_not_ordered(struct workload *w, int vm)
{
	if (vm >= 0)
		w->vms[vm].ordered = false;
}

void workload_ordered(struct workload *w, int number, enum method method, grpc_status_code code,
		      uint64_t now_ns)
{
	if (number < 0)
		return;
	struct load_vm *vm = &w->vms[number];
	vm->ordered = false;
	vm->next_order_ns = now_ns + VM_ORDER_EVERY_MS * 1000000ull;
	bool done = code == GRPC_STATUS_OK;
	bool gone = code == GRPC_STATUS_NOT_FOUND || code == GRPC_STATUS_FAILED_PRECONDITION;
	if (gone || (done && method == METHOD_DELETE_VM))
		vm->state = LOAD_VM_NONE; /* or on its way out */
	else if (done && method == METHOD_STOP_VM)
		vm->state = LOAD_VM_STOPPED;
	else if (done || code == GRPC_STATUS_ALREADY_EXISTS)
		vm->state = LOAD_VM_RUNNING;
}

bool workload_clean_up(struct workload *w, struct operation *op)
{
	op->target = dice_throw(&w->vm_dice, w->n_targets);
	for (unsigned i = 0; i < w->n_vms; i++) {
		if (w->vms[i].state == LOAD_VM_NONE)
			continue;
		order_vm(w, op, METHOD_DELETE_VM, i);
		w->vms[i].state = LOAD_VM_NONE; /* it is tried once */
		return true;
	}
	return false;
}

/* ---- images ---------------------------------------------------------------------------------- */

/* Shared at one node, and then fetched from there by the next one: the two take turns. Of an image
 * that is shared again, the first chunk is as it was. */
static void move_image(struct workload *w, struct operation *op)
{
	unsigned turn = w->images / 2;
	unsigned giver = turn % w->n_targets;

	snprintf(op->name, sizeof(op->name), "load-%" PRIu64 "-%u", w->seed, turn % LOAD_IMAGES);
	if (w->images++ % 2 == 0) {
		op->method = METHOD_SHARE_VM_IMAGE;
		op->target = giver;
		memcpy(w->image + sizeof(w->image) - sizeof(turn), &turn, sizeof(turn));
		blixard__share_vm_image_request__init(&op->request.share_vm_image);
		op->request.share_vm_image.name = op->name;
		op->request.share_vm_image.data =
			(ProtobufCBinaryData){.len = sizeof(w->image), .data = w->image};
		return;
	}
	op->method = METHOD_GET_VM_IMAGE;
	op->target = (giver + 1) % w->n_targets;
	blixard__get_vm_image_request__init(&op->request.get_vm_image);
	op->request.get_vm_image.name = op->name;
	if (op->target != giver)
		op->request.get_vm_image.peer = (char *)w->targets[giver];
}

uint64_t workload_image_bytes(uint64_t chunks_moved)
{
	_Static_assert((int)LOAD_IMAGE_BYTES > (int)CHUNK_BYTES, "two chunks");
	if (!chunks_moved)
		return 0;
	return chunks_moved == 1 ? (uint64_t)LOAD_IMAGE_BYTES - (uint64_t)CHUNK_BYTES
				 : LOAD_IMAGE_BYTES;
}

static void attend_to_images(struct workload *w, struct operation *op, uint64_t due_ns)
{
	if (due_ns >= w->next_image_ns) {
		w->next_image_ns = due_ns + IMAGE_EVERY_MS * 1000000ull;
		move_image(w, op);
		return;
	}
	blixard__get_p2p_status_request__init(&op->request.get_p2p_status);
}

/* ---- all of them ----------------------------------------------------------------------------- */

static void ask_for_state(struct operation *op)
{
	switch (op->method) {
	case METHOD_GET_CLUSTER_STATUS:
		blixard__get_cluster_status_request__init(&op->request.get_cluster_status);
		break;
	case METHOD_GET_RAFT_STATUS:
		blixard__get_raft_status_request__init(&op->request.get_raft_status);
		break;
	case METHOD_LIST_P2P_IMAGES:
		blixard__list_p2p_images_request__init(&op->request.list_p2p_images);
		break;
	case METHOD_LIST_VMS:
		blixard__list_vms_request__init(&op->request.list_vms);
		break;
	case METHOD_SCHEDULE_VM_PLACEMENT:
		blixard__schedule_vm_placement_request__init(&op->request.schedule_vm_placement);
		op->request.schedule_vm_placement.request = describe_vm(op);
		break;
	case METHOD_GET_CLUSTER_RESOURCE_SUMMARY:
		blixard__get_cluster_resource_summary_request__init(
			&op->request.get_cluster_resource_summary);
		break;
	default:
		blixard__health_check_request__init(&op->request.health_check);
		break;
	}
}

void workload_next(struct workload *w, uint64_t due_ns, struct operation *op)
{
	op->method = next_method(w);
	op->target = dice_throw(&w->dice, w->n_targets);
	op->vm = -1;
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
	case METHOD_GET_VM_STATUS:
		attend_to_vm(w, op, due_ns);
		break;
	case METHOD_GET_P2P_STATUS:
		attend_to_images(w, op, due_ns);
		break;
	default:
		ask_for_state(op);
		break;
	}
}
