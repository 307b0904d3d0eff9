/* Goal: a record becomes exactly the span or log that its bytes say, whatever is damaged in it costs
 * only itself, and no byte beyond it is read.
 * Method: records written by hand as layout.h says, placed against a guard page; then every byte of
 * one flipped, and every length cut. */
#include "agent/input/records.h"
#include "test/support/guard_page.h"
#include "test/support/record_bytes.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char path[64];
static struct shm_file *file;
static struct blix_map *map;
static struct batch_resource *resource;
static struct records_counts counts;
static struct records *records;
static struct batch *spans, *logs;
static struct record_bytes r, inner;
static uint64_t words[RECORD_BYTES_MAX / 8 + 3];

enum { OPEN_MONO = 1000000, OPEN_REAL = 1764100000 };
#define MONO_NS ((uint64_t)OPEN_MONO * 1000)
#define REAL_NS ((uint64_t)OPEN_REAL * 1000000000u)

static void setup(void)
{
	const struct shm_file_options options = {.node_id = 3,
						 .open_mono_ns = MONO_NS,
						 .open_real_ns = REAL_NS,
						 .format = {.strings_bytes = 65536}};
	char reason[BLIX_REASON_MAX];

	/* Tests run side by side. */
	snprintf(path, sizeof(path), "/dev/shm/blix-records-%d", (int)getpid());
	file = shm_file_new(path, &options);
	cr_assert_eq(blix_map_open(path, &(struct blix_map_options){0}, &map, reason), 0);
	resource = batch_resource_new();
	records = records_new(map, resource, &counts);
	spans = batch_new(BATCH_TRACES, resource);
	logs = batch_new(BATCH_LOGS, resource);
}

static void teardown(void)
{
	batch_release(spans);
	batch_release(logs);
	records_free(records);
	batch_resource_release(resource);
	blix_map_close(map);
	shm_file_free(file);
}

TestSuite(records, .init = setup, .fini = teardown, .timeout = 60);

static uint32_t id(const char *text)
{
	return shm_file_string(file, text);
}

static int take_span(void)
{
	uint32_t n = record_words(BLIX_REC_SPAN, 0, 5, MONO_NS + 2000, &r, words);

	return records_span(records, words, n, spans);
}

static int take_log(void)
{
	uint32_t n = record_words(BLIX_REC_LOG, 0, 5, MONO_NS + 2000, &r, words);

	return records_log(records, words, n, logs);
}

static void begin_span(void)
{
	r.len = 0;
	record_span(&r, 42, id("GetVm"), MONO_NS + 2000);
}

static bool text_is(struct batch_text t, const char *s)
{
	return t.len == strlen(s) && memcmp(t.at, s, t.len) == 0;
}

static bool string_is(const struct batch_value *v, const char *s)
{
	return v->type == BATCH_STRING && v->n == strlen(s) && memcmp(v->text, s, v->n) == 0;
}

