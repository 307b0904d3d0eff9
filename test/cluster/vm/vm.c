/* vm.c - names, checks and sums of VMs. Pure, any thread. */
#include "vm.h"

#include <string.h>

const char *vm_strategy_name(enum vm_strategy strategy)
{
	static const char *const names[VM_STRATEGIES] = {"most_available",
							 "least_available",
							 "round_robin",
							 "manual",
							 "spread_across_failure_domains",
							 "priority_based",
							 "locality_aware",
							 "cost_optimised"};

	return strategy < VM_STRATEGIES ? names[strategy] : "unknown";
}

bool vm_strategy_of(const char *name, enum vm_strategy *ret_strategy)
{
	for (enum vm_strategy s = 0; s < VM_STRATEGIES; s++) {
		if (!strcmp(name, vm_strategy_name(s))) {
			*ret_strategy = s;
			return true;
		}
	}
	return false;
}

const char *vm_desired_name(enum vm_desired desired)
{
	static const char *const names[VM_DESIRES] = {"running", "stopped", "deleted"};

	return desired < VM_DESIRES ? names[desired] : "unknown";
}

const char *vm_status_name(enum vm_status status)
{
	static const char *const names[VM_STATUSES] = {"creating", "starting", "running",
						       "stopping", "stopped",  "failed"};

	return status < VM_STATUSES ? names[status] : "unknown";
}

static bool is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* The name becomes part of a file's name: it must not be able to leave its directory. */
bool vm_name_is_valid(const char *name, size_t len)
{
	if (!len || len > VM_NAME_MAX || !is_alphanumeric(name[0]))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_alphanumeric(name[i]) && name[i] != '.' && name[i] != '_' && name[i] != '-')
			return false;
	}
	return true;
}

bool vm_request_is_valid(const struct vm_request *request)
{
	const struct vm_resources *needs = &request->needs;

	return needs->vcpus && needs->vcpus <= VM_VCPUS_MAX && needs->memory_bytes &&
	       needs->memory_bytes <= VM_BYTES_MAX && needs->disk_bytes <= VM_BYTES_MAX &&
	       request->strategy < VM_STRATEGIES &&
	       (request->strategy == VM_MANUAL || request->strategy == VM_LOCALITY) ==
		       (request->wanted_node != 0);
}

bool vm_fits(const struct vm_resources *needs, const struct vm_resources *capacity,
	     const struct vm_resources *allocated)
{
	struct vm_resources sum = *allocated;

	vm_add(&sum, needs);
	return sum.vcpus <= capacity->vcpus && sum.memory_bytes <= capacity->memory_bytes &&
	       sum.disk_bytes <= capacity->disk_bytes;
}

/* Cannot overflow: VMS_MAX times the largest VM is far below the types' limits. */
void vm_add(struct vm_resources *sum, const struct vm_resources *more)
{
	sum->vcpus += more->vcpus;
	sum->memory_bytes += more->memory_bytes;
	sum->disk_bytes += more->disk_bytes;
}

void vm_subtract(struct vm_resources *sum, const struct vm_resources *less)
{
	sum->vcpus -= less->vcpus;
	sum->memory_bytes -= less->memory_bytes;
	sum->disk_bytes -= less->disk_bytes;
}
