/* Goal: what the program says about its spans is in the file, whole, and nothing else; handles do
 * no harm wherever they turn up; limits count what they drop.
 * Method: record through the public header, read the file as any process could, compare. */
#include "node-hooks/trace.h"
#include "test/support/file_records.h"
#include "test/support/scratch.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct scratch scratch;
static struct file_records file;

static void setup(void)
{
	static const char *const names[] = {
		"OTEL_TRACES_SAMPLER",
		"OTEL_TRACES_SAMPLER_ARG",
		"OTEL_ATTRIBUTE_COUNT_LIMIT",
		"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
		"OTEL_PROPAGATORS",
		"BLIXARD_SLOW_SPAN_MS",
		"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
		"BLIXARD_BAGGAGE_ATTRIBUTES",
		"OTEL_METRICS_EXEMPLAR_FILTER",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unsetenv(names[i]);
	scratch = scratch_new(NULL);
}

static void teardown(void)
{
	if (file.of)
		file_records_free(&file);
	blix_close();
	scratch_remove(&scratch);
}

TestSuite(span, .init = setup, .fini = teardown);

static void open_with(uint32_t lanes, uint32_t slots)
{
	struct blix_identity identity = {
		.node_id = 7, .lanes = lanes, .ring_bytes = 64 << 10, .slots = slots};

	cr_assert_eq(blix_open(scratch.path, &identity), 0, "%s", blix_status().reason);
}

static void look(void)
{
	if (file.of)
		file_records_free(&file);
	file = file_records_read(scratch.path);
}

static const struct record_read *the_span(const char *name)
{
	const struct record_read *span;

	look();
	span = file_records_span(&file, name, 0);
	cr_assert_not_null(span, "no span %s", name);
	cr_assert_null(file_records_span(&file, name, 1), "two spans %s", name);
	return span;
}

static const char *text_of(const struct record_read *record, const char *key)
{
	static char text[1024];

	cr_assert(file_records_text(&file, record, key, text, sizeof(text)), "no text %s", key);
	return text;
}

static uint64_t word_of(const struct record_read *record, uint8_t type, const char *key)
{
	uint64_t word = 0;

	cr_assert(file_records_word(&file, record, type, key, &word), "no word %s", key);
	return word;
}

static uint64_t stat_of(enum blix_stat stat)
{
	look();
	return blix_map_stat(file.map, stat);
}

static uint64_t drops_of(enum blix_drop_kind kind, enum blix_drop_reason reason)
{
	look();
	return blix_map_drops(file.map, kind, reason);
}

static const struct blix_context root; /* begins a trace whatever is current */

static blix_span begin(const char *name)
{
	return blix_span_begin(blix_name_of(name), BLIX_INTERNAL, &root);
}

/* ---- what is recorded ----------------------------------------------------------------------- */

Test(span, a_span_is_one_record_with_all_that_was_said)
{
	const char *const disks[] = {"vda", NULL, "vdb"};
	const uint8_t blob[] = {1, 2, 3};
	const struct record_read *r;
	struct blix_item_seen item, inner;
	double load;
	uint64_t before_ns, bits;

	open_with(4, 8);
	before_ns = blix_now_ns();
	blix_span span = blix_span_begin(BLIX_NAME("Cluster/CreateVm"), BLIX_SERVER, NULL);
	blix_span_str(span, BLIX_KEY("vm.name"), "vm-1");
	blix_span_text(span, BLIX_KEY("vm.text"), "image.qcow2", 5);
	blix_span_i64(span, BLIX_KEY("vm.vcpus"), -2);
	blix_span_f64(span, BLIX_KEY("load"), 0.5);
	blix_span_bool(span, BLIX_KEY("started"), 7);
	blix_span_bytes(span, BLIX_KEY("blob"), blob, sizeof(blob));
	blix_span_str_array(span, BLIX_KEY("disks"), disks, 3);
	blix_span_end(span);

	r = the_span("Cluster/CreateVm");
	cr_expect_not(r->open);
	cr_expect_eq(r->span.kind, BLIX_SERVER);
	cr_expect_eq(r->span.status, BLIX_SPAN_UNSET);
	cr_expect_eq(r->flags, 0);
	cr_expect_arr_eq(r->span.trace_id, span.trace_id, 16);
	cr_expect_arr_eq(r->span.span_id, span.span_id, 8);
	cr_expect_arr_eq(r->span.parent_id, root.span_id, 8);
	cr_expect_eq(r->span.trace_flags, BLIX_TRACE_SAMPLED | BLIX_TRACE_RANDOM);
	cr_expect_geq(r->span.start_ns, before_ns);
	cr_expect_geq(r->span.end_ns, r->span.start_ns);
	cr_expect_leq(r->span.end_ns, blix_now_ns());
	cr_expect_eq(r->t_ns, r->span.end_ns);
	cr_expect_str_eq(text_of(r, "vm.name"), "vm-1");
	cr_expect_str_eq(text_of(r, "vm.text"), "image");
	cr_expect_eq((int64_t)word_of(r, BLIX_ITEM_I64, "vm.vcpus"), -2);
	bits = word_of(r, BLIX_ITEM_F64, "load");
	memcpy(&load, &bits, sizeof(load));
	cr_expect_eq(load, 0.5);
	cr_expect_eq(word_of(r, BLIX_ITEM_BOOL, "started"), 1u);
	cr_assert(
		file_records_item(&file, file_records_items(r), BLIX_ITEM_BYTES, "blob", 0, &item));
	cr_expect_eq(item.head.len, 3);
	cr_expect_arr_eq(item.value, blob, 3);
	cr_assert(file_records_item(&file, file_records_items(r), BLIX_ITEM_ARRAY, "disks", 0,
				    &item));
	for (uint32_t i = 0; i < 3; i++) {
		cr_assert(file_records_item(&file, blix_items_of(item.value, item.head.len),
					    BLIX_ITEM_STRING, "", i, &inner));
		cr_expect_eq(inner.head.len, disks[i] ? 3 : 0);
	}
}

Test(span, an_open_span_is_in_its_slot_with_what_was_said_so_far)
{
	const struct record_read *r;
	blix_span span;

	open_with(4, 8);
	span = begin("half");
	blix_span_str(span, BLIX_KEY("so.far"), "so good");
	r = the_span("half");
	cr_expect(r->open);
	cr_expect_str_eq(text_of(r, "so.far"), "so good");
	blix_span_end(span);
	cr_expect_not(the_span("half")->open);
}

Test(span, events_and_links_carry_attributes_of_their_own)
{
	struct blix_item_seen item, inner;
	struct blix_event event;
	struct blix_link link;
	struct blix_context to = {.trace_id = {1}, .span_id = {2}, .trace_flags = 1, .remote = 1};
	const struct record_read *r;
	blix_span span;

	memcpy(to.tracestate, "a=b", 3);
	to.tracestate_len = 3;
	open_with(4, 8);
	span = begin("linked");
	blix_span_event(span, "fsync.slow", BLIX_I64("ms", 12), BLIX_STR("disk", "vda"));
	blix_span_event(span, "plain");
	blix_span_link(span, &to, BLIX_BOOL("batch", 1));
	blix_span_link(span, &root); /* no ids: nothing */
	blix_span_end(span);

	r = the_span("linked");
	cr_assert(file_records_item(&file, file_records_items(r), BLIX_ITEM_EVENT, "fsync.slow", 0,
				    &item));
	memcpy(&event, item.value, sizeof(event));
	cr_expect_geq(event.t_ns, r->span.start_ns);
	cr_expect_leq(event.t_ns, r->span.end_ns);
	cr_expect_eq(event.dropped_attrs, 0);
	cr_expect(file_records_item(
		&file,
		blix_items_of(item.value + sizeof(event), item.head.len - (uint32_t)sizeof(event)),
		BLIX_ITEM_STRING, "disk", 0, &inner));
	cr_assert(file_records_item(&file, file_records_items(r), BLIX_ITEM_EVENT, "plain", 0,
				    &item));
	cr_expect_eq(item.head.len, sizeof(event));
	cr_assert(file_records_item(&file, file_records_items(r), BLIX_ITEM_LINK, NULL, 0, &item));
	memcpy(&link, item.value, sizeof(link));
	cr_expect_arr_eq(link.trace_id, to.trace_id, 16);
	cr_expect_arr_eq(link.span_id, to.span_id, 8);
	cr_expect_eq(link.trace_flags, 1);
	cr_expect_eq(link.link_flags, BLIX_SPAN_PARENT_REMOTE);
	cr_expect(file_records_item(
		&file,
		blix_items_of(item.value + sizeof(link), item.head.len - (uint32_t)sizeof(link)),
		BLIX_ITEM_TRACESTATE, NULL, 0, &inner));
	cr_expect(file_records_item(
		&file,
		blix_items_of(item.value + sizeof(link), item.head.len - (uint32_t)sizeof(link)),
		BLIX_ITEM_BOOL, "batch", 0, &inner));
	cr_expect_not(
		file_records_item(&file, file_records_items(r), BLIX_ITEM_LINK, NULL, 1, &item));
	cr_expect_eq(r->span.dropped_links, 0);
}

Test(span, a_failure_sets_status_type_and_exception_and_is_kept_longest)
{
	struct blix_item_seen item, inner;
	const struct record_read *r;
	blix_span span;

	open_with(4, 8);
	span = begin("fails");
	blix_span_failed(span, "ENOSPC", "disk full");
	blix_span_end(span);
	span = begin("plainly");
	blix_span_error(span, "oops");
	blix_span_end(span);

	r = the_span("fails");
	cr_expect_eq(r->span.status, BLIX_SPAN_ERROR);
	cr_expect_eq(r->flags, BLIX_REC_PRIORITY);
	cr_expect_str_eq(text_of(r, "error.type"), "ENOSPC");
	cr_assert(
		file_records_item(&file, file_records_items(r), BLIX_ITEM_STATUS, NULL, 0, &item));
	cr_expect_arr_eq(item.value, "disk full", 9);
	cr_assert(file_records_item(&file, file_records_items(r), BLIX_ITEM_EVENT, "exception", 0,
				    &item));
	cr_expect(file_records_item(&file, blix_items_of(item.value + 16, item.head.len - 16u),
				    BLIX_ITEM_STRING, "exception.type", 0, &inner));
	cr_expect(file_records_item(&file, blix_items_of(item.value + 16, item.head.len - 16u),
				    BLIX_ITEM_STRING, "exception.message", 0, &inner));
	r = the_span("plainly");
	cr_expect_str_eq(text_of(r, "error.type"), "_OTHER");
}

Test(span, ok_is_final_and_unset_changes_nothing)
{
	static const struct {
		const char *name;
		enum blix_span_status set[3];
		uint8_t is;
	} rows[] = {
		{"ok-error", {BLIX_SPAN_OK, BLIX_SPAN_ERROR, BLIX_SPAN_UNSET}, BLIX_SPAN_OK},
		{"error-ok", {BLIX_SPAN_ERROR, BLIX_SPAN_OK, BLIX_SPAN_UNSET}, BLIX_SPAN_OK},
		{"error", {BLIX_SPAN_UNSET, BLIX_SPAN_ERROR, BLIX_SPAN_UNSET}, BLIX_SPAN_ERROR},
	};

	open_with(4, 8);
	for (size_t i = 0; i < 3; i++) {
		blix_span span = begin(rows[i].name);

		for (int k = 0; k < 3; k++)
			blix_span_status(span, rows[i].set[k], "why");
		blix_span_end(span);
		cr_expect_eq(the_span(rows[i].name)->span.status, rows[i].is, "%s", rows[i].name);
	}
}

Test(span, a_slow_span_is_kept_longest)
{
	setenv("BLIXARD_SLOW_SPAN_MS", "0", 1);
	open_with(4, 8);
	blix_span_end(begin("slow"));
	cr_expect_eq(the_span("slow")->flags, BLIX_REC_PRIORITY);
}

/* ---- current ---------------------------------------------------------------------------------- */

Test(span, the_current_span_is_parent_and_stays_until_detached)
{
	const struct record_read *outer, *inner, *after;
	blix_span span;

	open_with(4, 8);
	span = begin("outer");
	{
		BLIX_SCOPE(span);
		blix_span child = blix_span_begin(BLIX_NAME("inner"), BLIX_CLIENT, NULL);

		{
			BLIX_SCOPE(child);
			cr_expect_arr_eq(blix_current().span_id, child.span_id, 8);
		}
		cr_expect_arr_eq(blix_current().span_id, span.span_id, 8);
		blix_span_end(child);
		blix_span_end(span);
		cr_expect_arr_eq(blix_current_span().span_id, span.span_id, 8);
	}
	cr_expect_arr_eq(blix_current().span_id, root.span_id, 8);
	blix_span_end(blix_span_begin(BLIX_NAME("after"), BLIX_INTERNAL, NULL));
	outer = the_span("outer");
	inner = file_records_span(&file, "inner", 0);
	after = file_records_span(&file, "after", 0);
	cr_expect_arr_eq(inner->span.parent_id, outer->span.span_id, 8);
	cr_expect_arr_eq(inner->span.trace_id, outer->span.trace_id, 16);
	cr_expect_eq(inner->span.span_flags, 0);
	cr_expect_arr_neq(after->span.trace_id, outer->span.trace_id, 16);
}

static const struct blix_thread_context *context_of_lane(void)
{
	const struct blix_view *view = blix_map_view(file.map);

	for (uint32_t lane = 1; lane < view->n_lanes; lane++)
		if (blix_view_lane(view, lane)->context.owner_tid == (uint32_t)gettid())
			return &blix_view_lane(view, lane)->context;
	cr_assert_fail("this thread has no lane");
	return NULL;
}

Test(span, the_lane_shows_what_is_current)
{
	blix_span span;
	blix_token token;

	open_with(4, 8);
	span = begin("shown");
	look();
	cr_expect_eq(context_of_lane()->valid, 0);
	token = blix_attach(span);
	cr_expect_eq(context_of_lane()->valid, 1);
	cr_expect_arr_eq(context_of_lane()->trace_id, span.trace_id, 16);
	cr_expect_arr_eq(context_of_lane()->span_id, span.span_id, 8);
	cr_expect_eq(context_of_lane()->trace_flags, 3);
	blix_detach(token);
	cr_expect_eq(context_of_lane()->valid, 0);
}

Test(span, a_span_attached_before_the_lane_was_taken_is_shown_as_well)
{
	blix_span span = begin("early");
	blix_token token = blix_attach(span);

	open_with(4, 8);
	blix_add(blix_counter_of(BLIX_raft_proposals_total), 1);
	look();
	cr_expect_eq(context_of_lane()->valid, 1);
	cr_expect_arr_eq(context_of_lane()->span_id, span.span_id, 8);
	blix_detach(token);
}

static void *detach_it(void *token)
{
	blix_detach(*(blix_token *)token);
	return NULL;
}

Test(span, detach_on_another_thread_restores_nothing_and_is_counted)
{
	pthread_t thread;
	blix_token token;
	blix_span span;

	open_with(4, 8);
	span = begin("here");
	token = blix_attach(span);
	pthread_create(&thread, NULL, detach_it, &token);
	pthread_join(thread, NULL);
	cr_expect_arr_eq(blix_current().span_id, span.span_id, 8);
	cr_expect_eq(stat_of(BLIX_STAT_DETACH_FOREIGN), 1u);
	blix_detach(token);
	blix_detach((blix_token){.tid = 0}); /* of nothing: not counted */
	cr_expect_eq(stat_of(BLIX_STAT_DETACH_FOREIGN), 1u);
}

/* ---- handles ---------------------------------------------------------------------------------- */

static void *end_it(void *span)
{
	blix_span_str(*(blix_span *)span, BLIX_KEY("ended.by"), "another");
	blix_span_end(*(blix_span *)span);
	return NULL;
}

Test(span, a_span_may_be_ended_by_another_thread)
{
	pthread_t thread;
	blix_span span;

	open_with(4, 8);
	span = begin("travels");
	pthread_create(&thread, NULL, end_it, &span);
	pthread_join(thread, NULL);
	cr_expect_str_eq(text_of(the_span("travels"), "ended.by"), "another");
}

Test(span, calls_on_an_ended_span_do_nothing_and_are_counted)
{
	blix_span span, other;

	open_with(4, 1);
	span = begin("one");
	blix_span_end(span);
	other = begin("two"); /* in the same slot */
	blix_span_end(span);
	blix_span_str(span, BLIX_KEY("late"), "x");
	blix_span_event(span, "late");
	blix_span_error(span, "late"); /* the status, and its event */
	cr_expect_eq(stat_of(BLIX_STAT_STALE_HANDLE), 4u);
	cr_expect(the_span("two")->open);
	cr_expect_eq(the_span("two")->items_len, 0u);
	blix_span_end(other);
	cr_expect_not(the_span("two")->open);
}

Test(span, a_handle_of_an_earlier_file_does_nothing)
{
	blix_span span, other;

	open_with(4, 1);
	span = begin("old");
	blix_close();
	blix_span_end(span);
	open_with(4, 1);
	other = begin("new");
	blix_span_str(span, BLIX_KEY("late"), "x");
	blix_span_end(span);
	cr_expect(the_span("new")->open);
	cr_expect_eq(the_span("new")->items_len, 0u);
	cr_expect_eq(stat_of(BLIX_STAT_STALE_HANDLE), 2u);
	blix_span_end(other);
}

Test(span, handles_from_anywhere_do_no_harm)
{
	blix_span span;

	open_with(4, 1);
	for (uint64_t i = 0; i < 100000; i++) {
		uint64_t h = (i + 1) * 0x9e3779b97f4a7c15u;

		memset(&span, 0, sizeof(span));
		memcpy(span.span_id, &h, 8);
		span.place = (uint32_t)(h >> 13);
		span.carried = (uint16_t)(h >> 7);
		blix_span_i64(span, BLIX_KEY("x"), 1);
		blix_span_end(span);
		(void)blix_context_of(span);
	}
	blix_span_end((blix_span){.place = 0});
	look();
	cr_expect_eq(file.n, 0u);
}

Test(span, without_a_file_ids_are_valid_and_travel)
{
	blix_span span = begin("nowhere"), child;

	cr_expect_not(blix_span_is_recorded(span));
	cr_expect_arr_neq(span.trace_id, root.trace_id, 16);
	child = blix_span_begin_under(blix_name_of("child"), BLIX_INTERNAL, span);
	cr_expect_arr_eq(child.trace_id, span.trace_id, 16);
	cr_expect_arr_neq(child.span_id, span.span_id, 8);
	blix_span_str(span, BLIX_KEY("x"), "y");
	blix_span_end(child);
	blix_span_end(span);
}

Test(span, the_trace_id_begins_with_the_time)
{
	time_t now = time(NULL);
	uint32_t seconds;
	blix_span span;

	open_with(4, 8);
	span = begin("timed");
	memcpy(&seconds, span.trace_id, 4);
	seconds = __builtin_bswap32(seconds);
	cr_expect(seconds + 2 >= (uint32_t)now && seconds <= (uint32_t)now + 3600);
	blix_span_end(span);
}

Test(span, a_forked_child_has_other_ids_and_records_nothing)
{
	uint8_t ids[2][24];
	blix_span span;
	int fds[2];
	int wait_status;

	open_with(4, 8);
	span = begin("parent");
	blix_token token = blix_attach(span);
	cr_assert_eq(pipe(fds), 0);
	if (fork() == 0) {
		blix_span child = begin("in the child");

		blix_span_end(span);
		blix_log(BLIX_ERROR, "in the child");
		blix_span_end(child);
		_exit(write(fds[1], &child, 24) != 24 || blix_span_is_recorded(child));
	}
	cr_assert_eq(read(fds[0], ids[0], 24), 24);
	wait(&wait_status);
	cr_expect_eq(wait_status, 0);
	blix_span next = begin("in the parent");
	memcpy(ids[1], &next, 24);
	cr_expect_arr_neq(ids[0] + 4, ids[1] + 4, 12);
	cr_expect_arr_neq(ids[0] + 16, ids[1] + 16, 8);
	cr_expect(the_span("parent")->open);
	cr_expect_null(file_records_span(&file, "in the child", 0));
	cr_expect_null(file_records_log(&file, "in the child", 0));
	blix_span_end(next);
	blix_detach(token);
	blix_span_end(span);
	cr_expect_not(the_span("parent")->open);
}

Test(span, a_thread_without_a_lane_records_through_lane_0)
{
	open_with(1, 4);
	blix_span span = begin("shared");
	BLIX_SCOPE(span);
	blix_span_i64(span, BLIX_KEY("n"), 3);
	blix_log(BLIX_INFO, "shared log");
	blix_span_end(span);
	cr_expect_eq(the_span("shared")->lane, 0u);
	cr_expect_not_null(file_records_log(&file, "shared log", 0));
}

/* ---- limits ----------------------------------------------------------------------------------- */

Test(span, beyond_the_slots_a_span_is_not_recorded_and_is_counted)
{
	blix_span spans[64];
	uint32_t recorded = 0;

	open_with(2, 2);
	for (int i = 0; i < 64; i++) {
		spans[i] = begin("many");
		recorded += (uint32_t)blix_span_is_recorded(spans[i]);
	}
	cr_expect_lt(recorded, 64u);
	cr_expect_geq(recorded, 2u);
	cr_expect_eq(drops_of(BLIX_DROP_SPAN, BLIX_DROP_OPEN_LIMIT), 64u - recorded);
	for (int i = 0; i < 64; i++)
		blix_span_end(spans[i]);
	look();
	cr_expect_eq(file.n, recorded);
}

Test(span, attributes_beyond_the_count_are_dropped_and_counted)
{
	const struct record_read *r;
	blix_span span;

	setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3", 1);
	open_with(4, 8);
	span = begin("three");
	for (int i = 0; i < 5; i++)
		blix_span_i64(span, BLIX_KEY("n"), i);
	blix_span_end(span);
	r = the_span("three");
	cr_expect_eq(r->items_len, 3u * 16);
	cr_expect_eq(r->span.dropped_attrs, 2);
	cr_expect_eq(r->flags, BLIX_REC_TRUNCATED);
}

Test(span, a_full_slot_drops_and_counts_and_keeps_what_it_has)
{
	const struct record_read *r;
	const struct blix_context other = {.trace_id = {1}, .span_id = {1}};
	struct blix_item_seen item;
	blix_span span;

	open_with(4, 8);
	span = begin("full");
	for (int i = 0; i < 100; i++)
		blix_span_i64(span, BLIX_KEY("n"), i);
	blix_span_event(span, "no.room");
	blix_span_link(span, &other);
	blix_span_str(span, BLIX_KEY("text"), "no room");
	blix_span_end(span);
	r = the_span("full");
	cr_expect_eq(r->items_len, 896u);
	cr_expect(file_records_item(&file, file_records_items(r), BLIX_ITEM_I64, "n", 55, &item));
	cr_expect_eq(r->span.dropped_attrs, 100 - 56 + 1);
	cr_expect_eq(r->span.dropped_events, 1);
	cr_expect_eq(r->span.dropped_links, 1);
}

/* Both calls: they lay the bytes of a last word together each on a way of its own. */
Test(span, texts_of_every_length_are_recorded_as_they_are)
{
	const char *const whole = "abcdefghijklmnopqrstuvwxyz";
	open_with(4, 8);
	for (size_t len = 0; len <= 26; len++) {
		const struct record_read *r;
		struct blix_item_seen item;
		char name[16];
		blix_span span;
		struct blix_attr attr = blix_attr_text(BLIX_KEY("in.a.run"), whole, len);

		snprintf(name, sizeof(name), "length %zu", len);
		span = begin(name);
		blix_span_text(span, BLIX_KEY("alone"), whole, len);
		blix_span_attrs(span, &attr, 1);
		blix_span_end(span);
		r = the_span(name);
		for (int i = 0; i < 2; i++) {
			uint8_t padded[32] = {0};

			memcpy(padded, whole, len);
			cr_assert(file_records_item(&file, file_records_items(r), BLIX_ITEM_STRING,
						    i ? "in.a.run" : "alone", 0, &item));
			cr_expect_eq(item.head.len, len);
			cr_expect_arr_eq(item.value, padded, (len + 7) & ~(size_t)7,
					 "with zeros up to a whole word");
		}
	}
}

Test(span, long_texts_are_cut_between_characters)
{
	struct blix_item_seen item;
	const struct record_read *r;
	char text[1001];

	/* Characters of three bytes, so that the slot ends within one. */
	for (int i = 0; i < 999; i += 3)
		memcpy(text + i, "\xe2\x82\xac", 3);
	text[999] = '\0';
	open_with(4, 8);
	blix_span span = begin("long");
	blix_span_str(span, BLIX_KEY("text"), text);
	blix_span_end(span);
	r = the_span("long");
	cr_assert(file_records_item(&file, file_records_items(r), BLIX_ITEM_STRING, "text", 0,
				    &item));
	cr_expect_eq(item.head.flags, BLIX_ITEM_CUT);
	cr_expect_eq(item.head.len, 888 / 3 * 3);
	cr_expect_arr_eq(item.value, text, item.head.len);
}

Test(span, the_length_limit_counts_characters)
{
	struct blix_item_seen item;
	const struct record_read *r;
	blix_span span;

	setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "2", 1);
	open_with(4, 8);
	span = begin("limited");
	blix_span_str(span, BLIX_KEY("long"), "\xe2\x82\xac\xc3\xa4z");
	blix_span_str(span, BLIX_KEY("fits"), "\xe2\x82\xac\xc3\xa4");
	blix_span_end(span);
	r = the_span("limited");
	cr_assert(file_records_item(&file, file_records_items(r), BLIX_ITEM_STRING, "long", 0,
				    &item));
	cr_expect_eq(item.head.len, 5);
	cr_expect_eq(item.head.flags, BLIX_ITEM_CUT);
	cr_assert(file_records_item(&file, file_records_items(r), BLIX_ITEM_STRING, "fits", 0,
				    &item));
	cr_expect_eq(item.head.len, 5);
	cr_expect_eq(item.head.flags, 0);
}

