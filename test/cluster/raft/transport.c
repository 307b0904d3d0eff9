/* transport.c - whom this node is connected to, and what it sends them. Loop thread only. */
#include "transport.h"

#include "test/cluster/log.h"
#include "proto/blixard_cluster.pb-c.h"
#include "test/cluster/record/note.h"
#include "test/cluster/record/record.h"
#include "test/cluster/record/record_rpc.h"
#include "test/cluster/record/trace.h"
#include "test/cluster/state/command.h"
#include "wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	HOUSEKEEPING_MS = 50,
	BATCH_MESSAGES_MAX = 256,
	TRACED_MAX = 8,
	MESSAGE_HEAD_BYTES = 5, /* before every gRPC message */
};

/* Entries that belong to a trace: the first few of a message, or of a call. */
struct traced {
	struct trace_context contexts[TRACED_MAX];
	size_t n;
	size_t entries; /* all there are */
};

struct outgoing {
	struct outgoing *next;
	struct traced traced;
	size_t len;
	uint8_t bytes[];
};

struct peer {
	uint64_t node_id;
	char address[ADDRESS_MAX + 1];
	bool member;  /* of the configuration; otherwise somebody whom Raft answers */
	bool dialled; /* at least once: the next time is a reconnect */
	bool told;    /* that it cannot be reached */
	bool up;      /* it has answered over this channel */
	bool busy;    /* a SendRaftMessage is under way */
	struct rpc_channel *channel;
	uint64_t serial; /* of the channel; never reused */
	struct outgoing *first;
	struct outgoing *last;
	size_t queued_bytes;
	struct record_peer *record;
	uint64_t heard_ns;
	uint64_t measured_ns; /* when the last call that was timed began */
	uint64_t dial_at_ns;
	unsigned backoff_ms;
};

struct transport {
	struct rpc_queue *queue;
	const struct self *self;
	struct transport_events events;
	struct event *housekeeper;
	struct peer peers[MEMBERS_MAX];
	size_t n_peers;
	uint64_t serials;
	bool stopping;
};

