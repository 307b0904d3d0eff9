/* rpc_server.c - see rpc_server.h. Loop thread only.
 *
 * A call lives until its handler has let go of it and gRPC has nothing under way for it. It is
 * recorded once: when its status is handed to gRPC, so that a client that has the answer finds it
 * counted, or when the client has gone before that. */
#include "rpc_server.h"

#include "test/cluster/limits.h"
#include "test/cluster/log.h"
#include "test/cluster/record/record.h"
#include "test/cluster/record/record_rpc.h"
#include "test/cluster/record/trace.h"

#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TABLES_MAX = 8, METHOD_NAME_MAX = 64, CALLS_WAITED_FOR = 32, HEADER_MAX_BYTES = 8192 };

static const char service[] = "/blixard.Cluster/";

struct table {
	const struct rpc_method *methods;
	size_t n;
	void *arg;
};

struct rpc_server {
	struct event_base *base;
	struct rpc_queue *queue;
	struct rpc_faults faults;
	grpc_server *grpc;
	struct table tables[TABLES_MAX];
	size_t n_tables;
	struct rpc_call *calls; /* that have come and are not over */
	size_t n_calls;
	bool stopping;
	struct rpc_op stopped;
	void (*on_stopped)(void *arg);
	void *arg;
};

struct rpc_call {
	struct rpc_server *server;
	struct rpc_call *next;
	struct rpc_call **link;
	grpc_call *grpc;
	grpc_call_details details;
	grpc_metadata_array metadata;
	grpc_byte_buffer *message;
	const struct rpc_method *method;
	void *arg; /* of its table */
	struct rpc_op requested;
	struct rpc_op received;
	struct rpc_op closed;
	struct rpc_op answered;
	struct event *delay; /* it is slowed on purpose; held until then */
	unsigned under_way;  /* operations */
	int cancelled;
	int number; /* of the method, for the record */
	struct rpc_fault fault;
	blix_span span;
	uint64_t started_ns;
	bool receiving;
	bool gone;     /* the client, before it was answered */
	bool held;     /* by a handler */
	bool recorded; /* nothing more is to be sent */
};

static void on_requested(struct rpc_op *op);
static void on_received(struct rpc_op *op);
static void on_closed(struct rpc_op *op);
static void on_answered(struct rpc_op *op);

/* ---- a call's life --------------------------------------------------------------------------- */

static struct rpc_call *new_call(struct rpc_server *server)
{
	struct rpc_call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->server = server;
	call->requested = (struct rpc_op){.done = on_requested, .arg = call};
	call->received = (struct rpc_op){.done = on_received, .arg = call};
	call->closed = (struct rpc_op){.done = on_closed, .arg = call};
	call->answered = (struct rpc_op){.done = on_answered, .arg = call};
	grpc_call_details_init(&call->details);
	grpc_metadata_array_init(&call->metadata);
	return call;
}

static void free_call(struct rpc_call *call)
{
	if (call->delay)
		event_free(call->delay);
	if (call->grpc)
		grpc_call_unref(call->grpc);
	if (call->message)
		grpc_byte_buffer_destroy(call->message);
	grpc_call_details_destroy(&call->details);
	grpc_metadata_array_destroy(&call->metadata);
	free(call);
}

static void release(struct rpc_call *call)
{
	if (call->held || call->under_way)
		return;
	*call->link = call->next;
	if (call->next)
		call->next->link = call->link;
	call->server->n_calls--;
	free_call(call);
}

static void wait_for_one(struct rpc_server *server)
{
	struct rpc_call *call = server->stopping ? NULL : new_call(server);

	if (!call)
		return;
	if (grpc_server_request_call(server->grpc, &call->grpc, &call->details, &call->metadata,
				     rpc_queue_grpc(server->queue), rpc_queue_grpc(server->queue),
				     &call->requested) != GRPC_CALL_OK)
		free_call(call);
}

static bool start(struct rpc_call *call, const grpc_op *ops, size_t n, struct rpc_op *tag)
{
	if (grpc_call_start_batch(call->grpc, ops, n, tag, NULL) != GRPC_CALL_OK)
		return false;
	call->under_way++;
	return true;
}

/* ---- answering ------------------------------------------------------------------------------- */

