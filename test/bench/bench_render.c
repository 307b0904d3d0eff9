/* test/bench/bench_render.c - rendering a scrape, in ns a sample line.
 *
 * Goal: how far our encoders are from copying the finished body, which no renderer can beat, and
 * from the same text by snprintf, which is what one would write first.
 * Method: half the lines are counters with two labels, half are lines of histograms with ten
 * bounds, the body that the peers are measured with too. A buffer is used again from body to body,
 * as the agent does. */
#include "harness.h"

#include "agent/encode/encode.h"

#include <string.h>

enum { BOUNDS = 10, HISTOGRAM_LINES = BOUNDS + 3, BODY_BYTES_MAX = 64 << 20 };

struct body {
	struct snapshot *snapshot;
	const struct encoder *encoder;
	struct buf out, finished;
	uint64_t n_lines;
};

static void must(int err)
{
	if (err)
		abort();
}

static uint64_t next_number(void)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return state >> 33;
}

static void add_counters(struct snapshot *s, uint32_t lines)
{
	const struct snapshot_family spec = {
		.name = "bench_requests_total", .help = "Requests.", .type = SNAPSHOT_COUNTER};
	uint32_t family, series;
	char method[32];

	must(snapshot_family(s, &spec, &family));
	for (uint32_t i = 0; i < lines; i++) {
		const struct snapshot_label labels[] = {{"method", method},
							{"code", "UNAVAILABLE"}};

		(void)snprintf(method, sizeof(method), "Method%u", i);
		must(snapshot_series(s, family, labels, 2, false, true, &series));
		snapshot_set_u64(s, series, next_number() >> (next_number() % 31));
	}
}

static void add_histograms(struct snapshot *s, uint32_t n)
{
	const struct snapshot_bounds bounds = {
		.n = BOUNDS, .value = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5}};
	const struct snapshot_family spec = {
		.name = "bench_request_duration_seconds",
		.help = "Time.",
		.unit = "s",
		.type = SNAPSHOT_HISTOGRAM,
		.number = SNAPSHOT_NS,
		.bounds = &bounds,
	};
	uint32_t family, series, n_values;
	char method[32];

	must(snapshot_family(s, &spec, &family));
	for (uint32_t i = 0; i < n; i++) {
		const struct snapshot_label label = {"method", method};
		uint64_t *values;

		(void)snprintf(method, sizeof(method), "Method%u", i);
		must(snapshot_series(s, family, &label, 1, false, true, &series));
		values = snapshot_values(s, series, &n_values);
		for (uint32_t v = 0; v <= BOUNDS; v++)
			values[v] = next_number() >> (next_number() % 31);
		values[BOUNDS + 1] = next_number() * 1000;
	}
}

static void make(struct body *body, uint32_t lines)
{
	uint32_t histograms = lines / 2 / HISTOGRAM_LINES;

	body->n_lines = lines / 2 + histograms * HISTOGRAM_LINES;
	body->snapshot = snapshot_new();
	if (!body->snapshot)
		abort();
	add_counters(body->snapshot, lines / 2);
	add_histograms(body->snapshot, histograms);
	buf_init(&body->out, BODY_BYTES_MAX);
	buf_init(&body->finished, BODY_BYTES_MAX);
}

static void unmake(struct body *body)
{
	buf_done(&body->out);
	buf_done(&body->finished);
	snapshot_free(body->snapshot);
}

typedef void render_fn(struct body *body);

static void render_ours(struct body *body)
{
	const struct encode_options options = {.names = ENCODE_NAMES_CANONICAL};

	body->encoder->encode(body->snapshot, &options, &body->out);
}

static void render_memcpy(struct body *body)
{
	buf_add(&body->out, body->finished.data, body->finished.len);
}

/* ---- by snprintf ----------------------------------------------------------------------------- */

static void print_line(struct buf *out, const char *name, const char *suffix, const char *labels,
		       const char *le, const char *value)
{
	uint8_t *at = buf_room(out, 512);
	int len = snprintf((char *)at, 512, "%s%s{%s%s%s%s} %s\n", name, suffix, labels,
			   le ? ",le=\"" : "", le ? le : "", le ? "\"" : "", value);

	buf_commit(out, (size_t)len);
}

