/* Goal: an answer of 0 is custody; rows leave in order, once; bounds hold and each loss is counted in
 * items; the figures are what a fresh count gives; every documented error is given.
 * Method: a real loop, a real disk thread, real files; the clock is ours. */
#include "test/support/spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct spool_bench bench;
static char dir[256];
static uint64_t clock_ns = 1000000ull * 1000000000u;

static uint64_t our_clock(void)
{
	return clock_ns;
}

static struct spool_options options(void)
{
	return (struct spool_options){.dir = dir, .free_percent_min = 1, .unix_ns = our_clock};
}

static void setup(void)
{
	struct spool_options o;

	spool_dir_make(dir, sizeof(dir));
	o = options();
	spool_bench_open(&bench, &o);
}

static void teardown(void)
{
	spool_bench_close(&bench);
	spool_dir_remove(dir);
}

TestSuite(spool, .init = setup, .fini = teardown, .timeout = 120);

static void reopen(const struct spool_options *o)
{
	spool_bench_close(&bench);
	spool_bench_open(&bench, o);
	spool_bench_settle(&bench);
}

/* A row of `number`; its items are number + 1. */
static int put_sized(uint32_t number, size_t len, bool priority)
{
	uint8_t *body = malloc(len);
	struct spool_row row = {
		.body = body, .len = len, .items = number + 1, .priority = priority};
	int r;

	for (size_t i = 0; i < len; i++)
		body[i] = (uint8_t)(number + i * 7);
	r = spool_bench_put(&bench, "otlp", &row, NULL);
	free(body);
	return r;
}

static int put(uint32_t number)
{
	return put_sized(number, 1000, false);
}

/* The number of the next row, whose body must be as it was put; or the error. */
static int take(int64_t *ret_id)
{
	struct spool_row row;
	int r = spool_bench_take(&bench, "otlp", &row);
	int number;

	if (r < 0)
		return r;
	number = (int)row.items - 1;
	for (size_t i = 0; i < row.len; i++)
		cr_assert_eq(row.body[i], (uint8_t)((uint32_t)number + i * 7));
	free(row.body);
	if (ret_id)
		*ret_id = row.id;
	return number;
}

static struct spool_figures figures(void)
{
	spool_bench_settle(&bench);
	return spool_bench_figures(&bench, "otlp");
}

static void expect_recount_equals(void)
{
	struct spool_options o = bench.options;
	struct spool_figures before = figures(), after;

	reopen(&o);
	after = figures();
	cr_expect_eq(before.rows, after.rows);
	cr_expect_eq(before.items, after.items);
	cr_expect_eq(before.bytes, after.bytes);
	cr_expect_eq(before.oldest_unix_ns, after.oldest_unix_ns);
}

Test(spool, rows_leave_in_the_order_they_came_and_only_once)
{
	int64_t ids[20];

	for (uint32_t i = 0; i < 20; i++)
		cr_assert_eq(put(i), 0);
	for (int i = 0; i < 20; i++)
		cr_expect_eq(take(&ids[i]), i);
	cr_expect_eq(take(NULL), -ENOENT);
	for (int i = 0; i < 20; i++)
		cr_expect_eq(spool_finish(bench.spool, ids[i], true), 0);
	cr_expect_eq(figures().rows, 0);
	expect_recount_equals();
	cr_expect_eq(take(NULL), -ENOENT);
}

Test(spool, a_row_that_is_kept_comes_again_before_younger_ones)
{
	int64_t id;

	put(0);
	put(1);
	cr_assert_eq(take(&id), 0);
	cr_expect_eq(spool_finish(bench.spool, id, false), 0);
	cr_expect_eq(take(&id), 0);
	cr_expect_eq(take(NULL), 1);
	cr_expect_eq(spool_finish(bench.spool, id + 1000, true), 0, "not taken: left alone");
	cr_expect_eq(figures().rows, 2);
}

Test(spool, a_restart_keeps_rows_and_gives_taken_ones_again)
{
	struct spool_options o = options();

	for (uint32_t i = 0; i < 5; i++)
		put(i);
	cr_assert_eq(take(NULL), 0);
	expect_recount_equals();
	reopen(&o);
	cr_expect_eq(figures().items, 1 + 2 + 3 + 4 + 5);
	for (int i = 0; i < 5; i++)
		cr_expect_eq(take(NULL), i);
}

