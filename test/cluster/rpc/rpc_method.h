/* rpc_method.h - what a file that implements methods of the service needs to know.
 *
 * Such a file has a table of these and hands it to rpc_server_add(). A handler gets a request that
 * decoded, and answers its call exactly once, now or later: with rpc_reply() or rpc_fail(). The
 * call is the handler's until then, whatever the client does meanwhile. Loop thread only. */
#ifndef CLUSTER_RPC_METHOD_H
#define CLUSTER_RPC_METHOD_H

#include <grpc/status.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

struct rpc_call;

struct rpc_method {
	const char *name; /* as in the .proto, and in shm/metrics.def */
	const ProtobufCMessageDescriptor *request;
	void (*handle)(void *arg, struct rpc_call *call, const ProtobufCMessage *request);
	size_t request_max_bytes; /* 0: RPC_MESSAGE_MAX_BYTES */
	bool always;		  /* served also when RPC_CALLS_MAX others are */
};

/* Answer, and let go of the call. The message is encoded at once; rpc_fail() copies its text. */
void rpc_reply(struct rpc_call *call, const ProtobufCMessage *reply);
void rpc_fail(struct rpc_call *call, grpc_status_code code, const char *message);

#endif
