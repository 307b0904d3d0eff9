/* rpc_vm.c - see rpc_vm.h. Loop thread only. */
#include "rpc_vm.h"

#include "proto/blixard_cluster.pb-c.h"
#include "test/cluster/record/record.h"
#include "test/cluster/record/trace.h"
#include "test/cluster/vm/vm_propose.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- both ways ------------------------------------------------------------------------------- */

/* False: it is out of range. What is missing counts as zeros, and those are refused as such. */
static bool read_request(const struct rpc_vm *rpc, const Blixard__VmRequest *message,
			 struct vm_request *ret_request)
{
	struct vm_request request = {.strategy = VM_MOST_AVAILABLE};

	if (!message || !message->needs || message->priority > UINT8_MAX)
		return false;
	if (message->strategy[0] && !vm_strategy_of(message->strategy, &request.strategy))
		return false;
	request.needs = (struct vm_resources){.vcpus = message->needs->vcpus,
					      .memory_bytes = message->needs->memory_bytes,
					      .disk_bytes = message->needs->disk_bytes};
	request.priority = (uint8_t)message->priority;
	request.wanted_node = message->node_id;
	if (request.strategy == VM_LOCALITY && !request.wanted_node)
		request.wanted_node = rpc->node_id;
	if (!vm_request_is_valid(&request))
		return false;
	*ret_request = request;
	return true;
}

static Blixard__VmResources resources_of(const struct vm_resources *resources)
{
	Blixard__VmResources message = BLIXARD__VM_RESOURCES__INIT;

	message.vcpus = resources->vcpus;
	message.memory_bytes = resources->memory_bytes;
	message.disk_bytes = resources->disk_bytes;
	return message;
}

/* A VmInfo with what it points to. */
struct info {
	Blixard__VmInfo info;
	Blixard__VmRequest request;
	Blixard__VmResources needs;
};

static void fill_info(struct info *info, const struct vm *vm)
{
	info->needs = resources_of(&vm->request.needs);
	info->request = (Blixard__VmRequest)BLIXARD__VM_REQUEST__INIT;
	info->request.needs = &info->needs;
	info->request.priority = vm->request.priority;
	info->request.strategy = (char *)vm_strategy_name(vm->request.strategy);
	info->request.node_id = vm->request.wanted_node;
	info->info = (Blixard__VmInfo)BLIXARD__VM_INFO__INIT;
	info->info.name = (char *)vm->name;
	info->info.request = &info->request;
	info->info.desired = (char *)vm_desired_name(vm->desired);
	info->info.status = (char *)vm_status_name(vm->status);
	info->info.node_id = vm->node_id;
	info->info.restarts = vm->restarts;
}

/* ---- orders ---------------------------------------------------------------------------------- */

/* False: it failed, and the client has been told. */
static bool check(struct rpc_call *call, enum verdict verdict, int result)
{
	if (verdict != VERDICT_OK)
		rpc_fail(call, verdict_status(verdict), verdict_text(verdict));
	else if (result == -EEXIST)
		rpc_fail(call, GRPC_STATUS_ALREADY_EXISTS, "there is a VM of this name");
	else if (result == -ENOENT)
		rpc_fail(call, GRPC_STATUS_NOT_FOUND, "there is no VM of this name");
	else if (result == -ENOSPC)
		rpc_fail(call, GRPC_STATUS_RESOURCE_EXHAUSTED,
			 "too many VMs, or too many that wait for a node");
	else if (result == -ESTALE)
		rpc_fail(call, GRPC_STATUS_FAILED_PRECONDITION, "the VM is being deleted");
	else if (result)
		rpc_fail(call, GRPC_STATUS_INTERNAL, strerror(-result));
	return verdict == VERDICT_OK && !result;
}

