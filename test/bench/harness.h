/* test/bench/harness.h - measure a loop on a noisy machine.
 *
 * Threads are pinned, a repeat is calibrated to about 1.5 ms, thread CPU time is taken and not wall
 * time, repeats in which the kernel preempted the thread are left out, and the median is reported.
 * With two threads the figure is per thread. C and C++; libc only.
 *
 * A result is one line: name, threads, ns per operation (median), minimum, 90th percentile, repeats
 * kept, separated by tabs; report.py reads them. BENCH_REPEATS sets the number of repeats. */
#ifndef BLIX_TEST_BENCH_HARNESS_H
#define BLIX_TEST_BENCH_HARNESS_H

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

typedef void (*bench_fn)(void *context, int thread, uint64_t n);

enum { BENCH_REPEATS_MAX = 1000, BENCH_THREADS_MAX = 2 };

struct bench_thread {
	bench_fn fn;
	void *context;
	int thread;
	int n_threads;
	uint64_t n;
	int repeats;
	int *arrived; /* barrier shared by the threads */
	double ns[BENCH_REPEATS_MAX];
	unsigned char kept[BENCH_REPEATS_MAX];
};

static inline uint64_t bench_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void bench_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static inline long bench_preemptions(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nivcsw;
}

static void *bench_thread_main(void *arg)
{
	struct bench_thread *t = (struct bench_thread *)arg;

	bench_pin(t->thread);
	t->fn(t->context, t->thread, 64);
	for (int r = 0; r < t->repeats; r++) {
		__atomic_fetch_add(t->arrived, 1, __ATOMIC_ACQ_REL);
		while (__atomic_load_n(t->arrived, __ATOMIC_ACQUIRE) < (r + 1) * t->n_threads)
			;
		long preempted = bench_preemptions();
		uint64_t start = bench_cpu_ns();

		t->fn(t->context, t->thread, t->n);
		t->ns[r] = (double)(bench_cpu_ns() - start) / (double)t->n;
		t->kept[r] = bench_preemptions() == preempted;
	}
	return NULL;
}

static int bench_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static uint64_t bench_calibrate(bench_fn fn, void *context)
{
	const double target_ns = 1.5e6;

	bench_pin(0);
	/* What only the first call does - taking a lane, faulting pages in - is not what n is for:
	 * it made n so small that the clock readings around it were most of the result. */
	fn(context, 0, 64);
	for (uint64_t n = 64;; n *= 2) {
		uint64_t start = bench_cpu_ns();

		fn(context, 0, n);
		uint64_t took = bench_cpu_ns() - start;

		if ((double)took > target_ns / 2 || n > (UINT64_C(1) << 34))
			return (uint64_t)((double)n * target_ns / ((double)took + 1)) + 1;
	}
}

/* Measure fn(context, thread, n), which does its work n times. Returns the median in ns. */
static inline double bench_run(const char *name, bench_fn fn, void *context, int n_threads)
{
	static struct bench_thread threads[BENCH_THREADS_MAX];
	static double kept[BENCH_REPEATS_MAX];
	const char *asked = getenv("BENCH_REPEATS");
	int repeats = asked ? atoi(asked) : 200;
	int arrived = 0, n_kept = 0;
	uint64_t n = bench_calibrate(fn, context);
	pthread_t ids[BENCH_THREADS_MAX];

	if (repeats < 1 || repeats > BENCH_REPEATS_MAX)
		repeats = BENCH_REPEATS_MAX;
	for (int i = 0; i < n_threads; i++) {
		threads[i].fn = fn;
		threads[i].context = context;
		threads[i].thread = i;
		threads[i].n_threads = n_threads;
		threads[i].n = n;
		threads[i].repeats = repeats;
		threads[i].arrived = &arrived;
	}
	for (int i = 1; i < n_threads; i++)
		if (pthread_create(&ids[i], NULL, bench_thread_main, &threads[i]))
			abort();
	bench_thread_main(&threads[0]);
	for (int i = 1; i < n_threads; i++)
		pthread_join(ids[i], NULL);

	for (int pass = 0; pass < 2 && n_kept == 0; pass++) /* second pass: all were preempted */
		for (int r = 0; r < repeats; r++) {
			double sum = 0;
			int clean = 1;

			for (int i = 0; i < n_threads; i++) {
				sum += threads[i].ns[r];
				clean &= threads[i].kept[r];
			}
			if (clean || pass)
				kept[n_kept++] = sum / n_threads;
		}
	qsort(kept, (size_t)n_kept, sizeof(*kept), bench_compare);
	printf("%s\t%d\t%.3f\t%.3f\t%.3f\t%d/%d\n", name, n_threads, kept[n_kept / 2], kept[0],
	       kept[n_kept * 9 / 10], n_kept, repeats);
	fflush(stdout);
	return kept[n_kept / 2];
}

#endif