Test(spool, destinations_do_not_see_each_other)
{
	struct spool_row row = {.body = (uint8_t *)"x", .len = 1, .items = 3}, got;

	cr_assert_eq(spool_bench_put(&bench, "other", &row, NULL), 0);
	cr_expect_eq(take(NULL), -ENOENT);
	cr_assert_eq(spool_bench_take(&bench, "other", &got), 0);
	free(got.body);
	cr_expect_eq(spool_bench_figures(&bench, "other").items, 3);
	cr_expect_eq(figures().items, 0);
}

/* Four rows of one page fill it. */
enum { ROW_CHARGE = SPOOL_PAGE_BYTES + SPOOL_ROW_OVERHEAD };

static void bound_to(uint64_t bytes)
{
	struct spool_options o = options();

	o.bytes_max = bytes;
	reopen(&o);
}

Test(spool, what_fits_exactly_is_kept_and_one_more_pushes_out_the_oldest)
{
	bound_to(4 * ROW_CHARGE);
	for (uint32_t i = 0; i < 4; i++)
		cr_assert_eq(put_sized(i, SPOOL_PAGE_BYTES, false), 0);
	cr_expect_eq(figures().rows, 4);
	cr_expect_eq(figures().dropped_items[SPOOL_DROP_FULL], 0);
	cr_assert_eq(put(4), 0);
	cr_expect_eq(figures().rows, 4);
	cr_expect_eq(figures().dropped_items[SPOOL_DROP_FULL], 1, "row 0 had one item");
	cr_expect_eq(take(NULL), 1);
	expect_recount_equals();
}

Test(spool, a_byte_less_of_room_holds_a_row_less)
{
	bound_to(4 * ROW_CHARGE - 1);
	for (uint32_t i = 0; i < 4; i++)
		cr_assert_eq(put(i), 0);
	cr_expect_eq(figures().rows, 3);
}

Test(spool, a_row_larger_than_the_whole_bound_is_refused_and_drops_nothing)
{
	bound_to(2 * ROW_CHARGE);
	put(0);
	cr_expect_eq(put_sized(1, 2 * SPOOL_PAGE_BYTES + 1, true), -ENOSPC);
	cr_expect_eq(put_sized(1, 2 * SPOOL_PAGE_BYTES, true), 0, "and one that just fits is not");
	cr_expect_eq(figures().dropped_items[SPOOL_DROP_FULL], 1);
}

Test(spool, the_room_that_is_left_is_told_as_the_bound_counts_it)
{
	struct spool_status status;

	bound_to(3 * ROW_CHARGE + 7);
	put(0);
	put(1);
	spool_status(bench.spool, &status);
	cr_expect_eq(status.used_bytes, 2 * ROW_CHARGE);
	cr_expect_eq(status.room_bytes, ROW_CHARGE + 7);
	put(2);
	put(3); /* pushes out 0 */
	spool_status(bench.spool, &status);
	cr_expect_eq(status.used_bytes, 3 * ROW_CHARGE);
	cr_expect_eq(status.room_bytes, 7);
}

Test(spool, rows_with_priority_go_last_and_only_for_their_like)
{
	struct spool_status status;

	bound_to(3 * ROW_CHARGE);
	put_sized(0, 100, true);
	put_sized(1, 100, false);
	put_sized(2, 100, true);
	cr_assert_eq(put_sized(3, 100, true), 0, "pushes out 1, the only ordinary row");
	cr_expect_eq(put_sized(4, 100, false), -ENOSPC, "an ordinary row pushes out none of these");
	cr_assert_eq(put_sized(5, 100, true), 0, "pushes out 0, the oldest");
	cr_expect_eq(figures().dropped_items[SPOOL_DROP_FULL], 2 + 1);
	spool_status(bench.spool, &status);
	cr_expect_not(status.degraded, "a full spool is not a broken disk");
	cr_expect_eq(take(NULL), 2);
	cr_expect_eq(take(NULL), 3);
	cr_expect_eq(take(NULL), 5);
}

