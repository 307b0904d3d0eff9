/* test/bench/bench_spool.c - a request through the spool, in wall time: the disk is what costs.
 *
 * Goal: what one stored request of 8 KiB costs alone, and in bursts that share a commit; and taking
 * and finishing it. Method: a real spool in $TMPDIR, 2000 requests a line; harness.h's columns. */
#include "harness.h"

#include "test/support/spool_fixture.h"

#include <event2/event.h>
#include <string.h>

enum { REQUESTS = 2000, BODY = 8192, BURST_MAX = 100 };

static struct spool_bench bench;
static uint8_t body[BODY];
static int answered;

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void on_put(void *arg, int error, int64_t id)
{
	(void)arg;
	(void)id;
	if (error < 0)
		abort();
	answered++;
}

static double put_burst(int n)
{
	const struct spool_row row = {.body = body, .len = BODY, .items = 512};
	double start = now_ns();

	answered = 0;
	for (int i = 0; i < n; i++)
		if (spool_put(bench.spool, "otlp", "traces", &row, NULL, 0, on_put, NULL) < 0)
			abort();
	while (answered < n)
		event_base_loop(bench.base, EVLOOP_ONCE);
	return (now_ns() - start) / n;
}

static double take_one(int n)
{
	struct spool_row row;
	double start = now_ns();

	(void)n;
	if (spool_bench_take(&bench, "otlp", &row) < 0)
		abort();
	free(row.body);
	if (spool_finish(bench.spool, row.id, true) < 0)
		abort();
	return now_ns() - start;
}

static void run(const char *what, int burst, double (*one)(int n))
{
	static double ns[REQUESTS];
	int n = REQUESTS / burst;

	for (int i = 0; i < n; i++)
		ns[i] = one(burst);
	qsort(ns, (size_t)n, sizeof(*ns), bench_compare);
	printf("spool/8 KiB: %s\t1\t%.0f\t%.0f\t%.0f\t%d/%d\n", what, ns[n / 2], ns[0],
	       ns[n * 9 / 10], n, n);
	(void)fflush(stdout);
}

int main(void)
{
	char dir[256];
	struct spool_options options = {.dir = dir, .free_percent_min = 1};

	spool_dir_make(dir, sizeof(dir));
	memset(body, 0xa5, sizeof(body));
	spool_bench_open(&bench, &options);
	spool_bench_settle(&bench);
	run("put, one at a time", 1, put_burst);
	run("put, 10 at a time", 10, put_burst);
	run("put, 100 at a time", BURST_MAX, put_burst);
	run("take and finish", 1, take_one);
	spool_bench_close(&bench);
	spool_dir_remove(dir);
	return 0;
}