/* The one place where the end of a served call is seen. */
static void record(struct rpc_call *call, grpc_status_code code, const char *text)
{
	blix_token token = trace_enter(call->span); /* for the exemplar */

	call->recorded = true;
	record_rpc_served(call->number, code, record_now_ns() - call->started_ns);
	trace_leave(token);
	trace_served_end(call->span, code, text);
}

static void send_status(struct rpc_call *call, grpc_status_code code, const char *text,
			grpc_byte_buffer *reply)
{
	grpc_slice details = grpc_slice_from_copied_string(text);
	grpc_op ops[3] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};
	size_t n = 1;

	if (reply)
		ops[n++] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE,
				     .data.send_message.send_message = reply};
	ops[n++] = (grpc_op){
		.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
		.data.send_status_from_server = {.status = code, .status_details = &details}};
	record(call, code, text);
	(void)start(call, ops, n, &call->answered);
	grpc_slice_unref(details);
}

static void answer(struct rpc_call *call, grpc_status_code code, const char *text,
		   grpc_byte_buffer *reply)
{
	if (!call->recorded)
		send_status(call, code, text, reply);
	if (reply)
		grpc_byte_buffer_destroy(reply);
	call->held = false;
	release(call);
}

void rpc_reply(struct rpc_call *call, const ProtobufCMessage *reply)
{
	grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(reply));

	protobuf_c_message_pack(reply, GRPC_SLICE_START_PTR(slice));
	grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	answer(call, GRPC_STATUS_OK, "", buffer);
}

void rpc_fail(struct rpc_call *call, grpc_status_code code, const char *message)
{
	answer(call, code, message, NULL);
}

static void on_answered(struct rpc_op *op)
{
	struct rpc_call *call = op->arg;

	call->under_way--;
	release(call);
}

/* The client went away, or its time was over. Its clock began to run a moment before ours, and
 * gRPC rounds what it sends of it. */
static grpc_status_code why_gone(const struct rpc_call *call)
{
	gpr_timespec now = gpr_now(GPR_CLOCK_MONOTONIC);
	gpr_timespec deadline = gpr_convert_clock_type(call->details.deadline, GPR_CLOCK_MONOTONIC);
	double left_ms = gpr_timespec_to_micros(gpr_time_sub(deadline, now)) / 1e3;
	double past_ms = (double)(record_now_ns() - call->started_ns) / 1e6;

	return left_ms <= 20 + past_ms / 64 ? GRPC_STATUS_DEADLINE_EXCEEDED : GRPC_STATUS_CANCELLED;
}

static void on_closed(struct rpc_op *op)
{
	struct rpc_call *call = op->arg;

	call->under_way--;
	call->gone = call->cancelled && !call->recorded;
	if (call->gone && !call->receiving)
		record(call, why_gone(call), "the client has gone");
	release(call);
}

/* ---- requests -------------------------------------------------------------------------------- */

static void handle(struct rpc_call *call, const uint8_t *bytes, size_t len)
{
	size_t max = call->method->request_max_bytes ? call->method->request_max_bytes
						     : (size_t)RPC_MESSAGE_MAX_BYTES;

	if (len > max) {
		rpc_fail(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "the request is too large");
		return;
	}
	ProtobufCMessage *request =
		protobuf_c_message_unpack(call->method->request, NULL, len, bytes);
	if (!request) {
		rpc_fail(call, GRPC_STATUS_INVALID_ARGUMENT, "the request does not decode");
		return;
	}
	const struct rpc_method *method = call->method;
	blix_token token = trace_enter(call->span);
	method->handle(call->arg, call, request);
	trace_leave(token);
	protobuf_c_message_free_unpacked(request, NULL);
}

static void read_request(struct rpc_call *call)
{
	grpc_byte_buffer_reader reader;

	if (call->message->data.raw.compression != GRPC_COMPRESS_NONE) {
		rpc_fail(call, GRPC_STATUS_UNIMPLEMENTED, "requests may not be compressed");
		return;
	}
	if (!grpc_byte_buffer_reader_init(&reader, call->message)) {
		rpc_fail(call, GRPC_STATUS_INTERNAL, "the request cannot be read");
		return;
	}
	grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	handle(call, GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice));
	grpc_slice_unref(slice);
}

/* ---- on purpose ------------------------------------------------------------------------------ */

static void on_delayed(evutil_socket_t fd, short what, void *arg)
{
	struct rpc_call *call = arg;

	(void)fd;
	(void)what;
	event_free(call->delay);
	call->delay = NULL;
	if (call->fault.code == GRPC_STATUS_OK)
		read_request(call);
	else
		rpc_fail(call, call->fault.code, "rejected on purpose");
}