/* The replies to orders are all alike but in name. */
#define ON_ORDERED(function, Reply, INIT)                                                          \
	static void function(void *arg, uint64_t sequence, enum verdict verdict, int result)       \
	{                                                                                          \
		Reply reply = INIT;                                                                \
                                                                                                   \
		reply.sequence = sequence;                                                         \
		if (check(arg, verdict, result))                                                   \
			rpc_reply(arg, &reply.base);                                               \
	}

ON_ORDERED(on_created, Blixard__CreateVmReply, BLIXARD__CREATE_VM_REPLY__INIT)
ON_ORDERED(on_started, Blixard__StartVmReply, BLIXARD__START_VM_REPLY__INIT)
ON_ORDERED(on_stopped, Blixard__StopVmReply, BLIXARD__STOP_VM_REPLY__INIT)
ON_ORDERED(on_deleted, Blixard__DeleteVmReply, BLIXARD__DELETE_VM_REPLY__INIT)

static bool check_name(struct rpc_call *call, const char *name)
{
	if (vm_name_is_valid(name, strlen(name)))
		return true;
	rpc_fail(call, GRPC_STATUS_INVALID_ARGUMENT,
		 "a VM's name has 1 to 48 letters, digits, '.', '_' or '-'");
	return false;
}

static void on_create(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__CreateVmRequest *request = (const void *)message;
	const struct rpc_vm *rpc = arg;
	union vm_value value;

	if (!check_name(call, request->name))
		return;
	if (!read_request(rpc, request->request, &value.create))
		rpc_fail(call, GRPC_STATUS_INVALID_ARGUMENT, "the request is out of range");
	else
		vm_propose_and_tell(rpc->proposals, COMMAND_VM_CREATE, request->name, &value,
				    on_created, call);
}

static void give_order(const struct rpc_vm *rpc, struct rpc_call *call, const char *name,
		       enum vm_desired desired, proposal_done done)
{
	union vm_value value = {.order = {.desired = desired}};

	if (check_name(call, name))
		vm_propose_and_tell(rpc->proposals, COMMAND_VM_ORDER, name, &value, done, call);
}

static void on_start(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__StartVmRequest *request = (const void *)message;

	give_order(arg, call, request->name, VM_WANT_RUNNING, on_started);
}

static void on_stop(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__StopVmRequest *request = (const void *)message;

	give_order(arg, call, request->name, VM_WANT_STOPPED, on_stopped);
}

static void on_delete(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__DeleteVmRequest *request = (const void *)message;

	give_order(arg, call, request->name, VM_WANT_DELETED, on_deleted);
}

/* ---- looking --------------------------------------------------------------------------------- */

static void on_list(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	static struct info infos[VMS_MAX];
	static Blixard__VmInfo *list[VMS_MAX];
	const struct rpc_vm *rpc = arg;
	Blixard__ListVmsReply reply = BLIXARD__LIST_VMS_REPLY__INIT;
	const struct vm *all;

	(void)message;
	reply.n_vms = vms_all(rpc->fsm->vms, &all);
	for (size_t i = 0; i < reply.n_vms; i++) {
		fill_info(&infos[i], &all[i]);
		list[i] = &infos[i].info;
	}
	reply.vms = list;
	rpc_reply(call, &reply.base);
}

static void on_status(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__GetVmStatusRequest *request = (const void *)message;
	const struct rpc_vm *rpc = arg;
	const struct vm *vm = fsm_read_vm(rpc->fsm, request->name, strlen(request->name));
	Blixard__GetVmStatusReply reply = BLIXARD__GET_VM_STATUS_REPLY__INIT;
	struct info info;

	if (!vm) {
		rpc_fail(call, GRPC_STATUS_NOT_FOUND, "there is no VM of this name");
		return;
	}
	fill_info(&info, vm);
	reply.vm = &info.info;
	rpc_reply(call, &reply.base);
}

/* ---- placement ------------------------------------------------------------------------------- */

