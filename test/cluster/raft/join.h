/* join.h - how a node becomes a member, and how one ceases to be.
 *
 * The new node asks any member; a member that does not lead passes the question to the leader,
 * which adds the node, waits until it has caught up, and makes it a voter. Asking again is
 * harmless. Leaving goes the same way. Loop thread only. */
#ifndef CLUSTER_JOIN_H
#define CLUSTER_JOIN_H

#include "transport.h"

struct joins;

/* NULL: no memory. All are borrowed. */
struct joins *joins_new(struct event_base *base, struct rpc_queue *queue, struct raft *raft,
			const struct self *self);
/* After rpc_queue_close(). Accepts NULL; returns NULL. */
struct joins *joins_free(struct joins *joins);
void joins_set_transport(struct joins *joins, struct transport *transport);

/* The methods JoinCluster and LeaveCluster. 0; -ENOSPC. */
int joins_serve(struct joins *joins, struct rpc_server *server);

/* Ask the member at `member` until this node is a voter. `refused` is called when that will never
 * be. 0 or -ENOMEM. */
int joins_start(struct joins *joins, const char *member, void (*refused)(void *arg), void *arg);

/* The node stops: what waits for an answer is told. */
void joins_stop(struct joins *joins);

#endif
