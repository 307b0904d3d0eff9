/* Goal: something that appears under the watched name is noticed at once, other names never, and a
 * busy directory cannot keep the agent busy.
 * Method: files are made, renamed and removed in a directory of the test's own; the loop is turned
 * by hand. */
#include "agent/input/watch.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char dir[64], path[96];
static struct event_base *base;
static struct watch *watch;
static int changes;

static void changed(void *arg)
{
	cr_expect_eq(arg, &changes);
	changes++;
}

static void setup(void)
{
	strcpy(dir, "/dev/shm/blix-watch-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/n1", dir);
	base = event_base_new();
	cr_assert_eq(watch_new(base, path, changed, &changes, &watch), 0);
}

static void teardown(void)
{
	watch = watch_free(watch);
	unlink(path);
	rmdir(dir);
}

TestSuite(watch, .init = setup, .fini = teardown, .timeout = 20);

static void make(const char *name)
{
	char at[160];

	snprintf(at, sizeof(at), "%s/%s", dir, name);
	close(open(at, O_CREAT | O_WRONLY, 0600));
}

static void drop(const char *name)
{
	char at[160];

	snprintf(at, sizeof(at), "%s/%s", dir, name);
	unlink(at);
}

/* Deliver what the kernel has queued by now: inotify queues before the causing call returns. */
static void turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

Test(watch, our_name_is_noticed_when_it_is_made_or_moved_there)
{
	make("n1");
	turn();
	cr_expect_eq(changes, 1);
	drop("n1");
	turn();
	cr_expect_eq(changes, 1, "what goes away can wait");
	make("other");
	char from[160];
	snprintf(from, sizeof(from), "%s/other", dir);
	cr_assert_eq(rename(from, path), 0);
	turn();
	cr_expect_eq(changes, 2);
}

Test(watch, other_names_are_not_ours)
{
	static const char *const names[] = {"n", "n12", "N1", "n1.o.x"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		make(names[i]);
		turn();
	}
	cr_expect_eq(changes, 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		drop(names[i]);
}

Test(watch, a_directory_that_comes_back_is_watched_after_a_refresh)
{
	cr_assert_eq(rmdir(dir), 0);
	turn();
	cr_expect_eq(changes, 1, "the end of the directory is a change");
	watch_refresh(watch); /* it is not there: no harm */
	cr_assert_eq(mkdir(dir, 0700), 0);
	watch_refresh(watch);
	make("n1");
	turn();
	cr_expect_eq(changes, 2);
}

Test(watch, a_busy_directory_is_left_alone_until_the_next_refresh)
{
	for (int i = 0; i < 100; i++) {
		make("n1");
		drop("n1");
		turn();
	}
	cr_expect_lt(changes, 50, "%d", changes);
	cr_expect_gt(changes, 5, "%d", changes);
	int before = changes;
	make("n1");
	turn();
	cr_expect_eq(changes, before, "paused");
	watch_refresh(watch);
	turn();
	cr_expect_gt(changes, before, "what was queued meanwhile is not lost");
}

Test(watch, paths_without_a_name_are_refused)
{
	struct watch *w = NULL;

	cr_expect_eq(watch_new(base, "/dev/shm/", changed, NULL, &w), -EINVAL);
	cr_expect_eq(watch_new(base, "", changed, NULL, &w), -EINVAL);
	cr_expect_null(w);
	cr_expect_eq(watch_new(base, "relative", changed, NULL, &w), 0);
	cr_expect_null(watch_free(w));
	cr_expect_eq(watch_new(base, "/at-root", changed, NULL, &w), 0);
	watch_free(w);
	cr_expect_null(watch_free(NULL));
}