Test(spool, a_taken_row_is_not_evicted)
{
	bound_to(2 * ROW_CHARGE);
	put(0);
	cr_assert_eq(take(NULL), 0);
	put(1);
	cr_assert_eq(put(2), 0);
	cr_expect_eq(figures().dropped_items[SPOOL_DROP_FULL], 2, "row 1 and not row 0");
	cr_expect_eq(take(NULL), 2);
	cr_expect_eq(put(3), -ENOSPC, "all that is left is taken");
}

Test(spool, rows_are_dropped_when_they_are_older_than_allowed_and_not_before)
{
	struct spool_options o = options();

	o.age_max_s = 100;
	reopen(&o);
	put(0);
	clock_ns += 1;
	put(1);
	clock_ns += 100ull * 1000000000u - 1;
	spool_tick(bench.spool);
	cr_expect_eq(figures().rows, 2, "row 0 is as old as allowed");
	clock_ns += 1;
	cr_expect_eq(take(NULL), 1);
	cr_expect_eq(figures().dropped_items[SPOOL_DROP_AGE], 1);
	clock_ns += 1000ull * 1000000000u;
	spool_tick(bench.spool);
	cr_expect_eq(figures().rows, 1, "a taken row does not age");
	expect_recount_equals();
}

Test(spool, a_row_from_the_future_is_as_of_now)
{
	struct spool_row row = {
		.body = (uint8_t *)"x", .len = 1, .items = 1, .created_unix_ns = clock_ns + 5};

	cr_assert_eq(spool_bench_put(&bench, "otlp", &row, NULL), 0);
	cr_expect_eq(figures().oldest_unix_ns, clock_ns);
}

static int put_origin(uint64_t first, uint64_t last, const char *destination)
{
	struct spool_origin o = {
		.incarnation = "i1", .lane = 3, .first_seq = first, .last_seq = last};
	struct spool_row row = {.body = (uint8_t *)"x", .len = 1, .items = 10};

	return spool_bench_put(&bench, destination, &row, &o);
}

Test(spool, items_that_are_stored_already_are_not_stored_again)
{
	struct spool_options o = options();

	cr_assert_eq(put_origin(1, 10, "otlp"), 0);
	cr_assert_eq(put_origin(11, 20, "otlp"), 0);
	reopen(&o);
	cr_assert_eq(put_origin(1, 10, "otlp"), 0);
	cr_expect_eq(figures().rows, 2);
	cr_expect_eq(figures().skipped_items, 10);
	cr_assert_eq(put_origin(5, 15, "otlp"), 0, "cut otherwise: within two that adjoin");
	cr_expect_eq(figures().rows, 2);
	cr_assert_eq(put_origin(5, 21, "otlp"), 0, "one item is new");
	cr_expect_eq(figures().rows, 3);
	cr_assert_eq(put_origin(1, 10, "other"), 0, "another destination has its own");
	cr_expect_eq(spool_bench_figures(&bench, "other").rows, 1);
}

static void set_done(void *arg, int error)
{
	int *errors = arg;

	errors[error == 0 ? 0 : 1]++;
}

static void put_done(void *arg, int error, int64_t id)
{
	(void)id;
	set_done(arg, error);
}

Test(spool, puts_that_wait_are_answered_with_the_commit_they_share)
{
	struct spool_row row = {.body = (uint8_t *)"abc", .len = 3, .items = 1};
	struct disk_status before, after;
	int n[2] = {0};

	spool_bench_settle(&bench);
	disk_status(bench.disk, &before);
	for (int i = 0; i < 500; i++)
		cr_assert_eq(spool_put(bench.spool, "otlp", "traces", &row, NULL, 0, put_done, n),
			     0);
	cr_expect_eq(n[0], 0, "never from within the call");
	spool_bench_settle(&bench);
	disk_status(bench.disk, &after);
	cr_expect_eq(n[0], 500);
	cr_expect_leq(after.finished - before.finished, 3);
	cr_expect_eq(figures().rows, 500);
}