/* ---- names ------------------------------------------------------------------------------------ */

Test(span, names_are_the_same_handle_before_and_after_open)
{
	blix_name early = blix_name_of("raft.propose");
	blix_key key = blix_key_of("raft.term");

	open_with(4, 8);
	cr_expect_eq(blix_name_of("raft.propose").id, early.id);
	cr_expect_eq(blix_name_of("raft.propose").index, early.index);
	cr_expect_eq(blix_key_of("raft.term").id, key.id);
	blix_close();
	open_with(4, 8);
	blix_span span = blix_span_begin(early, BLIX_INTERNAL, &root);
	blix_span_i64(span, key, 3);
	blix_span_end(span);
	cr_expect_eq(word_of(the_span("raft.propose"), BLIX_ITEM_I64, "raft.term"), 3u);
}

Test(span, when_the_table_is_full_the_name_is_overflow_and_counted)
{
	char name[200];
	blix_key last = {0}, overflow = blix_key_of("overflow");

	open_with(4, 8);
	for (int i = 0; i < 2000 && last.id != overflow.id; i++) {
		snprintf(name, sizeof(name), "%0190d", i);
		last = blix_key_of(name);
	}
	cr_expect_eq(last.id, overflow.id);
	cr_expect_geq(stat_of(BLIX_STAT_STRINGS_FULL), 1u);
	cr_expect_eq(blix_key_of("").id, 0u);
	cr_expect_eq(blix_key_of(NULL).id, 0u);
}

