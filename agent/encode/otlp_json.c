/* agent/encode/otlp_json.c - an OTLP request in protobuf, printed in OTLP's JSON mapping.
 *
 * The protobuf encoder has already decided what is sent; this walks its bytes with a table of the
 * messages and prints each field. So the two forms cannot differ in content, and a field is added
 * in one place. A JSON library would want the whole body as a tree of allocations first.
 *
 * Its mapping is not protobuf's own: ids are hex, enums are integers. 64-bit integers are decimal
 * strings, other bytes base64, NaN and infinities strings. Pure; includes agent/model/, buf.h. */
#include "agent/encode/otlp_private.h"
#include "agent/model/number.h"

#include <math.h>

enum kind {
	MESSAGE,
	STRING,
	HEX,
	BASE64,
	BOOL,
	INT32,	/* varint: uint32 or an enum, a number */
	SINT32, /* zigzag, a number */
	INT64,	/* varint, a string */
	UINT64,
	SFIXED64,
	FIXED64,
	FIXED32,
	DOUBLE,
};

enum { REPEATED = 1 };

struct field {
	uint8_t number, kind, repeated;
	const char *name;
	const struct field *message; /* ends with number 0 */
};

/* ---- the messages ---------------------------------------------------------------------------- */

static const struct field array_value[];

static const struct field any_value[] = {
	{1, STRING, 0, "stringValue", NULL},
	{2, BOOL, 0, "boolValue", NULL},
	{3, INT64, 0, "intValue", NULL},
	{4, DOUBLE, 0, "doubleValue", NULL},
	{5, MESSAGE, 0, "arrayValue", array_value},
	{7, BASE64, 0, "bytesValue", NULL},
	{0},
};
static const struct field array_value[] = {
	{1, MESSAGE, REPEATED, "values", any_value},
	{0},
};
static const struct field key_value[] = {
	{1, STRING, 0, "key", NULL},
	{2, MESSAGE, 0, "value", any_value},
	{0},
};
static const struct field resource[] = {
	{1, MESSAGE, REPEATED, "attributes", key_value},
	{2, INT32, 0, "droppedAttributesCount", NULL},
	{0},
};
static const struct field scope[] = {
	{1, STRING, 0, "name", NULL},
	{2, STRING, 0, "version", NULL},
	{0},
};

static const struct field span_event[] = {
	{1, FIXED64, 0, "timeUnixNano", NULL},
	{2, STRING, 0, "name", NULL},
	{3, MESSAGE, REPEATED, "attributes", key_value},
	{4, INT32, 0, "droppedAttributesCount", NULL},
	{0},
};
static const struct field span_link[] = {
	{1, HEX, 0, "traceId", NULL},
	{2, HEX, 0, "spanId", NULL},
	{3, STRING, 0, "traceState", NULL},
	{4, MESSAGE, REPEATED, "attributes", key_value},
	{5, INT32, 0, "droppedAttributesCount", NULL},
	{6, FIXED32, 0, "flags", NULL},
	{0},
};
static const struct field status[] = {
	{2, STRING, 0, "message", NULL},
	{3, INT32, 0, "code", NULL},
	{0},
};
static const struct field span[] = {
	{1, HEX, 0, "traceId", NULL},
	{2, HEX, 0, "spanId", NULL},
	{3, STRING, 0, "traceState", NULL},
	{4, HEX, 0, "parentSpanId", NULL},
	{5, STRING, 0, "name", NULL},
	{6, INT32, 0, "kind", NULL},
	{7, FIXED64, 0, "startTimeUnixNano", NULL},
	{8, FIXED64, 0, "endTimeUnixNano", NULL},
	{9, MESSAGE, REPEATED, "attributes", key_value},
	{10, INT32, 0, "droppedAttributesCount", NULL},
	{11, MESSAGE, REPEATED, "events", span_event},
	{12, INT32, 0, "droppedEventsCount", NULL},
	{13, MESSAGE, REPEATED, "links", span_link},
	{14, INT32, 0, "droppedLinksCount", NULL},
	{15, MESSAGE, 0, "status", status},
	{16, FIXED32, 0, "flags", NULL},
	{0},
};
static const struct field log_record[] = {
	{1, FIXED64, 0, "timeUnixNano", NULL},
	{2, INT32, 0, "severityNumber", NULL},
	{3, STRING, 0, "severityText", NULL},
	{5, MESSAGE, 0, "body", any_value},
	{6, MESSAGE, REPEATED, "attributes", key_value},
	{7, INT32, 0, "droppedAttributesCount", NULL},
	{8, FIXED32, 0, "flags", NULL},
	{9, HEX, 0, "traceId", NULL},
	{10, HEX, 0, "spanId", NULL},
	{11, FIXED64, 0, "observedTimeUnixNano", NULL},
	{12, STRING, 0, "eventName", NULL},
	{0},
};

