/* wire.h - Raft's messages and configurations as bytes, for peers and for snapshots on disk.
 *
 * All little endian. Decoding trusts nothing: every length is checked before it is used, and bytes
 * that are too many or too few are refused.
 *
 * Pure: no socket, no clock, no log. Any thread. Includes: libraft's types. */
#ifndef CLUSTER_WIRE_H
#define CLUSTER_WIRE_H

#include "test/cluster/limits.h"

#include <raft.h>
#include <stddef.h>
#include <stdint.h>

/* How many of an AppendEntries message's entries are sent at once (at least one, unless it has
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
