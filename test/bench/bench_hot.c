/* test/bench/bench_hot.c - the recording calls beside what the machine can do at best.
 *
 * The limits do the same memory work through a call that the compiler cannot see into. One word
 * alone would measure nothing: the core renames it and merges the stores, so everything rotates
 * over 64 counters a line apart. Linked like a node: against the library, through its header. */
#include "blixard_hooks.h"
#include "harness.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROTATE = 64, LINE_WORDS = 8, BOUNDS = 10, VALUES = 1024 };

static uint64_t *shared; /* what a lane is: shared memory of each thread's own */
static __thread uint64_t *own;
static uint64_t values_ns[VALUES];
static const uint64_t bounds_ns[BOUNDS] = {5000000,    10000000,  25000000,  50000000,
					   100000000,  250000000, 500000000, 1000000000,
					   2500000000, 5000000000};
static blix_counter counters[ROTATE];
static blix_histogram histogram;

static __attribute__((noinline)) void limit_add(uint32_t index, uint64_t n)
{
	uint64_t *cell = own + (size_t)index * LINE_WORDS;

	__atomic_store_n(cell, __atomic_load_n(cell, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static void run_limit_add(void *context, int thread, uint64_t n)
{
	(void)context;
	own = shared + (size_t)thread * 4096;
	for (uint64_t i = 0; i < n; i++)
		limit_add(i % ROTATE, 1);
}

static void run_lock_add(void *context, int thread, uint64_t n)
{
	(void)context;
	for (uint64_t i = 0; i < n; i++)
		__atomic_fetch_add(shared + (size_t)thread * 4096 + i % ROTATE * LINE_WORDS, 1,
				   __ATOMIC_RELAXED);
}

static __attribute__((noinline)) void limit_observe(uint64_t ns)
{
	uint32_t bucket = 0;

	for (uint32_t i = 0; i < BOUNDS; i++)
		bucket += ns > bounds_ns[i];
	__atomic_store_n(own + bucket, __atomic_load_n(own + bucket, __ATOMIC_RELAXED) + 1,
			 __ATOMIC_RELAXED);
	__atomic_store_n(own + 32, __atomic_load_n(own + 32, __ATOMIC_RELAXED) + ns,
			 __ATOMIC_RELAXED);
}

static void run_limit_observe(void *context, int thread, uint64_t n)
{
	(void)context;
	own = shared + (size_t)thread * 4096;
	for (uint64_t i = 0; i < n; i++)
		limit_observe(values_ns[i % VALUES]);
}

static void run_add(void *context, int thread, uint64_t n)
{
	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++)
		blix_add(counters[i % ROTATE], 1);
}

static void run_add_one(void *context, int thread, uint64_t n)
{
	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++) {
		blix_add(counters[0], 1);
		__asm__ volatile("" ::: "memory");
	}
}

static void run_observe(void *context, int thread, uint64_t n)
{
	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++)
		blix_observe_ns(histogram, values_ns[i % VALUES]);
}

/* ---- spans and logs ------------------------------------------------------------------------- */

static void run_limit_clock(void *context, int thread, uint64_t n)
{
	struct timespec t;

	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++) {
		clock_gettime(CLOCK_MONOTONIC, &t);
		clock_gettime(CLOCK_MONOTONIC, &t);
	}
}

#if defined(__x86_64__)
static void run_limit_rdtsc(void *context, int thread, uint64_t n)
{
	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++) {
		__asm__ volatile("" ::"r"(__builtin_ia32_rdtsc()));
		__asm__ volatile("" ::"r"(__builtin_ia32_rdtsc()));
	}
}
#endif

static void run_now(void *context, int thread, uint64_t n)
{
	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++)
		__asm__ volatile("" ::"r"(blix_now_ns()));
}

static void run_span(void *context, int thread, uint64_t n)
{
	static const struct blix_context root;

	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++) {
		blix_span span = blix_span_begin(BLIX_NAME("bench.span"), BLIX_SERVER, &root);

		blix_span_str(span, BLIX_KEY("vm.name"), "vm-00042");
		blix_span_i64(span, BLIX_KEY("vm.vcpus"), (int64_t)i);
		blix_span_i64(span, BLIX_KEY("vm.memory"), (int64_t)(i << 20));
		blix_span_bool(span, BLIX_KEY("vm.started"), 1);
		blix_span_end(span);
	}
}

static void run_span_attrs(void *context, int thread, uint64_t n)
{
	static const struct blix_context root;

	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++) {
		blix_span span = blix_span_begin(BLIX_NAME("bench.span"), BLIX_SERVER, &root);
		const struct blix_attr attrs[] = {
			BLIX_STR("vm.name", "vm-00042"),
			BLIX_I64("vm.vcpus", (int64_t)i),
			BLIX_I64("vm.memory", (int64_t)(i << 20)),
			BLIX_BOOL("vm.started", 1),
		};

		blix_span_attrs(span, attrs, 4);
		blix_span_end(span);
	}
}

