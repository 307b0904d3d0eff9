/* test/bench/bench_otlp.c - spans to OTLP bytes, in ns a span.
 *
 * Goal: how far writing the message backwards is from copying the finished body, which no encoder
 * can beat, and from protobuf-c, which one would use first: its structures built in an arena from
 * the same batch, measured and packed.
 * Method: 512 spans of four attributes; a buffer is used again from body to body, as the agent
 * does, so the figures are those of a warm cache. Both encoders' bytes are compared before anything is measured. */
#include "protobuf_c.h"

#include "test/support/batch_fixture.h"

enum { SPANS = 512 };

/* ---- ours ------------------------------------------------------------------------------------ */

static void encode_ours(struct work *w)
{
	otlp_encode_batch(w->batch, 0, w->batch->n, false, &w->out);
}

static void encode_json(struct work *w)
{
	otlp_encode_batch(w->batch, 0, w->batch->n, true, &w->out);
}

static void copy(struct work *w)
{
	buf_add(&w->out, w->finished.data, w->finished.len);
}

/* ---- all ------------------------------------------------------------------------------------- */

int main(void)
{
	static const char group[] = "otlp/span of 4 attributes";
	struct work w = {.batch = fixture_many_spans(SPANS)};

	work_init(&w);
	otlp_encode_batch(w.batch, 0, w.batch->n, false, &w.finished);
	encode_protobuf_c(&w);
	must(w.finished.len > 64 * SPANS, "the body is too short to hold the spans");
	must(w.out.len == w.finished.len && !memcmp(w.out.data, w.finished.data, w.out.len),
	     "the encoders differ");
	run(group, "memcpy of the finished body", copy, &w);
	run(group, "ours", encode_ours, &w);
	run(group, "ours, JSON", encode_json, &w);
	run(group, "protobuf-c in an arena", encode_protobuf_c, &w);
	work_done(&w);
	batch_release(w.batch);
	return 0;
}
