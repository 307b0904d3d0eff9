/* test/bench/bench_lttng.c - LTTng-UST, the peer of our spans: one event with four fields, and two of
 * them for a begin and an end.
 *
 * report.py starts the session daemon and a session in flight-recorder mode, so that nothing is
 * thrown away or written while this runs. Exits 1 when the tracepoint is not enabled: an event that
 * is off costs a load and would flatter nobody. liblttng-ust and libc only. */
#define LTTNG_UST_TRACEPOINT_DEFINE
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#include "harness.h"
#include "lttng_span.h"

static void run_event(void *context, int thread, uint64_t n)
{
	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++)
		lttng_ust_tracepoint(blixard_bench, end, "vm-00042", (int64_t)i, (int64_t)(i << 20),
				     1);
}

static void run_pair(void *context, int thread, uint64_t n)
{
	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++) {
		lttng_ust_tracepoint(blixard_bench, begin, "bench.span");
		lttng_ust_tracepoint(blixard_bench, end, "vm-00042", (int64_t)i, (int64_t)(i << 20),
				     1);
	}
}

int main(void)
{
	if (!lttng_ust_tracepoint_enabled(blixard_bench, begin) ||
	    !lttng_ust_tracepoint_enabled(blixard_bench, end)) {
		fprintf(stderr, "bench_lttng: no session daemon has enabled the tracepoints\n");
		return 1;
	}
	for (int threads = 1; threads <= 2; threads++) {
		bench_run("LTTng-UST/span: one event, 4 fields", run_event, NULL, threads);
		bench_run("LTTng-UST/span: begin and end, 4 fields", run_pair, NULL, threads);
	}
	return 0;
}
