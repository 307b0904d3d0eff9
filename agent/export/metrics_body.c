/* agent/export/metrics_body.c - see metrics_body.h. */
#include "agent/export/metrics_body.h"

#include "agent/log.h"
#include "agent/model/delta.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SOURCES_MAX = 64 };

struct metrics_body {
	struct metrics_body_options o;
	struct delta *delta; /* NULL: cumulative */
	bool loading;	     /* the baselines are being read */
	uint32_t holders;    /* this, and each read and baseline that is under way */
	uint64_t first_unix_ns[SOURCES_MAX]; /* of the first point that was sent */
	char incarnations[SOURCES_MAX][33];  /* to which it belongs */
};

/* The bodies of one snapshot and the baseline that follows from them. */
struct baseline {
	struct metrics_body *m;
	uint32_t open, settled, parts;
	uint8_t *bytes;
	size_t len;
};

static void release(struct metrics_body *m)
{
	if (--m->holders > 0)
		return;
	delta_free(m->delta);
	free(m);
}

/* ---- baselines ------------------------------------------------------------------------------- */

static void say_not_kept(int error)
{
	log_repeated(LOG_LEVEL_WARNING, "baseline_failed", "baseline",
		     "the baseline of delta metrics cannot be kept: %s; a restart will send some "
		     "counts again",
		     strerror(-error));
}

static void kept(void *arg, int error)
{
	if (error && error != -ECANCELED)
		say_not_kept(error);
	release(arg);
}

static void one_settled(void *arg)
{
	struct baseline *b = arg;

	b->settled++;
}

static void one_forgotten(void *arg)
{
	struct baseline *b = arg;
	struct metrics_body *m = b->m;

	if (--b->open > 0)
		return;
	if (b->settled == b->parts && b->bytes && m->o.spool) {
		m->holders++;
		if (spool_set(m->o.spool, m->o.key, b->bytes, b->len, kept, m) < 0)
			m->holders--;
	}
	free(b->bytes);
	free(b);
	release(m);
}

static void loaded(void *arg, int error, const void *value, size_t len)
{
	struct metrics_body *m = arg;
	int r = error ? error : delta_load(m->delta, value, len);

	m->loading = false;
	if (r < 0 && r != -ENOENT && r != -ECANCELED)
		log_line(LOG_LEVEL_WARNING, "baseline_lost",
			 "the baseline of delta metrics cannot be read: %s; counting starts anew",
			 strerror(-r));
	release(m);
}

/* ---- bodies ---------------------------------------------------------------------------------- */

/* The request of families [first, first + *n), fewer if they are too many for one. 0; -ENOMEM. */
static int encode(const struct snapshot *s, struct batch_resource *resource,
		  struct otlp_metrics_options *options, struct buf *out, uint32_t *ret_points)
{
	int r;

	for (;;) {
		buf_init(out, PIPE_REQUEST_BYTES_MAX);
		r = otlp_encode_metrics(s, resource, options, out, ret_points);
		if (r != -ENOSPC || options->n_families <= 1)
			break;
		buf_done(out);
		options->n_families /= 2;
	}
	if (r < 0)
		buf_done(out);
	return r;
}

static void offer(const struct metrics_body *m, struct buf *out, uint32_t points, uint64_t source,
		  struct baseline *baseline, struct pipe *p)
{
	struct pipe_body body = {
		.bytes = out->data,
		.len = out->len,
		.items = points,
		/* A snapshot in several parts: each supersedes its own predecessor. */
		.source = source,
		.cumulative = m->o.temporality == OTLP_CUMULATIVE,
	};

	if (baseline) {
		baseline->open++;
		baseline->parts++;
		body.settled = one_settled;
		body.forgotten = one_forgotten;
		body.arg = baseline;
	}
	pipe_offer_body(p, &body);
}

static void send_parts(struct metrics_body *m, const struct snapshot *s,
		       struct batch_resource *resource, struct otlp_metrics_options *options,
		       uint64_t source, struct baseline *baseline, struct pipe *p)
{
	uint32_t n = snapshot_family_count(s);

	for (uint32_t first = 0, part = 0; first < n; first += options->n_families, part++) {
		struct buf out;
		uint32_t points = 0;
		int r;

		options->first_family = first;
		options->n_families = n - first;
		r = encode(s, resource, options, &out, &points);
		if (r < 0) {
			log_repeated(LOG_LEVEL_WARNING, "metrics_not_encoded", "metrics",
				     "metrics could not be encoded: %s", strerror(-r));
			continue;
		}
		if (points)
			offer(m, &out, points, source * 1024 + part, baseline, p);
		else
			buf_done(&out);
	}
}

static struct baseline *baseline_new(struct metrics_body *m)
{
	struct baseline *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->m = m;
	b->open = 1; /* ours, until all parts are offered */
	m->holders++;
	return b;
}

static void send_delta(struct metrics_body *m, const struct snapshot *s,
		       struct batch_resource *resource, struct otlp_metrics_options *options,
		       uint64_t source, struct pipe *p)
{
	struct delta_view view;
	struct baseline *b;

	if (m->loading || delta_begin(m->delta, s, resource->incarnation, options->time_unix_ns,
				      false, &view) < 0)
		return;
	b = baseline_new(m);
	if (!b || delta_save(m->delta, true, &b->bytes, &b->len) < 0) {
		delta_rollback(m->delta);
		if (b)
			one_forgotten(b);
		return;
	}
	options->delta = &view;
	send_parts(m, s, resource, options, source, b, p);
	delta_commit(m->delta);
	one_forgotten(b);
}

/* Points whose family does not know its beginning begin with the first one that was sent. */
static uint64_t unknown_start(struct metrics_body *m, const struct batch_resource *resource,
			      uint64_t source, uint64_t now_unix_ns)
{
	uint64_t i = source % SOURCES_MAX, first = m->first_unix_ns[i];

	if (first && strcmp(m->incarnations[i], resource->incarnation) == 0)
		return first;
	memcpy(m->incarnations[i], resource->incarnation, sizeof(m->incarnations[i]));
	m->first_unix_ns[i] = now_unix_ns;
	return 0;
}

void metrics_body_send(struct metrics_body *m, const struct snapshot *s,
		       struct batch_resource *resource, uint64_t source, uint64_t now_unix_ns,
		       struct pipe *p)
{
	struct otlp_metrics_options options = {
		.time_unix_ns = now_unix_ns,
		.temporality = m->o.temporality,
		.exponential = m->o.exponential,
		.json = m->o.json,
	};

	options.unknown_start_unix_ns = unknown_start(m, resource, source, now_unix_ns);
	if (m->delta)
		send_delta(m, s, resource, &options, source, p);
	else
		send_parts(m, s, resource, &options, source, NULL, p);
}

/* ---- life ------------------------------------------------------------------------------------ */

int metrics_body_new(const struct metrics_body_options *options, struct metrics_body **ret_m)
{
	struct metrics_body *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->o = *options;
	m->holders = 1;
	if (options->temporality != OTLP_CUMULATIVE) {
		m->delta = delta_new();
		if (!m->delta) {
			free(m);
			return -ENOMEM;
		}
		m->holders++;
		m->loading =
			options->spool && spool_get(options->spool, options->key, loaded, m) == 0;
		if (!m->loading)
			m->holders--;
	}
	*ret_m = m;
	return 0;
}

struct metrics_body *metrics_body_free(struct metrics_body *m)
{
	if (m)
		release(m);
	return NULL;
}