Test(span, a_span_without_a_name_is_called_overflow)
{
	open_with(4, 8);
	blix_span_end(blix_span_begin((blix_name){0}, BLIX_INTERNAL, &root));
	(void)the_span("overflow");
}

Test(span, more_names_than_thresholds_still_work)
{
	char name[16];

	open_with(4, 8);
	for (int i = 0; i < 1100; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		(void)blix_name_of(name);
	}
	blix_span_end(begin("n1099"));
	(void)the_span("n1099");
}

/* ---- exemplars -------------------------------------------------------------------------------- */

static struct blix_exemplar exemplar_at(uint32_t index)
{
	struct blix_exemplar exemplar;

	look();
	memcpy(&exemplar, blix_view_exemplar(blix_map_view(file.map), index), sizeof(exemplar));
	return exemplar;
}

Test(span, values_recorded_within_a_span_leave_an_exemplar)
{
	blix_counter counter = blix_counter_of(BLIX_raft_proposals_total);
	blix_histogram hist = blix_histogram_of(BLIX_raft_proposal_duration_seconds);
	blix_histogram other = blix_histogram_of(BLIX_grpc_request_duration_seconds, "CreateVm");
	struct blix_exemplar e;
	blix_span span;

	open_with(4, 8);
	blix_add(counter, 5);
	cr_expect_eq(exemplar_at(counter.exemplar).seq, 0u, "outside of any span");
	span = begin("exemplary");
	{
		BLIX_SCOPE(span);
		blix_add(counter, 7);
		blix_observe_ns(hist, 1);
	}
	blix_observe_ns(other, 1);
	e = exemplar_at(counter.exemplar);
	cr_expect_eq(e.value, 7u);
	cr_expect_arr_eq(e.trace_id, span.trace_id, 16);
	cr_expect_arr_eq(e.span_id, span.span_id, 8);
	cr_expect_leq(e.t_ns, blix_now_ns());
	e = exemplar_at(hist.exemplar);
	cr_expect_eq(e.value, 1u);
	cr_expect_eq(e.bucket, 0u);
	cr_expect_eq(exemplar_at(other.exemplar).seq, 0u, "after the span");
	blix_span_end(span);
}

