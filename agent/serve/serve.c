/* agent/serve/serve.c - what the handlers share; see serve.h. */
#include "agent/serve/serve.h"

#include "shm/utf8.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void serve_text(struct serve_response *response, int code, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	response->code = code;
	response->content_type = "text/plain; charset=utf-8";
	buf_clear(response->body);
	buf_adds(response->body, text);
	buf_adds(response->body, "\n");
}

static int append(const char *bytes, size_t len, void *arg)
{
	struct buf *b = arg;

	buf_add(b, bytes, len);
	return b->failed ? -1 : 0;
}

void serve_json(struct serve_response *response, int code, json_t *json)
{
	response->code = code;
	response->content_type = "application/json; charset=utf-8";
	if (!json || json_dump_callback(json, append, response->body,
					JSON_INDENT(2) | JSON_REAL_PRECISION(15)) < 0)
		serve_text(response, 500, "no memory for the answer");
	else
		buf_adds(response->body, "\n");
	json_decref(json);
}

json_t *serve_json_text(const char *text)
{
	json_t *json = json_string(text);
	size_t len = strlen(text);
	char *clean;

	if (json)
		return json;
	clean = malloc(len + 1);
	if (!clean)
		return NULL;
	for (size_t i = 0, n; i < len; i += n ? n : 1) {
		n = blix_utf8_char((const uint8_t *)text + i, len - i);
		memcpy(clean + i, n ? text + i : "?", n ? n : 1);
	}
	json = json_stringn(clean, len);
	free(clean);
	return json;
}

json_t *serve_json_number(double number)
{
	return isfinite(number) ? json_real(number) : json_null();
}

json_t *serve_json_count(uint64_t count)
{
	return json_integer(count < INT64_MAX ? (json_int_t)count : INT64_MAX);
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* Decode text[0 .. len) as a query value. */
static int decode(const char *text, size_t len, char *value, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int c = text[i] == '+' ? ' ' : (unsigned char)text[i];

		if (c == '%') {
			if (len - i < 3 || hex(text[i + 1]) < 0 || hex(text[i + 2]) < 0)
				return -EINVAL;
			c = hex(text[i + 1]) * 16 + hex(text[i + 2]);
			i += 2;
		}
		if (n + 1 >= size || c == 0)
			return -EINVAL;
		value[n++] = (char)c;
	}
	value[n] = '\0';
	return 0;
}

int serve_query(const char *query, const char *key, char *ret_value, size_t size)
{
	size_t key_len = strlen(key);

	for (const char *p = query; p && *p;) {
		size_t len = strcspn(p, "&");

		if (len > key_len && p[key_len] == '=' && !memcmp(p, key, key_len))
			return decode(p + key_len + 1, len - key_len - 1, ret_value, size);
		p += len + (p[len] == '&');
	}
	return -ENOENT;
}

uint64_t serve_scrape_timeout_ns(const char *value)
{
	char *end;
	double seconds;

	/* strtod alone would take "inf", "0x1p9" and leading blanks. */
	if (!value || !value[0] || strlen(value) > 32 ||
	    strspn(value, "0123456789.") != strlen(value))
		return 0;
	seconds = strtod(value, &end);
	if (*end || !(seconds > 0) || seconds > 3600)
		return 0;
	return (uint64_t)(seconds * 1e9);
}
