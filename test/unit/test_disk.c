/* Goal: disk work never runs on, or waits for, the loop thread; every job comes back exactly once;
 * both queues are bounded; stopping ends even when the disk does not.
 * Method: jobs that block on a pipe stand for a slow disk; the loop is turned by hand until a
 * condition holds or a deadline passes. */
#include "agent/disk.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static struct event_base *base;
static struct disk *disk;
static int gate[2]; /* a blocked job reads one byte from it */

static void setup(void)
{
	base = event_base_new();
	cr_assert_eq(pipe(gate), 0);
	cr_assert_eq(disk_new(base, 4, &disk), 0);
}

TestSuite(disk, .init = setup, .timeout = 20);

struct note {
	bool blocks;
	pthread_t worked_on;
	pthread_t done_on;
	int worked;
	int done;
	int order;
};
static int order_counter;

static void work(void *arg)
{
	struct note *n = arg;
	char c;

	if (n->blocks)
		cr_assert_eq(read(gate[0], &c, 1), 1);
	n->worked_on = pthread_self();
	n->worked++;
}

static void done(void *arg)
{
	struct note *n = arg;

	n->done_on = pthread_self();
	n->done++;
	n->order = ++order_counter;
}

static void open_gate(int jobs)
{
	for (int i = 0; i < jobs; i++)
		cr_assert_eq(write(gate[1], "x", 1), 1);
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Turn the loop until *count reaches n; false after 10 s. */
static bool turn_until(const int *count, int n)
{
	double deadline = now_s() + 10;
	struct timeval tick = {.tv_usec = 10000};

	while (*count < n && now_s() < deadline) {
		event_base_loopexit(base, &tick);
		event_base_loop(base, 0);
	}
	return *count >= n;
}

Test(disk, work_runs_on_another_thread_and_done_on_the_loop)
{
	struct note n = {0};

	cr_assert_eq(disk_submit(disk, work, done, &n), 0);
	cr_expect_eq(n.done, 0, "done must not come from within submit");
	cr_assert(turn_until(&n.done, 1));
	cr_expect_eq(n.worked, 1);
	cr_expect(!pthread_equal(n.worked_on, pthread_self()));
	cr_expect(pthread_equal(n.done_on, pthread_self()));
	cr_expect_null(disk_free(disk, 1000));
	cr_expect_eq(n.done, 1);
}

Test(disk, jobs_come_back_once_each_and_in_order)
{
	struct note n[3] = {{.blocks = true}};

	for (int i = 0; i < 3; i++)
		cr_assert_eq(disk_submit(disk, work, done, &n[i]), 0);
	open_gate(1);
	cr_assert(turn_until(&n[2].done, 1));
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(n[i].worked, 1);
		cr_expect_eq(n[i].done, 1);
		cr_expect_eq(n[i].order, i + 1);
	}
	disk_free(disk, 1000);
}

Test(disk, the_job_beyond_the_bound_is_refused_and_counted)
{
	struct note n[5] = {{.blocks = true}};
	struct disk_status status;

	for (int i = 0; i < 4; i++)
		cr_assert_eq(disk_submit(disk, work, done, &n[i]), 0);
	cr_expect_eq(disk_submit(disk, work, done, &n[4]), -ENOBUFS);
	disk_status(disk, &status);
	cr_expect_eq(status.jobs, 4);
	cr_expect_eq(status.refused, 1);

	/* A finished job keeps its place until its done() was called: the way back is bounded too.
	 */
	open_gate(1);
	while (disk_status(disk, &status), status.finished < 4)
		usleep(1000);
	cr_expect_eq(disk_submit(disk, work, done, &n[4]), -ENOBUFS);
	cr_assert(turn_until(&n[3].done, 1));
	cr_expect_eq(n[4].worked + n[4].done, 0, "a refused job must not run");
	cr_expect_eq(disk_submit(disk, work, done, &n[4]), 0);
	cr_assert(turn_until(&n[4].done, 1));
	disk_free(disk, 1000);
}

