/* agent/process/redact_shape.c - see redact_shape.h.
 *
 * A credential begins where a word begins. One table says of each byte whether it belongs to a word
 * and which shapes may begin with it, so that ordinary text costs one load a byte. */
#include "agent/process/redact_shape.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

enum {
	WORD = 1,   /* letter, digit, '_'; 1, so that it can be moved onto another one */
	BEGINS = 2, /* some shape begins with it, at the start of a word */
	TOKEN = 4,  /* of base64, base64url, or a URL-safe token */
	URL_AT = 8, /* ':' */
};

enum { INSIDE = WORD | TOKEN, START = WORD | TOKEN | BEGINS };

/* clang-format off */
static const uint8_t classes[256] = {
	['0' ... '1'] = INSIDE, ['2' ... '6'] = START, ['7' ... '9'] = INSIDE,
	['A' ... 'B'] = START, ['C' ... 'O'] = INSIDE, ['P'] = START,
	['Q' ... 'R'] = INSIDE, ['S' ... 'T'] = START, ['U' ... 'Z'] = INSIDE,
	['a' ... 'b'] = START, ['c' ... 'd'] = INSIDE, ['e'] = START,
	['f'] = INSIDE, ['g'] = START, ['h' ... 'o'] = INSIDE,
	['p'] = START, ['q' ... 'r'] = INSIDE, ['s' ... 't'] = START,
	['u' ... 'w'] = INSIDE, ['x'] = START, ['y' ... 'z'] = INSIDE,
	['_'] = INSIDE, ['-'] = TOKEN | BEGINS, ['+'] = TOKEN, ['/'] = TOKEN, ['='] = TOKEN,
	['.'] = TOKEN, ['~'] = TOKEN, [':'] = URL_AT,
};
/* clang-format on */

static uint8_t class_of(char c)
{
	return classes[(unsigned char)c];
}

static size_t run_of(const char *text, size_t len, uint8_t class)
{
	size_t n = 0;

	while (n < len && class_of(text[n]) & class)
		n++;
	return n;
}

/* Most words end here, without a call. Of an ASCII letter only the case may differ by this bit, and
 * whatever else it lets through is compared in full. */
static bool may_start(const char *text, size_t len, const char *prefix)
{
	enum { CASE = 0x20 };

	return len > 1 && ((text[0] ^ prefix[0]) & ~CASE) == 0 &&
	       ((text[1] ^ prefix[1]) & ~CASE) == 0;
}

static bool starts(const char *text, size_t len, const char *prefix)
{
	size_t n = strlen(prefix);

	return len >= n && strncasecmp(text, prefix, n) == 0;
}

/* ---- the shapes: each says how many bytes at the start of text it covers, and how many of those
 * only name it ----------------------------------------------------------------------------------- */

struct shape {
	size_t keep;
	size_t len;
};

static bool after_prefix(const char *text, size_t len, const char *prefix, size_t least,
			 struct shape *ret)
{
	size_t keep = strlen(prefix), n;

	if (!starts(text, len, prefix))
		return false;
	n = run_of(text + keep, len - keep, TOKEN);
	*ret = (struct shape){keep, keep + n};
	return n >= least;
}

/* Three base64url parts; the first is a JSON object, whose encoding begins with "eyJ". */
static bool is_jwt(const char *text, size_t len, struct shape *ret)
{
	size_t n = run_of(text, len, TOKEN), dots = 0;

	if (len < 3 || memcmp(text, "eyJ", 3) != 0 || n < 20)
		return false;
	for (size_t i = 0; i < n; i++)
		dots += text[i] == '.';
	*ret = (struct shape){0, n};
	return dots >= 2;
}

static bool is_aws_key_id(const char *text, size_t len, struct shape *ret)
{
	enum { BYTES = 20 };

	if (len < BYTES || (memcmp(text, "AKIA", 4) != 0 && memcmp(text, "ASIA", 4) != 0))
		return false;
	for (size_t i = 4; i < BYTES; i++)
		if (!((text[i] >= 'A' && text[i] <= 'Z') || (text[i] >= '0' && text[i] <= '9')))
			return false;
	*ret = (struct shape){0, BYTES};
	return len == BYTES || !(class_of(text[BYTES]) & WORD);
}

static bool is_vendor_token(const char *text, size_t len, struct shape *ret)
{
	static const struct {
		const char *prefix;
		size_t least; /* bytes of the token behind it */
	} vendors[] = {
		{"ghp_", 36},	     {"gho_", 36},  {"ghu_", 36},  {"ghs_", 36}, {"ghr_", 36},
		{"github_pat_", 22}, {"xoxb-", 20}, {"xoxp-", 20}, {"AIza", 35},
	};

	for (size_t i = 0; i < sizeof(vendors) / sizeof(vendors[0]); i++)
		if (len > 4 && may_start(text, len, vendors[i].prefix) &&
		    after_prefix(text, len, vendors[i].prefix, vendors[i].least, ret)) {
			ret->keep = 0;
			return true;
		}
	return false;
}

