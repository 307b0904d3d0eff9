/* agent/input/target_file.c - attach, leave and judge files. See target_private.h. */
#include "agent/input/target_private.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- which file is at the path -------------------------------------------------------------- */

/* 0; -ENOENT and the like. lstat of a path in memory (tmpfs) does not sleep. */
static int look_at_path(const struct target *t, struct target_signature *ret_signature)
{
	struct stat st;

	if (lstat(t->path, &st) < 0)
		return -errno;
	*ret_signature = (struct target_signature){
		.set = true,
		.dev = st.st_dev,
		.ino = st.st_ino,
		.size = st.st_size,
		.changed = st.st_ctim,
	};
	return 0;
}

static bool is_judged(const struct target *t, const struct target_signature *s)
{
	const struct target_signature *j = &t->judged;

	return j->set && j->dev == s->dev && j->ino == s->ino && j->size == s->size &&
	       j->changed.tv_sec == s->changed.tv_sec && j->changed.tv_nsec == s->changed.tv_nsec;
}

/* ---- the snapshot's families ----------------------------------------------------------------- */

/* Host and agent first, so that no metric of a node can take their names; then the node's. */
int target_rebuild(struct target *t)
{
	int r;

	snapshot_reset(t->snapshot);
	r = host_register(t->host, t->snapshot);
	if (r == 0)
		r = self_register(t->self, t->snapshot);
	if (r == 0)
		r = self_spans_register(&t->self_spans, t->snapshot, target_unix_ns());
	if (r == 0)
		r = self_export_register(&t->self_export, t->snapshot, target_unix_ns());
	if (r == 0)
		r = storage_node_register(t->storage, t->snapshot);
	if (r == 0 && t->now.map && !t->served_out) {
		t->values = node_shm_new(t->now.map, t->snapshot, t->options.native_histograms);
		r = t->values ? 0 : -ENOMEM;
	}
	if (r < 0)
		target_say(t, TARGET_LOG_REPEAT, "families_incomplete",
			   "cannot set up every family: %s", strerror(-r));
	return r;
}

/* ---- leaving --------------------------------------------------------------------------------- */

static void add_growth(uint64_t *total, uint64_t *seen, uint64_t now)
{
	if (now > *seen) { /* a fall is the node's fault: keep what was */
		*total += now - *seen;
		*seen = now;
	}
}

void target_note_file_figures(struct target *t)
{
	for (int kind = 0; kind < BLIX_DROP_KINDS; kind++)
		for (int i = 0; i < SELF_DROP_REASONS; i++)
			add_growth(&t->dropped[kind][i], &t->dropped_seen[kind][i],
				   blix_map_drops(t->now.map, (enum blix_drop_kind)kind,
						  (enum blix_drop_reason)i));
	add_growth(&t->overflow, &t->overflow_seen,
		   blix_map_stat(t->now.map, BLIX_STAT_SERIES_OVERFLOW));
}

static void forget_process(struct target *t)
{
	if (t->pidfd_event)
		event_free(t->pidfd_event);
	t->pidfd_event = NULL;
	if (t->pidfd >= 0)
		close(t->pidfd);
	t->pidfd = -1;
	t->process_gone = false;
	t->wait = node_wait_free(t->wait);
	storage_node_unfollow(t->storage);
}

static void forget_values(struct target *t)
{
	if (t->values) {
		t->regressions += node_shm_counts(t->values).regressions;
		t->refused += node_shm_counts(t->values).refused;
	}
	t->values = node_shm_free(t->values);
}

void target_close_attached(struct target_attached *a, bool back_soon)
{
	a->wake = wake_remove(a->wake);
	a->drain = drain_free(a->drain, back_soon);
	batch_resource_release(a->resource);
	a->resource = NULL;
	a->map = blix_map_close(a->map);
}

void target_leave(struct target *t, bool back_soon)
{
	forget_process(t);
	forget_values(t);
	target_close_attached(&t->now, back_soon);
}

void target_drop_olds(struct target *t, bool back_soon)
{
	for (int i = 0; i < TARGET_OLDS; i++)
		target_close_attached(&t->olds[i], back_soon);
}

/* The file can no longer be trusted: what it holds is not shown, and it is not looked at again
 * until it changes. Everything else is served on. */
void target_quarantine(struct target *t)
{
	target_leave(t, false);
	if (look_at_path(t, &t->judged) < 0)
		t->judged.set = false;
	target_rebuild(t);
	target_set_state(t, TARGET_NODE_WAITING, TARGET_FILE_QUARANTINED,
			 "the file was truncated or damaged while it was being read; "
			 "restart the node, which makes a new one");
}