Test(disk, the_loop_turns_while_a_job_waits_for_the_disk)
{
	struct note slow = {.blocks = true};
	struct disk_status status;
	struct timeval tick = {.tv_usec = 20000};

	cr_assert_eq(disk_submit(disk, work, done, &slow), 0);
	for (int i = 0; i < 3; i++) {
		event_base_loopexit(base, &tick);
		cr_expect_eq(event_base_loop(base, 0), 0);
	}
	cr_expect_eq(slow.done, 0);
	disk_status(disk, &status);
	cr_expect_gt(status.running_ns, 0u);
	open_gate(1);
	cr_assert(turn_until(&slow.done, 1));
	disk_status(disk, &status);
	cr_expect_eq(status.running_ns, 0u);
	disk_free(disk, 1000);
}

static void submit_again(void *arg)
{
	struct note *n = arg;

	if (++n->done < 3)
		cr_assert_eq(disk_submit(disk, work, submit_again, n), 0);
}

Test(disk, done_may_submit_the_next_job)
{
	struct note n = {0};

	cr_assert_eq(disk_submit(disk, work, submit_again, &n), 0);
	cr_assert(turn_until(&n.done, 3));
	cr_expect_eq(n.worked, 3);
	disk_free(disk, 1000);
}

static void submit_while_stopping(void *arg)
{
	struct note *n = arg;

	n->done++;
	n->order = disk_submit(disk, work, done, n);
}

Test(disk, stopping_hands_back_jobs_that_never_ran)
{
	struct note n[3] = {{.blocks = true}};
	struct disk_status status;

	cr_assert_eq(disk_submit(disk, work, done, &n[0]), 0);
	cr_assert_eq(disk_submit(disk, work, done, &n[1]), 0);
	cr_assert_eq(disk_submit(disk, work, submit_while_stopping, &n[2]), 0);
	while (disk_status(disk, &status), status.running_ns == 0)
		usleep(1000);
	open_gate(1);
	disk_free(disk, 5000);
	cr_expect_eq(n[0].done, 1);
	cr_expect_eq(n[1].done, 1);
	cr_expect_eq(n[2].done, 1);
	cr_expect_eq(n[2].order, -ENOBUFS, "nothing new is taken while stopping");
}

Test(disk, stopping_leaves_a_stuck_job_behind)
{
	struct note stuck = {.blocks = true}, waiting = {0};
	struct disk_status status;

	cr_assert_eq(disk_submit(disk, work, done, &stuck), 0);
	cr_assert_eq(disk_submit(disk, work, done, &waiting), 0);
	while (disk_status(disk, &status), status.running_ns == 0)
		usleep(1000);
	cr_expect_null(disk_free(disk, 20));
	cr_expect_eq(waiting.done, 1, "handed back");
	cr_expect_eq(waiting.worked, 0);
	cr_expect_eq(stuck.done, 0, "its memory is still in use by the stuck thread");
	open_gate(1); /* the thread now ends and frees what it owns: ASan sees a mistake */
	while (__atomic_load_n(&stuck.worked, __ATOMIC_ACQUIRE) == 0)
		usleep(1000);
}

Test(disk, limits_are_checked)
{
	struct disk *d = NULL;

	cr_expect_eq(disk_new(base, 0, &d), -EINVAL);
	cr_expect_eq(disk_new(base, DISK_JOBS_MAX + 1, &d), -EINVAL);
	cr_expect_null(d);
	cr_expect_eq(disk_new(base, DISK_JOBS_MAX, &d), 0);
	disk_free(d, 1000);
	cr_expect_null(disk_free(NULL, 0));
}

Test(disk, no_descriptor_left_is_an_error_and_no_leak)
{
	struct disk *d = NULL;
	struct rlimit none = {0, 0}, before;

	getrlimit(RLIMIT_NOFILE, &before);
	none.rlim_max = before.rlim_max;
	setrlimit(RLIMIT_NOFILE, &none);
	cr_expect_eq(disk_new(base, 4, &d), -EMFILE);
	setrlimit(RLIMIT_NOFILE, &before);
	cr_expect_null(d);
}
