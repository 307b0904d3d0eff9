/* test/bench/protobuf_c.h - the peer of our OTLP encoder: a batch as protobuf-c structures in an arena,
 * measured and packed, which is what one would use first. And how a benchmark of batches repeats.
 *
 * protobuf-c wants terminated texts. Those of a fixture are; decoded ones are not, so they are copied,
 * which is then part of the price. Includes: harness.h, encode/, libc. */
#ifndef BLIX_TEST_BENCH_PROTOBUF_C_H
#define BLIX_TEST_BENCH_PROTOBUF_C_H

#include "harness.h"

#include "agent/encode/otlp.h"
#include "proto/otlp_messages.pb-c.h"

#include <stdbool.h>
#include <string.h>

enum { BODY_BYTES_MAX = 16 << 20, ARENA_BYTES = 16 << 20, REPEATS = 200 };

struct work {
	struct batch *batch;
	struct buf out, finished;
	uint8_t *arena;
	size_t used;
	bool copy_texts;
	void *context; /* of the benchmark */
};

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	(void)fprintf(stderr, "bench: %s\n", what);
	exit(1);
}

static void work_init(struct work *w)
{
	w->arena = malloc(ARENA_BYTES);
	must(w->arena != NULL, "no memory");
	buf_init(&w->out, BODY_BYTES_MAX);
	buf_init(&w->finished, BODY_BYTES_MAX);
}

static void work_done(struct work *w)
{
	buf_done(&w->out);
	buf_done(&w->finished);
	free(w->arena);
}

/* ---- protobuf-c ------------------------------------------------------------------------------ */

static void *take(struct work *w, size_t len)
{
	void *at = w->arena + w->used;

	w->used += (len + 15) / 16 * 16;
	must(w->used <= ARENA_BYTES, "the arena is too small");
	return at;
}

static char *text(struct work *w, struct batch_text t)
{
	char *copy;

	if (!w->copy_texts)
		return (char *)(uintptr_t)t.at;
	copy = take(w, t.len + 1);
	memcpy(copy, t.at, t.len);
	copy[t.len] = '\0';
	return copy;
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
		all[i]->key = text(w, a->key);
		all[i]->value = value;
		if (a->value.type == BATCH_I64) {
			value->value_case = OTLP__ANY_VALUE__VALUE_INT_VALUE;
			value->int_value = a->value.i64;
		} else {
			value->value_case = OTLP__ANY_VALUE__VALUE_STRING_VALUE;
			value->string_value =
				text(w, (struct batch_text){a->value.text, a->value.n});
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
	m->name = text(w, s->name);
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
	scope.name = text(w, r->scope_name);
	scope.version = text(w, r->scope_version);
	spans.scope = &scope;
	spans.n_spans = w->batch->n;
	spans.spans = take(w, w->batch->n * sizeof(*spans.spans));
	for (uint32_t i = 0; i < w->batch->n; i++)
		spans.spans[i] = span(w, &w->batch->spans[i]);
	len = otlp__trace_request__get_packed_size(&request);
	must(buf_room(&w->out, len) != NULL, "no memory");
	buf_commit(&w->out, otlp__trace_request__pack(&request, w->out.data + w->out.len));
}

/* ---- repeating --------------------------------------------------------------------------------- */

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
static void run(const char *group, const char *what, void (*encode)(struct work *), struct work *w)
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
	printf("%s: %s\t1\t%.3f\t%.3f\t%.3f\t%d/%d\n", group, what, kept[n / 2], kept[0],
	       kept[n * 9 / 10], n, REPEATS);
	(void)fflush(stdout);
}

#endif
