/* A node that does nothing but trace, and knows what it did.
 *
 *   span_node SHM TRUTH THREADS SPANS_PER_S [SECONDS [RING_BYTES]]
 *
 * Each thread begins and ends spans named "work", every tenth in a parent "batch" that stays open over
 * ten of them, each with the attributes thread and n, and a log record every hundred. What it did
 * is in TRUTH, a file it maps: it survives SIGKILL, and a store to it comes before or after the span's
 * own, so that the difference is at most the span under way. SPANS_PER_S is of all threads together; 0
 * is as fast as it goes. SECONDS 0 is until a signal. SIGTERM ends it in order.
 *
 * struct truth: see below; little-endian u64. */
#include "blixard_hooks.h"

#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 64, PER_BATCH = 10, PER_LOG = 100 };

struct truth_thread {
	uint64_t begun;	  /* "work" spans 0 .. begun-1 were or are being begun */
	uint64_t ended;	  /* "work" spans 0 .. ended-1 have ended */
	uint64_t batches; /* likewise, "batch" spans begun */
	uint64_t batches_ended;
	uint64_t logs; /* written */
	uint64_t rsv[3];
};

struct truth {
	uint64_t threads;
	uint64_t closed; /* 1: ended in order */
	uint64_t rsv[6];
	struct truth_thread thread[THREADS_MAX];
};

static struct truth *truth;
static volatile sig_atomic_t stop;
static uint64_t gap_ns, end_ns;

static void on_signal(int number)
{
	(void)number;
	stop = 1;
}

static void put(uint64_t *where, uint64_t value)
{
	__atomic_store_n(where, value, __ATOMIC_SEQ_CST);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Keep the pace, asleep: the next span is due at `due`. Bursts of at most a millisecond. */
static void pace(uint64_t due)
{
	const struct timespec a_moment = {.tv_nsec = 1000000};

	while (gap_ns && !stop && due > now() + 1000000)
		nanosleep(&a_moment, NULL);
}

static void one_span(struct truth_thread *mine, uint64_t index, uint64_t n)
{
	blix_span span;

	put(&mine->begun, n + 1);
	span = blix_span_begin(BLIX_NAME("work"), BLIX_INTERNAL, NULL);
	blix_span_i64(span, BLIX_KEY("thread"), (int64_t)index);
	blix_span_i64(span, BLIX_KEY("n"), (int64_t)n);
	blix_span_str(span, BLIX_KEY("vm.name"), "vm-0123456789");
	blix_span_bool(span, BLIX_KEY("even"), n % 2 == 0);
	if (n % PER_LOG == 0) {
		blix_log(BLIX_INFO, "a hundred more", BLIX_I64("thread", (int64_t)index),
			 BLIX_I64("n", (int64_t)n));
		put(&mine->logs, mine->logs + 1);
	}
	blix_span_end(span);
	put(&mine->ended, n + 1);
}

static void *work(void *arg)
{
	uint64_t index = (uint64_t)(uintptr_t)arg;
	struct truth_thread *mine = &truth->thread[index];
	uint64_t due = now();
	blix_span batch;
	blix_token token;

	for (uint64_t n = 0; !stop && (!end_ns || due < end_ns); n++, due += gap_ns) {
		if (!gap_ns)
			due = now();
		pace(due);
		if (n % PER_BATCH == 0) {
			put(&mine->batches, mine->batches + 1);
			batch = blix_span_begin(BLIX_NAME("batch"), BLIX_INTERNAL, NULL);
			blix_span_i64(batch, BLIX_KEY("thread"), (int64_t)index);
			blix_span_i64(batch, BLIX_KEY("n"), (int64_t)(mine->batches - 1));
			token = blix_attach(batch);
		}
		one_span(mine, index, n);
		if (n % PER_BATCH == PER_BATCH - 1) {
			blix_detach(token);
			blix_span_end(batch);
			put(&mine->batches_ended, mine->batches);
		}
	}
	if (mine->batches_ended != mine->batches) {
		blix_detach(token);
		blix_span_end(batch);
		put(&mine->batches_ended, mine->batches);
	}
	return NULL;
}

static void map_truth(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, sizeof(*truth)) < 0)
		err(1, "%s", path);
	truth = mmap(NULL, sizeof(*truth), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (truth == MAP_FAILED)
		err(1, "mmap");
	close(fd);
}

int main(int argc, char **argv)
{
	struct blix_identity id = {.node_id = 1, .cluster = "span", .service_name = "span_node"};
	pthread_t threads[THREADS_MAX];
	uint64_t rate, n_threads;
	int error;

	if (argc < 5 || argc > 7)
		errx(2, "usage: span_node SHM TRUTH THREADS SPANS_PER_S [SECONDS [RING_BYTES]]");
	n_threads = strtoull(argv[3], NULL, 10);
	rate = strtoull(argv[4], NULL, 10);
	if (n_threads < 1 || n_threads > THREADS_MAX)
		errx(2, "threads: 1 to %d", THREADS_MAX);
	gap_ns = rate ? 1000000000u * n_threads / rate : 0;
	if (argc > 5 && strtoull(argv[5], NULL, 10))
		end_ns = now() + strtoull(argv[5], NULL, 10) * 1000000000u;
	if (argc > 6)
		id.ring_bytes = (uint32_t)strtoul(argv[6], NULL, 10);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	map_truth(argv[2]);
	error = blix_open(argv[1], &id);
	if (error < 0)
		errx(1, "%s: %s", argv[1], blix_status().reason);
	put(&truth->threads, n_threads);
	for (uint64_t i = 0; i < n_threads; i++)
		pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i);
	for (uint64_t i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
	put(&truth->closed, 1);
	blix_close();
	return 0;
}