static void print_number(char text[32], uint64_t value)
{
	(void)snprintf(text, 32, "%llu", (unsigned long long)value);
}

static void print_histogram(struct buf *out, const struct snapshot_family *f,
			    const struct snapshot_series *series, const uint64_t *values)
{
	uint64_t count = 0;
	char value[32];

	for (uint32_t i = 0; i <= f->bounds->n; i++) {
		count += values[i];
		print_number(value, count);
		print_line(out, f->name, "_bucket", series->text,
			   i < f->bounds->n ? f->bounds->le[i] : "+Inf", value);
	}
	(void)snprintf(value, sizeof(value), "%.9g", (double)values[f->bounds->n + 1] / 1e9);
	print_line(out, f->name, "_sum", series->text, NULL, value);
	print_number(value, count);
	print_line(out, f->name, "_count", series->text, NULL, value);
}

static void print_body(const struct snapshot *s, struct buf *out)
{
	for (uint32_t i = 0; i < snapshot_family_count(s); i++) {
		const struct snapshot_family *f = snapshot_family_at(s, i);
		char value[32];

		buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name,
			 f->type == SNAPSHOT_COUNTER ? "counter" : "histogram");
		for (uint32_t k = 0; k < f->n_series; k++) {
			const struct snapshot_series *series = snapshot_family_series(s, i, k);
			const uint64_t *values = snapshot_value_at(s, series->value);

			if (f->type == SNAPSHOT_HISTOGRAM) {
				print_histogram(out, f, series, values);
				continue;
			}
			print_number(value, *values);
			print_line(out, f->name, "", series->text, NULL, value);
		}
	}
}

static void render_snprintf(struct body *body)
{
	print_body(body->snapshot, &body->out);
}

/* ---- all ------------------------------------------------------------------------------------- */

static double repeat(struct body *body, render_fn *render, uint64_t bodies)
{
	uint64_t start = bench_cpu_ns();

	for (uint64_t i = 0; i < bodies; i++) {
		buf_clear(&body->out);
		render(body);
		__asm__ volatile("" : : "r"(body->out.data) : "memory");
	}
	return (double)(bench_cpu_ns() - start);
}

/* As bench_run() does it, with whole bodies as repeats and the figure per line. */
static void run(const char *what, uint32_t lines, render_fn *render, struct body *body)
{
	enum { REPEATS = 200 };
	const double target_ns = 1.5e6;
	double kept[REPEATS];
	uint64_t bodies;
	int n = 0;

	bench_pin(0);
	(void)repeat(body, render, 1); /* the buffer has grown, the caches are warm */
	bodies = (uint64_t)(target_ns / (repeat(body, render, 1) + 1)) + 1;
	for (int i = 0; i < 2 * REPEATS && n < REPEATS; i++) {
		long preempted = bench_preemptions();
		double took = repeat(body, render, bodies);

		if (bench_preemptions() == preempted || i >= REPEATS)
			kept[n++] = took / (double)(bodies * body->n_lines);
	}
	qsort(kept, (size_t)n, sizeof(*kept), bench_compare);
	printf("render/%05u lines: %s\t1\t%.3f\t%.3f\t%.3f\t%d/%d\n", lines, what, kept[n / 2],
	       kept[0], kept[n * 9 / 10], n, REPEATS);
	(void)fflush(stdout);
}

int main(void)
{
	static const uint32_t sizes[] = {200, 2000, 20000};

	for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const struct encode_options options = {.names = ENCODE_NAMES_CANONICAL};
		struct body body = {0};

		make(&body, sizes[i]);
		encoders[ENCODE_TEXT].encode(body.snapshot, &options, &body.finished);
		run("memcpy of the finished body", sizes[i], render_memcpy, &body);
		for (int k = 0; k < ENCODE_FORMATS; k++) {
			body.encoder = &encoders[k];
			run(body.encoder->name, sizes[i], render_ours, &body);
		}
		run("snprintf", sizes[i], render_snprintf, &body);
		unmake(&body);
	}
	return 0;
}