/* ---- life ------------------------------------------------------------------------------------ */

/* What lies at the path is this file, and it has been served to its end. A stranger is judged
 * like any other. */
static void judge_served(struct target *t)
{
	if (look_at_path(t, &t->judged) < 0 || t->judged.dev != t->id.dev ||
	    t->judged.ino != t->id.ino)
		t->judged.set = false;
}

static const char *how_it_went(const struct target *t)
{
	if (t->life.lock_leaked)
		return "its process is gone, though a forked child still holds its file";
	return t->life.node == TARGET_NODE_CLOSED ? "it closed its file" : "its process is gone";
}

/* The time for the final counters is over. Its rings come to their end before it is let go. */
static void end_service(struct target *t)
{
	if (!t->served_out) {
		t->served_out = true;
		target_note_file_figures(t);
		forget_values(t);
		target_rebuild(t);
		target_set_state(t, t->life.node, TARGET_FILE_DETACHED,
				 "it is gone, and the time for its final counters is over; start "
				 "the node again");
	}
	if (t->now.drain && !t->drained)
		return;
	judge_served(t);
	target_leave(t, false);
}

static void set_gone_state(struct target *t, uint64_t now_ns)
{
	if (now_ns - t->gone_ns < t->options.linger_s * NS_PER_S)
		target_set_state(t, t->life.node, TARGET_FILE_LINGERING,
				 "%s; its final counters stay for %u s; start the node again",
				 how_it_went(t), t->options.linger_s);
	else
		end_service(t);
}

static void set_alive_state(struct target *t)
{
	enum target_file file = t->now.drain || t->lock_error != -EBUSY ? TARGET_FILE_ATTACHED
									: TARGET_FILE_STANDBY;

	if (t->life.node == TARGET_NODE_HUNG)
		target_set_state(t, TARGET_NODE_HUNG, file,
				 "its heartbeat has stood still for %u s, but it holds its file: "
				 "look at process %u",
				 t->options.stale_after_s, t->id.pid);
	else if (t->now.drain || t->options.watch_only)
		target_set_state(t, TARGET_NODE_LIVE, file, "%s", "");
	else if (t->lock_error == -EBUSY)
		target_set_state(
			t, TARGET_NODE_LIVE, file,
			"another agent drains this file; this one takes over when it ends");
	else
		target_set_state(t, TARGET_NODE_LIVE, file,
				 "this agent may not write the file, so no record is acknowledged: "
				 "run it as the node's user or group");
}

static void note_gone(struct target *t, uint64_t now_ns)
{
	t->gone_ns = drain_exit_mono_ns(t->now.map, now_ns);
	if (t->gone_ns == 0)
		t->gone_ns = now_ns;
	if (t->now.drain)
		drain_note_exit(t->now.drain, t->gone_ns);
	t->wait = node_wait_free(t->wait);
	storage_node_unfollow(t->storage);
	if (t->values)
		node_shm_hide_gauges(t->values, true);
}

void target_check_life(struct target *t, uint64_t now_ns)
{
	struct node_life_seen seen;
	bool was_gone = t->life.gone;

	if (!t->now.map)
		return;
	blix_map_life(t->now.map, &t->seen);
	seen = (struct node_life_seen){
		.locked = blix_map_owner_state(t->now.map) == BLIX_OWNER_ALIVE,
		.process_gone = t->process_gone,
		.closed = t->seen.state == BLIX_STATE_CLOSED || t->seen.state == BLIX_STATE_EXITED,
		.alive_beat = t->seen.alive_beat,
		.app_beat = t->seen.app_beat,
	};
	if (blix_map_poisoned(t->now.map)) {
		target_quarantine(t);
		return;
	}
	node_life_observe(&t->life, &seen, now_ns, t->options.stale_after_s * NS_PER_S);
	if (t->life.gone && !was_gone)
		note_gone(t, now_ns);
	if (t->life.gone)
		set_gone_state(t, now_ns);
	else
		set_alive_state(t);
}

/* ---- attaching ------------------------------------------------------------------------------- */

static void on_process_end(evutil_socket_t fd, short what, void *arg)
{
	struct target *t = arg;

	(void)fd;
	(void)what;
	t->process_gone = true;
	t->life_due_ns = 0;
	target_wake_soon(t);
}

/* What the probes need to know the node's threads by. The address is the node's word; the probe
 * reads it only in that process. */
