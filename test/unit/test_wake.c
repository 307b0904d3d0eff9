/* Goal: a burst after idleness wakes the agent before anything is shed, and quiet rings cost nothing.
 * Method: words armed, cleared and woken as a writer does it; then a real target, and a thread that
 * writes three times the ring's size at a pace which half-second polls cannot follow. */
#include "agent/input/target.h"
#include "agent/input/wake.h"
#include "shm/atomic.h"
#include "shm/map.h"
#include "test/support/record_bytes.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct event_base *base;
static struct wake *wake;

static void setup(void)
{
	base = event_base_new();
	cr_assert_eq(wake_new(base, &wake), 0);
}

static void teardown(void)
{
	wake_free(wake);
	event_base_free(base);
}

TestSuite(wake, .init = setup, .fini = teardown, .timeout = 60);

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void turn_for_us(suseconds_t us)
{
	struct timeval tick = {.tv_usec = us};

	event_base_loopexit(base, &tick);
	event_base_loop(base, 0);
}

#define EVENTUALLY(condition)                                                                      \
	do {                                                                                       \
		double deadline = now_s() + 20;                                                    \
		while (!(condition) && now_s() < deadline)                                         \
			turn_for_us(5000);                                                         \
		cr_assert(condition);                                                              \
	} while (0)

static uint32_t *shared_word(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(page, MAP_FAILED);
	return page;
}

