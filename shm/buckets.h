/* shm/buckets.h - THE GRID: which bucket a duration belongs to, in hooks, BPF and encoders alike.
 *
 * Freestanding: needs nothing but fixed-width integers, so that it compiles for the bpf target
 * too. Pure functions: any thread, signal handlers, BPF programs.
 *
 * ---- The grid is one of seconds -----------------------------------------------------------------
 *
 *  The exposed unit is the second, and log2(10^9) is no multiple of 1/8: a power of two in
 *  nanoseconds is not one in seconds. So a duration is first turned into units of a power of two of
 *  a second, and only then bucketed:
 *
 *    hooks  scale 3: eight buckets an octave from 2^-20 s to 2^12 s. v = ns * 2^34 / 10^9, carried
 *           with 16 more fraction bits (one 64 x 64 -> 128 bit multiply).
 *    BPF    scale 2: four buckets an octave from 2^-20 s to 2^4 s, durations clamped at 15 s. The
 *           same v carried with 26 more fraction bits (64-bit multiplies and one division).
 *
 *  The fraction bits are what makes both exact: v rounded to whole units of 2^-34 s would put
 *  durations next to a bound into the wrong bucket, and with a rounded-up factor 1 s itself. The
 *  functions are monotone, so the test proves them for every nanosecond by looking at both sides
 *  of each bound.
 *
 *  Index of v: 8 * floor(log2 v) + k, where 2^(k/8) is the largest step not above the mantissa,
 *  minus 1 when v is exactly a power of two, because a bucket includes its upper bound and not its
 *  lower one. Only powers of two can be hit exactly: the other steps are irrational.
 *
 * ---- Order of the exponential cells of a series ---------------------------------------------
 *
 *  scale 3, BLIX_EXP_CELLS = 259 cells, ascending in value:
 *
 *    cell 0            zero: exactly 0 ns
 *    cell 1            under: above 0, up to and including 2^-20 s (953 ns)
 *    cell 2 + j        grid: above 2^(-20 + j/8) s, up to and including 2^(-20 + (j+1)/8) s; j <
 * 256 cell 258          over: above 2^12 s
 *
 *  scale 2, BLIX_BPF_CELLS = 98 cells: zero, under, 96 grid cells of a quarter octave; no over.
 *
 *  OpenTelemetry numbers the bucket above 2^(i/8) as i, Prometheus' native histograms number it
 *  i + 1 (by its upper bound). zero and under together are the zero bucket, whose threshold is
 *  2^-20 s; over is shown as the first bucket above the grid, so that no observation is lost. */
#ifndef BLIX_SHM_BUCKETS_H
#define BLIX_SHM_BUCKETS_H

#ifdef __bpf__ /* the C library's stdint.h does not exist for this target */
typedef __UINT8_TYPE__ uint8_t;
typedef __INT32_TYPE__ int32_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;
#define UINT64_C(c) c##ull
#else
#include <stdint.h>
#endif

enum {
	BLIX_EXP_SCALE = 3,
	BLIX_EXP_PER_OCTAVE = 1 << BLIX_EXP_SCALE,
	BLIX_EXP_LOW = -20, /* log2 of the grid's ends in seconds */
	BLIX_EXP_HIGH = 12,
	BLIX_EXP_GRID = (BLIX_EXP_HIGH - BLIX_EXP_LOW) * BLIX_EXP_PER_OCTAVE,
	BLIX_EXP_ZERO = 0,
	BLIX_EXP_UNDER = 1,
	BLIX_EXP_FIRST = 2,
	BLIX_EXP_OVER = BLIX_EXP_FIRST + BLIX_EXP_GRID,
	BLIX_EXP_CELLS = BLIX_EXP_OVER + 1,

	BLIX_BPF_SCALE = 2,
	BLIX_BPF_PER_OCTAVE = 1 << BLIX_BPF_SCALE,
	BLIX_BPF_HIGH = 4,
	BLIX_BPF_GRID = (BLIX_BPF_HIGH - BLIX_EXP_LOW) * BLIX_BPF_PER_OCTAVE,
	BLIX_BPF_CELLS = BLIX_EXP_FIRST + BLIX_BPF_GRID,

	/* log2 of the bounds of the catalogue's layout POW2, in seconds. */
	BLIX_POW2_LOW = -17,
	BLIX_POW2_HIGH = 3,
	BLIX_POW2_BOUNDS = BLIX_POW2_HIGH - BLIX_POW2_LOW + 1,
};

