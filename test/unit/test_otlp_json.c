/* Goal: OTLP's JSON mapping: hex ids, 64-bit integers as strings, enums as integers, NaN and infinities
 * as strings, escaped text, base64 bytes.
 * Method: golden bodies of the fixtures, read by official decoders in test/e2e/11-otlp-encoders.sh;
 * and jansson, which must read them. */
#include "agent/encode/otlp.h"
#include "test/support/batch_fixture.h"
#include "test/support/golden.h"
#include "test/support/model_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>

enum { BODY_BYTES_MAX = 64 << 20 };

static void expect_golden(const char *name, const struct buf *body)
{
	char reason[GOLDEN_REASON_MAX];
	json_t *root;

	cr_assert_not(body->failed);
	root = json_loadb((const char *)body->data, body->len, JSON_REJECT_DUPLICATES, NULL);
	cr_expect_not_null(root, "%s is no JSON", name);
	json_decref(root);
	cr_expect_eq(golden_compare(name, body->data, body->len, reason), 0, "%s", reason);
}

static void expect_batch(const char *name, struct batch *b)
{
	struct buf body;

	buf_init(&body, BODY_BYTES_MAX);
	otlp_encode_batch(b, 0, UINT32_MAX, true, &body);
	expect_golden(name, &body);
	buf_done(&body);
	batch_release(b);
}

static void expect_metrics(const char *name, bool exponential)
{
	struct snapshot *s = fixture_small();
	struct batch_resource *r = fixture_resource();
	const struct otlp_metrics_options o = {
		.time_unix_ns = 1700000100000000000ull, .exponential = exponential, .json = true};
	uint32_t points;
	struct buf body;

	buf_init(&body, BODY_BYTES_MAX);
	cr_assert_eq(otlp_encode_metrics(s, r, &o, &body, &points), 0);
	expect_golden(name, &body);
	buf_done(&body);
	batch_resource_release(r);
	snapshot_free(s);
}

Test(otlp_json, spans_are_the_golden_ones)
{
	expect_batch("small.traces.otlp.json", fixture_spans());
}

Test(otlp_json, logs_are_the_golden_ones)
{
	expect_batch("small.logs.otlp.json", fixture_logs());
}

Test(otlp_json, metrics_are_the_golden_ones)
{
	expect_metrics("small.otlp.json", false);
	expect_metrics("small.exponential.otlp.json", true);
}

Test(otlp_json, a_body_that_does_not_fit_fails_its_buffer_at_every_maximum_below)
{
	struct batch *b = fixture_logs();
	struct buf body, full;

	buf_init(&full, BODY_BYTES_MAX);
	otlp_encode_batch(b, 0, 2, true, &full);
	for (size_t max = 0; max < full.len; max++) {
		buf_init(&body, max);
		otlp_encode_batch(b, 0, 2, true, &body);
		cr_expect(body.failed, "%zu", max);
		buf_done(&body);
	}
	buf_init(&body, full.len);
	otlp_encode_batch(b, 0, 2, true, &body);
	cr_expect_not(body.failed);
	buf_done(&body);
	buf_done(&full);
	batch_release(b);
}
