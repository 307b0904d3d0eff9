/* agent/model/number.c - numbers as the exposition formats write them. Pure, thread-safe; libc. */
#include "agent/model/number.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

const char number_pairs[200] = {
	"00010203040506070809101112131415161718192021222324252627282930313233343536373839"
	"40414243444546474849505152535455565758596061626364656667686970717273747576777879"
	"8081828384858687888990919293949596979899"};

const uint64_t number_powers[20] = {
	1ull,
	10ull,
	100ull,
	1000ull,
	10000ull,
	100000ull,
	1000000ull,
	10000000ull,
	100000000ull,
	1000000000ull,
	10000000000ull,
	100000000000ull,
	1000000000000ull,
	10000000000000ull,
	100000000000000ull,
	1000000000000000ull,
	10000000000000000ull,
	100000000000000000ull,
	1000000000000000000ull,
	10000000000000000000ull,
};

/* `fraction` / 10^digits, not 0, with its point and without zeros at its end. */
static char *put_fraction(char *at, uint64_t fraction, uint32_t digits)
{
	while (fraction % 10 == 0) {
		fraction /= 10;
		digits--;
	}
	*at = '.';
	for (uint32_t i = digits; i > 0; i--) {
		at[i] = (char)('0' + fraction % 10);
		fraction /= 10;
	}
	return at + 1 + digits;
}

char *number_put_ns(char *at, uint64_t ns)
{
	uint64_t fraction = ns % NUMBER_NS_PER_S;

	at = number_put_u64(at, ns / NUMBER_NS_PER_S);
	return fraction ? put_fraction(at, fraction, 9) : at;
}

static char *put_word(char *at, const char *word)
{
	size_t len = strlen(word);

	memcpy(at, word, len);
	return at + len;
}

/* Digits that a double needs to be read back the same: 17 always suffice, and 15 always survive
 * the way through a double, so the shortest has 15 or more, zeros at the end not counted. Subnormal
 * ones have fewer bits. */
static int significant_digits(double value)
{
	char text[NUMBER_BYTES_MAX];

	for (int digits = isnormal(value) ? 15 : 1; digits < 17; digits++) {
		(void)snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			return digits;
	}
	return 17;
}

/* A number of up to six decimals, which most measured ones are, without the C library's general
 * way, which takes a microsecond. NULL: it is none.
 *
 * value == whole / 10^digits as doubles means that reading the text gives `value`; and with at most
 * 15 significant digits no shorter text does. */
static char *put_decimal(char *at, double value)
{
	const double whole_max = 1e15, magnitude = fabs(value), exponent_below = 1e-4;

	for (uint32_t digits = 3; digits <= 6; digits += 3) {
		double scaled = magnitude * (double)number_powers[digits];
		uint64_t whole;

		if (scaled >= whole_max || magnitude < exponent_below)
			return NULL;
		whole = (uint64_t)(scaled + 0.5);
		if ((double)whole / (double)number_powers[digits] != magnitude)
			continue;
		if (value < 0)
			*at++ = '-';
		at = number_put_u64(at, whole / number_powers[digits]);
		return put_fraction(at, whole % number_powers[digits], digits);
	}
	return NULL;
}

char *number_put_f64(char *at, double value)
{
	char *end;
	const double exact_max = 9007199254740992.0; /* 2^53 */
	int len;

	if (isnan(value))
		return put_word(at, "NaN");
	if (isinf(value))
		return put_word(at, value > 0 ? "+Inf" : "-Inf");
	if (value == 0)
		return put_word(at, signbit(value) ? "-0" : "0");
	if (value > -exact_max && value < exact_max && value == (double)(int64_t)value)
		return number_put_i64(at, (int64_t)value);
	end = put_decimal(at, value);
	if (end)
		return end;
	len = snprintf(at, NUMBER_BYTES_MAX, "%.*g", significant_digits(value), value);
	return at + len;
}

char *number_put_le(char *at, double bound)
{
	const double exponent_from = 1e6;
	char text[NUMBER_BYTES_MAX], *exponent, *end;
	int digits;

	if (isinf(bound))
		return put_word(at, bound > 0 ? "+Inf" : "-Inf");
	digits = significant_digits(bound);
	if (fabs(bound) < exponent_from) {
		(void)snprintf(text, sizeof(text), "%.*g", digits, bound);
		at = put_word(at, text);
		return strpbrk(text, ".e") ? at : put_word(at, ".0");
	}
	(void)snprintf(text, sizeof(text), "%.*e", digits - 1, bound);
	exponent = strchr(text, 'e');
	for (end = exponent; end[-1] == '0'; end--)
		;
	if (end[-1] == '.')
		end--;
	memcpy(at, text, (size_t)(end - text));
	return put_word(at + (end - text), exponent);
}

double number_ns_to_f64(uint64_t ns)
{
	const uint64_t exact_max = 1ull << 53;
	const int shift = 29;
	unsigned __int128 scaled;
	uint64_t quotient, rest, drop;
	bool up;

	if (ns <= exact_max)
		return (double)ns / NUMBER_NS_PER_S;
	/* Long division to at least the 53 bits of a double, then one rounding. There are no ties:
	 * 10^9 holds nine factors 2, so an exact quotient has at most nine bits after the point. */
	scaled = (unsigned __int128)ns << shift;
	quotient = (uint64_t)(scaled / NUMBER_NS_PER_S);
	rest = (uint64_t)(scaled % NUMBER_NS_PER_S);
	drop = 64u - 53u - (uint64_t)__builtin_clzll(quotient);
	up = drop ? quotient >> (drop - 1) & 1 : 2 * rest > NUMBER_NS_PER_S;
	return ldexp((double)((quotient >> drop) + up), (int)drop - shift);
}
