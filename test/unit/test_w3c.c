/* Goal: traceparent, tracestate and baggage are taken exactly as W3C says, and nothing that the
 * network can send does harm.
 * Method: tables of texts with what must come of them, from the examples of the specifications and
 * of W3C's own trace-context test suite; and each text against a page that may not be touched. */
#include "node-hooks/w3c.h"
#include "test/support/guard_page.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRACE "12345678901234567890123456789012"
#define SPAN  "1234567890123456"

static const struct {
	const char *text;
	bool taken;
	uint8_t flags;
} parents[] = {
	{"00-" TRACE "-" SPAN "-01", true, 1},
	{"00-" TRACE "-" SPAN "-00", true, 0},
	{"00-" TRACE "-" SPAN "-03", true, 3},
	{"00-" TRACE "-" SPAN "-ff", true, 3}, /* unknown bits are not ours to pass on */
	{" 00-" TRACE "-" SPAN "-01\t", true, 1},
	{"cc-" TRACE "-" SPAN "-01", true, 1}, /* a later version */
	{"cc-" TRACE "-" SPAN "-01-what-the-future-will-be-like", true, 1},
	{"cc-" TRACE "-" SPAN "-01.what-the-future-will-be-like", false, 0},
	{"00-" TRACE "-" SPAN "-01-what-the-future-will-be-like", false, 0},
	{"00-" TRACE "-" SPAN "-01.", false, 0},
	{"ff-" TRACE "-" SPAN "-01", false, 0},
	{"00-00000000000000000000000000000000-" SPAN "-01", false, 0},
	{"00-" TRACE "-0000000000000000-01", false, 0},
	{"00-ABCDEF78901234567890123456789012-" SPAN "-01", false, 0},
	{"00-" TRACE "-ABCDEF7890123456-01", false, 0},
	{"00-" TRACE "-" SPAN "-0A", false, 0},
	{"0A-" TRACE "-" SPAN "-01", false, 0},
	{"00-.2345678901234567890123456789012-" SPAN "-01", false, 0},
	{"00-" TRACE "-.234567890123456-01", false, 0},
	{"00-" TRACE "-" SPAN "-.0", false, 0},
	{"00-" TRACE "-" SPAN "-0", false, 0},
	{"00-" TRACE "-" SPAN, false, 0},
	{"00_" TRACE "-" SPAN "-01", false, 0},
	{"00-" TRACE "_" SPAN "-01", false, 0},
	{"00-" TRACE "-" SPAN "_01", false, 0},
	{"0-" TRACE "-" SPAN "-01", false, 0},
	{"", false, 0},
	{"   ", false, 0},
};

Test(w3c, traceparents_are_taken_or_refused)
{
	static const uint8_t trace_id[16] = {0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56,
					     0x78, 0x90, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12};

	for (size_t i = 0; i < sizeof(parents) / sizeof(parents[0]); i++) {
		struct blix_context context = {.remote = 0};
		bool taken =
			blix_w3c_traceparent(parents[i].text, strlen(parents[i].text), &context);

		cr_expect_eq(taken, parents[i].taken, "%s", parents[i].text);
		cr_expect_eq(context.trace_flags, parents[i].flags, "%s", parents[i].text);
		cr_expect_eq(context.remote, parents[i].taken, "%s", parents[i].text);
		if (taken)
			cr_expect_arr_eq(context.trace_id, trace_id, 16);
	}
}