/* As ring.c does it. */
static void clear_and_wake(uint32_t *word)
{
	blix_exchange_acq_rel(word, 0);
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void count(void *arg)
{
	++*(int *)arg;
}

Test(wake, an_armed_word_that_is_woken_calls_back_once)
{
	uint32_t *word = shared_word();
	struct wake_file *file;
	int calls = 0;

	cr_assert_eq(wake_add(wake, word, count, &calls, &file), 0);
	turn_for_us(20000);
	cr_expect_eq(*word, 0, "not armed by itself");
	for (int round = 1; round <= 20; round++) {
		wake_arm(file);
		cr_assert_eq(*word, 1);
		clear_and_wake(word);
		EVENTUALLY(calls == round);
	}
	turn_for_us(50000);
	cr_expect_eq(calls, 20);
	cr_expect_null(wake_remove(file));
}

Test(wake, a_word_cleared_before_the_thread_slept_is_not_missed)
{
	uint32_t *word = shared_word();
	struct wake_file *file;
	int calls = 0;

	cr_assert_eq(wake_add(wake, word, count, &calls, &file), 0);
	for (int round = 1; round <= 200; round++) {
		wake_arm(file);
		blix_store_release(word, 0); /* and no futex wake at all */
		wake_arm(file);		     /* which nudges the thread */
		clear_and_wake(word);
		EVENTUALLY(calls >= round);
	}
	wake_remove(file);
}

Test(wake, each_file_is_told_apart_and_a_removed_one_never_called)
{
	uint32_t *words[3] = {shared_word(), shared_word(), shared_word()};
	struct wake_file *files[3];
	int calls[3] = {0};

	for (int i = 0; i < 3; i++) {
		cr_assert_eq(wake_add(wake, words[i], count, &calls[i], &files[i]), 0);
		wake_arm(files[i]);
	}
	clear_and_wake(words[1]);
	EVENTUALLY(calls[1] == 1);
	cr_expect_eq(calls[0] + calls[2], 0);
	wake_remove(files[0]);
	munmap(words[0], 4096); /* as a map that is closed */
	clear_and_wake(words[2]);
	EVENTUALLY(calls[2] == 1);
	cr_expect_eq(calls[0], 0);
	wake_remove(files[1]);
	wake_remove(files[2]);
}

Test(wake, a_file_cut_short_wakes_instead_of_killing_or_spinning)
{
	char path[64];
	const struct blix_map_options options = {.consumer = true};
	struct shm_file *node;
	struct wake_file *cut, *second;
	char reason[BLIX_REASON_MAX];
	int calls = 0, others = 0;
	struct blix_map *map;

	snprintf(path, sizeof(path), "/dev/shm/blix-wake-%d", (int)getpid());
	node = shm_file_new(path, NULL);
	cr_assert_eq(blix_map_open(path, &options, &map, reason), 0, "%s", reason);
	cr_assert_eq(wake_add(wake, &blix_view_consumer(blix_map_view(map))->wake_armed, count,
			      &calls, &cut),
		     0);
	cr_assert_eq(wake_add(wake, shared_word(), count, &others, &second), 0);
	wake_arm(cut);
	turn_for_us(50000);
	cr_assert_eq(truncate(path, 0), 0);
	wake_arm(second); /* so that the thread looks again */
	EVENTUALLY(calls == 1);
	cr_expect(blix_map_poisoned(map));
	wake_remove(cut);
	wake_remove(second);
	blix_map_close(map);
	node->view.base = NULL; /* what is left of it must not be touched */
	unlink(path);
}

Test(wake, more_files_than_it_can_wait_for_are_refused)
{
	struct wake_file *files[WAKE_FILES_MAX], *refused = NULL;
	uint32_t *word = shared_word();
	int calls = 0;

	for (int i = 0; i < WAKE_FILES_MAX; i++)
		cr_assert_eq(wake_add(wake, word + i, count, &calls, &files[i]), 0);
	cr_expect_eq(wake_add(wake, word + 500, count, &calls, &refused), -ENOSPC);
	cr_expect_null(refused);
	for (int i = 0; i < WAKE_FILES_MAX; i++)
		wake_arm(files[i]);
	for (int i = 0; i < WAKE_FILES_MAX; i++)
		clear_and_wake(word + i);
	EVENTUALLY(calls == WAKE_FILES_MAX);
	for (int i = 0; i < WAKE_FILES_MAX; i++)
		wake_remove(files[i]);
}

/* ---- the burst ------------------------------------------------------------------------------- */

enum { RING_BYTES = 1 << 20, BURST_BYTES = 3 << 20, CHUNK_BYTES = 8 << 10 };

static struct shm_file *file;
static uint32_t dropped, written;
static bool over;

/* About 8 KiB a millisecond: a ring in 130 ms. */
static void *burst(void *arg)
{
	static struct record_bytes span;
	struct blix_ring_writer writer;
	uint32_t bytes = 0, in_chunk = 0;

	(void)arg;
	record_span(&span, 1, 0, 5000);
	record_text(&span, BLIX_ITEM_STRING, 0, "0123456789012345678901234567890123456789");
	blix_ring_writer_init(&writer, &file->view, 1);
	while (bytes < BURST_BYTES) {
		int r = record_write(&writer, BLIX_REC_SPAN, 0, 5000, &span, true);

		dropped += r != BLIX_DROP_NONE;
		written += r == BLIX_DROP_NONE;
		bytes += span.len + 24;
		in_chunk += span.len + 24;
		if (in_chunk >= CHUNK_BYTES) {
			usleep(1000);
			in_chunk = 0;
		}
	}
	blix_store_release(&over, true);
	return NULL;
}

/* How many spans an idle agent lets go in a burst that begins just after a poll. */
static uint32_t loss_in_burst(struct wake *with)
{
	struct target_options options = {.linger_s = 300, .wake = with};
	char dir[] = "/dev/shm/blix-wake-XXXXXX", path[64];
	struct target_status status = {0};
	struct target *target;
	pthread_t thread;
	double end;

	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/n1", dir);
	file = shm_file_new(path, &(struct shm_file_options){.format = {.ring_bytes = RING_BYTES}});
	shm_file_own_lane(file, 1, (uint32_t)getpid(), 1);
	options.shm_path = path;
	cr_assert_eq(target_new(base, &options, NULL, &target), 0);
	end = now_s() + 2.2; /* until it polls twice a second */
	while (now_s() < end)
		turn_for_us(5000);
	/* Polls of an idle file fall on the half seconds of the clock. */
	while (now_s() * 2 - (double)(long)(now_s() * 2) > 0.1 ||
	       now_s() * 2 - (double)(long)(now_s() * 2) < 0.04)
		turn_for_us(2000);
	cr_assert_eq(pthread_create(&thread, NULL, burst, NULL), 0);
	while (!blix_load_acquire(&over))
		turn_for_us(5000);
	pthread_join(thread, NULL);
	EVENTUALLY((target_status(target, &status), status.records_spans == written));
	cr_expect_eq(status.records_lost, 0);
	target_free(target);
	shm_file_free(file);
	rmdir(dir);
	return dropped;
}

Test(wake, a_burst_after_idleness_is_taken_whole)
{
	cr_expect_eq(loss_in_burst(wake), 0);
}

Test(wake, without_it_the_same_burst_is_shed)
{
	cr_expect_gt(loss_in_burst(NULL), 0);
}
