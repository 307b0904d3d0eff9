/* Goal: a node is who its file says, completed by its identity; malformed bytes cost only themselves.
 * Method: OTLP Resource messages written by hand, byte by byte; then cut at every length and flipped
 * at every bit, against a guard page. */
#include "agent/input/resource.h"
#include "test/support/guard_page.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct blix_map_identity identity = {
	.node_id = 3,
	.pid = 42,
	.incarnation_hex = "00112233445566778899aabbccddeeff",
	.cluster = "prod",
	.service_name = "blixard",
	.version = "1.2",
	.pid_start_ticks = 100,
	.open_mono_ns = UINT64_C(10000000000),
	.open_real_ns = UINT64_C(1764100009000000000),
};

static uint8_t bytes[4096];
static size_t len;

/* A field of one-byte tag and length. */
static size_t put_field(uint8_t *to, uint8_t tag, const void *body, size_t n)
{
	to[0] = tag;
	to[1] = (uint8_t)n;
	memcpy(to + 2, body, n);
	return n + 2;
}

/* attributes { key, value { <any_tag> ... } } */
static void put_pair(const char *key, const uint8_t *any, size_t any_len)
{
	uint8_t pair[256];
	size_t n = put_field(pair, 0x0a, key, strlen(key));

	n += put_field(pair + n, 0x12, any, any_len);
	len += put_field(bytes + len, 0x0a, pair, n);
}

static void put_text(const char *key, const char *text)
{
	uint8_t any[128];

	put_pair(key, any, put_field(any, 0x0a, text, strlen(text)));
}

static struct batch_resource *make(void)
{
	struct batch_resource *r = NULL;

	cr_assert_eq(resource_new(&identity, bytes, len, &r), 0);
	return r;
}

static const struct batch_value *find(const struct batch_resource *r, const char *key)
{
	for (uint32_t i = 0; i < r->attrs.n; i++)
		if (r->attrs.at[i].key.len == strlen(key) &&
		    memcmp(r->attrs.at[i].key.at, key, strlen(key)) == 0)
			return &r->attrs.at[i].value;
	return NULL;
}

static bool is(const struct batch_value *v, const char *s)
{
	return v && v->type == BATCH_STRING && v->n == strlen(s) && memcmp(v->text, s, v->n) == 0;
}

Test(resource, what_the_node_wrote_stands_and_the_identity_fills_the_rest)
{
	struct batch_resource *r;

	put_text("service.name", "my-service");
	put_text("deployment.environment", "test");
	r = make();
	cr_expect(is(find(r, "service.name"), "my-service"));
	cr_expect(is(find(r, "deployment.environment"), "test"));
	cr_expect(is(find(r, "service.instance.id"), "prod/3"));
	cr_expect(is(find(r, "service.version"), "1.2"));
	cr_expect(is(find(r, "telemetry.sdk.language"), "c"));
	cr_expect(is(find(r, "blixard.incarnation"), identity.incarnation_hex));
	cr_expect_eq(find(r, "process.pid")->i64, 42);
	cr_expect(is(find(r, "process.creation.time"), "2025-11-25T19:46:40Z"));
	cr_expect_eq(r->service_name.len, 10);
	cr_expect_eq(r->service_instance_id.len, 6);
	cr_expect_gt(r->scope_name.len, 0);
	cr_expect_str_eq(r->incarnation, identity.incarnation_hex);
	cr_expect_eq(r->node_id, 3);
	cr_expect_eq(r->attrs.dropped, 0);
	batch_resource_release(r);
}

Test(resource, what_names_one_life_comes_last_whoever_wrote_it)
{
	static const char *const life[] = {"blixard.incarnation", "process.pid",
					   "process.creation.time"};
	struct batch_resource *r;

	put_text("process.pid", "seven");
	put_text("z", "1");
	r = make();
	cr_assert_eq(r->n_stable + 3, r->attrs.n);
	for (int i = 0; i < 3; i++)
		cr_expect_eq(memcmp(r->attrs.at[r->n_stable + (uint32_t)i].key.at, life[i],
				    strlen(life[i])),
			     0);
	cr_expect(is(find(r, "process.pid"), "seven"));
	batch_resource_release(r);
}

Test(resource, every_scalar_type_is_taken_and_the_last_of_a_key_wins)
{
	static const uint8_t yes[] = {0x10, 1}, minus_two[] = {0x18, 0xfe, 0xff, 0xff, 0xff, 0xff,
							       0xff, 0xff, 0xff, 0xff, 1},
			     half[] = {0x21, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f}, raw[] = {0x3a, 1, 0xff};
	struct batch_resource *r;

	put_pair("b", yes, sizeof(yes));
	put_pair("i", minus_two, sizeof(minus_two));
	put_pair("f", half, sizeof(half));
	put_pair("y", raw, sizeof(raw));
	put_text("k", "first");
	put_text("k", "last");
	r = make();
	cr_expect(find(r, "b")->boolean);
	cr_expect_eq(find(r, "i")->i64, -2);
	cr_expect_eq(find(r, "f")->f64, 0.5);
	cr_expect_eq(find(r, "y")->type, BATCH_BYTES);
	cr_expect(is(find(r, "k"), "last"));
	cr_expect_eq(r->attrs.dropped, 0);
	batch_resource_release(r);
}

Test(resource, malformed_attributes_are_counted_and_their_neighbours_kept)
{
	static const uint8_t array[] = {0x2a, 0}, nothing[1] = {0};
	struct batch_resource *r;

	put_pair("array", array, sizeof(array));
	put_pair("empty", nothing, 0);
	put_text("", "no key");
	put_text("broken", "a\xff");
	put_text("good", "g");
	bytes[len++] = 0x0a;
	bytes[len++] = 0x7f; /* longer than what is left */
	r = make();
	cr_expect_eq(r->attrs.dropped, 4);
	cr_expect(is(find(r, "broken"), "a\xef\xbf\xbd"));
	cr_expect(is(find(r, "good"), "g"));
	cr_expect_null(find(r, "array"));
	batch_resource_release(r);
}

Test(resource, more_attributes_than_a_resource_holds_are_counted)
{
	static uint8_t many[BATCH_RESOURCE_ATTRS_MAX * 32];
	struct batch_resource *r;
	char key[16];
	size_t n = 0;

	for (int i = 0; i < BATCH_RESOURCE_ATTRS_MAX + 5; i++) {
		len = 0;
		snprintf(key, sizeof(key), "k%d", i);
		put_text(key, "v");
		memcpy(many + n, bytes, len);
		n += len;
	}
	cr_assert_eq(resource_new(&identity, many, n, &r), 0);
	cr_expect_eq(r->attrs.n, BATCH_RESOURCE_ATTRS_MAX);
	cr_expect_gt(r->attrs.dropped, 5);
	batch_resource_release(r);
}

Test(resource, no_byte_beyond_is_read_whatever_is_cut_or_flipped)
{
	struct guard_page g = guard_page_new(4096);

	put_text("service.name", "s");
	put_text("key", "value");
	for (size_t cut = 0; cut <= len; cut++)
		for (size_t at = 0; at < cut * 8 || at == 0; at++) {
			char *copy = guard_page_place(&g, bytes, cut);
			struct batch_resource *r;

			if (cut > 0)
				copy[at / 8] = (char)(copy[at / 8] ^ (1 << at % 8));
			cr_assert_eq(resource_new(&identity, (const uint8_t *)copy, cut, &r), 0);
			cr_assert_gt(r->service_name.len, 0);
			batch_resource_release(r);
		}
	guard_page_free(&g);
}
