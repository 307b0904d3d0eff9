/* trace.h - the node's spans: what begins one, what is said of it, how it ends.
 *
 * A span is a small value of blixard_hooks.h; one of zeros is no span, and every call on it does
 * nothing. The current span of a thread is what a new one begins under, and what travels with RPCs,
 * proposals and jobs: whoever hands work to a later moment or another thread takes trace_here()
 * along and enters it there. Any thread, after trace_open(). */
#ifndef CLUSTER_TRACE_H
#define CLUSTER_TRACE_H

#include "trace_context.h"

#include <blixard_hooks.h>
#include <grpc/status.h>
#include <stddef.h>

enum trace_name {
	TRACE_RAFT_PROPOSE,   /* from submission to result, where it was submitted */
	TRACE_RAFT_COMMIT,    /* from the leader's log to its state machine */
	TRACE_RAFT_REPLICATE, /* of entries to one peer, until it has taken them */
	TRACE_RAFT_APPLY,
	TRACE_RAFT_ELECTION,
	TRACE_RAFT_SNAPSHOT,
	TRACE_STORAGE_APPEND, /* with the sync that many may share */
	TRACE_STORAGE_SAVE_HARD_STATE,
	TRACE_STORAGE_SNAPSHOT,
	TRACE_STORAGE_READ,
	TRACE_VM_PLACE,
	TRACE_VM_CREATE,
	TRACE_VM_START,
	TRACE_VM_STOP,
	TRACE_VM_DELETE,
	TRACE_VM_MIGRATE,
	TRACE_VM_HEALTH_CHECK,
	TRACE_VM_RECOVER,
	TRACE_P2P_TRANSFER,
	TRACE_NAMES,
};

enum trace_key {
	TRACE_NODE_ID,
	TRACE_PEER_ID,
	TRACE_TERM,
	TRACE_INDEX,
	TRACE_PROPOSAL_TYPE,
	TRACE_BATCH_SIZE,
	TRACE_DB_SYSTEM,
	TRACE_DB_OPERATION,
	TRACE_DB_COLLECTION,
	TRACE_BYTES,
	TRACE_FSYNC_NS,
	TRACE_VM_NAME,
	TRACE_VM_BACKEND,
	TRACE_VM_OPERATION,
	TRACE_VM_STRATEGY,
	TRACE_VM_TARGET,
	TRACE_RESULT,
	TRACE_IMAGE_ID,
	TRACE_CHUNKS,
	TRACE_PEER_ADDRESS,
	TRACE_KEYS,
};

/* Once, after blix_open(), before other threads start. */
void trace_open(uint64_t node_id);

/* Below the current span; without one it is the root of a trace of its own. */
blix_span trace_begin(enum trace_name name);

/* Below the current span; without one there is none: not worth a trace of its own. */
blix_span trace_begin_within(enum trace_name name);

/* Below a span of this process, which may have ended, and none without it. */
blix_span trace_begin_under(enum trace_name name, blix_span parent);

/* Below what this context tells, and none without it. */
blix_span trace_begin_at(enum trace_name name, const struct trace_context *parent);

/* The root of a trace of its own, whatever is current. */
blix_span trace_begin_root(enum trace_name name);

void trace_str(blix_span span, enum trace_key key, const char *value);
void trace_u64(blix_span span, enum trace_key key, uint64_t value);

/* What a storage span is about. */
void trace_storage(blix_span span, const char *operation, const char *collection);

/* The operation failed: status, error.type (one of few), and a sentence. */
void trace_fail(blix_span span, const char *type, const char *text);
void trace_end(blix_span span);

/* Another trace that this span serves as well. */
void trace_link(blix_span span, const struct trace_context *to);

static inline bool trace_is_set(blix_span span)
{
	struct trace_context context;

	__builtin_memcpy(context.trace_id, span.trace_id, sizeof(context.trace_id));
	return trace_context_is_set(&context);
}

/* The current span of this thread, and its context; zeros: none. */
blix_span trace_here(void);
struct trace_context trace_context_of(blix_span span);

/* Make it the current one, and back. */
blix_token trace_enter(blix_span span);
void trace_leave(blix_token token);

/* ---- RPCs: `method` is a number of record_rpc_method() ---------------------------------------- */

/* A call has come with these headers. Raft's messages, which come many times a second, have a span
 * only if they are part of a trace. */
blix_span trace_served_begin(int method, blix_getter get, void *arg);

/* A call begins; its context goes into its headers. Raft's messages as above. */
blix_span trace_called_begin(int method, blix_setter set, void *arg);

/* It has ended with this code; `text` may be NULL. As OpenTelemetry has it, a server's span fails
 * where the server is to blame, a client's with every code but OK. */
void trace_served_end(blix_span span, grpc_status_code code, const char *text);
void trace_called_end(blix_span span, grpc_status_code code, const char *text);

#endif