static const struct field exemplar[] = {
	{2, FIXED64, 0, "timeUnixNano", NULL}, {3, DOUBLE, 0, "asDouble", NULL},
	{4, HEX, 0, "spanId", NULL},	       {5, HEX, 0, "traceId", NULL},
	{6, SFIXED64, 0, "asInt", NULL},       {0},
};
static const struct field number_point[] = {
	{2, FIXED64, 0, "startTimeUnixNano", NULL},
	{3, FIXED64, 0, "timeUnixNano", NULL},
	{4, DOUBLE, 0, "asDouble", NULL},
	{5, MESSAGE, REPEATED, "exemplars", exemplar},
	{6, SFIXED64, 0, "asInt", NULL},
	{7, MESSAGE, REPEATED, "attributes", key_value},
	{0},
};
static const struct field histogram_point[] = {
	{2, FIXED64, 0, "startTimeUnixNano", NULL},
	{3, FIXED64, 0, "timeUnixNano", NULL},
	{4, FIXED64, 0, "count", NULL},
	{5, DOUBLE, 0, "sum", NULL},
	{6, FIXED64, REPEATED, "bucketCounts", NULL},
	{7, DOUBLE, REPEATED, "explicitBounds", NULL},
	{8, MESSAGE, REPEATED, "exemplars", exemplar},
	{9, MESSAGE, REPEATED, "attributes", key_value},
	{0},
};
static const struct field buckets[] = {
	{1, SINT32, 0, "offset", NULL},
	{2, UINT64, REPEATED, "bucketCounts", NULL},
	{0},
};
static const struct field exponential_point[] = {
	{1, MESSAGE, REPEATED, "attributes", key_value},
	{2, FIXED64, 0, "startTimeUnixNano", NULL},
	{3, FIXED64, 0, "timeUnixNano", NULL},
	{4, FIXED64, 0, "count", NULL},
	{5, DOUBLE, 0, "sum", NULL},
	{6, SINT32, 0, "scale", NULL},
	{7, FIXED64, 0, "zeroCount", NULL},
	{8, MESSAGE, 0, "positive", buckets},
	{11, MESSAGE, REPEATED, "exemplars", exemplar},
	{14, DOUBLE, 0, "zeroThreshold", NULL},
	{0},
};
static const struct field gauge[] = {{1, MESSAGE, REPEATED, "dataPoints", number_point}, {0}};
static const struct field sum[] = {
	{1, MESSAGE, REPEATED, "dataPoints", number_point},
	{2, INT32, 0, "aggregationTemporality", NULL},
	{3, BOOL, 0, "isMonotonic", NULL},
	{0},
};
static const struct field histogram[] = {
	{1, MESSAGE, REPEATED, "dataPoints", histogram_point},
	{2, INT32, 0, "aggregationTemporality", NULL},
	{0},
};
static const struct field exponential[] = {
	{1, MESSAGE, REPEATED, "dataPoints", exponential_point},
	{2, INT32, 0, "aggregationTemporality", NULL},
	{0},
};
static const struct field metric[] = {
	{1, STRING, 0, "name", NULL},
	{2, STRING, 0, "description", NULL},
	{3, STRING, 0, "unit", NULL},
	{5, MESSAGE, 0, "gauge", gauge},
	{7, MESSAGE, 0, "sum", sum},
	{9, MESSAGE, 0, "histogram", histogram},
	{10, MESSAGE, 0, "exponentialHistogram", exponential},
	{0},
};

