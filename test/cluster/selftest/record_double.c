/* test/cluster/selftest/record_double.c - see record_double.h. */
#include "record_double.h"

#include <time.h>

unsigned recorded_errors[STORAGE_OPS];
unsigned recorded_reads[TABLES];
unsigned recorded_writes[TABLES];

void record_storage_error(enum storage_op op)
{
	recorded_errors[op]++;
}

void record_storage_read(enum storage_table table, uint64_t duration_ns)
{
	(void)duration_ns;
	recorded_reads[table]++;
}

void record_storage_write(enum storage_table table, uint64_t duration_ns)
{
	(void)duration_ns;
	recorded_writes[table]++;
}

uint64_t record_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