Test(span, a_young_exemplar_stays)
{
	blix_counter counter = blix_counter_of(BLIX_raft_proposals_total);
	blix_span span;

	open_with(4, 8);
	span = begin("exemplary");
	BLIX_SCOPE(span);
	blix_add(counter, 7);
	blix_add(counter, 8);
	cr_expect_eq(exemplar_at(counter.exemplar).value, 7u);
	blix_span_end(span);
}

Test(span, exemplars_can_be_switched_off)
{
	blix_counter counter = blix_counter_of(BLIX_raft_proposals_total);
	blix_span span;

	setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_off", 1);
	open_with(4, 8);
	span = begin("not exemplary");
	BLIX_SCOPE(span);
	blix_add(counter, 7);
	cr_expect_eq(exemplar_at(counter.exemplar).seq, 0u);
	blix_span_end(span);
}

/* ---- interrupted ------------------------------------------------------------------------------ */

Test(span, what_a_signal_handler_records_within_a_change_is_dropped_and_counted)
{
	blix_span open_before, inner;

	open_with(4, 8);
	open_before = begin("interrupted");
	cr_assert(blix_thread_enter(&blix_thread_)); /* as if in the midst of a change */
	inner = begin("in the handler");
	blix_log(BLIX_ERROR, "in the handler");
	blix_span_i64(open_before, BLIX_KEY("n"), 1);
	blix_span_end(open_before);
	blix_thread_leave(&blix_thread_);
	cr_expect_not(blix_span_is_recorded(inner));
	cr_expect_eq(drops_of(BLIX_DROP_SPAN, BLIX_DROP_REENTRANT), 2u);
	cr_expect_eq(drops_of(BLIX_DROP_LOG, BLIX_DROP_REENTRANT), 1u);
	cr_expect_eq(stat_of(BLIX_STAT_STALE_HANDLE), 1u);
	cr_expect_eq(file.n, 0u);
	blix_span_end(begin("afterwards"));
	(void)the_span("afterwards");
}

