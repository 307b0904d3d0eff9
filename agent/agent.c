/* agent/agent.c - see agent.h. */
#include "agent/agent.h"
#include "agent/control_command.h"
#include "agent/disk.h"
#include "agent/input/storage.h"
#include "agent/input/target.h"
#include "agent/input/wake.h"
#include "agent/log.h"
#include "agent/pipeline.h"
#include "agent/process/redact.h"
#include "agent/run_control.h"
#include "agent/serve/control_socket.h"
#include "agent/serve/http.h"
#include "agent/serve/listen.h"
#include "agent/state.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* One --shm file with its input and its server. */
struct node {
	struct agent *agent;
	const struct options_target *options;
	struct target *target;
	struct http *http;
	struct listener *listener;
	struct control_socket *orders; /* NULL: there is no place for one */
	struct serve_source source;
	struct address derived; /* from the node's gRPC address, or kept from the last time */
	bool has_derived;
	bool kept; /* `derived` is in the state file */
	bool started;
	bool elsewhere_said;
};

struct agent {
	struct event_base *base;
	struct disk *disk;
	struct wake *wake;	   /* NULL: this kernel has none */
	struct redact *redact;	   /* never NULL while nodes are followed */
	struct pipeline *pipeline; /* the same */
	struct storage *storage;   /* before any other thread: they inherit fewer rights */
	const struct options *flags;
	struct options options;
	struct encode_options encode;
	struct state state;
	struct node nodes[OPTIONS_TARGETS_MAX];
	uint32_t n_nodes;
	struct event *signals[3];
	struct event *turn;
	struct event *drain;
	struct run_control control;
	struct event *control_due;
	char run_directory[OPTIONS_PATH_MAX]; /* "" = none */
	json_t *settings;		      /* of `control`, as the pages last showed them */
	uint64_t turned_ns;
	uint64_t start_ns;
	bool stopping;
	bool reloading;
	bool reload_again; /* SIGHUP came meanwhile: what was read may be old */
	char config_problem[OPTIONS_ERROR_MAX];
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- what the servers ask -------------------------------------------------------------------- */

static void set_facts(struct node *n)
{
	struct agent_facts facts = {
		.version = BLIX_VERSION,
		.listen_up = listener_is_up(n->listener),
		.log_lines_dropped = log_dropped(),
		.figures = n->agent->pipeline ? pipeline_figures(n->agent->pipeline) : NULL,
	};

	facts.sampling_set = run_control_ratio(&n->agent->control, &facts.sampling_ratio);
	target_set_agent_facts(n->target, &facts);
}

static const struct snapshot *collect(void *arg)
{
	struct node *n = arg;

	set_facts(n);
	return target_collect(n->target);
}

static void status_of_agent(const struct node *n, struct serve_status *s)
{
	const struct agent *a = n->agent;
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	s->now_unix_ns = clock_ns(CLOCK_REALTIME);
	s->agent_version = BLIX_VERSION;
	s->agent_pid = (uint32_t)getpid();
	s->agent_uptime_s = (now - a->start_ns) / 1000000000u;
	s->starting = !n->started;
	s->stopping = a->stopping;
	s->loop_still_ns = now - a->turned_ns;
	s->loop_limit_ns = AGENT_STUCK_S * UINT64_C(1000000000);
	s->log_lines_dropped = log_dropped();
	s->listen_address = listener_address(n->listener);
	s->listening = listener_is_up(n->listener);
	s->listen_problem = listener_problem(n->listener);
	s->config_path = a->options.config;
	s->config_problem = a->config_problem;
	s->state_directory = a->state.path;
	s->state_problem = a->state.problem;
	s->exports = a->pipeline ? pipeline_figures(a->pipeline) : NULL;
	for (int kind = 0; kind < PROBE_KINDS; kind++) {
		const struct storage_probe_status probe =
			storage_status(a->storage, (enum probe_kind)kind);

		s->probes[s->n_probes++] = (struct serve_probe){
			.name = probe_kind_name((enum probe_kind)kind),
			.hook = probe.hook,
			.reason = probe.reason,
			.up = probe.up,
		};
	}
	http_counts(n->http, &s->http);
	s->control_socket = n->orders ? control_socket_path(n->orders) : "";
	s->control_problem = n->orders ? control_socket_problem(n->orders) : "";
}

static void status_of_file(const struct target_status *t, struct serve_status *s)
{
	s->shm_path = t->shm_path;
	s->file_state = target_file_name(t->file);
	s->draining = t->draining;
	s->file_bytes = t->file_bytes;
	s->lanes_owned = t->lanes_owned;
	s->lanes_free = t->lanes_free;
	s->lanes_never = t->lanes_never;
	s->lanes_quarantined = t->lanes_quarantined;
	s->metrics = t->metrics;
	s->series = t->series;
	s->ring_used_ratio = t->ring_used_ratio;
	s->records_spans = t->records_spans;
	s->records_logs = t->records_logs;
	s->records_marks = t->records_marks;
	s->records_unknown = t->records_unknown;
	s->metrics_refused = t->metrics_refused;
	s->records_lost = t->records_lost;
	s->records_corrupt = t->records_corrupt;
	s->records_refused = t->records_refused;
	s->records_damaged = t->records_damaged;
	s->held_up = t->held_up;
	s->series_overflow = t->series_overflow;
	s->incarnations = t->incarnations;
	s->orphans = t->orphans;
}

static void status_of_spans(struct node *n, struct serve_status *s)
{
	_Static_assert((int)SERVE_OPEN_SPANS_MAX == (int)TARGET_OPEN_SPANS_MAX,
		       "all that are told");
	_Static_assert(sizeof(((struct serve_open_span *)0)->name) == TARGET_SPAN_NAME_BYTES,
		       "names");
	struct target_open_span spans[TARGET_OPEN_SPANS_MAX];

	s->n_open = target_open_spans(n->target, spans, TARGET_OPEN_SPANS_MAX, &s->open_total);
	for (uint32_t i = 0; i < s->n_open; i++) {
		struct serve_open_span *to = &s->open[i];

		memcpy(to->name, spans[i].name, sizeof(to->name));
		memcpy(to->trace_id, spans[i].trace_id, sizeof(to->trace_id));
		memcpy(to->span_id, spans[i].span_id, sizeof(to->span_id));
		to->age_s = spans[i].age_s;
	}
}

static void status_of_node(const struct target_status *t, struct serve_status *s)
{
	s->node_state = target_node_name(t->node);
	s->node_up = t->node_up;
	s->reason = t->reason;
	s->since_unix_ns = t->since_unix_ns;
	s->known = t->known;
	s->node_id = t->node_id;
	s->cluster = t->cluster;
	s->service_name = t->service_name;
	s->node_version = t->version;
	s->grpc_address = t->grpc_address;
	s->data_dir = t->data_dir;
	s->incarnation = t->incarnation;
	s->node_pid = t->pid;
	s->start_unix_ns = t->start_unix_ns;
	s->heartbeat_still_s = t->heartbeat_still_s;
	s->exit_code = t->exit_code;
}

static void status(void *arg, struct serve_status *ret_status)
{
	struct node *n = arg;
	struct target_status t;

	memset(ret_status, 0, sizeof(*ret_status));
	target_status(n->target, &t);
	status_of_node(&t, ret_status);
	status_of_file(&t, ret_status);
	status_of_spans(n, ret_status);
	status_of_agent(n, ret_status);
	json_decref(n->agent->settings);
	n->agent->settings = control_settings_json(&n->agent->control, clock_ns(CLOCK_MONOTONIC));
	ret_status->control = n->agent->settings;
}

/* ---- run-time control ------------------------------------------------------------------------ */

static void write_control(struct node *n, uint64_t now_ns)
{
	struct blix_control_setting setting;
	int err;

	run_control_merge(&n->agent->control, now_ns, &setting);
	err = target_control(n->target, &setting);
	if (err == -EINVAL)
		log_repeated(LOG_LEVEL_ERROR, "control_refused", "control",
			     "%s: run-time control was refused", n->options->shm);
}

/* The settings changed, one has ended, or those without end are to be written again. */
static void control_now(struct agent *a)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC), due;
	struct timeval after;

	if (run_control_expire(&a->control, now))
		log_line(LOG_LEVEL_INFO, "control_ended", "run-time control: a setting has ended");
	for (uint32_t i = 0; i < a->n_nodes; i++)
		write_control(&a->nodes[i], now);
	due = run_control_due_ns(&a->control, now);
	evtimer_del(a->control_due);
	if (due == UINT64_MAX)
		return;
	due = due > now ? (due - now) / 1000 + 1 : 1;
	after = (struct timeval){.tv_sec = (time_t)(due / 1000000),
				 .tv_usec = (suseconds_t)(due % 1000000)};
	evtimer_add(a->control_due, &after);
}