static void follow_storage(struct target *t)
{
	const struct blix_view *v = blix_map_view(t->now.map);
	const struct storage_proc lanes = {
		.lanes_addr = t->id.map_base ? t->id.map_base + v->lanes_off : 0,
		.lane_stride = v->lane_stride,
		.n_lanes = v->n_lanes,
	};
	int r = storage_node_follow(t->storage, t->id.pid, &lanes);

	if (r < 0 && r != -ENODEV)
		target_say(t, TARGET_LOG_REPEAT, "storage_unattached",
			   "the storage probes do not follow process %u: %s", t->id.pid,
			   strerror(-r));
}

/* The pid says something only in its own namespace, and only with its start time. */
static void follow_process(struct target *t)
{
	struct stat ns;

	if (stat("/proc/self/ns/pid", &ns) < 0 || (uint64_t)ns.st_ino != t->id.pidns_ino ||
	    t->id.pid == 0 || t->id.pid > INT_MAX)
		return;
	t->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)t->id.pid, 0);
	if (t->pidfd < 0) {
		t->process_gone = errno == ESRCH;
		return;
	}
	/* The start time is checked after the pidfd was taken, so both mean the same process. */
	if (node_wait_new((pid_t)t->id.pid, t->id.pid_start_ticks, &t->wait) < 0) {
		close(t->pidfd);
		t->pidfd = -1;
		return;
	}
	follow_storage(t);
	t->pidfd_event = event_new(t->base, t->pidfd, EV_READ, on_process_end, t);
	if (t->pidfd_event)
		event_add(t->pidfd_event, NULL);
}

void target_hand_over(void *arg, struct batch *b)
{
	struct target *t = arg;

	t->events.batch(t->events.arg, t, b);
}

void target_process(void *arg, struct batch *b)
{
	struct target *t = arg;

	redact_batch(t->options.redact, b);
}

static void on_woken(void *arg)
{
	target_drain_soon(arg);
}

int target_start_drain(struct target *t, struct target_attached *a)
{
	const struct drain_options options = {
		.wants = {[BATCH_TRACES] = t->options.wants_traces,
			  [BATCH_LOGS] = t->options.wants_logs},
		.delay_ms = {[BATCH_TRACES] = t->options.spans_delay_ms,
			     [BATCH_LOGS] = t->options.logs_delay_ms},
		.process = t->options.redact ? target_process : NULL,
		.batch = t->events.batch ? target_hand_over : NULL,
		.arg = t,
	};
	int r = a->resource ? drain_new(a->map, a->resource, &options, &t->totals, &a->drain)
			    : -ENOMEM;

	/* Without a wake-up a burst may be shed before the next poll; nothing worse. */
	if (r == 0 && t->options.wake)
		(void)wake_add(t->options.wake, drain_wake_word(a->drain), on_woken, t, &a->wake);
	return r;
}

void target_retry_lock(struct target *t)
{
	if (!t->now.map || t->now.drain)
		return;
	t->lock_error = target_start_drain(t, &t->now);
	if (t->now.drain) {
		t->polled_ns = target_mono_ns();
		if (t->life.gone)
			drain_note_exit(t->now.drain, t->gone_ns);
		if (t->events.drain_began)
			t->events.drain_began(t->events.arg, t);
	}
}

static void note_identity(struct target *t)
{
	const struct blix_map_identity *id = blix_map_identity(t->now.map);
	bool same = t->known &&
		    memcmp(id->incarnation, t->id.incarnation, sizeof(id->incarnation)) == 0;

	t->id = *id;
	t->known = true;
	if (same)
		return; /* the same life, attached once more */
	t->incarnations++;
	memset(t->dropped_seen, 0, sizeof(t->dropped_seen));
	t->overflow_seen = 0;
}

void target_take_resource(struct target *t, struct target_attached *a)
{
	size_t len;
	const uint8_t *bytes = blix_map_resource(a->map, &len);

	if (resource_new(blix_map_identity(a->map), bytes, len, &a->resource) < 0)
		a->resource = NULL;
	else if (t->options.redact)
		redact_resource(t->options.redact, a->resource);
}

static void attach(struct target *t, struct blix_map *map, uint64_t now_ns)
{
	t->now.map = map;
	t->judged.set = false;
	t->removed_said = false;
	t->drained = false;
	t->served_out = false;
	t->life = (struct node_life){0};
	t->open_ns = 0;
	note_identity(t);
	target_take_resource(t, &t->now);
	target_rebuild(t);
	follow_process(t);
	target_retry_lock(t);
	target_say(t, TARGET_LOG_STATE, "node_attached",
		   "attached to node %llu of cluster %s, version %s, process %u, incarnation %s",
		   (unsigned long long)t->id.node_id, t->id.cluster,
		   t->id.version[0] ? t->id.version : "unknown", t->id.pid, t->id.incarnation_hex);
	t->look_due_ns = 0;
	target_check_life(t, now_ns);
	if (t->events.address_known)
		t->events.address_known(t->events.arg, t, t->id.grpc_address);
}

