/* Goal: what is sent as deltas adds up to what was counted, whatever fails in between, and hostile
 * bytes of a spool are refused whole.
 * Method: a snapshot of one counter, one histogram and one gauge is moved on; attempts are committed
 * and rolled back; saved bytes are loaded, cut at every length and changed at every byte. */
#include "agent/model/delta.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const char life_a[] = "0123456789abcdef0123456789abcdef";

struct model {
	struct snapshot *s;
	uint32_t counter, histogram, gauge; /* series */
	uint32_t at_counter, at_histogram, at_gauge;
};

static uint32_t add(struct snapshot *s, struct snapshot_family spec, uint32_t *ret_at)
{
	uint32_t f, i;

	cr_assert_eq(snapshot_family(s, &spec, &f), 0);
	cr_assert_eq(snapshot_series(s, f, NULL, 0, false, false, &i), 0);
	*ret_at = snapshot_view(s).series[i].value;
	return i;
}

static struct model model_new(void)
{
	const struct snapshot_bounds bounds = {.n = 1, .value = {1}};
	struct model m = {.s = snapshot_new()};

	m.gauge = add(m.s, (struct snapshot_family){.name = "g", .type = SNAPSHOT_GAUGE},
		      &m.at_gauge);
	m.counter = add(m.s,
			(struct snapshot_family){
				.name = "c_total", .type = SNAPSHOT_COUNTER, .created_unix_ns = 10},
			&m.at_counter);
	m.histogram = add(m.s,
			  (struct snapshot_family){.name = "h",
						   .type = SNAPSHOT_HISTOGRAM,
						   .number = SNAPSHOT_NS,
						   .bounds = &bounds,
						   .created_unix_ns = 10},
			  &m.at_histogram);
	return m;
}

static void set(struct model *m, uint64_t counter, uint64_t low, uint64_t high, uint64_t sum)
{
	uint32_t n;
	uint64_t *values = snapshot_values(m->s, m->histogram, &n);

	snapshot_set_u64(m->s, m->counter, counter);
	snapshot_set_u64(m->s, m->gauge, counter);
	values[0] = low;
	values[1] = high;
	values[2] = sum;
}

static void expect(const struct model *m, const struct delta_view *v, uint64_t counter,
		   uint64_t low, uint64_t high, uint64_t sum, uint64_t start)
{
	cr_expect_eq(v->values[m->at_counter], counter);
	cr_expect_eq(v->values[m->at_histogram], low);
	cr_expect_eq(v->values[m->at_histogram + 1], high);
	cr_expect_eq(v->values[m->at_histogram + 2], sum);
	cr_expect_eq(v->start_unix_ns[m->counter], start);
	cr_expect_eq(v->start_unix_ns[m->histogram], start);
}

Test(delta, the_first_is_everything_since_the_start_and_each_next_one_follows_without_gap)
{
	struct delta *d = delta_new();
	struct model m = model_new();
	struct delta_view v;

	set(&m, 5, 1, 2, 100);
	cr_assert_eq(delta_begin(d, m.s, life_a, 1000, false, &v), 0);
	expect(&m, &v, 5, 1, 2, 100, 10);
	delta_commit(d);
	set(&m, 12, 1, 5, 170);
	cr_assert_eq(delta_begin(d, m.s, life_a, 2000, false, &v), 0);
	expect(&m, &v, 7, 0, 3, 70, 1000);
	cr_expect_eq(v.values[m.at_gauge], 12, "gauges are as they are");
	delta_rollback(d);
	set(&m, 13, 2, 5, 171);
	cr_assert_eq(delta_begin(d, m.s, life_a, 3000, false, &v), 0);
	expect(&m, &v, 8, 1, 3, 71, 1000); /* the lost attempt's share is in it */
	delta_commit(d);
	cr_assert_eq(delta_begin(d, m.s, life_a, 4000, false, &v), 0);
	expect(&m, &v, 0, 0, 0, 0, 3000);
	delta_free(d);
	snapshot_free(m.s);
}

