/* Goal: whatever a destination answers, each item is answered for once, its batch is held exactly as long
 * as nobody else has it, and the pipe's figures add up.
 * Method: a pipe with a transport that is a list in this test, a clock that is a variable, and, where rows
 * are wanted, a real spool in a scratch directory. */
#include "agent/export/pipe.h"

#include "agent/export/backoff.h"
#include "test/support/scratch.h"
#include "test/support/spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define S_NS UINT64_C(1000000000)

/* ---- a transport that remembers --------------------------------------------------------------- */

enum { SENT_MAX = 64 };

static struct sent {
	transport_done done;
	void *arg;
	uint32_t first, n; /* as the encoder wrote them */
	bool answered;
} sent[SENT_MAX];
static uint32_t n_sent;
static int refuse_sending;

static int fake_send(void *transport, const struct transport_request *request, transport_done done,
		     void *arg)
{
	uint32_t numbers[2] = {0, 0};

	(void)transport;
	if (refuse_sending)
		return refuse_sending;
	cr_assert_lt(n_sent, SENT_MAX);
	if (request->len >= sizeof(numbers))
		memcpy(numbers, request->body, sizeof(numbers));
	sent[n_sent++] =
		(struct sent){.done = done, .arg = arg, .first = numbers[0], .n = numbers[1]};
	return 0;
}

static void answer(uint32_t i, enum verdict_kind kind, uint64_t rejected, uint32_t delay_ms)
{
	struct verdict v = {.kind = kind, .rejected = rejected, .delay_ms = delay_ms};

	cr_assert_lt(i, n_sent);
	cr_assert(!sent[i].answered);
	sent[i].answered = true;
	sent[i].done(sent[i].arg, &v);
}

/* ---- time, chance, an encoder ------------------------------------------------------------------ */

static uint64_t now_ns;
static uint64_t large_from; /* items from which a body is too large to be encoded; 0: never */

static uint64_t mono(void)
{
	return now_ns;
}

static uint32_t chance(void)
{
	return BACKOFF_FIRST_MS / 2; /* exactly the base at the first failure */
}

static void encode(const struct batch *b, uint32_t first, uint32_t n, bool json, struct buf *out)
{
	uint32_t numbers[2] = {first, n};

	(void)json;
	cr_assert_leq(first + n, b->n);
	if (large_from && n >= large_from)
		out->failed = true;
	buf_add(out, numbers, sizeof(numbers));
}

/* ---- batches ----------------------------------------------------------------------------------- */

static struct event_base *base;
static struct batch_resource *resource;
static struct pipe *p;
static uint32_t freed, abandoned;

static void on_freed(void *arg, struct batch *b)
{
	(void)arg;
	freed++;
	abandoned += b->abandoned;
}

static struct batch *spans(uint32_t n)
{
	struct batch *b = batch_new(BATCH_TRACES, resource);

	b->n = n;
	b->freed = on_freed;
	batch_seal(b);
	return b;
}

static struct pipe_options options = {
	.destination = "otlp",
	.signal = "traces",
	.encode = encode,
	.timeout_ms = 1000,
	.queue_items_max = 2048,
	.batch_items_max = 512,
	.send = fake_send,
	.mono_ns = mono,
	.unix_ns = mono,
	.chance = chance,
};

static void setup(void)
{
	now_ns = 100 * S_NS;
	base = event_base_new();
	resource = batch_resource_new();
	cr_assert_eq(pipe_new(base, &options, &p), 0);
}

static void teardown(void)
{
	p = pipe_free(p);
	batch_resource_release(resource);
	event_base_free(base);
}

TestSuite(pipe, .init = setup, .fini = teardown);

static struct figures_pipe figures(void)
{
	struct figures_pipe f;
	uint64_t dropped = 0;

	pipe_figures(p, &f);
	for (int i = 0; i < FIGURES_DROPS; i++)
		dropped += f.dropped[i];
	cr_expect_eq(
		f.offered, f.sent + f.rejected + dropped + f.waiting + f.spool_items,
		"%llu offered, %llu sent, %llu rejected, %llu dropped, %llu waiting, %llu stored",
		(unsigned long long)f.offered, (unsigned long long)f.sent,
		(unsigned long long)f.rejected, (unsigned long long)dropped,
		(unsigned long long)f.waiting, (unsigned long long)f.spool_items);
	return f;
}

/* Let `ns` go by on the pipe's clock, and its real timer come round: until something was sent, or long enough for
 * certainty that nothing is. */
