/* transport.c - whom this node is connected to, and what their frames mean. Loop thread only. */
#include "transport.h"

#include "connection.h"
#include "limits.h"
#include "log.h"
#include "record.h"

#include <errno.h>
#include <event2/listener.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { HOUSEKEEPING_MS = 50, BACKLOG = 64 };

struct peer {
	uint64_t node_id;
	char address[ADDRESS_MAX + 1];
	bool member;  /* of the configuration; otherwise somebody whom Raft answers */
	bool dialled; /* at least once: the next time is a reconnect */
	bool told;    /* that it cannot be reached */
	struct connection *connection;
	struct record_peer *record;
	uint64_t dial_at_ns;
	unsigned backoff_ms;
};

struct transport {
	struct event_base *base;
	struct wire_hello self;
	struct transport_events events;
	struct connection_handler handler;
	struct evconnlistener *listener;
	struct event *housekeeper;
	struct connection *connections;
	struct peer peers[MEMBERS_MAX];
	size_t n_peers;
	size_t n_accepted;
	uint64_t pings;
	uint64_t join_request; /* asked over the connection that is `joining` */
	struct wire_join join;
};

static uint64_t ms(uint64_t value)
{
	return value * 1000000;
}

/* ---- peers ----------------------------------------------------------------------------------- */

static struct peer *find_peer(const struct transport *t, uint64_t node_id)
{
	for (size_t i = 0; i < t->n_peers; i++) {
		if (t->peers[i].node_id == node_id)
			return (struct peer *)&t->peers[i];
	}
	return NULL;
}

static bool is_up(const struct peer *peer)
{
	return peer->connection && peer->connection->greeted;
}

static void publish(const struct transport *t)
{
	size_t active = 0, expected = 0;

	for (size_t i = 0; i < t->n_peers; i++) {
		expected += t->peers[i].member;
		active += t->peers[i].member && is_up(&t->peers[i]);
	}
	record_peer_connections(active, expected);
}

static void forget_peer(struct transport *t, struct peer *peer)
{
	if (peer->connection)
		connection_close(peer->connection);
	*peer = t->peers[--t->n_peers];
}

static struct peer *new_peer(struct transport *t, uint64_t node_id)
{
	/* Whoever claims to be a node may have made us dial it: members come first. */
	for (size_t i = 0; t->n_peers == MEMBERS_MAX && i < t->n_peers; i++) {
		if (!t->peers[i].member)
			forget_peer(t, &t->peers[i]);
	}
	if (t->n_peers == MEMBERS_MAX)
		return NULL;
	struct peer *peer = &t->peers[t->n_peers++];
	*peer = (struct peer){.node_id = node_id, .record = record_peer(node_id)};
	return peer;
}

/* The peer with this id, known at this address from now on; NULL: one too many. */
static struct peer *know_peer(struct transport *t, uint64_t node_id, const char *address)
{
	struct peer *peer = find_peer(t, node_id);

	if (strlen(address) > ADDRESS_MAX)
		return NULL;
	if (!peer)
		peer = new_peer(t, node_id);
	else if (!strcmp(peer->address, address))
		return peer;
	else if (peer->connection)
		connection_close(peer->connection);
	if (!peer)
		return NULL;
	memcpy(peer->address, address, strlen(address) + 1);
	peer->backoff_ms = RECONNECT_MIN_MS;
	peer->dial_at_ns = 0;
	return peer;
}

void transport_set_peers(struct transport *t, const struct raft_configuration *configuration)
{
	for (size_t i = 0; i < t->n_peers; i++)
		t->peers[i].member = false;
	for (unsigned i = 0; i < configuration->n; i++) {
		const struct raft_server *server = &configuration->servers[i];
		struct peer *peer;

		if (server->id == t->self.node_id)
			continue;
		peer = know_peer(t, server->id, server->address);
		if (peer)
			peer->member = true;
	}
	for (size_t i = 0; configuration->n && i < t->n_peers;) {
		if (t->peers[i].member)
			i++;
		else
			forget_peer(t, &t->peers[i]);
	}
	publish(t);
}

bool transport_heard(const struct transport *t, uint64_t node_id, uint64_t within_ms)
{
	const struct peer *peer = find_peer(t, node_id);

	return peer && is_up(peer) && record_now_ns() - peer->connection->heard_ns <= ms(within_ms);
}

/* ---- dialling -------------------------------------------------------------------------------- */

