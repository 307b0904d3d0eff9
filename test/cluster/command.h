/* command.h - what is proposed: one change of one row, with who asked for it. Pure. */
#ifndef CLUSTER_COMMAND_H
#define CLUSTER_COMMAND_H

#include "limits.h"

#include <stddef.h>
#include <stdint.h>

enum command_op { COMMAND_PUT = 1, COMMAND_DELETE };

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
