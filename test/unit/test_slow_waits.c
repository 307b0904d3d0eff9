/* Goal: every slow wait of a sampled trace reaches the outputs as a span below the one that waited,
 * redacted, in time, in the batch of its own node life; log records are rare and say what they stand
 * for; whatever is lost is counted.
 * Method: made-up events and a receiver that keeps, releases or abandons what it gets. */
#include "agent/input/slow_waits.h"

#include <criterion/criterion.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)

enum { KEPT_MAX = 64, SPANS_DELAY_MS = 5000, LOGS_DELAY_MS = 1000 };

static struct storage_slow_event event;
static struct batch_resource *life;
static struct slow_waits *waits;
static struct batch *kept[KEPT_MAX];
static uint32_t n_kept, processed;
static bool release;

static void on_process(void *arg, struct batch *b)
{
	(void)arg;
	cr_assert(!b->sealed, "what is sealed cannot be redacted any more");
	processed++;
}

static void on_batch(void *arg, struct batch *b)
{
	(void)arg;
	cr_assert(b->sealed && b->n > 0);
	cr_assert_eq(b->n_origins, 0, "no ring can give it again");
	cr_assert(n_kept < KEPT_MAX);
	if (release)
		batch_release(b);
	else
		kept[n_kept++] = b;
}

static struct slow_waits *start(bool traces, bool logs)
{
	const struct slow_waits_options options = {
		.wants = {[BATCH_TRACES] = traces, [BATCH_LOGS] = logs},
		.delay_ms = {[BATCH_TRACES] = SPANS_DELAY_MS, [BATCH_LOGS] = LOGS_DELAY_MS},
		.process = on_process,
		.batch = on_batch,
	};
	struct slow_waits *w = slow_waits_new(&options);

	cr_assert_not_null(w);
	return w;
}

static void release_kept(void)
{
	for (uint32_t i = 0; i < n_kept; i++)
		batch_release(kept[i]);
	n_kept = 0;
}

static void setup(void)
{
	n_kept = processed = 0;
	release = false;
	life = batch_resource_new();
	cr_assert_not_null(life);
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
		.hook = "fentry",
		.device = "vda",
	};
}

static void teardown(void)
{
	release_kept();
	waits = slow_waits_free(waits);
	batch_resource_release(life);
}

TestSuite(slow_waits, .init = setup, .fini = teardown, .timeout = 60);

Test(slow_waits, each_becomes_a_span_with_an_id_of_its_own_and_one_in_ten_seconds_a_log_record)
{
	const struct batch_span *spans;

	waits = start(true, true);
	for (int i = 0; i < 3; i++)
		slow_waits_add(waits, life, &event, 1);
	slow_waits_flush(waits);
	cr_assert_eq(n_kept, 2);
	cr_expect_eq(processed, 2);
	cr_assert_eq(kept[0]->signal, BATCH_TRACES);
	cr_assert_eq(kept[0]->n, 3);
	spans = kept[0]->spans;
	for (int i = 0; i < 3; i++) {
		cr_expect_arr_eq(spans[i].trace_id, event.trace_id, 16);
		cr_expect_arr_eq(spans[i].parent_id, event.span_id, 8);
		cr_expect_arr_neq(spans[i].span_id, spans[(i + 1) % 3].span_id, 8);
		cr_expect_arr_neq(spans[i].span_id, event.span_id, 8);
	}
	cr_assert_eq(kept[1]->n, 1);
	cr_expect_arr_eq(kept[1]->logs[0].trace_id, event.trace_id, 16);
	cr_expect_arr_eq(kept[1]->logs[0].span_id, event.span_id, 8);
	cr_expect_eq(slow_waits_dropped(waits), 0);
}

Test(slow_waits, the_next_log_record_says_how_many_waits_had_none)
{
	const struct batch_attrs *attrs;

	waits = start(false, true);
	for (uint64_t i = 0; i < 5; i++)
		slow_waits_add(waits, life, &event, 1 + i);
	slow_waits_add(waits, life, &event, SLOW_WAITS_LOG_NS); /* a nanosecond too early */
	slow_waits_add(waits, life, &event, 1 + SLOW_WAITS_LOG_NS);
	slow_waits_flush(waits);
	cr_assert_eq(n_kept, 1);
	cr_assert_eq(kept[0]->n, 2);
	attrs = &kept[0]->logs[1].attrs;
	cr_expect_eq(attrs->at[attrs->n - 1].value.i64, 5);
	cr_expect_eq(slow_waits_dropped(waits), 0, "muted is not lost");
}

Test(slow_waits, without_a_sampled_span_there_is_but_the_log_record)
{
	waits = start(true, true);
	event.sampled = false;
	slow_waits_add(waits, life, &event, 1);
	event.valid = false;
	slow_waits_add(waits, life, &event, 2);
	slow_waits_flush(waits);
	cr_assert_eq(n_kept, 1);
	cr_expect_eq(kept[0]->signal, BATCH_LOGS);
	cr_expect_eq(slow_waits_dropped(waits), 0);
}