/* False: there is none, and the client has been told. */
static bool check_place(struct rpc_call *call, const struct placement_answer *answer)
{
	if (answer->result != PLACEMENT_OK)
		rpc_fail(call,
			 answer->result == PLACEMENT_NO_HEALTHY_NODE
				 ? GRPC_STATUS_UNAVAILABLE
				 : GRPC_STATUS_RESOURCE_EXHAUSTED,
			 placement_result_name(answer->result));
	return answer->result == PLACEMENT_OK;
}

/* The placer, or NULL after the client has been told that there is none any more. */
static struct placer *placer_of(const struct rpc_vm *rpc, struct rpc_call *call)
{
	if (!*rpc->placer)
		rpc_fail(call, verdict_status(VERDICT_CANCELLED), verdict_text(VERDICT_CANCELLED));
	return *rpc->placer;
}

static void on_placement(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__ScheduleVmPlacementRequest *request = (const void *)message;
	Blixard__ScheduleVmPlacementReply reply = BLIXARD__SCHEDULE_VM_PLACEMENT_REPLY__INIT;
	struct vm_request wanted;
	char *displaced[PLACEMENT_VICTIMS_MAX];

	if (!read_request(arg, request->request, &wanted)) {
		rpc_fail(call, GRPC_STATUS_INVALID_ARGUMENT, "the request is out of range");
		return;
	}
	struct placer *placer = placer_of(arg, call);
	if (!placer)
		return;
	struct placement_answer answer = placer_ask(placer, &wanted);
	if (!check_place(call, &answer))
		return;
	for (size_t i = 0; i < answer.n_victims; i++)
		displaced[i] = (char *)answer.victims[i]->name;
	reply.node_id = answer.node_id;
	reply.displaced = displaced;
	reply.n_displaced = answer.n_victims;
	rpc_reply(call, &reply.base);
}

/* ---- create, and wait for the place ---------------------------------------------------------- */

struct scheduled {
	struct scheduled *next;
	struct rpc_vm *rpc;
	struct rpc_call *call;
	uint64_t sequence;
	uint64_t number; /* of the VM; another one may have its name by then */
	uint64_t created_ns;
	char name[VM_NAME_MAX + 1];
};

enum { SCHEDULING_TIMEOUT_MS = 4000 };

static void end_scheduled(struct scheduled *s)
{
	s->rpc->n_scheduled--;
	free(s);
}

static void on_scheduled_created(void *arg, uint64_t sequence, enum verdict verdict, int result)
{
	struct scheduled *s = arg;

	if (!check(s->call, verdict, result)) {
		end_scheduled(s);
		return;
	}
	s->sequence = sequence;
	s->number = vms_get(s->rpc->fsm->vms, s->name, strlen(s->name))->number;
	s->created_ns = record_now_ns();
	s->next = s->rpc->first;
	s->rpc->first = s;
}

/* True: it has been answered. */
static bool answer_scheduled(const struct scheduled *s)
{
	Blixard__CreateVmWithSchedulingReply reply = BLIXARD__CREATE_VM_WITH_SCHEDULING_REPLY__INIT;
	const struct vm *vm = vms_get(s->rpc->fsm->vms, s->name, strlen(s->name));
	bool waits = vm && vm->number == s->number && !vm->node_id;

	if (waits && record_now_ns() - s->created_ns < SCHEDULING_TIMEOUT_MS * 1000000ull)
		return false;
	if (!vm || vm->number != s->number) {
		rpc_fail(s->call, GRPC_STATUS_ABORTED, "the VM has been deleted meanwhile");
		return true;
	}
	reply.sequence = s->sequence;
	reply.node_id = vm->node_id;
	rpc_reply(s->call, &reply.base);
	return true;
}

void rpc_vm_look(struct rpc_vm *rpc)
{
	struct scheduled **link = &rpc->first;

	while (*link) {
		struct scheduled *s = *link;
		if (!answer_scheduled(s)) {
			link = &s->next;
			continue;
		}
		*link = s->next;
		end_scheduled(s);
	}
}

