/* trace.c - see trace.h. Handles are written by trace_open() before other threads start. */
#include "trace.h"

#include "record_rpc.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const names[TRACE_NAMES] = {
	[TRACE_RAFT_PROPOSE] = "raft.propose",
	[TRACE_RAFT_COMMIT] = "raft.commit",
	[TRACE_RAFT_REPLICATE] = "raft.replicate",
	[TRACE_RAFT_APPLY] = "raft.apply",
	[TRACE_RAFT_ELECTION] = "raft.election",
	[TRACE_RAFT_SNAPSHOT] = "raft.snapshot",
	[TRACE_STORAGE_APPEND] = "storage.append",
	[TRACE_STORAGE_SAVE_HARD_STATE] = "storage.save_hard_state",
	[TRACE_STORAGE_SNAPSHOT] = "storage.snapshot",
	[TRACE_STORAGE_READ] = "storage.read",
	[TRACE_VM_PLACE] = "vm.place",
	[TRACE_VM_CREATE] = "vm.create",
	[TRACE_VM_START] = "vm.start",
	[TRACE_VM_STOP] = "vm.stop",
	[TRACE_VM_DELETE] = "vm.delete",
	[TRACE_VM_MIGRATE] = "vm.migrate",
	[TRACE_VM_HEALTH_CHECK] = "vm.health_check",
	[TRACE_VM_RECOVER] = "vm.recover",
	[TRACE_P2P_TRANSFER] = "p2p.transfer",
};

static const char *const keys[TRACE_KEYS] = {
	[TRACE_NODE_ID] = "node.id",
	[TRACE_PEER_ID] = "peer.id",
	[TRACE_TERM] = "raft.term",
	[TRACE_INDEX] = "raft.index",
	[TRACE_PROPOSAL_TYPE] = "raft.proposal_type",
	[TRACE_BATCH_SIZE] = "raft.batch_size",
	[TRACE_DB_SYSTEM] = "db.system.name",
	[TRACE_DB_OPERATION] = "db.operation.name",
	[TRACE_DB_COLLECTION] = "db.collection.name",
	[TRACE_BYTES] = "bytes",
	[TRACE_FSYNC_NS] = "storage.fsync_ns",
	[TRACE_VM_NAME] = "vm.name",
	[TRACE_VM_BACKEND] = "vm.backend",
	[TRACE_VM_OPERATION] = "vm.operation",
	[TRACE_VM_STRATEGY] = "vm.strategy",
	[TRACE_VM_TARGET] = "vm.target_node",
	[TRACE_RESULT] = "result",
	[TRACE_IMAGE_ID] = "image.id",
	[TRACE_CHUNKS] = "chunks",
	[TRACE_PEER_ADDRESS] = "server.address",
};

enum { METHODS_MAX = 64 };

static struct {
	int64_t node_id;
	int raft_message; /* number of the method */
	blix_name names[TRACE_NAMES];
	blix_key keys[TRACE_KEYS];
	blix_name methods[METHODS_MAX];
} handles;

void trace_open(uint64_t node_id)
{
	char text[128];

	handles.node_id = (int64_t)node_id;
	for (int i = 0; i < TRACE_NAMES; i++)
		handles.names[i] = blix_name_of(names[i]);
	for (int i = 0; i < TRACE_KEYS; i++)
		handles.keys[i] = blix_key_of(keys[i]);
	for (int i = 0; i < METHODS_MAX && record_rpc_method_name(i); i++) {
		snprintf(text, sizeof(text), "blixard.Cluster/%s", record_rpc_method_name(i));
		handles.methods[i] = blix_name_of(text);
	}
	handles.raft_message = record_rpc_method("SendRaftMessage");
}

static blix_span with_node(blix_span span)
{
	blix_span_i64(span, handles.keys[TRACE_NODE_ID], handles.node_id);
	return span;
}

/* ---- beginning ------------------------------------------------------------------------------- */

blix_span trace_begin(enum trace_name name)
{
	return with_node(blix_span_begin(handles.names[name], BLIX_INTERNAL, NULL));
}

blix_span trace_begin_within(enum trace_name name)
{
	return trace_begin_under(name, blix_current_span());
}

blix_span trace_begin_under(enum trace_name name, blix_span parent)
{
	if (!trace_is_set(parent))
		return (blix_span){.place = 0};
	return with_node(blix_span_begin_under(handles.names[name], BLIX_INTERNAL, parent));
}

/* Only the head is written: the texts behind it are large, and their lengths say that they are
 * empty. */
