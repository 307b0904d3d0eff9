/* record.c - the node's only use of libblixard-hooks: opens the file, resolves the series once,
 * records. Handles are written by record_open() before other threads start and only read
 * afterwards, but for peers, which the main thread adds and others never see. */
#include "record.h"

#include "test/cluster/limits.h"
#include "test/cluster/log.h"
#include "test/cluster/options.h"
#include "record_vm.h"

#include <blixard_hooks.h>

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

struct record_peer {
	uint64_t node_id;
	blix_counter reconnects;
	blix_counter sent;
	blix_counter received;
	blix_histogram round_trip;
};

static struct {
	blix_counter proposals;
	blix_counter failed[FAILURES];
	blix_gauge pending;
	blix_histogram proposal_duration;
	blix_counter committed;
	blix_counter applied;
	blix_counter leader_changes;
	blix_counter snapshots;
	blix_gauge commit_index;
	blix_gauge applied_index;
	blix_gauge term;
	blix_gauge is_leader;
	blix_gauge has_leader;
	blix_gauge members;
	blix_gauge members_healthy;
	blix_gauge connections_active;
	blix_gauge connections_expected;
	blix_counter reads[TABLES];
	blix_counter writes[TABLES];
	blix_histogram read_duration[TABLES];
	blix_histogram write_duration[TABLES];
	blix_counter errors[STORAGE_OPS];
	blix_counter faults[FAULTS];
	blix_counter dropped;
	blix_counter torn;
	struct record_peer peers[MEMBERS_MAX + 1]; /* the last one takes whoever does not fit */
	size_t n_peers;
} metrics;

static void resolve_raft(void)
{
	static const char *const reasons[FAILURES] = {"not_leader", "leadership_lost", "timeout",
						      "storage",    "cancelled",       "other"};

	metrics.proposals = blix_counter_of(BLIX_raft_proposals_total);
	for (int i = 0; i < FAILURES; i++)
		metrics.failed[i] = blix_counter_of(BLIX_raft_proposals_failed_total, reasons[i]);
	metrics.pending = blix_gauge_of(BLIX_raft_proposals_pending);
	metrics.proposal_duration = blix_histogram_of(BLIX_raft_proposal_duration_seconds);
	metrics.committed = blix_counter_of(BLIX_raft_committed_entries_total);
	metrics.applied = blix_counter_of(BLIX_raft_applied_entries_total);
	metrics.leader_changes = blix_counter_of(BLIX_raft_leader_changes_total);
	metrics.snapshots = blix_counter_of(BLIX_raft_snapshots_total);
	metrics.commit_index = blix_gauge_of(BLIX_raft_commit_index);
	metrics.applied_index = blix_gauge_of(BLIX_raft_applied_index);
	metrics.term = blix_gauge_of(BLIX_raft_term);
	metrics.is_leader = blix_gauge_of(BLIX_raft_is_leader);
	metrics.has_leader = blix_gauge_of(BLIX_raft_has_leader);
	metrics.members = blix_gauge_of(BLIX_cluster_nodes);
	metrics.members_healthy = blix_gauge_of(BLIX_cluster_nodes_healthy);
}

static void resolve_storage(void)
{
	static const char *const tables[TABLES] = {"raft_log", "raft_hard_state", "raft_snapshot",
						   "vm_states"};
	static const char *const ops[STORAGE_OPS] = {"read", "write", "sync"};

	for (int i = 0; i < TABLES; i++) {
		metrics.reads[i] = blix_counter_of(BLIX_storage_reads_total, tables[i]);
		metrics.writes[i] = blix_counter_of(BLIX_storage_writes_total, tables[i]);
		metrics.read_duration[i] =
			blix_histogram_of(BLIX_storage_read_duration_seconds, tables[i]);
		metrics.write_duration[i] =
			blix_histogram_of(BLIX_storage_write_duration_seconds, tables[i]);
	}
	for (int i = 0; i < STORAGE_OPS; i++)
		metrics.errors[i] = blix_counter_of(BLIX_storage_errors_total, ops[i]);
}

/* What the catalogue lacks, because only this node has it. */
static blix_counter own_counter(const char *name, const char *unit, const char *help)
{
	struct blix_metric_spec spec = {.name = name,
					.help = help,
					.unit = unit,
					.kind = BLIX_KIND_COUNTER,
					.max_series = 1};
	uint32_t slot;

	if (blix_metric_register(&spec, &slot))
		return (blix_counter){0};
	return blix_counter_of(slot);
}

static void resolve_own(void)
{
	static const char *const keys[] = {"reason"};
	static const char *const reasons[FAULTS] = {"frame", "identity", "limit", "stale"};
	struct blix_metric_spec spec = {
		.name = "blixard_peer_faults_total",
		.help = "Connections and messages of others that this node refused, by reason.",
		.unit = "{fault}",
		.kind = BLIX_KIND_COUNTER,
		.label_keys = keys,
		.n_label_keys = 1,
		.max_series = FAULTS,
	};
	uint32_t slot;

	if (!blix_metric_register(&spec, &slot)) {
		for (int i = 0; i < FAULTS; i++)
			metrics.faults[i] = blix_counter_of(slot, reasons[i]);
	}
	metrics.dropped = own_counter("blixard_peer_messages_dropped_total", "{message}",
				      "Messages to peers dropped because too much was queued.");
	metrics.torn =
		own_counter("blixard_storage_log_torn_bytes_total", "By",
			    "Bytes of an unfinished write cut off the log when it was opened.");
}