Test(span, more_carrying_spans_than_there_is_room_for_are_counted_and_let_go)
{
	struct blix_context with = {.trace_id = {1}, .span_id = {1}, .baggage_len = 3};
	static blix_span spans[1100];
	uint32_t carried = 0;

	memcpy(with.baggage, "a=1", 3);
	open_with(4, 8);
	for (int round = 0; round < 2; round++) {
		carried = 0;
		for (int i = 0; i < 1100; i++) {
			spans[i] = blix_span_begin(BLIX_NAME("c"), BLIX_INTERNAL, &with);
			carried += spans[i].carried != 0;
		}
		cr_expect(carried > 900 && carried <= 1024, "%u", carried);
		for (int i = 0; i < 1100; i++)
			blix_span_end(spans[i]);
	}
	cr_expect_geq(stat_of(BLIX_STAT_CARRIED_FULL), 76u * 2);
	spans[0] = blix_span_begin(BLIX_NAME("c"), BLIX_INTERNAL, &with);
	cr_expect_eq(blix_context_of(spans[0]).baggage_len, 3);
	blix_span_end(spans[0]);
	cr_expect_eq(blix_context_of(spans[0]).baggage_len, 0);
	blix_span_end(spans[0]); /* twice: lets go of nothing else */
}

/* ---- the guide's calls -------------------------------------------------------------------------- */

