/* agent/encode/otlp_partial.c - what the body of an Export response says.
 *
 * Hostile bytes. Export{Trace,Metrics,Logs}ServiceResponse are alike: field 1 is a message of a
 * count (field 1, int64) and a text (field 2); in JSON the count has three names. Unknown fields
 * are skipped. Pure; includes agent/encode/otlp.h, agent/model/escape.h, jansson. */
#include "agent/encode/otlp.h"
#include "agent/encode/otlp_wire.h"
#include "agent/model/escape.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

enum {
	RESPONSE_PARTIAL = 1,
	PARTIAL_REJECTED = 1,
	PARTIAL_MESSAGE = 2,
	JSON_BYTES_MAX = 4 << 20,
};

struct partial {
	uint64_t rejected;
	const char *text; /* borrowed, not terminated */
	size_t len;
};

/* ---- protobuf -------------------------------------------------------------------------------- */

struct input {
	const uint8_t *at, *end;
};

struct field {
	uint64_t number;
	uint64_t value;	    /* of a varint */
	struct input bytes; /* of a WIRE_BYTES */
	uint32_t type;
};

static int take_varint(struct input *in, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (uint32_t shift = 0; shift < 64 && in->at < in->end; shift += 7) {
		uint8_t byte = *in->at++;

		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*ret_value = value;
			return 0;
		}
	}
	return -EBADMSG;
}

static int take_length(struct input *in, uint64_t len, struct input *ret_bytes)
{
	if (len > (uint64_t)(in->end - in->at))
		return -EBADMSG;
	*ret_bytes = (struct input){in->at, in->at + len};
	in->at += len;
	return 0;
}

/* Groups are older than this protocol, so they are refused as any other wire type. */
static int take_field(struct input *in, struct field *ret_field)
{
	struct field f = {0};
	uint64_t tag = 0, len = 0;
	int r = take_varint(in, &tag);

	if (r < 0)
		return r;
	f.number = tag >> 3;
	f.type = (uint32_t)(tag & 7);
	if (!f.number)
		return -EBADMSG;
	switch (f.type) {
	case WIRE_VARINT:
		r = take_varint(in, &f.value);
		break;
	case WIRE_BYTES:
		r = take_varint(in, &len);
		r = r < 0 ? r : take_length(in, len, &f.bytes);
		break;
	case WIRE_64:
		r = take_length(in, 8, &f.bytes);
		break;
	case WIRE_32:
		r = take_length(in, 4, &f.bytes);
		break;
	default:
		r = -EBADMSG;
	}
	if (r == 0)
		*ret_field = f;
	return r;
}

static int read_partial(struct input in, struct partial *p)
{
	while (in.at < in.end) {
		struct field f = {0};
		int r = take_field(&in, &f);

		if (r < 0)
			return r;
		if (f.number == PARTIAL_REJECTED && f.type == WIRE_VARINT) {
			p->rejected = (int64_t)f.value < 0 ? 0 : f.value;
		} else if (f.number == PARTIAL_MESSAGE && f.type == WIRE_BYTES) {
			p->text = (const char *)f.bytes.at;
			p->len = (size_t)(f.bytes.end - f.bytes.at);
		}
	}
	return 0;
}

static int read_protobuf(const uint8_t *body, size_t len, struct partial *p)
{
	struct input in = {body, body + len};

	while (in.at < in.end) {
		struct field f = {0};
		int r = take_field(&in, &f);

		if (r == 0 && f.number == RESPONSE_PARTIAL && f.type == WIRE_BYTES)
			r = read_partial(f.bytes, p);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static int read_count(const json_t *count, uint64_t *ret_count)
{
	const char *text;
	char *end;
	long long value;

	if (json_is_integer(count)) {
		value = json_integer_value(count);
	} else if (json_is_string(count)) {
		text = json_string_value(count);
		errno = 0;
		value = strtoll(text, &end, 10);
		if (errno || end == text || *end)
			return -EBADMSG;
	} else {
		return -EBADMSG;
	}
	*ret_count = value < 0 ? 0 : (uint64_t)value;
	return 0;
}

static int read_object(const json_t *root, struct partial *p)
{
	static const char *const counts[] = {"rejectedSpans", "rejectedDataPoints",
					     "rejectedLogRecords"};
	const json_t *partial = json_object_get(root, "partialSuccess"), *text;

	if (!json_is_object(root))
		return -EBADMSG;
	if (!partial || json_is_null(partial))
		return 0;
	if (!json_is_object(partial))
		return -EBADMSG;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		const json_t *count = json_object_get(partial, counts[i]);

		if (count && !json_is_null(count) && read_count(count, &p->rejected) < 0)
			return -EBADMSG;
	}
	text = json_object_get(partial, "errorMessage");
	if (json_is_string(text)) {
		p->text = json_string_value(text);
		p->len = json_string_length(text);
	}
	return 0;
}

/* ---- both ------------------------------------------------------------------------------------ */

/* One printable line: control characters become blanks, other bytes valid UTF-8, cut to fit. */
static void write_message(char message[OTLP_MESSAGE_MAX], const char *text, size_t len)
{
	char raw[OTLP_MESSAGE_MAX];
	size_t n = len < sizeof(raw) ? len : sizeof(raw) - 1;

	for (size_t i = 0; i < n; i++)
		raw[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? ' ' : text[i];
	while (escape_utf8(NULL, raw, n) >= OTLP_MESSAGE_MAX)
		n--;
	while (n > 0 && n < len && ((unsigned char)text[n] & 0xc0) == 0x80)
		n--; /* half a character at the cut */
	message[escape_utf8(message, raw, n)] = '\0';
}

bool otlp_partial(const uint8_t *body, size_t len, bool json, uint64_t *ret_rejected,
		  char message[OTLP_MESSAGE_MAX])
{
	static const char unreadable[] = "accepted, but the answer cannot be read";
	struct partial p = {0};
	json_t *root = NULL;
	bool says = true;
	int r;

	if (!len) /* an empty message in protobuf, and some servers say nothing in JSON as well */
		return false;
	if (!json) {
		r = read_protobuf(body, len, &p);
	} else {
		root = len > JSON_BYTES_MAX ? NULL : json_loadb((const char *)body, len, 0, NULL);
		r = root ? read_object(root, &p) : -EBADMSG;
	}
	if (r < 0)
		p = (struct partial){0, unreadable, sizeof(unreadable) - 1};
	says = p.rejected || p.len;
	if (says) {
		*ret_rejected = p.rejected;
		write_message(message, p.text ? p.text : "", p.len);
	}
	json_decref(root);
	return says;
}
