/* Goal: what a server said becomes the verdict that the OTLP specification asks for, and no bytes
 * of a server can do more than that.
 * Method: the whole tables; Retry-After and RetryInfo on both sides of their limits; a valid
 * google.rpc.Status cut at every length and with every byte changed, ending where memory ends; 100,000
 * mutations of it and of each header, each ending where its heap block ends. */
#include "agent/export/verdict.h"
#include "test/support/guard_page.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

enum { NOW_S = 1700000000 /* Tue, 14 Nov 2023 22:13:20 GMT */ };

/* Status{8, "slow", [RetryInfo{1.5 s}]}, as protoc encodes it. */
static uint8_t whole[128];
static size_t whole_len;

static void set_up(void)
{
	/* type_url of 40 bytes; Duration{1, 500000000}: 08 01 10 80 ca b5 ee 01. */
	static const uint8_t value[] = {0x12, 0x0a, 0x0a, 0x08, 0x08, 0x01,
					0x10, 0x80, 0xca, 0xb5, 0xee, 0x01};
	static const char url[] = "type.googleapis.com/google.rpc.RetryInfo";
	size_t url_len = sizeof(url) - 1, n = 0;

	memcpy(whole, "\x08\x08\x12\x04slow\x1a", 9);
	n = 9;
	whole[n++] = (uint8_t)(2 + url_len + sizeof(value));
	whole[n++] = 0x0a;
	whole[n++] = (uint8_t)url_len;
	memcpy(whole + n, url, url_len);
	n += url_len;
	memcpy(whole + n, value, sizeof(value));
	whole_len = n + sizeof(value);
}

TestSuite(verdict, .init = set_up);

Test(verdict, every_grpc_status_has_its_verdict)
{
	static const enum verdict_kind wanted[] = {
		VERDICT_ACCEPTED,  VERDICT_RETRY,   VERDICT_REFUSED, VERDICT_REFUSED,
		VERDICT_RETRY,	   VERDICT_REFUSED, VERDICT_REFUSED, VERDICT_CONFIG,
		VERDICT_TOO_LARGE, VERDICT_REFUSED, VERDICT_RETRY,   VERDICT_RETRY,
		VERDICT_CONFIG,	   VERDICT_REFUSED, VERDICT_RETRY,   VERDICT_RETRY,
		VERDICT_CONFIG,
	};
	struct verdict v;

	for (int i = 0; i <= 16; i++) {
		verdict_from_grpc(i, NULL, NULL, &v);
		cr_expect_eq(v.kind, wanted[i], "%d: %s", i, verdict_name(v.kind));
		cr_expect_eq(v.code, i);
		cr_expect_eq(v.delay_ms, 0);
	}
	verdict_from_grpc(17, NULL, NULL, &v);
	cr_expect_eq(v.kind, VERDICT_REFUSED);
	verdict_from_grpc(-5, NULL, NULL, &v);
	cr_expect_eq(v.kind, VERDICT_REFUSED);
}

Test(verdict, a_status_that_is_no_number_is_unknown)
{
	cr_expect_eq(verdict_grpc_status("0", 1), 0);
	cr_expect_eq(verdict_grpc_status("16", 2), 16);
	cr_expect_eq(verdict_grpc_status("17", 2), 2);
	cr_expect_eq(verdict_grpc_status("", 0), 2);
	cr_expect_eq(verdict_grpc_status("-1", 2), 2);
	cr_expect_eq(verdict_grpc_status("000", 3), 2);
}

Test(verdict, http_retries_four_statuses_and_no_other)
{
	struct verdict v;

	for (int s = 400; s < 600; s++) {
		bool again = s == 429 || s == 502 || s == 503 || s == 504;

		verdict_from_http(s, NULL, NOW_S, &v);
		cr_expect_eq(v.kind == VERDICT_RETRY || v.kind == VERDICT_THROTTLE, again, "%d", s);
	}
	verdict_from_http(413, NULL, NOW_S, &v);
	cr_expect_eq(v.kind, VERDICT_TOO_LARGE);
	verdict_from_http(204, NULL, NOW_S, &v);
	cr_expect_eq(v.kind, VERDICT_ACCEPTED);
	verdict_from_http(307, NULL, NOW_S, &v);
	cr_expect_eq(v.kind, VERDICT_CONFIG);
	verdict_from_http(503, "3", NOW_S, &v);
	cr_expect_eq(v.kind, VERDICT_THROTTLE);
	cr_expect_eq(v.delay_ms, 3000);
	verdict_from_http(400, "3", NOW_S, &v);
	cr_expect_eq(v.kind, VERDICT_REFUSED);
}

