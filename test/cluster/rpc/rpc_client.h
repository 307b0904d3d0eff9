/* rpc_client.h - calls that this node makes: a channel for each server, and calls over it, each of
 * which is recorded when it ends. Loop thread only. */
#ifndef CLUSTER_RPC_CLIENT_H
#define CLUSTER_RPC_CLIENT_H

#include "rpc_queue.h"

#include <grpc/status.h>
#include <protobuf-c/protobuf-c.h>

struct rpc_channel;

struct rpc_result {
	grpc_status_code code;
	const char *text;	       /* what the server says to it; "" */
	const ProtobufCMessage *reply; /* when the code is OK; borrowed */
};

/* Its first call connects. NULL: no memory. */
struct rpc_channel *rpc_channel_open(struct rpc_queue *queue, const char *address);

/* The calls that are open end as CANCELLED, later. Accepts NULL; returns NULL. */
struct rpc_channel *rpc_channel_close(struct rpc_channel *channel);

/* Is it connected? */
bool rpc_channel_is_ready(const struct rpc_channel *channel);

/* The result arrives in `done`, once, at the latest during rpc_queue_close().
 * 0; -ENOMEM: nothing was sent, `done` is not called. */
int rpc_channel_call(struct rpc_channel *channel, const char *method,
		     const ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply,
		     unsigned timeout_ms, void (*done)(void *arg, const struct rpc_result *result),
		     void *arg);

#endif
