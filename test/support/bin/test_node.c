/* test/support/bin/test_node.c - a node whose true totals are known even after SIGKILL.
 *
 * test_node PATH TRUTH [--threads N] [--rate R] [--node-id N] [--grpc HOST:PORT] [--data DIR]
 *	     [--churn SECONDS] [--heartbeat]
 *
 * N threads (default 4) count requests, R times a second each (0: as fast as they can). TRUTH is a
 * file of u64 pairs, one for each thread: what it has begun and what it has finished counting. It
 * is shared memory too, so the test reads it after any death: the true total lies between the sum
 * of the seconds and the sum of the firsts, and is both when no thread was in between.
 *
 * --churn: for so long, threads start, count once or twice, and exit; then the totals stand still.
 * --heartbeat: the main loop calls blix_heartbeat(). It stops doing so after SIGUSR1 and goes on
 * after SIGUSR2. Prints "ready" when it counts and "still" when churning is over; ends cleanly with
 * SIGTERM, through blix_close(). */
#include "blixard_hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 256 };

struct truth {
	uint64_t begun;
	uint64_t finished;
};

static struct truth *truth;
static blix_counter requests, failed;
static blix_histogram duration;
static uint64_t rate;
static volatile sig_atomic_t stop, still_heart;

static void die(const char *what)
{
	fprintf(stderr, "test_node: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void sleep_ns(uint64_t ns)
{
	struct timespec ts = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

	nanosleep(&ts, NULL);
}

/* The failure before the request: the order that could show more failures than requests. */
static void count_one(struct truth *t)
{
	uint64_t n = __atomic_load_n(&t->begun, __ATOMIC_RELAXED) + 1;

	__atomic_store_n(&t->begun, n, __ATOMIC_RELEASE);
	blix_add(failed, 1);
	blix_add(requests, 1);
	blix_observe_ns(duration, 1000000);
	__atomic_store_n(&t->finished, n, __ATOMIC_RELEASE);
}

static void *count_at_rate(void *arg)
{
	while (!stop) {
		count_one(arg);
		if (rate)
			sleep_ns(1000000000u / rate);
	}
	return NULL;
}

static void *count_and_leave(void *arg)
{
	count_one(arg);
	count_one(arg);
	return NULL;
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Each place holds one thread after the other; a place's truth has one writer at a time. */
static void churn(int n_threads, double seconds)
{
	pthread_t threads[THREADS_MAX];
	double end = now_s() + seconds;

	for (int i = 0; i < n_threads; i++)
		if (pthread_create(&threads[i], NULL, count_and_leave, &truth[i]))
			die("thread");
	while (now_s() < end && !stop)
		for (int i = 0; i < n_threads; i++) {
			pthread_join(threads[i], NULL);
			if (pthread_create(&threads[i], NULL, count_and_leave, &truth[i]))
				die("thread");
		}
	for (int i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
}

static void run(int n_threads, bool heartbeat)
{
	pthread_t threads[THREADS_MAX];

	for (int i = 0; i < n_threads; i++)
		if (pthread_create(&threads[i], NULL, count_at_rate, &truth[i]))
			die("thread");
	puts("ready");
	fflush(stdout);
	while (!stop) {
		if (heartbeat && !still_heart)
			blix_heartbeat();
		sleep_ns(100000000);
	}
	for (int i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
}

static void on_signal(int number)
{
	if (number == SIGUSR1)
		still_heart = 1;
	else if (number == SIGUSR2)
		still_heart = 0;
	else
		stop = 1;
}

static void map_truth(const char *path)
{
	int fd = open(path, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, THREADS_MAX * sizeof(*truth)) < 0)
		die(path);
	truth = mmap(NULL, THREADS_MAX * sizeof(*truth), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (truth == MAP_FAILED)
		die(path);
	close(fd);
}

static void handle_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
}

struct options {
	struct blix_identity identity;
	double churn_s;
	int n_threads;
	bool heartbeat;
};

static bool take_option(struct options *o, const char *name, const char *value)
{
	if (strcmp(name, "--threads") == 0)
		o->n_threads = atoi(value);
	else if (strcmp(name, "--rate") == 0)
		rate = strtoull(value, NULL, 10);
	else if (strcmp(name, "--node-id") == 0)
		o->identity.node_id = strtoull(value, NULL, 10);
	else if (strcmp(name, "--grpc") == 0)
		o->identity.grpc_address = value;
	else if (strcmp(name, "--data") == 0)
		o->identity.data_dir = value;
	else if (strcmp(name, "--churn") == 0)
		o->churn_s = atof(value);
	else
		return false;
	return true;
}

static bool take_options(struct options *o, int argc, char **argv)
{
	for (int i = 3; i < argc; i++) {
		if (strcmp(argv[i], "--heartbeat") == 0)
			o->heartbeat = true;
		else if (i + 1 == argc || !take_option(o, argv[i], argv[i + 1]))
			return false;
		else
			i++;
	}
	return argc >= 3 && o->n_threads >= 1 && o->n_threads <= THREADS_MAX;
}

static void resolve(void)
{
	requests = blix_counter_of(BLIX_grpc_requests_total, "CreateVm");
	failed = blix_counter_of(BLIX_grpc_requests_failed_total, "CreateVm", "UNAVAILABLE");
	duration = blix_histogram_of(BLIX_grpc_request_duration_seconds, "CreateVm");
	blix_set(blix_gauge_of(BLIX_raft_term), 11);
}

int main(int argc, char **argv)
{
	struct options o = {
		.identity = {.node_id = 1, .cluster = "test", .service_version = "1.0"},
		.n_threads = 4,
	};

	rate = 1000;
	if (!take_options(&o, argc, argv))
		return 2;
	handle_signals();
	map_truth(argv[2]);
	if (blix_open(argv[1], &o.identity) < 0) {
		fprintf(stderr, "test_node: %s\n", blix_status().reason);
		return 1;
	}
	resolve();
	if (o.churn_s > 0) {
		churn(o.n_threads, o.churn_s);
		puts("still");
		fflush(stdout);
		while (!stop)
			sleep_ns(100000000);
	} else {
		run(o.n_threads, o.heartbeat);
	}
	blix_close();
	return 0;
}
