/* proposals.h - proposals from submission to result.
 *
 * A proposal is counted by the node it is submitted to. The leader hands it to Raft; another node
 * forwards it to the leader. It is done when this node has applied it, and failed when the leader
 * says so, when the way to the leader breaks, or after PROPOSAL_TIMEOUT_MS; what is applied after
 * it failed was still applied, but nobody had been told so. Loop thread only. */
#ifndef CLUSTER_PROPOSALS_H
#define CLUSTER_PROPOSALS_H

#include "test/cluster/state/command.h"
#include "transport.h"
#include "verdict.h"

struct proposals;

/* How a proposal ended. `result` is what applying it came to (0 or -errno), when it is OK. */
typedef void (*proposal_done)(void *arg, uint64_t sequence, enum verdict verdict, int result);

/* NULL: no memory. All are borrowed until proposals_free(). */
struct proposals *proposals_new(struct raft *raft, const struct self *self);
struct proposals *proposals_free(struct proposals *proposals);
void proposals_set_transport(struct proposals *proposals, struct transport *transport);

/* The method by which peers forward. 0; -ENOSPC. */
int proposals_serve(struct proposals *proposals, struct rpc_server *server);

/* Submit a change; origin and sequence are filled in here. `done`, which may be NULL, is called
 * once, perhaps before this returns. */
void proposals_submit(struct proposals *proposals, struct command *command, proposal_done done,
		      void *arg);

/* Is there a leader, and a way to it? */
bool proposals_possible(const struct proposals *proposals);

size_t proposals_pending(const struct proposals *proposals);

/* What happens to them. */
void proposals_applied(struct proposals *proposals, const struct command *command, int result);
void proposals_expire(struct proposals *proposals);
void proposals_cancel(struct proposals *proposals);

#endif