Test(w3c, what_is_formatted_is_what_was_parsed)
{
	static const char text[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";
	struct blix_context context;
	char again[BLIX_TRACEPARENT_LEN + 1];

	cr_assert(blix_w3c_traceparent(text, strlen(text), &context));
	blix_w3c_format_traceparent(context.trace_id, context.span_id, context.trace_flags, again);
	cr_expect_str_eq(again, text);
}

/* ---- tracestate ------------------------------------------------------------------------------- */

static const char *state(const char *text)
{
	static char out[BLIX_TRACESTATE_BYTES + 1];

	out[blix_w3c_tracestate(text, strlen(text), out)] = '\0';
	return out;
}

Test(w3c, tracestates_are_joined_anew_or_left_out)
{
	static const struct {
		const char *text;
		const char *is;
	} rows[] = {
		{"foo=1", "foo=1"},
		{"foo=1,bar=2", "foo=1,bar=2"},
		{"foo=1 \t , \t bar=2, \t baz=3", "foo=1,bar=2,baz=3"},
		{"foo=1,", "foo=1"},
		{",foo=1,,bar=2", "foo=1,bar=2"},
		{"", ""},
		{"foo@=1,bar=2", "foo@=1,bar=2"}, /* level 2 asks no more of "@" */
		{"fw529a3039@dt=FfAAAA==", ""},	  /* "=" is no character of a value */
		{"1a-2f@foo=bar1", "1a-2f@foo=bar1"},
		{"foo=bar=baz", ""},
		{"foo=", ""},
		{"foo", ""},
		{"=1", ""},
		{"foo =1", ""},
		{"FOO=1", ""},
		{"foo.bar=1", ""},
		{"foo=1,foo=1", ""},
		{"foo=1,foo=2", ""},
		{"foo=\x01", ""},
		{"foo=\xc3\xa4", ""},
		{"foo=a b", "foo=a b"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_str_eq(state(rows[i].text), rows[i].is, "%s", rows[i].text);
}

Test(w3c, a_tracestate_has_32_members_at_most)
{
	char text[512] = "";

	for (int i = 0; i < 32; i++)
		sprintf(text + (uint32_t)strlen(text), "%sm%d=1", i ? "," : "", i);
	cr_expect_str_eq(state(text), text);
	strcat(text, ",m32=1");
	cr_expect_str_eq(state(text), "");
}

Test(w3c, keys_and_values_have_256_characters_at_most)
{
	char text[600];

	for (int n = 256; n <= 257; n++) {
		memset(text, 'k', sizeof(text));
		strcpy(text + n, "=1");
		cr_expect_str_eq(state(text), n == 256 ? text : "", "key of %d", n);
		memset(text, 'v', sizeof(text));
		memcpy(text, "k=", 2);
		text[2 + n] = '\0';
		cr_expect_str_eq(state(text), n == 256 ? text : "", "value of %d", n);
	}
}

Test(w3c, too_long_a_tracestate_loses_long_members_first)
{
	char x[201];
	char text[2048];
	char rest[1024];

	memset(x, 'x', 200);
	x[200] = '\0';
	snprintf(text, sizeof(text), "a=1,b=%s,c=%s,d=%s,e=2", x, x, x);
	snprintf(rest, sizeof(rest), "a=1,b=%s,c=%s,e=2", x, x);
	cr_expect_str_eq(state(text), rest);
	/* Without long ones the last ones go. */
	x[100] = '\0';
	snprintf(text, sizeof(text), "a=%s,b=%s,c=%s,d=%s,e=%s,f=1", x, x, x, x, x);
	snprintf(rest, sizeof(rest), "a=%s,b=%s,c=%s,d=%s", x, x, x, x);
	cr_expect_str_eq(state(text), rest);
	/* Exactly 512 stay. */
	x[91] = '\0';
	snprintf(text, sizeof(text), "%s,e=%s", rest, x);
	text[512] = '\0';
	cr_expect_eq(strlen(text), 505u);
	strcat(text, "xxxxxxx");
	cr_expect_str_eq(state(text), text);
	strcat(text, "x");
	cr_expect_str_eq(state(text), rest);
}

static const char *told(const char *from, uint64_t threshold)
{
	static char out[BLIX_TRACESTATE_BYTES + 1];

	out[blix_w3c_set_threshold(from, (uint32_t)strlen(from), threshold, out)] = '\0';
	return out;
}

Test(w3c, the_threshold_is_told_without_trailing_zeros_in_front_of_all)
{
	cr_expect_str_eq(told("", 0), "ot=th:0");
	cr_expect_str_eq(told("", UINT64_C(1) << 55), "ot=th:8");
	cr_expect_str_eq(told("", UINT64_C(0xfd70a400000000)), "ot=th:fd70a4");
	cr_expect_str_eq(told("", 1), "ot=th:00000000000001");
	cr_expect_str_eq(told("", (UINT64_C(1) << 56) - 1), "ot=th:ffffffffffffff");
	cr_expect_str_eq(told("a=1,b=2", UINT64_C(1) << 55), "ot=th:8,a=1,b=2");
	cr_expect_str_eq(told("a=1,ot=rv:0123;th:4;x:y,b=2", UINT64_C(1) << 55),
			 "ot=th:8;rv:0123;x:y,a=1,b=2");
	cr_expect_str_eq(told("a=1,ot=th:4", BLIX_W3C_NO_THRESHOLD), "a=1");
	cr_expect_str_eq(told("ot=th:4;rv:1", BLIX_W3C_NO_THRESHOLD), "ot=rv:1");
	cr_expect_str_eq(told("ot=th:4", BLIX_W3C_NO_THRESHOLD), "");
}

/* ---- baggage ---------------------------------------------------------------------------------- */

static char bag[BLIX_BAGGAGE_BYTES + 1];

static const char *baggage(const char *text)
{
	bag[blix_w3c_baggage(text, strlen(text), bag)] = '\0';
	return bag;
}

Test(w3c, well_formed_members_of_a_baggage_stay_and_others_go)
{
	static const struct {
		const char *text;
		const char *is;
	} rows[] = {
		{"key1=value1;property1;property2, key2 = value2, key3=value3; "
		 "propertyKey=propertyValue",
		 "key1=value1;property1;property2,key2 = value2,key3=value3; "
		 "propertyKey=propertyValue"},
		{"userId=Am%C3%A9lie,serverNode=DF%2028,isProduction=false",
		 "userId=Am%C3%A9lie,serverNode=DF%2028,isProduction=false"},
		{"a=1,=2,b,c d=3,e=4", "a=1,e=4"},
		{"a=\"quoted\",b=1", "b=1"},
		{"a=x\\y,b=1", "b=1"},
		{"a=\xc3\xa4,b=1", "b=1"},
		{"a=,b=1", "a=,b=1"},
		{"a=1;b c,d=1", "d=1"},
		{"", ""},
		{",,,", ""},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_str_eq(baggage(rows[i].text), rows[i].is, "%s", rows[i].text);
}

Test(w3c, a_baggage_has_180_members_and_8192_bytes_at_most)
{
	static char text[20000];

	for (int i = 0; i < 200; i++)
		sprintf(text + (uint32_t)strlen(text), "%sm%03d=1", i ? "," : "", i);
	cr_expect_eq(strlen(baggage(text)), 180u * 7 - 1);
	memset(text, 'x', 8192);
	memcpy(text, "k=", 2);
	text[8192] = '\0';
	cr_expect_eq(strlen(baggage(text)), 8192u);
	strcpy(text + 8192, "x,fits=1");
	cr_expect_str_eq(baggage(text), "fits=1");
}

Test(w3c, values_are_found_and_decoded)
{
	static const char text[] = "userId=Am%C3%A9lie;p=1,node = DF%2028 ,bad=%zz%4,end=%41";
	char value[16];
	uint32_t len;

	cr_assert(blix_w3c_baggage_value(text, (uint32_t)strlen(text), "userId", value, 16, &len));
	cr_expect_eq(len, 7u);
	cr_expect_arr_eq(value, "Am\xc3\xa9lie", 7);
	cr_assert(blix_w3c_baggage_value(text, (uint32_t)strlen(text), "node", value, 16, &len));
	cr_expect_arr_eq(value, "DF 28", 5);
	cr_assert(blix_w3c_baggage_value(text, (uint32_t)strlen(text), "bad", value, 16, &len));
	cr_expect_arr_eq(value, "%zz%4", 5);
	cr_assert(blix_w3c_baggage_value(text, (uint32_t)strlen(text), "end", value, 16, &len));
	cr_expect_eq(len, 1u);
	cr_assert(blix_w3c_baggage_value(text, (uint32_t)strlen(text), "userId", value, 3, &len));
	cr_expect_eq(len, 3u);
	cr_expect_not(
		blix_w3c_baggage_value(text, (uint32_t)strlen(text), "user", value, 16, &len));
}

/* ---- hostile bytes ---------------------------------------------------------------------------- */

Test(w3c, no_text_is_read_beyond_its_end)
{
	static const char alphabet[] = "00-af,=;:%ot th\t\"\\\x80\0@AZ";
	struct guard_page page = guard_page_new(80);
	char out[BLIX_BAGGAGE_BYTES];
	struct blix_context context;
	uint32_t len;

	srand(1);
	for (int round = 0; round < 200000; round++) {
		size_t n = (size_t)rand() % 80;
		char *text = page.start + page.bytes - n;

		for (size_t i = 0; i < n; i++)
			text[i] = alphabet[(size_t)rand() % (sizeof(alphabet) - 1)];
		(void)blix_w3c_traceparent(text, n, &context);
		len = blix_w3c_tracestate(text, n, out);
		cr_assert_leq(len, n);
		(void)blix_w3c_set_threshold(text, (uint32_t)n, 1, out);
		len = blix_w3c_baggage(text, n, out);
		cr_assert_leq(len, n);
		(void)blix_w3c_baggage_value(text, (uint32_t)n, "a", out, 16, &len);
	}
	guard_page_free(&page);
}
