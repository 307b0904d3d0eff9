/* Goal: what must not leave the host does not, whatever carries it, and what may stays as it was.
 * Method: tables of keys and texts with what must become of them; the HMAC is compared with one
 * that the openssl program computed. */
#include "agent/process/redact.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct batch_resource *resource;
static struct batch *b;
static struct redact *r;
static const uint8_t key[REDACT_KEY_BYTES] = "0123456789abcdef0123456789abcdef";

static void setup(void)
{
	resource = batch_resource_new();
	b = batch_new(BATCH_TRACES, resource);
	cr_assert_eq(redact_new(&(struct redact_options){.key = key}, &r), 0);
}

static void teardown(void)
{
	redact_free(r);
	batch_release(b);
	batch_resource_release(resource);
}

TestSuite(redact, .init = setup, .fini = teardown, .timeout = 30);

static struct batch_text text_of(const char *s)
{
	return (struct batch_text){s, (uint32_t)strlen(s)};
}

static struct batch_value string(const char *s)
{
	return (struct batch_value){BATCH_STRING, (uint32_t)strlen(s), {.text = s}};
}

static bool is(const struct batch_value *v, const char *s)
{
	return v->type == BATCH_STRING && v->n == strlen(s) && memcmp(v->text, s, v->n) == 0;
}

/* One span with one attribute, redacted; its attributes come back. */
static struct batch_attrs *redacted(const char *attr_key, struct batch_value value)
{
	static struct batch_attr attr;

	attr = (struct batch_attr){text_of(attr_key), value};
	b->n = 1;
	b->spans[0] = (struct batch_span){.attrs = {.at = &attr, .n = 1}};
	redact_batch(r, b);
	return &b->spans[0].attrs;
}

static const char *redacted_text(const char *s)
{
	static char out[4096];
	const struct batch_attrs *a = redacted("note", string(s));

	cr_assert_eq(a->n, 1u);
	memcpy(out, a->at[0].value.text, a->at[0].value.n);
	out[a->at[0].value.n] = '\0';
	return out;
}

