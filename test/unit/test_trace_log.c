/* Goal: a log call becomes one record with body, attributes and ids; what is too much, too long or
 * too unimportant is not written, and is counted.
 * Method: log through the public header, read the file as any process could. */
#include "node-hooks/blixard_hooks.h"
#include "test/support/file_records.h"
#include "test/support/scratch.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct scratch scratch;
static struct file_records file;

static void setup(void)
{
	unsetenv("BLIXARD_LOG_LEVEL");
	unsetenv("BLIXARD_LOG_RATE");
	unsetenv("BLIXARD_LOG_BURST");
	unsetenv("OTEL_ATTRIBUTE_COUNT_LIMIT");
	scratch = scratch_new(NULL);
}

static void teardown(void)
{
	if (file.of)
		file_records_free(&file);
	blix_close();
	scratch_remove(&scratch);
}

TestSuite(trace_log, .init = setup, .fini = teardown);

static void open_it(uint32_t ring_bytes)
{
	struct blix_identity identity = {.lanes = 4, .ring_bytes = ring_bytes, .slots = 8};

	cr_assert_eq(blix_open(scratch.path, &identity), 0, "%s", blix_status().reason);
}

static const struct record_read *the_log(const char *body)
{
	const struct record_read *log;

	if (file.of)
		file_records_free(&file);
	file = file_records_read(scratch.path);
	log = file_records_log(&file, body, 0);
	cr_assert_not_null(log, "no log \"%s\"", body);
	return log;
}

Test(trace_log, a_log_carries_body_attributes_and_the_ids_of_the_current_span)
{
	const struct record_read *r;
	uint64_t before_ns, took = 0;
	char name[16];
	blix_span span;

	open_it(64 << 10);
	before_ns = blix_now_ns();
	span = blix_span_begin(BLIX_NAME("s"), BLIX_INTERNAL, NULL);
	{
		BLIX_SCOPE(span);
		blix_log(BLIX_INFO, "vm created", BLIX_STR("vm.name", "vm-1"),
			 BLIX_I64("took_ms", 12));
	}
	blix_log_event(BLIX_ERROR, "raft.leader.lost", "leader lost");
	r = the_log("vm created");
	cr_expect_eq(r->log.severity, BLIX_INFO);
	cr_expect_eq(r->flags, 0);
	cr_expect_eq(r->log.event_id, BLIX_NO_ID);
	cr_expect_arr_eq(r->log.trace_id, span.trace_id, 16);
	cr_expect_arr_eq(r->log.span_id, span.span_id, 8);
	cr_expect_eq(r->log.trace_flags, span.trace_flags);
	cr_expect(r->t_ns >= before_ns && r->t_ns <= blix_now_ns());
	cr_expect(file_records_text(&file, r, "vm.name", name, sizeof(name)));
	cr_expect_str_eq(name, "vm-1");
	cr_expect(file_records_word(&file, r, BLIX_ITEM_I64, "took_ms", &took));
	cr_expect_eq(took, 12u);
	r = the_log("leader lost");
	cr_expect_str_eq(file_records_string(&file, r->log.event_id), "raft.leader.lost");
	cr_expect_eq(r->flags, BLIX_REC_PRIORITY);
	cr_expect_arr_eq(r->log.trace_id, (uint8_t[16]){0}, 16);
	blix_span_end(span);
}

Test(trace_log, a_body_is_cut_at_1_KiB_between_characters)
{
	struct blix_item_seen item;
	char body[2000];

	for (int i = 0; i < 1998; i += 3)
		memcpy(body + i, "\xe2\x82\xac", 3);
	body[1998] = '\0';
	open_it(64 << 10);
	blix_log(BLIX_INFO, body);
	file = file_records_read(scratch.path);
	cr_assert_eq(file.n, 1u);
	cr_assert(file_records_item(&file, file_records_items(&file.of[0]), BLIX_ITEM_BODY, NULL, 0,
				    &item));
	cr_expect_eq(item.head.len, 1023);
	cr_expect_eq(item.head.flags, BLIX_ITEM_CUT);
}

