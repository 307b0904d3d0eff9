/* rpc_client.c - see rpc_client.h. Loop thread only. */
#include "rpc_client.h"

#include "test/cluster/limits.h"
#include "test/cluster/record/record.h"
#include "test/cluster/record/record_rpc.h"
#include "test/cluster/record/trace.h"

#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/compression.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STATUS_TEXT_MAX = 200, HEADERS_MAX = 4 };

struct rpc_channel {
	struct rpc_queue *queue;
	grpc_channel *grpc;
	struct call *calls; /* open ones; they point here until the channel is closed */
};

struct call {
	struct rpc_channel *channel; /* NULL: closed */
	struct call *next;
	struct call **link;
	grpc_call *grpc;
	struct rpc_op ended;
	grpc_metadata_array initial;
	grpc_metadata_array trailing;
	grpc_byte_buffer *message;
	const ProtobufCMessageDescriptor *reply;
	grpc_status_code code;
	grpc_slice text;
	int number; /* of the method, for the record */
	uint64_t started_ns;
	blix_span span;
	blix_span caller; /* what was current when it began */
	grpc_metadata headers[HEADERS_MAX];
	size_t n_headers;
	void (*done)(void *arg, const struct rpc_result *result);
	void *arg;
};

static grpc_arg number(const char *key, int value)
{
	return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value};
}