static void on_control_due(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	control_now(arg);
}

static void on_drain_began(void *arg, struct target *t)
{
	struct node *n = arg;

	(void)t;
	if (n->target) /* else it is not known yet, and gets its settings when all have started */
		write_control(n, clock_ns(CLOCK_MONOTONIC));
}

static void add_files(struct agent *a, json_t *answer)
{
	json_t *files = json_array();

	for (uint32_t i = 0; i < a->n_nodes; i++) {
		struct target_status t;

		target_status(a->nodes[i].target, &t);
		json_array_append_new(files,
				      json_pack("{s:o, s:s, s:s, s:b}", "path",
						serve_json_text(t.shm_path), "node",
						target_node_name(t.node), "file",
						target_file_name(t.file), "draining", t.draining));
	}
	json_object_set_new(answer, "files", files);
	json_object_set_new(answer, "agent_version", json_string(BLIX_VERSION));
	json_object_set_new(answer, "agent_pid", json_integer(getpid()));
}

static int add_text(const char *text, size_t len, void *arg)
{
	buf_add(arg, text, len);
	return ((struct buf *)arg)->failed ? -1 : 0;
}

static void on_order(void *arg, const struct control_peer *peer, const char *line, size_t len,
		     struct buf *reply)
{
	struct agent *a = arg;
	char said[CONTROL_SAID_MAX];
	bool changed = false;
	json_t *answer =
		control_command(&a->control, line, len, clock_ns(CLOCK_MONOTONIC), &changed, said);

