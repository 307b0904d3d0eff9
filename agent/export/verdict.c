/* agent/export/verdict.c - what an answer means. Tables first; then the readers of the three places
 * where a server says how long to wait. Includes libc; pure, any thread. */
#include "agent/export/verdict.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static const char *const names[VERDICT_KINDS] = {
	[VERDICT_ACCEPTED] = "accepted",   [VERDICT_RETRY] = "retry",
	[VERDICT_THROTTLE] = "throttle",   [VERDICT_TOO_LARGE] = "too_large",
	[VERDICT_REFUSED] = "refused",	   [VERDICT_LOST] = "lost",
	[VERDICT_CONFIG] = "config_error", [VERDICT_CANCELLED] = "cancelled",
};

/* What a gRPC status means without RetryInfo. The three that say "not you" or "not here" are kept
 * and sent again slowly: an operator can mend them, and a spool outlives the mending. */
static const struct grpc_rule {
	const char *name;
	enum verdict_kind kind;
	bool throttles; /* RetryInfo makes it a throttle */
} grpc_rules[] = {
	[0] = {"OK", VERDICT_ACCEPTED, false},
	[1] = {"CANCELLED", VERDICT_RETRY, false},
	[2] = {"UNKNOWN", VERDICT_REFUSED, false},
	[3] = {"INVALID_ARGUMENT", VERDICT_REFUSED, false},
	[4] = {"DEADLINE_EXCEEDED", VERDICT_RETRY, false},
	[5] = {"NOT_FOUND", VERDICT_REFUSED, false},
	[6] = {"ALREADY_EXISTS", VERDICT_REFUSED, false},
	[7] = {"PERMISSION_DENIED", VERDICT_CONFIG, false},
	/* Without RetryInfo it is the size of the message (4 MiB is the usual limit). */
	[8] = {"RESOURCE_EXHAUSTED", VERDICT_TOO_LARGE, true},
	[9] = {"FAILED_PRECONDITION", VERDICT_REFUSED, false},
	[10] = {"ABORTED", VERDICT_RETRY, false},
	[11] = {"OUT_OF_RANGE", VERDICT_RETRY, false},
	[12] = {"UNIMPLEMENTED", VERDICT_CONFIG, false},
	[13] = {"INTERNAL", VERDICT_REFUSED, false},
	[14] = {"UNAVAILABLE", VERDICT_RETRY, true},
	[15] = {"DATA_LOSS", VERDICT_RETRY, false},
	[16] = {"UNAUTHENTICATED", VERDICT_CONFIG, false},
};
enum { GRPC_RULES = sizeof(grpc_rules) / sizeof(grpc_rules[0]), GRPC_UNKNOWN = 2 };

/* HTTP statuses that are not a success; the rest is refused. `grpc`: what it stands for where a
 * gRPC answer was awaited. */
static const struct http_rule {
	int status, grpc;
	enum verdict_kind kind;
	bool throttles; /* Retry-After is obeyed by the whole destination */
} http_rules[] = {
	{400, 13, VERDICT_REFUSED, false},  {401, 16, VERDICT_CONFIG, false},
	{403, 7, VERDICT_CONFIG, false},    {404, 12, VERDICT_CONFIG, false},
	{405, 2, VERDICT_CONFIG, false},    {407, 2, VERDICT_CONFIG, false},
	{413, 8, VERDICT_TOO_LARGE, false}, {429, 14, VERDICT_THROTTLE, true},
	{502, 14, VERDICT_RETRY, true},	    {503, 14, VERDICT_RETRY, true},
	{504, 14, VERDICT_RETRY, true},
};
enum { HTTP_RULES = sizeof(http_rules) / sizeof(http_rules[0]) };

/* RST_STREAM codes (RFC 9113, 7) that say more than "nobody knows". */
static const struct reset_rule {
	uint32_t code;
	const char *name;
	enum verdict_kind kind;
	uint32_t delay_ms;
} reset_rules[] = {
	{0x1, "PROTOCOL_ERROR", VERDICT_REFUSED, 0},
	{0x2, "INTERNAL_ERROR", VERDICT_REFUSED, 0},
	{0x7, "REFUSED_STREAM", VERDICT_RETRY, 0},
	{0x8, "CANCEL", VERDICT_RETRY, 0},
	{0xb, "ENHANCE_YOUR_CALM", VERDICT_THROTTLE, VERDICT_CALM_DELAY_MS},
	{0xc, "INADEQUATE_SECURITY", VERDICT_CONFIG, 0},
	{0xd, "HTTP_1_1_REQUIRED", VERDICT_CONFIG, 0},
};
enum { RESET_RULES = sizeof(reset_rules) / sizeof(reset_rules[0]) };