static void fill_context(struct blix_context *ret_context, const struct trace_context *from)
{
	memset(ret_context, 0, offsetof(struct blix_context, tracestate));
	memcpy(ret_context->trace_id, from->trace_id, sizeof(from->trace_id));
	memcpy(ret_context->span_id, from->span_id, sizeof(from->span_id));
	ret_context->trace_flags = from->flags;
	ret_context->remote = 1;
}

blix_span trace_begin_at(enum trace_name name, const struct trace_context *parent)
{
	struct blix_context context;

	if (!trace_context_is_set(parent))
		return (blix_span){.place = 0};
	fill_context(&context, parent);
	return with_node(blix_span_begin(handles.names[name], BLIX_INTERNAL, &context));
}

blix_span trace_begin_root(enum trace_name name)
{
	static const struct trace_context none;
	struct blix_context context;

	fill_context(&context, &none);
	return with_node(blix_span_begin(handles.names[name], BLIX_INTERNAL, &context));
}

/* ---- what is said of it ---------------------------------------------------------------------- */

void trace_str(blix_span span, enum trace_key key, const char *value)
{
	blix_span_str(span, handles.keys[key], value);
}

void trace_u64(blix_span span, enum trace_key key, uint64_t value)
{
	blix_span_i64(span, handles.keys[key], (int64_t)value);
}

void trace_storage(blix_span span, const char *operation, const char *collection)
{
	trace_str(span, TRACE_DB_SYSTEM, "blixard");
	trace_str(span, TRACE_DB_OPERATION, operation);
	trace_str(span, TRACE_DB_COLLECTION, collection);
}

void trace_fail(blix_span span, const char *type, const char *text)
{
	if (blix_span_is_recorded(span))
		blix_span_failed(span, type, text);
}

void trace_end(blix_span span)
{
	if (trace_is_set(span)) /* recorded or not: it may hold what its context carries */
		blix_span_end(span);
}

void trace_link(blix_span span, const struct trace_context *to)
{
	struct blix_context context;

	if (!blix_span_is_recorded(span) || !trace_context_is_set(to))
		return;
	fill_context(&context, to);
	blix_span_link_add(span, &context, NULL, 0);
}

/* ---- where we are ---------------------------------------------------------------------------- */

blix_span trace_here(void)
{
	return blix_current_span();
}

struct trace_context trace_context_of(blix_span span)
{
	struct trace_context context = {.flags = span.trace_flags};

	memcpy(context.trace_id, span.trace_id, sizeof(context.trace_id));
	memcpy(context.span_id, span.span_id, sizeof(context.span_id));
	return context;
}

blix_token trace_enter(blix_span span)
{
	return blix_attach(span);
}

void trace_leave(blix_token token)
{
	blix_detach(token);
}

/* ---- RPCs ------------------------------------------------------------------------------------ */

static blix_span about_call(blix_span span, int method)
{
	if (!blix_span_is_recorded(span))
		return span;
	blix_span_str(span, BLIX_KEY("rpc.system"), "grpc");
	blix_span_str(span, BLIX_KEY("rpc.service"), "blixard.Cluster");
	blix_span_str(span, BLIX_KEY("rpc.method"), record_rpc_method_name(method));
	return with_node(span);
}

blix_span trace_served_begin(int method, blix_getter get, void *arg)
{
	const char *parent = get(arg, "traceparent");

	if (!parent && method == handles.raft_message)
		return (blix_span){.place = 0};
	struct blix_context context = blix_extract(get, arg);
	return about_call(blix_span_begin(handles.methods[method], BLIX_SERVER, &context), method);
}

blix_span trace_called_begin(int method, blix_setter set, void *arg)
{
	if (method == handles.raft_message && !trace_is_set(blix_current_span()))
		return (blix_span){.place = 0};
	blix_span span = blix_span_begin(handles.methods[method], BLIX_CLIENT, NULL);
	blix_inject_span(span, set, arg);
	return about_call(span, method);
}

static void end_call(blix_span span, grpc_status_code code, const char *text, bool failed)
{
	if (blix_span_is_recorded(span))
		blix_span_i64(span, BLIX_KEY("rpc.grpc.status_code"), (int64_t)code);
	if (failed)
		trace_fail(span, record_rpc_code_name(code), text);
	trace_end(span);
}

void trace_served_end(blix_span span, grpc_status_code code, const char *text)
{
	end_call(span, code, text, record_rpc_is_failure(code));
}

void trace_called_end(blix_span span, grpc_status_code code, const char *text)
{
	end_call(span, code, text, code != GRPC_STATUS_OK);
}
