/* test/support/bin/storage_stamp.c - threads in spans that sync a file, and what the probe says.
 *
 * storage_stamp DIR SPANS [--truth FILE] [--skip HOOK ...]
 *
 * Four threads make SPANS calls of fdatasync each: one in four outside of any span, one in a span of its
 * own, one in the outer of two after the inner was detached, one in a span that another thread began,
 * attached and handed over (as an async runtime does). Two more threads never touch the hooks. The
 * probe, with every call slow, reports each call; its ids are compared with the truth, call by call.
 * --truth: a line `trace id, span id` before each call within a span. Prints one line of JSON. */
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

/* What a call is to be stamped with; all zero: nothing. */
struct expected {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t trace_flags;
};

struct worker {
	pthread_t thread;
	uint32_t index, tid, spans;
	uint64_t seen; /* events of it so far */
	uint32_t made; /* expected[0 .. made) are set */
	struct expected expected[SPANS_MAX];
	int fd;
	bool has_lane, failed;
};

static struct worker workers[THREADS];
static FILE *truth;
static uint8_t *lanes;
static uint64_t stride;
static uint32_t n_lanes;
static uint64_t right, wrong, stamped_outside, foreign, delivered, in_span, moved;
static uint32_t running = THREADS;

/* Spans on their way from the thread that began them to the next one. */
static struct {
	pthread_mutex_t lock;
	bool full;
	blix_span span;
} handed[WITH_LANE];

static struct blix_thread_context *own_context(uint32_t tid)
{
	for (uint32_t i = 1; i < n_lanes; i++) {
		struct blix_lane *lane = (struct blix_lane *)(void *)(lanes + i * stride);

		if (blix_load_acquire(&lane->owner) >> 32 == tid)
			return &lane->context;
	}
	return NULL;
}

static void hand_over(uint32_t to, blix_span span)
{
	bool taken;

	pthread_mutex_lock(&handed[to].lock);
	taken = !handed[to].full;
	if (taken) {
		handed[to].full = true;
		handed[to].span = span;
	}
	pthread_mutex_unlock(&handed[to].lock);
	if (!taken)
		blix_span_end(span);
}

/* A span of another thread; if none has come, one of our own. */
static blix_span take_over(uint32_t index)
{
	blix_span span;
	bool full;

	pthread_mutex_lock(&handed[index].lock);
	full = handed[index].full;
	span = handed[index].span;
	handed[index].full = false;
	pthread_mutex_unlock(&handed[index].lock);
	if (full)
		__atomic_fetch_add(&moved, 1, __ATOMIC_RELAXED);
	return full ? span : blix_span_begin(BLIX_NAME("own"), BLIX_INTERNAL, NULL);
}

static void tell_truth(const struct expected *e)
{
	char line[64];
	int at = 0;

	for (int i = 0; i < 16; i++)
		at += sprintf(line + at, "%02x", e->trace_id[i]);
	line[at++] = ' ';
	for (int i = 0; i < 8; i++)
		at += sprintf(line + at, "%02x", e->span_id[i]);
	fprintf(truth, "%s\n", line); /* locked by stdio, and line buffered */
}

/* span NULL: outside of any. */
static void sync_in(struct worker *w, const blix_span *span)
{
	struct expected *e = &w->expected[w->made];
	uint64_t word = w->made;

	if (span) {
		memcpy(e->trace_id, span->trace_id, sizeof(e->trace_id));
		memcpy(e->span_id, span->span_id, sizeof(e->span_id));
		e->trace_flags = span->trace_flags;
		__atomic_fetch_add(&in_span, 1, __ATOMIC_RELAXED);
		if (truth)
			tell_truth(e);
	}
	__atomic_store_n(&w->made, w->made + 1, __ATOMIC_RELEASE);
	w->failed |= pwrite(w->fd, &word, sizeof(word), 0) < 0 || fdatasync(w->fd) < 0;
}