Test(verdict, retry_after_is_seconds_or_a_date_and_garbage_is_neither)
{
	static const struct {
		const char *text;
		int err;
		uint32_t ms;
	} rows[] = {
		{"0", 0, 0},
		{" 7 ", 0, 7000},
		{"599", 0, 599000},
		{"600", 0, 600000},
		{"601", 0, 600000},
		{"99999999999999999999", 0, 600000},
		{"Tue, 14 Nov 2023 22:13:25 GMT", 0, 5000},
		{"Tuesday, 14-Nov-23 22:13:25 GMT", 0, 5000},
		{"Tue Nov 14 22:13:25 2023", 0, 5000},
		{"Tue, 14 Nov 2023 22:13:19 GMT", 0, 0},
		{"Tue, 14 Nov 2099 22:13:19 GMT", 0, 600000},
		{"", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"1.5", -EINVAL, 0},
		{"soon", -EINVAL, 0},
		{"Tue, 14 Nov 2023 22:13:25 GMT; x", -EINVAL, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t ms = 0;

		cr_expect_eq(verdict_retry_after(rows[i].text, NOW_S, &ms), rows[i].err, "%s",
			     rows[i].text);
		cr_expect_eq(ms, rows[i].ms, "%s: %u", rows[i].text, ms);
	}
}

Test(verdict, retry_info_is_read_and_every_cut_of_it_is_survived)
{
	struct guard_page guard = guard_page_new(4096);
	char message[VERDICT_MESSAGE_MAX];
	uint32_t ms = 0;

	cr_assert_eq(verdict_retry_info(whole, whole_len, &ms), 0);
	cr_expect_eq(ms, 1500);
	cr_assert_eq(verdict_status_message(whole, whole_len, message), 0);
	cr_expect_str_eq(message, "slow");
	cr_expect_eq(verdict_retry_info(whole, 8, &ms), -ENODATA);
	for (size_t len = 0; len <= whole_len; len++) {
		const uint8_t *at = (uint8_t *)guard_page_place(&guard, whole, len);

		(void)verdict_status_message(at, len, message);
		if (len > 8 && len < whole_len)
			cr_expect_eq(verdict_retry_info(at, len, &ms), -EBADMSG, "%zu", len);
	}
	for (size_t i = 0; i < whole_len * 256; i++) {
		uint8_t changed[sizeof(whole)];

		memcpy(changed, whole, whole_len);
		changed[i / 256] = (uint8_t)i;
		ms = 0;
		(void)verdict_retry_info((uint8_t *)guard_page_place(&guard, changed, whole_len),
					 whole_len, &ms);
		cr_assert_leq(ms, VERDICT_DELAY_MAX_MS);
	}
	guard_page_free(&guard);
}

Test(verdict, details_make_a_throttle_only_where_the_specification_lets_them)
{
	/* base64 of Status{14, [RetryInfo{2.5 s}]}, without padding. */
	static const char details[] =
		"CA4aNgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIKCggIAhCAyrXuAQ";
	static char longer[VERDICT_DETAILS_MAX * 2];
	struct verdict v;

	verdict_from_grpc(14, "x", details, &v);
	cr_expect_eq(v.kind, VERDICT_THROTTLE, "%s", verdict_name(v.kind));
	cr_expect_eq(v.delay_ms, 2500);
	verdict_from_grpc(8, "x", details, &v);
	cr_expect_eq(v.kind, VERDICT_THROTTLE);
	verdict_from_grpc(3, "x", details, &v);
	cr_expect_eq(v.kind, VERDICT_REFUSED);
	cr_expect_eq(v.delay_ms, 0);
	verdict_from_grpc(8, "x", "!!", &v);
	cr_expect_eq(v.kind, VERDICT_TOO_LARGE);
	memset(longer, 'A', sizeof(longer) - 1);
	verdict_from_grpc(8, "x", longer, &v);
	cr_expect_eq(v.kind, VERDICT_TOO_LARGE);
}

Test(verdict, base64_is_read_in_both_alphabets_with_and_without_padding)
{
	uint8_t out[8];

	cr_expect_eq(verdict_base64("+/8=", out, 8), 2);
	cr_expect_eq(memcmp(out, "\xfb\xff", 2), 0);
	cr_expect_eq(verdict_base64("-_8", out, 8), 2);
	cr_expect_eq(verdict_base64("", out, 8), 0);
	cr_expect_eq(verdict_base64("A", out, 8), -EBADMSG);
	cr_expect_eq(verdict_base64("AA*A", out, 8), -EBADMSG);
	cr_expect_eq(verdict_base64("AAAAAAAAAAA", out, 8), 8);
	cr_expect_eq(verdict_base64("AAAAAAAAAAAA", out, 8), -ENOSPC);
}

Test(verdict, a_message_is_one_printable_line_of_utf8)
{
	static const char wire[] = "caf%C3%A9%0a%1b[0m %zz 100%";
	char m[VERDICT_MESSAGE_MAX], longer[1000];

	verdict_print(wire, strlen(wire), true, m);
	cr_expect_str_eq(m, "caf\xc3\xa9  [0m %zz 100%");
	verdict_print("a\xff\xc3", 3, false, m);
	cr_expect_str_eq(m, "a??");
	/* Cut between characters. */
	for (size_t i = 0; i < sizeof(longer); i += 2)
		memcpy(longer + i, "\xc3\xa9", 2);
	verdict_print(longer, sizeof(longer), false, m);
	cr_expect_eq(strlen(m), VERDICT_MESSAGE_MAX - 2);
}

Test(verdict, a_reset_means_what_its_code_says)
{
	struct verdict v;

	verdict_from_reset(0x7, true, &v);
	cr_expect_eq(v.kind, VERDICT_RETRY);
	verdict_from_reset(0xb, true, &v);
	cr_expect_eq(v.kind, VERDICT_THROTTLE);
	cr_expect_eq(v.delay_ms, VERDICT_CALM_DELAY_MS);
	verdict_from_reset(0x99, true, &v);
	cr_expect_eq(v.kind, VERDICT_LOST);
	verdict_from_reset(0x99, false, &v);
	cr_expect_eq(v.kind, VERDICT_RETRY);
}

/* ---- 100,000 hostile answers ----------------------------------------------------------------- */

enum { HOSTILE_ROUNDS = 100000 };

static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 32) % below;
}