Test(records, a_span_with_every_kind_of_item_arrives_as_written)
{
	const struct blix_event event = {.t_ns = MONO_NS + 1500, .dropped_attrs = 2};
	struct blix_link link = {.trace_flags = 1, .link_flags = 1, .dropped_attrs = 3};
	const double pi = 3.5;
	const struct batch_span *s;
	uint64_t bits;

	memset(link.trace_id, 7, 16);
	memset(link.span_id, 8, 8);
	memcpy(&bits, &pi, 8);
	begin_span();
	record_word(&r, BLIX_ITEM_BOOL, id("b"), 1);
	record_word(&r, BLIX_ITEM_I64, id("i"), (uint64_t)-5);
	record_word(&r, BLIX_ITEM_F64, id("f"), bits);
	record_text(&r, BLIX_ITEM_STRING, id("s"), "text");
	record_word(&r, BLIX_ITEM_STRING_ID, id("sid"), id("interned"));
	record_item(&r, BLIX_ITEM_BYTES, id("y"), "\xff\x00\x01", 3);
	inner.len = 0;
	record_text(&inner, BLIX_ITEM_STRING, BLIX_NO_ID, "one");
	record_word(&inner, BLIX_ITEM_STRING_ID, BLIX_NO_ID, id("two"));
	record_item(&r, BLIX_ITEM_ARRAY, id("a"), inner.at, inner.len);
	inner.len = 0;
	record_put(&inner, &event, sizeof(event));
	record_word(&inner, BLIX_ITEM_I64, id("n"), 1);
	record_item(&r, BLIX_ITEM_EVENT, id("retry"), inner.at, inner.len);
	inner.len = 0;
	record_put(&inner, &link, sizeof(link));
	record_text(&inner, BLIX_ITEM_TRACESTATE, BLIX_NO_ID, "v=1");
	record_item(&r, BLIX_ITEM_LINK, BLIX_NO_ID, inner.at, inner.len);
	record_text(&r, BLIX_ITEM_STATUS, BLIX_NO_ID, "not of an ok span");
	record_text(&r, BLIX_ITEM_TRACESTATE, BLIX_NO_ID, "w=2");
	record_text(&r, 99, BLIX_NO_ID, "of a later minor");
	cr_assert_eq(take_span(), 0);
	s = &spans->spans[0];
	cr_expect_eq(spans->n, 1);
	cr_expect(text_is(s->name, "GetVm"));
	cr_expect_eq(s->trace_id[0], 42);
	cr_expect_eq(s->start_unix_ns, REAL_NS + 1000);
	cr_expect_eq(s->end_unix_ns, REAL_NS + 2000);
	cr_expect_eq(s->kind, 2);
	cr_expect_eq(s->flags, 1u | BATCH_FLAG_HAS_IS_REMOTE);
	cr_expect_eq(s->status_message.len, 0, "only an error has one");
	cr_expect(text_is(s->trace_state, "w=2"));
	cr_assert_eq(s->attrs.n, 7);
	cr_expect(s->attrs.at[0].value.boolean);
	cr_expect_eq(s->attrs.at[1].value.i64, -5);
	cr_expect_eq(s->attrs.at[2].value.f64, 3.5);
	cr_expect(string_is(&s->attrs.at[3].value, "text"));
	cr_expect(string_is(&s->attrs.at[4].value, "interned"));
	cr_expect_eq(s->attrs.at[5].value.type, BATCH_BYTES);
	cr_expect_eq(s->attrs.at[5].value.n, 3);
	cr_assert_eq(s->attrs.at[6].value.n, 2);
	cr_expect(string_is(&s->attrs.at[6].value.array[1], "two"));
	cr_assert_eq(s->n_events, 1);
	cr_expect(text_is(s->events[0].name, "retry"));
	cr_expect_eq(s->events[0].unix_ns, REAL_NS + 1500);
	cr_expect_eq(s->events[0].attrs.dropped, 2);
	cr_expect_eq(s->events[0].attrs.n, 1);
	cr_assert_eq(s->n_links, 1);
	cr_expect(text_is(s->links[0].trace_state, "v=1"));
	cr_expect_eq(s->links[0].flags, 1u | BATCH_FLAG_HAS_IS_REMOTE | BATCH_FLAG_IS_REMOTE);
	cr_expect_eq(counts.damaged + counts.repaired + counts.refused + counts.cut, 0);
}

Test(records, the_last_attribute_of_a_key_wins)
{
	begin_span();
	record_word(&r, BLIX_ITEM_I64, id("k"), 1);
	record_text(&r, BLIX_ITEM_STRING, id("other"), "o");
	record_text(&r, BLIX_ITEM_STRING, id("k"), "last");
	cr_assert_eq(take_span(), 0);
	cr_assert_eq(spans->spans[0].attrs.n, 2);
	cr_expect(string_is(&spans->spans[0].attrs.at[0].value, "last"));
	cr_expect_eq(counts.overwritten, 1);
}

Test(records, broken_utf8_is_repaired_and_counted)
{
	begin_span();
	record_text(&r, BLIX_ITEM_STRING, id("k"), "a\xff\xe2\x82z\xe2\x82\xac");
	cr_assert_eq(take_span(), 0);
	cr_expect(string_is(&spans->spans[0].attrs.at[0].value,
			    "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xe2\x82\xac"));
	cr_expect_eq(counts.repaired, 1);
}