static void pass(uint64_t ns)
{
	uint32_t before = n_sent;
	struct timespec begin, t;

	now_ns += ns;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		event_base_loop(base, EVLOOP_NONBLOCK);
		poll(NULL, 0, 1);
		clock_gettime(CLOCK_MONOTONIC, &t);
	} while (n_sent == before && t.tv_sec - begin.tv_sec < 3);
}

/* ---- answers ------------------------------------------------------------------------------------ */

Test(pipe, what_is_accepted_is_released_and_counted)
{
	pipe_offer(p, spans(10));
	cr_assert_eq(n_sent, 1);
	cr_expect_eq(freed, 0, "held while it is under way");
	cr_expect_eq(figures().waiting, 10);
	answer(0, VERDICT_ACCEPTED, 0, 0);
	cr_expect_eq(freed, 1);
	cr_expect_eq(abandoned, 0);
	cr_expect_eq(figures().sent, 10);
	cr_expect_eq(figures().last_success_unix_ns, now_ns);
	cr_expect(pipe_is_idle(p));
}

Test(pipe, a_partial_success_is_never_sent_again)
{
	pipe_offer(p, spans(10));
	answer(0, VERDICT_ACCEPTED, 3, 0);
	cr_expect_eq(n_sent, 1);
	cr_expect_eq(figures().sent, 7);
	cr_expect_eq(figures().rejected, 3);
	cr_expect_eq(freed, 1);
}

Test(pipe, more_rejected_than_sent_is_not_believed)
{
	pipe_offer(p, spans(10));
	answer(0, VERDICT_ACCEPTED, UINT64_MAX, 0);
	cr_expect_eq(figures().rejected, 10);
}

Test(pipe, what_is_refused_is_dropped_and_counted)
{
	pipe_offer(p, spans(10));
	answer(0, VERDICT_REFUSED, 0, 0);
	cr_expect_eq(figures().dropped[FIGURES_DROP_REFUSED], 10);
	cr_expect_eq(figures().failures[FIGURES_FAILURE_REFUSED], 1);
	cr_expect_eq(freed, 1);
}

Test(pipe, a_failure_is_tried_again_after_its_time_and_not_before)
{
	pipe_offer(p, spans(10));
	answer(0, VERDICT_RETRY, 0, 0);
	cr_expect_eq(n_sent, 1);
	cr_expect_eq(freed, 0);
	cr_expect(figures().failing);
	pass(S_NS - 1);
	cr_expect_eq(n_sent, 1, "not before");
	pass(1);
	cr_assert_eq(n_sent, 2);
	cr_expect_eq(figures().retries, 1);
	answer(1, VERDICT_ACCEPTED, 0, 0);
	cr_expect_eq(figures().sent, 10);
	cr_expect(!figures().failing);
}

Test(pipe, a_lost_verdict_is_counted_apart_and_tried_again)
{
	pipe_offer(p, spans(1));
	answer(0, VERDICT_LOST, 0, 0);
	cr_expect_eq(figures().lost_verdicts, 1);
	pass(S_NS);
	cr_assert_eq(n_sent, 2);
	answer(1, VERDICT_ACCEPTED, 0, 0);
}

Test(pipe, a_throttle_holds_everything_for_as_long_as_was_asked)
{
	pipe_offer(p, spans(1));
	answer(0, VERDICT_THROTTLE, 0, 5000);
	pipe_offer(p, spans(1));
	pass(5 * S_NS - 1);
	cr_expect_eq(n_sent, 1);
	cr_expect_eq(figures().throttled_ns, 5 * S_NS);
	pass(1);
	cr_expect_eq(n_sent, 2, "one asks first");
	answer(1, VERDICT_ACCEPTED, 0, 0);
	cr_assert_eq(n_sent, 3);
	answer(2, VERDICT_ACCEPTED, 0, 0);
	cr_expect_eq(freed, 2);
}

Test(pipe, what_is_too_large_is_split_down_to_one_item)
{
	pipe_offer(p, spans(4));
	answer(0, VERDICT_TOO_LARGE, 0, 0);
	cr_assert_eq(n_sent, 3);
	cr_expect_eq(sent[1].first, 0);
	cr_expect_eq(sent[1].n, 2);
	cr_expect_eq(sent[2].first, 2);
	answer(1, VERDICT_ACCEPTED, 0, 0);
	cr_expect_eq(freed, 0, "the other half still holds it");
	answer(2, VERDICT_TOO_LARGE, 0, 0);
	cr_assert_eq(n_sent, 5);
	answer(3, VERDICT_TOO_LARGE, 0, 0);
	answer(4, VERDICT_ACCEPTED, 0, 0);
	cr_expect_eq(figures().dropped[FIGURES_DROP_TOO_LARGE], 1);
	cr_expect_eq(figures().sent, 3);
	cr_expect_eq(freed, 1);
}

