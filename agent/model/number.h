/* agent/model/number.h - numbers as the exposition formats write them.
 *
 * Pure functions into the caller's storage, nothing terminated; each returns the end of what it
 * wrote. Independent of the locale but for number_put_f64, which expects LC_NUMERIC "C" (no program
 * of ours sets another). Thread-safe. Includes libc only. */
#ifndef BLIX_AGENT_MODEL_NUMBER_H
#define BLIX_AGENT_MODEL_NUMBER_H

#include <stdint.h>
#include <string.h>

enum {
	NUMBER_BYTES_MAX = 32, /* no number here is longer */
	NUMBER_NS_PER_S = 1000000000,
};

extern const char number_pairs[200];	 /* "00" .. "99" */
extern const uint64_t number_powers[20]; /* 10^i */

/* How many decimal digits `value` has; 1 for 0. */
static inline uint32_t number_digits(uint64_t value)
{
	/* 1233 / 4096 is just above log10(2), so the guess is right or one too low. */
	uint64_t odd = value | 1;
	uint32_t guess = ((64u - (uint32_t)__builtin_clzll(odd)) * 1233) >> 12;

	return guess + (odd >= number_powers[guess]);
}

/* Write `value` with exactly `digits` digits. */
static inline void number_put_digits(char *at, uint64_t value, uint32_t digits)
{
	while (digits > 2) {
		digits -= 2;
		memcpy(at + digits, number_pairs + 2 * (value % 100), 2);
		value /= 100;
	}
	if (digits == 2)
		memcpy(at, number_pairs + 2 * value, 2);
	else
		*at = (char)('0' + value);
}

static inline char *number_put_u64(char *at, uint64_t value)
{
	uint32_t digits;

	if (value < 10) {
		*at = (char)('0' + value);
		return at + 1;
	}
	digits = number_digits(value);
	number_put_digits(at, value, digits);
	return at + digits;
}

static inline char *number_put_i64(char *at, int64_t value)
{
	if (value >= 0)
		return number_put_u64(at, (uint64_t)value);
	*at = '-';
	return number_put_u64(at + 1, 0 - (uint64_t)value);
}

/* Nanoseconds as seconds, every digit that is there and none more: 1500000000 is "1.5". */
char *number_put_ns(char *at, uint64_t ns);

/* The shortest text that reads back as the same double; whole numbers below 2^53 without point or
 * exponent; NaN, +Inf, -Inf. */
char *number_put_f64(char *at, double value);

/* A bucket bound as `le` shows it: float-like ("1.0"), and spelled as Prometheus itself spells it
 * when it reads one from protobuf or normalises it ("5e-06", "1e+06"): the text is part of a
 * series' identity. */
char *number_put_le(char *at, double bound);

/* Nanoseconds as seconds in a double, rounded once. */
double number_ns_to_f64(uint64_t ns);

#endif