#define BLIX_EXP_UNDER_NS_MAX		UINT64_C(953)		/* 2^-20 s is 953.67 ns */
#define BLIX_EXP_NS_MAX			UINT64_C(4096000000000) /* 2^12 s */
#define BLIX_BPF_NS_MAX			UINT64_C(15000000000)
#define BLIX_EXP_ZERO_THRESHOLD_SECONDS 0x1p-20

/* 2^(k/8) * 2^63 rounded up. A mantissa with its leading bit at bit 63 is above the irrational
 * step exactly if it is not below this. */
#define BLIX_STEP_1 UINT64_C(0x8b95c1e3ea8bd6e7)
#define BLIX_STEP_2 UINT64_C(0x9837f0518db8a970)
#define BLIX_STEP_3 UINT64_C(0xa5fed6a9b15138eb)
#define BLIX_STEP_4 UINT64_C(0xb504f333f9de6485)
#define BLIX_STEP_5 UINT64_C(0xc5672a115506dade)
#define BLIX_STEP_6 UINT64_C(0xd744fccad69d6af5)
#define BLIX_STEP_7 UINT64_C(0xeac0c6e7dd24392f)
#define BLIX_POWER  (UINT64_C(1) << 63)

#ifndef __bpf__

/* ---- classic buckets ------------------------------------------------------------------------- */

/* Bucket of `value` among `n` ascending upper-inclusive bounds: the first with value <= bound, or
 * `n` (+Inf) when there is none. */
static inline uint32_t blix_classic_index(const uint64_t *bounds, uint32_t n, uint64_t value)
{
	uint32_t index = 0;

	if (n <= 8) {
		while (index < n && bounds[index] < value)
			index++;
		return index;
	}
	/* Halving without branches: a mispredicted one costs more than all of the steps. */
	const uint64_t *base = bounds;
	while (n > 1) {
		uint32_t half = n / 2;
		base += half & -(uint32_t)(base[half - 1] < value);
		n -= half;
	}
	return (uint32_t)(base - bounds) + (*base < value);
}

/* ---- exponential buckets, hooks -------------------------------------------------------------- */

/* Cell of a duration; see the order at the top of this file. */
static inline uint32_t blix_exp_cell(uint64_t ns)
{
	/* k at the start of each 64th of an octave; at most one step lies inside of one. */
	static const uint8_t first[64] = {
		0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3,
		3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5,
		6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	};
	static const uint64_t next_step[8] = {
		BLIX_STEP_1, BLIX_STEP_2, BLIX_STEP_3, BLIX_STEP_4,
		BLIX_STEP_5, BLIX_STEP_6, BLIX_STEP_7, UINT64_MAX,
	};

	if (__builtin_expect(ns <= BLIX_EXP_UNDER_NS_MAX, 0))
		return ns > 0 ? BLIX_EXP_UNDER : BLIX_EXP_ZERO;
	if (__builtin_expect(ns > BLIX_EXP_NS_MAX, 0))
		return BLIX_EXP_OVER;

	/* Units of 2^-50 s: times 2^93 / 10^9 rounded up, then by 2^43. What rounding up adds stays
	 * below half a unit up to 2^12 s, so exact powers of two stay exact. */
	__extension__ typedef unsigned __int128 wide;
	uint64_t v = (uint64_t)(((wide)ns * UINT64_C(9903520314283042200)) >> 43);
	uint32_t zeros = (uint32_t)__builtin_clzll(v);
	uint64_t mantissa = v << zeros;
	uint32_t k = first[mantissa >> 57 & 63];

	k += mantissa >= next_step[k];
	k -= mantissa == BLIX_POWER;
	return BLIX_EXP_FIRST + BLIX_EXP_PER_OCTAVE * (63 - zeros - (50 + BLIX_EXP_LOW)) + k;
}

#endif /* !__bpf__ */

/* ---- exponential buckets, BPF ---------------------------------------------------------------- */

/* Cell of a duration at scale 2, always below BLIX_BPF_CELLS: blix_exp_cell() with its pairs
 * merged, for every duration up to 15 s; longer ones count as 15 s. */