Test(pipe, a_request_that_would_be_too_large_is_split_before_it_is_sent)
{
	large_from = 3;
	pipe_offer(p, spans(4));
	cr_expect_eq(n_sent, 2);
	cr_expect_eq(sent[0].n, 2);
	cr_expect_eq(sent[1].first, 2);
	answer(0, VERDICT_ACCEPTED, 0, 0);
	answer(1, VERDICT_ACCEPTED, 0, 0);
	cr_expect_eq(figures().sent, 4);
	large_from = 0;
}

Test(pipe, one_item_that_cannot_be_encoded_is_dropped_and_the_next_is_sent)
{
	large_from = 1;
	pipe_offer(p, spans(1));
	large_from = 0;
	cr_expect_eq(figures().dropped[FIGURES_DROP_ENCODE], 1);
	cr_expect_eq(freed, 1);
	pipe_offer(p, spans(2));
	cr_assert_eq(n_sent, 1);
	answer(0, VERDICT_ACCEPTED, 0, 0);
}

/* ---- order and bounds --------------------------------------------------------------------------- */

Test(pipe, so_many_requests_are_under_way_and_no_more)
{
	for (uint32_t i = 0; i < PIPE_FRESH_MAX + 2; i++)
		pipe_offer(p, spans(1));
	cr_expect_eq(n_sent, PIPE_FRESH_MAX);
	answer(1, VERDICT_ACCEPTED, 0, 0);
	cr_expect_eq(n_sent, PIPE_FRESH_MAX + 1);
	answer(0, VERDICT_ACCEPTED, 0, 0);
	cr_expect_eq(n_sent, PIPE_FRESH_MAX + 2);
	for (uint32_t i = 2; i < n_sent; i++)
		answer(i, VERDICT_ACCEPTED, 0, 0);
	cr_expect_eq(freed, PIPE_FRESH_MAX + 2);
}

Test(pipe, a_batch_is_sent_in_requests_of_the_configured_size)
{
	struct pipe *small;
	struct pipe_options o = options;

	o.batch_items_max = 3;
	cr_assert_eq(pipe_new(base, &o, &small), 0);
	pipe_offer(small, spans(7));
	cr_assert_eq(n_sent, 3);
	cr_expect_eq(sent[2].first, 6);
	cr_expect_eq(sent[2].n, 1);
	for (uint32_t i = 0; i < 3; i++)
		answer(i, VERDICT_ACCEPTED, 0, 0);
	cr_expect_eq(freed, 1);
	pipe_free(small);
}

Test(pipe, a_transport_that_is_busy_is_asked_again)
{
	refuse_sending = -EBUSY;
	pipe_offer(p, spans(1));
	cr_expect_eq(n_sent, 0);
	refuse_sending = 0;
	pass(S_NS);
	cr_assert_eq(n_sent, 1);
	answer(0, VERDICT_ACCEPTED, 0, 0);
}

Test(pipe, without_a_spool_nothing_is_given_up_but_left_to_the_ring)
{
	pipe_offer(p, spans(5));
	answer(0, VERDICT_RETRY, 0, 0);
	for (int i = 0; i < 8; i++)
		pipe_offer(p, spans(512));
	pipe_stop(p);
	pass(10 * S_NS);
	cr_expect(!pipe_is_idle(p));
	cr_expect_eq(figures().waiting, 5 + 8 * 512);
	pipe_close(p);
	p = pipe_free(p);
	cr_expect_eq(freed, 9);
	cr_expect_eq(abandoned, 9);
	cr_assert_eq(pipe_new(base, &options, &p), 0);
}

/* ---- finished bodies ---------------------------------------------------------------------------- */

static uint32_t settled, forgotten;

static void on_settled(void *arg)
{
	(void)arg;
	settled++;
}

static void on_forgotten(void *arg)
{
	(void)arg;
	forgotten++;
}

static struct pipe_body points(uint32_t n, uint64_t source)
{
	return (struct pipe_body){.bytes = calloc(1, 8),
				  .len = 8,
				  .items = n,
				  .source = source,
				  .cumulative = true,
				  .settled = on_settled,
				  .forgotten = on_forgotten};
}

