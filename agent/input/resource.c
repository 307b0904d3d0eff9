/* agent/input/resource.c - see resource.h. */
#include "agent/input/resource.h"

#include "agent/input/utf8_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char scope_name[] = "blixard";

/* ---- the wire: just enough of protobuf ------------------------------------------------------- */

struct wire {
	const uint8_t *at;
	size_t left;
};

struct field {
	uint32_t number;
	uint32_t type;	  /* 0 varint, 1 fixed64, 2 bytes, 5 fixed32 */
	uint64_t value;	  /* varint, fixed64 */
	struct wire body; /* bytes */
};

static bool take_varint(struct wire *w, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (int shift = 0; shift < 64 && w->left > 0; shift += 7) {
		uint8_t byte = *w->at++;

		w->left--;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*ret_value = value;
			return true;
		}
	}
	return false;
}

static bool skip(struct wire *w, size_t n)
{
	if (n > w->left)
		return false;
	w->at += n;
	w->left -= n;
	return true;
}

static bool take_body(struct wire *w, struct field *f)
{
	switch (f->type) {
	case 0:
		return take_varint(w, &f->value);
	case 1:
		if (w->left < sizeof(f->value))
			return false;
		memcpy(&f->value, w->at, sizeof(f->value));
		return skip(w, sizeof(f->value));
	case 2:
		if (!take_varint(w, &f->value) || f->value > w->left)
			return false;
		f->body = (struct wire){w->at, (size_t)f->value};
		return skip(w, f->body.left);
	case 5:
		return skip(w, 4);
	default:
		return false; /* groups were never used */
	}
}

/* False: at the end, or what follows is no field (then w->left > 0). */
static bool take_field(struct wire *w, struct field *ret_field)
{
	struct wire ahead = *w;
	struct field f = {0};
	uint64_t tag;

	if (!take_varint(&ahead, &tag))
		return false;
	f.number = (uint32_t)(tag >> 3);
	f.type = (uint32_t)(tag & 7);
	if (!take_body(&ahead, &f))
		return false;
	*w = ahead;
	*ret_field = f;
	return true;
}

/* ---- attributes ------------------------------------------------------------------------------ */

/* Field numbers of opentelemetry/proto/{resource,common}/v1. */
enum {
	RESOURCE_ATTRIBUTES = 1,
	RESOURCE_DROPPED = 2,
	PAIR_KEY = 1,
	PAIR_VALUE = 2,
	ANY_STRING = 1,
	ANY_BOOL = 2,
	ANY_INT = 3,
	ANY_DOUBLE = 4,
	ANY_BYTES = 7,
};

static struct batch_attr *find(struct batch_resource *r, const char *key, size_t len)
{
	for (uint32_t i = 0; i < r->attrs.n; i++)
		if (r->attrs.at[i].key.len == len && memcmp(r->attrs.at[i].key.at, key, len) == 0)
			return &r->attrs.at[i];
	return NULL;
}

static void put(struct batch_resource *r, const struct batch_attr *attr)
{
	struct batch_attr *old = find(r, attr->key.at, attr->key.len);

	if (old)
		*old = *attr;
	else if (r->attrs.n < BATCH_RESOURCE_ATTRS_MAX)
		r->attrs.at[r->attrs.n++] = *attr;
	else
		r->attrs.dropped++;
}

static int take_text(struct batch_resource *r, struct wire body, struct batch_text *ret_text)
{
	uint64_t repaired = 0;

	return utf8_text(body.at, (uint32_t)body.left, &r->memory, &repaired, ret_text);
}

/* 0; -EBADMSG: malformed, or of a type that no resource here has; -ENOSPC. */
static int take_value(struct batch_resource *r, struct wire any, struct batch_value *ret_value)
{
	struct batch_text text;
	struct field f;
	int e = -EBADMSG;

	while (take_field(&any, &f)) {
		struct batch_value v = {0};

		e = 0;
		if (f.number == ANY_STRING && f.type == 2) {
			e = take_text(r, f.body, &text);
			if (e == 0)
				v = (struct batch_value){BATCH_STRING, text.len, {.text = text.at}};
		} else if (f.number == ANY_BYTES && f.type == 2) {
			v = (struct batch_value){BATCH_BYTES,
						 (uint32_t)f.body.left,
						 {.text = (const char *)f.body.at}};
		} else if (f.number == ANY_BOOL && f.type == 0) {
			v = (struct batch_value){BATCH_BOOL, 0, {.boolean = f.value != 0}};
		} else if (f.number == ANY_INT && f.type == 0) {
			v = (struct batch_value){BATCH_I64, 0, {.i64 = (int64_t)f.value}};
		} else if (f.number == ANY_DOUBLE && f.type == 1) {
			v.type = BATCH_F64;
			memcpy(&v.f64, &f.value, sizeof(v.f64));
		} else {
			e = -EBADMSG;
		}
		if (e < 0)
			return e;
		*ret_value = v;
	}
	return any.left > 0 ? -EBADMSG : e;
}

static int take_pair(struct batch_resource *r, struct wire pair)
{
	struct batch_attr attr = {0};
	bool has_value = false;
	struct field f;
	int e = 0;

	while (e == 0 && take_field(&pair, &f)) {
		if (f.number == PAIR_KEY && f.type == 2)
			e = take_text(r, f.body, &attr.key);
		else if (f.number == PAIR_VALUE && f.type == 2)
			e = take_value(r, f.body, &attr.value), has_value = true;
	}
	if (e < 0 || pair.left > 0 || !has_value || attr.key.len == 0)
		return -EBADMSG;
	put(r, &attr);
	return 0;
}