static void dial_later(struct peer *peer)
{
	uint64_t jitter = record_now_ns() % (peer->backoff_ms / 2 + 1);

	peer->dial_at_ns = record_now_ns() + ms(peer->backoff_ms + jitter);
	peer->backoff_ms *= 2;
	if (peer->backoff_ms > RECONNECT_MAX_MS)
		peer->backoff_ms = RECONNECT_MAX_MS;
}

static void dial(struct transport *t, struct peer *peer)
{
	uint64_t node_id = peer->node_id;

	if (peer->dialled)
		record_peer_reconnect(peer->record);
	peer->dialled = true;
	dial_later(peer);
	struct connection *c =
		connection_dial(t->base, peer->address, &t->handler, &t->connections);
	if (!c) {
		log_line(LOG_DEBUG, "peer %" PRIu64 " cannot be dialled at %s", node_id,
			 peer->address);
		return;
	}
	c->node_id = node_id;
	peer->connection = c;
	connection_attribute(c, peer->record);
}

static void send_hello(struct transport *t, struct connection *c)
{
	uint8_t payload[512];
	size_t len = wire_encode_hello(&t->self, payload, sizeof(payload));

	(void)connection_send(c, WIRE_HELLO, payload, len);
}

static void on_up(void *arg, struct connection *c)
{
	send_hello(arg, c);
}

static void on_down(void *arg, struct connection *c)
{
	struct transport *t = arg;

	if (!c->dialled) {
		t->n_accepted--;
		return;
	}
	if (c->joining) {
		if (t->join_request)
			t->events.join_result(t->events.arg, t->join_request, WIRE_TIMEOUT);
		t->join_request = 0;
		return;
	}
	struct peer *peer = find_peer(t, c->node_id);
	if (!peer || peer->connection != c)
		return;
	bool was_up = is_up(peer);
	peer->connection = NULL;
	if (!peer->told)
		log_line(LOG_WARN, "peer %" PRIu64 " at %s %s", peer->node_id, peer->address,
			 was_up ? "is gone, dialling again" : "does not answer, dialling again");
	peer->told = true;
	publish(t);
	if (was_up)
		t->events.peer_lost(t->events.arg, c->node_id);
}

/* ---- housekeeping ---------------------------------------------------------------------------- */

static void ping(struct transport *t, struct connection *c, uint64_t now)
{
	uint8_t payload[8];

	if (c->ping_waits || now - c->ping_sent_ns < ms(PING_MS))
		return;
	c->ping = ++t->pings;
	c->ping_sent_ns = now;
	c->ping_waits = true;
	(void)connection_send(c, WIRE_PING, payload,
			      wire_encode_number(c->ping, payload, sizeof(payload)));
}

/* Closing calls handlers that may close others: after one, the walk starts again. */
static bool close_one_dead(struct transport *t, uint64_t now)
{
	for (struct connection *c = t->connections; c; c = c->next) {
		bool rude = !c->greeted && now - c->opened_ns > ms(HELLO_TIMEOUT_MS);
		bool silent = c->greeted && now - c->heard_ns > ms(PEER_SILENT_MS);

		if (!rude && !silent)
			continue;
		if (rude && !c->dialled)
			record_peer_fault(FAULT_IDENTITY);
		connection_close(c);
		return true;
	}
	return false;
}

static void on_housekeeping(evutil_socket_t fd, short what, void *arg)
{
	struct transport *t = arg;
	uint64_t now = record_now_ns();

	(void)fd;
	(void)what;
	while (close_one_dead(t, now))
		;
	for (size_t i = 0; i < t->n_peers; i++) {
		if (!t->peers[i].connection && now >= t->peers[i].dial_at_ns)
			dial(t, &t->peers[i]);
		else if (is_up(&t->peers[i]))
			ping(t, t->peers[i].connection, now);
	}
}

/* ---- frames ---------------------------------------------------------------------------------- */

static bool refuse(enum peer_fault fault, struct connection *c)
{
	record_peer_fault(fault);
	connection_close(c);
	return true; /* closed already, and counted once */
}

static void ask_join(struct transport *t, struct connection *c)
{
	uint8_t payload[512];
	size_t len = wire_encode_join(&t->join, payload, sizeof(payload));

	(void)connection_send(c, WIRE_JOIN, payload, len);
}