Test(pipe, newer_points_of_a_source_take_the_place_of_older_ones_that_wait)
{
	struct pipe_body body = points(100, 1);

	pipe_offer_body(p, &body);
	answer(0, VERDICT_RETRY, 0, 0);
	body = points(101, 1);
	pipe_offer_body(p, &body);
	body = points(50, 2);
	pipe_offer_body(p, &body);
	cr_expect_eq(figures().dropped[FIGURES_DROP_SUPERSEDED], 100);
	cr_expect_eq(forgotten, 1);
	pass(S_NS);
	cr_assert_eq(n_sent, 2);
	answer(1, VERDICT_ACCEPTED, 0, 0);
	cr_assert_eq(n_sent, 3);
	answer(2, VERDICT_ACCEPTED, 0, 0);
	cr_expect_eq(figures().sent, 151);
	cr_expect_eq(settled, 3, "given up is settled as well: the time is never counted again");
	cr_expect_eq(forgotten, 3);
}

Test(pipe, bodies_that_cannot_be_stored_are_bounded)
{
	pipe_offer(p, spans(1));
	answer(0, VERDICT_RETRY, 0, 0);
	for (uint32_t i = 0; i < PIPE_BODIES_MAX + 1; i++) {
		struct pipe_body body = points(1, i);

		body.cumulative = false;
		pipe_offer_body(p, &body);
	}
	cr_expect_eq(figures().dropped[FIGURES_DROP_QUEUE_FULL], 1);
	cr_expect_eq(figures().waiting, PIPE_BODIES_MAX + 1);
}

/* ---- a day without a collector ------------------------------------------------------------------- */

/* ---- the spool ---------------------------------------------------------------------------------- */

Test(pipe_spool, what_an_earlier_life_stored_is_sent_though_nothing_new_comes, .timeout = 60)
{
	const uint32_t body[2] = {7, 3};
	struct spool_row row = {
		.body = (uint8_t *)(uintptr_t)body, .len = sizeof(body), .items = 3};
	struct pipe_options o = options;
	struct spool_bench bench;
	struct timespec t, begin;
	struct figures_pipe f;
	char dir[128];

	spool_dir_make(dir, sizeof(dir));
	spool_bench_open(&bench, &(struct spool_options){.dir = dir, .free_percent_min = 1});
	cr_assert_eq(spool_bench_put(&bench, "otlp", &row, NULL), 0);
	spool_bench_close(&bench);

	now_ns = 100 * S_NS;
	spool_bench_open(&bench, &(struct spool_options){.dir = dir, .free_percent_min = 1});
	o.spool = bench.spool;
	cr_assert_eq(pipe_new(bench.base, &o, &p), 0); /* before the database is open */
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		event_base_loop(bench.base, EVLOOP_NONBLOCK);
		clock_gettime(CLOCK_MONOTONIC, &t);
	} while (n_sent == 0 && t.tv_sec - begin.tv_sec < 30);
	cr_assert_eq(n_sent, 1);
	cr_expect_eq(sent[0].first, 7);
	answer(0, VERDICT_ACCEPTED, 0, 0);
	spool_bench_settle(&bench);
	pipe_figures(p, &f);
	cr_expect_eq(f.sent, 3);
	cr_expect_eq(f.spool_items, 0);
	pipe_close(p);
	spool_bench_close(&bench);
	pipe_free(p);
	spool_dir_remove(dir);
}

Test(backoff, grows_to_a_minute_with_half_of_it_by_chance)
{
	cr_expect_eq(backoff_ms(0, 0, 0), 500);
	cr_expect_eq(backoff_ms(1, 0, 0), 500);
	cr_expect_eq(backoff_ms(1, 0, 1000), 1500);
	cr_expect_eq(backoff_ms(2, 0, 800), 800 + 800);
	cr_expect_eq(backoff_ms(1000000, 0, 0), BACKOFF_MAX_MS / 2);
	cr_expect_eq(backoff_ms(1000000, 0, BACKOFF_MAX_MS), BACKOFF_MAX_MS / 2 * 3);
	for (uint32_t i = 0; i < 1000; i++)
		cr_expect_leq(backoff_ms(i, 0, i * 2654435761u), BACKOFF_MAX_MS / 2 * 3);
	cr_expect_eq(backoff_ms(1, 600000, 0), 600000, "what was asked for is kept");
}

Test(backoff, a_day_of_failures_is_few_lines)
{
	struct outage o = {0};
	uint64_t t = 5 * S_NS, end = t + 86400 * S_NS, lasted_s = 0;
	uint32_t lines = 0;

	for (; t < end; t += 30 * S_NS)
		lines += outage_fails(&o, t);
	lines += outage_ends(&o, t, &lasted_s);
	cr_expect_eq(lasted_s, 86400);
	cr_expect_leq(lines * 3, 60, "three signals: %u lines each", lines);
	cr_expect_geq(lines, 8);
	cr_expect(!outage_ends(&o, t, &lasted_s));
}
