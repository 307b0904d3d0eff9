/* transport.h - the connections between nodes.
 *
 * A node keeps a gRPC channel to every peer, and one SendRaftMessage at a time under way on it,
 * which takes along all that has gathered for the peer since the last: so messages arrive in
 * order, and each call tells that the peer is alive. With nothing to say an empty one is the
 * heartbeat. Calls that name another cluster or node are refused and counted. Loop thread only. */
#ifndef CLUSTER_TRANSPORT_H
#define CLUSTER_TRANSPORT_H

#include "test/cluster/limits.h"
#include "test/cluster/rpc/rpc_client.h"
#include "test/cluster/rpc/rpc_server.h"

#include <event2/event.h>
#include <raft.h>
#include <stdbool.h>
#include <stdint.h>

struct transport;

/* Who this node is to others. */
struct self {
	uint64_t node_id;
	char cluster[CLUSTER_NAME_MAX + 1];
	char address[ADDRESS_MAX + 1]; /* numeric, as peers dial it */
};

struct transport_events {
	/* A Raft message. Its memory belongs to the callee; server_address is borrowed. */
	void (*raft)(void *arg, struct raft_message *message);
	void *arg;
};

/* `base`, `queue` and `self` are borrowed. 0; -ENOMEM. */
int transport_open(struct event_base *base, struct rpc_queue *queue, const struct self *self,
		   const struct transport_events *events, struct transport **ret_transport);

/* The method that peers call. 0; -ENOSPC. */
int transport_serve(struct transport *transport, struct rpc_server *server);

/* Let go of all peers, and do not dial again; what is under way ends later. */
void transport_stop(struct transport *transport);

/* After rpc_queue_close(). Accepts NULL; returns NULL. */
struct transport *transport_free(struct transport *transport);

/* Whom to keep connections to: the configuration without this node. Others are hung up on. */
void transport_set_peers(struct transport *transport,
			 const struct raft_configuration *configuration);

/* Is this peer reached: connected, and heard of within `within_ms`? */
bool transport_heard(const struct transport *transport, uint64_t node_id, uint64_t within_ms);

/* Send to a peer; one that is not known yet is dialled at the address in the message.
 * 0: on its way; -ENOTCONN; -EMSGSIZE; -ENOMEM; -ENOBUFS: too much is waiting for this peer. */
int transport_send_raft(struct transport *transport, const struct raft_message *message);

/* Count messages of other methods as traffic with a peer. As here, it is gRPC's messages that count,
 * with their heads, and not what HTTP/2 adds. */
void transport_count_sent(struct transport *transport, uint64_t node_id, const ProtobufCMessage *m);
void transport_count_received(struct transport *transport, uint64_t node_id,
			      const ProtobufCMessage *m);

/* Call a method of a peer: see rpc_channel_call(). 0; -ENOTCONN; -ENOMEM. */
int transport_call(struct transport *transport, uint64_t node_id, const char *method,
		   const ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply,
		   unsigned timeout_ms, void (*done)(void *arg, const struct rpc_result *result),
		   void *arg);

#endif