const char *verdict_name(enum verdict_kind kind)
{
	return (unsigned)kind < VERDICT_KINDS ? names[kind] : "unknown";
}

/* ---- text ----------------------------------------------------------------------------------- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t percent_decode(const char *text, size_t len, uint8_t *out, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n < size; i++) {
		if (text[i] == '%' && i + 2 < len && hex(text[i + 1]) >= 0 &&
		    hex(text[i + 2]) >= 0) {
			out[n++] = (uint8_t)(hex(text[i + 1]) * 16 + hex(text[i + 2]));
			i += 2;
		} else {
			out[n++] = (uint8_t)text[i];
		}
	}
	return n;
}

/* Bytes of the well-formed UTF-8 character at `at`; 0: none. Shortest forms only, no surrogates. */
static size_t utf8_len(const uint8_t *at, size_t len)
{
	size_t n = at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 0;

	if (at[0] < 0x80)
		return 1;
	if (n == 0 || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
	    (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
		return 0;
	/* C1 controls are as little printable as C0. */
	return at[0] == 0xc2 && at[1] < 0xa0 ? 0 : n;
}

void verdict_print(const char *text, size_t len, bool percent, char message[VERDICT_MESSAGE_MAX])
{
	uint8_t decoded[VERDICT_MESSAGE_MAX * 2];
	size_t n, out = 0;

	if (percent) {
		n = percent_decode(text, len, decoded, sizeof(decoded));
	} else {
		n = len < sizeof(decoded) ? len : sizeof(decoded);
		memcpy(decoded, text, n);
	}
	for (size_t i = 0; i < n;) {
		size_t step = utf8_len(decoded + i, n - i);

		if (out + (step ? step : 1) >= VERDICT_MESSAGE_MAX)
			break;
		if (step == 1 && (decoded[i] < 0x20 || decoded[i] == 0x7f))
			message[out++] = ' ';
		else if (step == 0)
			message[out++] = '?';
		else
			memcpy(message + out, decoded + i, step), out += step;
		i += step ? step : 1;
	}
	message[out] = '\0';
}

void verdict_make(struct verdict *v, enum verdict_kind kind, int code, const char *format, ...)
{
	char line[VERDICT_MESSAGE_MAX * 2];
	va_list list;

	*v = (struct verdict){.kind = kind, .code = code};
	va_start(list, format);
	vsnprintf(line, sizeof(line), format, list);
	va_end(list);
	verdict_print(line, strlen(line), false, v->message);
}

/* ---- protobuf: google.rpc.Status, Any, RetryInfo, Duration ---------------------------------- */

struct field {
	uint32_t number;
	unsigned type; /* wire type */
	uint64_t value;
	const uint8_t *data;
	size_t len;
};

static int read_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		if (*at == end)
			return -EBADMSG;
		value |= (uint64_t)(**at & 0x7f) << shift;
		if (!(*(*at)++ & 0x80)) {
			*ret_value = value;
			return 0;
		}
	}
	return -EBADMSG;
}

