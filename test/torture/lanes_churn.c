/* Goal: threads that come and go, more than there are lanes, some without their destructor, lose
 * and invent nothing: sums are exact at the end and never fall at any look of a reader.
 * Method: batches of 64 threads record a random number of times and exit; one in sixteen leaves by
 * the bare system call. A reader with its own mapping sums all the while. */
#include "node-hooks/blixard_hooks.h"
#include "shm/map.h"
#include "test/support/scratch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 64, LANES = 24, CELLS = 64 };

/* AddressSanitizer loses track of threads that leave by the bare system call. */
#ifdef __SANITIZE_ADDRESS__
static const bool bare_exits = false;
#else
static const bool bare_exits = true;
#endif

static blix_counter counter;
static blix_histogram histogram;
static struct scratch scratch;
static struct blix_map *map;

static uint64_t expected;     /* adds that were made, exact once all threads are joined */
static uint64_t expected_sum; /* of the histogram */
static uint64_t looks;
static uint64_t falls;
static bool stop;

static void *record(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	uint64_t n = (uint64_t)rand_r(&seed) % 2000;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t value = (uint64_t)rand_r(&seed);

		blix_add(counter, 1);
		blix_observe_ns(histogram, value);
		sum += value;
		if (i % 500 == 0)
			sched_yield();
	}
	__atomic_fetch_add(&expected, n, __ATOMIC_RELAXED);
	__atomic_fetch_add(&expected_sum, sum, __ATOMIC_RELAXED);
	if (bare_exits && seed % 16 == 0)
		syscall(SYS_exit, 0);
	return NULL;
}

static void *watch(void *unused)
{
	uint64_t before[CELLS] = {0};
	uint64_t sums[CELLS];

	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		blix_map_sum_cells(map, sums, CELLS);
		for (uint32_t i = 1; i < CELLS; i++)
			falls += sums[i] < before[i];
		memcpy(before, sums, sizeof(before));
		looks++;
	}
	return unused;
}

static bool nothing_is_owned(void *unused)
{
	struct blix_map_lanes lanes;

	(void)unused;
	blix_map_lanes(map, &lanes);
	return lanes.owned == 0;
}

static void run_batch(unsigned int seed)
{
	pthread_t threads[THREADS];

	for (unsigned int i = 0; i < THREADS; i++) {
		if (pthread_create(&threads[i], NULL, record, (void *)(uintptr_t)(seed + i))) {
			perror("pthread_create");
			exit(1);
		}
	}
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* The three places where every add must have arrived. */
static bool totals_are_exact(void)
{
	uint32_t buckets = 0;
	uint64_t sums[CELLS];
	uint64_t observed = 0;
	const struct blix_map_series *s = NULL;

	for (uint32_t i = 0; i < blix_map_series_count(map); i++)
		if (blix_map_series(map, i)->first_cell == histogram.cell)
			s = blix_map_series(map, i);
	buckets = s ? s->n_cells - 1 : 0;
	blix_map_sum_cells(map, sums, CELLS);
	for (uint32_t i = 0; i < buckets; i++)
		observed += sums[histogram.cell + i];
	printf("expected %llu, counter %llu, observations %llu, sum %s\n",
	       (unsigned long long)expected, (unsigned long long)sums[counter.cell],
	       (unsigned long long)observed,
	       sums[histogram.cell + buckets] == expected_sum ? "exact" : "WRONG");
	return buckets > 0 && sums[counter.cell] == expected && observed == expected &&
	       sums[histogram.cell + buckets] == expected_sum;
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 5;
	struct blix_identity identity = {.lanes = LANES, .ring_bytes = 16 << 10, .slots = 2};
	char reason[BLIX_REASON_MAX] = "";
	time_t end = time(NULL) + seconds;
	unsigned int seed = (unsigned int)end;
	unsigned int batches = 0;
	pthread_t watcher;
	bool freed;
	bool ok;

	scratch = scratch_new(NULL);
	counter = blix_counter_of(BLIX_raft_proposals_total);
	histogram = blix_histogram_of(BLIX_raft_proposal_duration_seconds);
	if (blix_open(scratch.path, &identity) < 0 ||
	    blix_map_open(scratch.path, &(struct blix_map_options){0}, &map, reason) < 0) {
		printf("cannot begin: %s%s\n", blix_status().reason, reason);
		return 1;
	}
	pthread_create(&watcher, NULL, watch, NULL);
	while (time(NULL) < end)
		run_batch(seed + THREADS * batches++);
	freed = scratch_wait(nothing_is_owned, NULL, 5000);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(watcher, NULL);

	printf("%u threads, %llu looks, %llu lanes settled, %llu claims of lane 0, %llu falls\n",
	       batches * THREADS, (unsigned long long)looks,
	       (unsigned long long)blix_map_stat(map, BLIX_STAT_LANES_SETTLED),
	       (unsigned long long)blix_map_stat(map, BLIX_STAT_LANE0_CLAIMS),
	       (unsigned long long)falls);
	ok = totals_are_exact() && falls == 0 && looks > 0 && freed &&
	     (blix_map_stat(map, BLIX_STAT_LANES_SETTLED) > 0) == bare_exits &&
	     blix_map_stat(map, BLIX_STAT_LANE0_CLAIMS) > 0;
	printf("%s\n", ok ? "ok" : freed ? "FAILED" : "FAILED: lanes of dead threads stay taken");
	blix_map_close(map);
	blix_close();
	scratch_remove(&scratch);
	return !ok;
}
