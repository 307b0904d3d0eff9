/* Goal: no bytes in a node's file can crash, hang or bloat the agent's input side.
 * Method: a small live file is damaged at random places, before it is opened and while it is read;
 * each time the registry is mapped to families, the values are collected, the rings drained and
 * the text encoded. What is shown must still be something the encoder can write whole. ASan and
 * UBSan builds see the rest. S sets the seconds (default 3), SEED repeats a run. */
#include "agent/encode/encode.h"
#include "agent/input/drain.h"
#include "agent/input/resource.h"
#include "agent/input/node_shm.h"
#include "shm/buckets.h"
#include "shm/ring.h"
#include "shm/utf8.h"
#include "test/support/record_bytes.h"
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

/* One of everything that may be damaged. */
static void add_items(struct record_bytes *span, uint32_t key)
{
	static struct record_bytes inner;
	const struct blix_event event = {.t_ns = 4500};
	const struct blix_link link = {.trace_id = {1}, .span_id = {2}};

	record_text(span, BLIX_ITEM_STRING, key, "/v1/vms");
	record_word(span, BLIX_ITEM_STRING_ID, key + 1, key);
	inner.len = 0;
	record_word(&inner, BLIX_ITEM_I64, BLIX_NO_ID, 7);
	record_word(&inner, BLIX_ITEM_I64, BLIX_NO_ID, 8);
	record_item(span, BLIX_ITEM_ARRAY, key, inner.at, inner.len);
	inner.len = 0;
	record_put(&inner, &event, sizeof(event));
	record_text(&inner, BLIX_ITEM_STRING, key, "\xff broken");
	record_item(span, BLIX_ITEM_EVENT, key, inner.at, inner.len);
	inner.len = 0;
	record_put(&inner, &link, sizeof(link));
	record_text(&inner, BLIX_ITEM_TRACESTATE, BLIX_NO_ID, "a=1");
	record_item(span, BLIX_ITEM_LINK, BLIX_NO_ID, inner.at, inner.len);
}

static void fill_ring(struct shm_file *f)
{
	struct blix_ring_writer writer;
	static struct record_bytes span;
	uint32_t key = shm_file_string(f, "http.route"), name = shm_file_string(f, "GetVm");

	shm_file_own_lane(f, 1, (uint32_t)getpid(), 1);
	blix_ring_writer_init(&writer, &f->view, 1);
	for (uint64_t i = 1; i < 60; i++) {
		span.len = 0;
		if (i % 3 == 0) {
			record_log(&span, 9, "a line");
		} else {
			record_span(&span, i, name, i * 5000);
			add_items(&span, key);
		}
		record_write(&writer, i % 3 ? BLIX_REC_SPAN : BLIX_REC_LOG, 0, i * 5000, &span,
			     false);
	}
	span.len = 0;
	add_items(&span, key);
	record_open_span(f, 1, 1000, name, 4000, &span);
	record_open_span(f, 0, 1001, name, 4000, &span);
}

