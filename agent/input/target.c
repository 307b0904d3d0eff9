/* agent/input/target.c - the interface of a target. See target_private.h for its other files. */
#include "agent/input/node_control.h"
#include "agent/input/target_private.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_directory_change(void *arg)
{
	target_wake_soon(arg);
}

static int set_options(struct target *t, const struct target_options *options)
{
	size_t len = options->shm_path ? strlen(options->shm_path) : 0;

	if (len == 0 || len >= sizeof(t->path) || options->shm_path[len - 1] == '/')
		return -EINVAL;
	memcpy(t->path, options->shm_path, len + 1);
	t->options = *options;
	t->options.shm_path = t->path;
	if (t->options.stale_after_s == 0)
		t->options.stale_after_s = TARGET_STALE_AFTER_S;
	return 0;
}

/* One line for the log, whose receiver limits the rate, and the event itself. */
static void on_slow_io(void *arg, const struct storage_slow_event *e)
{
	struct target *t = arg;
	char trace[33] = "none";

	for (size_t i = 0; e->valid && i < sizeof(e->trace_id); i++)
		snprintf(trace + 2 * i, 3, "%02x", e->trace_id[i]);
	target_say(t, TARGET_LOG_REPEAT, "slow_io",
		   "slow storage: thread %u waited %.1f ms in %s%s, device %s, overlapping flush "
		   "%.1f ms, other I/O %.1f ms, trace %s",
		   e->tid, (double)(e->end_ns - e->start_ns) * 1e-6, e->call,
		   e->result < 0 ? ", which failed" : "", e->device[0] ? e->device : "unknown",
		   (double)e->flush_ns * 1e-6, (double)e->device_ns * 1e-6, trace);
	/* Who drains the file sends what belongs to it. */
	if (t->slow_waits && t->now.drain)
		slow_waits_add(t->slow_waits, t->now.resource, e, target_mono_ns());
	if (t->events.slow_io)
		t->events.slow_io(t->events.arg, t, e);
}

static int start_slow_waits(struct target *t)
{
	const struct slow_waits_options options = {
		.wants = {[BATCH_TRACES] = t->options.wants_traces,
			  [BATCH_LOGS] = t->options.wants_logs},
		.delay_ms = {[BATCH_TRACES] = t->options.spans_delay_ms,
			     [BATCH_LOGS] = t->options.logs_delay_ms},
		.process = t->options.redact ? target_process : NULL,
		.batch = target_hand_over,
		.arg = t,
	};

	if (!t->events.batch)
		return 0;
	t->slow_waits = slow_waits_new(&options);
	return t->slow_waits ? 0 : -ENOMEM;
}

static int start(struct target *t)
{
	int r;

	t->snapshot = snapshot_new();
	t->host = host_new();
	t->self = self_new();
	t->look = look_new(t->options.disk, t->path);
	t->storage = storage_node_new(t->options.storage, on_slow_io, t);
	if (!t->snapshot || !t->host || !t->self || !t->look || !t->storage)
		return -ENOMEM;
	r = start_slow_waits(t);
	if (r == 0)
		r = watch_new(t->base, t->path, on_directory_change, t, &t->watch);
	if (r == 0)
		r = target_rebuild(t);
	if (r == 0 && target_start_timer(t) < 0)
		r = -ENOMEM;
	return r;
}

int target_new(struct event_base *base, const struct target_options *options,
	       const struct target_events *events, struct target **ret_target)
{
	struct target *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->base = base;
	t->pidfd = -1;
	t->node = TARGET_NODE_WAITING;
	t->file = TARGET_FILE_WAITING;
	t->peak_s = target_mono_ns() / NS_PER_S;
	if (events)
		t->events = *events;
	r = set_options(t, options);
	if (r == 0)
		r = start(t);
	if (r < 0) {
		target_free(t);
		return r;
	}
	*ret_target = t;
	return 0;
}

struct target *target_free(struct target *t)
{
	if (!t)
		return NULL;
	t->slow_waits = slow_waits_free(t->slow_waits); /* the outputs may be gone already */
	target_leave(t, true);
	target_drop_olds(t, true);
	target_drop_orphan(t, true);
	if (t->timer)
		event_free(t->timer);
	watch_free(t->watch);
	look_free(t->look);
	storage_node_free(t->storage);
	self_free(t->self);
	host_free(t->host);
	snapshot_free(t->snapshot);
	free(t);
	return NULL;
}

void target_set_agent_facts(struct target *t, const struct agent_facts *facts)
{
	const char *version = facts->version ? facts->version : "unknown";
	size_t len = strnlen(version, sizeof(t->agent_version) - 1);

	memcpy(t->agent_version, version, len);
	t->agent_version[len] = '\0';
	t->listen_up = facts->listen_up;
	t->log_lines_dropped = facts->log_lines_dropped;
	t->sampling_set = facts->sampling_set;
	t->sampling_ratio = facts->sampling_ratio;
	t->figures = facts->figures;
}