	if (changed) {
		log_line(LOG_LEVEL_INFO, "control_changed",
			 "run-time control: %s, by process %d of user %u", said, (int)peer->pid,
			 (unsigned int)peer->uid);
		control_now(a);
	}
	add_files(a, answer);
	json_dump_callback(answer, add_text, reply, JSON_COMPACT);
	json_decref(answer);
}

static void take_orders(struct agent *a, struct node *n)
{
	const char *slash = strrchr(n->options->shm, '/');
	const struct control_socket_options options = {
		.directory = a->run_directory,
		.name = slash ? slash + 1 : n->options->shm,
		.answer = on_order,
		.arg = a,
	};

	if (a->run_directory[0] && control_socket_open(a->base, &options, &n->orders) < 0)
		log_line(LOG_LEVEL_WARNING, "control_unreachable",
			 "%s: no control socket: the path of %s/%s.sock is too long",
			 n->options->shm, a->run_directory, options.name);
}

/* ---- where to listen ------------------------------------------------------------------------- */

/* Keep the addresses that are in use and were not given by --listen. */
static void keep_addresses(struct agent *a)
{
	struct options_target *targets = calloc(a->n_nodes, sizeof(*targets));

	if (!targets)
		return;
	for (uint32_t i = 0; i < a->n_nodes; i++) {
		targets[i] = *a->nodes[i].options;
		targets[i].listens = a->nodes[i].has_derived;
		targets[i].listen = a->nodes[i].derived;
	}
	if (state_listen_write(&a->state, a->disk, targets, a->n_nodes) == 0)
		for (uint32_t i = 0; i < a->n_nodes; i++)
			a->nodes[i].kept = a->nodes[i].has_derived;
	free(targets);
}

static void on_listener_changed(void *arg)
{
	struct node *n = arg;

	set_facts(n);
	if (!listener_is_up(n->listener))
		return;
	n->started = true;
	if (!n->options->listens && n->has_derived && !n->kept)
		keep_addresses(n->agent);
}

