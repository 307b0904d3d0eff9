/* Goal: recording, resolving, registering, asking for the status, opening and closing may all run
 * at once.
 * Method: under ThreadSanitizer, threads do each of these while another opens and closes the file;
 * a reader looks at the same mapping. Sums are checked in the last life, after all have joined. */
#include "node-hooks/session.h"
#include "test/support/scratch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { RECORDERS = 6, SHORT_LIVED = 4 };

static struct scratch scratch;
static blix_counter counter;
static blix_gauge gauge;
static blix_histogram histogram;
static bool stop;
static uint64_t expected;

static bool running(void)
{
	return !__atomic_load_n(&stop, __ATOMIC_ACQUIRE);
}

static void record_some(int n)
{
	for (int i = 0; i < n; i++) {
		blix_add(counter, 1);
		blix_set(gauge, i);
		blix_set_f64(gauge, i);
		blix_observe_ns(histogram, (uint64_t)i * 12345);
		blix_heartbeat();
		if (i % 8 == 0)
			blix_sig_add(counter, 1);
	}
}

static void *record(void *unused)
{
	while (running())
		record_some(100);
	return unused;
}

static void *record_once(void *unused)
{
	record_some(20);
	return unused;
}

/* Threads that take a lane and give it back. */
static void *come_and_go(void *unused)
{
	while (running()) {
		pthread_t threads[SHORT_LIVED];

		for (int i = 0; i < SHORT_LIVED; i++)
			pthread_create(&threads[i], NULL, record_once, NULL);
		for (int i = 0; i < SHORT_LIVED; i++)
			pthread_join(threads[i], NULL);
	}
	return unused;
}

static void *resolve(void *unused)
{
	char value[16];

	for (unsigned int i = 0; running(); i++) {
		struct blix_metric_spec spec = {.name = value, .kind = BLIX_KIND_GAUGE};
		uint32_t slot;

		snprintf(value, sizeof(value), "m%u", i % 300);
		blix_add(blix_counter_of(BLIX_grpc_requests_total, value), 1);
		if (blix_metric_register(&spec, &slot) == 0)
			blix_set(blix_gauge_of(slot), 1);
		if (blix_status().state == BLIX_STATUS_FAILED)
			abort();
	}
	return unused;
}

static void *read_along(void *unused)
{
	uint64_t sum = 0;

	while (running()) {
		const struct blix_session *session = blix_load_acquire(&blix_session_);

		if (!session)
			continue;
		for (uint32_t lane = 0; lane < session->view.n_lanes; lane++)
			for (uint32_t cell = 1; cell < 64; cell++)
				sum += blix_load_relaxed(
					&blix_view_cells(&session->view, lane)[cell]);
		sum += blix_load_acquire(&blix_view_header(&session->view)->reg_series);
	}
	return sum == 1 ? &stop : unused;
}

static void open_file(void)
{
	struct blix_identity identity = {.lanes = 6, .ring_bytes = 16 << 10, .slots = 1};

	if (blix_open(scratch.path, &identity) < 0) {
		printf("cannot open: %s\n", blix_status().reason);
		exit(1);
	}
}

static void *add_exactly(void *unused)
{
	for (int i = 0; i < 5000; i++)
		blix_add(counter, 1);
	__atomic_fetch_add(&expected, 5000, __ATOMIC_RELAXED);
	return unused;
}

/* With nobody closing in between, every add has to be there. */
static bool last_life_is_exact(void)
{
	pthread_t threads[12];
	uint64_t sum = 0;

	open_file();
	for (int i = 0; i < 12; i++)
		pthread_create(&threads[i], NULL, add_exactly, NULL);
	for (int i = 0; i < 12; i++)
		pthread_join(threads[i], NULL);
	for (uint32_t lane = 0; lane < blix_session_->view.n_lanes; lane++)
		sum += blix_load_relaxed(
			&blix_view_cells(&blix_session_->view, lane)[counter.cell]);
	blix_close();
	printf("%llu of %llu adds in the last life\n", (unsigned long long)sum,
	       (unsigned long long)expected);
	return sum == expected;
}

int main(int argc, char **argv)
{
	void *(*const bodies[])(void *) = {come_and_go, resolve, read_along};
	pthread_t threads[RECORDERS + 3];
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 4);
	unsigned int lives = 0;
	bool ok;

	scratch = scratch_new(NULL);
	counter = blix_counter_of(BLIX_raft_proposals_total);
	gauge = blix_gauge_of(BLIX_raft_term);
	histogram = blix_histogram_of(BLIX_raft_proposal_duration_seconds);
	for (int i = 0; i < RECORDERS; i++)
		pthread_create(&threads[i], NULL, record, NULL);
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[RECORDERS + i], NULL, bodies[i], NULL);
	/* On a busy machine a few lives may take longer than the time given. */
	for (; time(NULL) < end || lives <= 3; lives++) {
		open_file();
		usleep(20000);
		blix_close();
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (int i = 0; i < RECORDERS + 3; i++)
		pthread_join(threads[i], NULL);
	ok = last_life_is_exact() && lives > 3;
	printf("%u lives: %s\n", lives, ok ? "ok" : "FAILED");
	scratch_remove(&scratch);
	return !ok;
}