Test(delta, another_life_starts_from_nothing_and_the_first_goes_on)
{
	static const char life_b[] = "ffffffffffffffffffffffffffffffff";
	struct delta *d = delta_new();
	struct model m = model_new();
	struct delta_view v;

	set(&m, 5, 0, 0, 0);
	cr_assert_eq(delta_begin(d, m.s, life_a, 1000, false, &v), 0);
	delta_commit(d);
	set(&m, 6, 0, 0, 0);
	cr_assert_eq(delta_begin(d, m.s, life_b, 1000, false, &v), 0);
	expect(&m, &v, 6, 0, 0, 0, 10);
	delta_commit(d);
	cr_assert_eq(delta_begin(d, m.s, life_a, 2000, false, &v), 0);
	expect(&m, &v, 1, 0, 0, 0, 1000);
	delta_free(d);
	snapshot_free(m.s);
}

Test(delta, the_final_one_is_sent_once)
{
	struct delta *d = delta_new(), *again = delta_new();
	struct model m = model_new();
	struct delta_view v;
	uint8_t *bytes;
	size_t len;

	set(&m, 5, 0, 0, 0);
	cr_assert_eq(delta_begin(d, m.s, life_a, 1000, true, &v), 0);
	delta_rollback(d);
	cr_assert_eq(delta_begin(d, m.s, life_a, 2000, true, &v), 0, "it was not taken over");
	expect(&m, &v, 5, 0, 0, 0, 10);
	delta_commit(d);
	cr_expect_eq(delta_begin(d, m.s, life_a, 3000, true, &v), -EALREADY);
	cr_assert_eq(delta_save(d, false, &bytes, &len), 0);
	cr_assert_eq(delta_load(again, bytes, len), 0);
	cr_expect_eq(delta_begin(again, m.s, life_a, 3000, true, &v), -EALREADY,
		     "nor after a restart");
	free(bytes);
	delta_free(d);
	delta_free(again);
	snapshot_free(m.s);
}

Test(delta, a_counter_or_histogram_that_fell_starts_again_as_a_whole)
{
	struct delta *d = delta_new();
	struct model m = model_new();
	struct delta_view v;

	set(&m, 5, 4, 4, 100);
	cr_assert_eq(delta_begin(d, m.s, life_a, 1000, false, &v), 0);
	delta_commit(d);
	set(&m, 3, 9, 3, 120);
	cr_assert_eq(delta_begin(d, m.s, life_a, 2000, false, &v), 0);
	expect(&m, &v, 3, 9, 3, 120, 1000);
	delta_free(d);
	snapshot_free(m.s);
}

Test(delta, a_series_that_was_not_shown_for_a_while_is_not_counted_twice)
{
	struct delta *d = delta_new();
	struct model m = model_new();
	struct snapshot *empty = snapshot_new();
	struct delta_view v;

	set(&m, 5, 0, 0, 0);
	cr_assert_eq(delta_begin(d, m.s, life_a, 1000, false, &v), 0);
	delta_commit(d);
	cr_assert_eq(delta_begin(d, empty, life_a, 2000, false, &v), 0);
	delta_commit(d);
	snapshot_hide_series(m.s, m.counter, true);
	cr_assert_eq(delta_begin(d, m.s, life_a, 3000, false, &v), 0);
	delta_commit(d);
	snapshot_hide_series(m.s, m.counter, false);
	set(&m, 7, 0, 0, 0);
	cr_assert_eq(delta_begin(d, m.s, life_a, 4000, false, &v), 0);
	cr_expect_eq(v.values[m.at_counter], 2);
	cr_expect_eq(v.start_unix_ns[m.counter], 1000, "its own last point");
	delta_free(d);
	snapshot_free(empty);
	snapshot_free(m.s);
}

