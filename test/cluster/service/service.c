/* service.c - see service.h. Loop thread only. */
#include "service.h"

#include "proto/blixard_cluster.pb-c.h"
#include "test/cluster/record/record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char task_prefix[] = "task/";

static raft_id leader_of(const struct service *s)
{
	const char *address;
	raft_id leader;

	raft_leader(s->raft, &leader, &address);
	return leader;
}

static const char *state_of(struct raft *raft)
{
	switch (raft_state(raft)) {
	case RAFT_LEADER:
		return "leader";
	case RAFT_CANDIDATE:
		return "candidate";
	case RAFT_FOLLOWER:
		return "follower";
	default:
		return "unavailable";
	}
}

/* ---- state ----------------------------------------------------------------------------------- */

static const char *role_of(const struct raft_server *server)
{
	if (server->role == RAFT_VOTER)
		return "voter";
	return server->role == RAFT_STANDBY ? "standby" : "spare";
}

static void on_cluster_status(void *arg, struct rpc_call *call, const ProtobufCMessage *request)
{
	const struct service *s = arg;
	const struct raft_configuration *configuration = &s->raft->configuration;
	Blixard__GetClusterStatusReply reply = BLIXARD__GET_CLUSTER_STATUS_REPLY__INIT;
	Blixard__ClusterMember members[MEMBERS_MAX];
	Blixard__ClusterMember *list[MEMBERS_MAX];

	(void)request;
	for (unsigned i = 0; i < configuration->n && i < MEMBERS_MAX; i++) {
		const struct raft_server *server = &configuration->servers[i];

		members[i] = (Blixard__ClusterMember)BLIXARD__CLUSTER_MEMBER__INIT;
		members[i].node_id = server->id;
		members[i].address = server->address;
		members[i].role = (char *)role_of(server);
		members[i].healthy = server->id == s->self->node_id ||
				     transport_heard(s->transport, server->id, ELECTION_TIMEOUT_MS);
		list[i] = &members[i];
		reply.n_members++;
	}
	reply.members = list;
	reply.cluster = (char *)s->self->cluster;
	reply.node_id = s->self->node_id;
	reply.leader_id = leader_of(s);
	reply.term = s->raft->current_term;
	rpc_reply(call, &reply.base);
}

static void on_raft_status(void *arg, struct rpc_call *call, const ProtobufCMessage *request)
{
	const struct service *s = arg;
	Blixard__GetRaftStatusReply reply = BLIXARD__GET_RAFT_STATUS_REPLY__INIT;

	(void)request;
	reply.node_id = s->self->node_id;
	reply.state = (char *)state_of(s->raft);
	reply.leader_id = leader_of(s);
	reply.term = s->raft->current_term;
	reply.commit_index = s->raft->commit_index;
	reply.applied_index = s->raft->last_applied;
	reply.proposals_pending = proposals_pending(s->proposals);
	rpc_reply(call, &reply.base);
}

static void on_health(void *arg, struct rpc_call *call, const ProtobufCMessage *request)
{
	const struct service *s = arg;
	Blixard__HealthCheckReply reply = BLIXARD__HEALTH_CHECK_REPLY__INIT;

	(void)request;
	reply.healthy = proposals_possible(s->proposals);
	reply.message = (char *)(reply.healthy ? "ok" : verdict_text(VERDICT_NOT_LEADER));
	rpc_reply(call, &reply.base);
}

/* ---- the table ------------------------------------------------------------------------------- */

/* False: it failed, and the client has been told. */
static bool check(struct rpc_call *call, enum verdict verdict, int result)
{
	if (verdict != VERDICT_OK)
		rpc_fail(call, verdict_status(verdict), verdict_text(verdict));
	else if (result == -ENOENT)
		rpc_fail(call, GRPC_STATUS_NOT_FOUND, "no such row");
	else if (result == -ENOSPC)
		rpc_fail(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "the table is full");
	else if (result)
		rpc_fail(call, GRPC_STATUS_FAILED_PRECONDITION, strerror(-result));
	return verdict == VERDICT_OK && !result;
}

static void on_proposed(void *arg, uint64_t sequence, enum verdict verdict, int result)
{
	Blixard__ProposeTaskReply reply = BLIXARD__PROPOSE_TASK_REPLY__INIT;

	reply.sequence = sequence;
	if (check(arg, verdict, result))
		rpc_reply(arg, &reply.base);
}

