/* Goal: --dump-metrics says exactly what the catalogue says, in JSON and in Markdown.
 * Method: parse the JSON with jansson and compare it with the rows, member by member; count and
 * look up the rows of the tables. */
#include "agent/encode/dump.h"
#include "shm/metric.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <string.h>

TestSuite(dump, .timeout = 30);

static const char *member(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	cr_assert(value != NULL, "no member %s", key);
	return json_is_null(value) ? NULL : json_string_value(value);
}

static void assert_same(const char *got, const char *want, const char *metric, const char *key)
{
	if (!want)
		cr_assert_null(got, "%s: %s should be null", metric, key);
	else
		cr_assert(got && strcmp(got, want) == 0, "%s: %s is %s, not %s", metric, key,
			  got ? got : "null", want);
}

static void assert_labels(const json_t *array, const struct blix_metric *m)
{
	struct blix_labels labels;

	blix_labels_begin(&labels, m->labels);
	cr_assert(json_is_array(array), "%s", m->name);
	cr_assert_eq(json_array_size(array), labels.n_keys, "%s", m->name);
	for (uint32_t i = 0; i < labels.n_keys; i++) {
		const char *key = json_string_value(json_array_get(array, i));
		cr_assert(key && strlen(key) == labels.key_lens[i] &&
				  memcmp(key, labels.keys[i], labels.key_lens[i]) == 0,
			  "%s: key %u", m->name, i);
	}
}

static const char *type_of(enum blix_kind kind)
{
	return kind == BLIX_COUNTER ? "counter" : kind == BLIX_HISTOGRAM ? "histogram" : "gauge";
}

static const char *owner_of(enum blix_owner owner)
{
	return owner == BLIX_OWNER_NODE	     ? "node"
	       : owner == BLIX_OWNER_HOST    ? "host"
	       : owner == BLIX_OWNER_STORAGE ? "storage"
					     : "agent";
}

Test(dump, the_json_holds_every_row_and_nothing_else)
{
	struct buf out;
	json_error_t error;
	size_t i = 0;

	buf_init(&out, 1 << 20);
	dump_metrics_json(&out);
	cr_assert(!out.failed);
	json_t *array = json_loadb((const char *)out.data, out.len, JSON_REJECT_DUPLICATES, &error);
	cr_assert(array != NULL, "%s, line %d", error.text, error.line);
	cr_assert(json_is_array(array));

	for (const struct blix_metric *m = blix_metric_next(NULL); m; m = blix_metric_next(m)) {
		const json_t *object = json_array_get(array, i++);
		cr_assert_eq(json_object_size(object), 9, "%s", m->name);
		assert_same(member(object, "name"), m->name, m->name, "name");
		assert_same(member(object, "seed_name"), m->seed, m->name, "seed_name");
		assert_same(member(object, "type"), type_of(m->kind), m->name, "type");
		assert_same(member(object, "unit"), m->unit, m->name, "unit");
		assert_same(member(object, "owner"), owner_of(m->owner), m->name, "owner");
		assert_same(member(object, "tier"), m->tier == BLIX_TIER_GOLDEN ? "golden" : "all",
			    m->name, "tier");
		assert_same(member(object, "subset_of"), m->subset_of, m->name, "subset_of");
		assert_same(member(object, "help"), m->help, m->name, "help");
		assert_labels(json_object_get(object, "labels"), m);
	}
	cr_assert_eq(json_array_size(array), i);
	json_decref(array);
	buf_done(&out);
}

Test(dump, a_known_row_reads_as_documented)
{
	static const char want[] =
		"  {\"name\": \"blixard_grpc_requests_failed_total\", "
		"\"seed_name\": \"grpc_requests_failed\", \"type\": \"counter\", "
		"\"unit\": \"{request}\", \"labels\": [\"method\", \"code\"], \"owner\": \"node\", "
		"\"tier\": \"golden\", \"subset_of\": \"blixard_grpc_requests_total\", "
		"\"help\": ";
	struct buf out;

	buf_init(&out, 1 << 20);
	dump_metrics_json(&out);
	cr_assert(!out.failed);
	cr_assert_not_null(memmem(out.data, out.len, want, strlen(want)));
	buf_done(&out);
}

/* Lines of `out` that begin with `start`. */
static size_t lines_with(const struct buf *out, const char *start)
{
	const char *at = (const char *)out->data;
	const char *end = at + out->len;
	size_t n = 0;

	while (at < end) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		cr_assert(newline != NULL, "the last line has no newline");
		n += (size_t)(newline - at) >= strlen(start) && !memcmp(at, start, strlen(start));
		at = newline + 1;
	}
	return n;
}

/* Bars of the line at `at` that are not escaped. */
static size_t columns_of(const char *at)
{
	size_t n = 0;

	for (; *at != '\n'; at++)
		n += at[0] == '|' && at[-1] != '\\';
	return n;
}

Test(dump, the_markdown_has_one_table_an_owner_and_one_line_a_metric)
{
	struct buf out;
	size_t rows = 0;

	buf_init(&out, 1 << 20);
	dump_metrics_markdown(&out);
	cr_assert(!out.failed);
	for (const struct blix_metric *m = blix_metric_next(NULL); m; m = blix_metric_next(m)) {
		char start[256];
		snprintf(start, sizeof(start), "| `%s` | %s%s%s | %s | `%s` | ", m->name,
			 m->seed ? "`" : "", m->seed ? m->seed : "", m->seed ? "`" : "",
			 type_of(m->kind), m->unit);
		cr_assert_eq(lines_with(&out, start), 1, "%s", start);
		const char *line = memmem(out.data, out.len, start, strlen(start));
		cr_assert_eq(columns_of(line), 7, "%s", m->name);
		rows++;
	}
	cr_assert_eq(lines_with(&out, "| `"), rows);
	cr_assert_eq(lines_with(&out, "### "), 4);
	cr_assert_eq(lines_with(&out, "|---|---|---|---|---|---|"), 4);
	buf_done(&out);
}

Test(dump, a_buffer_that_is_too_small_is_marked_failed)
{
	struct buf out;

	buf_init(&out, 1000);
	dump_metrics_json(&out);
	cr_assert(out.failed);
	cr_assert_leq(out.len, 1000);
	buf_done(&out);
}