/* 1 and a field; 0 at the end; -EBADMSG. */
static int next_field(const uint8_t **at, const uint8_t *end, struct field *f)
{
	uint64_t tag, n;

	if (*at == end)
		return 0;
	if (read_varint(at, end, &tag) != 0 || tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
		return -EBADMSG;
	*f = (struct field){.number = (uint32_t)(tag >> 3), .type = tag & 7};
	switch (f->type) {
	case 0:
		return read_varint(at, end, &f->value) ? -EBADMSG : 1;
	case 1:
	case 5:
		n = f->type == 1 ? 8 : 4;
		break;
	case 2:
		if (read_varint(at, end, &n) != 0)
			return -EBADMSG;
		break;
	default:
		return -EBADMSG;
	}
	if (n > (uint64_t)(end - *at))
		return -EBADMSG;
	f->data = *at;
	f->len = (size_t)n;
	*at += n;
	return 1;
}

static uint32_t clamp_delay(int64_t seconds, int64_t nanoseconds)
{
	if (seconds < 0 || nanoseconds < 0)
		return 0;
	if (seconds >= VERDICT_DELAY_MAX_MS / 1000 || nanoseconds >= 1000000000)
		return VERDICT_DELAY_MAX_MS;
	/* Rounded up: never sooner than asked for. */
	return (uint32_t)(seconds * 1000 + (nanoseconds + 999999) / 1000000);
}

static int read_duration(const uint8_t *at, size_t len, uint32_t *ret_delay_ms)
{
	const uint8_t *end = at + len;
	int64_t seconds = 0, nanoseconds = 0;
	struct field f;
	int more;

	while ((more = next_field(&at, end, &f)) > 0) {
		if (f.number == 1 && f.type == 0)
			seconds = (int64_t)f.value;
		if (f.number == 2 && f.type == 0)
			nanoseconds = (int32_t)f.value;
	}
	if (more < 0)
		return more;
	*ret_delay_ms = clamp_delay(seconds, nanoseconds);
	return 0;
}

static int read_retry_info(const uint8_t *at, size_t len, uint32_t *ret_delay_ms)
{
	const uint8_t *end = at + len;
	uint32_t delay_ms = 0;
	struct field f;
	int more;

	while ((more = next_field(&at, end, &f)) > 0)
		if (f.number == 1 && f.type == 2 && read_duration(f.data, f.len, &delay_ms) != 0)
			return -EBADMSG;
	if (more < 0)
		return more;
	*ret_delay_ms = delay_ms;
	return 0;
}

static bool ends_with(const uint8_t *data, size_t len, const char *suffix)
{
	size_t n = strlen(suffix);

	return len >= n && memcmp(data + len - n, suffix, n) == 0;
}

/* A google.protobuf.Any: -ENODATA when it is something else. */
static int read_any(const uint8_t *at, size_t len, uint32_t *ret_delay_ms)
{
	const uint8_t *end = at + len;
	struct field f, value = {0};
	bool is_retry_info = false;
	int more;

	while ((more = next_field(&at, end, &f)) > 0) {
		if (f.number == 1 && f.type == 2)
			is_retry_info = ends_with(f.data, f.len, "google.rpc.RetryInfo");
		if (f.number == 2 && f.type == 2)
			value = f;
	}
	if (more < 0)
		return more;
	if (!is_retry_info)
		return -ENODATA;
	if (!value.len) {
		*ret_delay_ms = 0;
		return 0;
	}
	return read_retry_info(value.data, value.len, ret_delay_ms);
}

int verdict_retry_info(const uint8_t *status, size_t len, uint32_t *ret_delay_ms)
{
	const uint8_t *at = status, *end = status + len;
	int found = -ENODATA, more;
	uint32_t delay_ms = 0;
	struct field f;

	while ((more = next_field(&at, end, &f)) > 0) {
		if (f.number != 3 || f.type != 2)
			continue;
		int err = read_any(f.data, f.len, &delay_ms);

		if (err == -EBADMSG)
			return err;
		if (err == 0)
			found = 0;
	}
	if (more < 0)
		return more;
	if (found == 0)
		*ret_delay_ms = delay_ms;
	return found;
}

int verdict_status_message(const uint8_t *status, size_t len, char message[VERDICT_MESSAGE_MAX])
{
	const uint8_t *at = status, *end = status + len;
	struct field f, text = {0};
	int more;

	while ((more = next_field(&at, end, &f)) > 0)
		if (f.number == 2 && f.type == 2)
			text = f;
	if (more < 0)
		return more;
	verdict_print(text.len ? (const char *)text.data : "", text.len, false, message);
	return 0;
}

/* ---- base64 --------------------------------------------------------------------------------- */

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

long verdict_base64(const char *text, uint8_t *ret_bytes, size_t size)
{
	size_t len = strlen(text), n = 0;
	uint32_t bits = 0;
	unsigned held = 0;

	for (unsigned pad = 0; pad < 2 && len && text[len - 1] == '='; pad++)
		len--;
	if (len % 4 == 1)
		return -EBADMSG;
	for (size_t i = 0; i < len; i++) {
		int digit = base64_digit(text[i]);

		if (digit < 0)
			return -EBADMSG;
		bits = bits << 6 | (uint32_t)digit;
		held += 6;
		if (held < 8)
			continue;
		held -= 8;
		if (n == size)
			return -ENOSPC;
		ret_bytes[n++] = (uint8_t)(bits >> held);
	}
	return (long)n;
}

/* ---- Retry-After ---------------------------------------------------------------------------- */

static int retry_date(const char *text, int64_t *ret_s)
{
	static const char *const forms[] = {
		"%a, %d %b %Y %H:%M:%S GMT", /* RFC 1123 */
		"%A, %d-%b-%y %H:%M:%S GMT", /* RFC 850 */
		"%a %b %d %H:%M:%S %Y",	     /* asctime() */
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct tm tm = {0};
		const char *end = strptime(text, forms[i], &tm);

		if (end && !*end) {
			*ret_s = timegm(&tm);
			return 0;
		}
	}
	return -EINVAL;
}

int verdict_retry_after(const char *text, int64_t now_s, uint32_t *ret_delay_ms)
{
	char trimmed[64];
	size_t len;
	int64_t at_s;

	while (*text == ' ' || *text == '\t')
		text++;
	len = strlen(text);
	while (len && (text[len - 1] == ' ' || text[len - 1] == '\t'))
		len--;
	if (len == 0 || len >= sizeof(trimmed))
		return -EINVAL;
	memcpy(trimmed, text, len);
	trimmed[len] = '\0';
	if (strspn(trimmed, "0123456789") == len) {
		*ret_delay_ms = clamp_delay(len > 9 ? INT64_MAX : atoll(trimmed), 0);
		return 0;
	}
	if (retry_date(trimmed, &at_s) != 0)
		return -EINVAL;
	*ret_delay_ms = clamp_delay(at_s > now_s ? at_s - now_s : 0, 0);
	return 0;
}

/* ---- verdicts ------------------------------------------------------------------------------- */

int verdict_grpc_status(const char *text, size_t len)
{
	int status = 0;

	if (len == 0 || len > 2)
		return GRPC_UNKNOWN;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return GRPC_UNKNOWN;
		status = status * 10 + (text[i] - '0');
	}
	return status < GRPC_RULES ? status : GRPC_UNKNOWN;
}

