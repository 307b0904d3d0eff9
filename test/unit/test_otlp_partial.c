/* Goal: what a far end answers is understood, in both forms, and hostile bytes never do harm.
 * Method: bodies written by hand from the protocol's definition; then each of them cut at every byte
 * before a guard page, and with every byte changed. */
#include "agent/encode/otlp.h"
#include "test/support/guard_page.h"

#include <criterion/criterion.h>
#include <string.h>

static uint64_t rejected;
static char message[OTLP_MESSAGE_MAX];

static bool partial(const void *body, size_t len, bool json)
{
	rejected = 77;
	memset(message, 'x', sizeof(message));
	return otlp_partial(body, len, json, &rejected, message);
}

#define PROTOBUF(literal) partial((literal), sizeof(literal) - 1, false)
#define JSON(literal)	  partial((literal), sizeof(literal) - 1, true)
#define UNREADABLE	  "accepted, but the answer cannot be read"

Test(otlp_partial, a_full_success_says_nothing_and_writes_nothing)
{
	cr_expect_not(PROTOBUF(""));
	cr_expect_not(PROTOBUF("\x0a\x00"));
	cr_expect_not(PROTOBUF("\x0a\x02\x08\x00"));
	cr_expect_not(JSON(""));
	cr_expect_not(JSON("{}"));
	cr_expect_not(JSON("{\"partialSuccess\":null}"));
	cr_expect_not(JSON("{\"partialSuccess\":{}}"));
	cr_expect_not(JSON("{\"partialSuccess\":{\"rejectedSpans\":\"0\"},\"new\":[1]}"));
	cr_expect_eq(rejected, 77);
	cr_expect_eq(message[0], 'x');
}

Test(otlp_partial, counts_and_messages_are_read_from_protobuf)
{
	cr_expect(PROTOBUF("\x0a\x08\x08\xac\x02\x12\x03why"));
	cr_expect_eq(rejected, 300);
	cr_expect_str_eq(message, "why");
	cr_expect(PROTOBUF("\x0a\x05\x12\x03hmm"), "a warning rejects nothing");
	cr_expect_eq(rejected, 0);
	/* unknown fields of every wire type, before and within */
	cr_expect(PROTOBUF("\x10\x05\x19 eight-b\x25"
			   "four"
			   "\x0a\x07\x1a\x03new\x08\x02"));
	cr_expect_eq(rejected, 2);
	/* a negative count is none */
	cr_expect_not(PROTOBUF("\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
}

Test(otlp_partial, counts_are_read_from_json_as_numbers_and_strings_of_any_signal)
{
	cr_expect(JSON("{\"partialSuccess\":{\"rejectedSpans\":\"5\",\"errorMessage\":\"why\"}}"));
	cr_expect_eq(rejected, 5);
	cr_expect_str_eq(message, "why");
	cr_expect(JSON("{\"partialSuccess\":{\"rejectedDataPoints\":6}}"));
	cr_expect_eq(rejected, 6);
	cr_expect_str_eq(message, "");
	cr_expect(JSON("{\"partialSuccess\":{\"rejectedLogRecords\":\"9223372036854775807\"}}"));
	cr_expect_eq(rejected, INT64_MAX);
	cr_expect_not(JSON("{\"partialSuccess\":{\"rejectedSpans\":-1}}"));
}

Test(otlp_partial, what_cannot_be_read_is_a_warning_that_rejects_nothing)
{
	static const char *const bodies[] = {"<html>",
					     "[]",
					     "1",
					     "{\"partialSuccess\":3}",
					     "{",
					     "{\"partialSuccess\":{\"rejectedSpans\":\"5x\"}}",
					     "{\"partialSuccess\":{\"rejectedSpans\":\"\"}}",
					     "{\"partialSuccess\":{\"rejectedSpans\":true}}",
					     "{\"partialSuccess\":{\"rejectedSpans\":"
					     "\"9223372036854775808\"}}"};

	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		cr_expect(partial(bodies[i], strlen(bodies[i]), true), "%s", bodies[i]);
		cr_expect_eq(rejected, 0, "%s", bodies[i]);
		cr_expect_str_eq(message, UNREADABLE, "%s", bodies[i]);
	}
	cr_expect(PROTOBUF("\x0a\x7f")); /* longer than it is */
	cr_expect_str_eq(message, UNREADABLE);
	cr_expect(PROTOBUF("\x0a\x02\x08\x80")); /* a varint without an end */
	cr_expect(PROTOBUF("\x0b"));		 /* a group */
	cr_expect(PROTOBUF("\x00\x00"));	 /* field 0 */
	cr_expect_str_eq(message, UNREADABLE);
}

Test(otlp_partial, messages_become_one_printable_line_that_fits)
{
	char body[2 + 3 + 3 + 600] = {0}, *at = body;

	cr_expect(PROTOBUF("\x0a\x09\x12\x07"
			   "a\nb\x1b"
			   "c\xff"
			   "d"));
	cr_expect_str_eq(message, "a b c\xef\xbf\xbd"
				  "d");
	/* Field 1 of 603 bytes: field 2 of 600: e with an acute accent, 300 times. */
	memcpy(at, "\x0a\xdb\x04\x12\xd8\x04", 6);
	for (uint32_t i = 0; i < 300; i++)
		memcpy(at + 6 + 2 * i, "\xc3\xa9", 2);
	cr_expect(partial(body, 606, false));
	cr_expect_eq(strlen(message), 254, "255 would split a character");
	memset(at + 6, 0xff, 600);
	cr_expect(partial(body, 606, false));
	cr_expect_eq(strlen(message), 255);
	cr_expect_eq(memcmp(message + 252, "\xef\xbf\xbd", 4), 0);
}

Test(otlp_partial, no_byte_beyond_the_body_is_read_wherever_it_is_cut_or_changed)
{
	static const char *const bodies[] = {
		"\x0a\x08\x08\xac\x02\x12\x03why\x19 eight-b",
		"{\"partialSuccess\":{\"rejectedSpans\":\"5\",\"errorMessage\":\"why\"}}"};

	struct guard_page page = guard_page_new(256);

	for (int json = 0; json <= 1; json++)
		for (size_t len = 0; len <= strlen(bodies[json]); len++) {
			char *copy = guard_page_place(&page, bodies[json], len);

			for (size_t i = 0; i < len; i++)
				for (int v = 0; v < 256; v++) {
					memcpy(copy, bodies[json], len);
					copy[i] = (char)v;
					if (partial(copy, len, json))
						cr_assert(memchr(message, 0, sizeof(message)));
				}
		}
	guard_page_free(&page);
}