static bool on_hello(struct transport *t, struct connection *c, const uint8_t *payload, size_t len)
{
	struct wire_hello hello;

	if (c->greeted || wire_decode_hello(payload, len, &hello))
		return false;
	struct peer *peer = find_peer(t, hello.node_id);
	bool other_node = c->dialled && !c->joining && hello.node_id != c->node_id;
	if (strcmp(hello.cluster, t->self.cluster) || other_node ||
	    hello.node_id == t->self.node_id) {
		log_line(LOG_DEBUG, "refused node %" PRIu64 " of cluster %s at %s", hello.node_id,
			 hello.cluster, hello.address);
		return refuse(FAULT_IDENTITY, c);
	}
	connection_greeted(c);
	if (c->joining) {
		ask_join(t, c);
		return true;
	}
	if (!c->dialled) {
		c->node_id = hello.node_id;
		memcpy(c->address, hello.address, sizeof(c->address));
		if (peer) {
			connection_attribute(c, peer->record);
			/* It is alive: no need to wait before dialling back. */
			peer->backoff_ms = RECONNECT_MIN_MS;
			peer->dial_at_ns = 0;
		}
		send_hello(t, c);
		return true;
	}
	if (peer && peer->told)
		log_line(LOG_INFO, "peer %" PRIu64 " at %s is back", peer->node_id, peer->address);
	if (peer) {
		peer->told = false;
		peer->backoff_ms = RECONNECT_MIN_MS;
	}
	publish(t);
	return true;
}

static bool on_pong(struct connection *c, const uint8_t *payload, size_t len)
{
	uint64_t number;

	if (wire_decode_number(payload, len, &number) || !c->ping_waits || number != c->ping)
		return false;
	if (c->record)
		record_peer_round_trip(c->record, record_now_ns() - c->ping_sent_ns);
	c->ping_waits = false;
	return true;
}

/* What the side that dialled may be sent: answers. */
static bool on_answer(struct transport *t, struct connection *c, enum wire_kind kind,
		      const uint8_t *payload, size_t len)
{
	enum wire_verdict verdict;
	uint64_t request;

	if (kind == WIRE_PONG)
		return on_pong(c, payload, len);
	if ((kind != WIRE_FORWARD_RESULT && kind != WIRE_JOIN_RESULT) ||
	    wire_decode_verdict(payload, len, &request, &verdict))
		return false;
	if (kind == WIRE_FORWARD_RESULT) {
		t->events.forward_result(t->events.arg, request, verdict);
		return true;
	}
	if (c->joining)
		t->join_request = 0;
	t->events.join_result(t->events.arg, request, verdict);
	if (c->joining)
		connection_close(c);
	return true;
}

static bool on_raft(struct transport *t, struct connection *c, const uint8_t *payload, size_t len)
{
	struct raft_message message;

	if (wire_decode_raft(payload, len, &message))
		return false;
	if (!c->record) { /* it was dialled back since its hello */
		struct peer *peer = find_peer(t, c->node_id);
		if (peer)
			connection_attribute(c, peer->record);
	}
	message.server_id = c->node_id;
	message.server_address = c->address;
	t->events.raft(t->events.arg, &message);
	return true;
}

/* What the side that accepted may be sent: requests. */
static bool on_request(struct transport *t, struct connection *c, enum wire_kind kind,
		       const uint8_t *payload, size_t len)
{
	struct wire_request request;
	struct wire_join join;
	uint64_t number;

	switch (kind) {
	case WIRE_PING:
		if (wire_decode_number(payload, len, &number))
			return false;
		(void)connection_send(c, WIRE_PONG, payload, len);
		return true;
	case WIRE_RAFT:
		return on_raft(t, c, payload, len);
	case WIRE_FORWARD:
		if (wire_decode_request(payload, len, &request))
			return false;
		t->events.forward(t->events.arg, c->serial, &request);
		return true;
	case WIRE_JOIN:
		if (wire_decode_join(payload, len, &join))
			return false;
		t->events.join(t->events.arg, c->serial, &join);
		return true;
	default:
		return false;
	}
}

static bool on_frame(void *arg, struct connection *c, enum wire_kind kind, const uint8_t *payload,
		     size_t len)
{
	struct transport *t = arg;

	if (kind == WIRE_HELLO)
		return on_hello(t, c, payload, len);
	return c->dialled ? on_answer(t, c, kind, payload, len)
			  : on_request(t, c, kind, payload, len);
}

/* ---- sending --------------------------------------------------------------------------------- */