void rpc_vm_stop(struct rpc_vm *rpc)
{
	while (rpc->first) {
		struct scheduled *s = rpc->first;

		rpc->first = s->next;
		rpc_fail(s->call, verdict_status(VERDICT_CANCELLED),
			 verdict_text(VERDICT_CANCELLED));
		end_scheduled(s);
	}
}

static void on_create_scheduled(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__CreateVmWithSchedulingRequest *request = (const void *)message;
	struct rpc_vm *rpc = arg;
	union vm_value value;

	if (!check_name(call, request->name))
		return;
	if (!read_request(rpc, request->request, &value.create)) {
		rpc_fail(call, GRPC_STATUS_INVALID_ARGUMENT, "the request is out of range");
		return;
	}
	struct placer *placer = placer_of(rpc, call);
	if (!placer)
		return;
	struct placement_answer answer = placer_ask(placer, &value.create);
	if (!check_place(call, &answer))
		return;
	struct scheduled *s = rpc->n_scheduled < VMS_WAITING_MAX ? calloc(1, sizeof(*s)) : NULL;
	if (!s) {
		rpc_fail(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "too many wait for a node here");
		return;
	}
	*s = (struct scheduled){.rpc = rpc, .call = call};
	strcpy(s->name, request->name);
	rpc->n_scheduled++;
	vm_propose_and_tell(rpc->proposals, COMMAND_VM_CREATE, s->name, &value,
			    on_scheduled_created, s);
}

/* ---- another place --------------------------------------------------------------------------- */

struct migration {
	struct rpc_call *call;
	uint64_t node_id;
	blix_span span;
};

static void on_migrated(void *arg, uint64_t sequence, enum verdict verdict, int result)
{
	struct migration m = *(struct migration *)arg;
	Blixard__MigrateVmReply reply = BLIXARD__MIGRATE_VM_REPLY__INIT;

	free(arg);
	if (verdict != VERDICT_OK)
		trace_fail(m.span, verdict_name(verdict), verdict_text(verdict));
	else if (result)
		trace_fail(m.span, strerrorname_np(-result), "it has not been moved");
	trace_end(m.span);
	if (verdict == VERDICT_OK && result == -EDQUOT) {
		rpc_fail(m.call, GRPC_STATUS_RESOURCE_EXHAUSTED, "no room there any more");
	} else if (verdict == VERDICT_OK && result == -ESTALE) {
		rpc_fail(m.call, GRPC_STATUS_ABORTED, "somebody else has moved or deleted it");
	} else if (check(m.call, verdict, result)) {
		reply.sequence = sequence;
		reply.node_id = m.node_id;
		rpc_reply(m.call, &reply.base);
	}
}

/* The VM, or NULL after the client has been told why it cannot be moved. */
static const struct vm *movable(const struct rpc_vm *rpc, struct rpc_call *call,
				const Blixard__MigrateVmRequest *request)
{
	const struct vm *vm = fsm_read_vm(rpc->fsm, request->name, strlen(request->name));

	if (!vm)
		rpc_fail(call, GRPC_STATUS_NOT_FOUND, "there is no VM of this name");
	else if (vm->desired == VM_WANT_DELETED)
		rpc_fail(call, GRPC_STATUS_FAILED_PRECONDITION, "the VM is being deleted");
	else if (!vm->node_id)
		rpc_fail(call, GRPC_STATUS_FAILED_PRECONDITION, "the VM waits for a node");
	else if (vm->node_id == request->node_id)
		rpc_fail(call, GRPC_STATUS_FAILED_PRECONDITION, "the VM is there");
	else
		return vm;
	return NULL;
}

