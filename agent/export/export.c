/* agent/export/export.c - see export.h. */
#include "agent/export/export.h"

#include "agent/encode/otlp.h"
#include "agent/export/cover.h"
#include "agent/export/metrics_body.h"
#include "agent/export/pipe.h"
#include "agent/log.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define DESTINATION "otlp"

static const char *const grpc_methods[OTLP_SIGNALS] = {
	[OTLP_TRACES] = "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
	[OTLP_METRICS] = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
	[OTLP_LOGS] = "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
};

struct export
{
	const struct otlp_config *config;
	struct transport *transports[OTLP_SIGNALS];
	struct pipe *pipes[OTLP_SIGNALS];
	struct metrics_body *metrics;
	struct export_source sources[EXPORT_SOURCES_MAX];
	uint32_t n_sources;
	struct event *interval;
	struct spool *spool;
	struct cover cover;
	struct event *cover_tick;
	bool closed;
};

/* ---- clocks and chance ----------------------------------------------------------------------- */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t mono_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t unix_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

static uint32_t chance(void)
{
	uint32_t bits = (uint32_t)mono_ns();

	(void)getrandom(&bits, sizeof(bits), GRND_NONBLOCK); /* early at boot: the clock will do */
	return bits;
}

/* ---- metrics --------------------------------------------------------------------------------- */

static void send_metrics(struct export *e)
{
	for (uint32_t i = 0; i < e->n_sources; i++) {
		const struct export_source *s = &e->sources[i];
		struct batch_resource *resource = s->resource(s->arg);

		if (resource)
			metrics_body_send(e->metrics, s->collect(s->arg), resource, i, unix_ns(),
					  e->pipes[OTLP_METRICS]);
	}
}

static void on_interval(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	send_metrics(arg);
}

static int start_metrics(struct event_base *base, struct export *e)
{
	const uint32_t ms = e->config->metric_interval_ms;
	const struct timeval every = {.tv_sec = ms / 1000,
				      .tv_usec = (suseconds_t)(ms % 1000) * 1000};
	const struct metrics_body_options options = {
		.temporality = e->config->temporality,
		.exponential = e->config->exponential_histograms,
		.json = e->config->signals[OTLP_METRICS].protocol == TRANSPORT_HTTP_JSON,
		.spool = e->spool,
		.key = "baseline " DESTINATION,
	};
	int r = metrics_body_new(&options, &e->metrics);

	if (r < 0)
		return r;
	e->interval = event_new(base, -1, EV_PERSIST, on_interval, e);
	return e->interval && event_add(e->interval, &every) == 0 ? 0 : -ENOMEM;
}

/* ---- the spool's room -------------------------------------------------------------------------- */

static void on_cover_tick(evutil_socket_t fd, short what, void *arg)
{
	struct export *e = arg;
	struct spool_status s;

	(void)fd;
	(void)what;
	spool_tick(e->spool);
	spool_status(e->spool, &s);
	if (s.open)
		cover_note(&e->cover, mono_ns(), s.used_bytes);
}

static int start_cover(struct event_base *base, struct export *e)
{
	const struct timeval every = {.tv_sec = COVER_EVERY_S};

	e->cover_tick = event_new(base, -1, EV_PERSIST, on_cover_tick, e);
	return e->cover_tick && event_add(e->cover_tick, &every) == 0 ? 0 : -ENOMEM;
}

/* ---- pipes ----------------------------------------------------------------------------------- */

static int send_through(void *transport, const struct transport_request *request,
			transport_done done, void *arg)
{
	return transport_send(transport, request, done, arg);
}

static int add_transport(struct event_base *base, struct export *e, enum otlp_signal signal,
			 const struct export_options *o, char reason[VERDICT_MESSAGE_MAX])
{
	const struct otlp_endpoint *to = &o->config->signals[signal];
	const struct transport_options options = {
		.protocol = to->protocol,
		.url = to->url,
		.grpc_method = to->protocol == TRANSPORT_GRPC ? grpc_methods[signal] : NULL,
		.headers = to->headers,
		.n_headers = to->n_headers,
		.gzip = to->gzip,
		.tls = o->tls[signal],
		.user_agent = o->user_agent,
		.concurrency = PIPE_FRESH_MAX + 1,
		.partial = otlp_partial,
	};

	return transport_new(base, &options, &e->transports[signal], reason);
}