static void take_resource(struct batch_resource *r, struct wire w)
{
	struct field f;

	while (take_field(&w, &f)) {
		if (f.number == RESOURCE_ATTRIBUTES && f.type == 2)
			r->attrs.dropped += take_pair(r, f.body) < 0;
		else if (f.number == RESOURCE_DROPPED && f.type == 0)
			r->attrs.dropped += (uint32_t)f.value & 0xffff;
	}
	r->attrs.dropped += w.left > 0;
}

/* ---- what the identity adds -------------------------------------------------------------------- */

/* A text kept in the resource's memory, unless the node wrote one; `key` is a literal. */
static void add_text(struct batch_resource *r, const char *key, const char *text)
{
	const struct batch_attr *old = find(r, key, strlen(key));
	size_t len = strlen(text);
	struct batch_attr attr = {.key = {key, (uint32_t)strlen(key)}};
	void *copy;

	if (len == 0 || (old && old->value.type == BATCH_STRING && old->value.n > 0))
		return;
	if (arena_alloc(&r->memory, len + 1, &copy) < 0) {
		r->attrs.dropped++;
		return;
	}
	memcpy(copy, text, len + 1);
	attr.value = (struct batch_value){BATCH_STRING, (uint32_t)len, {.text = copy}};
	put(r, &attr);
}

static void add_stable(struct batch_resource *r, const struct blix_map_identity *id)
{
	char instance[128];

	snprintf(instance, sizeof(instance), "%s/%" PRIu64, id->cluster, id->node_id);
	add_text(r, "service.name", id->service_name[0] ? id->service_name : "blixard");
	add_text(r, "service.instance.id", instance);
	add_text(r, "service.version", id->version);
	add_text(r, "telemetry.sdk.name", "blixard");
	add_text(r, "telemetry.sdk.language", "c");
	add_text(r, "telemetry.sdk.version", BLIX_VERSION);
}

/* When the process was started, by the pair of clocks of its open. Start ticks count from boot, as
 * CLOCK_MONOTONIC does where nobody suspends. False: cannot be told. */
static bool creation_time(const struct blix_map_identity *id, char *ret_text, size_t size)
{
	long ticks = sysconf(_SC_CLK_TCK);
	uint64_t start_ns, age_ns;
	struct tm tm;
	time_t s;

	if (ticks <= 0 || id->pid_start_ticks == 0 ||
	    id->pid_start_ticks > UINT64_MAX / UINT64_C(1000000000))
		return false;
	start_ns = id->pid_start_ticks * (UINT64_C(1000000000) / (uint64_t)ticks);
	if (start_ns > id->open_mono_ns)
		return false;
	age_ns = id->open_mono_ns - start_ns;
	if (age_ns > id->open_real_ns)
		return false;
	s = (time_t)((id->open_real_ns - age_ns) / 1000000000u);
	return gmtime_r(&s, &tm) && strftime(ret_text, size, "%Y-%m-%dT%H:%M:%SZ", &tm) > 0;
}

static void add_life(struct batch_resource *r, const struct blix_map_identity *id)
{
	static const char pid_key[] = "process.pid";
	char created[64];

	add_text(r, "blixard.incarnation", id->incarnation_hex);
	if (id->pid && !find(r, pid_key, sizeof(pid_key) - 1))
		put(r, &(struct batch_attr){.key = {pid_key, sizeof(pid_key) - 1},
					    .value = {BATCH_I64, 0, {.i64 = id->pid}}});
	if (creation_time(id, created, sizeof(created)))
		add_text(r, "process.creation.time", created);
}

/* Attributes of one life to the end, whoever wrote them. */
static void sort_out_life(struct batch_resource *r)
{
	static const char *const life[] = {"blixard.incarnation", "process.pid",
					   "process.creation.time"};

	r->n_stable = r->attrs.n;
	for (size_t i = 0; i < sizeof(life) / sizeof(life[0]); i++) {
		struct batch_attr *at = find(r, life[i], strlen(life[i]));
		struct batch_attr attr;

		if (!at)
			continue;
		attr = *at;
		memmove(at, at + 1, (size_t)(r->attrs.at + r->attrs.n - (at + 1)) * sizeof(*at));
		r->attrs.at[r->attrs.n - 1] = attr;
		r->n_stable--;
	}
}

static struct batch_text text_of(struct batch_resource *r, const char *key)
{
	const struct batch_attr *attr = find(r, key, strlen(key));

	if (!attr || attr->value.type != BATCH_STRING)
		return (struct batch_text){"", 0};
	return (struct batch_text){attr->value.text, attr->value.n};
}

int resource_new(const struct blix_map_identity *id, const uint8_t *bytes, size_t len,
		 struct batch_resource **ret_resource)
{
	struct batch_resource *r = batch_resource_new();
	void *attrs, *copy;

	if (!r ||
	    arena_alloc(&r->memory, BATCH_RESOURCE_ATTRS_MAX * sizeof(*r->attrs.at), &attrs) < 0 ||
	    arena_alloc(&r->memory, len, &copy) < 0) {
		batch_resource_release(r);
		return -ENOMEM;
	}
	r->attrs.at = attrs;
	if (len > 0)
		memcpy(copy, bytes, len);
	take_resource(r, (struct wire){copy, len});
	add_stable(r, id);
	add_life(r, id);
	sort_out_life(r);
	r->service_name = text_of(r, "service.name");
	r->service_instance_id = text_of(r, "service.instance.id");
	r->scope_name = (struct batch_text){scope_name, sizeof(scope_name) - 1};
	r->scope_version = text_of(r, "telemetry.sdk.version");
	memcpy(r->incarnation, id->incarnation_hex, sizeof(r->incarnation));
	r->node_id = id->node_id;
	*ret_resource = r;
	return 0;
}