Test(spool, more_than_may_wait_is_refused)
{
	struct spool_row row = {.len = SPOOL_PENDING_BYTES_MAX + 1, .items = 1};
	int n[2] = {0}, r = 0, accepted = 0;

	row.body = calloc(1, row.len);
	spool_bench_settle(&bench);
	cr_assert_eq(spool_put(bench.spool, "otlp", "traces", &row, NULL, 0, put_done, n), 0,
		     "a large one goes alone");
	cr_expect_eq(spool_put(bench.spool, "otlp", "traces", &row, NULL, 0, put_done, n),
		     -ENOBUFS);
	spool_bench_settle(&bench);
	row.len = 1;
	while (accepted <= SPOOL_PENDING_MAX &&
	       (r = spool_put(bench.spool, "otlp", "traces", &row, NULL, 0, put_done, n)) == 0)
		accepted++;
	cr_expect_eq(r, -ENOBUFS);
	cr_expect_eq(accepted, SPOOL_PENDING_MAX);
	for (int i = 0; i < 600 && n[0] < accepted + 1; i++)
		spool_bench_settle(&bench);
	cr_expect_eq(n[0], accepted + 1);
	free(row.body);
}

Test(spool, what_is_out_of_range_is_refused_at_once)
{
	char body[8] = "x", key[SPOOL_KEY_MAX + 2], name[SPOOL_NAME_MAX + 2];
	struct spool_row good = {.body = (uint8_t *)body, .len = 1, .items = 1}, row = good;
	struct spool_origin o = {.incarnation = "i", .first_seq = 2, .last_seq = 1};
	struct spool_options bad = options();
	struct spool *s;
	int n[2];

#define PUT(d, s_, r, o_, n_) spool_put(bench.spool, d, s_, r, o_, n_, put_done, n)
	memset(name, 'n', sizeof(name));
	name[SPOOL_NAME_MAX + 1] = '\0';
	cr_expect_eq(PUT(name, "traces", &good, NULL, 0), -EINVAL);
	cr_expect_eq(PUT("otlp", "", &good, NULL, 0), -EINVAL);
	cr_expect_eq(PUT("a/b", "traces", &good, NULL, 0), -EINVAL);
	name[SPOOL_NAME_MAX] = '\0';
	cr_expect_eq(spool_bench_put(&bench, name, &good, NULL), 0);
	row.len = 0;
	cr_expect_eq(PUT("otlp", "traces", &row, NULL, 0), -EINVAL);
	row.len = SPOOL_BODY_MAX + 1;
	cr_expect_eq(PUT("otlp", "traces", &row, NULL, 0), -EINVAL);
	row = good;
	row.items = 0;
	cr_expect_eq(PUT("otlp", "traces", &row, NULL, 0), -EINVAL);
	cr_expect_eq(PUT("otlp", "traces", &good, &o, 1), -EINVAL);
	o.last_seq = 2;
	cr_expect_eq(PUT("otlp", "traces", &good, &o, SPOOL_ORIGINS_MAX + 1), -EINVAL);
	memset(o.incarnation, 'i', sizeof(o.incarnation));
	cr_expect_eq(PUT("otlp", "traces", &good, &o, 1), -EINVAL);
	memset(key, 'k', sizeof(key));
	key[SPOOL_KEY_MAX + 1] = '\0';
	cr_expect_eq(spool_bench_set(&bench, key, "v", 1), -EINVAL);
	cr_expect_eq(spool_bench_set(&bench, "", "v", 1), -EINVAL);
	key[SPOOL_KEY_MAX] = '\0';
	cr_expect_eq(spool_bench_set(&bench, key, "v", 1), 0);
	cr_expect_eq(spool_bench_set(&bench, "k", body, SPOOL_VALUE_MAX + 1), -EINVAL);
	bad.free_percent_min = 100;
	cr_expect_eq(spool_new(bench.disk, &bad, &s), -EINVAL);
	bad = options();
	bad.dir = "";
	cr_expect_eq(spool_new(bench.disk, &bad, &s), -EINVAL);
}