static void on_migrate(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__MigrateVmRequest *request = (const void *)message;
	const struct rpc_vm *rpc = arg;
	const struct vm *vm = movable(rpc, call, request);
	struct placer *placer = vm ? placer_of(rpc, call) : NULL;

	if (!placer)
		return;
	struct vm_request wanted = vm->request;
	if (request->node_id) { /* as if it were to live there and nowhere else */
		wanted.strategy = VM_MANUAL;
		wanted.wanted_node = request->node_id;
	}
	wanted.priority = 0; /* it displaces nobody */
	struct placement_answer answer = placer_ask_other(placer, &wanted, vm->node_id);
	if (!check_place(call, &answer))
		return;
	struct migration *m = malloc(sizeof(*m));
	if (!m) {
		rpc_fail(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "no memory");
		return;
	}
	*m = (struct migration){.call = call,
				.node_id = answer.node_id,
				.span = trace_begin_within(TRACE_VM_MIGRATE)};
	trace_str(m->span, TRACE_VM_NAME, vm->name);
	trace_u64(m->span, TRACE_VM_TARGET, answer.node_id);
	blix_token token = trace_enter(m->span);
	vm_propose_and_tell(rpc->proposals, COMMAND_VM_PLACE, vm->name,
			    &(union vm_value){.placing = {.number = vm->number,
							  .placement = vm->placement,
							  .node_id = answer.node_id}},
			    on_migrated, m);
	trace_leave(token);
}

static void on_summary(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const struct rpc_vm *rpc = arg;
	Blixard__GetClusterResourceSummaryReply reply =
		BLIXARD__GET_CLUSTER_RESOURCE_SUMMARY_REPLY__INIT;
	Blixard__VmResources capacity[MEMBERS_MAX], allocated[MEMBERS_MAX];
	Blixard__NodeResources nodes[MEMBERS_MAX], *list[MEMBERS_MAX];
	struct placement_node known[MEMBERS_MAX];
	struct placer *placer = placer_of(rpc, call);

	(void)message;
	if (!placer)
		return;
	reply.n_nodes = placer_nodes(placer, known);
	for (size_t i = 0; i < reply.n_nodes; i++) {
		capacity[i] = resources_of(&known[i].capacity);
		allocated[i] = resources_of(&known[i].allocated);
		nodes[i] = (Blixard__NodeResources)BLIXARD__NODE_RESOURCES__INIT;
		nodes[i].node_id = known[i].node_id;
		nodes[i].capacity = &capacity[i];
		nodes[i].allocated = &allocated[i];
		nodes[i].vms = (uint32_t)known[i].vms;
		nodes[i].healthy = known[i].healthy;
		list[i] = &nodes[i];
	}
	reply.nodes = list;
	reply.waiting = (uint32_t)vms_waiting(rpc->fsm->vms);
	rpc_reply(call, &reply.base);
}

int rpc_vm_serve(struct rpc_vm *rpc, struct rpc_server *server)
{
	static const struct rpc_method methods[] = {
		{.name = "CreateVm",
		 .request = &blixard__create_vm_request__descriptor,
		 .handle = on_create},
		{.name = "CreateVmWithScheduling",
		 .request = &blixard__create_vm_with_scheduling_request__descriptor,
		 .handle = on_create_scheduled},
		{.name = "MigrateVm",
		 .request = &blixard__migrate_vm_request__descriptor,
		 .handle = on_migrate},
		{.name = "StartVm",
		 .request = &blixard__start_vm_request__descriptor,
		 .handle = on_start},
		{.name = "StopVm",
		 .request = &blixard__stop_vm_request__descriptor,
		 .handle = on_stop},
		{.name = "DeleteVm",
		 .request = &blixard__delete_vm_request__descriptor,
		 .handle = on_delete},
		{.name = "ListVms",
		 .request = &blixard__list_vms_request__descriptor,
		 .handle = on_list},
		{.name = "GetVmStatus",
		 .request = &blixard__get_vm_status_request__descriptor,
		 .handle = on_status},
		{.name = "ScheduleVmPlacement",
		 .request = &blixard__schedule_vm_placement_request__descriptor,
		 .handle = on_placement},
		{.name = "GetClusterResourceSummary",
		 .request = &blixard__get_cluster_resource_summary_request__descriptor,
		 .handle = on_summary},
	};

	return rpc_server_add(server, methods, sizeof(methods) / sizeof(methods[0]), rpc);
}
