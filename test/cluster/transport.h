/* transport.h - the connections between nodes.
 *
 * A node dials every peer and keeps that connection: it carries Raft's messages, forwarded
 * proposals, joins and pings towards the peer, and the answers to them back. So each pair has two
 * connections, one dialled by each side. Both sides open with a HELLO that names node and cluster.
 *
 * Everything received is checked; a connection that sends anything else is closed and counted.
 * Loop thread only. */
#ifndef CLUSTER_TRANSPORT_H
#define CLUSTER_TRANSPORT_H

#include "wire.h"

#include <event2/event.h>
#include <raft.h>
#include <stdbool.h>

struct transport;

struct transport_events {
	/* A Raft message. Its memory belongs to the callee; server_address is borrowed. */
	void (*raft)(void *arg, struct raft_message *message);
	/* A peer wants a command proposed. `connection` is what transport_answer() takes. */
	void (*forward)(void *arg, uint64_t connection, const struct wire_request *request);
	void (*forward_result)(void *arg, uint64_t request, enum wire_verdict verdict);
	void (*join)(void *arg, uint64_t connection, const struct wire_join *join);
	void (*join_result)(void *arg, uint64_t request, enum wire_verdict verdict);
	/* The connection to this peer is gone, and with it the answers it owed. */
	void (*peer_lost)(void *arg, uint64_t node_id);
	void *arg;
};

/* Listen on self->address. 0; -EADDRINUSE, -errno. Strings are copied. */
int transport_open(struct event_base *base, const struct wire_hello *self,
		   const struct transport_events *events, struct transport **ret_transport);

/* Accepts NULL; returns NULL. Does not call back. */
struct transport *transport_close(struct transport *transport);

/* Whom to keep connections to: the configuration without this node. Others are hung up on. */
void transport_set_peers(struct transport *transport,
			 const struct raft_configuration *configuration);

/* Is this peer reached: connected, and heard of within `within_ms`? */
bool transport_heard(const struct transport *transport, uint64_t node_id, uint64_t within_ms);

/* Send to a peer; one that is not known yet is dialled at `address` (which may be NULL otherwise).
 * 0: on its way; -ENOTCONN; -EMSGSIZE; -ENOBUFS: too much is waiting for this peer. */
int transport_send_raft(struct transport *transport, const struct raft_message *message);
int transport_send_forward(struct transport *transport, uint64_t node_id, uint64_t request,
			   const void *command, size_t len);
int transport_send_join(struct transport *transport, uint64_t node_id,
			const struct wire_join *join);

/* Answer what came over `connection`; nothing happens if it is gone. */
void transport_answer(struct transport *transport, uint64_t connection, enum wire_kind kind,
		      uint64_t request, enum wire_verdict verdict);

/* Dial a member whose id is not known yet, and ask it to let this node join. The answer, or
 * WIRE_TIMEOUT when the connection fails, arrives as join_result. One at a time. */
int transport_ask_join(struct transport *transport, const char *address,
		       const struct wire_join *join);

#endif