static uint64_t counted(blix_counter counter)
{
	const struct blix_view *view;
	uint64_t sum = 0;

	look();
	view = blix_map_view(file.map);
	for (uint32_t lane = 0; lane < view->n_lanes; lane++)
		sum += blix_view_cells(view, lane)[counter.cell];
	return sum;
}

Test(span, grpc_requests_are_counted_and_fail_by_the_servers_codes)
{
	static const struct {
		int status;
		const char *code; /* NULL: the caller's fault, or none */
	} rows[] = {
		{0, NULL},
		{1, NULL},
		{2, "UNKNOWN"},
		{3, NULL},
		{4, "DEADLINE_EXCEEDED"},
		{5, NULL},
		{6, NULL},
		{7, NULL},
		{8, "RESOURCE_EXHAUSTED"},
		{9, NULL},
		{10, NULL},
		{11, NULL},
		{12, "UNIMPLEMENTED"},
		{13, "INTERNAL"},
		{14, "UNAVAILABLE"},
		{15, "DATA_LOSS"},
		{16, NULL},
	};
	blix_grpc_method method;

	open_with(4, 8);
	method = blix_grpc_method_of("CreateVm");
	cr_expect_eq(blix_grpc_method_of("CreateVm").index, method.index);
	for (size_t i = 0; i < 17; i++)
		for (size_t k = 0; k <= i; k++)
			blix_record_grpc_request(method, 1000, rows[i].status);
	cr_expect_eq(counted(blix_counter_of(BLIX_grpc_requests_total, "CreateVm")), 153u);
	for (size_t i = 0; i < 17; i++)
		if (rows[i].code)
			cr_expect_eq(counted(blix_counter_of(BLIX_grpc_requests_failed_total,
							     "CreateVm", rows[i].code)),
				     i + 1, "%s", rows[i].code);
	blix_record_grpc_request(method, 1000, 99); /* no code: UNKNOWN */
	cr_expect_eq(
		counted(blix_counter_of(BLIX_grpc_requests_failed_total, "CreateVm", "UNKNOWN")),
		4u);
	blix_record_grpc_request((blix_grpc_method){0}, 1000, 0);
	cr_expect_eq(counted(blix_counter_of(BLIX_grpc_requests_total, "other")), 1u);
}