Test(records, a_damaged_item_costs_only_itself)
{
	begin_span();
	record_item(&r, BLIX_ITEM_I64, id("short"), "1234", 4);
	record_word(&r, BLIX_ITEM_I64, 123456, 1);	       /* no such key */
	record_word(&r, BLIX_ITEM_I64, id(""), 1);	       /* an empty one */
	record_word(&r, BLIX_ITEM_STRING_ID, id("k"), 999999); /* no such text */
	inner.len = 0;
	record_word(&inner, BLIX_ITEM_I64, BLIX_NO_ID, 1);
	record_text(&inner, BLIX_ITEM_STRING, BLIX_NO_ID, "mixed");
	record_item(&r, BLIX_ITEM_ARRAY, id("mixed"), inner.at, inner.len);
	inner.len = 0;
	record_item(&inner, BLIX_ITEM_ARRAY, BLIX_NO_ID, "", 0);
	record_item(&r, BLIX_ITEM_ARRAY, id("nested"), inner.at, inner.len);
	record_item(&r, BLIX_ITEM_EVENT, id("e"), "short", 5);
	record_item(&r, BLIX_ITEM_LINK, BLIX_NO_ID, words, 32); /* no ids */
	record_word(&r, BLIX_ITEM_I64, id("good"), 7);
	record_put(&r, "\1\2\3\4\5\6\7\x70", 8); /* says it is longer than what is left */
	cr_assert_eq(take_span(), 0);
	cr_assert_eq(spans->spans[0].attrs.n, 1);
	cr_expect_eq(spans->spans[0].attrs.at[0].value.i64, 7);
	cr_expect_eq(spans->spans[0].attrs.dropped, 6);
	cr_expect_eq(spans->spans[0].dropped_events, 1);
	cr_expect_eq(spans->spans[0].dropped_links, 1);
	cr_expect_eq(counts.damaged, 9);
}

Test(records, numbers_out_of_range_are_put_right)
{
	struct blix_span_body body = record_span_body(1, 777777, MONO_NS);

	body.kind = 9;
	body.status = 3;
	body.end_ns = body.start_ns - 1;
	r.len = 0;
	record_put(&r, &body, sizeof(body));
	cr_assert_eq(take_span(), 0);
	cr_expect(text_is(spans->spans[0].name, "unknown"));
	cr_expect_eq(spans->spans[0].kind, 1);
	cr_expect_eq(spans->spans[0].status, 0);
	cr_expect_eq(spans->spans[0].end_unix_ns, spans->spans[0].start_unix_ns);
	cr_expect_eq(counts.damaged, 4);
}

Test(records, without_ids_or_too_short_it_is_no_span)
{
	struct blix_span_body body = record_span_body(1, 0, MONO_NS);
	uint32_t n;

	memset(body.span_id, 0, 8);
	r.len = 0;
	record_put(&r, &body, sizeof(body));
	cr_expect_eq(take_span(), -EBADMSG);
	r.len = 0;
	record_span(&r, 1, 0, MONO_NS);
	n = record_words(BLIX_REC_SPAN, 0, 1, 1, &r, words);
	cr_expect_eq(records_span(records, words, n - 1, spans), -EBADMSG);
	cr_expect_eq(records_log(records, words, 7, logs), -EBADMSG);
	cr_expect_eq(spans->n + logs->n, 0);
	cr_expect_eq(counts.refused, 3);
	cr_expect_eq(records_span(records, words, n, spans), 0);
}

Test(records, a_full_batch_says_so_and_keeps_what_it_has)
{
	begin_span();
	for (int i = 0; i < BATCH_ITEMS_MAX; i++)
		cr_assert_eq(take_span(), 0);
	cr_expect_eq(take_span(), -ENOSPC);
	cr_expect_eq(spans->n, BATCH_ITEMS_MAX);
}

Test(records, what_is_above_a_batchs_limits_is_cut_and_counted)
{
	const struct blix_event event = {.t_ns = MONO_NS};
	char key[16];

	begin_span();
	for (int i = 0; i < BATCH_ATTRS_MAX + 2; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		record_word(&r, BLIX_ITEM_I64, id(key), 1);
	}
	for (int i = 0; i < RECORDS_EVENTS_MAX + 3; i++)
		record_item(&r, BLIX_ITEM_EVENT, id("e"), &event, sizeof(event));
	cr_assert_eq(take_span(), 0);
	cr_expect_eq(spans->spans[0].attrs.n, BATCH_ATTRS_MAX);
	cr_expect_eq(spans->spans[0].attrs.dropped, 2);
	cr_expect_eq(spans->spans[0].n_events, RECORDS_EVENTS_MAX);
	cr_expect_eq(spans->spans[0].dropped_events, 3);
	cr_expect_eq(counts.cut, 5);
}