Test(trace_log, the_largest_log_fits_the_smallest_ring)
{
	struct blix_attr attrs[200];
	char body[1025];

	memset(body, 'x', 1024);
	body[1024] = '\0';
	open_it(16 << 10);
	for (int i = 0; i < 200; i++)
		attrs[i] = BLIX_I64("n", i);
	blix_log_write(NULL, BLIX_INFO, (blix_key){0}, body, attrs, 200);
	file = file_records_read(scratch.path);
	cr_assert_eq(file.n, 1u);
	cr_expect_eq(file.of[0].items_len, 1032u + 59 * 16);
	cr_expect_eq(file.of[0].log.dropped_attrs, 200 - 59);
	cr_expect_eq(file.of[0].flags, BLIX_REC_TRUNCATED);
}

Test(trace_log, a_call_site_that_is_too_fast_is_held_back_and_says_so)
{
	uint64_t suppressed = 0;

	setenv("BLIXARD_LOG_RATE", "10", 1);
	setenv("BLIXARD_LOG_BURST", "5", 1);
	open_it(64 << 10);
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < (i ? 1 : 20); k++)
			blix_log(BLIX_INFO, "again");
		if (i == 0) /* until the site may write again */
			for (uint64_t from_ns = blix_now_ns(); blix_now_ns() - from_ns < 250000000;)
				;
	}
	blix_log(BLIX_INFO, "another site");
	cr_expect_null((the_log("another site"), file_records_log(&file, "again", 21)));
	cr_expect_geq(blix_map_drops(file.map, BLIX_DROP_LOG, BLIX_DROP_RATE_LIMITED), 14u);
	cr_expect_eq(file.n + blix_map_drops(file.map, BLIX_DROP_LOG, BLIX_DROP_RATE_LIMITED), 22u);
	cr_expect_not(file_records_word(&file, the_log("again"), BLIX_ITEM_I64,
					"blixard.log.suppressed", &suppressed));
	setenv("BLIXARD_LOG_RATE", "0", 1);
}

/* One call site, as a function. */
static void say(const char *body)
{
	blix_log(BLIX_INFO, body);
}

Test(trace_log, the_next_record_says_how_many_were_suppressed)
{
	uint64_t suppressed = 0;
	uint64_t from_ns;

	setenv("BLIXARD_LOG_RATE", "10", 1);
	setenv("BLIXARD_LOG_BURST", "1", 1);
	open_it(64 << 10);
	from_ns = blix_now_ns();
	say("first");
	for (int i = 0; i < 7; i++)
		say("held back");
	if (blix_now_ns() - from_ns > 90000000)
		return; /* the machine slept: some of them may have been due */
	while (blix_now_ns() - from_ns < 250000000)
		;
	say("after");
	cr_expect(file_records_word(&file, the_log("after"), BLIX_ITEM_I64,
				    "blixard.log.suppressed", &suppressed));
	cr_expect_eq(suppressed, 7u);
}

Test(trace_log, below_the_level_nothing_is_written_and_nothing_evaluated)
{
	int evaluated = 0;

	setenv("BLIXARD_LOG_LEVEL", "warn", 1);
	open_it(64 << 10);
	blix_log(BLIX_WARN - 1, "below", BLIX_I64("n", ++evaluated));
	blix_log(BLIX_WARN, "at", BLIX_I64("n", ++evaluated));
	cr_expect_not_null(the_log("at"));
	cr_expect_eq(file.n, 1u);
	cr_expect_eq(evaluated, 1);
}

Test(trace_log, off_writes_nothing)
{
	setenv("BLIXARD_LOG_LEVEL", "off", 1);
	open_it(64 << 10);
	blix_log(BLIX_FATAL, "nothing");
	file = file_records_read(scratch.path);
	cr_expect_eq(file.n, 0u);
}

Test(trace_log, before_open_and_after_close_it_does_nothing)
{
	blix_log(BLIX_FATAL, "before");
	open_it(64 << 10);
	blix_close();
	blix_log(BLIX_FATAL, "after");
}
