/* command.h - what is proposed: one change of one row of the table, or one about a VM
 * (vm_command.h), with who asked for it. Pure. */
#ifndef CLUSTER_COMMAND_H
#define CLUSTER_COMMAND_H

#include "test/cluster/limits.h"

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
};

/* Bytes written; 0: does not fit. */
size_t command_encode(const struct command *command, uint8_t *out, size_t len);

/* 0; -EPROTO. Key and value are borrowed from the bytes. */
int command_decode(const void *bytes, size_t len, struct command *ret_command);

#endif