/* Somebody meant this node to send, and said so where it has no effect. */
static void say_elsewhere(struct node *n)
{
	struct target_status t;

	target_status(n->target, &t);
	if (!t.endpoint_in_node_env || n->elsewhere_said || pipeline_exports(n->agent->pipeline))
		return;
	n->elsewhere_said = true;
	log_line(LOG_LEVEL_WARNING, "export_elsewhere",
		 "%s: the node's environment names an OTLP endpoint, but it is the agent that "
		 "sends: "
		 "set OTEL_EXPORTER_OTLP_ENDPOINT in the agent's environment",
		 n->options->shm);
}

static void on_address_known(void *arg, struct target *t, const char *grpc_address)
{
	struct node *n = arg;
	char reason[ADDRESS_REASON_MAX], problem[LISTEN_PROBLEM_MAX];
	struct address a;

	(void)t;
	say_elsewhere(n);
	if (n->options->listens)
		return;
	if (!grpc_address[0]) {
		if (!n->has_derived)
			listener_set_problem(n->listener,
					     "the node's file names no gRPC address to "
					     "derive ours from: say where to listen with "
					     "--listen ADDR:PORT");
		return;
	}
	if (address_beside(grpc_address, &a, reason) < 0) {
		snprintf(problem, sizeof(problem), "cannot listen beside the node: %s", reason);
		listener_set_problem(n->listener, problem);
		return;
	}
	n->kept = n->kept && address_equal(&n->derived, &a);
	n->derived = a;
	n->has_derived = true;
	listener_set(n->listener, &a);
}

static void listen_first(struct node *n)
{
	if (n->options->listens) {
		listener_set(n->listener, &n->options->listen);
		return;
	}
	if (state_listen_read(&n->agent->state, n->options->shm, &n->derived) == 0) {
		n->has_derived = n->kept = true;
		listener_set(n->listener, &n->derived);
		return;
	}
	log_line(LOG_LEVEL_INFO, "listen_unknown",
		 "%s: where to listen follows from the node's gRPC address once its file is there; "
		 "--listen ADDR:PORT says it now",
		 n->options->shm);
}

/* ---- targets --------------------------------------------------------------------------------- */

static void on_target_log(void *arg, struct target *t, enum target_log kind, const char *key,
			  const char *line)
{
	struct node *n = arg;
	char whole_key[LOG_KEY_MAX];

	(void)t;
	if (kind == TARGET_LOG_STATE) {
		log_line(LOG_LEVEL_INFO, key, "%s", line);
		return;
	}
	snprintf(whole_key, sizeof(whole_key), "%.64s %.90s", key, n->options->shm);
	log_repeated(LOG_LEVEL_WARNING, key, whole_key, "%s", line);
}

static void on_batch(void *arg, struct target *t, struct batch *b)
{
	struct node *n = arg;

	(void)t;
	pipeline_batch(n->agent->pipeline, b);
}

/* Where another agent drains the file, that one sends its metrics too. */
static struct batch_resource *resource(void *arg)
{
	struct node *n = arg;
	struct target_status t;

	target_status(n->target, &t);
	return t.draining ? target_resource(n->target) : NULL;
}

static int node_start(struct agent *a, struct node *n, const struct options_target *options)
{
	const struct target_options target_options = {
		.shm_path = options->shm,
		.check_owner = true,
		.owner = a->options.owner,
		.stale_after_s = a->options.stale_after_s,
		.linger_s = a->options.linger_s,
		.native_histograms = a->options.native_histograms,
		.disk = a->disk,
		.wake = a->wake,
		.redact = a->redact,
		.wants_traces = pipeline_wants(a->pipeline, OTLP_TRACES),
		.wants_logs = pipeline_wants(a->pipeline, OTLP_LOGS),
		.spans_delay_ms = pipeline_delay_ms(a->pipeline, OTLP_TRACES),
		.logs_delay_ms = pipeline_delay_ms(a->pipeline, OTLP_LOGS),
		.storage = a->storage,
	};
	const struct target_events events = {
		.address_known = on_address_known,
		.drain_began = on_drain_began,
		.batch = on_batch,
		.log = on_target_log,
		.arg = n,
	};
	const struct listener_options listener_options = {
		.disk = a->disk,
		.name = options->shm,
		.changed = on_listener_changed,
		.arg = n,
	};
	struct listener_options with_http = listener_options;
	int err;

	n->agent = a;
	n->options = options;
	n->source = (struct serve_source){
		.collect = collect, .status = status, .encode = &a->encode, .arg = n};
	err = target_new(a->base, &target_options, &events, &n->target);
	if (!err)
		err = http_new(a->base, &n->source, &n->http);
	with_http.http = n->http;
	if (!err)
		err = listener_new(a->base, &with_http, &n->listener);
	if (err) {
		log_line(LOG_LEVEL_ERROR, "file_unfollowed", "%s: cannot follow this file: %s",
			 options->shm, strerror(-err));
		return err;
	}
	listen_first(n);
	take_orders(a, n);
	return pipeline_add_source(a->pipeline, &(struct export_source){collect, resource, n});
}

