/* agent/encode/otlp_common.c - attributes, resource and scope, alike in all three signals.
 *
 * Backwards: see otlp_wire.h. Pure; includes agent/model/, agent/buf.h. */
#include "agent/encode/otlp_private.h"

enum {
	KEY_VALUE_KEY = 1,
	KEY_VALUE_VALUE = 2,
	ANY_STRING = 1,
	ANY_BOOL = 2,
	ANY_INT = 3,
	ANY_DOUBLE = 4,
	ANY_ARRAY = 5,
	ANY_BYTES = 7,
	ARRAY_VALUE = 1,
	RESOURCE_ATTRIBUTE = 1,
	RESOURCE_DROPPED = 2,
	SCOPE_NAME = 1,
	SCOPE_VERSION = 2,
};

/* Members of AnyValue's oneof are written whatever their value: an empty string is a string. */
static void put_scalar(struct wire *w, const struct batch_value *v)
{
	switch (v->type) {
	case BATCH_BOOL:
		wire_put_varint(w, ANY_BOOL, v->boolean);
		break;
	case BATCH_I64:
		wire_put_varint(w, ANY_INT, (uint64_t)v->i64);
		break;
	case BATCH_F64:
		wire_put_double(w, ANY_DOUBLE, v->f64);
		break;
	case BATCH_STRING:
		wire_put_bytes(w, ANY_STRING, v->text, v->n);
		break;
	case BATCH_BYTES:
		wire_put_bytes(w, ANY_BYTES, v->text, v->n);
		break;
	case BATCH_ARRAY: /* never nested: an array within an array stays an empty value */
	case BATCH_TYPES:
		break;
	}
}

static void put_value(struct wire *w, const struct batch_value *v)
{
	size_t array;

	if (v->type != BATCH_ARRAY) {
		put_scalar(w, v);
		return;
	}
	array = wire_open(w);
	for (uint32_t i = v->n; i-- > 0;) {
		size_t element = wire_open(w);

		put_scalar(w, &v->array[i]);
		wire_close(w, ARRAY_VALUE, element);
	}
	wire_close(w, ANY_ARRAY, array);
}

void otlp_put_attrs(struct wire *w, uint32_t field, const struct batch_attrs *attrs)
{
	for (uint32_t i = attrs->n; i-- > 0;) {
		const struct batch_attr *a = &attrs->at[i];
		size_t pair = wire_open(w), value = pair;

		put_value(w, &a->value);
		wire_close(w, KEY_VALUE_VALUE, value);
		wire_opt_bytes(w, KEY_VALUE_KEY, a->key.at, a->key.len);
		wire_close(w, field, pair);
	}
}

void otlp_put_string_attr(struct wire *w, uint32_t field, const char *key, size_t key_len,
			  const char *value, size_t value_len)
{
	size_t pair = wire_open(w);

	wire_put_bytes(w, ANY_STRING, value, value_len);
	wire_close(w, KEY_VALUE_VALUE, pair);
	wire_opt_bytes(w, KEY_VALUE_KEY, key, key_len);
	wire_close(w, field, pair);
}

struct otlp_frame otlp_frame_open(struct wire *w)
{
	static const char url[] = OTLP_SCHEMA_URL;
	struct otlp_frame f = {.request = wire_open(w)};

	f.group = f.request;
	wire_put_bytes(w, GROUP_SCHEMA_URL, url, sizeof(url) - 1);
	f.scope = wire_open(w);
	wire_put_bytes(w, SCOPE_SCHEMA_URL, url, sizeof(url) - 1);
	return f;
}

void otlp_frame_close(struct wire *w, const struct otlp_frame *f, const struct batch_resource *r)
{
	size_t message = wire_open(w);

	wire_opt_bytes(w, SCOPE_VERSION, r->scope_version.at, r->scope_version.len);
	wire_opt_bytes(w, SCOPE_NAME, r->scope_name.at, r->scope_name.len);
	wire_close(w, SCOPE_SCOPE, message);
	wire_close(w, GROUP_SCOPE, f->scope);

	message = wire_open(w);
	wire_opt_varint(w, RESOURCE_DROPPED, r->attrs.dropped);
	otlp_put_attrs(w, RESOURCE_ATTRIBUTE, &r->attrs);
	wire_close(w, GROUP_RESOURCE, message);
	wire_close(w, REQUEST_RESOURCE, f->group);
}