/* Request, group and scope of one signal. */
#define SIGNAL(signal, groups, scopes, items, item)                                                \
	static const struct field signal##_scope[] = {{1, MESSAGE, 0, "scope", scope},             \
						      {2, MESSAGE, REPEATED, items, item},         \
						      {3, STRING, 0, "schemaUrl", NULL},           \
						      {0}};                                        \
	static const struct field signal##_group[] = {                                             \
		{1, MESSAGE, 0, "resource", resource},                                             \
		{2, MESSAGE, REPEATED, scopes, signal##_scope},                                    \
		{3, STRING, 0, "schemaUrl", NULL},                                                 \
		{0}};                                                                              \
	static const struct field signal##_request[] = {                                           \
		{1, MESSAGE, REPEATED, groups, signal##_group}, {0}}

SIGNAL(traces, "resourceSpans", "scopeSpans", "spans", span);
SIGNAL(logs, "resourceLogs", "scopeLogs", "logRecords", log_record);
SIGNAL(metrics, "resourceMetrics", "scopeMetrics", "metrics", metric);

static const struct field *const requests[] = {
	[OTLP_TRACES] = traces_request,
	[OTLP_LOGS] = logs_request,
	[OTLP_METRICS] = metrics_request,
};

/* ---- values ---------------------------------------------------------------------------------- */

struct bytes {
	const uint8_t *at, *end;
};

static uint64_t take_varint(struct bytes *in)
{
	uint64_t value = 0;

	for (uint32_t shift = 0; in->at < in->end && shift < 64; shift += 7) {
		uint8_t byte = *in->at++;

		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			break;
	}
	return value;
}

static uint64_t take_fixed(struct bytes *in, uint32_t len)
{
	uint64_t value = 0;

	if ((size_t)(in->end - in->at) < len) {
		in->at = in->end;
		return 0;
	}
	for (uint32_t i = 0; i < len; i++)
		value |= (uint64_t)in->at[i] << (8 * i);
	in->at += len;
	return value;
}

static struct bytes take_bytes(struct bytes *in)
{
	uint64_t len = take_varint(in);
	struct bytes taken = {in->at, in->end};

	if (len < (uint64_t)(in->end - in->at))
		taken.end = in->at + len;
	in->at = taken.end;
	return taken;
}

static const char hex[] = "0123456789abcdef";

static void put_string(struct buf *out, struct bytes text)
{
	buf_adds(out, "\"");
	while (text.at < text.end) {
		const uint8_t *plain = text.at;

		while (text.at < text.end && *text.at >= 0x20 && *text.at != '"' &&
		       *text.at != '\\' && *text.at != 0x7f)
			text.at++;
		buf_add(out, plain, (size_t)(text.at - plain));
		if (text.at < text.end) {
			const char escaped[] = {
				'\\', 'u', '0', '0', hex[*text.at >> 4], hex[*text.at & 15]};

			buf_add(out, escaped, sizeof(escaped));
			text.at++;
		}
	}
	buf_adds(out, "\"");
}

static void put_hex(struct buf *out, struct bytes id)
{
	buf_adds(out, "\"");
	for (; id.at < id.end; id.at++) {
		const char pair[] = {hex[*id.at >> 4], hex[*id.at & 15]};

		buf_add(out, pair, sizeof(pair));
	}
	buf_adds(out, "\"");
}

static void put_base64(struct buf *out, struct bytes in)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	buf_adds(out, "\"");
	while (in.at < in.end) {
		size_t n = (size_t)(in.end - in.at) < 3 ? (size_t)(in.end - in.at) : 3;
		uint32_t v = (uint32_t)in.at[0] << 16 | (n > 1 ? (uint32_t)in.at[1] << 8 : 0) |
			     (n > 2 ? in.at[2] : 0);
		const char four[] = {digits[v >> 18], digits[v >> 12 & 63],
				     n > 1 ? digits[v >> 6 & 63] : '=',
				     n > 2 ? digits[v & 63] : '='};

		buf_add(out, four, sizeof(four));
		in.at += n;
	}
	buf_adds(out, "\"");
}

