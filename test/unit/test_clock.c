/* Goal: the clock drawn from the counter is CLOCK_MONOTONIC within microseconds, and never steps
 * back, neither within a thread nor from one thread to another, while lines are redrawn.
 * Method: the arithmetic with counters of made-up rate and drift; then the real clock over several
 * ticks, between readings of the kernel's, and handed from thread to thread. */
#include "node-hooks/blixard_hooks.h"
#include "node-hooks/clock.h"
#include "test/support/scratch.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#define SECOND UINT64_C(1000000000)

/* A counter of `hz`, and a kernel clock that time discipline bends by up to `ppm`. */
struct world {
	double hz;
	double ppm;
};

static struct blix_clock_pair_of at(const struct world *w, double s, double jitter_ns)
{
	/* Bent over minutes, as adjtimex does. */
	double ns = s * 1e9 + 1e3 * w->ppm * (s > 0 ? s * (s / (s + 30)) : 0) + jitter_ns;

	return (struct blix_clock_pair_of){.ticks = (uint64_t)(1e12 + s * w->hz),
					   .ns = (uint64_t)(5e12 + ns)};
}

static void run(const struct world *w)
{
	struct blix_clock_line line = {0}, next;
	struct blix_clock_pair_of earlier = at(w, 0, 0);
	/* A bend of 500 ppm within a minute is what an operator's adjtime does at worst. */
	int64_t bound_ns = w->ppm > 100 || w->ppm < -100 ? 50000 : 8000;
	uint64_t last_ns = 0;

	for (int tick = 1; tick < 200; tick++) {
		double s = tick * 1.003;
		struct blix_clock_pair_of now = at(w, s, tick % 3 * 40.0 - 40);

		cr_assert_eq(blix_clock_draw(&line, &earlier, &now, &next), 0, "tick %d", tick);
		cr_assert_eq(next.seq, line.seq + 1);
		if (line.seq != 0) {
			/* No step where one line follows the other, on either side of its base. */
			for (int64_t d = -3; d <= 0; d++) {
				uint64_t ticks = next.base_ticks + (uint64_t)(d * 1000);

				cr_assert_leq((int64_t)(blix_clock_at(&line, ticks) -
							blix_clock_at(&next, ticks)),
					      1);
				cr_assert_geq((int64_t)(blix_clock_at(&line, ticks) -
							blix_clock_at(&next, ticks)),
					      -1);
			}
		}
		for (int i = 0; i < 100; i++) {
			struct blix_clock_pair_of t = at(w, s + 0.02 + i * 0.01, 0);
			uint64_t ns = blix_clock_at(&next, t.ticks);
			int64_t error_ns = (int64_t)(ns - t.ns);

			cr_assert(error_ns < bound_ns && error_ns > -bound_ns,
				  "off by %ld ns at %f", (long)error_ns, s);
			cr_assert_geq(ns, last_ns);
			last_ns = ns;
		}
		line = next;
		earlier = now;
	}
}

Test(clock, lines_follow_a_bending_clock_within_microseconds)
{
	static const struct world worlds[] = {
		{2.5e9, 0}, {2.5e9, 500}, {2.5e9, -500}, {3.9e9, 20}, {1e9, -20}, {24e7, 100},
	};

	for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++)
		run(&worlds[i]);
}

Test(clock, implausible_readings_draw_nothing)
{
	const struct world w = {.hz = 2.5e9, .ppm = 0};
	struct blix_clock_line none = {0}, line, next = {.seq = 77};
	struct blix_clock_pair_of a = at(&w, 1, 0), b = at(&w, 2, 0), c;

	cr_expect_eq(blix_clock_draw(&none, &b, &a, &next), -ERANGE); /* backwards */
	cr_expect_eq(blix_clock_draw(&none, &a, &a, &next), -ERANGE); /* no time passed */
	c = at(&w, 60, 0);
	cr_expect_eq(blix_clock_draw(&none, &a, &c, &next), -ERANGE); /* too long ago */
	c = (struct blix_clock_pair_of){a.ticks + 10, b.ns};
	cr_expect_eq(blix_clock_draw(&none, &a, &c, &next), -ERANGE); /* it stands still */
	cr_assert_eq(blix_clock_draw(&none, &a, &b, &line), 0);
	c = at(&w, 3, BLIX_CLOCK_ERROR_NS * 4.0); /* the kernel's clock jumped */
	cr_expect_eq(blix_clock_draw(&line, &b, &c, &next), -ERANGE);
	cr_expect_eq(next.seq, 77u, "written on success only");
}

/* ---- the real clock ------------------------------------------------------------------------- */

static uint64_t kernel_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t handed_on; /* the latest time any thread has read */
static uint32_t steps_back;
static uint32_t far_off;

static void *watch(void *until_ns)
{
	uint64_t own = 0;

	while (kernel_ns() < *(uint64_t *)until_ns) {
		uint64_t seen = __atomic_load_n(&handed_on, __ATOMIC_ACQUIRE);
		uint64_t before = kernel_ns();
		uint64_t ns = blix_now_ns();
		uint64_t after = kernel_ns();

		if (ns < seen || ns < own)
			__atomic_fetch_add(&steps_back, 1, __ATOMIC_RELAXED);
		if (ns + 10000 < before || ns > after + 10000)
			__atomic_fetch_add(&far_off, 1, __ATOMIC_RELAXED);
		own = ns;
		while (seen < ns &&
		       !__atomic_compare_exchange_n(&handed_on, &seen, ns, 0, __ATOMIC_ACQ_REL,
						    __ATOMIC_ACQUIRE))
			;
	}
	return NULL;
}

Test(clock, the_real_one_is_monotonic_and_true_over_ticks_and_threads, .timeout = 60)
{
	struct scratch scratch = scratch_new(NULL);
	uint64_t until_ns = kernel_ns() + 6 * SECOND;
	pthread_t threads[3];

	cr_assert_eq(blix_open(scratch.path, &(struct blix_identity){.lanes = 4}), 0);
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, watch, &until_ns);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	cr_expect_eq(steps_back, 0u);
	cr_expect_eq(far_off, 0u);
	blix_close();
	scratch_remove(&scratch);
}

Test(clock, without_housekeeping_the_kernel_is_asked, .timeout = 60)
{
	struct scratch scratch = scratch_new(NULL);
	uint64_t until_ns;

	cr_assert_eq(blix_open(scratch.path, &(struct blix_identity){.lanes = 4}), 0);
	until_ns = kernel_ns() + 3 * SECOND;
	watch(&until_ns);
	blix_close(); /* no tick any more: the last line runs out */
	until_ns = kernel_ns() + 6 * SECOND;
	steps_back = 0;
	watch(&until_ns);
	/* One small step is allowed where the line is left. */
	cr_expect_leq(steps_back, 1u);
	cr_expect_eq(far_off, 0u);
	scratch_remove(&scratch);
}
