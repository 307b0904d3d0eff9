/* join.h - how a node becomes a member.
 *
 * The new node asks any member; a member that does not lead passes the question to the leader,
 * which adds the node, waits until it has caught up, and makes it a voter. Asking again is
 * harmless. Loop thread only. */
#ifndef CLUSTER_JOIN_H
#define CLUSTER_JOIN_H

#include "transport.h"

struct joins;

/* NULL: no memory. `raft` and `base` are borrowed. */
struct joins *joins_new(struct event_base *base, struct raft *raft, const struct wire_hello *self);
struct joins *joins_free(struct joins *joins);
void joins_set_transport(struct joins *joins, struct transport *transport);

/* The new node's side: ask the member at `member` until this node is a voter. `refused` is called
 * when that will never be. 0 or -ENOMEM. */
int joins_start(struct joins *joins, const char *member, void (*refused)(void *arg), void *arg);

/* A member's side. */
void joins_take(struct joins *joins, uint64_t connection, const struct wire_join *join);

/* The answer to what this node asked, for itself or for another. */
void joins_result(struct joins *joins, uint64_t request, enum wire_verdict verdict);

#endif