Test(delta, misuse_has_its_errors)
{
	struct delta *d = delta_new();
	struct model m = model_new();
	struct delta_view v;
	uint8_t *bytes;
	size_t len;

	cr_expect_eq(delta_begin(d, m.s, "0123", 1000, false, &v), -EINVAL);
	cr_expect_eq(delta_begin(d, m.s, "0123456789abcdef0123456789abcdeg", 1, false, &v),
		     -EINVAL);
	cr_assert_eq(delta_begin(d, m.s, life_a, 1000, false, &v), 0);
	cr_expect_eq(delta_begin(d, m.s, life_a, 2000, false, &v), -EBUSY);
	cr_assert_eq(delta_save(d, false, &bytes, &len), 0);
	cr_expect_eq(delta_load(d, bytes, len), -EBUSY);
	free(bytes);
	delta_commit(d);
	delta_commit(d);
	delta_rollback(d);
	cr_expect_eq(delta_begin(d, m.s, life_a, 1000, false, &v), -EINVAL, "not after the last");
	cr_expect_eq(delta_begin(d, m.s, life_a, 1001, false, &v), 0);
	cr_expect_null(delta_free(d));
	cr_expect_null(delta_free(NULL));
	snapshot_free(m.s);
}

Test(delta, the_life_touched_longest_ago_makes_room)
{
	struct delta *d = delta_new();
	struct model m = model_new();
	struct delta_view v;
	char life[DELTA_INCARNATION_BYTES + 1];

	set(&m, 5, 0, 0, 0);
	for (uint32_t i = 0; i <= DELTA_LIVES_MAX; i++) { /* one more than there is room for */
		memset(life, '0', sizeof(life));
		life[0] = "0123456789abcdef"[i >> 4];
		life[1] = "0123456789abcdef"[i & 15];
		life[DELTA_INCARNATION_BYTES] = '\0';
		cr_assert_eq(delta_begin(d, m.s, life, 1000, false, &v), 0);
		delta_commit(d);
	}
	life[0] = life[1] = '0';
	life[1] = '1';
	cr_assert_eq(delta_begin(d, m.s, life, 2000, false, &v), 0);
	cr_expect_eq(v.values[m.at_counter], 0, "the second is still known");
	delta_commit(d);
	life[1] = '0';
	cr_assert_eq(delta_begin(d, m.s, life, 2000, false, &v), 0);
	cr_expect_eq(v.values[m.at_counter], 5, "the first is not");
	delta_free(d);
	snapshot_free(m.s);
}

Test(delta, series_beyond_the_bound_are_skipped_and_counted_and_the_others_are_not)
{
	enum {
		LATE = 10,
		MANY = 8000
	}; /* with their exponential cells more than DELTA_BYTES_MAX */
	const struct snapshot_bounds bounds = {.n = 1, .value = {1}};
	const struct snapshot_family spec = {.name = "h_seconds",
					     .unit = "s",
					     .type = SNAPSHOT_HISTOGRAM,
					     .number = SNAPSHOT_NS,
					     .bounds = &bounds};
	struct snapshot *s = snapshot_new();
	struct delta *d = delta_new();
	static bool was_skipped[MANY];
	uint64_t skipped = 0;
	struct delta_view v;
	uint32_t f, i;
	char value[16];

	cr_assert_eq(snapshot_family(s, &spec, &f), 0);
	for (uint32_t k = 0; k < MANY; k++) {
		const struct snapshot_label label = {"k", value};

		(void)snprintf(value, sizeof(value), "%u", k);
		cr_assert_eq(snapshot_series(s, f, &label, 1, true, false, &i), 0);
	}
	for (i = 0; i < LATE; i++) /* these come first in the snapshot, and last into the tracker */
		snapshot_hide_series(s, i, true);
	cr_assert_eq(delta_begin(d, s, life_a, 1000, false, &v), 0);
	for (i = 0; i < MANY; i++) {
		was_skipped[i] = v.skipped[i];
		skipped += v.skipped[i];
	}
	cr_expect_gt(skipped, 0);
	cr_expect_lt(skipped, MANY / 10);
	cr_expect_eq(delta_skipped(d), skipped);
	delta_commit(d);
	for (i = 0; i < LATE; i++)
		snapshot_hide_series(s, i, false);
	cr_assert_eq(delta_begin(d, s, life_a, 2000, false, &v), 0);
	for (i = LATE; i < MANY; i++)
		if (!was_skipped[i]) { /* or it would be counted from its start once more */
			cr_assert_not(v.skipped[i], "%u lost its room", i);
			cr_assert_eq(v.start_unix_ns[i], 1000);
		}
	cr_expect(v.skipped[0]);
	delta_free(d);
	snapshot_free(s);
}

