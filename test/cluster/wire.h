/* wire.h - what peers say to each other: frames and Raft messages as bytes.
 *
 * A frame is a head of WIRE_HEAD_BYTES (payload length u32, kind u16, zero u16) and its payload,
 * all little endian. The first frame of both sides is a HELLO. Decoding trusts nothing: every
 * length is checked before it is used, and a payload that is too long or too short is refused.
 *
 * Pure: no socket, no clock, no log. Any thread. Includes: libraft's types. */
#ifndef CLUSTER_WIRE_H
#define CLUSTER_WIRE_H

#include "limits.h"

#include <raft.h>
#include <stddef.h>
#include <stdint.h>

enum {
	WIRE_HEAD_BYTES = 8,
	WIRE_VERSION = 1,
};

enum wire_kind {
	WIRE_HELLO = 1,	     /* who speaks */
	WIRE_PING,	     /* sequence */
	WIRE_PONG,	     /* the same sequence */
	WIRE_RAFT,	     /* a Raft message */
	WIRE_FORWARD,	     /* request, command: propose this for me */
	WIRE_FORWARD_RESULT, /* request, verdict */
	WIRE_JOIN,	     /* request, node id, address: make this node a voter */
	WIRE_JOIN_RESULT,    /* request, verdict */
	WIRE_KINDS,
};

/* How a forwarded proposal or a join ended. */
enum wire_verdict {
	WIRE_OK = 0,
	WIRE_NOT_LEADER,
	WIRE_LEADERSHIP_LOST,
	WIRE_BUSY, /* a queue is full, or another change is in progress: try again */
	WIRE_TIMEOUT,
	WIRE_REFUSED, /* will never work */
	WIRE_STORAGE,
	WIRE_VERDICTS,
};

struct wire_head {
	uint32_t payload_bytes;
	enum wire_kind kind;
};

struct wire_hello {
	uint64_t node_id;
	char cluster[CLUSTER_NAME_MAX + 1];
	char address[ADDRESS_MAX + 1];
};

struct wire_request {
	uint64_t request;
	const uint8_t *data; /* borrowed from the payload */
	size_t len;
};

struct wire_join {
	uint64_t request;
	uint64_t node_id;
	char address[ADDRESS_MAX + 1];
};

/* 0; -EPROTO: no such kind, or a payload beyond the kind's limit. */
int wire_decode_head(const uint8_t head[WIRE_HEAD_BYTES], struct wire_head *ret_head);
void wire_encode_head(uint8_t head[WIRE_HEAD_BYTES], enum wire_kind kind, size_t payload_bytes);

/* Encoders return the payload's length, or 0 when it does not fit into `len`. */
size_t wire_encode_hello(const struct wire_hello *hello, uint8_t *out, size_t len);
size_t wire_encode_number(uint64_t number, uint8_t *out, size_t len);
size_t wire_encode_request(uint64_t request, const void *data, size_t data_len, uint8_t *out,
			   size_t len);
size_t wire_encode_verdict(uint64_t request, enum wire_verdict verdict, uint8_t *out, size_t len);
size_t wire_encode_join(const struct wire_join *join, uint8_t *out, size_t len);

/* Decoders: 0, or -EPROTO when the payload is malformed. */
int wire_decode_hello(const uint8_t *payload, size_t len, struct wire_hello *ret_hello);
int wire_decode_number(const uint8_t *payload, size_t len, uint64_t *ret_number);
int wire_decode_request(const uint8_t *payload, size_t len, struct wire_request *ret_request);
int wire_decode_verdict(const uint8_t *payload, size_t len, uint64_t *ret_request,
			enum wire_verdict *ret_verdict);
int wire_decode_join(const uint8_t *payload, size_t len, struct wire_join *ret_join);

/* How many of an AppendEntries message's entries go into one frame (at least one, unless it has
 * none); 0 for other messages. What is left out is sent again by Raft once the peer has answered.
 */
unsigned wire_raft_entries(const struct raft_message *message);

/* Bytes that wire_encode_raft() will write; 0: the message cannot be sent (too large). */
size_t wire_raft_bytes(const struct raft_message *message, unsigned n_entries);
size_t wire_encode_raft(const struct raft_message *message, unsigned n_entries, uint8_t *out,
			size_t len);

/* Fill *ret_message but for server_id and server_address. Its memory comes from raft_malloc() and
 * belongs to the caller: hand it to Raft or to wire_release_raft().
 * 0; -EPROTO: malformed; -ENOMEM. */
int wire_decode_raft(const uint8_t *payload, size_t len, struct raft_message *ret_message);
void wire_release_raft(struct raft_message *message);

/* A configuration, as snapshots carry it. */
size_t wire_configuration_bytes(const struct raft_configuration *configuration);
struct writer;
struct reader;
void wire_put_configuration(struct writer *w, const struct raft_configuration *configuration);
/* 0; -EPROTO, -ENOMEM: nothing is left allocated. */
int wire_get_configuration(struct reader *r, struct raft_configuration *ret_configuration);

#endif
