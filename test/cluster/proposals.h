/* proposals.h - proposals from submission to result.
 *
 * A proposal is counted by the node it is submitted to. The leader hands it to Raft; another node
 * forwards it to the leader. It is done when this node has applied it, and failed when the leader
 * says so, when the way to the leader breaks, or after PROPOSAL_TIMEOUT_MS; what is applied after
 * it failed was still applied, but nobody had been told so. Loop thread only. */
#ifndef CLUSTER_PROPOSALS_H
#define CLUSTER_PROPOSALS_H

#include "command.h"
#include "transport.h"

struct proposals;

/* NULL: no memory. Both are borrowed until proposals_free(). */
struct proposals *proposals_new(struct raft *raft, uint64_t node_id);
struct proposals *proposals_free(struct proposals *proposals);
void proposals_set_transport(struct proposals *proposals, struct transport *transport);

/* Submit a change; origin and sequence are filled in here. */
void proposals_submit(struct proposals *proposals, struct command *command);

/* Is there a leader, and a way to it? */
bool proposals_possible(const struct proposals *proposals);

size_t proposals_pending(const struct proposals *proposals);

/* What happens to them. */
void proposals_applied(struct proposals *proposals, const struct command *command);
void proposals_forward_result(struct proposals *proposals, uint64_t sequence,
			      enum wire_verdict verdict);
void proposals_peer_lost(struct proposals *proposals, uint64_t node_id);
void proposals_expire(struct proposals *proposals);
void proposals_cancel(struct proposals *proposals);

/* A proposal that a peer forwarded: propose it, and answer over its connection. */
void proposals_take(struct proposals *proposals, uint64_t connection,
		    const struct wire_request *request);

#endif
