/* agent/serve/serve.h - what the endpoints are made of: a source, a request, a response.
 *
 * A handler is a function (source, request) -> response. It knows neither the HTTP library nor
 * where the figures come from, so a test can call it. Includes: encode/, model/, buf.h.
 * Thread rule: the loop thread. */
#ifndef BLIX_AGENT_SERVE_SERVE_H
#define BLIX_AGENT_SERVE_SERVE_H

#include "agent/buf.h"
#include "agent/encode/encode.h"
#include "agent/model/snapshot.h"

#include <stdbool.h>
#include <stdint.h>

struct figures;
struct json_t;

/* What the server counts about itself. */
struct serve_counts {
	uint64_t requests;
	uint64_t refused;   /* answered 4xx or 5xx */
	uint64_t timed_out; /* connections ended because they were slow */
	uint64_t full;	    /* times all connections were taken and accepting paused */
	uint32_t connections;
};

enum { SERVE_PROBES_MAX = 4 };

/* A storage probe in the kernel. */
struct serve_probe {
	const char *name;   /* "block" */
	const char *hook;   /* "tracepoint"; "none" while it is down */
	const char *reason; /* why it is down; "" while it is up */
	bool up;
};

enum { SERVE_OPEN_SPANS_MAX = 20 };

/* Everything a page or a health check says. Texts are borrowed until the next turn of the loop and
 * may hold anything. */
struct serve_status {
	uint64_t now_unix_ns;

	/* the agent */
	const char *agent_version;
	uint64_t agent_uptime_s;
	uint64_t loop_still_ns; /* since the loop last noted that it turns */
	uint64_t loop_limit_ns; /* more than this is stuck */
	uint64_t log_lines_dropped;
	const char *listen_address; /* "" while unknown */
	const char *listen_problem; /* "" = none */
	const char *config_path;    /* "" = none */
	const char *config_problem; /* "" = none */
	const char *state_directory;
	const char *state_problem;
	const char *control_socket;    /* path, "" = none */
	const char *control_problem;   /* "" = none */
	const struct json_t *control;  /* array of settings in force; NULL = none */
	const struct figures *exports; /* NULL = nothing leaves the host */
	struct serve_counts http;
	struct serve_probe probes[SERVE_PROBES_MAX];
	uint32_t n_probes;
	uint32_t agent_pid;
	bool starting;
	bool stopping;
	bool listening;

	/* the node */
	bool node_up;
	bool known; /* a file was attached: what follows is meant */
	uint32_t node_pid;
	uint32_t exit_code;
	const char *node_state; /* waiting, live, hung, dead, closed */
	const char *reason;	/* what is wrong and what to do; "" = nothing */
	uint64_t since_unix_ns;
	uint64_t node_id;
	const char *cluster;
	const char *service_name;
	const char *node_version;
	const char *grpc_address;
	const char *data_dir;
	const char *incarnation;
	uint64_t start_unix_ns;
	double heartbeat_still_s;

	/* its file */
	const char *shm_path;
	const char *file_state;
	uint64_t file_bytes;
	uint64_t records_spans, records_logs, records_marks, records_unknown;
	uint64_t records_lost, records_corrupt, records_refused, records_damaged;
	uint64_t held_up; /* times reading stopped: too much was out, or no memory */
	uint64_t series_overflow, metrics_refused, incarnations;
	double ring_used_ratio;
	uint32_t lanes_owned, lanes_free, lanes_never, lanes_quarantined;
	uint32_t metrics, series;
	uint32_t orphans;
	bool draining;

	/* what it is doing: its oldest open spans, the oldest first */
	uint32_t open_total, n_open;
	struct serve_open_span {
		char name[64];
		uint8_t trace_id[16];
		uint8_t span_id[8];
		double age_s;
	} open[SERVE_OPEN_SPANS_MAX];
};

/* Lower-case hex, terminated. */
void serve_hex(const uint8_t *bytes, size_t len, char *ret_text);

struct serve_source {
	const struct snapshot *(*collect)(void *arg); /* never NULL */
	void (*status)(void *arg, struct serve_status *ret_status);
	const struct encode_options *encode; /* of a request that chooses nothing */
	void *arg;
};

/* Header values are NULL where absent. All of it is foreign. */
struct serve_request {
	const char *query; /* without '?', NULL if none */
	const char *accept;
	const char *accept_encoding;
	const char *scrape_timeout;
};

struct serve_response {
	int code;
	const char *content_type;
	char policy[256];     /* Content-Security-Policy; "" = the strictest */
	uint64_t deadline_ns; /* the reader has given up after this long; 0 = unknown */
	struct buf *body;
};

typedef void serve_handler(const struct serve_source *source, const struct serve_request *request,
			   struct serve_response *response);
serve_handler serve_metrics, serve_live, serve_ready, serve_health, serve_status_json, serve_page;

/* ---- shared by handlers ---------------------------------------------------------------------- */

/* A plain-text answer of one line. */
void serve_text(struct serve_response *response, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Answer with this JSON (consumed). NULL: no memory, 500. */
void serve_json(struct serve_response *response, int code, struct json_t *json);

/* The same, and numbers, as JSON cannot carry them all: malformed UTF-8 and NaN are replaced. */
struct json_t *serve_json_text(const char *text);
struct json_t *serve_json_number(double number);
struct json_t *serve_json_count(uint64_t count);

/* The value of `key` in a query string, decoded. 0; -ENOENT; -EINVAL malformed or longer than
 * size - 1. */
int serve_query(const char *query, const char *key, char *ret_value, size_t size);

/* Seconds of X-Prometheus-Scrape-Timeout-Seconds as ns; 0 unless it is a plain positive number. */
uint64_t serve_scrape_timeout_ns(const char *value);

#endif