void verdict_from_grpc(int status, const char *message, const char *details, struct verdict *v)
{
	const struct grpc_rule *rule =
		&grpc_rules[status >= 0 && status < GRPC_RULES ? status : GRPC_UNKNOWN];
	uint8_t bytes[VERDICT_DETAILS_MAX];
	char text[VERDICT_MESSAGE_MAX] = "";
	uint32_t delay_ms;
	long len;

	if (message)
		verdict_print(message, strlen(message), true, text);
	if (rule->kind == VERDICT_ACCEPTED)
		verdict_make(v, rule->kind, status, "%s", text);
	else
		verdict_make(v, rule->kind, status, "%s%s%s", rule->name, text[0] ? ": " : "",
			     text);
	if (!details || !rule->throttles)
		return;
	len = verdict_base64(details, bytes, sizeof(bytes));
	if (len < 0 || verdict_retry_info(bytes, (size_t)len, &delay_ms) != 0)
		return;
	/* Asked to come back, with a time or without: not the size is wrong, but the moment. */
	v->kind = delay_ms ? VERDICT_THROTTLE : VERDICT_RETRY;
	v->delay_ms = delay_ms;
}

static const struct http_rule *http_rule(int status)
{
	for (size_t i = 0; i < HTTP_RULES; i++)
		if (http_rules[i].status == status)
			return &http_rules[i];
	return NULL;
}

static void apply_retry_after(const struct http_rule *rule, const char *retry_after, int64_t now_s,
			      struct verdict *v)
{
	uint32_t delay_ms;

	if (!rule || !rule->throttles || !retry_after ||
	    verdict_retry_after(retry_after, now_s, &delay_ms) != 0)
		return;
	v->delay_ms = delay_ms;
	if (delay_ms)
		v->kind = VERDICT_THROTTLE;
}

void verdict_from_http_proxy(int status, const char *retry_after, int64_t now_s, struct verdict *v)
{
	const struct http_rule *rule = http_rule(status);
	int code = rule ? rule->grpc : GRPC_UNKNOWN;

	verdict_make(v, rule ? rule->kind : VERDICT_REFUSED, code,
		     "HTTP %d instead of a gRPC answer (%s)", status, grpc_rules[code].name);
	apply_retry_after(rule, retry_after, now_s, v);
}

void verdict_from_http(int status, const char *retry_after, int64_t now_s, struct verdict *v)
{
	const struct http_rule *rule = http_rule(status);

	if (status >= 200 && status < 300) {
		verdict_make(v, VERDICT_ACCEPTED, status, "%s", "");
		return;
	}
	if (status >= 300 && status < 400) {
		verdict_make(v, VERDICT_CONFIG, status,
			     "HTTP %d: a redirect, which is not followed: name the final address",
			     status);
		return;
	}
	verdict_make(v, rule ? rule->kind : VERDICT_REFUSED, status, "HTTP %d", status);
	apply_retry_after(rule, retry_after, now_s, v);
}

void verdict_from_reset(uint32_t h2_code, bool sent, struct verdict *v)
{
	for (size_t i = 0; i < RESET_RULES; i++) {
		const struct reset_rule *rule = &reset_rules[i];

		if (rule->code != h2_code)
			continue;
		verdict_make(v, rule->kind, VERDICT_CODE_NONE, "the stream was reset: %s",
			     rule->name);
		v->delay_ms = rule->delay_ms;
		return;
	}
	verdict_make(v, sent ? VERDICT_LOST : VERDICT_RETRY, VERDICT_CODE_NONE,
		     "the stream was reset with HTTP/2 code %u", h2_code);
}
