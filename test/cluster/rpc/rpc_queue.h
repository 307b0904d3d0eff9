/* rpc_queue.h - gRPC's completion queue, emptied by a thread of its own, which hands every finished
 * operation to the event loop.
 *
 * The thread runs gRPC's input and output and nothing else of ours: what an operation's end means
 * is decided on the loop thread. Operations carry their own links, so that the handover allocates
 * nothing and holds no more than are under way, which server and client bound. */
#ifndef CLUSTER_RPC_QUEUE_H
#define CLUSTER_RPC_QUEUE_H

#include <event2/event.h>
#include <grpc/grpc.h>
#include <stdbool.h>

/* What is given to gRPC as a tag. */
struct rpc_op {
	struct rpc_op *next; /* the queue's */
	bool ok;	     /* set before done() */
	void (*done)(struct rpc_op *op);
	void *arg;
};

struct rpc_queue;

/* 0; -ENOMEM, -EMFILE: gRPC is initialised until rpc_queue_close(). Loop thread. */
int rpc_queue_open(struct event_base *base, struct rpc_queue **ret_queue);

/* Wait until all operations have ended, running their done(). Accepts NULL; returns NULL. */
struct rpc_queue *rpc_queue_close(struct rpc_queue *queue);

/* What grpc_call_start_batch() and others take. */
grpc_completion_queue *rpc_queue_grpc(struct rpc_queue *queue);

#endif
