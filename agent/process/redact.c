/* agent/process/redact.c - see redact.h. The shapes: redact_shape.c. */
#include "agent/process/redact.h"

#include "agent/process/redact_shape.h"

#include <assert.h>
#include <errno.h>
#include <fnmatch.h>
#include <openssl/evp.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

enum {
	CACHE_SLOTS = 1024,   /* keys whose rule is known; a power of two */
	CACHE_KEY_BYTES = 56, /* longer keys are matched each time */
	HASH_SHOWN_BYTES = 16,
};

static const char masked[] = "[redacted]";
static const struct batch_value masked_value = {BATCH_STRING, sizeof(masked) - 1, {.text = masked}};

static const struct redact_rule default_rules[] = {
	{"*password*", REDACT_MASK},	{"*passwd*", REDACT_MASK},
	{"*passphrase*", REDACT_MASK},	{"*secret*", REDACT_MASK},
	{"*credential*", REDACT_MASK},	{"*authorization*", REDACT_MASK},
	{"*cookie*", REDACT_MASK},	{"*api_key*", REDACT_MASK},
	{"*apikey*", REDACT_MASK},	{"*api-key*", REDACT_MASK},
	{"*private_key*", REDACT_MASK}, {"*access_key*", REDACT_MASK},
	{"*session_id*", REDACT_MASK},	{"*token", REDACT_MASK},
	{"*email*", REDACT_HASH},	{"enduser.id", REDACT_HASH},
	{"user.id", REDACT_HASH},
};
enum { DEFAULT_RULES = sizeof(default_rules) / sizeof(default_rules[0]) };

struct rule {
	char glob[REDACT_GLOB_BYTES];
	enum redact_action action;
};

struct cached {
	uint8_t len; /* 0: empty */
	uint8_t action;
	char key[CACHE_KEY_BYTES];
};

struct redact {
	uint32_t n_rules;
	struct rule rules[REDACT_RULES_MAX + DEFAULT_RULES];
	bool shapes;
	bool has_key;
	uint8_t key[REDACT_KEY_BYTES];
	uint64_t counts[REDACT_ACTIONS];
	struct cached cache[CACHE_SLOTS];
};

const char *redact_action_name(enum redact_action action)
{
	static const char *const names[REDACT_ACTIONS] = {"keep", "drop", "hash", "mask"};

	return names[action];
}

/* ---- rules ----------------------------------------------------------------------------------- */

static int add_rule(struct redact *r, const struct redact_rule *rule)
{
	size_t len = rule->glob ? strlen(rule->glob) : 0;

	if (len == 0 || len >= REDACT_GLOB_BYTES || (unsigned int)rule->action >= REDACT_ACTIONS)
		return -EINVAL;
	memcpy(r->rules[r->n_rules].glob, rule->glob, len + 1);
	r->rules[r->n_rules++].action = rule->action;
	return 0;
}

int redact_new(const struct redact_options *options, struct redact **ret_redact)
{
	struct redact *r;
	int e = 0;

	if (options->n_rules > REDACT_RULES_MAX)
		return -E2BIG;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	for (uint32_t i = 0; i < options->n_rules && e == 0; i++)
		e = add_rule(r, &options->rules[i]);
	for (uint32_t i = 0; i < DEFAULT_RULES && e == 0 && !options->no_default_rules; i++)
		e = add_rule(r, &default_rules[i]);
	if (e < 0) {
		free(r);
		return e;
	}
	r->shapes = !options->no_shapes;
	r->has_key = options->key != NULL;
	if (r->has_key)
		memcpy(r->key, options->key, sizeof(r->key));
	*ret_redact = r;
	return 0;
}

struct redact *redact_free(struct redact *r)
{
	if (!r)
		return NULL;
	OPENSSL_cleanse(r->key, sizeof(r->key));
	free(r);
	return NULL;
}

uint64_t redact_count(const struct redact *r, enum redact_action action)
{
	return r->counts[action];
}