/* A SendRaftMessage under way. The peer may be forgotten, or dialled again, before it ends. */
struct batch {
	struct transport *transport;
	uint64_t node_id;
	uint64_t serial;
	uint64_t started_ns;
	bool measured;
	blix_span span;
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

static void publish(const struct transport *t)
{
	size_t active = 0, expected = 0;

	for (size_t i = 0; i < t->n_peers; i++) {
		expected += t->peers[i].member;
		active += t->peers[i].member && t->peers[i].up;
	}
	record_peer_connections(active, expected);
}

static void hang_up(struct peer *peer)
{
	while (peer->first) {
		struct outgoing *out = peer->first;
		peer->first = out->next;
		free(out);
	}
	peer->last = NULL;
	peer->queued_bytes = 0;
	peer->up = peer->busy = false;
	peer->channel = rpc_channel_close(peer->channel);
}

static void forget_peer(struct transport *t, struct peer *peer)
{
	hang_up(peer);
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
	else
		hang_up(peer);
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

		if (server->id == t->self->node_id)
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

	return peer && peer->up && record_now_ns() - peer->heard_ns <= ms(within_ms);
}

/* ---- up and down ----------------------------------------------------------------------------- */

static void dial_later(struct peer *peer)
{
	uint64_t jitter = record_now_ns() % (peer->backoff_ms / 2 + 1);

	peer->dial_at_ns = record_now_ns() + ms(peer->backoff_ms + jitter);
	peer->backoff_ms *= 2;
	if (peer->backoff_ms > RECONNECT_MAX_MS)
		peer->backoff_ms = RECONNECT_MAX_MS;
}

/* It is alive: no need to wait long before dialling it. */
static void dial_soon(struct peer *peer)
{
	uint64_t soon = record_now_ns() + ms(RECONNECT_MIN_MS);

	peer->backoff_ms = RECONNECT_MIN_MS;
	if (peer->dial_at_ns > soon)
		peer->dial_at_ns = soon;
}

static void lose_peer(struct transport *t, struct peer *peer)
{
	bool was_up = peer->up;

	hang_up(peer);
	if (!peer->told)
		log_line(LOG_WARN, "peer %" PRIu64 " at %s %s", peer->node_id, peer->address,
			 was_up ? "is gone, dialling again" : "does not answer, dialling again");
	if (!peer->told)
		note_peer(peer->node_id, false);
	peer->told = true;
	publish(t);
}

static void find_alive(struct transport *t, struct peer *peer)
{
	peer->heard_ns = record_now_ns();
	if (peer->up)
		return;
	if (peer->told)
		log_line(LOG_INFO, "peer %" PRIu64 " at %s is back", peer->node_id, peer->address);
	note_peer(peer->node_id, true);
	peer->up = true;
	peer->told = false;
	peer->backoff_ms = RECONNECT_MIN_MS;
	publish(t);
}

/* gRPC would connect again by itself, and nobody would know that the connection was lost. */
static bool is_cut(const struct peer *peer)
{
	return peer->up && !rpc_channel_is_ready(peer->channel);
}

/* ---- traffic --------------------------------------------------------------------------------- */

static size_t bytes_of(const ProtobufCMessage *message)
{
	return protobuf_c_message_get_packed_size(message) + MESSAGE_HEAD_BYTES;
}

/* Only of peers: whoever else claims to be a node gets no series of his own. */
void transport_count_sent(struct transport *t, uint64_t node_id, const ProtobufCMessage *message)
{
	const struct peer *peer = find_peer(t, node_id);

	if (peer)
		record_peer_sent(peer->record, bytes_of(message));
}

void transport_count_received(struct transport *t, uint64_t node_id,
			      const ProtobufCMessage *message)
{
	const struct peer *peer = find_peer(t, node_id);

	if (peer)
		record_peer_received(peer->record, bytes_of(message));
}

/* ---- sending --------------------------------------------------------------------------------- */

static void send_batch(struct transport *t, struct peer *peer);

static void on_batch_done(void *arg, const struct rpc_result *result)
{
	struct batch *batch = arg;
	struct transport *t = batch->transport;
	struct peer *peer = find_peer(t, batch->node_id);
	bool current = peer && peer->channel && peer->serial == batch->serial;

	if (result->code != GRPC_STATUS_OK)
		trace_fail(batch->span, record_rpc_code_name(result->code), result->text);
	trace_end(batch->span);
	if (current && result->code == GRPC_STATUS_OK) {
		peer->busy = false;
		record_peer_received(peer->record, bytes_of(result->reply));
		if (batch->measured)
			record_peer_round_trip(peer->record, record_now_ns() - batch->started_ns);
		find_alive(t, peer);
		if (peer->first)
			send_batch(t, peer);
	} else if (current) {
		log_line(LOG_DEBUG, "peer %" PRIu64 ": %d %s", peer->node_id, result->code,
			 result->text);
		lose_peer(t, peer);
	}
	free(batch);
}

/* ---- traces ---------------------------------------------------------------------------------- */

static void look_for_traces(struct traced *traced, const struct raft_message *message, unsigned n)
{
	*traced = (struct traced){.entries = n};
	for (unsigned i = 0; i < n && traced->n < TRACED_MAX; i++) {
		const struct raft_entry *entry = &message->append_entries.entries[i];
		struct command command;

		if (entry->type == RAFT_COMMAND &&
		    !command_decode(entry->buf.base, entry->buf.len, &command) &&
		    trace_context_is_set(&command.context))
			traced->contexts[traced->n++] = command.context;
	}
}

/* One span for all that goes along: part of the first one's trace, linked with the others. */
static blix_span begin_replicate(const struct peer *peer, size_t n_messages)
{
	const struct outgoing *out = peer->first;
	blix_span span = {.place = 0};
	size_t entries = 0;

	for (size_t i = 0; i < n_messages; i++, out = out->next) {
		entries += out->traced.entries;
		for (size_t j = 0; j < out->traced.n; j++) {
			if (trace_is_set(span))
				trace_link(span, &out->traced.contexts[j]);
			else
				span = trace_begin_at(TRACE_RAFT_REPLICATE,
						      &out->traced.contexts[j]);
		}
	}
	trace_u64(span, TRACE_PEER_ID, peer->node_id);
	trace_u64(span, TRACE_BATCH_SIZE, entries);
	return span;
}

/* What goes along: all that waits, up to a bound of which one message alone may be more. */
static size_t gather(const struct peer *peer, ProtobufCBinaryData messages[BATCH_MESSAGES_MAX])
{
	size_t n = 0, bytes = 0;

	for (struct outgoing *out = peer->first; out && n < BATCH_MESSAGES_MAX; out = out->next) {
		bytes += out->len;
		if (n && bytes > APPEND_MAX_BYTES)
			break;
		messages[n++] = (ProtobufCBinaryData){.len = out->len, .data = out->bytes};
	}
	return n;
}

static void drop_sent(struct peer *peer, size_t n)
{
	while (n--) {
		struct outgoing *out = peer->first;

		peer->first = out->next;
		peer->queued_bytes -= out->len;
		free(out);
	}
	if (!peer->first)
		peer->last = NULL;
}

static int call_peer(struct transport *t, struct peer *peer, size_t n,
		     ProtobufCBinaryData *messages)
{
	Blixard__SendRaftMessageRequest request = BLIXARD__SEND_RAFT_MESSAGE_REQUEST__INIT;
	uint64_t now = record_now_ns();
	struct batch *batch = malloc(sizeof(*batch));

	if (!batch)
		return -ENOMEM;
	*batch = (struct batch){.transport = t,
				.node_id = peer->node_id,
				.serial = peer->serial,
				.started_ns = now,
				.measured = now - peer->measured_ns >= ms(PING_MS)};
	request.cluster = (char *)t->self->cluster;
	request.from = t->self->node_id;
	request.to = peer->node_id;
	request.address = (char *)t->self->address;
	request.n_messages = n;
	request.messages = messages;
	batch->span = begin_replicate(peer, n);
	blix_token token = trace_enter(batch->span);
	int err = rpc_channel_call(peer->channel, "SendRaftMessage", &request.base,
				   &blixard__send_raft_message_reply__descriptor,
				   RAFT_CALL_TIMEOUT_MS, on_batch_done, batch);
	trace_leave(token);
	if (err) {
		trace_fail(batch->span, NULL, strerror(-err));
		trace_end(batch->span);
		free(batch);
		return err;
	}
	if (batch->measured)
		peer->measured_ns = now;
	record_peer_sent(peer->record, bytes_of(&request.base));
	return 0;
}

static void send_batch(struct transport *t, struct peer *peer)
{
	ProtobufCBinaryData messages[BATCH_MESSAGES_MAX];
	size_t n = gather(peer, messages);

	if (is_cut(peer) || call_peer(t, peer, n, messages)) {
		lose_peer(t, peer);
		return;
	}
	peer->busy = true;
	drop_sent(peer, n);
}

static int enqueue(struct peer *peer, const struct raft_message *message)
{
	unsigned n = wire_raft_entries(message);
	size_t len = wire_raft_bytes(message, n);

	if (!len)
		return -EMSGSIZE;
	if (peer->queued_bytes + len > OUTPUT_MAX_BYTES) {
		record_peer_message_dropped();
		return -ENOBUFS;
	}
	struct outgoing *out = malloc(sizeof(*out) + len);
	if (!out)
		return -ENOMEM;
	out->next = NULL;
	look_for_traces(&out->traced, message, n);
	out->len = len;
	if (wire_encode_raft(message, n, out->bytes, len) != len) {
		free(out);
		return -EMSGSIZE;
	}
	if (peer->last)
		peer->last->next = out;
	else
		peer->first = out;
	peer->last = out;
	peer->queued_bytes += len;
	return 0;
}

int transport_send_raft(struct transport *t, const struct raft_message *message)
{
	struct peer *peer = find_peer(t, message->server_id);

	if (t->stopping)
		return -ENOTCONN;
	/* Where a member lives, only the configuration says. */
	if (!peer || !peer->member)
		peer = know_peer(t, message->server_id, message->server_address);
	if (!peer || !peer->up)
		return -ENOTCONN;
	int err = enqueue(peer, message);
	if (!err && !peer->busy)
		send_batch(t, peer);
	return err;
}

int transport_call(struct transport *t, uint64_t node_id, const char *method,
		   const ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply,
		   unsigned timeout_ms, void (*done)(void *arg, const struct rpc_result *result),
		   void *arg)
{
	struct peer *peer = find_peer(t, node_id);

	if (!peer || !peer->up)
		return -ENOTCONN;
	if (is_cut(peer)) {
		lose_peer(t, peer);
		return -ENOTCONN;
	}
	return rpc_channel_call(peer->channel, method, request, reply, timeout_ms, done, arg);
}

/* ---- housekeeping ---------------------------------------------------------------------------- */

static void dial(struct transport *t, struct peer *peer)
{
	if (peer->dialled)
		record_peer_reconnect(peer->record);
	peer->dialled = true;
	dial_later(peer);
	peer->channel = rpc_channel_open(t->queue, peer->address);
	peer->serial = ++t->serials;
	if (peer->channel)
		send_batch(t, peer);
}

static void look_after(struct transport *t, struct peer *peer, uint64_t now)
{
	if (!peer->channel && now >= peer->dial_at_ns)
		dial(t, peer);
	else if (is_cut(peer))
		lose_peer(t, peer);
	else if (peer->up && !peer->busy && now - peer->measured_ns >= ms(PING_MS))
		send_batch(t, peer);
}

static void on_housekeeping(evutil_socket_t fd, short what, void *arg)
{
	struct transport *t = arg;

	(void)fd;
	(void)what;
	for (size_t i = 0; i < t->n_peers; i++)
		look_after(t, &t->peers[i], record_now_ns());
}

/* ---- what peers send ------------------------------------------------------------------------- */

static bool is_for_us(const struct transport *t, const Blixard__SendRaftMessageRequest *request)
{
	return !strcmp(request->cluster, t->self->cluster) && request->to == t->self->node_id &&
	       request->from && request->from != t->self->node_id;
}

static void refuse(struct rpc_call *call, enum peer_fault fault, grpc_status_code code,
		   const char *text)
{
	record_peer_fault(fault);
	rpc_fail(call, code, text);
}

static void on_raft(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__SendRaftMessageRequest *request = (const void *)message;
	struct transport *t = arg;
	struct peer *peer = find_peer(t, request->from);

	if (!is_for_us(t, request)) {
		refuse(call, FAULT_IDENTITY, GRPC_STATUS_FAILED_PRECONDITION,
		       "this is not the node you are looking for");
		return;
	}
	if (!request->address[0] || strlen(request->address) > ADDRESS_MAX) {
		refuse(call, FAULT_FRAME, GRPC_STATUS_INVALID_ARGUMENT, "address");
		return;
	}
	transport_count_received(t, request->from, message);
	if (peer && !peer->up)
		dial_soon(peer);
	for (size_t i = 0; i < request->n_messages; i++) {
		struct raft_message raft;
		int err = wire_decode_raft(request->messages[i].data, request->messages[i].len,
					   &raft);

		if (err) {
			refuse(call, FAULT_FRAME, GRPC_STATUS_INVALID_ARGUMENT, "Raft message");
			return;
		}
		raft.server_id = request->from;
		raft.server_address = request->address;
		t->events.raft(t->events.arg, &raft);
	}
	Blixard__SendRaftMessageReply reply = BLIXARD__SEND_RAFT_MESSAGE_REPLY__INIT;
	transport_count_sent(t, request->from, &reply.base);
	rpc_reply(call, &reply.base);
}

int transport_serve(struct transport *t, struct rpc_server *server)
{
	static const struct rpc_method method = {
		.name = "SendRaftMessage",
		.request = &blixard__send_raft_message_request__descriptor,
		.handle = on_raft,
		.request_max_bytes = RPC_RAFT_MAX_BYTES,
		.always = true,
	};

	return rpc_server_add(server, &method, 1, t);
}

/* ---- life ------------------------------------------------------------------------------------ */

int transport_open(struct event_base *base, struct rpc_queue *queue, const struct self *self,
		   const struct transport_events *events, struct transport **ret_transport)
{
	static const struct timeval period = {0, HOUSEKEEPING_MS * 1000};
	struct transport *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->queue = queue;
	t->self = self;
	t->events = *events;
	t->housekeeper = event_new(base, -1, EV_PERSIST, on_housekeeping, t);
	if (!t->housekeeper || event_add(t->housekeeper, &period)) {
		transport_free(t);
		return -ENOMEM;
	}
	*ret_transport = t;
	return 0;
}

void transport_stop(struct transport *t)
{
	t->stopping = true;
	event_del(t->housekeeper);
	while (t->n_peers)
		forget_peer(t, &t->peers[0]);
}

struct transport *transport_free(struct transport *t)
{
	if (!t)
		return NULL;
	if (t->housekeeper)
		event_free(t->housekeeper);
	free(t);
	return NULL;
}
