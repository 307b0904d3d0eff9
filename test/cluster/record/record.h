/* record.h - everything the node tells the world about itself, named for what happened.
 *
 * All metric handles of the node live in record.c, are resolved once, and nobody else knows the
 * hooks: node code says `record_proposal_done(ns)` at the place where a proposal is done. Recording
 * calls may be made from any thread; record_open() and record_peer() from the main thread. */
#ifndef CLUSTER_RECORD_H
#define CLUSTER_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct options;

/* Open the telemetry file and resolve every handle. A failure is logged, and the node runs on
 * without telemetry. */
void record_open(const struct options *options);

/* A clean end: the file says CLOSED. */
void record_close(void);

/* The loop turned. */
void record_alive(void);

uint64_t record_now_ns(void);

/* ---- proposals: counted on the node they were submitted to ----------------------------------- */

enum proposal_failure {
	FAILED_NOT_LEADER, /* no leader known, or it said that it is none */
	FAILED_LEADERSHIP_LOST,
	FAILED_TIMEOUT,
	FAILED_STORAGE,
	FAILED_CANCELLED, /* the node stops */
	FAILED_OTHER,	  /* too many pending, refused */
	FAILURES,
};

void record_proposal_submitted(void);
void record_proposal_failed(enum proposal_failure why);
void record_proposal_done(uint64_t duration_ns);
void record_proposals_pending(size_t n);

/* ---- Raft ------------------------------------------------------------------------------------ */

void record_committed(uint64_t entries, uint64_t commit_index);
void record_applied(uint64_t entries, uint64_t applied_index);
void record_term(uint64_t term);
void record_leadership(bool is_leader, bool has_leader);
void record_leader_changed(void);
void record_snapshot_taken(void);
void record_members(size_t voters);
void record_members_healthy(size_t healthy);

/* ---- peers ----------------------------------------------------------------------------------- */

struct record_peer;

/* The series of one peer; never NULL. Lives as long as the process; the same id yields the same. */
struct record_peer *record_peer(uint64_t node_id);

void record_peer_reconnect(struct record_peer *peer);
void record_peer_round_trip(struct record_peer *peer, uint64_t ns);
void record_peer_sent(struct record_peer *peer, size_t bytes);
void record_peer_received(struct record_peer *peer, size_t bytes);
void record_peer_connections(size_t active, size_t expected);

enum peer_fault {
	FAULT_FRAME,	/* a Raft message or command that does not decode */
	FAULT_IDENTITY, /* of another cluster, or meant for another node */
	FAULT_LIMIT,	/* one call too many */
	FAULT_STALE,	/* a Raft message that contradicts what this node knows */
	FAULTS,
};

/* A connection or message of somebody else was refused. */
void record_peer_fault(enum peer_fault fault);

/* A message to a peer was dropped because too much is waiting for it. */
void record_peer_message_dropped(void);

/* ---- storage --------------------------------------------------------------------------------- */

enum storage_table {
	TABLE_RAFT_LOG,
	TABLE_RAFT_HARD_STATE,
	TABLE_RAFT_SNAPSHOT,
	TABLE_VM_STATES, /* the replicated table: in memory, made durable by the log before it is
			    written */
	TABLES,
};

enum storage_op { STORAGE_READ, STORAGE_WRITE, STORAGE_SYNC, STORAGE_OPS };

void record_storage_read(enum storage_table table, uint64_t duration_ns);
void record_storage_write(enum storage_table table, uint64_t duration_ns);
void record_storage_error(enum storage_op op);

/* What a crash left behind at the end of the log was cut off. */
void record_log_torn(uint64_t bytes);

#endif