int target_control(struct target *t, const struct blix_control_setting *setting)
{
	if (!t->now.drain)
		return -ENOENT;
	return node_control_write(t->now.map, setting);
}

void target_flush(struct target *t)
{
	if (t->now.drain)
		drain_flush(t->now.drain);
	for (int i = 0; i < TARGET_OLDS; i++)
		if (t->olds[i].drain)
			drain_flush(t->olds[i].drain);
	if (t->orphan.drain)
		drain_flush(t->orphan.drain);
	storage_node_catch_up(t->storage);
	if (t->slow_waits)
		slow_waits_flush(t->slow_waits);
}

struct batch_resource *target_resource(const struct target *t)
{
	return t->now.resource;
}

/* ---- collecting ------------------------------------------------------------------------------ */

static bool node_up(const struct target *t)
{
	return t->now.map && t->node == TARGET_NODE_LIVE;
}

static void gather_facts(struct target *t, uint64_t now_ns, struct self_facts *f)
{
	const struct look_result *look = look_result(t->look);

	*f = (struct self_facts){
		.agent_version = t->agent_version,
		.listen_up = t->listen_up,
		.log_lines_dropped = t->log_lines_dropped,
		.sampling_set = t->sampling_set,
		.sampling_ratio = t->sampling_ratio,
		.node = t->node,
		.file = t->file,
		.node_up = node_up(t),
		.node_known = t->now.map && !t->served_out,
		.node_id = t->id.node_id,
		.node_version = t->id.version,
		.heartbeat_unix_ns = t->seen.pair_real_ns,
		.start_unix_ns = t->id.open_real_ns,
		.file_attached = t->now.map && !t->served_out,
		.orphans_known = look->at_ns != 0,
		.orphans = target_orphans_pending(t),
		.regressions = t->regressions,
		.series_overflow = t->overflow,
		.incarnations = t->incarnations,
		.ring_used_ratio = target_peak(t, now_ns),
		.totals = t->totals,
	};
	memcpy(f->dropped, t->dropped, sizeof(f->dropped));
	if (t->now.map)
		blix_map_lanes(t->now.map, &f->lanes);
	if (t->values)
		f->regressions += node_shm_counts(t->values).regressions;
	if (t->now.drain)
		f->quarantined_lanes = drain_quarantined_lanes(t->now.drain);
	if (t->wait)
		f->cpu_wait_known = node_wait_read(t->wait, now_ns, &f->cpu_wait_ns);
}

/* What the node has registered and nobody will see is worth a line. */
static void tell_refused(struct target *t)
{
	uint64_t refused = t->values ? node_shm_counts(t->values).refused : 0;

	if (refused > t->refused_said)
		target_say(t, TARGET_LOG_REPEAT, "metrics_refused",
			   "%llu metrics or series of the node are not shown: their names belong "
			   "to the host, the agent or another metric, or a limit is reached",
			   (unsigned long long)refused);
	t->refused_said = refused;
}

/* Walking the slots costs a cache line a slot, so several askers share one look. */
static const struct open_spans *look_at_open(struct target *t, uint64_t now_ns)
{
	enum { MAX_AGE_MS = 500 };

	if (!t->now.map || t->life.gone)
		return NULL;
	if (t->open_ns == 0 || now_ns - t->open_ns >= MAX_AGE_MS * NS_PER_MS) {
		open_spans_look(t->now.map, &t->open);
		t->open_ns = now_ns;
	}
	return &t->open;
}

uint32_t target_open_spans(struct target *t, struct target_open_span *ret_spans, uint32_t max,
			   uint32_t *ret_total)
{
	uint64_t now_ns = target_mono_ns();
	const struct open_spans *open = look_at_open(t, now_ns);
	uint32_t n = 0;

	*ret_total = open ? open->total : 0;
	for (; open && n < open->n_oldest && n < max; n++) {
		const struct open_span *from = &open->oldest[n];

		memcpy(ret_spans[n].name, from->name, sizeof(ret_spans[n].name));
		memcpy(ret_spans[n].trace_id, from->trace_id, sizeof(ret_spans[n].trace_id));
		memcpy(ret_spans[n].span_id, from->span_id, sizeof(ret_spans[n].span_id));
		ret_spans[n].age_s = now_ns > from->start_mono_ns
					     ? (double)(now_ns - from->start_mono_ns) * 1e-9
					     : 0;
	}
	return n;
}

static void add_unacknowledged(struct self_spans_facts *f, const struct drain *d)
{
	struct custody_figures figures;

	if (!d)
		return;
	drain_custody(d, &figures);
	for (int i = 0; i < BATCH_SIGNALS; i++)
		f->unacknowledged[i] +=
			figures.items[i] + drain_open_items(d, (enum batch_signal)i);
}