/* One printable line of UTF-8 that ends within its field, with a kind, a delay and a count in range. */
static void sane(const struct verdict *v, uint32_t round)
{
	mbstate_t state = {0};
	const char *at = v->message;

	cr_assert_lt((unsigned)v->kind, VERDICT_KINDS, "round %u", round);
	cr_assert_leq(v->delay_ms, VERDICT_DELAY_MAX_MS, "round %u", round);
	if (v->delay_ms)
		cr_assert_eq(v->kind, VERDICT_THROTTLE, "round %u", round);
	cr_assert_lt(strnlen(v->message, VERDICT_MESSAGE_MAX), VERDICT_MESSAGE_MAX, "round %u",
		     round);
	for (const char *c = at; *c; c++)
		cr_assert((unsigned char)*c >= ' ' && *c != 0x7f, "round %u: %s", round, at);
	cr_assert_neq(mbsrtowcs(NULL, &at, 0, &state), (size_t)-1, "round %u: %s", round, at);
}

static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* An encoder of its own, so that the decoder is not its own judge. */
static size_t to_base64(const uint8_t *data, size_t len, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i += 3) {
		uint32_t bits = (uint32_t)data[i] << 16;

		bits |= i + 1 < len ? (uint32_t)data[i + 1] << 8 : 0;
		bits |= i + 2 < len ? data[i + 2] : 0;
		for (int digit = 0; digit < 4; digit++)
			out[n++] = (size_t)digit > len - i
					   ? '='
					   : base64_digits[bits >> (18 - 6 * digit) & 63];
	}
	return n;
}