void record_open(const struct options *options)
{
	int err = blix_open(options->shm, &(struct blix_identity){
						  .node_id = options->id,
						  .cluster = options->cluster,
						  .grpc_address = options->bind,
						  .data_dir = options->data,
						  .service_version = BLIX_VERSION,
					  });

	if (err)
		log_line(LOG_WARN, "%s: telemetry is off, running without: %s", options->shm,
			 blix_strerror(err));
	resolve_raft();
	resolve_storage();
	resolve_own();
	record_vm_open();
	metrics.connections_active = blix_gauge_of(BLIX_peer_connections_active);
	metrics.connections_expected = blix_gauge_of(BLIX_peer_connections_expected);
}

void record_close(void)
{
	blix_close();
}

void record_alive(void)
{
	blix_heartbeat();
}

uint64_t record_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void record_proposal_submitted(void)
{
	blix_add(metrics.proposals, 1);
}

void record_proposal_failed(enum proposal_failure why)
{
	blix_add(metrics.failed[why], 1);
}

void record_proposal_done(uint64_t duration_ns)
{
	blix_observe_ns(metrics.proposal_duration, duration_ns);
}

void record_proposals_pending(size_t n)
{
	blix_set(metrics.pending, (int64_t)n);
}

void record_committed(uint64_t entries, uint64_t commit_index)
{
	blix_add(metrics.committed, entries);
	blix_set(metrics.commit_index, (int64_t)commit_index);
}

void record_applied(uint64_t entries, uint64_t applied_index)
{
	blix_add(metrics.applied, entries);
	blix_set(metrics.applied_index, (int64_t)applied_index);
}

void record_term(uint64_t term)
{
	blix_set(metrics.term, (int64_t)term);
}

void record_leadership(bool is_leader, bool has_leader)
{
	blix_set(metrics.is_leader, is_leader);
	blix_set(metrics.has_leader, has_leader);
}

void record_leader_changed(void)
{
	blix_add(metrics.leader_changes, 1);
}

void record_snapshot_taken(void)
{
	blix_add(metrics.snapshots, 1);
}

void record_members(size_t voters)
{
	blix_set(metrics.members, (int64_t)voters);
}

void record_members_healthy(size_t healthy)
{
	blix_set(metrics.members_healthy, (int64_t)healthy);
}

struct record_peer *record_peer(uint64_t node_id)
{
	char text[24];

	for (size_t i = 0; i < metrics.n_peers; i++) {
		if (metrics.peers[i].node_id == node_id)
			return &metrics.peers[i];
	}
	if (metrics.n_peers == MEMBERS_MAX)
		return &metrics.peers[MEMBERS_MAX];
	struct record_peer *peer = &metrics.peers[metrics.n_peers++];
	snprintf(text, sizeof(text), "%" PRIu64, node_id);
	*peer = (struct record_peer){
		.node_id = node_id,
		.reconnects = blix_counter_of(BLIX_peer_reconnect_attempts_total, text),
		.sent = blix_counter_of(BLIX_peer_sent_bytes_total, text),
		.received = blix_counter_of(BLIX_peer_received_bytes_total, text),
		.round_trip = blix_histogram_of(BLIX_peer_round_trip_time_seconds, text),
	};
	return peer;
}

void record_peer_reconnect(struct record_peer *peer)
{
	blix_add(peer->reconnects, 1);
}

void record_peer_round_trip(struct record_peer *peer, uint64_t ns)
{
	blix_observe_ns(peer->round_trip, ns);
}

void record_peer_sent(struct record_peer *peer, size_t bytes)
{
	blix_add(peer->sent, bytes);
}

void record_peer_received(struct record_peer *peer, size_t bytes)
{
	blix_add(peer->received, bytes);
}

void record_peer_connections(size_t active, size_t expected)
{
	blix_set(metrics.connections_active, (int64_t)active);
	blix_set(metrics.connections_expected, (int64_t)expected);
}

void record_peer_fault(enum peer_fault fault)
{
	blix_add(metrics.faults[fault], 1);
}

void record_peer_message_dropped(void)
{
	blix_add(metrics.dropped, 1);
}

void record_storage_read(enum storage_table table, uint64_t duration_ns)
{
	blix_add(metrics.reads[table], 1);
	blix_observe_ns(metrics.read_duration[table], duration_ns);
}

void record_storage_write(enum storage_table table, uint64_t duration_ns)
{
	blix_add(metrics.writes[table], 1);
	blix_observe_ns(metrics.write_duration[table], duration_ns);
}

void record_storage_error(enum storage_op op)
{
	blix_add(metrics.errors[op], 1);
}

void record_log_torn(uint64_t bytes)
{
	blix_add(metrics.torn, bytes);
}
