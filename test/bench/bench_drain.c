/* test/bench/bench_drain.c - a ring of spans to OTLP bytes, in ns a span.
 *
 * Goal: what one core of the agent does with a span, all together and stage by stage, beside the copy
 * of the finished body, which nothing can beat, and beside the same path with protobuf-c as encoder.
 * Method: a real file with 512 spans of four attributes in the ring of a lane, read over and over by a
 * cursor that is set back; each body takes a new batch, as in the agent. What was encoded is compared
 * with protobuf-c's bytes before anything is measured. */
#include "protobuf_c.h"

#include "agent/input/records.h"
#include "agent/input/resource.h"
#include "agent/process/redact.h"
#include "shm/ring.h"
#include "test/support/record_bytes.h"

#include <unistd.h>

enum { SPANS = BATCH_ITEMS_MAX, LANE = 1, RECORD_WORDS = 64 };

struct drained {
	struct shm_file *file;
	struct blix_map *map;
	struct blix_ring_reader start; /* before the first record */
	struct batch_resource *resource;
	struct records *records;
	struct records_counts counts;
	struct redact *redact;
	uint64_t words[SPANS][RECORD_WORDS];
	uint32_t n_words[SPANS];
};

/* ---- the node -------------------------------------------------------------------------------- */

static void write_spans(struct shm_file *f)
{
	static struct record_bytes r;
	uint32_t name = shm_file_string(f, "blixard.Cluster/CreateVm");
	uint32_t system = shm_file_string(f, "rpc.system");
	uint32_t method = shm_file_string(f, "rpc.method");
	uint32_t status = shm_file_string(f, "rpc.grpc.status_code");
	uint32_t server = shm_file_string(f, "server.address");
	uint32_t grpc = shm_file_string(f, "grpc");
	struct blix_ring_writer writer;
	struct blix_span_body body;

	shm_file_own_lane(f, LANE, (uint32_t)getpid(), 1);
	must(blix_ring_writer_init(&writer, &f->view, LANE) == 0, "the ring is damaged");
	for (uint32_t i = 0; i < SPANS; i++) {
		r.len = 0;
		body = record_span_body(i + 1, name, 1000000 + i);
		memset(body.parent_id, 7, sizeof(body.parent_id));
		record_put(&r, &body, sizeof(body));
		record_word(&r, BLIX_ITEM_STRING_ID, system, grpc);
		record_text(&r, BLIX_ITEM_STRING, method, "CreateVmWithScheduling");
		record_word(&r, BLIX_ITEM_I64, status, 14);
		record_text(&r, BLIX_ITEM_STRING, server, "10.20.30.40");
		must(record_write(&writer, BLIX_REC_SPAN, 0, 1000000 + i, &r, false) ==
			     BLIX_DROP_NONE,
		     "the ring is full");
	}
}

static void start(struct drained *d)
{
	const struct shm_file_options options = {.format = {.ring_bytes = 1 << 20}, .node_id = 1};
	const struct redact_options rules = {0};
	char path[64], reason[BLIX_REASON_MAX];

	(void)snprintf(path, sizeof(path), "/dev/shm/blix-bench-drain-%d", (int)getpid());
	d->file = shm_file_new(path, &options);
	write_spans(d->file);
	must(blix_map_open(path, &(struct blix_map_options){.consumer = true}, &d->map, reason) ==
		     0,
	     "the file cannot be opened");
	must(resource_new(blix_map_identity(d->map), NULL, 0, &d->resource) == 0, "no resource");
	d->records = records_new(d->map, d->resource, &d->counts);
	must(d->records && redact_new(&rules, &d->redact) == 0, "no memory");
	blix_ring_reader_init(&d->start, blix_map_view(d->map), LANE);
}

static void stop(struct drained *d)
{
	redact_free(d->redact);
	records_free(d->records);
	batch_resource_release(d->resource);
	blix_map_close(d->map);
	shm_file_free(d->file);
}

/* ---- the stages ------------------------------------------------------------------------------ */

static void read_ring(struct work *w)
{
	struct drained *d = w->context;
	struct blix_ring_reader reader = d->start;

	for (uint32_t i = 0; i < SPANS; i++) {
		int n = blix_ring_next(&reader, d->words[i], RECORD_WORDS);

		must(n > 0, "a record is missing");
		d->n_words[i] = (uint32_t)n;
	}
}

/* The records that were read last, into a new batch. */
static void decode(struct work *w)
{
	struct drained *d = w->context;

	if (w->batch)
		batch_release(w->batch);
	w->batch = batch_new(BATCH_TRACES, d->resource);
	must(w->batch != NULL, "no memory");
	for (uint32_t i = 0; i < SPANS; i++)
		must(records_span(d->records, d->words[i], d->n_words[i], w->batch) == 0,
		     "a record is no span");
}

/* Nothing in them is a secret, so a batch may be gone through any number of times. */
static void redact(struct work *w)
{
	redact_batch(((struct drained *)w->context)->redact, w->batch);
}

static void encode(struct work *w)
{
	otlp_encode_batch(w->batch, 0, w->batch->n, false, &w->out);
}

/* One record at a time, as the agent does it. */
static void drain(struct work *w)
{
	struct drained *d = w->context;
	struct blix_ring_reader reader = d->start;

	batch_release(w->batch);
	w->batch = batch_new(BATCH_TRACES, d->resource);
	must(w->batch != NULL, "no memory");
	for (uint32_t i = 0; i < SPANS; i++) {
		int n = blix_ring_next(&reader, d->words[0], RECORD_WORDS);

		must(n > 0 && records_span(d->records, d->words[0], (uint32_t)n, w->batch) == 0,
		     "a record is no span");
	}
	redact_batch(d->redact, w->batch);
}

static void drain_ours(struct work *w)
{
	drain(w);
	encode(w);
}

static void drain_protobuf_c(struct work *w)
{
	drain(w);
	encode_protobuf_c(w);
}

static void copy(struct work *w)
{
	buf_add(&w->out, w->finished.data, w->finished.len);
}

/* ---- all ------------------------------------------------------------------------------------- */

int main(void)
{
	static const char group[] = "drain/span of 4 attributes";
	static struct drained d;
	struct work w = {.context = &d, .copy_texts = true};

	start(&d);
	work_init(&w);
	read_ring(&w);
	decode(&w);
	encode(&w);
	buf_add(&w.finished, w.out.data, w.out.len);
	must(w.finished.len > 64 * SPANS && d.counts.damaged == 0, "spans are missing");
	buf_clear(&w.out);
	drain_protobuf_c(&w);
	must(w.out.len == w.finished.len && !memcmp(w.out.data, w.finished.data, w.out.len),
	     "the encoders differ");
	run(group, "memcpy of the finished body", copy, &w);
	run(group, "ring -> OTLP span bytes", drain_ours, &w);
	run(group, "ring -> OTLP, protobuf-c", drain_protobuf_c, &w);
	read_ring(&w);
	run(group, "only read the ring", read_ring, &w);
	run(group, "only decode", decode, &w);
	run(group, "only redact", redact, &w);
	run(group, "only encode", encode, &w);
	batch_release(w.batch);
	work_done(&w);
	stop(&d);
	return 0;
}