static void node_stop(struct node *n)
{
	n->orders = control_socket_close(n->orders);
	n->listener = listener_free(n->listener);
	n->http = http_free(n->http);
	n->target = target_free(n->target);
}

/* ---- configuration --------------------------------------------------------------------------- */

static void apply_control(struct agent *a)
{
	const struct options_sampling *s = &a->options.sampling;
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	(void)run_control_clear(&a->control, RUN_CONTROL_CONFIG);
	/* All of it is in range: options.c has checked it. */
	if (s->has_ratio)
		(void)run_control_sample(&a->control, RUN_CONTROL_CONFIG, NULL, s->ratio, 0, now);
	for (uint32_t i = 0; i < s->n_rules; i++)
		(void)run_control_sample(&a->control, RUN_CONTROL_CONFIG, s->rules[i].name,
					 s->rules[i].ratio, s->rules[i].for_s, now);
	if (a->options.node_log_min)
		(void)run_control_log(&a->control, RUN_CONTROL_CONFIG, a->options.node_log_min, 0,
				      now);
}

static void apply(struct agent *a)
{
	a->encode = (struct encode_options){
		.names = a->options.names,
		.native_histograms = a->options.native_histograms,
		.created_lines = a->options.created_lines,
	};
	log_set_format(a->options.log_format);
	log_set_level(a->options.log_level);
	apply_control(a);
}

struct reload {
	struct agent *agent;
	int err;
	struct options fresh;
	char error[OPTIONS_ERROR_MAX];
};

/* Reading may wait for a disk, and the name of an owner for a directory service. */
static void reload_work(void *arg)
{
	struct reload *r = arg;
	char *text = NULL;
	size_t len = 0;

	r->err = options_read_file(r->fresh.config, &text, &len, r->error);
	if (!r->err)
		r->err = options_config(&r->fresh, r->fresh.config, text, len, r->error);
	if (!r->err)
		r->err = options_complete(&r->fresh, r->error);
	free(text);
}

/* Take over what may change while running; the rest keeps its value of the start. */
static void reload_apply(struct agent *a, const struct options *fresh)
{
	char later[512];

	options_need_restart(&a->options, fresh, later, sizeof(later));
	a->options.names = fresh->names;
	a->options.created_lines = fresh->created_lines;
	a->options.log_format = fresh->log_format;
	a->options.log_level = fresh->log_level;
	a->options.node_log_min = fresh->node_log_min;
	a->options.sampling = fresh->sampling;
	apply(a);
	control_now(a);
	a->config_problem[0] = '\0';
	if (later[0])
		snprintf(a->config_problem, sizeof(a->config_problem),
			 "%s changed in %.1000s and take effect at the next start of the agent",
			 later, a->options.config);
	log_line(LOG_LEVEL_INFO, "config_reloaded", "configuration read again%s%s",
		 later[0] ? ": " : "", a->config_problem);
}

static void reload(struct agent *a);

static void reload_done(void *arg)
{
	struct reload *r = arg;
	struct agent *a = r->agent;

	a->reloading = false;
	if (!r->err) {
		reload_apply(a, &r->fresh);
	} else if (r->err != -ECANCELED) {
		snprintf(a->config_problem, sizeof(a->config_problem), "%s", r->error);
		log_line(LOG_LEVEL_ERROR, "config_refused", "%s; the configuration stays as it was",
			 r->error);
	}
	free(r);
	if (a->reload_again && !a->stopping)
		reload(a);
}

