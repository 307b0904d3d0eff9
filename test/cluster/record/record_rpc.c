/* record_rpc.c - see record_rpc.h. Loop thread only. */
#include "record_rpc.h"

#include <blixard_hooks.h>

#include <stdbool.h>
#include <string.h>

/* All that there are, whether this node implements them or not; the last one is for the rest. */
static const char *const methods[] = {
	"JoinCluster",
	"LeaveCluster",
	"GetClusterStatus",
	"SendRaftMessage",
	"SubmitTask",
	"GetTaskStatus",
	"CreateVm",
	"CreateVmWithScheduling",
	"StartVm",
	"StopVm",
	"DeleteVm",
	"ListVms",
	"GetVmStatus",
	"MigrateVm",
	"ScheduleVmPlacement",
	"GetClusterResourceSummary",
	"HealthCheck",
	"GetP2pStatus",
	"ShareVmImage",
	"GetVmImage",
	"ListP2pImages",
	"GetRaftStatus",
	"ProposeTask",
	"Forward",
	"other",
};

/* The codes that say that the server, or the way to it, has failed, not the caller. */
static const struct {
	grpc_status_code code;
	const char *name;
} failures[] = {
	{GRPC_STATUS_UNKNOWN, "UNKNOWN"},
	{GRPC_STATUS_DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"},
	{GRPC_STATUS_RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"},
	{GRPC_STATUS_UNIMPLEMENTED, "UNIMPLEMENTED"},
	{GRPC_STATUS_INTERNAL, "INTERNAL"},
	{GRPC_STATUS_UNAVAILABLE, "UNAVAILABLE"},
	{GRPC_STATUS_DATA_LOSS, "DATA_LOSS"},
};

enum {
	METHODS = sizeof(methods) / sizeof(methods[0]),
	FAILING_CODES = sizeof(failures) / sizeof(failures[0]),
};

/* Handles are resolved when first needed: a series that never had a value says nothing, but for
 * those that metrics.def starts at zero by itself. */
struct side {
	uint32_t requests_slot;
	uint32_t failed_slot;
	uint32_t duration_slot;
	struct {
		bool known;
		blix_counter requests;
		blix_histogram duration;
		bool failed_known[FAILING_CODES];
		blix_counter failed[FAILING_CODES];
	} of[METHODS];
};

static struct side server = {
	.requests_slot = BLIX_grpc_requests_total,
	.failed_slot = BLIX_grpc_requests_failed_total,
	.duration_slot = BLIX_grpc_request_duration_seconds,
};
static struct side client = {
	.requests_slot = BLIX_grpc_client_requests_total,
	.failed_slot = BLIX_grpc_client_requests_failed_total,
	.duration_slot = BLIX_grpc_client_request_duration_seconds,
};
static blix_updown_counter in_flight;

void record_rpc_open(void)
{
	in_flight = blix_updown_of(BLIX_grpc_requests_in_flight);
}

int record_rpc_method(const char *name)
{
	int i = 0;

	while (i < METHODS - 1 && strcmp(methods[i], name) != 0)
		i++;
	return i;
}

const char *record_rpc_method_name(int method)
{
	return method < METHODS ? methods[method] : NULL;
}

const char *record_rpc_code_name(grpc_status_code code)
{
	static const char *const names[] = {"OK",
					    "CANCELLED",
					    "UNKNOWN",
					    "INVALID_ARGUMENT",
					    "DEADLINE_EXCEEDED",
					    "NOT_FOUND",
					    "ALREADY_EXISTS",
					    "PERMISSION_DENIED",
					    "RESOURCE_EXHAUSTED",
					    "FAILED_PRECONDITION",
					    "ABORTED",
					    "OUT_OF_RANGE",
					    "UNIMPLEMENTED",
					    "INTERNAL",
					    "UNAVAILABLE",
					    "DATA_LOSS",
					    "UNAUTHENTICATED"};

	return (unsigned)code < sizeof(names) / sizeof(names[0]) ? names[code] : "UNKNOWN";
}

bool record_rpc_is_failure(grpc_status_code code)
{
	for (int i = 0; i < FAILING_CODES; i++) {
		if (failures[i].code == code)
			return true;
	}
	return false;
}

static void record_failure(struct side *side, int method, grpc_status_code code)
{
	for (int i = 0; i < FAILING_CODES; i++) {
		if (failures[i].code != code)
			continue;
		if (!side->of[method].failed_known[i]) {
			side->of[method].failed_known[i] = true;
			side->of[method].failed[i] = blix_counter_of(
				side->failed_slot, methods[method], failures[i].name);
		}
		blix_add(side->of[method].failed[i], 1);
	}
}

static void record_end(struct side *side, int method, grpc_status_code code, uint64_t duration_ns)
{
	if (!side->of[method].known) {
		side->of[method].known = true;
		side->of[method].requests = blix_counter_of(side->requests_slot, methods[method]);
		side->of[method].duration = blix_histogram_of(side->duration_slot, methods[method]);
	}
	/* The failure last: its family never shows more than the other. */
	blix_add(side->of[method].requests, 1);
	record_failure(side, method, code);
	blix_observe_ns(side->of[method].duration, duration_ns);
}

void record_rpc_begun(void)
{
	blix_updown(in_flight, 1);
}

void record_rpc_served(int method, grpc_status_code code, uint64_t duration_ns)
{
	record_end(&server, method, code, duration_ns);
	blix_updown(in_flight, -1);
}

void record_rpc_called(int method, grpc_status_code code, uint64_t duration_ns)
{
	record_end(&client, method, code, duration_ns);
}