static void collect_spans(struct target *t, uint64_t now_ns)
{
	struct self_spans_facts f = {
		.crashed = t->totals.spans_crashed,
		.torn = t->totals.spans_torn,
		.decoding = t->totals.decoding,
		.open = look_at_open(t, now_ns),
		.now_mono_ns = now_ns,
	};
	add_unacknowledged(&f, t->now.drain);
	for (int i = 0; i < TARGET_OLDS; i++)
		add_unacknowledged(&f, t->olds[i].drain);
	add_unacknowledged(&f, t->orphan.drain);
	for (int i = 0; i < SELF_SPANS_ACTIONS && t->options.redact; i++)
		f.redacted[i] =
			redact_count(t->options.redact, (enum redact_action)(REDACT_DROP + i));
	self_spans_collect(&t->self_spans, t->snapshot, &f);
}

const struct snapshot *target_collect(struct target *t)
{
	uint64_t now_ns = target_mono_ns();
	struct self_facts facts;

	target_check_life(t, now_ns);
	if (t->values && node_shm_collect(t->values) == -ENODATA)
		target_quarantine(t);
	tell_refused(t);
	if (t->now.map)
		target_note_file_figures(t);
	gather_facts(t, now_ns, &facts);
	host_collect(t->host, t->snapshot, look_result(t->look), now_ns);
	self_collect(t->self, t->snapshot, &facts, now_ns);
	collect_spans(t, now_ns);
	self_export_collect(&t->self_export, t->snapshot, t->figures);
	storage_node_disk(t->storage, look_result(t->look)->disk_dev,
			  look_result(t->look)->disk_name);
	if (t->slow_waits)
		storage_node_undelivered(t->storage, slow_waits_dropped(t->slow_waits));
	storage_node_collect(t->storage, t->snapshot, now_ns);
	snapshot_clamp_subsets(t->snapshot);
	return t->snapshot;
}

/* ---- status ---------------------------------------------------------------------------------- */

static void status_of_node(const struct target *t, struct target_status *s)
{
	s->known = t->known;
	s->node_id = t->id.node_id;
	s->cluster = t->id.cluster;
	s->service_name = t->id.service_name;
	s->version = t->id.version;
	s->grpc_address = t->id.grpc_address;
	s->data_dir = t->id.data_dir;
	s->incarnation = t->id.incarnation_hex;
	s->pid = t->id.pid;
	s->endpoint_in_node_env = t->id.flags & BLIX_FLAG_ENDPOINT_SET;
	s->start_unix_ns = t->id.open_real_ns;
	s->heartbeat_unix_ns = t->seen.pair_real_ns;
	s->heartbeat_still_s = (double)node_life_still_ns(&t->life) / (double)NS_PER_S;
	s->exit_code = t->seen.exit_code;
}

static void status_of_file(const struct target *t, struct target_status *s)
{
	struct blix_map_lanes lanes;

	if (!t->now.map)
		return;
	blix_map_lanes(t->now.map, &lanes);
	s->metrics_refused += blix_map_rejected(t->now.map);
	s->file_bytes = blix_map_view(t->now.map)->size;
	s->lanes_owned = lanes.owned;
	s->lanes_free = lanes.free;
	s->lanes_never = lanes.never;
	if (t->now.drain)
		s->lanes_quarantined = drain_quarantined_lanes(t->now.drain);
	if (t->values) {
		s->metrics = node_shm_counts(t->values).metrics;
		s->series = node_shm_counts(t->values).series;
		s->metrics_refused += node_shm_counts(t->values).refused;
	}
}

void target_status(struct target *t, struct target_status *ret_status)
{
	*ret_status = (struct target_status){
		.shm_path = t->path,
		.node = t->node,
		.file = t->file,
		.node_up = node_up(t),
		.draining = t->now.drain != NULL,
		.reason = t->reason,
		.since_unix_ns = t->since_unix_ns,
		.ring_used_ratio = target_peak(t, target_mono_ns()),
		.records_spans = t->totals.records[DRAIN_SPAN],
		.records_logs = t->totals.records[DRAIN_LOG],
		.records_marks = t->totals.records[DRAIN_MARK],
		.records_unknown = t->totals.records[DRAIN_UNKNOWN],
		.records_lost = t->totals.lost,
		.records_corrupt = t->totals.corrupt,
		.records_refused = t->totals.decoding.refused + t->totals.decoding.too_large,
		.records_damaged = t->totals.decoding.damaged,
		.held_up = t->totals.held_up,
		.series_overflow = t->overflow,
		.metrics_refused = t->refused,
		.incarnations = t->incarnations,
		.orphans = t->look ? target_orphans_pending(t) : 0,
	};
	status_of_node(t, ret_status);
	status_of_file(t, ret_status);
}
