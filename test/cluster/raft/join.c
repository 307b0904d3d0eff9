/* join.c - see join.h. Loop thread only. */
#include "join.h"

#include "test/cluster/log.h"
#include "proto/blixard_cluster.pb-c.h"
#include "test/cluster/record/record.h"
#include "verdict.h"

#include <errno.h>
#include <event2/util.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { RETRY_MS = 500 };

struct joins {
	struct raft *raft;
	struct rpc_queue *queue;
	struct transport *transport;
	const struct self *self;
	struct event_base *base;
	bool stopping;

	/* the new node's side */
	struct event *retry;
	char member[ADDRESS_MAX + 1];
	struct rpc_channel *channel; /* to that member, while it is asked */
	bool asked_before;
	void (*refused)(void *arg);
	void *refused_arg;

	/* the leader's side: one change at a time */
	bool changing;
	struct raft_change change;
	uint64_t node_id; /* that joins or leaves */
	struct rpc_call *call;
	bool leaving;
};

struct joins *joins_new(struct event_base *base, struct rpc_queue *queue, struct raft *raft,
			const struct self *self)
{
	struct joins *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->base = base;
	j->queue = queue;
	j->raft = raft;
	j->self = self;
	return j;
}

struct joins *joins_free(struct joins *j)
{
	if (!j)
		return NULL;
	if (j->retry)
		event_free(j->retry);
	free(j);
	return NULL;
}

void joins_set_transport(struct joins *j, struct transport *transport)
{
	j->transport = transport;
}

static const struct raft_server *find_server(const struct raft *raft, uint64_t id)
{
	for (unsigned i = 0; i < raft->configuration.n; i++) {
		if (raft->configuration.servers[i].id == id)
			return &raft->configuration.servers[i];
	}
	return NULL;
}

/* ---- the new node's side --------------------------------------------------------------------- */

static void ask_again(struct joins *j)
{
	static const struct timeval later = {0, RETRY_MS * 1000};

	if (j->retry && !j->stopping)
		event_add(j->retry, &later);
}

static void on_answer(void *arg, const struct rpc_result *result)
{
	struct joins *j = arg;

	j->channel = rpc_channel_close(j->channel);
	if (j->stopping)
		return;
	switch (result->code) {
	case GRPC_STATUS_OK:
		log_line(LOG_INFO, "joined the cluster as a voter");
		return;
	case GRPC_STATUS_ALREADY_EXISTS:
	case GRPC_STATUS_FAILED_PRECONDITION:
	case GRPC_STATUS_INVALID_ARGUMENT:
		log_line(LOG_ERROR, "the cluster refused this node: %s", result->text);
		j->refused(j->refused_arg);
		return;
	default:
		log_line(j->asked_before ? LOG_DEBUG : LOG_INFO,
			 "not a member yet, asking %s again: %s", j->member, result->text);
		j->asked_before = true;
		ask_again(j);
	}
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	Blixard__JoinClusterRequest request = BLIXARD__JOIN_CLUSTER_REQUEST__INIT;
	struct joins *j = arg;
	const struct raft_server *self = find_server(j->raft, j->self->node_id);

	(void)fd;
	(void)what;
	if (j->stopping || (self && self->role == RAFT_VOTER))
		return;
	request.cluster = (char *)j->self->cluster;
	request.node_id = j->self->node_id;
	request.address = (char *)j->self->address;
	j->channel = rpc_channel_open(j->queue, j->member);
	if (!j->channel || rpc_channel_call(j->channel, "JoinCluster", &request.base,
					    &blixard__join_cluster_reply__descriptor,
					    JOIN_TIMEOUT_MS, on_answer, j)) {
		j->channel = rpc_channel_close(j->channel);
		ask_again(j);
	}
}

int joins_start(struct joins *j, const char *member, void (*refused)(void *arg), void *arg)
{
	static const struct timeval now = {0, 0};

	strncpy(j->member, member, ADDRESS_MAX);
	j->refused = refused;
	j->refused_arg = arg;
	j->retry = event_new(j->base, -1, 0, on_retry, j);
	return j->retry && !event_add(j->retry, &now) ? 0 : -ENOMEM;
}

/* ---- passing on to the leader ---------------------------------------------------------------- */

static void on_relayed(void *arg, const struct rpc_result *result)
{
	if (result->reply)
		rpc_reply(arg, result->reply);
	else
		rpc_fail(arg, result->code, result->text);
}

/* The request is the caller's own but for its mark that it was relayed. */
static void relay(struct joins *j, struct rpc_call *call, const char *method,
		  const ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply,
		  bool relayed)
{
	const char *address;
	raft_id leader;

	raft_leader(j->raft, &leader, &address);
	if (relayed || !leader || leader == j->self->node_id ||
	    transport_call(j->transport, leader, method, request, reply, JOIN_TIMEOUT_MS,
			   on_relayed, call))
		rpc_fail(call, GRPC_STATUS_UNAVAILABLE, verdict_text(VERDICT_NOT_LEADER));
}

/* ---- the leader's side ----------------------------------------------------------------------- */

static void succeed(struct rpc_call *call, bool leaving)
{
	Blixard__JoinClusterReply joined = BLIXARD__JOIN_CLUSTER_REPLY__INIT;
	Blixard__LeaveClusterReply left = BLIXARD__LEAVE_CLUSTER_REPLY__INIT;

	rpc_reply(call, leaving ? &left.base : &joined.base);
}

