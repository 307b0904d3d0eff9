/* test/support/bin/storage_stamp.c - threads in spans that sync a file, and what the probe says.
 *
 * storage_stamp DIR SPANS [--skip HOOK ...]
 *
 * Four threads make SPANS calls of fdatasync each, three of four inside of a span with an id of its
 * own, the fourth outside; two more threads have no lane. The
 * probe, with every call slow, reports each call; its ids are compared with the truth, call by
 * call. A span here is what blixard_hooks.h makes of one for the kernel: the thread context of the
 * lane, written as shm/layout.h says. Prints one line of JSON. */
#include "bpf/probe.h"
#include "node-hooks/blixard_hooks.h"
#include "shm/atomic.h"
#include "shm/map.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { THREADS = 6, WITH_LANE = 4, SPANS_MAX = 20000 };
/* In memory a sync takes a microsecond: without a pause 200,000 events a second would have to fit into
 * the ring while the reader waits for its CPU. No disk does that. */
enum { PACE_US = 200 };

struct worker {
	pthread_t thread;
	uint32_t index, tid, spans;
	uint64_t seen;		      /* events of it so far */
	uint64_t expected[SPANS_MAX]; /* number in the trace id; 0 = outside of a span */
	int fd;
	bool has_lane;
};

static struct worker workers[THREADS];
static uint8_t *lanes;
static uint64_t stride;
static uint32_t n_lanes;
static blix_counter counter;
static uint64_t right, wrong, stamped_outside, foreign, delivered;
static uint32_t running = THREADS;

static struct blix_thread_context *own_context(uint32_t tid)
{
	for (uint32_t i = 1; i < n_lanes; i++) {
		struct blix_lane *lane = (struct blix_lane *)(void *)(lanes + i * stride);

		if (blix_load_acquire(&lane->owner) >> 32 == tid)
			return &lane->context;
	}
	return NULL;
}

static void enter_span(struct blix_thread_context *c, uint64_t number)
{
	blix_store_release(&c->valid, 0);
	memcpy(c->trace_id, &number, sizeof(number));
	memcpy(c->trace_id + 8, &number, sizeof(number));
	memcpy(c->span_id, &number, sizeof(number));
	c->trace_flags = 1;
	blix_store_release(&c->valid, 1);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct blix_thread_context *c = NULL;

	w->tid = (uint32_t)syscall(SYS_gettid);
	if (w->index < WITH_LANE) {
		blix_add(counter, 1); /* claims a lane */
		c = own_context(w->tid);
		w->has_lane = c != NULL;
	}
	for (uint32_t i = 0; i < w->spans; i++) {
		uint64_t number = c && i % 4 ? (uint64_t)(w->index + 1) << 32 | (i + 1) : 0;

		__atomic_store_n(&w->expected[i], number, __ATOMIC_RELEASE);
		if (number)
			enter_span(c, number);
		if (pwrite(w->fd, &number, sizeof(number), 0) < 0 || fdatasync(w->fd) < 0)
			break;
		if (number)
			blix_store_release(&c->valid, 0);
		usleep(PACE_US);
	}
	__atomic_fetch_sub(&running, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Events of one thread come in the order of its calls. */
static void on_event(void *arg, const struct storage_event *e)
{
	uint64_t id[2], expected;
	struct worker *w = NULL;

	(void)arg;
	for (int i = 0; i < THREADS; i++)
		if (__atomic_load_n(&workers[i].tid, __ATOMIC_ACQUIRE) == e->tid)
			w = &workers[i];
	if (!w || w->seen >= w->spans || e->tgid != (uint32_t)getpid()) {
		foreign++;
		return;
	}
	delivered++;
	expected = __atomic_load_n(&w->expected[w->seen++], __ATOMIC_ACQUIRE);
	memcpy(id, e->trace_id, sizeof(id));
	if (!expected && e->valid)
		stamped_outside++;
	else if (!expected)
		right++;
	else if (e->valid == 1 && id[0] == expected && id[1] == expected &&
		 memcmp(e->span_id, &expected, 8) == 0 && e->trace_flags == 1)
		right++;
	else
		wrong++;
}

static int follow(struct probe *probe, const char *path)
{
	const struct blix_map_identity *id;
	const struct blix_view *v;
	struct blix_map *map;
	char reason[BLIX_REASON_MAX];

	if (blix_map_open(path, &(struct blix_map_options){0}, &map, reason) < 0)
		return -1;
	id = blix_map_identity(map);
	v = blix_map_view(map);
	lanes = (uint8_t *)(uintptr_t)(id->map_base + v->lanes_off); /* the hooks' own mapping */
	stride = v->lane_stride;
	n_lanes = v->n_lanes;
	return probe_add_process(probe, (uint32_t)getpid(),
				 &(struct storage_proc){.lanes_addr = id->map_base + v->lanes_off,
							.lane_stride = stride,
							.n_lanes = n_lanes});
}

static void start(const char *dir, uint32_t spans)
{
	char path[256];

	for (uint32_t i = 0; i < THREADS; i++) {
		struct worker *w = &workers[i];

		snprintf(path, sizeof(path), "%s/stamp-%u-%u", dir, (unsigned)getpid(), i);
		w->index = i;
		w->spans = spans;
		w->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		unlink(path);
		pthread_create(&w->thread, NULL, work, w);
	}
}

int main(int argc, char **argv)
{
	struct probe_options options = {.slow_ns = 0};
	struct blix_identity identity = {.lanes = 16, .ring_bytes = 16 << 10, .slots = 2};
	uint32_t spans = argc > 2 ? (uint32_t)atoi(argv[2]) : 0, with_lane = 0;
	char path[64], reason[PROBE_REASON_MAX] = "";
	uint64_t counts[STORAGE_COUNTS] = {0};
	struct probe *probe;

	for (int i = 3; i + 1 < argc; i += 2)
		for (int hook = 0; hook < PROBE_HOOKS; hook++)
			if (!strcmp(argv[i + 1], probe_hook_name((enum probe_hook)hook)))
				options.hooks_skipped |= 1u << hook;
	if (!spans || spans > SPANS_MAX)
		return 2;
	if (probe_open(PROBE_SYNC, &options, NULL, NULL, &probe, reason) < 0) {
		printf("{\"error\":1,\"reason\":\"no hook attaches\"}\n");
		return 0;
	}
	snprintf(path, sizeof(path), "/dev/shm/blix-stamp-%u", (unsigned)getpid());
	counter = blix_counter_of(BLIX_raft_proposals_total);
	if (blix_open(path, &identity) < 0 || follow(probe, path) < 0)
		return 2;
	start(argv[1], spans);
	while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
		probe_drain(probe, on_event, NULL);
		usleep(1000);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		with_lane += workers[i].has_lane;
	}
	probe_drain(probe, on_event, NULL);
	probe_read_counts(probe, counts);
	printf("{\"error\":0,\"hook\":\"%s\",\"with_lane\":%u,\"calls\":%u,\"delivered\":%" PRIu64
	       ",\"right\":%" PRIu64 ",\"wrong\":%" PRIu64 ",\"stamped_outside\":%" PRIu64
	       ",\"foreign\":%" PRIu64 ",\"lost\":%" PRIu64 "}\n",
	       probe_hook_name(probe_hook_used(probe)), with_lane, THREADS * spans, delivered,
	       right, wrong, stamped_outside, foreign, counts[STORAGE_COUNT_SLOW_LOST]);
	probe_close(probe);
	blix_close();
	unlink(path);
	return 0;
}
