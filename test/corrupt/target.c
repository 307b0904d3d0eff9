/* Goal: no bytes in a node's file can crash, hang or bloat the agent's input side.
 * Method: a small live file is damaged at random places, before it is opened and while it is read;
 * each time the registry is mapped to families, the values are collected, the rings drained and
 * the text encoded. What is shown must still be something the encoder can write whole. ASan and
 * UBSan builds see the rest. S sets the seconds (default 3), SEED repeats a run. */
#include "agent/encode/encode.h"
#include "agent/input/drain.h"
#include "agent/input/node_shm.h"
#include "shm/buckets.h"
#include "shm/ring.h"
#include "test/support/shm_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BODY_BYTES_MAX = 64 << 20 };
#define ROUND_SECONDS_MAX 2.0

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static struct shm_file *make_file(const char *path)
{
	struct shm_file_options options = {.node_id = 3, .format = {.cells = 1024}};
	struct shm_file *f = shm_file_new(path, &options);
	const struct shm_file_metric metrics[] = {
		{.name = "blixard_grpc_requests_total", .kind = BLIX_COUNTER, .keys = {"method"}},
		{.name = "blixard_grpc_requests_failed_total",
		 .kind = BLIX_COUNTER,
		 .keys = {"method", "code"}},
		{.name = "blixard_raft_term", .kind = BLIX_GAUGE},
		{.name = "blixard_x_ratio", .kind = BLIX_GAUGE_F64},
		{.name = "blixard_x_open", .kind = BLIX_UPDOWN},
		{.name = "blixard_x_duration_seconds",
		 .kind = BLIX_HISTOGRAM,
		 .unit = "s",
		 .flags = BLIX_METRIC_STORED_NS | BLIX_METRIC_EXPONENTIAL,
		 .bounds = {1000, 2000, 3000},
		 .n_bounds = 3,
		 .exponential_cells = BLIX_EXP_CELLS},
	};
	static const char *const values[] = {"CreateVm", "UNAVAILABLE", NULL};

	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
		uint32_t m = shm_file_metric(f, &metrics[i]);
		uint32_t s =
			shm_file_series_v(f, m, metrics[i].keys[0] ? values : values + 2, false);

		if (metrics[i].kind == BLIX_HISTOGRAM) {
			shm_file_observe(f, s, 1, 1500);
			shm_file_exemplar(f, s, 1, 1500, 1);
		} else if (metrics[i].kind == BLIX_COUNTER || metrics[i].kind == BLIX_UPDOWN) {
			shm_file_add(f, s, 1, 5);
		}
	}
	return f;
}

static void fill_ring(struct shm_file *f)
{
	struct blix_ring_writer writer;
	uint64_t body[9] = {0};

	shm_file_own_lane(f, 1, (uint32_t)getpid(), 1);
	blix_ring_writer_init(&writer, &f->view, 1);
	for (int i = 0; i < 60; i++)
		blix_ring_write(
			&writer,
			&(struct blix_ring_entry){
				.type = BLIX_REC_SPAN, .n_words = 9, .t_ns = 1, .body = body},
			false);
}

/* Mostly where the structure is: page 0, the registry, the head of a lane. */
static uint64_t place(const struct shm_file *f)
{
	uint64_t structured = f->view.lanes_off;

	switch (next_random() % 4) {
	case 0:
		return next_random() % 4096;
	case 1:
		return f->view.lanes_off + f->view.lane_stride +
		       next_random() % f->view.lane_stride;
	case 2:
		return f->view.metrics_off + next_random() % 2048;
	default:
		return next_random() % structured;
	}
}

static void damage(const struct shm_file *f)
{
	static const uint8_t odd[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	uint64_t n = 1 + next_random() % 8;

	while (n--) {
		uint64_t at = place(f);

		if (at < f->view.size)
			f->view.base[at] = next_random() % 2 ? (uint8_t)next_random()
							     : odd[next_random() % sizeof(odd)];
	}
}

static bool encode_all(const struct snapshot *s)
{
	const struct encode_options options = {.names = ENCODE_NAMES_BOTH,
					       .native_histograms = true};
	bool whole = true;

	for (int i = 0; i < ENCODE_FORMATS; i++) {
		struct buf body;

		buf_init(&body, BODY_BYTES_MAX);
		encoders[i].encode(s, &options, &body);
		whole &= !body.failed;
		buf_done(&body);
	}
	return whole;
}

/* One agent's life on the damaged file. False: a body could not be written whole. */
static bool live_through(const struct shm_file *f, bool damage_meanwhile, uint64_t *opened)
{
	struct blix_map_options options = {.consumer = true};
	struct drain_totals totals = {0};
	struct snapshot *s = snapshot_new();
	char reason[BLIX_REASON_MAX];
	struct drain *drain = NULL;
	struct node_shm *values;
	struct blix_map *map;
	bool whole = true;

	if (blix_map_open(f->path, &options, &map, reason) < 0) {
		snapshot_free(s);
		return reason[0] != '\0';
	}
	++*opened;
	values = node_shm_new(map, s, true);
	drain_new(map, &totals, &drain);
	for (int i = 0; i < 3 && values; i++) {
		if (damage_meanwhile)
			damage(f);
		if (drain)
			drain_poll(drain, 1);
		drain_fill(map);
		node_shm_collect(values);
		snapshot_clamp_subsets(s);
		whole &= encode_all(s);
	}
	drain_free(drain, true);
	node_shm_free(values);
	blix_map_close(map);
	snapshot_free(s);
	return whole;
}

int main(void)
{
	const char *seconds = getenv("S"), *seed = getenv("SEED");
	double end = now_s() + (seconds ? atof(seconds) : 3);
	char dir[] = "/dev/shm/blix-corrupt-XXXXXX", path[64];
	uint64_t rounds = 0, opened = 0;
	int failures = 0;
	struct shm_file *f;
	uint8_t *pristine;

	random_state = seed ? strtoull(seed, NULL, 0) | 1 : (uint64_t)time(NULL) * 2 + 1;
	printf("SEED=%#" PRIx64 "\n", random_state);
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/n1", dir);
	f = make_file(path);
	fill_ring(f);
	pristine = malloc(f->view.size);
	if (!pristine)
		return 1;
	memcpy(pristine, f->view.base, f->view.size);
	while (now_s() < end && failures == 0) {
		double begin = now_s();
		bool meanwhile = rounds % 2;

		if (!meanwhile)
			damage(f);
		if (rounds % 4 == 0)
			shm_file_reseal(f); /* damage behind a right checksum goes deeper */
		if (!live_through(f, meanwhile, &opened) || now_s() - begin > ROUND_SECONDS_MAX) {
			printf("round %" PRIu64 " failed\n", rounds);
			failures++;
		}
		memcpy(f->view.base, pristine, f->view.size);
		rounds++;
	}
	printf("%" PRIu64 " damaged files, %" PRIu64 " of them opened\n", rounds, opened);
	free(pristine);
	shm_file_free(f);
	rmdir(dir);
	return failures || opened == 0 || opened == rounds ? 1 : 0;
}
