/* Goal: every nanosecond falls into the bucket that the mathematics of the grid says, in the hooks'
 * form and in that of BPF, and what encoders make of cells keeps every observation in its bounds.
 * Method: the cell functions are monotone, so both sides of each bound prove all values: the
 * bounds come from long double, far finer than a nanosecond. Besides: all small integers one by
 * one, random values against libm, exact powers, edges. */
#include "shm/buckets.h"
#include "shm/metric.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(buckets, .timeout = 60);

/* A fixed sequence (xorshift64*), so that a failure can be repeated. */
static uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

/* Bits and value both spread: a number of 1 to `bits` bits. */
static uint64_t random_ns(uint64_t *state, uint32_t bits)
{
	return random_next(state) >> (64 - 1 - random_next(state) % bits);
}

/* ---- classic --------------------------------------------------------------------------------- */

static uint32_t classic_by_definition(const uint64_t *bounds, uint32_t n, uint64_t value)
{
	for (uint32_t i = 0; i < n; i++)
		if (value <= bounds[i])
			return i;
	return n;
}

Test(buckets, a_classic_bucket_is_the_first_whose_bound_is_not_below_the_value)
{
	uint64_t bounds[24];

	for (uint32_t n = 0; n <= 24; n++) {
		for (uint32_t i = 0; i < n; i++)
			bounds[i] = 10 * (i + 1);
		for (uint64_t value = 0; value <= 260; value++)
			cr_assert_eq(blix_classic_index(bounds, n, value),
				     classic_by_definition(bounds, n, value), "%u bounds, %lu", n,
				     value);
		cr_assert_eq(blix_classic_index(bounds, n, UINT64_MAX), n);
	}
}

Test(buckets, a_value_on_a_catalogue_bound_belongs_to_the_bucket_below_it)
{
	for (int layout = BLIX_LAYOUT_TIME; layout <= BLIX_LAYOUT_LONG; layout++) {
		const struct blix_bounds *b = blix_layout_bounds((enum blix_layout)layout);
		for (uint32_t i = 0; i < b->n; i++) {
			cr_assert_eq(blix_classic_index(b->ns, b->n, b->ns[i] - 1), i);
			cr_assert_eq(blix_classic_index(b->ns, b->n, b->ns[i]), i);
			cr_assert_eq(blix_classic_index(b->ns, b->n, b->ns[i] + 1), i + 1);
		}
	}
}

/* ---- exponential, against the mathematics ---------------------------------------------------- */

/* Bound between grid cells j - 1 and j, in ns. An error of long double here is below 1e-6 ns. */
static long double bound_ns(int32_t j, int32_t per_octave)
{
	return exp2l((long double)BLIX_EXP_LOW + (long double)j / per_octave) * 1e9L;
}

Test(buckets, both_sides_of_every_bound_are_right_in_the_hooks_form)
{
	for (int32_t j = 0; j <= BLIX_EXP_GRID; j++) {
		long double bound = bound_ns(j, BLIX_EXP_PER_OCTAVE);
		uint64_t at = (uint64_t)floorl(bound + 1e-6L); /* upper-inclusive */
		cr_assert(fabsl(bound - rintl(bound)) > 1e-5L ||
				  (j % BLIX_EXP_PER_OCTAVE == 0 && bound == rintl(bound)),
			  "bound %d is too near to a whole number to be told apart", j);
		cr_assert_eq(blix_exp_cell(at), BLIX_EXP_FIRST - 1 + (uint32_t)j, "%lu ns", at);
		cr_assert_eq(blix_exp_cell(at + 1), BLIX_EXP_FIRST + (uint32_t)j, "%lu ns", at + 1);
	}
}