Test(records, a_log_arrives_as_written)
{
	struct blix_log_body body = {.event_id = id("leader.change"), .severity = 13};
	const struct batch_log *l;

	memset(body.trace_id, 1, 16);
	memset(body.span_id, 2, 8);
	r.len = 0;
	record_put(&r, &body, sizeof(body));
	record_word(&r, BLIX_ITEM_I64, id("term"), 4);
	record_text(&r, BLIX_ITEM_BODY, BLIX_NO_ID, "node 2 leads");
	cr_assert_eq(take_log(), 0);
	l = &logs->logs[0];
	cr_expect(text_is(l->body, "node 2 leads"));
	cr_expect(text_is(l->event_name, "leader.change"));
	cr_expect_eq(l->severity, 13);
	cr_expect_eq(l->unix_ns, REAL_NS + 2000);
	cr_expect_eq(l->observed_unix_ns, l->unix_ns);
	cr_expect_eq(l->trace_id[15], 1);
	cr_expect_eq(l->attrs.n, 1);
	body.severity = 0;
	r.len = 0;
	record_put(&r, &body, sizeof(body));
	cr_assert_eq(take_log(), 0);
	cr_expect_eq(logs->logs[1].severity, 9);
	cr_expect_eq(counts.damaged, 1);
}

Test(records, names_outlive_the_file)
{
	struct batch *b = batch_hold(spans);

	begin_span();
	record_text(&r, BLIX_ITEM_STRING, id("key"), "v");
	cr_assert_eq(take_span(), 0);
	records = records_free(records);
	map = blix_map_close(map);
	file = shm_file_free(file);
	cr_expect(text_is(b->spans[0].name, "GetVm"));
	cr_expect(text_is(b->spans[0].attrs.at[0].key, "key"));
	batch_release(b);
}

Test(records, names_go_into_the_batch_when_the_resources_memory_is_full)
{
	void *room;

	while (arena_alloc(&resource->memory, 1024, &room) == 0)
		;
	while (arena_alloc(&resource->memory, 1, &room) == 0)
		;
	begin_span();
	cr_assert_eq(take_span(), 0);
	cr_expect(text_is(spans->spans[0].name, "GetVm"));
}

Test(records, no_byte_beyond_the_record_is_read_whatever_a_byte_says)
{
	struct guard_page g;
	uint32_t n;

	begin_span();
	record_text(&r, BLIX_ITEM_STRING, id("k"), "text");
	inner.len = 0;
	record_word(&inner, BLIX_ITEM_I64, BLIX_NO_ID, 1);
	record_item(&r, BLIX_ITEM_ARRAY, id("a"), inner.at, inner.len);
	n = record_words(BLIX_REC_SPAN, 0, 1, 1, &r, words);
	g = guard_page_new(n * 8);
	for (uint32_t at = 24; at < n * 8; at++)
		for (int bit = 0; bit < 8; bit++) {
			struct batch *b = batch_new(BATCH_TRACES, resource);
			char *copy = guard_page_place(&g, words, n * 8);

			copy[at] = (char)(copy[at] ^ (1 << bit));
			(void)records_span(records, (const uint64_t *)(void *)copy, n, b);
			cr_assert_leq(b->n, 1);
			batch_release(b);
		}
	guard_page_free(&g);
}

/* ---- time ------------------------------------------------------------------------------------ */

Test(records, wall_time_never_goes_back_and_follows_a_step_forward)
{
	struct records_clock c = {0};

	records_clock_update(&c, 1000, 50000);
	cr_expect_eq(records_clock_unix_ns(&c, 1000), 50000);
	cr_expect_eq(records_clock_unix_ns(&c, 1500), 50500);
	cr_expect_eq(records_clock_unix_ns(&c, 500), 49500);
	records_clock_update(&c, 2000, 40000); /* set back */
	cr_expect_eq(records_clock_unix_ns(&c, 2000), 51000);
	records_clock_update(&c, 2000, 51000 + RECORDS_CLOCK_STEP_NS); /* slewed */
	cr_expect_eq(records_clock_unix_ns(&c, 2000), 51000);
	records_clock_update(&c, 2000, 51001 + RECORDS_CLOCK_STEP_NS); /* stepped */
	cr_expect_eq(records_clock_unix_ns(&c, 2000), 51001 + RECORDS_CLOCK_STEP_NS);
}

Test(records, times_that_cannot_be_are_held_within_what_can_be_told)
{
	struct records_clock c = {.mono_ns = 1000, .unix_ns = 500};

	cr_expect_eq(records_clock_unix_ns(&c, 0), 0);
	cr_expect_eq(records_clock_unix_ns(&c, UINT64_MAX), (uint64_t)INT64_MAX);
}