Test(spool, no_more_rows_can_be_taken_than_are_remembered)
{
	int64_t id = 0;

	for (uint32_t i = 0; i <= SPOOL_TAKEN_MAX; i++)
		put(i);
	for (int i = 0; i < SPOOL_TAKEN_MAX; i++)
		cr_assert_eq(take(&id), i);
	cr_expect_eq(take(NULL), -ENOBUFS);
	cr_expect_eq(spool_finish(bench.spool, id, true), 0);
	cr_expect_eq(take(NULL), SPOOL_TAKEN_MAX);
}

Test(spool, values_are_replaced_and_outlive_a_restart)
{
	struct spool_options o = options();
	char name[32];
	void *value;
	size_t len;

	cr_expect_eq(spool_bench_get(&bench, "a", &value, &len), -ENOENT);
	cr_assert_eq(spool_bench_set(&bench, "a", "one", 3), 0);
	cr_assert_eq(spool_bench_set(&bench, "a", "other", 5), 0);
	cr_assert_eq(spool_bench_set(&bench, "empty", NULL, 0), 0);
	reopen(&o);
	cr_assert_eq(spool_bench_get(&bench, "a", &value, &len), 0);
	cr_expect(len == 5 && memcmp(value, "other", 5) == 0);
	free(value);
	cr_assert_eq(spool_bench_get(&bench, "empty", &value, &len), 0);
	cr_expect_eq(len, 0);
	free(value);
	for (int i = 2; i < SPOOL_KEYS_MAX; i++) {
		int n[2] = {0};

		(void)snprintf(name, sizeof(name), "key %d", i);
		while (spool_set(bench.spool, name, "v", 1, set_done, n) < 0)
			spool_bench_settle(&bench);
		if (i % 100 == 0 || i == SPOOL_KEYS_MAX - 1)
			spool_bench_settle(&bench);
		else
			cr_assert_eq(spool_bench_set(&bench, name, "v", 1), 0);
	}
	cr_expect_eq(spool_bench_set(&bench, "one too many", "v", 1), -ENOSPC);
	cr_expect_eq(spool_bench_set(&bench, "a", "v", 1), 0);
}

static int canceled;
static void on_canceled(void *arg, int error, int64_t id)
{
	(void)arg;
	(void)id;
	canceled += error == -ECANCELED;
}
static void on_canceled_row(void *arg, int error, const struct spool_row *row)
{
	(void)row;
	on_canceled(arg, error, 0);
}
static void on_canceled_value(void *arg, int error, const void *value, size_t len)
{
	(void)value;
	(void)len;
	on_canceled(arg, error, 0);
}

static int64_t put_id;
static void keep_id(void *arg, int error, int64_t id)
{
	put_id = error ? -1 : id;
	(void)arg;
}

Test(spool, a_row_may_be_put_as_taken_and_is_finished_by_its_id)
{
	struct spool_row row = {.body = (uint8_t *)"x", .len = 1, .items = 1, .taken = true};
	struct spool_row got = {0};

	for (int i = 0; i < 2; i++) {
		put_id = 0;
		cr_assert_eq(spool_put(bench.spool, "otlp", "traces", &row, NULL, 0, keep_id, NULL),
			     0);
		spool_bench_settle(&bench);
		cr_assert_gt(put_id, 0);
		cr_expect_eq(spool_bench_take(&bench, "otlp", &got), -ENOENT,
			     "nobody else gets it");
		cr_assert_eq(spool_finish(bench.spool, put_id, i == 0), 0);
		spool_bench_settle(&bench);
	}
	cr_assert_eq(spool_bench_take(&bench, "otlp", &got), 0, "the one that was kept");
	cr_expect_eq(got.id, put_id);
	free(got.body);
}

Test(spool, what_is_outstanding_is_cancelled_once_when_the_spool_ends)
{
	struct spool_row row = {.body = (uint8_t *)"x", .len = 1, .items = 1};

	for (int i = 0; i < 3; i++) {
		cr_assert_eq(
			spool_put(bench.spool, "otlp", "traces", &row, NULL, 0, on_canceled, NULL),
			0);
		cr_assert_eq(spool_take(bench.spool, "otlp", "traces", on_canceled_row, NULL), 0);
		cr_assert_eq(spool_get(bench.spool, "k", on_canceled_value, NULL), 0);
	}
	bench.spool = spool_free(bench.spool);
	cr_expect_eq(canceled, 9);
}