/* A request has come: as the rules in force want it. */
static void take_request(struct rpc_call *call)
{
	struct rpc_server *server = call->server;
	struct timeval delay;

	call->held = true;
	call->fault = rpc_faults_of(&server->faults, call->method->name, call->method->always);
	delay = (struct timeval){.tv_sec = call->fault.delay_ms / 1000,
				 .tv_usec = call->fault.delay_ms % 1000 * 1000};
	if (call->fault.delay_ms)
		call->delay = evtimer_new(server->base, on_delayed, call);
	if (call->delay && !event_add(call->delay, &delay))
		return;
	if (call->fault.code == GRPC_STATUS_OK)
		read_request(call);
	else
		rpc_fail(call, call->fault.code, "rejected on purpose");
}

void rpc_server_set_faults(struct rpc_server *server, const struct rpc_faults *faults)
{
	server->faults = *faults;
}

static void on_received(struct rpc_op *op)
{
	struct rpc_call *call = op->arg;

	call->under_way--;
	call->receiving = false;
	if (call->recorded)
		release(call);
	else if (!op->ok) { /* gRPC has refused it, and told the client */
		record(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "gRPC has refused the request");
		release(call);
	} else if (call->message)
		take_request(call);
	else if (call->gone) {
		record(call, why_gone(call), "the client has gone");
		release(call);
	} else if (!grpc_call_failed_before_recv_message(call->grpc)) {
		call->held = true;
		rpc_fail(call, GRPC_STATUS_INVALID_ARGUMENT, "there is no request");
	}
}

/* ---- methods --------------------------------------------------------------------------------- */

static bool find_method(struct rpc_call *call, const char *name)
{
	const struct rpc_server *server = call->server;

	for (size_t i = 0; i < server->n_tables; i++) {
		const struct table *table = &server->tables[i];
		for (size_t j = 0; j < table->n; j++) {
			if (strcmp(table->methods[j].name, name) != 0)
				continue;
			call->method = &table->methods[j];
			call->arg = table->arg;
			return true;
		}
	}
	return false;
}

/* What is called, without the service; "" when it is not of ours. */
static void name_of(const struct rpc_call *call, char ret_name[METHOD_NAME_MAX])
{
	const char *path = (const char *)GRPC_SLICE_START_PTR(call->details.method);
	size_t len = GRPC_SLICE_LENGTH(call->details.method);
	size_t head = sizeof(service) - 1;

	ret_name[0] = '\0';
	if (len <= head || len - head >= METHOD_NAME_MAX || memcmp(path, service, head) != 0 ||
	    memchr(path, 0, len))
		return;
	memcpy(ret_name, path + head, len - head);
	ret_name[len - head] = '\0';
}

/* blix_getter: all headers of this name in one, joined with commas, cut at what there is room for.
 * Loop thread only, hence the static. */
static const char *header_of(void *arg, const char *name)
{
	static char text[HEADER_MAX_BYTES + 1];
	const struct rpc_call *call = arg;
	size_t used = 0, found = 0;

	for (size_t i = 0; i < call->metadata.count; i++) {
		const grpc_metadata *header = &call->metadata.metadata[i];
		size_t len = GRPC_SLICE_LENGTH(header->value);

		if (grpc_slice_str_cmp(header->key, name) || used + len + 1 > HEADER_MAX_BYTES)
			continue;
		if (found++)
			text[used++] = ',';
		memcpy(text + used, GRPC_SLICE_START_PTR(header->value), len);
		used += len;
	}
	text[used] = '\0';
	return found ? text : NULL;
}

static void begin(struct rpc_call *call)
{
	const grpc_op close = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
			       .data.recv_close_on_server.cancelled = &call->cancelled};
	const grpc_op receive = {.op = GRPC_OP_RECV_MESSAGE,
				 .data.recv_message.recv_message = &call->message};
	char name[METHOD_NAME_MAX];

	call->started_ns = record_now_ns();
	record_rpc_begun();
	name_of(call, name);
	call->number = record_rpc_method(name);
	call->span = trace_served_begin(call->number, header_of, call);
	(void)start(call, &close, 1, &call->closed);
	call->held = true;
	if (call->server->stopping) {
		rpc_fail(call, GRPC_STATUS_UNAVAILABLE, "the node stops");
	} else if (!find_method(call, name)) {
		rpc_fail(call, GRPC_STATUS_UNIMPLEMENTED, "this node has no such method");
	} else if (call->server->n_calls > RPC_CALLS_MAX && !call->method->always) {
		record_peer_fault(FAULT_LIMIT);
		rpc_fail(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "too many calls at a time");
	} else {
		call->held = false;
		call->receiving = start(call, &receive, 1, &call->received);
		release(call);
	}
}

