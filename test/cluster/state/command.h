/* command.h - what is proposed: one change of one row of the table, or one about a VM
 * (vm_command.h), with who asked for it. Pure. */
#ifndef CLUSTER_COMMAND_H
#define CLUSTER_COMMAND_H

#include "test/cluster/limits.h"
#include "test/cluster/record/trace_context.h"

#include <stddef.h>
#include <stdint.h>

/* In the log: never renumbered. */
enum command_op {
	COMMAND_PUT = 1,
	COMMAND_DELETE,
	COMMAND_VM_CREATE, /* let there be such a VM */
	COMMAND_VM_ORDER,  /* start, stop or delete it */
	COMMAND_VM_PLACE,  /* it lives on this node, or on none */
	COMMAND_VM_REPORT, /* its node has seen this of it */
	COMMAND_VM_NODE,   /* a node has room for this much */
	COMMAND_OPS,
};

struct command {
	enum command_op op;
	uint64_t origin;   /* node id */
	uint64_t sequence; /* of the origin; never used twice, also not after a restart */
	const char *key;
	size_t key_len;
	const uint8_t *value;
	size_t value_len;
	struct trace_context context; /* of the proposal: what applying it belongs to */
};

/* Bytes written; 0: does not fit. */
size_t command_encode(const struct command *command, uint8_t *out, size_t len);

/* 0; -EPROTO. Key and value are borrowed from the bytes. */
int command_decode(const void *bytes, size_t len, struct command *ret_command);

/* A context as bytes, TRACE_CONTEXT_BYTES of them. */
struct writer;
struct reader;
void put_trace_context(struct writer *w, const struct trace_context *context);
void get_trace_context(struct reader *r, struct trace_context *ret_context);

/* As metrics and spans spell it. */
const char *command_name(enum command_op op);

#endif
