/* rpc_server.h - the node's gRPC server: takes calls, decodes their requests, hands them to the
 * handlers, sends what those answer, and records every call in one place.
 *
 * What comes from outside gets the status that gRPC defines for it: an unknown method
 * UNIMPLEMENTED, a request that does not decode INVALID_ARGUMENT, one that is too large, or one
 * call too many RESOURCE_EXHAUSTED, one that does not arrive DEADLINE_EXCEEDED. Loop thread only. */
#ifndef CLUSTER_RPC_SERVER_H
#define CLUSTER_RPC_SERVER_H

#include "rpc_fault.h"
#include "rpc_method.h"
#include "rpc_queue.h"

struct rpc_server;

/* Listen on `address`, numeric; calls are taken from rpc_server_start() on.
 * 0; -EADDRINUSE: cannot listen there; -ENOMEM. Free it
 * also when it could not be opened, unless *ret_server is NULL. */
int rpc_server_open(struct event_base *base, struct rpc_queue *queue, const char *address,
		    struct rpc_server **ret_server);

/* Serve these methods, too, with `arg` for their handlers. The table is borrowed.
 * 0; -ENOSPC: more tables than there may be. */
int rpc_server_add(struct rpc_server *server, const struct rpc_method *methods, size_t n,
		   void *arg);

void rpc_server_start(struct rpc_server *server);

/* Reject and slow calls as these rules say, in the place of earlier ones. They are copied. */
void rpc_server_set_faults(struct rpc_server *server, const struct rpc_faults *faults);

/* Now and then: end the calls whose request does not arrive (REQUEST_TIMEOUT_MS), lest they use up
 * what may be served at a time. */
void rpc_server_expire(struct rpc_server *server);

/* Take no more calls, and answer those that are open CANCELLED; handlers still have to let go of
 * theirs. `stopped` is called when all are over. */
void rpc_server_stop(struct rpc_server *server, void (*stopped)(void *arg), void *arg);

/* When it never started, or has stopped. Accepts NULL; returns NULL. */
struct rpc_server *rpc_server_free(struct rpc_server *server);

#endif
