/* Goal: a slow wait becomes a child of the span that waited, with its own times, and a log record;
 * without a sampled span there is no span. Method: one made-up event, and an arena with no room. */
#include "agent/input/storage_items.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static const uint8_t id[8] = {9, 8, 7};
static struct storage_slow_event event;
static struct arena memory;

static void setup(void)
{
	arena_init(&memory, 1 << 16);
	event = (struct storage_slow_event){
		.valid = true,
		.sampled = true,
		.trace_id = {1, 2, 3},
		.span_id = {4, 5, 6},
		.tid = 77,
		.start_ns = 1000000000,
		.end_ns = 1034000000,
		.start_unix_ns = UINT64_C(1700000000000000000),
		.end_unix_ns = UINT64_C(1700000000034000000),
		.call = "fdatasync",
		.hook = "tracepoint",
		.device = "vda",
		.flush_ns = 30000000,
	};
}

static void teardown(void)
{
	arena_done(&memory);
}

TestSuite(storage_items, .init = setup, .fini = teardown);

static const struct batch_value *find(const struct batch_attrs *attrs, const char *key)
{
	for (uint32_t i = 0; i < attrs->n; i++)
		if (attrs->at[i].key.len == strlen(key) &&
		    memcmp(attrs->at[i].key.at, key, strlen(key)) == 0)
			return &attrs->at[i].value;
	return NULL;
}

Test(storage_items, a_slow_wait_is_a_child_of_the_span_that_waited)
{
	struct batch_span span = {0};

	cr_assert_eq(storage_span(&event, id, &memory, &span), 0);
	cr_expect_arr_eq(span.trace_id, event.trace_id, 16);
	cr_expect_arr_eq(span.parent_id, event.span_id, 8);
	cr_expect_arr_eq(span.span_id, id, 8);
	cr_expect_eq(span.end_unix_ns - span.start_unix_ns, 34000000);
	cr_expect(span.name.len == 13 && memcmp(span.name.at, "storage.fsync", 13) == 0);
	cr_expect_eq(span.kind, 1);
	cr_expect_eq(span.flags, 1 | BATCH_FLAG_HAS_IS_REMOTE, "the parent is in the same process");
	cr_expect_eq(span.status, 0);
	cr_expect_float_eq(find(&span.attrs, "blixard.storage.overlapping_flush_ms")->f64, 30,
			   1e-9);
	cr_expect(find(&span.attrs, "blixard.storage.device")->n == 3);
	cr_expect_null(find(&span.attrs, "error.code"));
}

Test(storage_items, the_device_outlives_the_event)
{
	char name[] = "nvme0n1";
	struct batch_span span = {0};

	event.device = name;
	cr_assert_eq(storage_span(&event, id, &memory, &span), 0);
	memset(name, 'x', sizeof(name) - 1);
	cr_expect_arr_eq(find(&span.attrs, "blixard.storage.device")->text, "nvme0n1", 7);
}

Test(storage_items, a_failed_call_is_an_error)
{
	struct batch_span span = {0};

	event.result = -5;
	cr_assert_eq(storage_span(&event, id, &memory, &span), 0);
	cr_expect_eq(span.status, 2);
	cr_expect_eq(find(&span.attrs, "error.code")->i64, -5);
}

Test(storage_items, without_a_sampled_span_there_is_none_but_still_a_log_record)
{
	struct batch_span span = {.kind = 42};
	struct batch_log log = {0};
	const uint8_t nobody[16] = {0};

	event.sampled = false;
	cr_expect_eq(storage_span(&event, id, &memory, &span), -EINVAL);
	event.valid = false;
	cr_expect_eq(storage_span(&event, id, &memory, &span), -EINVAL);
	cr_expect_eq(span.kind, 42, "left alone");
	event.device = "";
	cr_assert_eq(storage_log(&event, 0, &memory, &log), 0);
	cr_expect_arr_eq(log.trace_id, nobody, 16);
	cr_expect_eq(log.severity, 13);
	cr_expect_null(find(&log.attrs, "blixard.storage.device"));
	cr_expect_arr_eq(log.body.at, "waited 34.0 ms in fdatasync on an unknown device",
			 log.body.len);
}

Test(storage_items, a_log_record_says_how_many_waits_had_none)
{
	struct batch_log log = {0};

	event.result = -5; /* the most attributes there can be */
	cr_assert_eq(storage_log(&event, 41, &memory, &log), 0);
	cr_expect_eq(find(&log.attrs, "blixard.storage.unreported_waits")->i64, 41);
	cr_expect_eq(find(&log.attrs, "error.code")->i64, -5);
	cr_assert_eq(storage_log(&event, 0, &memory, &log), 0);
	cr_expect_null(find(&log.attrs, "blixard.storage.unreported_waits"));
}

Test(storage_items, an_arena_without_room_is_told)
{
	struct batch_span span = {.kind = 42};
	struct batch_log log = {.severity = 42};

	arena_done(&memory);
	arena_init(&memory, 1);
	cr_expect_eq(storage_span(&event, id, &memory, &span), -ENOSPC);
	cr_expect_eq(storage_log(&event, 0, &memory, &log), -ENOSPC);
	cr_expect_eq(span.kind, 42);
	cr_expect_eq(log.severity, 42);
}