static int add_pipe(struct event_base *base, struct export *e, enum otlp_signal signal)
{
	const struct pipe_options options = {
		.destination = DESTINATION,
		.signal = otlp_signal_names[signal],
		.encode = otlp_encode_batch,
		.json = e->config->signals[signal].protocol == TRANSPORT_HTTP_JSON,
		.timeout_ms = e->config->signals[signal].timeout_ms,
		.queue_items_max = e->config->batch[signal].queue_items_max,
		.batch_items_max = e->config->batch[signal].batch_items_max,
		.spool = e->spool,
		.send = send_through,
		.transport = e->transports[signal],
		.mono_ns = mono_ns,
		.unix_ns = unix_ns,
		.chance = chance,
	};

	return pipe_new(base, &options, &e->pipes[signal]);
}

static int start(struct event_base *base, struct export *e, const struct export_options *o,
		 char reason[VERDICT_MESSAGE_MAX])
{
	int r = 0;

	for (int i = 0; r == 0 && i < OTLP_SIGNALS; i++) {
		enum otlp_signal signal = (enum otlp_signal)i;

		if (o->config->disabled || !o->config->signals[i].on)
			continue;
		r = add_transport(base, e, signal, o, reason);
		if (r == 0)
			r = add_pipe(base, e, signal);
	}
	if (r == 0 && e->pipes[OTLP_METRICS])
		r = start_metrics(base, e);
	if (r == 0 && e->spool)
		r = start_cover(base, e);
	return r;
}

int export_new(struct event_base *base, const struct export_options *options,
	       struct export **ret_export, char reason[VERDICT_MESSAGE_MAX])
{
	struct export *e = calloc(1, sizeof(*e));
	int r;

	reason[0] = '\0';
	if (!e)
		return -ENOMEM;
	e->config = options->config;
	e->spool = options->spool;
	r = start(base, e, options, reason);
	if (r < 0) {
		if (!reason[0])
			snprintf(reason, VERDICT_MESSAGE_MAX, "%s", strerror(-r));
		export_close(e);
		export_free(e);
		return r;
	}
	*ret_export = e;
	return 0;
}

/* ---- offers ---------------------------------------------------------------------------------- */

bool export_wants(const struct export *e, enum otlp_signal signal)
{
	return e && e->pipes[signal];
}

void export_batch(struct export *e, struct batch *b)
{
	struct pipe *p = e->pipes[b->signal == BATCH_TRACES ? OTLP_TRACES : OTLP_LOGS];

	if (p)
		pipe_offer(p, b);
	else
		batch_release(b);
}

int export_add_source(struct export *e, const struct export_source *source)
{
	if (e->n_sources == EXPORT_SOURCES_MAX)
		return -ENOSPC;
	e->sources[e->n_sources++] = *source;
	return 0;
}

/* ---- the end --------------------------------------------------------------------------------- */

void export_stop(struct export *e)
{
	if (e->interval) {
		event_del(e->interval);
		send_metrics(e);
	}
	for (int i = 0; i < OTLP_SIGNALS; i++)
		if (e->pipes[i])
			pipe_stop(e->pipes[i]);
}

bool export_is_idle(const struct export *e)
{
	for (int i = 0; i < OTLP_SIGNALS; i++)
		if (e->pipes[i] && !pipe_is_idle(e->pipes[i]))
			return false;
	return true;
}

void export_close(struct export *e)
{
	if (!e || e->closed)
		return;
	e->closed = true;
	if (e->interval)
		event_free(e->interval);
	if (e->cover_tick)
		event_free(e->cover_tick);
	for (int i = 0; i < OTLP_SIGNALS; i++)
		if (e->pipes[i])
			pipe_close(e->pipes[i]);
	for (int i = 0; i < OTLP_SIGNALS; i++)
		e->transports[i] = transport_free(e->transports[i]);
}

struct export *export_free(struct export *e)
{
	if (!e)
		return NULL;
	for (int i = 0; i < OTLP_SIGNALS; i++)
		pipe_free(e->pipes[i]);
	metrics_body_free(e->metrics);
	free(e);
	return NULL;
}

void export_figures(const struct export *e, struct figures *ret_figures)
{
	struct spool_status s = {0};

	*ret_figures = (struct figures){.spool_path = "", .spool_cover_s = -1};
	for (int i = 0; i < OTLP_SIGNALS; i++)
		if (e->pipes[i]) {
			struct figures_pipe *p = &ret_figures->pipes[ret_figures->n++];

			pipe_figures(e->pipes[i], p);
			p->address = e->config->signals[i].shown_url;
		}
	if (!e->spool)
		return;
	spool_status(e->spool, &s);
	ret_figures->spool_used = true;
	ret_figures->spool_degraded = s.degraded;
	ret_figures->spool_cover_s = cover_seconds(&e->cover, s.room_bytes);
	snprintf(ret_figures->spool_problem, sizeof(ret_figures->spool_problem), "%s", s.problem);
}
