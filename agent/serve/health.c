/* agent/serve/health.c - /live, /ready and /health: three questions that must not be mixed up.
 * Is the agent's loop turning; is the agent able to serve; is the node well. Includes: serve.h,
 * model/, jansson. Thread rule: the loop thread. */
#include "agent/model/figures.h"
#include "agent/serve/serve.h"
#include "agent/serve/status.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void serve_live(const struct serve_source *source, const struct serve_request *request,
		struct serve_response *response)
{
	struct serve_status s;
	bool stuck;

	(void)request;
	source->status(source->arg, &s);
	stuck = s.loop_still_ns > s.loop_limit_ns;
	serve_json(response, stuck ? 503 : 200,
		   json_pack("{s:s, s:f}", "status", stuck ? "stuck" : "live", "loop_still_seconds",
			     (double)s.loop_still_ns * 1e-9));
}

void serve_ready(const struct serve_source *source, const struct serve_request *request,
		 struct serve_response *response)
{
	struct serve_status s;
	const char *word;

	(void)request;
	source->status(source->arg, &s);
	word = s.stopping ? "stopping" : s.starting ? "starting" : "ready";
	serve_json(response, s.stopping || s.starting ? 503 : 200,
		   json_pack("{s:s, s:o, s:o, s:o}", "status", word, "listen",
			     serve_json_text(s.listen_address), "configuration",
			     s.config_problem[0] ? serve_json_text(s.config_problem)
						 : json_string("valid"),
			     "file", serve_json_text(s.file_state)));
}

/* Is the word one of ?include=a,b ? */
static bool includes(const struct serve_request *request, const char *word)
{
	char list[64];
	char *rest = list, *one;

	if (!request->query || serve_query(request->query, "include", list, sizeof(list)) < 0)
		return false;
	while ((one = strsep(&rest, ",")))
		if (strcmp(one, word) == 0)
			return true;
	return false;
}

static void add_line(json_t *degraded, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void add_line(json_t *degraded, const char *format, ...)
{
	char line[600];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	json_array_append_new(degraded, serve_json_text(line));
}

static void add_exports(json_t *degraded, const struct figures *f)
{
	if (f->problem[0])
		add_line(degraded, "exporter: %s", f->problem);
	for (uint32_t i = 0; i < f->n; i++)
		if (f->pipes[i].failing)
			add_line(degraded, "exporter %s fails for %s: %s", f->pipes[i].exporter,
				 f->pipes[i].signal, f->pipes[i].problem);
	if (f->spool_degraded)
		add_line(degraded, "the spool cannot be written: %s", f->spool_problem);
}

/* Returns whether one is down. */
static bool add_probes(json_t *json, json_t *degraded, const struct serve_status *s)
{
	bool down = false;

	for (uint32_t i = 0; i < s->n_probes; i++) {
		const struct serve_probe *p = &s->probes[i];

		down |= !p->up;
		if (!p->up)
			add_line(degraded, "probe %s is down: %s", p->name, p->reason);
	}
	json_object_set_new(json, "probes", status_probes_json(s));
	return down;
}

/* `degraded`: what is not as it could be, but no reason to call the node ill, unless the caller says
 * ?include=probes or exporters. Returns whether the answer is to be 503 for it. */
static bool add_degraded(json_t *json, const struct serve_status *s,
			 const struct serve_request *request)
{
	json_t *degraded = json_array();
	bool counts = add_probes(json, degraded, s) && includes(request, "probes");
	size_t before = json_array_size(degraded);

	if (s->exports)
		add_exports(degraded, s->exports);
	counts |= json_array_size(degraded) > before && includes(request, "exporters");
	json_object_set_new(json, "degraded", degraded);
	return counts;
}

void serve_health(const struct serve_source *source, const struct serve_request *request,
		  struct serve_response *response)
{
	struct serve_status s;
	bool degraded;
	json_t *json;

	source->status(source->arg, &s);
	json = json_pack("{s:s, s:{s:s, s:b, s:o, s:o}, s:{s:o, s:o}, s:o}", "status",
			 s.node_up ? "healthy" : "unhealthy", "node", "state", s.node_state, "up",
			 (int)s.node_up, "since", serve_json_number((double)s.since_unix_ns * 1e-9),
			 "heartbeat_still_seconds",
			 s.known ? serve_json_number(s.heartbeat_still_s) : json_null(), "file",
			 "path", serve_json_text(s.shm_path), "state",
			 serve_json_text(s.file_state), "reason", serve_json_text(s.reason));
	if (json && s.known) {
		json_t *node = json_object_get(json, "node");
		char id[24];

		snprintf(id, sizeof(id), "%llu", (unsigned long long)s.node_id);
		json_object_set_new(node, "id", json_string(id));
		json_object_set_new(node, "incarnation", serve_json_text(s.incarnation));
		if (s.exit_code)
			json_object_set_new(node, "exit_code", serve_json_count(s.exit_code));
	}
	degraded = json && add_degraded(json, &s, request);
	serve_json(response, s.node_up && !degraded ? 200 : 503, json);
}
