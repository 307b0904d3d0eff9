/* Goal: whatever bytes a node puts into a name or help, what leaves is valid UTF-8, correctly
 * escaped, and no byte past the text was read.
 * Method: every code point through an encoder of the test's own, every pair of bytes, the known
 * ill-formed sequences; each text ends where memory ends. */
#include "agent/model/escape.h"
#include "test/support/guard_page.h"

#include <criterion/criterion.h>
#include <stdint.h>

#define BAD "\xef\xbf\xbd"

static struct guard_page guard;
static char out[4096];

static void set_up(void)
{
	guard = guard_page_new(8192);
}

static void tear_down(void)
{
	guard_page_free(&guard);
}

TestSuite(escape, .init = set_up, .fini = tear_down);

/* The cleaned text; measuring and writing must agree. */
static size_t clean(const void *text, size_t len)
{
	const char *at = guard_page_place(&guard, text, len);
	size_t n = escape_utf8(NULL, at, len);

	memset(out, 0, sizeof(out));
	cr_assert_lt(n, sizeof(out));
	cr_assert_eq(escape_utf8(out, at, len), n);
	return n;
}

/* UTF-8 of any number, well-formed or not, in the given number of bytes. */
static void spell(char bytes[4], uint32_t code, uint32_t n)
{
	static const uint32_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};

	for (uint32_t i = n; i-- > 1; code >>= 6)
		bytes[i] = (char)(0x80 | (code & 0x3f));
	bytes[0] = (char)(leads[n] | code);
}

Test(escape, keeps_every_character_that_exists)
{
	char bytes[4];

	for (uint32_t code = 1; code <= 0x10ffff; code++) {
		uint32_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

		if (code >= 0xd800 && code <= 0xdfff)
			continue;
		spell(bytes, code, n);
		cr_assert_eq(clean(bytes, n), n, "U+%04X", code);
		cr_assert_eq(memcmp(out, bytes, n), 0, "U+%04X", code);
		cr_assert_eq(clean(bytes, n - 1), 3 * (n - 1), "U+%04X cut short", code);
	}
}

Test(escape, replaces_each_byte_of_a_form_that_is_not_allowed)
{
	static const struct {
		uint32_t first, last, bytes;
	} ranges[] = {
		{0, 0x7f, 2},	     {0, 0x7ff, 3},	      {0, 0xffff, 4},
		{0xd800, 0xdfff, 3}, {0x110000, 0x1fffff, 4},
	};
	char bytes[4];

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		for (uint32_t code = ranges[i].first; code <= ranges[i].last; code++) {
			spell(bytes, code, ranges[i].bytes);
			cr_assert_eq(clean(bytes, ranges[i].bytes), 3 * ranges[i].bytes,
				     "%u in %u bytes", code, ranges[i].bytes);
		}
}

Test(escape, replaces_stray_and_unfinished_bytes_and_keeps_what_follows)
{
	static const struct {
		const char *text, *cleaned;
	} cases[] = {
		{"\x80", BAD},
		{"a\xff"
		 "b",
		 "a" BAD "b"},
		{"\xc3(", BAD "("},
		{"\xe2\x82(", BAD BAD "("},
		{"\xf0\x9f\x98(", BAD BAD BAD "("},
		{"\xe2\xc3\xa9", BAD "\xc3\xa9"},
		{"\xf8\x88\x80\x80\x80", BAD BAD BAD BAD BAD},
		{"", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)clean(cases[i].text, strlen(cases[i].text));
		cr_expect_str_eq(out, cases[i].cleaned, "case %zu", i);
	}
}

Test(escape, what_leaves_is_valid_whatever_comes_in)
{
	char text[64], once[256];
	uint64_t state = 1;

	for (uint32_t round = 0; round < 100000; round++) {
		size_t len = (state >> 40) % sizeof(text), n;

		for (size_t i = 0; i < len; i++) {
			state = state * 6364136223846793005ull + 1442695040888963407ull;
			text[i] = (char)(state >> 56 | (state >> 30 & 0x80));
		}
		state = state * 6364136223846793005ull + 1442695040888963407ull;
		n = clean(text, len);
		memcpy(once, out, n);
		cr_assert_eq(clean(once, n), n, "cleaning twice changes nothing more");
		cr_assert_eq(memcmp(once, out, n), 0);
	}
}

static void expect_escaped(const char *text, bool quote, const char *expected)
{
	const char *at = guard_page_place(&guard, text, strlen(text));
	size_t n = escape_text(NULL, at, strlen(text), quote);

	memset(out, 0, sizeof(out));
	cr_expect_eq(escape_text(out, at, strlen(text), quote), n);
	cr_expect_str_eq(out, expected);
}

Test(escape, escapes_backslash_newline_and_the_quote_where_asked)
{
	expect_escaped("a\\b\nc\"d", true, "a\\\\b\\nc\\\"d");
	expect_escaped("a\\b\nc\"d", false, "a\\\\b\\nc\"d");
	expect_escaped("\\n", true, "\\\\n");
	expect_escaped("\xc3\xa9\t\r", true, "\xc3\xa9\t\r");
	expect_escaped("", true, "");
}

static size_t cut(const char *text, size_t max)
{
	return escape_cut(guard_page_place(&guard, text, strlen(text) + 1), max);
}

Test(escape, cuts_between_characters)
{
	cr_expect_eq(cut("abc", 5), 3);
	cr_expect_eq(cut("abc", 3), 3);
	cr_expect_eq(cut("abc", 2), 2);
	cr_expect_eq(cut("abc", 0), 0);
	cr_expect_eq(cut("a\xc3\xa9", 3), 3);
	cr_expect_eq(cut("a\xc3\xa9", 2), 1);
	cr_expect_eq(cut("a\xe2\x82\xac", 3), 1);
	cr_expect_eq(cut("a\xe2\x82\xac", 2), 1);
	cr_expect_eq(cut("a\xf0\x9f\x98\x80z", 4), 1);
	cr_expect_eq(cut("a\xf0\x9f\x98\x80z", 5), 5);
	cr_expect_eq(cut("\x80\x80\x80\x80\x80\x80", 5), 5, "no character, no middle of one");
}
