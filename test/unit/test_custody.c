/* Goal: a ring forgets a record exactly when nobody answers for it any more, whatever the order in
 * which batches are freed, and never past an abandoned one.
 * Method: cuts of made-up marks; the acknowledgements are written down. */
#include "agent/input/custody.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct custody *c;
static struct batch_resource *resource;
static struct custody_mark acked[512];
static uint32_t n_acked;

static void note_ack(void *arg, const struct custody_mark *mark)
{
	(void)arg;
	acked[n_acked++] = *mark;
}

static void setup(void)
{
	n_acked = 0;
	resource = batch_resource_new();
	c = custody_new(note_ack, NULL);
}

static void teardown(void)
{
	custody_free(c);
	batch_resource_release(resource);
}

TestSuite(custody, .init = setup, .fini = teardown, .timeout = 30);

static struct batch *make_batch(enum batch_signal signal, uint32_t n)
{
	struct batch *b = batch_new(signal, resource);

	b->n = n;
	batch_seal(b);
	return b;
}

static struct custody_mark mark_at(uint32_t lane, uint64_t pos)
{
	return (struct custody_mark){.lane = lane, .pos = pos, .seq = pos / 100, .lost = 3};
}

/* A cut of one batch that got lane 0 to `pos`. */
static struct batch *cut_to(uint64_t pos)
{
	struct batch *b = make_batch(BATCH_TRACES, 2);
	struct custody_mark mark = mark_at(0, pos);

	cr_assert_eq(custody_cut(c, &mark, 1, &b, 1), 0);
	return b;
}

Test(custody, a_cut_without_batches_is_acknowledged_at_once)
{
	struct custody_mark marks[] = {mark_at(0, 800), mark_at(5, 1600)};

	cr_assert_eq(custody_cut(c, marks, 2, NULL, 0), 0);
	cr_assert_eq(n_acked, 2);
	cr_expect_eq(acked[0].lane, 0);
	cr_expect_eq(acked[0].pos, 800);
	cr_expect_eq(acked[0].seq, 8);
	cr_expect_eq(acked[0].lost, 3);
	cr_expect_eq(acked[1].lane, 5);
	cr_expect_eq(acked[1].pos, 1600);
}

Test(custody, a_cut_waits_for_all_of_its_batches)
{
	struct batch *b[] = {make_batch(BATCH_TRACES, 2), make_batch(BATCH_LOGS, 1)};
	struct custody_mark mark = mark_at(0, 800);
	struct custody_figures f;

	custody_cut(c, &mark, 1, b, 2);
	custody_figures(c, &f);
	cr_expect_eq(f.items[BATCH_TRACES], 2);
	cr_expect_eq(f.items[BATCH_LOGS], 1);
	cr_expect_gt(f.bytes, 0);
	batch_hold(b[0]); /* two destinations */
	batch_release(b[0]);
	batch_release(b[1]);
	cr_expect_eq(n_acked, 0);
	batch_release(b[0]);
	cr_expect_eq(n_acked, 1);
	custody_figures(c, &f);
	cr_expect_eq(f.cuts, 0);
	cr_expect_eq(f.bytes, 0);
	cr_expect_eq(f.items[BATCH_TRACES], 0);
	cr_expect_eq(f.items[BATCH_LOGS], 0);
}

Test(custody, cuts_are_acknowledged_in_their_order_only)
{
	struct batch *a = cut_to(100), *b = cut_to(200), *d = cut_to(300);

	batch_release(b);
	batch_release(d);
	cr_expect_eq(n_acked, 0, "the first one is still out");
	batch_release(a);
	cr_assert_eq(n_acked, 3);
	for (uint32_t i = 0; i < 3; i++)
		cr_expect_eq(acked[i].pos, (i + 1) * 100);
}

Test(custody, an_empty_cut_waits_for_its_turn)
{
	struct batch *a = cut_to(100);
	struct custody_mark mark = mark_at(0, 200);

	custody_cut(c, &mark, 1, NULL, 0);
	cr_expect_eq(n_acked, 0);
	batch_release(a);
	cr_expect_eq(n_acked, 2);
}

Test(custody, nothing_is_acknowledged_past_an_abandoned_batch)
{
	struct batch *a = cut_to(100), *b = cut_to(200), *d = cut_to(300);
	struct custody_figures f;

	batch_abandon(b);
	batch_release(d);
	cr_expect_eq(n_acked, 0);
	batch_release(a);
	cr_expect_eq(n_acked, 1);
	cr_expect_eq(acked[0].pos, 100);
	custody_figures(c, &f);
	cr_expect(f.stuck);
	cr_expect_eq(f.items[BATCH_TRACES], 4, "two cuts of two are still the ring's");
	batch_release(cut_to(400));
	cr_expect_eq(n_acked, 1);
}

Test(custody, one_holder_that_gives_up_is_enough)
{
	struct batch *a = cut_to(100);

	batch_hold(a);
	batch_abandon(a);
	batch_release(a);
	cr_expect_eq(n_acked, 0);
}

Test(custody, room_ends_with_the_number_of_cuts_and_comes_back)
{
	struct batch *b[CUSTODY_CUTS_MAX];

	for (uint32_t i = 0; i < CUSTODY_CUTS_MAX; i++) {
		cr_assert(custody_has_room(c), "%u", i);
		b[i] = cut_to(i + 1);
	}
	cr_expect_not(custody_has_room(c));
	batch_release(b[0]);
	cr_expect(custody_has_room(c));
	for (uint32_t i = 1; i < CUSTODY_CUTS_MAX; i++)
		batch_release(b[i]);
	cr_expect_eq(n_acked, CUSTODY_CUTS_MAX);
}

Test(custody, room_ends_with_the_bytes_that_are_out)
{
	struct batch *b[16];
	uint32_t n = 0;

	while (custody_has_room(c) && n < 16) {
		struct custody_mark mark = mark_at(0, n + 1);
		void *room;

		b[n] = batch_new(BATCH_TRACES, resource);
		cr_assert_eq(arena_alloc(&b[n]->memory, 7 << 20, &room), 0);
		batch_seal(b[n]);
		custody_cut(c, &mark, 1, &b[n], 1);
		n++;
	}
	cr_expect_eq(n, CUSTODY_BYTES_MAX / (7 << 20) + 1, "%u", n);
	for (uint32_t i = 0; i < n; i++)
		batch_release(b[i]);
	cr_expect(custody_has_room(c));
}

Test(custody, batches_may_outlive_it_and_acknowledge_nothing)
{
	struct batch *a = cut_to(100), *b = cut_to(200);

	batch_release(b);
	c = custody_free(c);
	batch_release(a);
	cr_expect_eq(n_acked, 0);
}