Test(redact, credentials_go_by_their_key)
{
	static const char *const keys[] = {
		"password",	 "db.PASSWORD",	      "http.request.header.authorization",
		"set_cookie",	 "aws.secret_access", "api_key",
		"session.token", "user_passwd_old",   "my.client-credentials",
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		cr_expect(is(&redacted(keys[i], string("x"))->at[0].value, "[redacted]"), "%s",
			  keys[i]);
	cr_expect(is(
		&redacted("password", (struct batch_value){BATCH_I64, 0, {.i64 = 7}})->at[0].value,
		"[redacted]"));
	cr_expect_eq(redact_count(r, REDACT_MASK), sizeof(keys) / sizeof(keys[0]) + 1);
}

Test(redact, ordinary_keys_and_values_stay)
{
	static const char *const keys[] = {"rpc.method",	   "gen_ai.usage.total_tokens",
					   "blixard.raft.term",	   "db.system.name",
					   "blixard.chunk.digest", "user.name"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		cr_expect(is(&redacted(keys[i], string("plain value"))->at[0].value, "plain value"),
			  "%s", keys[i]);
	for (int i = REDACT_DROP; i < REDACT_ACTIONS; i++)
		cr_expect_eq(redact_count(r, (enum redact_action)i), 0);
}

/* printf 'alice@example.org' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef */
Test(redact, persons_become_a_keyed_hash)
{
	cr_expect(is(&redacted("user.email", string("alice@example.org"))->at[0].value,
		     "hmac:3c4b2380463bfa993aab26f6640e5e02"));
	cr_expect_eq(redact_count(r, REDACT_HASH), 1);
}

Test(redact, without_a_key_what_should_be_hashed_is_masked)
{
	redact_free(r);
	cr_assert_eq(redact_new(&(struct redact_options){0}, &r), 0);
	cr_expect(is(&redacted("user.email", string("a@b.c"))->at[0].value, "[redacted]"));
	cr_expect_eq(redact_count(r, REDACT_HASH), 0);
	cr_expect_eq(redact_count(r, REDACT_MASK), 1);
}

Test(redact, the_callers_rules_come_first_and_may_exempt_or_drop)
{
	const struct redact_rule rules[] = {{"cookie.policy", REDACT_KEEP},
					    {"vm.?ame", REDACT_DROP}};
	struct batch_attrs *a;

	redact_free(r);
	cr_assert_eq(redact_new(&(struct redact_options){.rules = rules, .n_rules = 2}, &r), 0);
	cr_expect(is(&redacted("cookie.policy", string("strict"))->at[0].value, "strict"));
	a = redacted("vm.name", string("web"));
	cr_expect_eq(a->n, 0);
	cr_expect_eq(a->dropped, 1);
	cr_expect_eq(redact_count(r, REDACT_DROP), 1);
}

Test(redact, credentials_inside_texts_are_masked_and_the_rest_stays)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"sent Bearer your-token to it", "sent Bearer [redacted] to it"},
		{"authorization: bearer abcdefgh12345678", "authorization: bearer [redacted]"},
		{"jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl!", "jwt [redacted]!"},
		{"key AKIAIOSFODNN7EXAMPLE used", "key [redacted] used"},
		{"ghp_0123456789abcdef0123456789abcdef0123", "[redacted]"},
		{"x password=hunter2, user=bob", "x password=[redacted], user=bob"},
		{"{\"token\": \"abc\", \"n\": 1}", "{\"token\": \"[redacted]\", \"n\": 1}"},
		{"postgres://bob:s3cret@db:5432/x", "postgres://bob:[redacted]@db:5432/x"},
		{"card 4111 1111 1111 1111.", "card [redacted]."},
		{"-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- tail",
		 "[redacted] tail"},
		{"-----BEGIN PRIVATE KEY-----\nMII", "[redacted]"},
		{"password=a token=b", "password=[redacted] token=[redacted]"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect_str_eq(redacted_text(cases[i].in), cases[i].out);
	cr_expect_eq(redact_count(r, REDACT_MASK), sizeof(cases) / sizeof(cases[0]));
}

Test(redact, what_only_resembles_a_credential_stays)
{
	static const char *const texts[] = {
		"",
		"Bearer",
		"Bearer x",
		"basic operation",
		"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", /* a digest */
		"1764104041123456789", /* ns since 1970 */
		"4111 1111 1111 1112", /* Luhn says no */
		"https://node-1:7001/x@y",
		"AKIATOOSHORT",
		"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----",
		"the tokens: 5 of 7 tokens",
		"a password was asked for",
		"eyJ.x.y",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		cr_expect_str_eq(redacted_text(texts[i]), texts[i]);
	cr_expect_eq(redact_count(r, REDACT_MASK), 0);
}

Test(redact, every_place_that_holds_text_is_looked_at)
{
	struct batch_attr a[5] = {{text_of("password"), string("1")},
				  {text_of("password"), string("2")},
				  {text_of("password"), string("3")}};
	struct batch_value elements[] = {string("fine"), string("password=4")};
	struct batch_event event = {.attrs = {.at = &a[1], .n = 1}};
	struct batch_link link = {.attrs = {.at = &a[2], .n = 1}};
	struct batch_attr list = {text_of("list"), {BATCH_ARRAY, 2, {.array = elements}}};

	b->n = 2;
	b->spans[0] = (struct batch_span){.attrs = {.at = a, .n = 1},
					  .events = &event,
					  .n_events = 1,
					  .links = &link,
					  .n_links = 1,
					  .status_message = text_of("password=5")};
	b->spans[1] = (struct batch_span){.attrs = {.at = &list, .n = 1}};
	redact_batch(r, b);
	for (int i = 0; i < 3; i++)
		cr_expect(is(&a[i].value, "[redacted]"), "%d", i);
	cr_expect(is(&elements[0], "fine"));
	cr_expect(is(&elements[1], "password=[redacted]"));
	cr_expect_eq(b->spans[0].status_message.len, strlen("password=[redacted]"));
	cr_expect_eq(redact_count(r, REDACT_MASK), 5);
}

Test(redact, logs_and_the_resource_too)
{
	struct batch *logs = batch_new(BATCH_LOGS, resource);
	struct batch_attr at[] = {{text_of("service.name"), string("s")},
				  {text_of("deploy.secret"), string("s")},
				  {text_of("process.pid"), {BATCH_I64, 0, {.i64 = 4}}}};
	const struct redact_rule drop = {"deploy.*", REDACT_DROP};

	logs->n = 1;
	logs->logs[0] = (struct batch_log){.body = text_of("token=1")};
	redact_batch(r, logs);
	cr_expect_eq(logs->logs[0].body.len, strlen("token=[redacted]"));
	batch_release(logs);

	redact_free(r);
	cr_assert_eq(redact_new(&(struct redact_options){.rules = &drop, .n_rules = 1}, &r), 0);
	resource->attrs = (struct batch_attrs){at, 3, 0};
	resource->n_stable = 2;
	redact_resource(r, resource);
	cr_assert_eq(resource->attrs.n, 2);
	cr_expect_eq(resource->n_stable, 1);
	cr_expect_eq(resource->attrs.dropped, 1);
	cr_expect_eq(resource->attrs.at[1].value.i64, 4);
}

Test(redact, where_memory_ends_the_whole_text_is_masked)
{
	b->memory.max = b->memory.total;
	b->memory.used = b->memory.capacity;
	cr_expect_str_eq(redacted_text("my password=x"), "[redacted]");
	cr_expect(is(&redacted("user.id", string("u"))->at[0].value, "[redacted]"));
}

Test(redact, a_key_that_takes_anothers_place_in_the_cache_is_still_judged_by_itself)
{
	char name[16];

	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "%s%d", i % 2 ? "k" : "secret", i);
		cr_assert(is(&redacted(name, string("v"))->at[0].value, i % 2 ? "v" : "[redacted]"),
			  "%s", name);
	}
}