static void finish(struct joins *j, int status)
{
	enum verdict verdict = verdict_of_raft(status);
	const char *done = j->leaving ? "is no member any more" : "is a voter now";

	j->changing = false;
	if (status)
		log_line(LOG_INFO, "node %" PRIu64 " did not %s: %s", j->node_id,
			 j->leaving ? "leave" : "become a voter", raft_strerror(status));
	else
		log_line(LOG_INFO, "node %" PRIu64 " %s", j->node_id, done);
	if (!j->call)
		return;
	if (!status)
		succeed(j->call, j->leaving);
	else if (verdict == VERDICT_REFUSED)
		rpc_fail(j->call, GRPC_STATUS_ALREADY_EXISTS, "another node has its id or address");
	else if (status == RAFT_NOCONNECTION || verdict == VERDICT_BUSY)
		rpc_fail(j->call, GRPC_STATUS_UNAVAILABLE, raft_strerror(status));
	else
		rpc_fail(j->call, verdict_status(verdict), verdict_text(verdict));
	j->call = NULL;
}

static void on_changed(struct raft_change *change, int status)
{
	finish(change->data, status);
}

static void on_added(struct raft_change *change, int status)
{
	struct joins *j = change->data;

	if (!status)
		status = raft_assign(j->raft, &j->change, j->node_id, RAFT_VOTER, on_changed);
	if (status)
		finish(j, status);
}

/* False: another change is in progress, and the caller has been told. */
static bool begin(struct joins *j, struct rpc_call *call, uint64_t node_id, bool leaving)
{
	if (j->changing) {
		rpc_fail(call, GRPC_STATUS_UNAVAILABLE, "another change is in progress, try again");
		return false;
	}
	j->changing = true;
	j->change = (struct raft_change){.data = j};
	j->node_id = node_id;
	j->leaving = leaving;
	j->call = call;
	return true;
}

static bool is_address(const char *text)
{
	struct sockaddr_storage parsed;
	int len = sizeof(parsed);

	return strlen(text) <= ADDRESS_MAX &&
	       !evutil_parse_sockaddr_port(text, (struct sockaddr *)&parsed, &len);
}

static bool is_refused(struct joins *j, struct rpc_call *call,
		       const Blixard__JoinClusterRequest *request)
{
	if (strcmp(request->cluster, j->self->cluster) != 0) {
		record_peer_fault(FAULT_IDENTITY);
		rpc_fail(call, GRPC_STATUS_FAILED_PRECONDITION, "this is another cluster");
		return true;
	}
	if (!request->node_id || !is_address(request->address)) {
		rpc_fail(call, GRPC_STATUS_INVALID_ARGUMENT,
			 "a node_id and a numeric address are needed");
		return true;
	}
	return false;
}

static void on_join(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	Blixard__JoinClusterRequest request =
		*(const Blixard__JoinClusterRequest *)(const void *)message;
	struct joins *j = arg;
	const struct raft_server *server = find_server(j->raft, request.node_id);
	bool relayed = request.relayed;
	int status;

	if (is_refused(j, call, &request))
		return;
	if (raft_state(j->raft) != RAFT_LEADER) {
		request.relayed = true;
		relay(j, call, "JoinCluster", &request.base,
		      &blixard__join_cluster_reply__descriptor, relayed);
		return;
	}
	if (server && strcmp(server->address, request.address) != 0) {
		rpc_fail(call, GRPC_STATUS_ALREADY_EXISTS, "another node has its id");
		return;
	}
	if (server && server->role == RAFT_VOTER) {
		succeed(call, false);
		return;
	}
	if (!begin(j, call, request.node_id, false))
		return;
	if (server)
		status = raft_assign(j->raft, &j->change, request.node_id, RAFT_VOTER, on_changed);
	else
		status = raft_add(j->raft, &j->change, request.node_id, request.address, on_added);
	if (status)
		finish(j, status);
}

static void on_leave(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	Blixard__LeaveClusterRequest request =
		*(const Blixard__LeaveClusterRequest *)(const void *)message;
	struct joins *j = arg;
	bool relayed = request.relayed;

	if (raft_state(j->raft) != RAFT_LEADER) {
		request.relayed = true;
		relay(j, call, "LeaveCluster", &request.base,
		      &blixard__leave_cluster_reply__descriptor, relayed);
		return;
	}
	if (!find_server(j->raft, request.node_id)) {
		rpc_fail(call, GRPC_STATUS_NOT_FOUND, "no member has this id");
		return;
	}
	if (j->raft->configuration.n == 1) {
		rpc_fail(call, GRPC_STATUS_FAILED_PRECONDITION, "it is the only member");
		return;
	}
	if (!begin(j, call, request.node_id, true))
		return;
	int status = raft_remove(j->raft, &j->change, request.node_id, on_changed);
	if (status)
		finish(j, status);
}

int joins_serve(struct joins *j, struct rpc_server *server)
{
	static const struct rpc_method methods[] = {
		{.name = "JoinCluster",
		 .request = &blixard__join_cluster_request__descriptor,
		 .handle = on_join},
		{.name = "LeaveCluster",
		 .request = &blixard__leave_cluster_request__descriptor,
		 .handle = on_leave},
	};

	return rpc_server_add(server, methods, sizeof(methods) / sizeof(methods[0]), j);
}

void joins_stop(struct joins *j)
{
	j->stopping = true;
	j->channel = rpc_channel_close(j->channel);
	if (j->call)
		rpc_fail(j->call, GRPC_STATUS_CANCELLED, verdict_text(VERDICT_CANCELLED));
	j->call = NULL;
}
