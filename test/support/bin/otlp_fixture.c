/* test/support/bin/otlp_fixture.c - write OTLP bodies of the fixtures to a directory.
 *
 * otlp_fixture DIR: traces, logs, metrics, exponential, delta, rich; each as .pb and .json. */
#include "agent/encode/otlp.h"
#include "test/support/batch_fixture.h"
#include "test/support/model_fixture.h"

#include <stdio.h>
#include <stdlib.h>

enum { BODY_BYTES_MAX = 64 << 20 };
#define TIME_NS 1700000100000000000ull

static void die(const char *what)
{
	(void)fprintf(stderr, "otlp_fixture: %s\n", what);
	exit(1);
}

static void save(const char *dir, const char *name, bool json, struct buf *body)
{
	char path[4096];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s.%s", dir, name, json ? "json" : "pb");
	file = fopen(path, "we");
	if (!file || body->failed || fwrite(body->data, 1, body->len, file) != body->len ||
	    fclose(file) != 0)
		die(path);
	buf_clear(body);
}

static void save_batch(const char *dir, const char *name, struct batch *b)
{
	struct buf body;

	buf_init(&body, BODY_BYTES_MAX);
	for (int json = 0; json <= 1; json++) {
		otlp_encode_batch(b, 0, UINT32_MAX, json, &body);
		save(dir, name, json, &body);
	}
	buf_done(&body);
	batch_release(b);
}

static void save_metrics(const char *dir, const char *name, const struct snapshot *s,
			 struct otlp_metrics_options o)
{
	struct batch_resource *r = fixture_resource();
	struct buf body;
	uint32_t points;

	buf_init(&body, BODY_BYTES_MAX);
	for (int json = 0; json <= 1; json++) {
		o.json = json;
		o.time_unix_ns = TIME_NS;
		if (otlp_encode_metrics(s, r, &o, &body, &points) < 0)
			die(name);
		save(dir, name, json, &body);
	}
	buf_done(&body);
	batch_resource_release(r);
}

static void save_delta(const char *dir, struct snapshot *s)
{
	static const char life[] = "0123456789abcdef0123456789abcdef";
	struct delta *d = delta_new();
	struct delta_view view;
	uint32_t n;

	if (!d || delta_begin(d, s, life, TIME_NS - 1000, false, &view) < 0)
		die("delta");
	delta_commit(d);
	/* The first series of the first family is a counter: five more. */
	*snapshot_values(s, snapshot_family_at(s, 0)->series[0], &n) += 5;
	if (delta_begin(d, s, life, TIME_NS, false, &view) < 0)
		die("delta");
	save_metrics(dir, "delta", s,
		     (struct otlp_metrics_options){.temporality = OTLP_DELTA, .delta = &view});
	delta_free(d);
}

int main(int argc, char **argv)
{
	struct snapshot *small = fixture_small(), *rich = fixture_rich();

	if (argc != 2)
		die("usage: otlp_fixture DIR");
	save_batch(argv[1], "traces", fixture_spans());
	save_batch(argv[1], "logs", fixture_logs());
	save_metrics(argv[1], "metrics", small, (struct otlp_metrics_options){0});
	save_metrics(argv[1], "exponential", small,
		     (struct otlp_metrics_options){.exponential = true});
	save_metrics(argv[1], "rich", rich, (struct otlp_metrics_options){.exponential = true});
	save_delta(argv[1], small);
	snapshot_free(small);
	snapshot_free(rich);
	return 0;
}
