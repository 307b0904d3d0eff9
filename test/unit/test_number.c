/* Goal: every number is printed exactly, as short as that allows, and as Prometheus spells it.
 * Method: both sides of each power of ten and two, and a stream of random numbers, against the C
 * library's own reading and writing of numbers. */
#include "agent/model/number.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t random_state = 1;

/* Of any magnitude. */
static uint64_t next_number(void)
{
	uint64_t high;

	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	high = random_state >> 32;
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (high << 32 | random_state >> 32) >> (high & 63);
}

static const char *u64_text(uint64_t value)
{
	static char text[NUMBER_BYTES_MAX + 1];

	*number_put_u64(text, value) = '\0';
	return text;
}

static const char *ns_text(uint64_t ns)
{
	static char text[NUMBER_BYTES_MAX + 1];

	*number_put_ns(text, ns) = '\0';
	return text;
}

static const char *f64_text(double value)
{
	static char text[NUMBER_BYTES_MAX + 1];

	*number_put_f64(text, value) = '\0';
	return text;
}

static const char *le_text(double bound)
{
	static char text[NUMBER_BYTES_MAX + 1];

	*number_put_le(text, bound) = '\0';
	return text;
}

static void expect_u64(uint64_t value)
{
	char expected[32];

	(void)snprintf(expected, sizeof(expected), "%" PRIu64, value);
	cr_assert_str_eq(u64_text(value), expected);
}

Test(number, prints_integers_as_the_c_library_does)
{
	cr_expect_eq(number_digits(0), 1);
	cr_expect_eq(number_digits(1), 1);
	for (uint32_t i = 0; i < 20; i++)
		for (uint64_t d = 0; d < 3; d++)
			expect_u64(number_powers[i] + d - 1);
	for (uint32_t i = 0; i < 64; i++)
		for (uint64_t d = 0; d < 3; d++)
			expect_u64((1ull << i) + d - 1);
	for (uint32_t i = 0; i < 100000; i++)
		expect_u64(next_number());
}

Test(number, prints_negative_integers_down_to_the_smallest)
{
	static const int64_t values[] = {0, 1, -1, -9, -10, INT64_MAX, INT64_MIN};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		char expected[32], text[NUMBER_BYTES_MAX + 1];

		(void)snprintf(expected, sizeof(expected), "%" PRId64, values[i]);
		*number_put_i64(text, values[i]) = '\0';
		cr_expect_str_eq(text, expected);
	}
}

Test(number, prints_nanoseconds_as_exact_seconds_without_trailing_zeros)
{
	cr_expect_str_eq(ns_text(0), "0");
	cr_expect_str_eq(ns_text(1), "0.000000001");
	cr_expect_str_eq(ns_text(10), "0.00000001");
	cr_expect_str_eq(ns_text(999999999), "0.999999999");
	cr_expect_str_eq(ns_text(1000000000), "1");
	cr_expect_str_eq(ns_text(1000000001), "1.000000001");
	cr_expect_str_eq(ns_text(1500000000), "1.5");
	cr_expect_str_eq(ns_text(60000000000), "60");
	cr_expect_str_eq(ns_text(UINT64_MAX), "18446744073.709551615");
	for (uint32_t i = 0; i < 100000; i++) {
		uint64_t ns = next_number(), back = 0, scale = NUMBER_NS_PER_S;
		const char *text = ns_text(ns), *point = strchr(text, '.');

		back = strtoull(text, NULL, 10) * NUMBER_NS_PER_S;
		for (const char *at = point ? point + 1 : ""; *at; at++)
			back += (uint64_t)(*at - '0') * (scale /= 10);
		cr_assert_eq(back, ns, "%s", text);
		cr_assert(!point || text[strlen(text) - 1] != '0', "%s", text);
	}
}

Test(number, prints_doubles_so_that_they_read_back_the_same)
{
	cr_expect_str_eq(f64_text(0), "0");
	cr_expect_str_eq(f64_text(-0.0), "-0");
	cr_expect_str_eq(f64_text(0.1), "0.1");
	cr_expect_str_eq(f64_text(1.0 / 3), "0.3333333333333333");
	cr_expect_str_eq(f64_text(0.1 + 0.2), "0.30000000000000004");
	cr_expect_str_eq(f64_text(1e15), "1000000000000000");
	cr_expect_str_eq(f64_text(9007199254740991.0), "9007199254740991");
	cr_expect_str_eq(f64_text(-1700000000.25), "-1700000000.25");
	cr_expect_str_eq(f64_text(1e300), "1e+300");
	cr_expect_str_eq(f64_text(5e-324), "5e-324");
	cr_expect_str_eq(f64_text(NAN), "NaN");
	cr_expect_str_eq(f64_text(INFINITY), "+Inf");
	cr_expect_str_eq(f64_text(-INFINITY), "-Inf");
	for (uint32_t i = 0; i < 100000; i++) {
		uint64_t bits = next_number() ^ next_number() << 32;
		double value;

		memcpy(&value, &bits, sizeof(value));
		if (isfinite(value))
			cr_assert_eq(strtod(f64_text(value), NULL), value, "%a", value);
	}
}

Test(number, prints_doubles_with_as_few_digits_as_suffice)
{
	for (uint32_t i = 0; i < 100000; i++) {
		static const double scales[] = {-10, 100, 1e3, 1e6, 1e7, 1e9};
		uint64_t whole = next_number() % 1000000000000000 + 1;
		double value = (double)whole / scales[i % 6];
		char expected[32];

		/* 15 digits are what the number has, so there is no shorter text. */
		(void)snprintf(expected, sizeof(expected), "%.15g", value);
		cr_assert_str_eq(f64_text(value), expected);
	}
}

Test(number, spells_bounds_as_prometheus_does)
{
	static const struct {
		double bound;
		const char *le;
	} bounds[] = {
		{0, "0.0"},
		{1, "1.0"},
		{-1, "-1.0"},
		{10, "10.0"},
		{300, "300.0"},
		{0.005, "0.005"},
		{0.00025, "0.00025"},
		{0.0001, "0.0001"},
		{0.00001, "1e-05"},
		{5e-6, "5e-06"},
		{0x1p-17, "7.62939453125e-06"},
		{2.5, "2.5"},
		{999999, "999999.0"},
		{123456.5, "123456.5"},
		{1e6, "1e+06"},
		{1500000, "1.5e+06"},
		{1234567, "1.234567e+06"},
		{1e21, "1e+21"},
		{INFINITY, "+Inf"},
		{-INFINITY, "-Inf"},
	};

	for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++)
		cr_expect_str_eq(le_text(bounds[i].bound), bounds[i].le);
}

/* The exact text, read by the C library, is the reference: it rounds once. */
Test(number, turns_nanoseconds_into_the_nearest_double)
{
	for (uint32_t i = 0; i < 64; i++)
		for (uint64_t d = 0; d < 5; d++) {
			uint64_t ns = (1ull << i) + d - 2;

			cr_assert_eq(number_ns_to_f64(ns), strtod(ns_text(ns), NULL), "%" PRIu64,
				     ns);
		}
	for (uint32_t i = 0; i < 200000; i++) {
		uint64_t ns = next_number();

		if (i & 1) /* where one division would round twice */
			ns |= 1ull << 63;
		cr_assert_eq(number_ns_to_f64(ns), strtod(ns_text(ns), NULL), "%" PRIu64, ns);
	}
}