static void on_propose(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__ProposeTaskRequest *request = (const void *)message;
	const struct service *s = arg;
	size_t key_len = strlen(request->key);

	if (!key_len || key_len > TABLE_KEY_MAX || request->value.len > TABLE_VALUE_MAX ||
	    (request->delete_ && request->value.len)) {
		rpc_fail(call, GRPC_STATUS_INVALID_ARGUMENT, "key or value is out of range");
		return;
	}
	proposals_submit(s->proposals,
			 &(struct command){
				 .op = request->delete_ ? COMMAND_DELETE : COMMAND_PUT,
				 .key = request->key,
				 .key_len = key_len,
				 .value = request->value.data,
				 .value_len = request->value.len,
			 },
			 on_proposed, call);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

/* The row of a task; 0: no task can have this id. */
static size_t task_key(const char *task_id, char ret_key[TABLE_KEY_MAX + 1])
{
	size_t len = strlen(task_id);

	if (!len || len + sizeof(task_prefix) - 1 > TABLE_KEY_MAX)
		return 0;
	return (size_t)snprintf(ret_key, TABLE_KEY_MAX + 1, "%s%s", task_prefix, task_id);
}

static void on_submitted(void *arg, uint64_t sequence, enum verdict verdict, int result)
{
	Blixard__SubmitTaskReply reply = BLIXARD__SUBMIT_TASK_REPLY__INIT;

	reply.sequence = sequence;
	if (check(arg, verdict, result))
		rpc_reply(arg, &reply.base);
}

static void on_submit(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__SubmitTaskRequest *request = (const void *)message;
	const struct service *s = arg;
	char key[TABLE_KEY_MAX + 1];
	size_t key_len = task_key(request->task_id, key);

	if (!key_len || request->command.len > TABLE_VALUE_MAX) {
		rpc_fail(call, GRPC_STATUS_INVALID_ARGUMENT, "task_id or command is out of range");
		return;
	}
	if (fsm_read(s->fsm, key, key_len)) {
		rpc_fail(call, GRPC_STATUS_ALREADY_EXISTS, "there is such a task");
		return;
	}
	proposals_submit(s->proposals,
			 &(struct command){
				 .op = COMMAND_PUT,
				 .key = key,
				 .key_len = key_len,
				 .value = request->command.data,
				 .value_len = request->command.len,
			 },
			 on_submitted, call);
}

static void on_task_status(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__GetTaskStatusRequest *request = (const void *)message;
	const struct service *s = arg;
	Blixard__GetTaskStatusReply reply = BLIXARD__GET_TASK_STATUS_REPLY__INIT;
	char key[TABLE_KEY_MAX + 1];
	size_t key_len = task_key(request->task_id, key);
	const struct row *row = key_len ? fsm_read(s->fsm, key, key_len) : NULL;

	if (!row) {
		rpc_fail(call, key_len ? GRPC_STATUS_NOT_FOUND : GRPC_STATUS_INVALID_ARGUMENT,
			 "there is no such task");
		return;
	}
	reply.task_id = request->task_id;
	reply.status = (char *)"submitted";
	reply.command = (ProtobufCBinaryData){.len = row->value_len, .data = (uint8_t *)row->value};
	rpc_reply(call, &reply.base);
}

int service_serve(struct service *service, struct rpc_server *server)
{
	static const struct rpc_method methods[] = {
		{.name = "GetClusterStatus",
		 .request = &blixard__get_cluster_status_request__descriptor,
		 .handle = on_cluster_status},
		{.name = "GetRaftStatus",
		 .request = &blixard__get_raft_status_request__descriptor,
		 .handle = on_raft_status},
		{.name = "HealthCheck",
		 .request = &blixard__health_check_request__descriptor,
		 .handle = on_health},
		{.name = "ProposeTask",
		 .request = &blixard__propose_task_request__descriptor,
		 .handle = on_propose},
		{.name = "SubmitTask",
		 .request = &blixard__submit_task_request__descriptor,
		 .handle = on_submit},
		{.name = "GetTaskStatus",
		 .request = &blixard__get_task_status_request__descriptor,
		 .handle = on_task_status},
	};

	return rpc_server_add(server, methods, sizeof(methods) / sizeof(methods[0]), service);
}