/* `whole` with a few bytes changed, cut, doubled; now and then only noise. */
static size_t mutate(uint8_t *bytes)
{
	size_t len = whole_len;

	memcpy(bytes, whole, len);
	if (draw(8) == 0) {
		len = draw(256);
		for (size_t i = 0; i < len; i++)
			bytes[i] = (uint8_t)draw(256);
		return len;
	}
	for (uint32_t i = draw(4); i > 0; i--)
		bytes[draw((uint32_t)len)] = (uint8_t)draw(256);
	if (draw(4) == 0)
		len = draw((uint32_t)len + 1);
	if (draw(8) == 0) {
		memcpy(bytes + len, whole, whole_len);
		len += whole_len;
	}
	return len;
}

/* The text on the heap to the byte, where a sanitizer sees one byte of over-read. */
static char *exact(const char *text, size_t len)
{
	char *copy = malloc(len + 1);

	memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

Test(verdict, a_hundred_thousand_hostile_details_give_verdicts_in_range, .timeout = 300)
{
	unsigned throttled = 0, plain = 0, refused = 0;
	struct verdict v;

	set_up();
	setlocale(LC_ALL, "C.UTF-8");
	random_state = 0x9e3779b97f4a7c15;
	for (uint32_t round = 0; round < HOSTILE_ROUNDS; round++) {
		uint8_t bytes[512], back[512];
		char text[1024], words[VERDICT_MESSAGE_MAX];
		size_t len = mutate(bytes), n = to_base64(bytes, len, text);
		char *details = exact(text, n);
		int status = (int)draw(20) - 1;

		cr_assert_eq(verdict_base64(details, back, sizeof(back)), (long)len, "%s", details);
		cr_assert_arr_eq(back, bytes, len);
		verdict_from_grpc(status, details, details, &v);
		sane(&v, round);
		if (verdict_status_message(bytes, len, words) == 0)
			cr_assert_lt(strlen(words), (size_t)VERDICT_MESSAGE_MAX);
		verdict_from_grpc(14, NULL, details, &v);
		throttled += v.kind == VERDICT_THROTTLE;
		plain += v.kind == VERDICT_RETRY;
		/* As text it may hold anything, too. */
		for (uint32_t i = draw(3); n && i > 0; i--)
			details[draw((uint32_t)n)] = (char)(1 + draw(255));
		verdict_from_grpc(8, details, details, &v);
		sane(&v, round);
		refused += v.kind == VERDICT_TOO_LARGE;
		free(details);
	}
	/* The noise has reached all that the reader can say. */
	cr_assert(throttled > 1000 && plain > 1000 && refused > 1000, "%u %u %u", throttled, plain,
		  refused);
}

Test(verdict, a_hundred_thousand_hostile_headers_give_verdicts_in_range, .timeout = 300)
{
	static const char *const seeds[] = {
		"7",
		"120",
		"Tue, 14 Nov 2023 22:14:20 GMT",
		"Tuesday, 14-Nov-23 22:14:20 GMT",
		"Tue Nov 14 22:14:20 2023",
		"-1",
		"999999999999999999999",
		" 5\t",
		"soon",
		"",
	};
	unsigned understood = 0, ignored = 0;
	struct verdict v;

	setlocale(LC_ALL, "C.UTF-8");
	random_state = 0xd1b54a32d192ed03;
	for (uint32_t round = 0; round < HOSTILE_ROUNDS; round++) {
		const char *seed = seeds[draw(sizeof(seeds) / sizeof(seeds[0]))];
		size_t len = strlen(seed);
		char text[128];
		uint32_t delay_ms;

		memcpy(text, seed, len);
		if (draw(8) == 0)
			for (len = draw(100), delay_ms = 0; delay_ms < len; delay_ms++)
				text[delay_ms] = (char)(1 + draw(255));
		for (uint32_t i = draw(3); len && i > 0; i--)
			text[draw((uint32_t)len)] = (char)(1 + draw(255));
		char *header = exact(text, len);

		if (verdict_retry_after(header, NOW_S, &delay_ms) == 0) {
			cr_assert_leq(delay_ms, VERDICT_DELAY_MAX_MS, "%s", header);
			understood++;
		} else {
			ignored++;
		}
		verdict_from_http((int)draw(700), header, NOW_S, &v);
		sane(&v, round);
		verdict_from_http_proxy((int)draw(700), header, NOW_S, &v);
		sane(&v, round);
		verdict_from_grpc(verdict_grpc_status(header, len), header, NULL, &v);
		sane(&v, round);
		free(header);
	}
	cr_assert(understood > 1000 && ignored > 1000, "%u %u", understood, ignored);
}
