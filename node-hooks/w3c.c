/* node-hooks/w3c.c - see w3c.h. https://www.w3.org/TR/trace-context-2/ and
 * https://www.w3.org/TR/baggage/ are what the grammar comments refer to.
 *
 * Includes: w3c.h, libc. Thread rule: pure. */
#include "w3c.h"

#include <string.h>

enum { KEY_MAX = 256, VALUE_MAX = 256 };

struct span_of_text {
	const char *at;
	size_t len;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct span_of_text trim(const char *at, size_t len)
{
	while (len > 0 && is_blank(*at)) {
		at++;
		len--;
	}
	while (len > 0 && is_blank(at[len - 1]))
		len--;
	return (struct span_of_text){at, len};
}

/* Cut off the text up to the next separator, or all of it. */
static struct span_of_text next_part(struct span_of_text *rest, char separator)
{
	const char *end = memchr(rest->at, separator, rest->len);
	size_t len = end ? (size_t)(end - rest->at) : rest->len;
	struct span_of_text part = {rest->at, len};

	rest->at += end ? len + 1 : len;
	rest->len -= end ? len + 1 : len;
	return part;
}

/* ---- traceparent ------------------------------------------------------------------------------ */

/* Lower case only: HEXDIGLC. */
static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_hex(const char *from, uint8_t *to, size_t n_bytes)
{
	for (size_t i = 0; i < n_bytes; i++) {
		int high = hex_digit(from[2 * i]);
		int low = hex_digit(from[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		to[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool all_zero(const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (bytes[i])
			return false;
	return true;
}

bool blix_w3c_traceparent(const char *text, size_t len, struct blix_context *ret_context)
{
	struct span_of_text t = trim(text, len);
	uint8_t version;
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t flags;

	if (t.len < BLIX_TRACEPARENT_LEN || !take_hex(t.at, &version, 1) || version == 0xff)
		return false;
	/* Later versions may append, behind a dash, what we do not know. */
	if (t.len > BLIX_TRACEPARENT_LEN && (version == 0 || t.at[BLIX_TRACEPARENT_LEN] != '-'))
		return false;
	if (t.at[2] != '-' || t.at[35] != '-' || t.at[52] != '-')
		return false;
	if (!take_hex(t.at + 3, trace_id, 16) || !take_hex(t.at + 36, span_id, 8) ||
	    !take_hex(t.at + 53, &flags, 1))
		return false;
	if (all_zero(trace_id, 16) || all_zero(span_id, 8))
		return false;
	memcpy(ret_context->trace_id, trace_id, 16);
	memcpy(ret_context->span_id, span_id, 8);
	ret_context->trace_flags = flags & (BLIX_TRACE_SAMPLED | BLIX_TRACE_RANDOM);
	ret_context->remote = 1;
	return true;
}

static char *put_hex(char *to, const uint8_t *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*to++ = digits[bytes[i] >> 4];
		*to++ = digits[bytes[i] & 15];
	}
	return to;
}

void blix_w3c_format_traceparent(const uint8_t trace_id[16], const uint8_t span_id[8],
				 uint8_t trace_flags, char ret_text[BLIX_TRACEPARENT_LEN + 1])
{
	char *to = ret_text;

	*to++ = '0';
	*to++ = '0';
	*to++ = '-';
	to = put_hex(to, trace_id, 16);
	*to++ = '-';
	to = put_hex(to, span_id, 8);
	*to++ = '-';
	to = put_hex(to, &trace_flags, 1);
	*to = '\0';
}

/* ---- tracestate ------------------------------------------------------------------------------- */

static bool is_lower_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* key = ( lcalpha / DIGIT ) 0*255 ( lcalpha / DIGIT / "_" / "-"/ "*" / "/" / "@" ), level 2 */
static bool is_state_key(struct span_of_text key)
{
	if (key.len == 0 || key.len > KEY_MAX || !is_lower_or_digit(key.at[0]))
		return false;
	for (size_t i = 1; i < key.len; i++)
		if (!is_lower_or_digit(key.at[i]) &&
		    (key.at[i] == '\0' || !strchr("_-*/@", key.at[i])))
			return false;
	return true;
}

/* value = 0*255(chr) nblk-chr: printable ASCII but "," and "=", not ending in a blank */
static bool is_state_value(struct span_of_text value)
{
	if (value.len == 0 || value.len > VALUE_MAX || value.at[value.len - 1] == ' ')
		return false;
	for (size_t i = 0; i < value.len; i++)
		if (value.at[i] < ' ' || value.at[i] > '~' || value.at[i] == '=')
			return false;
	return true;
}

struct members {
	struct span_of_text of[BLIX_TRACESTATE_MEMBERS_MAX];
	size_t n;
	size_t bytes; /* with the commas between them */
};

static struct span_of_text key_of(struct span_of_text member)
{
	return (struct span_of_text){
		member.at, (size_t)((const char *)memchr(member.at, '=', member.len) - member.at)};
}

static bool same(struct span_of_text a, struct span_of_text b)
{
	return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

static void leave_out(struct members *m, size_t index)
{
	m->bytes -= m->of[index].len + (m->n > 1 ? 1 : 0);
	m->n--;
	memmove(&m->of[index], &m->of[index + 1], (m->n - index) * sizeof(m->of[0]));
}

static bool add_member(struct members *m, struct span_of_text member)
{
	struct span_of_text rest = member;
	struct span_of_text key = next_part(&rest, '=');

	if (m->n == BLIX_TRACESTATE_MEMBERS_MAX || key.len == member.len || !is_state_key(key) ||
	    !is_state_value(rest))
		return false;
	for (size_t i = 0; i < m->n; i++)
		if (same(key, key_of(m->of[i])))
			return false; /* a key stands once */
	m->bytes += member.len + (m->n > 0 ? 1 : 0);
	m->of[m->n++] = member;
	return true;
}

static void shorten(struct members *m)
{
	for (size_t i = m->n; i-- > 0 && m->bytes > BLIX_TRACESTATE_BYTES;)
		if (m->of[i].len > BLIX_TRACESTATE_LONG)
			leave_out(m, i);
	while (m->bytes > BLIX_TRACESTATE_BYTES)
		leave_out(m, m->n - 1);
}

static uint32_t join(const struct members *m, char ret_text[BLIX_TRACESTATE_BYTES])
{
	char *to = ret_text;

	for (size_t i = 0; i < m->n; i++) {
		if (i > 0)
			*to++ = ',';
		memcpy(to, m->of[i].at, m->of[i].len);
		to += m->of[i].len;
	}
	return (uint32_t)(to - ret_text);
}

uint32_t blix_w3c_tracestate(const char *text, size_t len, char ret_text[BLIX_TRACESTATE_BYTES])
{
	struct span_of_text rest = {text, len};
	struct members m = {.n = 0};

	while (rest.len > 0) {
		struct span_of_text part = next_part(&rest, ',');
		struct span_of_text member = trim(part.at, part.len);

		if (member.len > 0 && !add_member(&m, member))
			return 0;
	}
	shorten(&m);
	return join(&m, ret_text);
}

/* ---- OpenTelemetry's own member: ot=th:HEX;rv:HEX;... ------------------------------------------- */

enum { OT_MAX = VALUE_MAX + 3 };

/* A threshold in hex without trailing zeros, as the specification of "th" says; 0 is "0". */
static char *put_threshold(char *to, uint64_t threshold56)
{
	static const char digits[] = "0123456789abcdef";
	int shift = 52;

	memcpy(to, "th:", 3);
	to += 3;
	do {
		*to++ = digits[threshold56 >> shift & 15];
		threshold56 &= (UINT64_C(1) << shift) - 1;
		shift -= 4;
	} while (threshold56 != 0 && shift >= 0);
	return to;
}

/* Our member: the threshold, then what the old one said beside it. Returns its length; 0: none. */
static size_t make_ot(struct span_of_text old_value, uint64_t threshold56, char to[OT_MAX])
{
	char *at = to;

	memcpy(at, "ot=", 3);
	at += 3;
	if (threshold56 < UINT64_C(1) << 56)
		at = put_threshold(at, threshold56);
	while (old_value.len > 0) {
		struct span_of_text part = next_part(&old_value, ';');

		if (part.len < 1 || (part.len >= 3 && memcmp(part.at, "th:", 3) == 0) ||
		    part.len + 1 > (size_t)(to + OT_MAX - at))
			continue;
		if (at > to + 3)
			*at++ = ';';
		memcpy(at, part.at, part.len);
		at += part.len;
	}
	return at > to + 3 ? (size_t)(at - to) : 0;
}

uint32_t blix_w3c_set_threshold(const char *from, uint32_t len, uint64_t threshold56,
				char ret_text[BLIX_TRACESTATE_BYTES])
{
	struct span_of_text rest = {from, len};
	struct span_of_text old_value = {from, 0};
	struct members m = {.n = 1};
	char ot[OT_MAX];

	while (rest.len > 0) {
		struct span_of_text member = next_part(&rest, ',');

		if (member.len >= 3 && memcmp(member.at, "ot=", 3) == 0) {
			old_value = (struct span_of_text){member.at + 3, member.len - 3};
		} else if (member.len > 0 && m.n < BLIX_TRACESTATE_MEMBERS_MAX) {
			m.bytes += member.len + 1;
			m.of[m.n++] = member;
		}
	}
	m.of[0] = (struct span_of_text){ot, make_ot(old_value, threshold56, ot)};
	m.bytes += m.of[0].len;
	if (m.of[0].len == 0)
		leave_out(&m, 0);
	shorten(&m);
	return join(&m, ret_text);
}

/* ---- baggage ---------------------------------------------------------------------------------- */

/* token of RFC 7230 */
static bool is_token(struct span_of_text t)
{
	for (size_t i = 0; i < t.len; i++) {
		char c = t.at[i];

		if (!(c >= 'A' && c <= 'Z') && !is_lower_or_digit(c) &&
		    (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return t.len > 0;
}

/* baggage-octet: printable ASCII but blank, quote, comma, semicolon, backslash */
static bool is_baggage_value(struct span_of_text t)
{
	for (size_t i = 0; i < t.len; i++)
		if (t.at[i] <= ' ' || t.at[i] > '~' || strchr("\",;\\", t.at[i]))
			return false;
	return true;
}

/* key = value, each trimmed; a property may lack the value. */
static bool is_pair(struct span_of_text text, bool value_needed)
{
	struct span_of_text rest = text;
	struct span_of_text key = next_part(&rest, '=');
	bool has_value = key.len < text.len;

	if (!is_token(trim(key.at, key.len)) || (value_needed && !has_value))
		return false;
	return !has_value || is_baggage_value(trim(rest.at, rest.len));
}

static bool is_baggage_member(struct span_of_text member)
{
	struct span_of_text rest = member;

	if (!is_pair(next_part(&rest, ';'), true))
		return false;
	while (rest.len > 0)
		if (!is_pair(next_part(&rest, ';'), false))
			return false;
	return true;
}

uint32_t blix_w3c_baggage(const char *text, size_t len, char ret_text[BLIX_BAGGAGE_BYTES])
{
	struct span_of_text rest = {text, len};
	uint32_t n = 0;
	char *to = ret_text;

	while (rest.len > 0 && n < BLIX_BAGGAGE_MEMBERS_MAX) {
		struct span_of_text part = next_part(&rest, ',');
		struct span_of_text member = trim(part.at, part.len);
		size_t room = (size_t)(ret_text + BLIX_BAGGAGE_BYTES - to);

		if (member.len == 0 || !is_baggage_member(member) || member.len + (n > 0) > room)
			continue;
		if (n++ > 0)
			*to++ = ',';
		memcpy(to, member.at, member.len);
		to += member.len;
	}
	return (uint32_t)(to - ret_text);
}

static int any_hex_digit(char c)
{
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : hex_digit(c);
}

static uint32_t percent_decode(struct span_of_text from, char *to, uint32_t size)
{
	uint32_t out = 0;

	for (size_t i = 0; i < from.len && out < size; i++) {
		int high = i + 2 < from.len ? any_hex_digit(from.at[i + 1]) : -1;
		int low = i + 2 < from.len ? any_hex_digit(from.at[i + 2]) : -1;

		if (from.at[i] == '%' && high >= 0 && low >= 0) {
			to[out++] = (char)(high << 4 | low);
			i += 2;
		} else {
			to[out++] = from.at[i];
		}
	}
	return out;
}

bool blix_w3c_baggage_value(const char *baggage, uint32_t len, const char *key, char *ret_value,
			    uint32_t size, uint32_t *ret_len)
{
	struct span_of_text rest = {baggage, len};
	struct span_of_text wanted = {key, strlen(key)};

	while (rest.len > 0) {
		struct span_of_text member = next_part(&rest, ',');
		struct span_of_text pair = next_part(&member, ';');
		struct span_of_text name = next_part(&pair, '=');

		if (!same(trim(name.at, name.len), wanted))
			continue;
		*ret_len = percent_decode(trim(pair.at, pair.len), ret_value, size);
		return true;
	}
	return false;
}