static void put_double(struct buf *out, uint64_t bits)
{
	char text[NUMBER_BYTES_MAX];
	double value;

	memcpy(&value, &bits, sizeof(value));
	if (isnan(value))
		buf_adds(out, "\"NaN\"");
	else if (isinf(value))
		buf_adds(out, value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
	else
		buf_add(out, text, (size_t)(number_put_f64(text, value) - text));
}

static void put_integer(struct buf *out, uint64_t value, bool is_signed, bool quoted)
{
	char text[NUMBER_BYTES_MAX], *at = text;

	if (quoted)
		*at++ = '"';
	at = is_signed ? number_put_i64(at, (int64_t)value) : number_put_u64(at, value);
	if (quoted)
		*at++ = '"';
	buf_add(out, text, (size_t)(at - text));
}

static int32_t zigzag(uint64_t value)
{
	return (int32_t)((uint32_t)value >> 1 ^ (value & 1 ? UINT32_MAX : 0));
}

/* ---- fields ---------------------------------------------------------------------------------- */

static void put_message(struct buf *out, const struct field *fields, struct bytes in);

static void put_number(struct buf *out, const struct field *f, struct bytes *in)
{
	switch (f->kind) {
	case BOOL:
		buf_adds(out, take_varint(in) ? "true" : "false");
		break;
	case INT32:
		put_integer(out, take_varint(in), false, false);
		break;
	case SINT32:
		put_integer(out, (uint64_t)(int64_t)zigzag(take_varint(in)), true, false);
		break;
	case INT64:
	case UINT64:
		put_integer(out, take_varint(in), f->kind == INT64, true);
		break;
	case SFIXED64:
	case FIXED64:
		put_integer(out, take_fixed(in, 8), f->kind == SFIXED64, true);
		break;
	case FIXED32:
		put_integer(out, take_fixed(in, 4), false, false);
		break;
	default:
		put_double(out, take_fixed(in, 8));
	}
}

static void put_packed(struct buf *out, const struct field *f, struct bytes in)
{
	for (bool first = true; in.at < in.end; first = false) {
		if (!first)
			buf_adds(out, ",");
		put_number(out, f, &in);
	}
}

static void put_value(struct buf *out, const struct field *f, struct bytes *in)
{
	switch (f->kind) {
	case MESSAGE:
		put_message(out, f->message, take_bytes(in));
		break;
	case STRING:
		put_string(out, take_bytes(in));
		break;
	case HEX:
		put_hex(out, take_bytes(in));
		break;
	case BASE64:
		put_base64(out, take_bytes(in));
		break;
	default:
		if (f->repeated)
			put_packed(out, f, take_bytes(in));
		else
			put_number(out, f, in);
	}
}

/* Elements of a repeated field stand next to each other: our encoder writes fields in order. */
static void put_message(struct buf *out, const struct field *fields, struct bytes in)
{
	const struct field *open = NULL, *f = fields;

	buf_adds(out, "{");
	for (bool first = true; in.at < in.end && !out->failed; first = false) {
		uint64_t number = take_varint(&in) >> 3;

		for (; f->number != number; f++)
			if (!f->number) { /* the table lacks a field of ours: our bug, seen */
				out->failed = true;
				return;
			}
		if (open && open != f)
			buf_adds(out, "]");
		if (!first)
			buf_adds(out, ",");
		if (open != f || !f->repeated) {
			buf_adds(out, "\"");
			buf_adds(out, f->name);
			buf_adds(out, f->repeated ? "\":[" : "\":");
		}
		open = f->repeated ? f : NULL;
		put_value(out, f, &in);
	}
	buf_adds(out, open ? "]}" : "}");
}

void otlp_json(enum otlp_request request, const struct buf *body, struct buf *out)
{
	if (body->failed)
		out->failed = true;
	else if (body->len)
		put_message(out, requests[request],
			    (struct bytes){body->data, body->data + body->len});
}