static enum redact_action match(const struct redact *r, const struct batch_text *key)
{
	char text[256];
	size_t len = key->len < sizeof(text) - 1 ? key->len : sizeof(text) - 1;

	memcpy(text, key->at, len);
	text[len] = '\0';
	for (uint32_t i = 0; i < r->n_rules; i++)
		if (fnmatch(r->rules[i].glob, text, FNM_CASEFOLD | FNM_NOESCAPE) == 0)
			return r->rules[i].action;
	return REDACT_KEEP;
}

/* Any place will do that tells keys apart; the key itself is compared. */
static uint32_t slot_of(const struct batch_text *key)
{
	uint64_t first = 0, last = 0;

	if (key->len >= sizeof(first)) {
		memcpy(&first, key->at, sizeof(first));
		memcpy(&last, key->at + key->len - sizeof(last), sizeof(last));
	} else {
		memcpy(&first, key->at, key->len);
	}
	first = (first ^ (last << 1 | last >> 63) ^ key->len) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(first >> 54) & (CACHE_SLOTS - 1);
}

static enum redact_action action_of(struct redact *r, const struct batch_text *key)
{
	struct cached *c;

	if (key->len == 0 || key->len > CACHE_KEY_BYTES)
		return match(r, key);
	c = &r->cache[slot_of(key)];
	if (c->len == key->len && memcmp(c->key, key->at, key->len) == 0)
		return (enum redact_action)c->action;
	c->action = (uint8_t)match(r, key);
	c->len = (uint8_t)key->len;
	memcpy(c->key, key->at, key->len);
	return (enum redact_action)c->action;
}

/* ---- by key ---------------------------------------------------------------------------------- */

/* Texts by their bytes, numbers by their 8 bytes; arrays are not hashed. */
static bool digest(const struct redact *r, const struct batch_value *v, uint8_t sum[32])
{
	uint64_t word = v->type == BATCH_BOOL ? v->boolean : (uint64_t)v->i64;
	bool is_text = v->type == BATCH_STRING || v->type == BATCH_BYTES;
	unsigned int len = 0;

	if (v->type == BATCH_ARRAY)
		return false;
	return HMAC(EVP_sha256(), r->key, sizeof(r->key),
		    is_text ? (const uint8_t *)v->text : (const uint8_t *)&word,
		    is_text ? v->n : sizeof(word), sum, &len) &&
	       len == 32;
}

/* What cannot be hashed is masked: nothing passes because something failed. */
static enum redact_action hash_value(struct redact *r, struct arena *memory, struct batch_value *v)
{
	static const char prefix[] = "hmac:", hex[] = "0123456789abcdef";
	uint8_t sum[32];
	void *room;
	char *to;

	if (!r->has_key || !digest(r, v, sum) ||
	    arena_take(memory, sizeof(prefix) - 1 + 2 * HASH_SHOWN_BYTES, &room) < 0) {
		*v = masked_value;
		return REDACT_MASK;
	}
	to = room;
	memcpy(to, prefix, sizeof(prefix) - 1);
	to += sizeof(prefix) - 1;
	for (int i = 0; i < HASH_SHOWN_BYTES; i++) {
		*to++ = hex[sum[i] >> 4];
		*to++ = hex[sum[i] & 15];
	}
	*v = (struct batch_value){BATCH_STRING, (uint32_t)(to - (char *)room), {.text = room}};
	return REDACT_HASH;
}

/* ---- by shape -------------------------------------------------------------------------------- */

/* Every credential of the text, of which the first was found. */
static void mask_found(struct redact *r, struct arena *memory, struct batch_text *text,
		       struct redact_found found)
{
	size_t from = 0, out = 0;
	bool more = true;
	void *room;
	char *to;