static void reload(struct agent *a)
{
	struct reload *r;

	if (!a->options.config[0]) {
		log_line(LOG_LEVEL_INFO, "config_absent",
			 "SIGHUP: there is no --config to read again");
		return;
	}
	a->reload_again = a->reloading;
	if (a->reloading)
		return;
	r = calloc(1, sizeof(*r));
	if (!r)
		return;
	r->agent = a;
	r->err = -ECANCELED; /* until it has run */
	r->fresh = *a->flags;
	a->reloading = disk_submit(a->disk, reload_work, reload_done, r) == 0;
	if (!a->reloading) {
		log_line(LOG_LEVEL_WARNING, "disk_busy",
			 "SIGHUP: the disk thread is busy; send it again later");
		free(r);
	}
}

/* ---- life ------------------------------------------------------------------------------------ */

static void on_drain(evutil_socket_t fd, short what, void *arg)
{
	struct agent *a = arg;
	const struct timeval step = {.tv_usec = 20000};
	static uint32_t waited_ms;
	uint32_t busy = 0;

	(void)fd, (void)what;
	for (uint32_t i = 0; i < a->n_nodes; i++)
		busy += http_busy(a->nodes[i].http);
	if (waited_ms >= AGENT_DRAIN_MS)
		busy = 0; /* clients that will not read hold up nothing */
	if ((!busy && pipeline_is_idle(a->pipeline)) || waited_ms >= AGENT_FLUSH_MS) {
		event_base_loopexit(a->base, NULL);
		return;
	}
	waited_ms += 20;
	evtimer_add(a->drain, &step);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	struct agent *a = arg;

	(void)what;
	if (number == SIGHUP) {
		reload(a);
		return;
	}
	if (a->stopping) {
		event_base_loopbreak(a->base);
		return;
	}
	log_line(LOG_LEVEL_INFO, "agent_stopping", "stopping on SIG%s", sigabbrev_np((int)number));
	a->stopping = true;
	for (uint32_t i = 0; i < a->n_nodes; i++)
		http_unlisten(a->nodes[i].http, http_listening(a->nodes[i].http));
	for (uint32_t i = 0; i < a->n_nodes; i++)
		target_flush(a->nodes[i].target);
	pipeline_stop(a->pipeline);
	on_drain(-1, 0, a);
}

/* On whole multiples of its period, where the targets tick as well: no wake-up of its own. */
static void arm_turn(struct agent *a)
{
	const uint64_t period_us = AGENT_TURN_S * UINT64_C(1000000);
	uint64_t us = period_us - clock_ns(CLOCK_MONOTONIC) / 1000 % period_us;
	struct timeval after = {.tv_sec = (time_t)(us / 1000000),
				.tv_usec = (suseconds_t)(us % 1000000)};

	evtimer_add(a->turn, &after);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct agent *a = arg;

	(void)fd, (void)what;
	a->turned_ns = clock_ns(CLOCK_MONOTONIC);
	for (uint32_t i = 0; i < a->n_nodes; i++)
		control_socket_retry(a->nodes[i].orders);
	if (a->pipeline)
		pipeline_tick(a->pipeline);
	arm_turn(a);
}

static void on_library_log(int severity, const char *message)
{
	if (severity >= EVENT_LOG_WARN)
		log_repeated(LOG_LEVEL_WARNING, "library_warning", "libevent", "libevent: %s",
			     message);
}

