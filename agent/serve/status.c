/* agent/serve/status.c - /status.json: everything the page shows, for programs. Its "schema" is
 * raised when a key changes its meaning; new keys may appear at any time. Includes: serve.h,
 * figures.h, model/, jansson. Thread rule: the loop thread. */
#include "agent/model/figures.h"
#include "agent/serve/serve.h"
#include "agent/serve/status.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

enum { STATUS_SCHEMA = 1 };

static json_t *seconds(uint64_t ns)
{
	return serve_json_number((double)ns * 1e-9);
}

static void put_count(json_t *object, const char *key, uint64_t count)
{
	json_object_set_new(object, key, serve_json_count(count));
}

static void put_text(json_t *object, const char *key, const char *text)
{
	json_object_set_new(object, key, serve_json_text(text));
}

json_t *status_probes_json(const struct serve_status *s)
{
	json_t *probes = json_object();

	for (uint32_t i = 0; i < s->n_probes; i++) {
		const struct serve_probe *p = &s->probes[i];

		json_object_set_new(probes, p->name,
				    json_pack("{s:b, s:s, s:o}", "up", (int)p->up, "hook", p->hook,
					      "reason", serve_json_text(p->reason)));
	}
	return probes;
}

static json_t *agent_json(const struct serve_status *s)
{
	json_t *agent = json_object(), *listen = json_object(), *config = json_object();
	json_t *state = json_object(), *http = json_object();

	put_text(agent, "version", s->agent_version);
	put_count(agent, "pid", s->agent_pid);
	put_count(agent, "uptime_seconds", s->agent_uptime_s);
	put_count(agent, "log_lines_dropped", s->log_lines_dropped);
	put_text(listen, "address", s->listen_address);
	json_object_set_new(listen, "up", json_boolean(s->listening));
	put_text(listen, "problem", s->listen_problem);
	json_object_set_new(agent, "listen", listen);
	put_text(config, "path", s->config_path);
	put_text(config, "problem", s->config_problem);
	json_object_set_new(agent, "config", config);
	put_text(state, "directory", s->state_directory);
	put_text(state, "problem", s->state_problem);
	json_object_set_new(agent, "state", state);
	put_count(http, "requests", s->http.requests);
	put_count(http, "refused", s->http.refused);
	put_count(http, "timed_out", s->http.timed_out);
	put_count(http, "full", s->http.full);
	put_count(http, "connections", s->http.connections);
	json_object_set_new(agent, "http", http);
	json_object_set_new(agent, "probes", status_probes_json(s));
	return agent;
}

static json_t *control_json(const struct serve_status *s)
{
	json_t *control = json_object();

	put_text(control, "socket", s->control_socket ? s->control_socket : "");
	put_text(control, "problem", s->control_problem ? s->control_problem : "");
	json_object_set_new(control, "settings",
			    s->control ? json_deep_copy(s->control) : json_array());
	return control;
}

static json_t *node_json(const struct serve_status *s)
{
	json_t *node = json_object();
	char id[24];

	put_text(node, "state", s->node_state);
	json_object_set_new(node, "up", json_boolean(s->node_up));
	json_object_set_new(node, "since", seconds(s->since_unix_ns));
	put_text(node, "reason", s->reason);
	if (!s->known)
		return node;
	/* As text: a JSON reader may keep only 53 bits of a number. */
	snprintf(id, sizeof(id), "%" PRIu64, s->node_id);
	put_text(node, "id", id);
	put_text(node, "cluster", s->cluster);
	put_text(node, "service_name", s->service_name);
	put_text(node, "version", s->node_version);
	put_text(node, "grpc_address", s->grpc_address);
	put_text(node, "data_dir", s->data_dir);
	put_text(node, "incarnation", s->incarnation);
	put_count(node, "pid", s->node_pid);
	json_object_set_new(node, "started", seconds(s->start_unix_ns));
	json_object_set_new(node, "heartbeat_still_seconds",
			    serve_json_number(s->heartbeat_still_s));
	put_count(node, "exit_code", s->exit_code);
	return node;
}

static json_t *file_json(const struct serve_status *s)
{
	json_t *file = json_object(), *lanes = json_object(), *ring = json_object();

	put_text(file, "path", s->shm_path);
	put_text(file, "state", s->file_state);
	json_object_set_new(file, "draining", json_boolean(s->draining));
	put_count(file, "bytes", s->file_bytes);
	put_count(file, "metrics", s->metrics);
	put_count(file, "metrics_refused", s->metrics_refused);
	put_count(file, "series", s->series);
	put_count(file, "series_overflow", s->series_overflow);
	put_count(file, "incarnations", s->incarnations);
	put_count(file, "orphans", s->orphans);
	put_count(lanes, "owned", s->lanes_owned);
	put_count(lanes, "free", s->lanes_free);
	put_count(lanes, "unused", s->lanes_never);
	put_count(lanes, "quarantined", s->lanes_quarantined);
	json_object_set_new(file, "lanes", lanes);
	json_object_set_new(ring, "used_ratio", serve_json_number(s->ring_used_ratio));
	put_count(ring, "spans", s->records_spans);
	put_count(ring, "logs", s->records_logs);
	put_count(ring, "marks", s->records_marks);
	put_count(ring, "unknown", s->records_unknown);
	put_count(ring, "lost", s->records_lost);
	put_count(ring, "corrupt", s->records_corrupt);
	put_count(ring, "refused", s->records_refused);
	put_count(ring, "damaged", s->records_damaged);
	put_count(ring, "held_up", s->held_up);
	json_object_set_new(file, "ring", ring);
	return file;
}