static uint8_t *saved(struct model *m, bool committed, size_t *ret_len)
{
	struct delta *d = delta_new();
	struct delta_view v;
	uint8_t *bytes;

	set(m, 5, 1, 2, 100);
	cr_assert_eq(delta_begin(d, m->s, life_a, 1000, false, &v), 0);
	cr_assert_eq(delta_save(d, committed, &bytes, ret_len), 0);
	delta_free(d);
	return bytes;
}

Test(delta, saved_baselines_go_on_after_a_restart)
{
	struct model m = model_new();
	struct delta *d = delta_new();
	struct delta_view v;
	size_t len;
	uint8_t *bytes = saved(&m, true, &len);

	cr_assert_eq(delta_load(d, bytes, len), 0);
	free(bytes);
	set(&m, 6, 1, 2, 101);
	cr_assert_eq(delta_begin(d, m.s, life_a, 2000, false, &v), 0);
	expect(&m, &v, 1, 0, 0, 1, 1000);
	delta_rollback(d);
	bytes = saved(&m, false, &len); /* the attempt is open: not in it */
	cr_assert_eq(delta_load(d, bytes, len), 0);
	free(bytes);
	cr_assert_eq(delta_begin(d, m.s, life_a, 2000, false, &v), 0);
	cr_expect_eq(v.values[m.at_counter], 5);
	delta_free(d);
	snapshot_free(m.s);
}

static void put_crc(uint8_t *bytes, size_t len)
{
	uint32_t crc = (uint32_t)crc32(crc32(0, NULL, 0), bytes, (uInt)(len - 4));

	for (uint32_t i = 0; i < 4; i++)
		bytes[len - 4 + i] = (uint8_t)(crc >> (8 * i));
}

/* A good checksum over bad content, which only somebody hostile writes. */
Test(delta, bytes_with_a_good_checksum_are_checked_all_the_same)
{
	struct model m = model_new();
	struct delta *d = delta_new();
	struct delta_view v;
	size_t len;
	uint8_t *bytes = saved(&m, true, &len);

	for (size_t i = 0; i < len - 4; i++)
		for (uint32_t k = 0; k < 3; k++) {
			uint8_t was = bytes[i];

			bytes[i] = (const uint8_t[]){0, 0xff, 0x7f}[k];
			put_crc(bytes, len);
			if (delta_load(d, bytes, len) == 0 &&
			    delta_begin(d, m.s, life_a, UINT64_MAX, false, &v) == 0)
				delta_commit(d);
			bytes[i] = was;
		}
	put_crc(bytes, len);
	cr_expect_eq(delta_load(d, bytes, len), 0);
	delta_free(d);
	free(bytes);
	snapshot_free(m.s);
}

Test(delta, damaged_bytes_are_refused_and_change_nothing)
{
	struct model m = model_new();
	struct delta *d = delta_new();
	struct delta_view v;
	size_t len;
	uint8_t *bytes = saved(&m, true, &len);

	cr_assert_eq(delta_load(d, bytes, len), 0);
	for (size_t cut = 0; cut < len; cut++)
		cr_expect_eq(delta_load(d, bytes, cut), -EBADMSG);
	for (size_t i = 0; i < len; i++) {
		bytes[i] ^= 0x40;
		cr_expect_eq(delta_load(d, bytes, len), -EBADMSG);
		bytes[i] ^= 0x40;
	}
	bytes[8] = 2; /* the version, little-endian, behind the magic */
	put_crc(bytes, len);
	cr_expect_eq(delta_load(d, bytes, len), -EPROTONOSUPPORT);
	bytes[8] = 1;
	bytes[12] = DELTA_LIVES_MAX + 1; /* lives */
	put_crc(bytes, len);
	cr_expect_eq(delta_load(d, bytes, len), -EBADMSG);
	cr_assert_eq(delta_begin(d, m.s, life_a, 2000, false, &v), 0);
	expect(&m, &v, 0, 0, 0, 0, 1000);
	delta_free(d);
	free(bytes);
	snapshot_free(m.s);
}