Test(slow_waits, nothing_is_made_of_what_nobody_wants)
{
	waits = start(false, false);
	slow_waits_add(waits, life, &event, 1);
	cr_expect_eq(slow_waits_due_ms(waits, 1), UINT32_MAX);
	slow_waits_flush(waits);
	cr_expect_eq(n_kept, 0);
}

Test(slow_waits, they_wait_for_company_as_long_as_the_schedule_says_and_no_longer)
{
	const uint64_t at = 7 * NS_PER_MS;

	waits = start(true, false);
	cr_expect_eq(slow_waits_due_ms(waits, at), UINT32_MAX);
	slow_waits_add(waits, life, &event, at);
	slow_waits_add(waits, life, &event, at + 4000 * NS_PER_MS);
	cr_expect_eq(slow_waits_due_ms(waits, at + 4999 * NS_PER_MS), 1, "since the first one");
	slow_waits_turn(waits, at + 4999 * NS_PER_MS);
	cr_expect_eq(n_kept, 0);
	slow_waits_turn(waits, at + 5000 * NS_PER_MS);
	cr_assert_eq(n_kept, 1);
	cr_expect_eq(kept[0]->n, 2);
	cr_expect_eq(slow_waits_due_ms(waits, at + 5000 * NS_PER_MS), UINT32_MAX);
}

Test(slow_waits, a_full_batch_does_not_wait)
{
	waits = start(true, false);
	for (int i = 0; i < BATCH_ITEMS_MAX - 1; i++)
		slow_waits_add(waits, life, &event, 1);
	slow_waits_turn(waits, 1);
	cr_expect_eq(n_kept, 0);
	slow_waits_add(waits, life, &event, 1);
	cr_expect_eq(slow_waits_due_ms(waits, 1), 0);
	slow_waits_turn(waits, 1);
	cr_assert_eq(n_kept, 1);
	cr_expect_eq(kept[0]->n, BATCH_ITEMS_MAX);
}

Test(slow_waits, two_lives_of_a_node_do_not_share_a_batch)
{
	struct batch_resource *next = batch_resource_new();

	waits = start(true, false);
	slow_waits_add(waits, life, &event, 1);
	slow_waits_add(waits, next, &event, 2);
	slow_waits_turn(waits, 3);
	cr_assert_eq(n_kept, 1, "nothing more can come to the first");
	cr_expect_eq(kept[0]->resource, life);
	slow_waits_flush(waits);
	cr_assert_eq(n_kept, 2);
	cr_expect_eq(kept[1]->resource, next);
	batch_resource_release(next);
}

/* Nothing is handed over between turns, so a burst needs room for all of it. */
Test(slow_waits, more_than_the_bound_is_counted_and_room_comes_back)
{
	enum { ROOM = SLOW_WAITS_BATCHES_MAX * BATCH_ITEMS_MAX };

	waits = start(true, false);
	for (int i = 0; i < ROOM; i++)
		slow_waits_add(waits, life, &event, 1);
	cr_expect_eq(slow_waits_dropped(waits), 0);
	cr_expect_eq(n_kept, 0, "filling hands nothing over");
	slow_waits_add(waits, life, &event, 1);
	cr_expect_eq(slow_waits_dropped(waits), 1);
	slow_waits_turn(waits, 1);
	cr_expect_eq(n_kept, SLOW_WAITS_BATCHES_MAX);
	slow_waits_add(waits, life, &event, 1);
	cr_expect_eq(slow_waits_dropped(waits), 2, "the receiver still has them");
	release_kept();
	slow_waits_add(waits, life, &event, 1);
	cr_expect_eq(slow_waits_dropped(waits), 2);
	slow_waits_flush(waits);
	cr_expect_eq(n_kept, 1);
}

Test(slow_waits, what_the_receiver_gives_up_is_lost_and_counted)
{
	waits = start(true, false);
	slow_waits_add(waits, life, &event, 1);
	slow_waits_add(waits, life, &event, 1);
	slow_waits_flush(waits);
	cr_assert_eq(n_kept, 1);
	batch_abandon(kept[0]);
	n_kept = 0;
	cr_expect_eq(slow_waits_dropped(waits), 2);
	release = true;
	slow_waits_add(waits, life, &event, 1);
	slow_waits_flush(waits);
	cr_expect_eq(slow_waits_dropped(waits), 2);
}

/* Under the address sanitizer this is also where a use after free would show. */
Test(slow_waits, batches_outlive_what_made_them)
{
	waits = start(true, true);
	slow_waits_add(waits, life, &event, 1);
	slow_waits_flush(waits);
	slow_waits_add(waits, life, &event, 2);
	waits = slow_waits_free(waits);
	cr_assert_eq(n_kept, 2);
	cr_expect_arr_eq(kept[0]->spans[0].trace_id, event.trace_id, 16);
	batch_abandon(kept[0]);
	batch_release(kept[1]);
	n_kept = 0;
	cr_expect_null(slow_waits_free(NULL));
}