static void one_call(struct worker *w, uint32_t i)
{
	blix_span outer, inner;
	blix_token token, within;

	if (w->index >= WITH_LANE || i % 4 == 0) {
		sync_in(w, NULL);
		return;
	}
	outer = i % 4 == 3 ? take_over(w->index)
			   : blix_span_begin(BLIX_NAME("outer"), BLIX_INTERNAL, NULL);
	token = blix_attach(outer);
	if (i % 4 == 2) {
		inner = blix_span_begin(BLIX_NAME("inner"), BLIX_INTERNAL, NULL);
		within = blix_attach(inner);
		blix_detach(within);
		blix_span_end(inner);
	}
	sync_in(w, &outer);
	blix_detach(token);
	if (i % 4 == 1)
		hand_over((w->index + 1) % WITH_LANE, outer);
	else
		blix_span_end(outer);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	w->tid = (uint32_t)syscall(SYS_gettid);
	if (w->index < WITH_LANE) {
		blix_detach(blix_attach((blix_span){0})); /* claims a lane */
		w->has_lane = own_context(w->tid) != NULL;
	}
	for (uint32_t i = 0; i < w->spans && !w->failed; i++) {
		one_call(w, i);
		usleep(PACE_US);
	}
	__atomic_fetch_sub(&running, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Events of one thread come in the order of its calls. */
static void on_event(void *arg, const struct storage_event *e)
{
	const struct expected *expected;
	struct worker *w = NULL;
	bool inside;

	(void)arg;
	for (int i = 0; i < THREADS; i++)
		if (__atomic_load_n(&workers[i].tid, __ATOMIC_ACQUIRE) == e->tid)
			w = &workers[i];
	if (!w || w->seen >= __atomic_load_n(&w->made, __ATOMIC_ACQUIRE) ||
	    e->tgid != (uint32_t)getpid()) {
		foreign++;
		return;
	}
	delivered++;
	expected = &w->expected[w->seen++];
	inside = memcmp(expected, &(struct expected){0}, sizeof(*expected)) != 0;
	if (!inside && e->valid)
		stamped_outside++;
	else if (!inside)
		right++;
	else if (e->valid == 1 && memcmp(e->trace_id, expected->trace_id, 16) == 0 &&
		 memcmp(e->span_id, expected->span_id, 8) == 0 &&
		 e->trace_flags == expected->trace_flags && (e->trace_flags & BLIX_TRACE_SAMPLED))
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

	for (uint32_t i = 0; i < WITH_LANE; i++)
		pthread_mutex_init(&handed[i].lock, NULL);
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
	struct blix_identity identity = {.lanes = 16, .ring_bytes = 16 << 10, .slots = 64};
	uint32_t spans = argc > 2 ? (uint32_t)atoi(argv[2]) : 0, with_lane = 0;
	char path[64], reason[PROBE_REASON_MAX] = "";
	uint64_t counts[STORAGE_COUNTS] = {0};
	struct probe *probe;

	for (int i = 3; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--truth")) {
			truth = fopen(argv[i + 1], "w");
			if (!truth)
				return 2;
			setvbuf(truth, NULL, _IOLBF, 0);
			continue;
		}
		for (int hook = 0; hook < PROBE_HOOKS; hook++)
			if (!strcmp(argv[i + 1], probe_hook_name((enum probe_hook)hook)))
				options.hooks_skipped |= 1u << hook;
	}
	if (!spans || spans > SPANS_MAX)
		return 2;
	if (probe_open(PROBE_SYNC, &options, NULL, NULL, &probe, reason) < 0) {
		printf("{\"error\":1,\"reason\":\"no hook attaches\"}\n");
		return 0;
	}
	snprintf(path, sizeof(path), "/dev/shm/blix-stamp-%u", (unsigned)getpid());
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
	       ",\"foreign\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"in_span\":%" PRIu64
	       ",\"moved\":%" PRIu64 "}\n",
	       probe_hook_name(probe_hook_used(probe)), with_lane, THREADS * spans, delivered,
	       right, wrong, stamped_outside, foreign, counts[STORAGE_COUNT_SLOW_LOST], in_span,
	       moved);
	probe_close(probe);
	blix_close();
	unlink(path);
	return 0;
}
