/* client_record.c - what rpc_client.c records, in a program that is not a node: nothing. The load
 * counts in tally.c, where it knows the target as well. Loop thread only. */
#include "test/cluster/record/record.h"
#include "test/cluster/record/record_rpc.h"

#include <time.h>

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