Test(buckets, both_sides_of_every_bound_are_right_in_the_bpf_form)
{
	for (int32_t j = 0; j < BLIX_BPF_GRID; j++) {
		uint64_t at = (uint64_t)floorl(bound_ns(j, BLIX_BPF_PER_OCTAVE) + 1e-6L);
		cr_assert_eq(blix_bpf_cell(at), BLIX_EXP_FIRST - 1 + (uint32_t)j, "%lu ns", at);
		cr_assert_eq(blix_bpf_cell(at + 1), BLIX_EXP_FIRST + (uint32_t)j, "%lu ns", at + 1);
	}
}

Test(buckets, cells_never_fall_as_the_value_grows)
{
	uint64_t state = 1;
	uint32_t before = 0, before_bpf = 0;

	/* Every nanosecond up to 4 ms, then steps of at most 0.1 % through the rest. */
	for (uint64_t ns = 0; ns < UINT64_C(9000000000000);
	     ns += ns < 4000000 ? 1 : 1 + random_next(&state) % (ns / 1000)) {
		uint32_t cell = blix_exp_cell(ns);
		uint32_t bpf = blix_bpf_cell(ns);
		if (cell < before || cell >= BLIX_EXP_CELLS || bpf < before_bpf ||
		    bpf >= BLIX_BPF_CELLS)
			cr_assert_fail("%lu ns: cell %u after %u, %u after %u", ns, cell, before,
				       bpf, before_bpf);
		before = cell;
		before_bpf = bpf;
	}
	cr_assert_eq(before, BLIX_EXP_OVER);
	cr_assert_eq(before_bpf, BLIX_BPF_CELLS - 1);
}

/* OpenTelemetry's rule with libm: index = ceil(log2(seconds) * 2^scale) - 1. */
static int32_t index_by_libm(uint64_t ns, int32_t per_octave)
{
	return (int32_t)ceill(log2l((long double)ns / 1e9L) * per_octave) - 1;
}

static void compare_with_libm(uint64_t ns)
{
	uint32_t cell = blix_exp_cell(ns);

	if (cell < BLIX_EXP_FIRST || cell == BLIX_EXP_OVER)
		cr_assert_fail("%lu ns is outside of the grid", ns);
	if (blix_exp_otlp_index(cell) != index_by_libm(ns, BLIX_EXP_PER_OCTAVE))
		cr_assert_fail("%lu ns: %d, libm says %d", ns, blix_exp_otlp_index(cell),
			       index_by_libm(ns, BLIX_EXP_PER_OCTAVE));
}

Test(buckets, small_integers_agree_with_libm_one_by_one)
{
	for (uint64_t ns = BLIX_EXP_UNDER_NS_MAX + 1; ns < 2000000; ns++)
		compare_with_libm(ns);
}

Test(buckets, random_durations_agree_with_libm)
{
	uint64_t state = 20261122;
	uint32_t compared = 0;

	while (compared < 2000000) {
		uint64_t ns = random_ns(&state, 42);
		if (ns <= BLIX_EXP_UNDER_NS_MAX || ns > BLIX_EXP_NS_MAX)
			continue;
		compare_with_libm(ns);
		compared++;
	}
}

Test(buckets, exact_powers_of_two_belong_to_the_bucket_that_ends_there)
{
	/* 2^-9 s is the smallest that is a whole number of nanoseconds. */
	for (int32_t power = -9; power <= BLIX_EXP_HIGH; power++) {
		uint64_t ns = (uint64_t)ldexp(1e9, power);
		int32_t index = blix_exp_otlp_index(blix_exp_cell(ns));
		cr_assert_eq(index, power * BLIX_EXP_PER_OCTAVE - 1, "2^%d s", power);
		cr_assert_eq(blix_exp_otlp_index(blix_exp_cell(ns - 1)), index);
		cr_assert_eq(blix_exp_otlp_index(blix_exp_cell(ns + 1)), index + 1);
		if (ns < BLIX_BPF_NS_MAX) {
			index = blix_bpf_otlp_index(blix_bpf_cell(ns));
			cr_assert_eq(index, power * BLIX_BPF_PER_OCTAVE - 1, "2^%d s", power);
			cr_assert_eq(blix_bpf_otlp_index(blix_bpf_cell(ns + 1)), index + 1);
		}
	}
}