/* Without a key that is kept, equal values hash alike for this life only. */
static int redact_open(struct agent *a)
{
	uint8_t key[STATE_KEY_BYTES];
	int err = state_redaction_key(&a->state, key);

	if (err && err != -EBADF) /* "nothing is kept" was said already */
		log_line(LOG_LEVEL_WARNING, "redaction_key_lost",
			 "cannot keep a key for redaction in the state directory: %s; using one "
			 "that ends with this process",
			 err == -EPERM ? "redaction.key is not ours alone, remove it"
				       : strerror(-err));
	if (err && getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
		return -EIO;
	err = redact_new(&(struct redact_options){.key = key}, &a->redact);
	explicit_bzero(key, sizeof(key));
	return err;
}

static int loop_open(struct agent *a)
{
	static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
	int err;

	event_set_log_callback(on_library_log);
	signal(SIGPIPE, SIG_IGN);
	a->base = event_base_new();
	if (!a->base)
		return -ENOMEM;
	err = disk_new(a->base, AGENT_DISK_JOBS_MAX, &a->disk);
	if (err)
		return err;
	err = wake_new(a->base, &a->wake);
	if (err)
		log_line(LOG_LEVEL_WARNING, "wake_unavailable",
			 "no wake-up by full rings (%s): a burst after idleness may be shed",
			 strerror(-err));
	err = redact_open(a);
	if (!err)
		err = pipeline_new(a->base, a->disk, &a->options, &a->state, &a->pipeline);
	if (err)
		return err;
	a->turn = evtimer_new(a->base, on_turn, a);
	a->drain = evtimer_new(a->base, on_drain, a);
	a->control_due = evtimer_new(a->base, on_control_due, a);
	if (!a->turn || !a->drain || !a->control_due)
		return -ENOMEM;
	arm_turn(a);
	for (size_t i = 0; i < 3; i++) {
		a->signals[i] = evsignal_new(a->base, numbers[i], on_signal, a);
		if (!a->signals[i] || event_add(a->signals[i], NULL) < 0)
			return -ENOMEM;
	}
	a->start_ns = a->turned_ns = clock_ns(CLOCK_MONOTONIC);
	return 0;
}

static void loop_close(struct agent *a)
{
	/* Before the targets: what is given up here stays in their rings. */
	a->pipeline = pipeline_free(a->pipeline);
	for (uint32_t i = 0; i < a->n_nodes; i++)
		node_stop(&a->nodes[i]);
	a->wake = wake_free(a->wake);
	a->redact = redact_free(a->redact);
	a->storage = storage_free(a->storage);
	a->disk = disk_free(a->disk, AGENT_DISK_WAIT_MS);
	for (size_t i = 0; i < 3; i++)
		if (a->signals[i])
			event_free(a->signals[i]);
	if (a->turn)
		event_free(a->turn);
	if (a->drain)
		event_free(a->drain);
	if (a->control_due)
		event_free(a->control_due);
	json_decref(a->settings);
	if (a->base)
		event_base_free(a->base);
	libevent_global_shutdown();
}

const char *agent_features(void)
{
	return storage_built();
}

int agent_run(const struct options *flags, const struct options *all)
{
	static struct agent a;
	int err;

	a.flags = flags;
	a.options = *all;
	err = log_start(STDERR_FILENO, all->log_format, all->log_level);
	if (err)
		log_line(LOG_LEVEL_WARNING, "log_blocking", "the log may block the agent: %s",
			 strerror(-err));
	apply(&a);
	log_line(LOG_LEVEL_INFO, "agent_started", "blixard-agent " BLIX_VERSION " starts, pid %ld",
		 (long)getpid());
	state_open(&a.state, &a.options);
	if (a.state.problem[0])
		log_line(LOG_LEVEL_WARNING, "state_problem", "%s", a.state.problem);
	if (control_socket_directory(getenv("RUNTIME_DIRECTORY"), getenv("XDG_RUNTIME_DIR"),
				     geteuid() == 0, a.run_directory,
				     sizeof(a.run_directory)) < 0) {
		a.run_directory[0] = '\0';
		log_line(LOG_LEVEL_INFO, "control_unreachable",
			 "no control socket, so blixctl cannot reach this agent: set "
			 "RUNTIME_DIRECTORY to a directory of this user");
	}
	a.storage = storage_new(
		&(struct storage_options){.off = all->no_bpf, .slow_io_ms = all->slow_io_ms});
	if (a.storage)
		storage_drop_rights(a.storage);
	err = loop_open(&a);
	if (!err && a.storage)
		err = storage_start(a.storage, a.base);
	if (err)
		log_line(LOG_LEVEL_ERROR, "agent_failed", "cannot start: %s", strerror(-err));
	for (uint32_t i = 0; !err && i < all->n_targets; i++) {
		a.n_nodes++;
		err = node_start(&a, &a.nodes[i], &a.options.targets[i]);
	}
	if (!err) {
		control_now(&a);
		event_base_dispatch(a.base);
	}
	loop_close(&a);
	state_close(&a.state);
	log_line(LOG_LEVEL_INFO, "agent_stopped", "stopped");
	log_stop(AGENT_LOG_WAIT_MS);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