struct rpc_channel *rpc_channel_open(struct rpc_queue *queue, const char *address)
{
	/* The transport decides when to dial again, and wants a connection of its own for it. */
	grpc_arg list[] = {
		number(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RPC_MESSAGE_MAX_BYTES),
		number(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
		number(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
		number(GRPC_ARG_ENABLE_RETRIES, 0),
		number(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1),
	};
	grpc_channel_args args = {.num_args = sizeof(list) / sizeof(list[0]), .args = list};
	struct rpc_channel *channel = calloc(1, sizeof(*channel));
	char target[ADDRESS_MAX + sizeof("ipv4:")];

	if (!channel)
		return NULL;
	snprintf(target, sizeof(target), "%s%s", address[0] == '[' ? "ipv6:" : "ipv4:", address);
	grpc_channel_credentials *insecure = grpc_insecure_credentials_create();
	channel->queue = queue;
	channel->grpc = grpc_channel_create(target, insecure, &args);
	grpc_channel_credentials_release(insecure);
	return channel;
}

static void leave(struct call *call)
{
	if (!call->channel)
		return;
	*call->link = call->next;
	if (call->next)
		call->next->link = call->link;
	call->channel = NULL;
}

struct rpc_channel *rpc_channel_close(struct rpc_channel *channel)
{
	if (!channel)
		return NULL;
	while (channel->calls) {
		struct call *call = channel->calls;
		leave(call);
		grpc_call_cancel(call->grpc, NULL);
	}
	grpc_channel_destroy(channel->grpc);
	free(channel);
	return NULL;
}

bool rpc_channel_is_ready(const struct rpc_channel *channel)
{
	return grpc_channel_check_connectivity_state(channel->grpc, 0) == GRPC_CHANNEL_READY;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void free_call(struct call *call)
{
	leave(call);
	if (call->grpc)
		grpc_call_unref(call->grpc);
	if (call->message)
		grpc_byte_buffer_destroy(call->message);
	grpc_metadata_array_destroy(&call->initial);
	grpc_metadata_array_destroy(&call->trailing);
	grpc_slice_unref(call->text);
	for (size_t i = 0; i < call->n_headers; i++) {
		grpc_slice_unref(call->headers[i].key);
		grpc_slice_unref(call->headers[i].value);
	}
	free(call);
}

static ProtobufCMessage *decode_reply(struct call *call)
{
	grpc_byte_buffer_reader reader;

	if (!call->message || !grpc_byte_buffer_reader_init(&reader, call->message))
		return NULL;
	grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	ProtobufCMessage *reply = protobuf_c_message_unpack(
		call->reply, NULL, GRPC_SLICE_LENGTH(slice), GRPC_SLICE_START_PTR(slice));
	grpc_slice_unref(slice);
	return reply;
}

static void on_ended(struct rpc_op *op)
{
	struct call *call = op->arg;
	char text[STATUS_TEXT_MAX];
	struct rpc_result result = {.code = call->code, .text = text};
	ProtobufCMessage *reply = NULL;

	if (result.code == GRPC_STATUS_OK) {
		reply = decode_reply(call);
		result.reply = reply;
		if (!reply)
			result.code = GRPC_STATUS_INTERNAL;
	}
	snprintf(text, sizeof(text), "%.*s", (int)GRPC_SLICE_LENGTH(call->text),
		 (const char *)GRPC_SLICE_START_PTR(call->text));
	/* The one place where the end of a call of this node is seen. */
	blix_token token = trace_enter(call->span); /* for the exemplar */
	record_rpc_called(call->number, result.code, record_now_ns() - call->started_ns);
	trace_leave(token);
	trace_called_end(call->span, result.code, text);
	leave(call);
	token = trace_enter(call->caller);
	call->done(call->arg, &result);
	trace_leave(token);
	if (reply)
		protobuf_c_message_free_unpacked(reply, NULL);
	free_call(call);
}

/* blix_setter */
static void add_header(void *arg, const char *name, const char *value)
{
	struct call *call = arg;

	if (call->n_headers == HEADERS_MAX)
		return;
	call->headers[call->n_headers++] =
		(grpc_metadata){.key = grpc_slice_from_copied_string(name),
				.value = grpc_slice_from_copied_string(value)};
}

static bool start(struct call *call, grpc_byte_buffer *request)
{
	const grpc_op ops[] = {
		{.op = GRPC_OP_SEND_INITIAL_METADATA,
		 .data.send_initial_metadata = {.count = call->n_headers,
						.metadata = call->headers}},
		{.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = request},
		{.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
		{.op = GRPC_OP_RECV_INITIAL_METADATA,
		 .data.recv_initial_metadata.recv_initial_metadata = &call->initial},
		{.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->message},
		{.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
		 .data.recv_status_on_client = {.trailing_metadata = &call->trailing,
						.status = &call->code,
						.status_details = &call->text}},
	};

	return grpc_call_start_batch(call->grpc, ops, sizeof(ops) / sizeof(ops[0]), &call->ended,
				     NULL) == GRPC_CALL_OK;
}

static struct call *new_call(struct rpc_channel *channel, const char *method, unsigned timeout_ms)
{
	struct call *call = calloc(1, sizeof(*call));
	char path[128];

	if (!call)
		return NULL;
	snprintf(path, sizeof(path), "/blixard.Cluster/%s", method);
	grpc_slice slice = grpc_slice_from_copied_string(path);
	gpr_timespec deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
					     gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
	call->grpc = grpc_channel_create_call(channel->grpc, NULL, GRPC_PROPAGATE_DEFAULTS,
					      rpc_queue_grpc(channel->queue), slice, NULL, deadline,
					      NULL);
	grpc_slice_unref(slice);
	call->ended = (struct rpc_op){.done = on_ended, .arg = call};
	call->text = grpc_empty_slice();
	call->number = record_rpc_method(method);
	call->started_ns = record_now_ns();
	call->caller = trace_here();
	call->span = trace_called_begin(call->number, add_header, call);
	grpc_metadata_array_init(&call->initial);
	grpc_metadata_array_init(&call->trailing);
	call->channel = channel;
	call->link = &channel->calls;
	call->next = channel->calls;
	if (call->next)
		call->next->link = &call->next;
	channel->calls = call;
	return call;
}

int rpc_channel_call(struct rpc_channel *channel, const char *method,
		     const ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply,
		     unsigned timeout_ms, void (*done)(void *arg, const struct rpc_result *result),
		     void *arg)
{
	struct call *call = new_call(channel, method, timeout_ms);

	if (!call)
		return -ENOMEM;
	call->reply = reply;
	call->done = done;
	call->arg = arg;
	grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(request));
	protobuf_c_message_pack(request, GRPC_SLICE_START_PTR(slice));
	grpc_byte_buffer *bytes = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	bool started = start(call, bytes);
	grpc_byte_buffer_destroy(bytes);
	if (started)
		return 0;
	trace_called_end(call->span, GRPC_STATUS_INTERNAL, "the call cannot be started");
	free_call(call);
	return -ENOMEM;
}
