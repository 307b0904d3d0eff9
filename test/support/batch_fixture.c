/* test/support/batch_fixture.c - batches with known content. Fails by abort(): a fixture that cannot
 * be built is a fault of the test. Texts are constants, which outlive every batch. */
#include "test/support/batch_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TEXT(literal) ((struct batch_text){(literal), sizeof(literal) - 1})
#define STRING(literal)                                                                            \
	{                                                                                          \
		.type = BATCH_STRING, .n = sizeof(literal) - 1, .text = (literal)                  \
	}

static const uint64_t start_ns = 1700000000000000001ull;

static struct batch_attr service[] = {
	{{"service.name", 12}, STRING("blixard-node")},
	{{"service.instance.id", 19}, STRING("0123456789abcdef0123456789abcdef")},
	{{"process.pid", 11}, {.type = BATCH_I64, .i64 = 4711}},
};

struct batch_resource *fixture_resource(void)
{
	struct batch_resource *r = batch_resource_new();

	if (!r)
		abort();
	r->attrs = (struct batch_attrs){service, 3, 0};
	r->service_name = TEXT("blixard-node");
	r->service_instance_id = TEXT("0123456789abcdef0123456789abcdef");
	r->scope_name = TEXT("blixard-hooks");
	r->scope_version = TEXT("0.1.0");
	memcpy(r->incarnation, "0123456789abcdef0123456789abcdef", 33);
	r->node_id = 1;
	return r;
}

static struct batch *new_batch(enum batch_signal signal)
{
	struct batch_resource *r = fixture_resource();
	struct batch *b = batch_new(signal, r);

	if (!b)
		abort();
	batch_resource_release(r);
	return b;
}

static const struct batch_value numbers[] = {{.type = BATCH_I64, .i64 = -1},
					     {.type = BATCH_I64, .i64 = 0}};
static const struct batch_value texts[] = {STRING("a"), STRING("")};

/* One of each type, and the values that are easily lost. */
static struct batch_attr all_types[] = {
	{{"empty", 5}, STRING("")},
	{{"text", 4}, STRING("q\"b\\s\nn\x01\xc3\xa9\xf0\x9f\x98\x80")},
	{{"no", 2}, {.type = BATCH_BOOL, .boolean = false}},
	{{"yes", 3}, {.type = BATCH_BOOL, .boolean = true}},
	{{"zero", 4}, {.type = BATCH_I64, .i64 = 0}},
	{{"least", 5}, {.type = BATCH_I64, .i64 = INT64_MIN}},
	{{"most", 4}, {.type = BATCH_I64, .i64 = INT64_MAX}},
	{{"tenth", 5}, {.type = BATCH_F64, .f64 = 0.1}},
	{{"nan", 3}, {.type = BATCH_F64, .f64 = NAN}},
	{{"inf", 3}, {.type = BATCH_F64, .f64 = -INFINITY}},
	{{"bytes", 5}, {.type = BATCH_BYTES, .n = 4, .text = "\x00\xff\x10\x80"}},
	{{"numbers", 7}, {.type = BATCH_ARRAY, .n = 2, .array = numbers}},
	{{"texts", 5}, {.type = BATCH_ARRAY, .n = 2, .array = texts}},
	{{"none", 4}, {.type = BATCH_ARRAY, .n = 0}},
};
enum { N_TYPES = sizeof(all_types) / sizeof(all_types[0]) };

static struct batch_attr few[] = {{{"k", 1}, STRING("v")}};

static struct batch_event events[] = {
	{1700000000000000002ull, {"exception", 9}, {few, 1, 2}},
	{0, {"", 0}, {NULL, 0, 0}},
};
static struct batch_link links[] = {
	{{0xaa, 1}, {0xbb, 2}, {"v=1", 3}, {few, 1, 3}, 0x301},
	{{0xcc, 3}, {0xdd, 4}, {"", 0}, {NULL, 0, 0}, 0},
};

