/* agent/serve/figures.c - see figures.h. */
#include "agent/serve/figures.h"

#include <math.h>
#include <string.h>

/* clang-format off */
const struct figure_spec figure_specs[FIGURES] = {
	{ "Raft", "raft_term", "Term", "blixard_raft_term", FIGURE_VALUE, NULL },
	{ "Raft", "raft_is_leader", "Leader", "blixard_raft_is_leader", FIGURE_VALUE, NULL },
	{ "Raft", "raft_has_leader", "Knows a leader", "blixard_raft_has_leader", FIGURE_VALUE, NULL },
	{ "Raft", "raft_commit_index", "Commit index", "blixard_raft_commit_index", FIGURE_VALUE, NULL },
	{ "Raft", "raft_applied_index", "Applied index", "blixard_raft_applied_index", FIGURE_VALUE, NULL },
	{ "Raft", "raft_proposals", "Proposals", "blixard_raft_proposals_total", FIGURE_TOTAL, NULL },
	{ "Raft", "raft_proposal_duration", "Proposal to applied", "blixard_raft_proposal_duration_seconds", FIGURE_LATENCY, NULL },
	{ "Raft", "raft_proposals_failed", "Failed proposals", "blixard_raft_proposals_failed_total", FIGURE_TOTAL, NULL },
	{ "Raft", "raft_proposals_pending", "Pending", "blixard_raft_proposals_pending", FIGURE_VALUE, NULL },
	{ "Raft", "raft_leader_changes", "Leader changes", "blixard_raft_leader_changes_total", FIGURE_TOTAL, NULL },
	{ "Storage", "storage_writes", "Writes", "blixard_storage_writes_total", FIGURE_TOTAL, NULL },
	{ "Storage", "storage_write_duration", "Write time, with its sync", "blixard_storage_write_duration_seconds", FIGURE_LATENCY, NULL },
	{ "Storage", "storage_reads", "Reads", "blixard_storage_reads_total", FIGURE_TOTAL, NULL },
	{ "Storage", "storage_errors", "Errors", "blixard_storage_errors_total", FIGURE_TOTAL, NULL },
	{ "Storage", "storage_read_duration", "Read time", "blixard_storage_read_duration_seconds", FIGURE_LATENCY, NULL },
	{ "gRPC", "grpc_requests", "Requests", "blixard_grpc_requests_total", FIGURE_TOTAL, NULL },
	{ "gRPC", "grpc_requests_failed", "Failed requests", "blixard_grpc_requests_failed_total", FIGURE_TOTAL, NULL },
	{ "gRPC", "grpc_requests_in_flight", "In flight", "blixard_grpc_requests_in_flight", FIGURE_VALUE, NULL },
	{ "gRPC", "grpc_request_duration", "Request time", "blixard_grpc_request_duration_seconds", FIGURE_LATENCY, NULL },
	{ "Cluster", "cluster_nodes", "Members", "blixard_cluster_nodes", FIGURE_VALUE, NULL },
	{ "Cluster", "cluster_nodes_healthy", "Members reached", "blixard_cluster_nodes_healthy", FIGURE_VALUE, NULL },
	{ "Cluster", "peer_connections", "Peer connections", "blixard_peer_connections_active", FIGURE_VALUE, NULL },
	{ "Cluster", "peer_round_trip", "Peer round trip", "blixard_peer_round_trip_time_seconds", FIGURE_LATENCY, NULL },
	{ "VMs", "vms", "Placed here", "blixard_vms", FIGURE_VALUE, NULL },
	{ "VMs", "vms_running", "Running", "blixard_vms_running", FIGURE_VALUE, NULL },
	{ "VMs", "vms_unhealthy", "Unhealthy", "blixard_vms_unhealthy", FIGURE_VALUE, NULL },
	{ "Host", "host_memory_available", "Memory available", "blixard_host_memory_available_bytes", FIGURE_VALUE, "B" },
	{ "Host", "host_memory_total", "Memory", "blixard_host_memory_total_bytes", FIGURE_VALUE, "B" },
	{ "Host", "host_clock_synchronised", "Clock synchronised", "blixard_host_clock_synchronised", FIGURE_VALUE, NULL },
};
/* clang-format on */

static const struct snapshot_family *find(const struct snapshot *s, const char *name,
					  uint32_t *ret_index)
{
	for (uint32_t i = 0; i < snapshot_family_count(s); i++) {
		const struct snapshot_family *f = snapshot_family_at(s, i);

		if (!strcmp(f->name, name)) {
			*ret_index = i;
			return f;
		}
	}
	return NULL;
}

static double number(enum snapshot_number kind, uint64_t bits)
{
	double f64;

	switch (kind) {
	case SNAPSHOT_U64:
		return (double)bits;
	case SNAPSHOT_I64:
		return (double)(int64_t)bits;
	case SNAPSHOT_NS:
		return (double)bits * 1e-9;
	case SNAPSHOT_F64:
		break;
	}
	memcpy(&f64, &bits, sizeof(f64));
	return f64;
}

static void add_histogram(const struct snapshot *s, const struct snapshot_family *family,
			  const struct snapshot_series *series, struct figure *f)
{
	uint32_t n = family->bounds->n < BLIX_BOUNDS_MAX ? family->bounds->n : BLIX_BOUNDS_MAX;
	const uint64_t *cells = snapshot_value_at(s, series->value);

	for (uint32_t i = 0; i <= n; i++) {
		f->buckets[i] += cells[i];
		f->value += (double)cells[i];
	}
	f->sum += number(family->number, cells[n + 1]);
}

static void read_one(const struct snapshot *s, const struct figure_spec *spec, struct figure *ret)
{
	uint32_t index = 0;
	const struct snapshot_family *family = find(s, spec->family, &index);
	bool histogram = spec->kind == FIGURE_LATENCY;

	memset(ret, 0, sizeof(*ret));
	/* A node may have registered the name as something else. */
	if (!family || family->hidden || histogram != (family->type == SNAPSHOT_HISTOGRAM))
		return;
	ret->bounds = family->bounds;
	for (uint32_t i = 0; i < family->n_series; i++) {
		const struct snapshot_series *series = snapshot_family_series(s, index, i);

		if (series->hidden)
			continue;
		ret->present = true;
		if (histogram)
			add_histogram(s, family, series, ret);
		else
			ret->value += number(family->number, *snapshot_value_at(s, series->value));
	}
}

void figures_read(const struct snapshot *s, struct figure ret_figures[FIGURES])
{
	for (uint32_t i = 0; i < FIGURES; i++)
		read_one(s, &figure_specs[i], &ret_figures[i]);
}

double figure_quantile(const struct figure *f, double q)
{
	double rank = q * f->value, below = 0, low = 0;

	if (!(f->value > 0) || !f->bounds)
		return NAN;
	for (uint32_t i = 0; i < f->bounds->n; i++) {
		double here = (double)f->buckets[i], high = f->bounds->value[i];

		if (here > 0 && below + here >= rank)
			return low + (high - low) * ((rank - below) / here);
		below += here;
		low = high;
	}
	return low;
}