/* Mostly where the structure is: page 0, the registry, the head of a lane. */
static uint64_t place(const struct shm_file *f)
{
	uint64_t structured = f->view.lanes_off;

	switch (next_random() % 6) {
	case 0:
		return next_random() % 4096;
	case 1:
		return f->view.lanes_off + f->view.lane_stride +
		       next_random() % f->view.lane_stride;
	case 3: /* the records themselves */
		return f->view.lanes_off + f->view.lane_stride + f->view.lane.ring_off +
		       next_random() % 8192;
	case 4: /* the slots */
		return f->view.lanes_off + f->view.lane_stride + f->view.lane.slots_off +
		       next_random() % 1024;
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

/* What every destination relies on: read each byte, judge each promise of batch.h. */
static bool text_sound(struct batch_text t)
{
	return blix_utf8_valid((const uint8_t *)t.at, t.len);
}

static bool value_sound(const struct batch_value *v, bool nested)
{
	bool sound = v->type < BATCH_TYPES && !(nested && v->type == BATCH_ARRAY);

	if (v->type == BATCH_STRING)
		sound &= text_sound((struct batch_text){v->text, v->n});
	for (uint32_t i = 0; sound && v->type == BATCH_ARRAY && i < v->n; i++)
		sound &= value_sound(&v->array[i], true) && v->array[i].type == v->array[0].type;
	return sound;
}

static bool attrs_sound(const struct batch_attrs *a)
{
	bool sound = a->n <= BATCH_RESOURCE_ATTRS_MAX;

	for (uint32_t i = 0; sound && i < a->n; i++) {
		sound &= a->at[i].key.len > 0 && text_sound(a->at[i].key) &&
			 value_sound(&a->at[i].value, false);
		for (uint32_t j = 0; j < i; j++)
			sound &= a->at[i].key.len != a->at[j].key.len ||
				 memcmp(a->at[i].key.at, a->at[j].key.at, a->at[i].key.len) != 0;
	}
	return sound;
}

static bool span_sound(const struct batch_span *s)
{
	static const uint8_t none[16];
	bool sound = memcmp(s->trace_id, none, 16) != 0 && memcmp(s->span_id, none, 8) != 0 &&
		     s->end_unix_ns >= s->start_unix_ns && s->name.len > 0 && text_sound(s->name) &&
		     text_sound(s->trace_state) && attrs_sound(&s->attrs) && s->kind >= 1 &&
		     s->kind <= 5 && s->status <= 2 &&
		     (s->status == 2 || s->status_message.len == 0) &&
		     text_sound(s->status_message);

	for (uint32_t i = 0; i < s->n_events; i++)
		sound &= text_sound(s->events[i].name) && attrs_sound(&s->events[i].attrs);
	for (uint32_t i = 0; i < s->n_links; i++)
		sound &= text_sound(s->links[i].trace_state) && attrs_sound(&s->links[i].attrs);
	return sound;
}

static bool batches_sound = true;
static uint64_t batch_items;

static void judge_batch(void *arg, struct batch *b)
{
	(void)arg;
	batches_sound &= b->sealed && b->n > 0 && attrs_sound(&b->resource->attrs);
	for (uint32_t i = 0; b->signal == BATCH_TRACES && i < b->n; i++)
		batches_sound &= span_sound(&b->spans[i]);
	for (uint32_t i = 0; b->signal == BATCH_LOGS && i < b->n; i++)
		batches_sound &= text_sound(b->logs[i].body) && text_sound(b->logs[i].event_name) &&
				 attrs_sound(&b->logs[i].attrs) && b->logs[i].severity >= 1 &&
				 b->logs[i].severity <= 24;
	batch_items += b->n;
	batch_release(b);
}

static void start_draining(struct blix_map *map, struct drain_totals *totals,
			   struct drain **ret_drain)
{
	const struct drain_options options = {
		.wants = {true, true}, .delay_ms = {1, 1}, .batch = judge_batch};
	struct batch_resource *resource;
	size_t len;
	const uint8_t *bytes = blix_map_resource(map, &len);

	if (resource_new(blix_map_identity(map), bytes, len, &resource) < 0)
		return;
	drain_new(map, resource, &options, totals, ret_drain);
	batch_resource_release(resource);
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
	start_draining(map, &totals, &drain);
	for (int i = 0; i < 3 && values; i++) {
		if (damage_meanwhile)
			damage(f);
		if (drain)
			drain_poll(drain, 1);
		drain_fill(map);
		if (drain && i == 2)
			drain_finish(drain);
		node_shm_collect(values);
		snapshot_clamp_subsets(s);
		whole &= encode_all(s);
	}
	drain_free(drain, true);
	node_shm_free(values);
	blix_map_close(map);
	snapshot_free(s);
	return whole && batches_sound;
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
	printf("%" PRIu64 " damaged files, %" PRIu64 " of them opened, %" PRIu64
	       " spans and logs out of them\n",
	       rounds, opened, batch_items);
	free(pristine);
	shm_file_free(f);
	rmdir(dir);
	return failures || opened == 0 || opened == rounds || batch_items == 0 ? 1 : 0;
}