	r->counts[REDACT_MASK]++;
	/* Each mask replaces at least one byte, so this is the most there can be. */
	if (arena_take(memory, (size_t)text->len * (sizeof(masked) - 1), &room) < 0) {
		*text = (struct batch_text){masked, sizeof(masked) - 1};
		return;
	}
	to = room;
	while (more) {
		memcpy(to + out, text->at + from, found.at - from);
		out += found.at - from;
		memcpy(to + out, masked, sizeof(masked) - 1);
		out += sizeof(masked) - 1;
		from = found.at + found.len;
		more = redact_shape_find(text->at, text->len, from, &found);
	}
	memcpy(to + out, text->at + from, text->len - from);
	*text = (struct batch_text){room, (uint32_t)(out + text->len - from)};
}

static void redact_text(struct redact *r, struct arena *memory, struct batch_text *text)
{
	struct redact_found found;

	if (r->shapes && text->len > 0 && redact_shape_find(text->at, text->len, 0, &found))
		mask_found(r, memory, text, found);
}

static void redact_shapes(struct redact *r, struct arena *memory, struct batch_value *v)
{
	struct batch_value *elements;
	struct batch_text text;

	if (v->type == BATCH_STRING) {
		text = (struct batch_text){v->text, v->n};
		redact_text(r, memory, &text);
		v->text = text.at;
		v->n = text.len;
	} else if (v->type == BATCH_ARRAY && v->n > 0 && v->array[0].type == BATCH_STRING) {
		/* Not sealed yet: the array is this batch's own memory. */
		elements = (struct batch_value *)v->array;
		for (uint32_t i = 0; i < v->n; i++)
			redact_shapes(r, memory, &elements[i]);
	}
}

/* ---- walking --------------------------------------------------------------------------------- */

/* False: the attribute goes. */
static bool redact_attr(struct redact *r, struct arena *memory, struct batch_attr *a)
{
	enum redact_action action = action_of(r, &a->key);

	if (action == REDACT_KEEP) {
		if (r->shapes)
			redact_shapes(r, memory, &a->value);
		return true;
	}
	if (action == REDACT_MASK)
		a->value = masked_value;
	else if (action == REDACT_HASH)
		action = hash_value(r, memory, &a->value);
	r->counts[action]++;
	return action != REDACT_DROP;
}

static uint32_t redact_attrs(struct redact *r, struct arena *memory, struct batch_attrs *attrs)
{
	uint32_t kept = 0, dropped;

	for (uint32_t i = 0; i < attrs->n; i++) {
		if (!redact_attr(r, memory, &attrs->at[i]))
			continue;
		if (kept != i)
			attrs->at[kept] = attrs->at[i];
		kept++;
	}
	dropped = attrs->n - kept;
	attrs->dropped += dropped;
	attrs->n = kept;
	return dropped;
}

static void redact_span(struct redact *r, struct arena *memory, struct batch_span *s)
{
	redact_attrs(r, memory, &s->attrs);
	redact_text(r, memory, &s->status_message);
	for (uint32_t i = 0; i < s->n_events; i++)
		redact_attrs(r, memory, &s->events[i].attrs);
	for (uint32_t i = 0; i < s->n_links; i++)
		redact_attrs(r, memory, &s->links[i].attrs);
}

void redact_batch(struct redact *r, struct batch *b)
{
	assert(!b->sealed);

	for (uint32_t i = 0; i < b->n; i++) {
		if (b->signal == BATCH_TRACES) {
			redact_span(r, &b->memory, &b->spans[i]);
			continue;
		}
		redact_attrs(r, &b->memory, &b->logs[i].attrs);
		redact_text(r, &b->memory, &b->logs[i].body);
	}
}

void redact_resource(struct redact *r, struct batch_resource *resource)
{
	struct batch_attrs life = resource->attrs;

	/* Two runs, because the first attributes are counted apart. */
	life.at += resource->n_stable;
	life.n -= resource->n_stable;
	life.dropped = 0;
	resource->attrs.n = resource->n_stable;
	resource->n_stable -= redact_attrs(r, &resource->memory, &resource->attrs);
	redact_attrs(r, &resource->memory, &life);
	memmove(resource->attrs.at + resource->attrs.n, life.at, life.n * sizeof(*life.at));
	resource->attrs.n += life.n;
	resource->attrs.dropped += life.dropped;
}
