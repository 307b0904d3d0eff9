/* test/bench/bench_pcp.c - the peer PCP MMV: counters in a mapped file, through its library.
 *
 * PCP_TMP_DIR must name a writable folder; report.py makes one. */
#include "harness.h"

#include <pcp/pmapi.h>
#include <pcp/mmv_stats.h>

enum { ROTATE = 64 };

static void *map;
static pmAtomValue *values[ROTATE];

static void run_inc(void *context, int thread, uint64_t n)
{
	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++)
		mmv_inc(map, values[i % ROTATE]);
}

static void run_inc_own(void *context, int thread, uint64_t n)
{
	(void)context;
	for (uint64_t i = 0; i < n; i++)
		mmv_inc(map, values[thread * 8]);
}

int main(void)
{
	static mmv_instances_t instances[ROTATE];
	static mmv_metric_t metric = {.name = "bench.things",
				      .item = 1,
				      .type = MMV_TYPE_U64,
				      .semantics = MMV_SEM_COUNTER,
				      .dimension = MMV_UNITS(0, 0, 1, 0, 0, PM_COUNT_ONE),
				      .indom = 1};
	mmv_indom_t indom = {.serial = 1, .count = ROTATE, .instances = instances};

	for (int i = 0; i < ROTATE; i++) {
		instances[i].internal = i;
		snprintf(instances[i].external, sizeof(instances[i].external), "i%d", i);
	}
	map = mmv_stats_init("blixbench", 321, 0, &metric, 1, &indom, 1);
	if (!map) {
		perror("bench_pcp: mmv_stats_init");
		return 1;
	}
	for (int i = 0; i < ROTATE; i++) {
		values[i] = mmv_lookup_value_desc(map, "bench.things", instances[i].external);
		if (!values[i])
			return 1;
	}
	bench_run("pcp/counter: mmv_inc, 64 instances", run_inc, NULL, 1);
	bench_run("pcp/counter: mmv_inc, one instance a thread", run_inc_own, NULL, 2);
	mmv_stats_stop("blixbench", map);
	return 0;
}