int transport_send_raft(struct transport *t, const struct raft_message *message)
{
	struct peer *peer = find_peer(t, message->server_id);

	/* Where a member lives, only the configuration says. */
	if (!peer || !peer->member)
		peer = know_peer(t, message->server_id, message->server_address);
	return peer && is_up(peer) ? connection_send_raft(peer->connection, message) : -ENOTCONN;
}

int transport_send_forward(struct transport *t, uint64_t node_id, uint64_t request,
			   const void *command, size_t len)
{
	uint8_t payload[COMMAND_MAX_BYTES + 8];
	const struct peer *peer = find_peer(t, node_id);

	if (!peer || !is_up(peer))
		return -ENOTCONN;
	size_t bytes = wire_encode_request(request, command, len, payload, sizeof(payload));
	return bytes ? connection_send(peer->connection, WIRE_FORWARD, payload, bytes) : -EMSGSIZE;
}

int transport_send_join(struct transport *t, uint64_t node_id, const struct wire_join *join)
{
	uint8_t payload[512];
	const struct peer *peer = find_peer(t, node_id);

	if (!peer || !is_up(peer))
		return -ENOTCONN;
	size_t bytes = wire_encode_join(join, payload, sizeof(payload));
	return bytes ? connection_send(peer->connection, WIRE_JOIN, payload, bytes) : -EMSGSIZE;
}

void transport_answer(struct transport *t, uint64_t connection, enum wire_kind kind,
		      uint64_t request, enum wire_verdict verdict)
{
	uint8_t payload[16];
	size_t len = wire_encode_verdict(request, verdict, payload, sizeof(payload));

	for (struct connection *c = t->connections; c; c = c->next) {
		if (c->serial == connection) {
			(void)connection_send(c, kind, payload, len);
			return;
		}
	}
}

int transport_ask_join(struct transport *t, const char *address, const struct wire_join *join)
{
	if (t->join_request)
		return -EBUSY;
	t->join = *join;
	struct connection *c = connection_dial(t->base, address, &t->handler, &t->connections);
	if (!c)
		return -ENOTCONN;
	c->joining = true;
	t->join_request = join->request;
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from,
		      int len, void *arg)
{
	struct transport *t = arg;

	(void)listener;
	(void)from;
	(void)len;
	if (t->n_accepted >= CONNECTIONS_MAX) {
		record_peer_fault(FAULT_LIMIT);
		evutil_closesocket(fd);
		return;
	}
	if (connection_accept(t->base, fd, &t->handler, &t->connections))
		t->n_accepted++;
	else
		evutil_closesocket(fd);
}

static int listen_on(struct transport *t, const char *address)
{
	struct sockaddr_storage at;
	int len = sizeof(at);

	if (evutil_parse_sockaddr_port(address, (struct sockaddr *)&at, &len))
		return -EINVAL;
	errno = 0;
	t->listener = evconnlistener_new_bind(t->base, on_accept, t,
					      LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC |
						      LEV_OPT_REUSEABLE,
					      BACKLOG, (struct sockaddr *)&at, len);
	if (t->listener)
		return 0;
	return errno ? -errno : -ENOMEM;
}

int transport_open(struct event_base *base, const struct wire_hello *self,
		   const struct transport_events *events, struct transport **ret_transport)
{
	static const struct timeval period = {0, HOUSEKEEPING_MS * 1000};
	struct transport *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->base = base;
	t->self = *self;
	t->events = *events;
	t->handler = (struct connection_handler){
		.up = on_up, .frame = on_frame, .down = on_down, .arg = t};
	int err = listen_on(t, self->address);
	if (!err) {
		t->housekeeper = event_new(base, -1, EV_PERSIST, on_housekeeping, t);
		if (!t->housekeeper || event_add(t->housekeeper, &period))
			err = -ENOMEM;
	}
	if (err) {
		transport_close(t);
		return err;
	}
	*ret_transport = t;
	return 0;
}

static void on_late_down(void *arg, struct connection *c)
{
	(void)arg;
	(void)c;
}

struct transport *transport_close(struct transport *t)
{
	if (!t)
		return NULL;
	t->handler.down = on_late_down;
	while (t->connections)
		connection_close(t->connections);
	if (t->housekeeper)
		event_free(t->housekeeper);
	if (t->listener)
		evconnlistener_free(t->listener);
	free(t);
	return NULL;
}
