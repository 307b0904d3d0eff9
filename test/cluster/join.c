/* join.c - see join.h. Loop thread only. */
#include "join.h"

#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_MS = 500, RELAYS_MAX = 16 };

static const uint64_t own_request = 1; /* relays count from here */

/* A question passed on to the leader. */
struct relay {
	uint64_t id; /* 0: free */
	uint64_t connection;
	uint64_t request;
};

struct joins {
	struct raft *raft;
	struct transport *transport;
	struct wire_hello self;
	struct event_base *base;

	/* the new node's side */
	struct event *retry;
	char member[ADDRESS_MAX + 1];
	bool asked_before;
	void (*refused)(void *arg);
	void *refused_arg;

	/* a member's side */
	struct relay relays[RELAYS_MAX];
	uint64_t next_relay;

	/* the leader's side: one change at a time */
	bool changing;
	struct raft_change change;
	struct wire_join joining;
	uint64_t connection;
};

struct joins *joins_new(struct event_base *base, struct raft *raft, const struct wire_hello *self)
{
	struct joins *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->base = base;
	j->raft = raft;
	j->self = *self;
	j->next_relay = own_request;
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

	if (j->retry)
		event_add(j->retry, &later);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct joins *j = arg;
	const struct raft_server *self = find_server(j->raft, j->self.node_id);
	struct wire_join join = {.request = own_request, .node_id = j->self.node_id};

	(void)fd;
	(void)what;
	if (self && self->role == RAFT_VOTER)
		return;
	memcpy(join.address, j->self.address, sizeof(join.address));
	if (transport_ask_join(j->transport, j->member, &join))
		ask_again(j);
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

static void own_result(struct joins *j, enum wire_verdict verdict)
{
	if (verdict == WIRE_OK) {
		log_line(LOG_INFO, "joined the cluster as a voter");
		return;
	}
	if (verdict == WIRE_REFUSED) {
		log_line(LOG_ERROR,
			 "the cluster refused this node: another one has its id or address");
		j->refused(j->refused_arg);
		return;
	}
	if (!j->asked_before)
		log_line(LOG_INFO, "not a member yet, asking %s again", j->member);
	j->asked_before = true;
	ask_again(j);
}

/* ---- a member's side ------------------------------------------------------------------------- */

static void answer(struct joins *j, uint64_t connection, uint64_t request,
		   enum wire_verdict verdict)
{
	transport_answer(j->transport, connection, WIRE_JOIN_RESULT, request, verdict);
}

static void relay(struct joins *j, uint64_t connection, const struct wire_join *join)
{
	struct relay *relay = &j->relays[++j->next_relay % RELAYS_MAX];
	struct wire_join passed = *join;
	const char *address;
	raft_id leader;

	raft_leader(j->raft, &leader, &address);
	/* The one that was in this place has asked long ago, and will ask again. */
	*relay = (struct relay){
		.id = j->next_relay, .connection = connection, .request = join->request};
	passed.request = relay->id;
	if (!leader || leader == j->self.node_id ||
	    transport_send_join(j->transport, leader, &passed)) {
		relay->id = 0;
		answer(j, connection, join->request, WIRE_NOT_LEADER);
	}
}

void joins_result(struct joins *j, uint64_t request, enum wire_verdict verdict)
{
	if (request == own_request) {
		own_result(j, verdict);
		return;
	}
	struct relay *relay = &j->relays[request % RELAYS_MAX];
	if (relay->id != request)
		return;
	relay->id = 0;
	answer(j, relay->connection, relay->request, verdict);
}

/* ---- the leader's side ----------------------------------------------------------------------- */

static enum wire_verdict verdict_of(int status)
{
	switch (status) {
	case 0:
		return WIRE_OK;
	case RAFT_DUPLICATEID:
	case RAFT_DUPLICATEADDRESS:
		return WIRE_REFUSED;
	case RAFT_NOTLEADER:
		return WIRE_NOT_LEADER;
	case RAFT_LEADERSHIPLOST:
		return WIRE_LEADERSHIP_LOST;
	default:
		return WIRE_BUSY;
	}
}

static void finish(struct joins *j, int status)
{
	j->changing = false;
	if (status)
		log_line(LOG_INFO, "node %" PRIu64 " did not become a voter: %s",
			 j->joining.node_id, raft_strerror(status));
	else
		log_line(LOG_INFO, "node %" PRIu64 " at %s is a voter now", j->joining.node_id,
			 j->joining.address);
	answer(j, j->connection, j->joining.request, verdict_of(status));
}

static void on_assigned(struct raft_change *change, int status)
{
	finish(change->data, status);
}

static void on_added(struct raft_change *change, int status)
{
	struct joins *j = change->data;

	if (!status)
		status = raft_assign(j->raft, &j->change, j->joining.node_id, RAFT_VOTER,
				     on_assigned);
	if (status)
		finish(j, status);
}

void joins_take(struct joins *j, uint64_t connection, const struct wire_join *join)
{
	const struct raft_server *server = find_server(j->raft, join->node_id);

	if (raft_state(j->raft) != RAFT_LEADER) {
		relay(j, connection, join);
		return;
	}
	if (server && strcmp(server->address, join->address)) {
		answer(j, connection, join->request, WIRE_REFUSED);
		return;
	}
	if (server && server->role == RAFT_VOTER) {
		answer(j, connection, join->request, WIRE_OK);
		return;
	}
	if (j->changing) {
		answer(j, connection, join->request, WIRE_BUSY);
		return;
	}
	j->changing = true;
	j->change = (struct raft_change){.data = j};
	j->joining = *join;
	j->connection = connection;
	int status;
	if (server)
		status = raft_assign(j->raft, &j->change, join->node_id, RAFT_VOTER, on_assigned);
	else
		status = raft_add(j->raft, &j->change, join->node_id, join->address, on_added);
	if (status)
		finish(j, status);
}