/* Up to its END line, or whatever is left of it. */
static bool is_pem(const char *text, size_t len, struct shape *ret)
{
	static const char begin[] = "-----BEGIN ", what[] = "PRIVATE KEY-----", end[] = "-----END ";
	const char *line_end, *stop;

	if (len < sizeof(begin) || memcmp(text, begin, sizeof(begin) - 1) != 0)
		return false;
	line_end = memmem(text, len < 64 ? len : 64, what, sizeof(what) - 1);
	if (!line_end)
		return false;
	*ret = (struct shape){0, len};
	stop = memmem(text, len, end, sizeof(end) - 1);
	if (stop) {
		const char *last =
			memmem(stop, (size_t)(text + len - stop), what, sizeof(what) - 1);

		if (last)
			ret->len = (size_t)(last - text) + sizeof(what) - 1;
	}
	return true;
}

/* word=VALUE, word: VALUE, "word":"VALUE"; the value ends at a blank or a separator. */
static bool is_assignment(const char *text, size_t len, struct shape *ret)
{
	static const char *const words[] = {"password", "passwd",  "pwd",
					    "secret",	"token",   "apikey",
					    "api_key",	"api-key", "access_token"};
	size_t at = 0, n = 0;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]) && at == 0; i++)
		if (may_start(text, len, words[i]) && starts(text, len, words[i]))
			at = strlen(words[i]);
	if (at == 0)
		return false;
	at += at < len && (text[at] == '"' || text[at] == '\'');
	if (at == len || (text[at] != '=' && text[at] != ':'))
		return false;
	at++;
	while (at < len && (text[at] == ' ' || text[at] == '"' || text[at] == '\''))
		at++;
	while (at + n < len && !strchr(" \t\r\n\"',;&)}", text[at + n]))
		n++;
	*ret = (struct shape){at, at + n};
	return n > 0;
}

static bool has_issuer(const char *digits, size_t n)
{
	int two = (digits[0] - '0') * 10 + digits[1] - '0';
	int four = two * 100 + (digits[2] - '0') * 10 + digits[3] - '0';

	if (n == 15)
		return two == 34 || two == 37;
	return n == 16 && (digits[0] == '4' || (two >= 51 && two <= 55) ||
			   (four >= 2221 && four <= 2720) || four == 6011 || two == 65);
}

static bool is_luhn(const char *digits, size_t n)
{
	int sum = 0;

	for (size_t i = 0; i < n; i++) {
		int digit = digits[n - 1 - i] - '0';

		if (i % 2)
			digit = digit * 2 > 9 ? digit * 2 - 9 : digit * 2;
		sum += digit;
	}
	return sum % 10 == 0;
}

/* 15 or 16 digits, in groups by blank or '-', if at all. */
static bool is_card(const char *text, size_t len, struct shape *ret)
{
	char digits[16];
	size_t n = 0, at = 0;

	for (; at < len; at++) {
		bool digit = text[at] >= '0' && text[at] <= '9';

		if (!digit && ((text[at] != ' ' && text[at] != '-') || at + 1 == len ||
			       text[at + 1] < '0' || text[at + 1] > '9'))
			break;
		if (digit && n == sizeof(digits))
			return false;
		if (digit)
			digits[n++] = text[at];
	}
	*ret = (struct shape){0, at};
	return n >= 15 && (at == len || !(class_of(text[at]) & WORD)) && has_issuer(digits, n) &&
	       is_luhn(digits, n);
}

/* "://user:PASSWORD@": `text` is at the "://". */
static bool is_url_password(const char *text, size_t len, struct shape *ret)
{
	size_t at = 3, colon = 0;

	if (len < 6 || text[1] != '/' || memcmp(text, "://", 3) != 0)
		return false;
	for (; at < len && !strchr("/?# \t\r\n\"'", text[at]); at++) {
		if (text[at] == ':' && colon == 0)
			colon = at;
		if (text[at] == '@') {
			*ret = (struct shape){colon + 1, at};
			return colon > 0 && at > colon + 1;
		}
	}
	return false;
}

static bool is_any(const char *text, size_t len, struct shape *ret)
{
	switch (text[0]) {
	case 'b':
	case 'B':
		return after_prefix(text, len, "Bearer ", 8, ret) ||
		       after_prefix(text, len, "Basic ", 16, ret);
	case 'e':
		return is_jwt(text, len, ret);
	case 'A':
		return is_aws_key_id(text, len, ret) || is_vendor_token(text, len, ret) ||
		       is_assignment(text, len, ret);
	case 'g':
	case 'x':
		return is_vendor_token(text, len, ret);
	case '-':
		return is_pem(text, len, ret);
	case '2' ... '6':
		return is_card(text, len, ret);
	default:
		return is_assignment(text, len, ret);
	}
}

bool redact_shape_find(const char *text, size_t len, size_t from, struct redact_found *ret_found)
{
	uint8_t before = from > 0 ? class_of(text[from - 1]) : 0;
	struct shape shape;

	for (size_t i = from; i < len; i++) {
		uint8_t class = class_of(text[i]);
		/* One test a byte: WORD of the byte before, moved onto BEGINS, rules it out. */
		int may = class & (BEGINS | URL_AT) & ~((before & WORD) * BEGINS);

		before = class;
		if (!may)
			continue;
		if (class & URL_AT ? is_url_password(text + i, len - i, &shape)
				   : is_any(text + i, len - i, &shape)) {
			*ret_found = (struct redact_found){i + shape.keep, shape.len - shape.keep};
			return true;
		}
	}
	return false;
}