Test(buckets, what_lies_outside_of_the_grid_has_cells_of_its_own)
{
	cr_assert_eq(blix_exp_cell(0), BLIX_EXP_ZERO);
	cr_assert_eq(blix_exp_cell(1), BLIX_EXP_UNDER);
	cr_assert_eq(blix_exp_cell(953), BLIX_EXP_UNDER);
	cr_assert_eq(blix_exp_cell(954), BLIX_EXP_FIRST);
	cr_assert_eq(blix_exp_cell(UINT64_C(4096000000000)), BLIX_EXP_OVER - 1);
	cr_assert_eq(blix_exp_cell(UINT64_C(4096000000001)), BLIX_EXP_OVER);
	cr_assert_eq(blix_exp_cell(UINT64_MAX), BLIX_EXP_OVER);
	cr_assert_eq(BLIX_EXP_CELLS, 259);

	cr_assert_eq(blix_bpf_cell(0), BLIX_EXP_ZERO);
	cr_assert_eq(blix_bpf_cell(1), BLIX_EXP_UNDER);
	cr_assert_eq(blix_bpf_cell(953), BLIX_EXP_UNDER);
	cr_assert_eq(blix_bpf_cell(954), BLIX_EXP_FIRST);
	cr_assert_eq(blix_bpf_cell(BLIX_BPF_NS_MAX), BLIX_BPF_CELLS - 1);
	cr_assert_eq(blix_bpf_cell(BLIX_BPF_NS_MAX + 1), BLIX_BPF_CELLS - 1);
	cr_assert_eq(blix_bpf_cell(UINT64_MAX), BLIX_BPF_CELLS - 1);
	cr_assert_eq(BLIX_BPF_CELLS, 98);
}

/* ---- one grid: hooks and BPF ----------------------------------------------------------------- */

static void compare_forms(uint64_t ns)
{
	uint32_t cell = blix_exp_cell(ns);
	uint32_t bpf = blix_bpf_cell(ns);
	bool same = cell < BLIX_EXP_FIRST ? bpf == cell
					  : blix_exp_downscale(blix_exp_otlp_index(cell), 1) ==
						    blix_bpf_otlp_index(bpf);

	if (!same)
		cr_assert_fail("%lu ns: cell %u in the hooks, %u in BPF", ns, cell, bpf);
}

Test(buckets, the_bpf_form_is_the_hooks_form_one_scale_coarser_up_to_15_seconds)
{
	uint64_t state = 7;

	for (uint64_t ns = 0; ns < 2000000; ns++)
		compare_forms(ns);
	for (uint32_t i = 0; i < 2000000; i++)
		compare_forms(random_ns(&state, 34) % (BLIX_BPF_NS_MAX + 1));
	compare_forms(BLIX_BPF_NS_MAX);
}

/* ---- what encoders make of it ---------------------------------------------------------------- */

Test(buckets, indexes_of_opentelemetry_and_prometheus_name_the_same_bounds)
{
	/* The cell above 2^-20 s, the one that ends at 1 s, the one above 1 s, over. */
	cr_assert_eq(blix_exp_otlp_index(BLIX_EXP_FIRST), -160);
	cr_assert_eq(blix_exp_otlp_index(blix_exp_cell(1000000000)), -1);
	cr_assert_eq(blix_exp_otlp_index(blix_exp_cell(1000000001)), 0);
	cr_assert_eq(blix_exp_otlp_index(BLIX_EXP_OVER), 96);
	cr_assert_eq(blix_bpf_otlp_index(BLIX_EXP_FIRST), -80);
	cr_assert_eq(blix_bpf_otlp_index(blix_bpf_cell(1000000000)), -1);
	/* A native bucket is named by its upper bound: 1 s is 2^(0/8). */
	cr_assert_eq(blix_native_index(-1), 0);
	cr_assert_eq(blix_native_index(-160), -159);
}

