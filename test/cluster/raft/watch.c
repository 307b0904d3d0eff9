/* watch.c - libraft has no hooks for what it decides, but its state is public: compare it with what
 * was seen last. Loop thread only. */
#include "watch.h"

#include "test/cluster/limits.h"
#include "test/cluster/log.h"
#include "test/cluster/record/note.h"
#include "test/cluster/record/record.h"
#include "transport.h"

#include <inttypes.h>

void watch_init(struct watch *w, struct raft *raft, struct transport *transport)
{
	*w = (struct watch){
		.raft = raft,
		.transport = transport,
		.node_id = raft->id,
		.committed = raft->commit_index,
		.applied = raft->last_applied,
		.started = true,
	};
	record_committed(0, w->committed);
	record_applied(0, w->applied);
	watch_raft(w);
}

void watch_restored(struct watch *w)
{
	/* Raft sets its indexes after the state machine has taken the snapshot. */
	w->restored = true;
}

static void watch_indexes(struct watch *w)
{
	const struct raft *raft = w->raft;

	if (w->restored) {
		w->committed = raft->commit_index;
		w->applied = raft->last_applied;
		w->restored = false;
	}
	if (raft->commit_index > w->committed)
		record_committed(raft->commit_index - w->committed, raft->commit_index);
	else
		record_committed(0, raft->commit_index);
	if (raft->last_applied > w->applied)
		record_applied(raft->last_applied - w->applied, raft->last_applied);
	else
		record_applied(0, raft->last_applied);
	w->committed = raft->commit_index;
	w->applied = raft->last_applied;
}

static void watch_election(struct watch *w)
{
	const struct raft *raft = w->raft;
	bool stands = raft->state == RAFT_CANDIDATE;

	if (stands && !trace_is_set(w->election)) {
		w->election = trace_begin_root(TRACE_RAFT_ELECTION);
	} else if (!stands && trace_is_set(w->election)) {
		trace_u64(w->election, TRACE_TERM, raft->current_term);
		trace_str(w->election, TRACE_RESULT, raft->state == RAFT_LEADER ? "won" : "lost");
		trace_end(w->election);
		w->election = (blix_span){.place = 0};
	}
}

static void watch_leader(struct watch *w)
{
	const char *address;
	raft_id leader;

	raft_leader((struct raft *)w->raft, &leader, &address);
	record_leadership(w->raft->state == RAFT_LEADER, leader != 0);
	if (!leader || (leader == w->leader && w->raft->current_term == w->leader_term))
		return;
	w->leader = leader;
	w->leader_term = w->raft->current_term;
	record_leader_changed();
	note_leader(leader, w->leader_term);
	log_line(LOG_INFO, "node %llu leads in term %llu", leader, w->leader_term);
}

static void watch_configuration(struct watch *w)
{
	const struct raft *raft = w->raft;
	size_t voters = 0;

	if (raft->configuration_index == w->configuration &&
	    raft->configuration_uncommitted_index == w->uncommitted &&
	    raft->configuration.n == w->members)
		return;
	w->configuration = raft->configuration_index;
	w->uncommitted = raft->configuration_uncommitted_index;
	w->members = raft->configuration.n;
	for (unsigned i = 0; i < raft->configuration.n; i++)
		voters += raft->configuration.servers[i].role == RAFT_VOTER;
	record_members(voters);
	transport_set_peers(w->transport, &raft->configuration);
}

void watch_raft(struct watch *w)
{
	if (!w->started)
		return;
	if (w->raft->current_term != w->term) {
		w->term = w->raft->current_term;
		record_term(w->term);
	}
	watch_indexes(w);
	watch_election(w);
	watch_leader(w);
	watch_configuration(w);
}

void watch_peers(const struct watch *w)
{
	const struct raft_configuration *configuration = &w->raft->configuration;
	size_t healthy = 0;

	for (unsigned i = 0; i < configuration->n; i++) {
		const struct raft_server *server = &configuration->servers[i];

		if (server->role != RAFT_VOTER)
			continue;
		healthy += server->id == w->node_id ||
			   transport_heard(w->transport, server->id, ELECTION_TIMEOUT_MS);
	}
	record_members_healthy(healthy);
}