Test(span, storage_operations_and_proposals_are_counted)
{
	blix_storage_table table;

	open_with(4, 8);
	table = blix_storage_table_of("raft_log");
	blix_record_storage_operation(table, BLIX_STORAGE_WRITE, 1000, 0);
	blix_record_storage_operation(table, BLIX_STORAGE_WRITE, 1000, -5);
	blix_record_storage_operation(table, BLIX_STORAGE_READ, 1000, 0);
	blix_record_storage_operation(table, BLIX_STORAGE_SYNC, 1000, -5);
	blix_record_storage_operation((blix_storage_table){99}, BLIX_STORAGE_READ, 1000, 0);
	cr_expect_eq(counted(blix_counter_of(BLIX_storage_writes_total, "raft_log")), 2u);
	cr_expect_eq(counted(blix_counter_of(BLIX_storage_reads_total, "raft_log")), 1u);
	cr_expect_eq(counted(blix_counter_of(BLIX_storage_reads_total, "other")), 1u);
	cr_expect_eq(counted(blix_counter_of(BLIX_storage_errors_total, "write")), 1u);
	cr_expect_eq(counted(blix_counter_of(BLIX_storage_errors_total, "sync")), 1u);
	blix_record_raft_proposal(1000, BLIX_RAFT_COMMITTED);
	blix_record_raft_proposal(1000, BLIX_RAFT_TIMEOUT);
	cr_expect_eq(counted(blix_counter_of(BLIX_raft_proposals_total)), 2u);
	cr_expect_eq(counted(blix_counter_of(BLIX_raft_proposals_failed_total, "timeout")), 1u);
}