Test(buckets, downscaling_rounds_towards_minus_infinity)
{
	cr_assert_eq(blix_exp_downscale(-160, 1), -80);
	cr_assert_eq(blix_exp_downscale(-159, 1), -80);
	cr_assert_eq(blix_exp_downscale(-1, 1), -1);
	cr_assert_eq(blix_exp_downscale(-1, 5), -1);
	cr_assert_eq(blix_exp_downscale(0, 1), 0);
	cr_assert_eq(blix_exp_downscale(1, 1), 0);
	cr_assert_eq(blix_exp_downscale(96, 3), 12);
	cr_assert_eq(blix_exp_downscale(-7, 0), -7);
}

static void assert_merged(const uint64_t *counts, uint32_t n, int32_t offset, const uint64_t *want,
			  uint32_t want_n, int32_t want_offset)
{
	uint64_t copy[8];

	memcpy(copy, counts, n * sizeof(*copy));
	cr_assert_eq(blix_exp_merge_pairs(copy, n, &offset), want_n);
	cr_assert_eq(offset, want_offset);
	for (uint32_t i = 0; i < want_n; i++)
		cr_assert_eq(copy[i], want[i], "%u", i);
}

Test(buckets, merging_adds_the_pairs_that_share_a_coarser_bucket)
{
	static const uint64_t counts[] = {1, 20, 300, 4000, 50000};

	assert_merged(counts, 0, 5, (uint64_t[]){0}, 0, 2);
	assert_merged(counts, 1, 4, (uint64_t[]){1}, 1, 2);
	assert_merged(counts, 1, 5, (uint64_t[]){1}, 1, 2);
	assert_merged(counts, 5, 4, (uint64_t[]){21, 4300, 50000}, 3, 2);
	assert_merged(counts, 5, 5, (uint64_t[]){1, 320, 54000}, 3, 2);
	assert_merged(counts, 4, -2, (uint64_t[]){21, 4300}, 2, -1);
	assert_merged(counts, 4, -3, (uint64_t[]){1, 320, 4000}, 3, -2);
}

Test(buckets, counts_of_pow2_made_from_cells_are_those_of_its_bounds)
{
	const struct blix_bounds *b = blix_layout_bounds(BLIX_LAYOUT_POW2);
	uint64_t state = 99;

	cr_assert_eq(b->n, BLIX_POW2_BOUNDS);
	cr_assert_eq(b->seconds[0], ldexp(1, BLIX_POW2_LOW));
	cr_assert_eq(b->seconds[b->n - 1], ldexp(1, BLIX_POW2_HIGH));
	for (uint32_t i = 0; i < 1000000; i++) {
		uint64_t ns = i < 1000 ? i : random_ns(&state, 44);
		uint32_t want = 0;
		while (want < b->n && (long double)ns > (long double)b->seconds[want] * 1e9L)
			want++;
		if (blix_exp_pow2_bucket(blix_exp_cell(ns)) != want ||
		    blix_bpf_pow2_bucket(blix_bpf_cell(ns)) != want)
			cr_assert_fail("%lu ns: bucket %u and %u, not %u", ns,
				       blix_exp_pow2_bucket(blix_exp_cell(ns)),
				       blix_bpf_pow2_bucket(blix_bpf_cell(ns)), want);
	}
	for (uint32_t i = 8; i < b->n; i++) {
		cr_assert_eq(blix_exp_pow2_bucket(blix_exp_cell(b->ns[i])), i);
		cr_assert_eq(blix_exp_pow2_bucket(blix_exp_cell(b->ns[i] + 1)), i + 1);
	}
	cr_assert_eq(blix_exp_pow2_bucket(BLIX_EXP_ZERO), 0);
	cr_assert_eq(blix_exp_pow2_bucket(BLIX_EXP_OVER), BLIX_POW2_BOUNDS);
}
