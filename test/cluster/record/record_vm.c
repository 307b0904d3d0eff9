/* record_vm.c - the handles of everything about VMs, resolved once. Loop thread only. */
#include "record_vm.h"

#include <blixard_hooks.h>

#include <errno.h>

enum { REFUSALS = 7 };

static const struct {
	int error;
	const char *reason;
} refusals[REFUSALS] = {
	{EEXIST, "exists"},  {ENOENT, "not_found"}, {ENOSPC, "full"},	   {ESTALE, "stale"},
	{EDQUOT, "no_room"}, {EINVAL, "invalid"},   {EPROTO, "malformed"},
};

static struct {
	blix_counter begun[VM_OPS];
	blix_counter failed[VM_OPS];
	blix_histogram duration[VM_OPS];
	blix_counter checks;
	blix_counter checks_failed;
	blix_counter status_changes;
	blix_counter recoveries;
	blix_counter recoveries_failed;
	blix_gauge placed;
	blix_gauge running;
	blix_gauge unhealthy;
	blix_gauge capacity[3];
	blix_gauge allocated[3];
	blix_counter attempts[VM_STRATEGIES];
	blix_counter failures[VM_STRATEGIES][PLACEMENT_RESULTS];
	blix_histogram decision[VM_STRATEGIES];
	blix_gauge pending;
	blix_counter preemptions;
	blix_counter refused[REFUSALS];
} metrics;

static void resolve_operations(void)
{
	static const uint32_t begun[VM_OPS] = {BLIX_vm_create_total, BLIX_vm_start_total,
					       BLIX_vm_stop_total, BLIX_vm_delete_total};
	static const uint32_t failed[VM_OPS] = {
		BLIX_vm_create_failed_total, BLIX_vm_start_failed_total, BLIX_vm_stop_failed_total,
		BLIX_vm_delete_failed_total};

	for (int i = 0; i < VM_OPS; i++) {
		metrics.begun[i] = blix_counter_of(begun[i]);
		metrics.failed[i] = blix_counter_of(failed[i]);
	}
	metrics.duration[VM_OP_CREATE] = blix_histogram_of(BLIX_vm_create_duration_seconds);
	metrics.duration[VM_OP_START] = blix_histogram_of(BLIX_vm_start_duration_seconds);
}

static void resolve_watching(void)
{
	metrics.checks = blix_counter_of(BLIX_vm_health_checks_total);
	metrics.checks_failed = blix_counter_of(BLIX_vm_health_checks_failed_total);
	metrics.status_changes = blix_counter_of(BLIX_vm_status_changes_total);
	metrics.recoveries = blix_counter_of(BLIX_vm_recoveries_total);
	metrics.recoveries_failed = blix_counter_of(BLIX_vm_recoveries_failed_total);
	metrics.placed = blix_gauge_of(BLIX_vms);
	metrics.running = blix_gauge_of(BLIX_vms_running);
	metrics.unhealthy = blix_gauge_of(BLIX_vms_unhealthy);
	metrics.capacity[0] = blix_gauge_of(BLIX_node_vcpus_capacity);
	metrics.capacity[1] = blix_gauge_of(BLIX_node_memory_capacity_bytes);
	metrics.capacity[2] = blix_gauge_of(BLIX_node_disk_capacity_bytes);
	metrics.allocated[0] = blix_gauge_of(BLIX_node_vcpus_allocated);
	metrics.allocated[1] = blix_gauge_of(BLIX_node_memory_allocated_bytes);
	metrics.allocated[2] = blix_gauge_of(BLIX_node_disk_allocated_bytes);
}

static void resolve_placement(void)
{
	for (enum vm_strategy s = 0; s < VM_STRATEGIES; s++) {
		const char *strategy = vm_strategy_name(s);

		metrics.attempts[s] = blix_counter_of(BLIX_vm_placement_attempts_total, strategy);
		metrics.decision[s] =
			blix_histogram_of(BLIX_vm_placement_duration_seconds, strategy);
		for (enum placement_result r = PLACEMENT_OK + 1; r < PLACEMENT_RESULTS; r++)
			metrics.failures[s][r] =
				blix_counter_of(BLIX_vm_placement_failures_total, strategy,
						placement_result_name(r));
	}
	metrics.pending = blix_gauge_of(BLIX_vm_placement_pending);
	metrics.preemptions = blix_counter_of(BLIX_vm_preemptions_total);
}

/* What the catalogue lacks, because only this node has it. */
static void resolve_refusals(void)
{
	static const char *const keys[] = {"reason"};
	struct blix_metric_spec spec = {
		.name = "blixard_vm_commands_refused_total",
		.help = "Commands about VMs that this node submitted and that changed nothing, by "
			"reason.",
		.unit = "{command}",
		.kind = BLIX_KIND_COUNTER,
		.label_keys = keys,
		.n_label_keys = 1,
		.max_series = REFUSALS,
	};
	uint32_t slot;

	if (blix_metric_register(&spec, &slot))
		return;
	for (int i = 0; i < REFUSALS; i++)
		metrics.refused[i] = blix_counter_of(slot, refusals[i].reason);
}

void record_vm_open(void)
{
	resolve_operations();
	resolve_watching();
	resolve_placement();
	resolve_refusals();
}

void record_vm_begun(enum vm_operation op)
{
	blix_add(metrics.begun[op], 1);
}

void record_vm_failed(enum vm_operation op)
{
	blix_add(metrics.failed[op], 1);
}

void record_vm_took(enum vm_operation op, uint64_t duration_ns)
{
	blix_observe_ns(metrics.duration[op], duration_ns);
}

void record_vm_checked(bool passed)
{
	blix_add(metrics.checks, 1);
	if (!passed)
		blix_add(metrics.checks_failed, 1);
}

void record_vm_status_changed(void)
{
	blix_add(metrics.status_changes, 1);
}

void record_vm_recovery_begun(void)
{
	blix_add(metrics.recoveries, 1);
}

void record_vm_recovery_failed(void)
{
	blix_add(metrics.recoveries_failed, 1);
}

void record_vms(size_t placed, size_t running, size_t unhealthy)
{
	blix_set(metrics.placed, (int64_t)placed);
	blix_set(metrics.running, (int64_t)running);
	blix_set(metrics.unhealthy, (int64_t)unhealthy);
}

void record_capacity(const struct vm_resources *capacity, const struct vm_resources *allocated)
{
	blix_set(metrics.capacity[0], capacity->vcpus);
	blix_set(metrics.capacity[1], (int64_t)capacity->memory_bytes);
	blix_set(metrics.capacity[2], (int64_t)capacity->disk_bytes);
	blix_set(metrics.allocated[0], allocated->vcpus);
	blix_set(metrics.allocated[1], (int64_t)allocated->memory_bytes);
	blix_set(metrics.allocated[2], (int64_t)allocated->disk_bytes);
}

void record_placement(enum vm_strategy strategy, enum placement_result result, uint64_t duration_ns)
{
	blix_add(metrics.attempts[strategy], 1);
	if (result != PLACEMENT_OK)
		blix_add(metrics.failures[strategy][result], 1);
	blix_observe_ns(metrics.decision[strategy], duration_ns);
}

void record_placement_pending(size_t waiting)
{
	blix_set(metrics.pending, (int64_t)waiting);
}

void record_preempted(void)
{
	blix_add(metrics.preemptions, 1);
}

void record_vm_refused(int error)
{
	for (int i = 0; i < REFUSALS; i++) {
		if (refusals[i].error == -error)
			blix_add(metrics.refused[i], 1);
	}
}