static inline uint32_t blix_bpf_cell(uint64_t ns)
{
	if (ns <= BLIX_EXP_UNDER_NS_MAX)
		return ns > 0 ? BLIX_EXP_UNDER : BLIX_EXP_ZERO;
	if (ns > BLIX_BPF_NS_MAX)
		ns = BLIX_BPF_NS_MAX;

	/* Units of 2^-60 s, exactly: 2^60 / 10^9 is 1152921504 and 606846976 thousand-millionths.
	 * Both products stay below 2^64 up to 15 s. */
	uint64_t v = ns * UINT64_C(1152921504) + ns * UINT64_C(606846976) / UINT64_C(1000000000);
	uint32_t log2 = 63;

	/* Normalise by halving the search: this target has no count of leading zeros. */
	for (uint32_t half = 32; half > 0; half /= 2) {
		if (v >> (64 - half) == 0) {
			v <<= half;
			log2 -= half;
		}
	}
	uint32_t cell = BLIX_EXP_FIRST + BLIX_BPF_PER_OCTAVE * (log2 - (60 + BLIX_EXP_LOW));

	cell += (uint32_t)(v >= BLIX_STEP_2) + (v >= BLIX_STEP_4) + (v >= BLIX_STEP_6);
	cell -= v == BLIX_POWER;
	return cell < BLIX_BPF_CELLS ? cell : BLIX_BPF_CELLS - 1;
}

/* ---- what a cell means ----------------------------------------------------------------------- */

/* OpenTelemetry bucket index, at the cell's own scale, of a grid cell or of over: the bucket
 * (base^i, base^(i+1)] with base = 2^(2^-scale). zero and under have none: they are the zero count.
 */
static inline int32_t blix_exp_otlp_index(uint32_t cell)
{
	return (int32_t)(cell - BLIX_EXP_FIRST) + BLIX_EXP_LOW * BLIX_EXP_PER_OCTAVE;
}
static inline int32_t blix_bpf_otlp_index(uint32_t cell)
{
	return (int32_t)(cell - BLIX_EXP_FIRST) + BLIX_EXP_LOW * BLIX_BPF_PER_OCTAVE;
}

/* Index of the same bucket in a Prometheus native histogram of the same schema. */
static inline int32_t blix_native_index(int32_t otlp_index)
{
	return otlp_index + 1;
}

/* OpenTelemetry index of the bucket that holds this one `steps` scales coarser: pairs merge. */
static inline int32_t blix_exp_downscale(int32_t otlp_index, uint32_t steps)
{
	return otlp_index >> steps; /* gcc and clang shift arithmetically: towards minus infinity */
}

/* Merge pairs of neighbouring buckets in place: counts[0] is the bucket *offset, an OpenTelemetry
 * index. Returns how many are left; *offset becomes the first one's index, one scale coarser. */
static inline uint32_t blix_exp_merge_pairs(uint64_t *counts, uint32_t n, int32_t *offset)
{
	int32_t first = *offset;
	uint32_t left = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t count = counts[i]; /* before its place is given away */
		uint32_t to = (uint32_t)(blix_exp_downscale(first + (int32_t)i, 1) -
					 blix_exp_downscale(first, 1));
		counts[to] = to < left ? counts[to] + count : count;
		left = to + 1;
	}
	*offset = blix_exp_downscale(first, 1);
	return left;
}

/* Bucket of the layout POW2 that holds a cell, BLIX_POW2_BOUNDS being +Inf. Its bounds are bounds
 * of the grid, so classic counts made from cells are exact. */
static inline uint32_t blix_pow2_of_octave(int32_t octave)
{
	int32_t bucket = octave + 1 - BLIX_POW2_LOW; /* an octave ends one power above its start */
	return bucket < 0 ? 0 : bucket > BLIX_POW2_BOUNDS ? BLIX_POW2_BOUNDS : (uint32_t)bucket;
}
static inline uint32_t blix_exp_pow2_bucket(uint32_t cell)
{
	return cell < BLIX_EXP_FIRST
		       ? 0
		       : blix_pow2_of_octave(blix_exp_otlp_index(cell) >> BLIX_EXP_SCALE);
}
static inline uint32_t blix_bpf_pow2_bucket(uint32_t cell)
{
	return cell < BLIX_EXP_FIRST
		       ? 0
		       : blix_pow2_of_octave(blix_bpf_otlp_index(cell) >> BLIX_BPF_SCALE);
}

#endif