Test(redact, rules_that_say_nothing_are_refused)
{
	struct redact_rule many[REDACT_RULES_MAX + 1];
	char glob[REDACT_GLOB_BYTES + 1];
	struct redact *none = NULL;
	const struct redact_rule empty = {"", REDACT_MASK}, odd = {"x", REDACT_ACTIONS},
				 null = {NULL, REDACT_MASK};
	struct redact_rule edge = {glob, REDACT_MASK};

	memset(glob, 'x', sizeof(glob));
	glob[REDACT_GLOB_BYTES] = '\0';
	for (int i = 0; i <= REDACT_RULES_MAX; i++)
		many[i] = (struct redact_rule){"x", REDACT_MASK};
	cr_expect_eq(redact_new(&(struct redact_options){.rules = &empty, .n_rules = 1}, &none),
		     -EINVAL);
	cr_expect_eq(redact_new(&(struct redact_options){.rules = &null, .n_rules = 1}, &none),
		     -EINVAL);
	cr_expect_eq(redact_new(&(struct redact_options){.rules = &odd, .n_rules = 1}, &none),
		     -EINVAL);
	cr_expect_eq(redact_new(&(struct redact_options){.rules = &edge, .n_rules = 1}, &none),
		     -EINVAL);
	cr_expect_eq(
		redact_new(&(struct redact_options){.rules = many, .n_rules = REDACT_RULES_MAX + 1},
			   &none),
		-E2BIG);
	cr_expect_null(none);
	glob[REDACT_GLOB_BYTES - 1] = '\0';
	cr_assert_eq(redact_new(&(struct redact_options){.rules = &edge, .n_rules = 1}, &none), 0);
	cr_expect_null(redact_free(none));
	cr_assert_eq(
		redact_new(&(struct redact_options){.rules = many, .n_rules = REDACT_RULES_MAX},
			   &none),
		0);
	redact_free(none);
}
