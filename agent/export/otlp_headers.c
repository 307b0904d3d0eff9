/* agent/export/otlp_headers.c - see otlp_headers.h. Pure. */
#include "agent/export/otlp_headers.h"

#include <string.h>

/* A stretch of the list. */
struct part {
	const char *at;
	size_t len;
};

static struct part trimmed(const char *at, size_t len)
{
	while (len && strchr(" \t", at[0]))
		at++, len--;
	while (len && strchr(" \t", at[len - 1]))
		len--;
	return (struct part){at, len};
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* ---- keys and values ------------------------------------------------------------------------- */

/* Those that the transport sets: it refuses a second one, and all its requests with it. */
static const char *const own[] = {
	"content-type", "content-length", "content-encoding",  "te", "host", "connection",
	"user-agent",	"expect",	  "transfer-encoding",
};

/* The key in lower case at `out`, which has room for it. NULL, or what is wrong. */
static const char *key_copy(struct part key, char *out)
{
	static const char token[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.!#$%&'*+^`|~";

	if (!key.len)
		return "has no key before its '='";
	for (size_t i = 0; i < key.len; i++) {
		out[i] = key.at[i];
		if (out[i] >= 'A' && out[i] <= 'Z')
			out[i] = (char)(out[i] | 0x20);
		if (!out[i] || !strchr(token, out[i]))
			return "has a key that no header can have";
	}
	out[key.len] = '\0';
	if (!strncmp(out, "grpc-", 5))
		return "has a key that belongs to gRPC itself";
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (!strcmp(out, own[i]))
			return "has a key that the agent sets itself";
	return NULL;
}

/* The value decoded at `out`, which has room for it. NULL, or what is wrong. */
static const char *value_copy(struct part value, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.at[i];

		if (c == '%') {
			int high = i + 2 < value.len ? hex(value.at[i + 1]) : -1;
			int low = i + 2 < value.len ? hex(value.at[i + 2]) : -1;

			if (high < 0 || low < 0)
				return "has a '%' without two hex digits: write a plain % as %25";
			c = (unsigned char)(high << 4 | low);
			i += 2;
		}
		/* A line end would begin a header of its own, a NUL end the value early. */
		if ((c < ' ' && c != '\t') || c == 0x7f)
			return "has a control character in its value, which no header may hold";
		out[n++] = (char)c;
	}
	out[n] = '\0';
	return NULL;
}

/* ---- the list -------------------------------------------------------------------------------- */

/* NULL, or why the member is left out. */
static const char *member_add(struct otlp_headers *h, struct part member)
{
	struct otlp_endpoint *e = h->endpoint;
	const char *equals = memchr(member.at, '=', member.len), *wrong;
	char *key_out = e->header_bytes + h->used, *value_out;
	struct part key, value;
	uint32_t i = 0;

	if (!equals)
		return "has no '=' between key and value";
	key = trimmed(member.at, (size_t)(equals - member.at));
	value = trimmed(equals + 1, (size_t)(member.at + member.len - equals - 1));
	/* Decoding only shortens. */
	if (key.len + value.len + 2 > sizeof(e->header_bytes) - h->used)
		return "does not fit: all headers together are too long";
	value_out = key_out + key.len + 1;
	wrong = key_copy(key, key_out);
	if (!wrong)
		wrong = value_copy(value, value_out);
	if (wrong)
		return wrong;
	while (i < e->n_headers && strcmp(e->headers[i].name, key_out) != 0)
		i++;
	if (i == OTLP_CONFIG_HEADERS_MAX)
		return "is one too many";
	e->headers[i] = (struct transport_header){key_out, value_out, true};
	e->n_headers += i == e->n_headers;
	h->used += key.len + 1 + strlen(value_out) + 1;
	return NULL;
}

void otlp_headers_add(struct otlp_headers *headers, const char *list)
{
	uint32_t nth = 0;

	for (const char *at = list;; at++) {
		size_t len = strcspn(at, ",");
		struct part member = trimmed(at, len);
		const char *wrong;

		nth++;
		/* Empty members, as behind a trailing comma, are no mistake to speak of. */
		wrong = member.len ? member_add(headers, member) : NULL;
		if (wrong)
			headers->left_out(headers->arg, nth, wrong);
		at += len;
		if (!*at)
			return;
	}
}