/* A place for one more predecessor. With none free one of them gives way: its rest is found again as an
 * orphan, and what was under way comes a second time. */
static uint32_t place_for_old(struct target *t)
{
	uint32_t longest = 0;

	for (uint32_t i = 0; i < TARGET_OLDS; i++) {
		if (!t->olds[i].map)
			return i;
		if (t->old_since_ns[i] < t->old_since_ns[longest])
			longest = i;
	}
	target_close_attached(&t->olds[longest], false);
	return longest;
}

/* Another incarnation is at the path: its predecessor's rings are emptied on the side. */
static void step_aside(struct target *t, uint64_t now_ns)
{
	if (!t->now.map)
		return;
	target_note_file_figures(t);
	forget_process(t);
	forget_values(t);
	if (t->now.drain) {
		uint32_t place = place_for_old(t);

		t->olds[place] = t->now;
		t->old_polled_ns[place] = t->old_since_ns[place] = now_ns;
		t->now = (struct target_attached){0};
	} else {
		target_close_attached(&t->now, false);
	}
}

static int open_map(struct target *t, struct blix_map **ret_map, char *reason)
{
	struct blix_map_options options = {
		.check_owner = t->options.check_owner,
		.owner = t->options.owner,
		.consumer = !t->options.watch_only,
	};
	int r = blix_map_open(t->path, &options, ret_map, reason);

	if (r != -EACCES && r != -EROFS)
		return r;
	options.consumer = false;
	return blix_map_open(t->path, &options, ret_map, reason);
}

/* What an error of blix_map_open() makes of the file, and whether the same bytes may do better
 * next time. */
static enum target_file judge(int error, bool *ret_final)
{
	*ret_final = true;
	switch (error) {
	case -ENOENT:
	case -ENOTDIR:
	case -EAGAIN:
		*ret_final = false;
		return TARGET_FILE_WAITING;
	case -EPROTONOSUPPORT:
		return TARGET_FILE_INCOMPATIBLE;
	case -ENODATA:
		return TARGET_FILE_QUARANTINED;
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
		*ret_final = false;
		return TARGET_FILE_REFUSED;
	default:
		return TARGET_FILE_REFUSED;
	}
}

static void try_attach(struct target *t, const struct target_signature *found, uint64_t now_ns)
{
	char reason[BLIX_REASON_MAX] = "";
	struct blix_map *map = NULL;
	bool final;
	int r = open_map(t, &map, reason);
	enum target_file file = judge(r, &final);

	if (r == 0) {
		step_aside(t, now_ns);
		attach(t, map, now_ns);
		return;
	}
	if (final)
		t->judged = *found;
	if (t->now.map) /* keep what we have; the stranger is worth a line */
		target_say(t, TARGET_LOG_REPEAT, "file_replaced",
			   "something else is at the path now: %s", reason);
	else
		target_set_state(t, TARGET_NODE_WAITING, file, "%s", reason);
}

/* Nothing is at the path. A dead node stays dead until another one comes. */
static void note_absent(struct target *t, int error)
{
	if (t->now.map) {
		if (!t->removed_said && !t->life.gone)
			target_say(t, TARGET_LOG_STATE, "file_removed",
				   "the file was removed under the running node; its values are "
				   "served on, but a restarted agent cannot find them");
		t->removed_said = true;
		return;
	}
	t->judged.set = false;
	if (t->file == TARGET_FILE_DETACHED)
		return;
	if (error == -ENOENT || error == -ENOTDIR)
		target_set_state(t, TARGET_NODE_WAITING, TARGET_FILE_WAITING,
				 "the node has not started: no such file");
	else
		target_set_state(t, TARGET_NODE_WAITING, TARGET_FILE_REFUSED,
				 "cannot look at the file: %s", strerror(-error));
}

void target_probe(struct target *t, uint64_t now_ns)
{
	struct target_signature found = {0};
	int r = look_at_path(t, &found);

	if (r < 0) {
		note_absent(t, r);
		return;
	}
	if (t->now.map && t->id.dev == found.dev && t->id.ino == found.ino)
		return;
	if (is_judged(t, &found))
		return;
	try_attach(t, &found, now_ns);
}
