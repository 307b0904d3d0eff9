/* agent/serve/address.h - where to listen: text forms, and the rule that derives it from a node.
 *
 * Pure: parses and prints, resolves nothing. Every text may come from a foreign file. Includes:
 * libc only; any thread. */
#ifndef BLIX_AGENT_SERVE_ADDRESS_H
#define BLIX_AGENT_SERVE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	ADDRESS_HOST_MAX = 254,			 /* a DNS name is at most 253 characters */
	ADDRESS_TEXT_MAX = ADDRESS_HOST_MAX + 9, /* "[host]:65535" */
	ADDRESS_REASON_MAX = ADDRESS_TEXT_MAX + 160,
	ADDRESS_NODE_PORT_DISTANCE = 1000, /* from the node's gRPC port to the agent's */
};

struct address {
	char host[ADDRESS_HOST_MAX]; /* name or number, without brackets */
	uint16_t port;
};

/* "HOST:PORT", IPv6 in brackets. 0; -EINVAL and a sentence in `reason`. *ret_address is written on
 * success only. */
int address_parse(const char *text, struct address *ret_address, char reason[ADDRESS_REASON_MAX]);

/* The agent's address beside a node whose gRPC server has address `grpc`. 0; -EINVAL no address;
 * -ERANGE the port does not exist; each with a sentence in `reason`. */
int address_beside(const char *grpc, struct address *ret_address, char reason[ADDRESS_REASON_MAX]);

void address_print(const struct address *a, char text[ADDRESS_TEXT_MAX]);
bool address_equal(const struct address *a, const struct address *b);

#endif
