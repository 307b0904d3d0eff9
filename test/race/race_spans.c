/* Goal: spans may be begun on one thread, added to on a second, ended on a third, while others log,
 * count within spans, carry baggage, come and go, and the file is opened and closed.
 * Method: under ThreadSanitizer, threads hand spans on through slots of their own; a reader drains
 * the rings of the same mapping. In the last life, every span is a record or a counted drop. */
#include "node-hooks/trace.h"
#include "test/support/scratch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 6, PLACES = 16, LAST_ROUNDS = 3000 };

static struct scratch scratch;
static blix_counter counter;
static blix_histogram histogram;
static bool stop;

/* Where a span waits for the next thread. */
static struct {
	pthread_mutex_t lock;
	bool full;
	blix_span span;
} places[PLACES];

static uint64_t begun, unrecorded;

static bool running(void)
{
	return !__atomic_load_n(&stop, __ATOMIC_ACQUIRE);
}

static const char *get(void *arg, const char *name)
{
	return strcmp(name, "baggage") == 0 ? (const char *)arg : NULL;
}

static void work_on(blix_span span)
{
	BLIX_SCOPE(span);
	blix_span child = blix_span_begin(BLIX_NAME("child"), BLIX_INTERNAL, NULL);

	blix_span_i64(span, BLIX_KEY("n"), 1);
	blix_add(counter, 1);
	blix_observe_ns(histogram, 1000);
	blix_log(BLIX_INFO, "working", BLIX_STR("on", "it"));
	__atomic_fetch_add(&begun, 1, __ATOMIC_RELAXED);
	if (!blix_span_is_recorded(child))
		__atomic_fetch_add(&unrecorded, 1, __ATOMIC_RELAXED);
	(void)blix_context_of(span);
	blix_span_end(child);
}

/* Take a span that waits, or begin one; work on it; leave it to another thread, or end it. */
static void hand_on(unsigned int *seed, bool last)
{
	char baggage[] = "tenant=acme";
	unsigned int at = (unsigned int)rand_r(seed) % PLACES;
	struct blix_context context;
	blix_span span = {.place = 0};
	bool have = false;

	pthread_mutex_lock(&places[at].lock);
	if (places[at].full) {
		span = places[at].span;
		places[at].full = false;
		have = true;
	}
	pthread_mutex_unlock(&places[at].lock);
	if (!have) {
		if (last)
			return;
		context = blix_extract(get, baggage);
		span = blix_span_begin(BLIX_NAME("handed on"), BLIX_SERVER, &context);
		__atomic_fetch_add(&begun, 1, __ATOMIC_RELAXED);
		if (!blix_span_is_recorded(span))
			__atomic_fetch_add(&unrecorded, 1, __ATOMIC_RELAXED);
	}
	work_on(span);
	at = (unsigned int)rand_r(seed) % PLACES;
	pthread_mutex_lock(&places[at].lock);
	if (!last && !places[at].full) {
		places[at].span = span;
		places[at].full = true;
		have = true;
	} else {
		have = false;
	}
	pthread_mutex_unlock(&places[at].lock);
	if (!have)
		blix_span_end(span);
}

static void *hand_on_until_stopped(void *seed)
{
	while (running())
		hand_on(seed, false);
	return NULL;
}

static void *hand_on_exactly(void *seed)
{
	for (int i = 0; i < LAST_ROUNDS; i++)
		hand_on(seed, false);
	return NULL;
}

static void *read_along(void *unused)
{
	uint64_t buf[512];
	uint64_t sum = 0;

	while (running()) {
		const struct blix_session *session = blix_load_acquire(&blix_session_);

		for (uint32_t lane = 0; session && lane < session->view.n_lanes; lane++) {
			struct blix_ring_reader reader;

			blix_ring_reader_init(&reader, &session->view, lane);
			for (int i = 0; i < 100 && blix_ring_next(&reader, buf, 512) > 0; i++)
				sum += buf[0];
		}
		sum += blix_now_ns();
	}
	return sum == 1 ? &stop : unused;
}

static void open_file(uint32_t lanes, uint32_t ring_bytes)
{
	struct blix_identity identity = {.lanes = lanes, .ring_bytes = ring_bytes, .slots = 8};

	if (blix_open(scratch.path, &identity) < 0) {
		printf("cannot open: %s\n", blix_status().reason);
		exit(1);
	}
}

/* Spans by seq of the rings, and by drops. Logs are committed to the same rings. */
static bool last_life_is_exact(void)
{
	unsigned int seeds[THREADS];
	pthread_t threads[THREADS];
	uint64_t spans = 0, drops = 0, lost = 0;
	uint64_t buf[512];
	unsigned int seed = 1;

	for (int i = 0; i < PLACES; i++) /* of earlier lives */
		places[i].full = false;
	begun = unrecorded = 0;
	open_file(5, 4 << 20);
	for (int i = 0; i < THREADS; i++) {
		seeds[i] = (unsigned int)i + 1;
		pthread_create(&threads[i], NULL, hand_on_exactly, &seeds[i]);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 100 * PLACES; i++)
		hand_on(&seed, true); /* end what waits */
	for (uint32_t lane = 0; lane < blix_session_->view.n_lanes; lane++) {
		const struct blix_view *view = &blix_session_->view;
		struct blix_ring_reader reader;

		blix_ring_reader_init(&reader, view, lane);
		while (blix_ring_next(&reader, buf, 512) > 0)
			spans += (uint16_t)(buf[0] >> 32) == BLIX_REC_SPAN;
		lost += reader.lost;
		for (int reason = 0; reason < BLIX_DROP_REASONS; reason++)
			drops += view->consumer ? blix_load_relaxed(
							  &blix_view_ring(view, lane)
								   ->drops[BLIX_DROP_SPAN][reason])
						: 0;
	}
	blix_close();
	printf("%llu spans begun = %llu in the rings + %llu dropped; %llu had no slot; %llu lost\n",
	       (unsigned long long)begun, (unsigned long long)spans, (unsigned long long)drops,
	       (unsigned long long)unrecorded, (unsigned long long)lost);
	return begun == spans + drops && lost == 0 && spans > 1000;
}

int main(int argc, char **argv)
{
	unsigned int seeds[THREADS];
	pthread_t threads[THREADS + 1];
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 4);
	unsigned int lives = 0;
	bool ok;

	setenv("BLIXARD_LOG_RATE", "0", 1);
	setenv("BLIXARD_BAGGAGE_ATTRIBUTES", "tenant", 1);
	scratch = scratch_new(NULL);
	counter = blix_counter_of(BLIX_raft_proposals_total);
	histogram = blix_histogram_of(BLIX_raft_proposal_duration_seconds);
	for (int i = 0; i < PLACES; i++)
		pthread_mutex_init(&places[i].lock, NULL);
	for (int i = 0; i < THREADS; i++) {
		seeds[i] = (unsigned int)i;
		pthread_create(&threads[i], NULL, hand_on_until_stopped, &seeds[i]);
	}
	pthread_create(&threads[THREADS], NULL, read_along, NULL);
	for (; time(NULL) < end || lives <= 3; lives++) {
		open_file(4, 16 << 10);
		usleep(50000);
		blix_close();
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (int i = 0; i < THREADS + 1; i++)
		pthread_join(threads[i], NULL);
	ok = last_life_is_exact() && lives > 3;
	printf("%u lives: %s\n", lives, ok ? "ok" : "FAILED");
	scratch_remove(&scratch);
	return !ok;
}