static void ids(struct batch_span *s, uint8_t seed)
{
	memset(s->trace_id, seed, sizeof(s->trace_id));
	memset(s->span_id, seed + 1, sizeof(s->span_id));
}

struct batch *fixture_spans(void)
{
	struct batch *b = new_batch(BATCH_TRACES);
	struct batch_span *s = b->spans;

	ids(&s[0], 0x10);
	memset(s[0].parent_id, 0x99, sizeof(s[0].parent_id));
	s[0].start_unix_ns = start_ns;
	s[0].end_unix_ns = start_ns + 1500;
	s[0].name = TEXT("CreateVm");
	s[0].trace_state = TEXT("vendor=a,other=b");
	s[0].status = 2;
	s[0].status_message = TEXT("no space");
	s[0].attrs = (struct batch_attrs){all_types, N_TYPES, 1};
	s[0].events = events;
	s[0].n_events = 2;
	s[0].dropped_events = 4;
	s[0].links = links;
	s[0].n_links = 2;
	s[0].dropped_links = 5;
	s[0].flags = 0x301;
	s[0].kind = 2;

	ids(&s[1], 0x20);
	s[1].start_unix_ns = s[1].end_unix_ns = start_ns;
	s[1].name = TEXT("root");
	s[1].status_message = TEXT("never sent: the status is not ERROR");
	s[1].flags = 0x100;
	s[1].kind = 1;

	ids(&s[2], 0xf0);
	s[2].start_unix_ns = s[2].end_unix_ns = UINT64_MAX;
	s[2].name = TEXT("limits");
	s[2].status = 1;
	s[2].status_message = TEXT("nor with OK");
	s[2].attrs.dropped = UINT32_MAX;
	s[2].dropped_events = s[2].dropped_links = UINT32_MAX;
	s[2].flags = 0x3ff;
	s[2].kind = 5;
	b->n = 3;
	batch_seal(b);
	return b;
}

struct batch *fixture_logs(void)
{
	struct batch *b = new_batch(BATCH_LOGS);
	struct batch_log *l = b->logs;

	l[0].unix_ns = start_ns;
	l[0].observed_unix_ns = start_ns + 7;
	memset(l[0].trace_id, 0x10, sizeof(l[0].trace_id));
	memset(l[0].span_id, 0x11, sizeof(l[0].span_id));
	l[0].body = TEXT("disk \"a\" is full");
	l[0].event_name = TEXT("disk.full");
	l[0].attrs = (struct batch_attrs){all_types, N_TYPES, 9};
	l[0].flags = 1;
	l[0].severity = 18;

	l[1].observed_unix_ns = start_ns;
	l[1].body = TEXT("");
	l[1].severity = 0;
	b->n = 2;
	batch_seal(b);
	return b;
}

struct batch *fixture_many_spans(uint32_t n)
{
	static struct batch_attr four[] = {
		{{"rpc.system", 10}, STRING("grpc")},
		{{"rpc.method", 10}, STRING("CreateVmWithScheduling")},
		{{"rpc.grpc.status_code", 20}, {.type = BATCH_I64, .i64 = 14}},
		{{"server.address", 14}, STRING("10.20.30.40")},
	};
	struct batch *b = new_batch(BATCH_TRACES);

	for (b->n = 0; b->n < n && b->n < BATCH_ITEMS_MAX; b->n++) {
		struct batch_span *s = &b->spans[b->n];

		ids(s, (uint8_t)(b->n % 250 + 1));
		memset(s->parent_id, 7, sizeof(s->parent_id));
		s->start_unix_ns = start_ns + b->n;
		s->end_unix_ns = start_ns + 2 * (uint64_t)b->n;
		s->name = TEXT("blixard.Cluster/CreateVm");
		s->attrs = (struct batch_attrs){four, 4, 0};
		s->flags = 0x101;
		s->kind = 2;
	}
	batch_seal(b);
	return b;
}