static void on_requested(struct rpc_op *op)
{
	struct rpc_call *call = op->arg;
	struct rpc_server *server = call->server;

	if (!op->ok) { /* the server stops */
		free_call(call);
		return;
	}
	call->link = &server->calls;
	call->next = server->calls;
	if (call->next)
		call->next->link = &call->next;
	server->calls = call;
	server->n_calls++;
	wait_for_one(server);
	begin(call);
}

/* ---- the server's life ----------------------------------------------------------------------- */

int rpc_server_add(struct rpc_server *server, const struct rpc_method *methods, size_t n, void *arg)
{
	if (server->n_tables == TABLES_MAX)
		return -ENOSPC;
	server->tables[server->n_tables++] = (struct table){.methods = methods, .n = n, .arg = arg};
	return 0;
}

static grpc_arg number(const char *key, int value)
{
	return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value};
}

int rpc_server_open(struct event_base *base, struct rpc_queue *queue, const char *address,
		    struct rpc_server **ret_server)
{
	/* Requests are not decompressed: a small one must not become a large one here. */
	grpc_arg list[] = {
		number(GRPC_ARG_ALLOW_REUSEPORT, 0),
		number(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RPC_RAFT_MAX_BYTES),
		number(GRPC_ARG_MAX_CONCURRENT_STREAMS, RPC_STREAMS_MAX),
		number(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HELLO_TIMEOUT_MS),
		number(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
	};
	grpc_channel_args args = {.num_args = sizeof(list) / sizeof(list[0]), .args = list};
	struct rpc_server *server = calloc(1, sizeof(*server));

	if (!server)
		return -ENOMEM;
	grpc_init();
	server->base = base;
	server->queue = queue;
	server->grpc = grpc_server_create(&args, NULL);
	grpc_server_register_completion_queue(server->grpc, rpc_queue_grpc(queue), NULL);
	grpc_server_credentials *insecure = grpc_insecure_server_credentials_create();
	int port = grpc_server_add_http2_port(server->grpc, address, insecure);
	grpc_server_credentials_release(insecure);
	*ret_server = server;
	return port ? 0 : -EADDRINUSE;
}

void rpc_server_start(struct rpc_server *server)
{
	grpc_server_start(server->grpc);
	for (int i = 0; i < CALLS_WAITED_FOR; i++)
		wait_for_one(server);
}

void rpc_server_expire(struct rpc_server *server)
{
	uint64_t now = record_now_ns();

	for (struct rpc_call *call = server->calls; call; call = call->next) {
		if (call->receiving && !call->recorded &&
		    now - call->started_ns > REQUEST_TIMEOUT_MS * 1000000ull)
			send_status(call, GRPC_STATUS_DEADLINE_EXCEEDED,
				    "the request has not arrived", NULL);
	}
}

static void on_stopped(struct rpc_op *op)
{
	struct rpc_server *server = op->arg;

	server->on_stopped(server->arg);
}

void rpc_server_stop(struct rpc_server *server, void (*stopped)(void *arg), void *arg)
{
	server->stopping = true;
	server->on_stopped = stopped;
	server->arg = arg;
	server->stopped = (struct rpc_op){.done = on_stopped, .arg = server};
	grpc_server_shutdown_and_notify(server->grpc, rpc_queue_grpc(server->queue),
					&server->stopped);
	for (struct rpc_call *call = server->calls, *next; call; call = next) {
		next = call->next;
		if (!call->recorded)
			send_status(call, GRPC_STATUS_CANCELLED, "the node stops", NULL);
		if (call->delay) { /* nobody else would let go of it */
			event_free(call->delay);
			call->delay = NULL;
			call->held = false;
			release(call);
		}
	}
}

struct rpc_server *rpc_server_free(struct rpc_server *server)
{
	if (!server)
		return NULL;
	grpc_server_destroy(server->grpc);
	free(server);
	grpc_shutdown();
	return NULL;
}