static void run_span_unsampled(void *context, int thread, uint64_t n)
{
	static const struct blix_context parent = {.trace_id = {1}, .span_id = {1}};

	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++) {
		blix_span span = blix_span_begin(BLIX_NAME("bench.span"), BLIX_SERVER, &parent);

		if (blix_span_is_recorded(span))
			abort();
		blix_span_end(span);
	}
}

static void run_log(void *context, int thread, uint64_t n)
{
	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++) {
		const struct blix_attr attrs[] = {
			BLIX_STR("vm.name", "vm-00042"),
			BLIX_I64("took_ms", (int64_t)i),
		};

		blix_log_write(NULL, BLIX_INFO, (blix_key){0}, "vm created", attrs, 2);
	}
}

static void run_log_off(void *context, int thread, uint64_t n)
{
	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++)
		blix_log(0, "below every level", BLIX_I64("i", (int64_t)i));
}

static void run_add_traced(void *context, int thread, uint64_t n)
{
	blix_span span = blix_span_begin(BLIX_NAME("bench.span"), BLIX_SERVER, NULL);
	BLIX_SCOPE(span);

	(void)context;
	(void)thread;
	for (uint64_t i = 0; i < n; i++)
		blix_add(counters[i % ROTATE], 1);
	blix_span_end(span);
}

static void bench_tracing(int threads)
{
	bench_run("limit/span: two clock_gettime", run_limit_clock, NULL, threads);
#if defined(__x86_64__)
	bench_run("limit/span: two rdtsc", run_limit_rdtsc, NULL, threads);
#endif
	bench_run("ours/span: blix_now_ns", run_now, NULL, threads);
	bench_run("ours/span: 4 attributes in 4 calls, begin to end", run_span, NULL, threads);
	bench_run("ours/span: 4 attributes in 1 call, begin to end", run_span_attrs, NULL, threads);
	bench_run("ours/span: not sampled", run_span_unsampled, NULL, threads);
	bench_run("ours/span: log record, 2 attributes", run_log, NULL, threads);
	bench_run("ours/span: log below its level", run_log_off, NULL, threads);
	bench_run("ours/span: blix_add within a span", run_add_traced, NULL, threads);
}

/* Housekeeping draws the first line of the clock after a second; nobody listens after ten. */
static void settle(void)
{
	const struct timespec long_enough = {.tv_sec = 13};

	nanosleep(&long_enough, NULL);
}

static void resolve(void)
{
	static const char *const keys[] = {"thing"};
	const struct blix_metric_spec counter = {.name = "bench_things_total",
						 .help = "Things.",
						 .kind = BLIX_KIND_COUNTER,
						 .label_keys = keys,
						 .n_label_keys = 1,
						 .max_series = ROTATE * LINE_WORDS};
	const struct blix_metric_spec hist = {.name = "bench_duration_seconds",
					      .help = "Durations.",
					      .unit = "s",
					      .kind = BLIX_KIND_HISTOGRAM,
					      .bounds = bounds_ns,
					      .n_bounds = BOUNDS};
	uint32_t slot;

	if (blix_metric_register(&counter, &slot))
		abort();
	/* Cells are handed out one after another: take every eighth, so that each has its line. */
	for (int i = 0; i < ROTATE * LINE_WORDS; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		blix_counter c = blix_counter_of(slot, name);

		if (i % LINE_WORDS == 0)
			counters[i / LINE_WORDS] = c;
	}
	if (blix_metric_register(&hist, &slot))
		abort();
	histogram = blix_histogram_of(slot);
}

int main(void)
{
	char path[64];

	shared = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (shared == MAP_FAILED)
		abort();
	/* Log-uniform from 0.5 ms to 7 s: every bucket is hit and no branch can be foretold. */
	srand(1);
	for (int i = 0; i < VALUES; i++) {
		double ns = 500000;

		for (int k = rand() % 96; k > 0; k--)
			ns *= 1.105;
		values_ns[i] = (uint64_t)ns;
	}
	snprintf(path, sizeof(path), "/dev/shm/blix-bench-%d", (int)getpid());
	int err = blix_open(path, &(struct blix_identity){.node_id = 1});

	if (err < 0) {
		fprintf(stderr, "bench_hot: %s: %s\n", blix_strerror(err), blix_status().reason);
		return 1;
	}
	resolve();
	for (int threads = 1; threads <= 2; threads++) {
		bench_run("limit/counter: relaxed add through a call", run_limit_add, NULL,
			  threads);
		bench_run("limit/counter: lock add, own lines", run_lock_add, NULL, threads);
		bench_run("ours/counter: blix_add, 64 series", run_add, NULL, threads);
		bench_run("ours/counter: blix_add, one series", run_add_one, NULL, threads);
		bench_run("limit/histogram: 10 bounds, two adds", run_limit_observe, NULL, threads);
		bench_run("ours/histogram: blix_observe_ns, 10 bounds", run_observe, NULL, threads);
	}
	settle();
	for (int threads = 1; threads <= 2; threads++)
		bench_tracing(threads);
	blix_close();
	unlink(path);
	return 0;
}
