/* agent/input/recover.c - see recover.h. */
#include "agent/input/recover.h"

#include "shm/atomic.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static const char crashed[] = "crashed", abandoned[] = "abandoned";

/* ---- how it ended ---------------------------------------------------------------------------- */

/* The wait status that some agent stored, or the signal that the node's handler saw. Both are
 * foreign numbers: what they cannot mean is left out. */
static void note_exit(struct records_end *end, const struct blix_view *view,
		      const struct blix_map_life *life)
{
	const struct blix_consumer *consumer =
		(const struct blix_consumer *)(const void *)(view->base + view->consumer_off);
	int status = (int)blix_load_relaxed(&consumer->exit_code);

	if (blix_load_relaxed(&consumer->exit_ns) != 0 && status != 0) {
		end->has_exit_code = WIFEXITED(status);
		end->exit_code = end->has_exit_code ? WEXITSTATUS(status) : 0;
		end->has_signal = WIFSIGNALED(status);
		end->signal = end->has_signal ? WTERMSIG(status) : 0;
	} else if (life->state == BLIX_STATE_CRASH_NOTED && life->exit_code >= 1 &&
		   life->exit_code <= 64) {
		end->has_signal = true;
		end->signal = life->exit_code;
	}
}

static void describe_end(struct recover *r, struct blix_map *map)
{
	struct blix_map_life life;
	bool closed;

	blix_map_life(map, &life);
	closed = life.state == BLIX_STATE_CLOSED || life.state == BLIX_STATE_EXITED;
	r->end = (struct records_end){
		.state = closed ? abandoned : crashed,
		.message = closed ? "process closed its telemetry before span ended"
				  : "process terminated before span ended",
		.at_ns = life.pair_mono_ns,
	};
	if (r->last_ns > r->end.at_ns)
		r->end.at_ns = r->last_ns;
	note_exit(&r->end, blix_map_view(map), &life);
}

/* ---- when ------------------------------------------------------------------------------------ */

/* An owner word that is still 0 means that the lane was never used; lane 0 is never owned for long.
 */
static bool lane_used(const struct blix_view *view, uint32_t lane)
{
	return lane == 0 || blix_load_relaxed(&blix_view_lane(view, lane)->owner) != 0;
}

/* The next record's head; its body stays where it is. False: this lane is at its end. */
static bool look_at_record(struct recover *r, uint64_t limit_ns)
{
	uint64_t head[BLIX_RING_HEAD_WORDS];
	int n = blix_ring_next(&r->reader, head, BLIX_RING_HEAD_WORDS);

	if ((n > 0 || n == -EMSGSIZE) && head[2] > r->last_ns && head[2] <= limit_ns)
		r->last_ns = head[2];
	return n > 0 || n == -EMSGSIZE || n == -EILSEQ;
}

bool recover_time_step(struct recover *r, struct blix_map *map)
{
	const struct blix_view *view = blix_map_view(map);
	struct blix_map_life life;
	uint64_t limit_ns;

	blix_map_life(map, &life);
	if (__builtin_add_overflow(life.pair_mono_ns, RECOVER_AHEAD_MAX_NS, &limit_ns))
		limit_ns = UINT64_MAX;
	for (uint32_t n = 0; n < RECOVER_RECORDS_STEP && r->lane < view->n_lanes; n++) {
		if (!r->reading && lane_used(view, r->lane)) {
			blix_ring_reader_init(&r->reader, view, r->lane);
			r->reading = true;
		}
		if (r->reading && look_at_record(r, limit_ns))
			continue;
		r->reading = false;
		r->lane++;
	}
	if (r->lane < view->n_lanes)
		return false;
	describe_end(r, map);
	r->lane = 0;
	r->stage = RECOVER_SLOTS;
	return true;
}

/* ---- spans ----------------------------------------------------------------------------------- */

bool recover_slots_step(struct recover *r, const struct blix_view *view, blix_slot_visit visit,
			void *arg)
{
	for (uint32_t seen = 0; seen < RECOVER_SLOTS_STEP && r->lane < view->n_lanes; r->lane++) {
		blix_slots_recover_lane(view, r->lane, &r->found, visit, arg);
		seen += blix_view_slot_count(view, r->lane) + 1;
	}
	if (r->lane < view->n_lanes)
		return false;
	r->stage = RECOVER_TOLD;
	return true;
}

/* ---- the log --------------------------------------------------------------------------------- */

bool recover_worth_a_log(const struct recover *r)
{
	return r->end.state == crashed || r->found.crashed > 0;
}

static void add_number(struct batch_attrs *attrs, const char *key, int64_t value)
{
	attrs->at[attrs->n++] = (struct batch_attr){.key = {key, (uint32_t)strlen(key)},
						    .value = {BATCH_I64, 0, {.i64 = value}}};
}

int recover_log(const struct recover *r, const struct records_clock *clock, uint64_t node_id,
		struct batch *b)
{
	enum { WARN = 13, ERROR = 17, BODY_BYTES = 96, ATTRS = 4 };
	static const char event_name[] = "blixard.node.ended";
	struct batch_log *log = &b->logs[b->n];
	bool died = r->end.state == crashed;
	void *body, *attrs;
	int e, len;

	if (b->n == BATCH_ITEMS_MAX)
		return -ENOSPC;
	e = arena_alloc(&b->memory, BODY_BYTES, &body);
	if (e == 0)
		e = arena_alloc(&b->memory, ATTRS * sizeof(struct batch_attr), &attrs);
	if (e < 0)
		return e;
	len = snprintf(body, BODY_BYTES, "node %" PRIu64 " %s, %u %s open", node_id,
		       died ? "died" : "closed its telemetry", r->found.crashed,
		       r->found.crashed == 1 ? "span" : "spans");
	memset(log, 0, sizeof(*log));
	log->unix_ns = log->observed_unix_ns = records_clock_unix_ns(clock, r->end.at_ns);
	log->body = (struct batch_text){body, (uint32_t)len};
	log->event_name = (struct batch_text){event_name, sizeof(event_name) - 1};
	log->severity = died ? ERROR : WARN;
	log->priority = true;
	log->attrs.at = attrs;
	add_number(&log->attrs, "blixard.spans.open", r->found.crashed);
	add_number(&log->attrs, "blixard.spans.torn", r->found.torn);
	if (r->end.has_exit_code)
		add_number(&log->attrs, "process.exit.code", r->end.exit_code);
	if (r->end.has_signal)
		add_number(&log->attrs, "blixard.exit.signal", r->end.signal);
	b->n++;
	return 0;
}
