/* client_record.c - what rpc_client.c records, in a program that is not a node: nothing. The load
 * counts in tally.c, where it knows the target as well. Its calls have no spans of their own, but
 * may begin a trace: traces.h. Loop thread only. */
#include "traces.h"

#include "test/cluster/record/record.h"
#include "test/cluster/record/record_rpc.h"
#include "test/cluster/record/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

static struct {
	uint32_t percent;
	uint32_t owed; /* hundredths of a trace that have added up */
	uint64_t begun;
} traces;

uint64_t record_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int record_rpc_method(const char *name)
{
	(void)name;
	return 0;
}

void record_rpc_called(int method, grpc_status_code code, uint64_t duration_ns)
{
	(void)method;
	(void)code;
	(void)duration_ns;
}

/* ---- traces ---------------------------------------------------------------------------------- */

void traces_init(uint32_t percent)
{
	traces.percent = percent;
}

uint64_t traces_begun(void)
{
	return traces.begun;
}

blix_span trace_called_begin(int method, blix_setter set, void *arg)
{
	uint64_t ids[3];
	char value[64];

	(void)method;
	traces.owed += traces.percent;
	if (traces.owed < 100)
		return (blix_span){.place = 0};
	traces.owed -= 100;
	if (getrandom(ids, sizeof(ids), 0) != (ssize_t)sizeof(ids))
		return (blix_span){.place = 0};
	/* Not zero, and both flags: sampled, random. */
	snprintf(value, sizeof(value), "00-%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 "-03", ids[0],
		 ids[1] | 1, ids[2] | 1);
	set(arg, "traceparent", value);
	traces.begun++;
	return (blix_span){.place = 0};
}

void trace_called_end(blix_span span, grpc_status_code code, const char *text)
{
	(void)span;
	(void)code;
	(void)text;
}

blix_span trace_here(void)
{
	return (blix_span){.place = 0};
}

blix_token trace_enter(blix_span span)
{
	(void)span;
	return (blix_token){.tid = 0};
}

void trace_leave(blix_token token)
{
	(void)token;
}
