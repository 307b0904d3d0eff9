/* test/bench/bench_otlp.c - spans to OTLP bytes, in ns a span.
 *
 * Goal: how far writing the message backwards is from copying the finished body, which no encoder
 * can beat, and from protobuf-c, which one would use first: its structures built in an arena from
 * the same batch, measured and packed.
 * Method: 512 spans of four attributes; a buffer is used again from body to body, as the agent
 * does, so the figures are those of a warm cache. Both encoders' bytes are compared before anything is measured. */
#include "harness.h"

#include "agent/encode/otlp.h"
#include "proto/otlp_messages.pb-c.h"
#include "test/support/batch_fixture.h"

#include <string.h>

enum { SPANS = 512, BODY_BYTES_MAX = 16 << 20, ARENA_BYTES = 16 << 20, REPEATS = 200 };

struct work {
	struct batch *batch;
	struct buf out, finished;
	uint8_t *arena;
	size_t used;
};

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	(void)fprintf(stderr, "bench_otlp: %s\n", what);
	exit(1);
}

/* ---- protobuf-c ------------------------------------------------------------------------------ */

static void *take(struct work *w, size_t len)
{
	void *at = w->arena + w->used;

	w->used += (len + 15) / 16 * 16;
	must(w->used <= ARENA_BYTES, "the arena is too small");
	return at;
}

/* Texts of the fixture are constants, and so terminated. */
static char *text(struct batch_text t)
{
	return (char *)(uintptr_t)t.at;
}

static Otlp__KeyValue **attributes(struct work *w, const struct batch_attrs *attrs)
{
	Otlp__KeyValue **all = take(w, attrs->n * sizeof(*all));

	for (uint32_t i = 0; i < attrs->n; i++) {
		const struct batch_attr *a = &attrs->at[i];
		Otlp__AnyValue *value = take(w, sizeof(*value));

		all[i] = take(w, sizeof(*all[i]));
		otlp__key_value__init(all[i]);
		otlp__any_value__init(value);
		all[i]->key = text(a->key);
		all[i]->value = value;
		if (a->value.type == BATCH_I64) {
			value->value_case = OTLP__ANY_VALUE__VALUE_INT_VALUE;
			value->int_value = a->value.i64;
		} else {
			value->value_case = OTLP__ANY_VALUE__VALUE_STRING_VALUE;
			value->string_value = (char *)(uintptr_t)a->value.text;
		}
	}
	return all;
}

static ProtobufCBinaryData bytes(const uint8_t *at, size_t len)
{
	return (ProtobufCBinaryData){len, (uint8_t *)(uintptr_t)at};
}

static Otlp__Span *span(struct work *w, const struct batch_span *s)
{
	Otlp__Span *m = take(w, sizeof(*m));

	otlp__span__init(m);
	m->trace_id = bytes(s->trace_id, sizeof(s->trace_id));
	m->span_id = bytes(s->span_id, sizeof(s->span_id));
	m->parent_span_id = bytes(s->parent_id, sizeof(s->parent_id));
	m->name = text(s->name);
	m->kind = s->kind;
	m->start_time_unix_nano = s->start_unix_ns;
	m->end_time_unix_nano = s->end_unix_ns;
	m->flags = s->flags;
	m->n_attributes = s->attrs.n;
	m->attributes = attributes(w, &s->attrs);
	return m;
}

static void encode_protobuf_c(struct work *w)
{
	const struct batch_resource *r = w->batch->resource;
	Otlp__TraceRequest request = OTLP__TRACE_REQUEST__INIT;
	Otlp__ResourceSpans group = OTLP__RESOURCE_SPANS__INIT, *groups = &group;
	Otlp__ScopeSpans spans = OTLP__SCOPE_SPANS__INIT, *scopes = &spans;
	Otlp__Resource resource = OTLP__RESOURCE__INIT;
	Otlp__Scope scope = OTLP__SCOPE__INIT;
	size_t len;

	w->used = 0;
	request.n_resource_spans = group.n_scope_spans = 1;
	request.resource_spans = &groups;
	group.resource = &resource;
	group.scope_spans = &scopes;
	group.schema_url = spans.schema_url = (char *)(uintptr_t)OTLP_SCHEMA_URL;
	resource.n_attributes = r->attrs.n;
	resource.attributes = attributes(w, &r->attrs);
	scope.name = text(r->scope_name);
	scope.version = text(r->scope_version);
	spans.scope = &scope;
	spans.n_spans = w->batch->n;
	spans.spans = take(w, w->batch->n * sizeof(*spans.spans));
	for (uint32_t i = 0; i < w->batch->n; i++)
		spans.spans[i] = span(w, &w->batch->spans[i]);
	len = otlp__trace_request__get_packed_size(&request);
	must(buf_room(&w->out, len) != NULL, "no memory");
	buf_commit(&w->out, otlp__trace_request__pack(&request, w->out.data + w->out.len));
}

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

static double repeat(struct work *w, void (*encode)(struct work *), uint64_t bodies)
{
	uint64_t start = bench_cpu_ns();

	for (uint64_t i = 0; i < bodies; i++) {
		buf_clear(&w->out);
		encode(w);
		__asm__ volatile("" : : "r"(w->out.data) : "memory");
	}
	return (double)(bench_cpu_ns() - start);
}

/* As bench_run() does it, with whole bodies as repeats and the figure per span. */
static void run(const char *what, void (*encode)(struct work *), struct work *w)
{
	double kept[REPEATS];
	uint64_t bodies;
	int n = 0;

	bench_pin(0);
	(void)repeat(w, encode, 3);
	bodies = (uint64_t)(1.5e6 / (repeat(w, encode, 1) + 1)) + 1;
	for (int i = 0; i < 2 * REPEATS && n < REPEATS; i++) {
		long preempted = bench_preemptions();
		double took = repeat(w, encode, bodies);

		if (bench_preemptions() == preempted || i >= REPEATS)
			kept[n++] = took / (double)(bodies * w->batch->n);
	}
	qsort(kept, (size_t)n, sizeof(*kept), bench_compare);
	printf("otlp/span of 4 attributes: %s\t1\t%.3f\t%.3f\t%.3f\t%d/%d\n", what, kept[n / 2],
	       kept[0], kept[n * 9 / 10], n, REPEATS);
	(void)fflush(stdout);
}

int main(void)
{
	struct work w = {.batch = fixture_many_spans(SPANS), .arena = malloc(ARENA_BYTES)};

	must(w.arena != NULL, "no memory");
	buf_init(&w.out, BODY_BYTES_MAX);
	buf_init(&w.finished, BODY_BYTES_MAX);
	otlp_encode_batch(w.batch, 0, w.batch->n, false, &w.finished);
	encode_protobuf_c(&w);
	must(w.finished.len > 64 * SPANS, "the body is too short to hold the spans");
	must(w.out.len == w.finished.len && !memcmp(w.out.data, w.finished.data, w.out.len),
	     "the encoders differ");
	run("memcpy of the finished body", copy, &w);
	run("ours", encode_ours, &w);
	run("ours, JSON", encode_json, &w);
	run("protobuf-c in an arena", encode_protobuf_c, &w);
	buf_done(&w.out);
	buf_done(&w.finished);
	free(w.arena);
	batch_release(w.batch);
	return 0;
}