void serve_hex(const uint8_t *bytes, size_t len, char *ret_text)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		*ret_text++ = hex[bytes[i] >> 4];
		*ret_text++ = hex[bytes[i] & 15];
	}
	*ret_text = '\0';
}

/* No attributes: what a node says of its users stays off the page. */
static json_t *open_spans_json(const struct serve_status *s)
{
	json_t *all = json_object(), *oldest = json_array();

	for (uint32_t i = 0; i < s->n_open; i++) {
		const struct serve_open_span *span = &s->open[i];
		json_t *one = json_object();
		char hex[33];

		put_text(one, "name", span->name);
		json_object_set_new(one, "age_seconds", serve_json_number(span->age_s));
		serve_hex(span->trace_id, sizeof(span->trace_id), hex);
		put_text(one, "trace_id", hex);
		serve_hex(span->span_id, sizeof(span->span_id), hex);
		put_text(one, "span_id", hex);
		json_array_append_new(oldest, one);
	}
	put_count(all, "total", s->open_total);
	json_object_set_new(all, "oldest", oldest);
	return all;
}

static json_t *latency_json(const struct figure *f)
{
	json_t *bounds = json_array(), *buckets = json_array();

	for (uint32_t i = 0; i < f->bounds->n; i++)
		json_array_append_new(bounds, serve_json_number(f->bounds->value[i]));
	for (uint32_t i = 0; i <= f->bounds->n; i++)
		json_array_append_new(buckets, serve_json_count(f->buckets[i]));
	return json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "count", serve_json_number(f->value), "sum",
		serve_json_number(f->sum), "p50", serve_json_number(figure_quantile(f, 0.5)), "p90",
		serve_json_number(figure_quantile(f, 0.9)), "p99",
		serve_json_number(figure_quantile(f, 0.99)), "bounds", bounds, "buckets", buckets);
}

static json_t *figures_json(const struct figure figures[FIGURES])
{
	json_t *json = json_object();

	for (uint32_t i = 0; i < FIGURES; i++) {
		const struct figure *f = &figures[i];

		if (f->present)
			json_object_set_new(json, figure_specs[i].id,
					    figure_specs[i].kind == FIGURE_LATENCY
						    ? latency_json(f)
						    : serve_json_number(f->value));
	}
	return json;
}

static json_t *pipe_json(const struct figures_pipe *p)
{
	json_t *pipe = json_object(), *dropped = json_object(), *failures = json_object();

	put_text(pipe, "destination", p->exporter);
	put_text(pipe, "address", p->address ? p->address : "");
	put_text(pipe, "signal", p->signal);
	put_count(pipe, "offered", p->offered);
	put_count(pipe, "sent", p->sent);
	put_count(pipe, "rejected", p->rejected);
	for (int i = 0; i < FIGURES_DROPS; i++)
		put_count(dropped, figures_drop_names[i], p->dropped[i]);
	json_object_set_new(pipe, "dropped", dropped);
	put_count(pipe, "waiting", p->waiting);
	put_count(pipe, "capacity", p->capacity);
	put_count(pipe, "spooled", p->spool_items);
	put_count(pipe, "spooled_bytes", p->spool_bytes);
	json_object_set_new(pipe, "spooled_since",
			    p->spool_oldest_unix_ns ? seconds(p->spool_oldest_unix_ns)
						    : json_null());
	put_count(pipe, "requests", p->requests);
	for (int i = 0; i < FIGURES_FAILURES; i++)
		put_count(failures, figures_failure_names[i], p->failures[i]);
	json_object_set_new(pipe, "failures", failures);
	put_count(pipe, "retries", p->retries);
	json_object_set_new(pipe, "last_success",
			    p->last_success_unix_ns ? seconds(p->last_success_unix_ns)
						    : json_null());
	json_object_set_new(pipe, "failing", json_boolean(p->failing));
	put_text(pipe, "problem", p->problem);
	return pipe;
}

/* What leaves the host. An empty list of pipes: nothing does. */
static json_t *exports_json(const struct serve_status *s)
{
	json_t *exports = json_object(), *pipes = json_array(), *spool = NULL;
	const struct figures *f = s->exports;

	for (uint32_t i = 0; f && i < f->n; i++)
		json_array_append_new(pipes, pipe_json(&f->pipes[i]));
	json_object_set_new(exports, "pipes", pipes);
	put_text(exports, "problem", f ? f->problem : "");
	if (f && f->spool_used) {
		spool = json_object();
		put_text(spool, "path", f->spool_path);
		json_object_set_new(spool, "degraded", json_boolean(f->spool_degraded));
		put_text(spool, "problem", f->spool_problem);
		json_object_set_new(spool, "cover_seconds",
				    f->spool_cover_s < 0 ? json_null()
							 : serve_json_number(f->spool_cover_s));
	}
	json_object_set_new(exports, "spool", spool ? spool : json_null());
	return exports;
}

json_t *status_json(const struct serve_status *s, const struct figure figures[FIGURES])
{
	return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "schema", STATUS_SCHEMA,
			 "time", seconds(s->now_unix_ns), "node", node_json(s), "figures",
			 figures_json(figures), "file", file_json(s), "open_spans",
			 open_spans_json(s), "control", control_json(s), "exports", exports_json(s),
			 "agent", agent_json(s));
}

void serve_status_json(const struct serve_source *source, const struct serve_request *request,
		       struct serve_response *response)
{
	struct figure figures[FIGURES];
	struct serve_status s;

	(void)request;
	/* In this order: the snapshot may change with the next question. */
	figures_read(source->collect(source->arg), figures);
	source->status(source->arg, &s);
	serve_json(response, 200, status_json(&s, figures));
}
