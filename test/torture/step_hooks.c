/* Goal: the process may die at any instruction of a span's begin, attributes, events, status and
 * end, of a log, an exemplar, an attach and a detach; what is in the file is then whole: every item
 * that is visible was said, in order, and no span is both complete and crashed.
 *
 * Method: a child tells a story through the public header, one instruction at a time, first on a
 * lane of its own, then through lane 0. Whenever one changed the lanes or the exemplars, the parent
 * reads the file as an agent would after a SIGKILL at that place, and compares it with the story.
 *
 * Prints what was stepped and judged; exit 0 if every judgement was good, 77 without ptrace. */
#include "node-hooks/session.h"
#include "shm/exemplar.h"
#include "test/support/file_records.h"
#include "test/support/scratch.h"
#include "test/support/stepper.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { BAD_MAX = 8 };

/* How far the story is, written by the child beside the telemetry. */
enum stage { NOTHING, BEGINNING, BEGUN, SAID, ENDING, ENDED, LOGGING, LOGGED };

struct truth {
	uint32_t stage;
	uint32_t attached; /* 0 no, 1 changing, 2 yes */
	blix_span span;
	uint32_t exemplar;
};

static struct truth *truth;
static struct scratch scratch;
static uint32_t lanes;
static blix_counter counter;

static void stage(enum stage to)
{
	__atomic_store_n(&truth->stage, to, __ATOMIC_RELEASE);
}

static void tell(blix_name name, const char *body)
{
	static const struct blix_context root;
	blix_token token;
	blix_span span;

	stage(BEGINNING);
	span = blix_span_begin(name, BLIX_SERVER, &root);
	truth->span = span;
	stage(BEGUN);
	blix_span_str(span, BLIX_KEY("a0"), "a text of some length");
	blix_span_i64(span, BLIX_KEY("a1"), 1);
	blix_span_event(span, "happened", BLIX_I64("n", 2), BLIX_STR("s", "three"));
	blix_span_f64(span, BLIX_KEY("a2"), 0.5);
	blix_span_status(span, BLIX_SPAN_ERROR, "why it failed");
	blix_span_bool(span, BLIX_KEY("a3"), 1);
	stage(SAID);
	__atomic_store_n(&truth->attached, 1, __ATOMIC_RELEASE);
	token = blix_attach(span);
	__atomic_store_n(&truth->attached, 2, __ATOMIC_RELEASE);
	blix_add(counter, 7);
	__atomic_store_n(&truth->attached, 1, __ATOMIC_RELEASE);
	blix_detach(token);
	__atomic_store_n(&truth->attached, 0, __ATOMIC_RELEASE);
	stage(ENDING);
	blix_span_end(span);
	stage(ENDED);
	stage(LOGGING);
	blix_log(BLIX_INFO, body, BLIX_I64("n", 2), BLIX_STR("s", "three"));
	stage(LOGGED);
}

/* What the rehearsal left would hide a place where something is visible before it is written. */
static void scrub(const struct blix_view *view)
{
	for (uint32_t lane = 0; lane < view->n_lanes; lane++) {
		struct blix_ring *ring = blix_view_ring(view, lane);
		uint64_t used = ring->tail - ring->floor;

		for (uint32_t i = 0; i < blix_view_slot_count(view, lane); i++)
			memset(blix_view_slot(view, lane, i)->data, 0xee, 896);
		if (used != ring->tail) /* it never wrapped: all records lie below the tail */
			abort();
		memset(blix_view_ring_data(view, lane) + used, 0xee, view->lane.ring_bytes - used);
	}
}

static void prepare(void *unused)
{
	struct blix_identity identity = {
		.lanes = lanes, .ring_bytes = 16 << 10, .slots = 2, .cells = 1024};

	(void)unused;
	counter = blix_counter_of(BLIX_grpc_requests_total, "CreateVm");
	if (blix_open(scratch.path, &identity) < 0)
		abort();
	truth->exemplar = blix_counter_of(BLIX_raft_proposals_total).exemplar;
	tell(blix_name_of("warm"), "warm"); /* every call site has been passed */
	(void)blix_name_of("stepped");
	counter = blix_counter_of(BLIX_raft_proposals_total); /* its exemplar is due */
	truth->span = (blix_span){.place = 0};
	scrub(&blix_session_->view);
	stage(NOTHING);
}

static void story(void *unused)
{
	(void)unused;
	tell(BLIX_NAME("stepped"), "stepped");
}

/* ---- the judge ------------------------------------------------------------------------------ */

static uint64_t judged, bad, found_open, found_done, found_log, found_exemplar, found_context;
static uint64_t items_seen[8];

static void complain(const char *what, uint64_t number)
{
	if (bad++ < BAD_MAX)
		printf("# stage %u: %s (%" PRIu64 ")\n", truth->stage, what, number);
}

/* The items are a beginning of the story. Returns how many there are. */
static uint32_t judge_items(const struct file_records *r, struct blix_items run)
{
	static const struct {
		uint8_t type;
		const char *key;
	} told[] = {
		{BLIX_ITEM_STRING, "a0"}, {BLIX_ITEM_I64, "a1"},  {BLIX_ITEM_EVENT, "happened"},
		{BLIX_ITEM_F64, "a2"},	  {BLIX_ITEM_STATUS, ""}, {BLIX_ITEM_BOOL, "a3"},
	};
	struct blix_item_seen item;
	uint32_t n = 0;

	while (blix_items_next(&run, &item)) {
		if (n == sizeof(told) / sizeof(told[0]) || item.head.type != told[n].type ||
		    strcmp(file_records_string(r, item.head.key_id), told[n].key) != 0)
			complain("an item that was not told", n);
		if (item.head.type == BLIX_ITEM_STRING &&
		    (item.head.len != 21 || memcmp(item.value, "a text of some length", 21) != 0))
			complain("a torn text", n);
		if (item.head.type == BLIX_ITEM_EVENT) {
			struct blix_item_seen inner;

			if (!file_records_item(r,
					       blix_items_of(item.value + 16, item.head.len - 16u),
					       BLIX_ITEM_STRING, "s", 0, &inner))
				complain("an event without its attributes", n);
		}
		n++;
	}
	if (run.left != 0)
		complain("bytes that are no item", run.left);
	return n;
}

static void judge_spans(const struct file_records *r)
{
	const struct record_read *open = NULL, *done = NULL;

	for (uint32_t i = 0; i < r->n; i++) {
		const struct record_read *s = &r->of[i];

		if (s->type != BLIX_REC_SPAN ||
		    strcmp(file_records_string(r, s->span.name_id), "stepped") != 0)
			continue;
		if (s->open ? open != NULL : done != NULL)
			complain("twice", i);
		*(s->open ? &open : &done) = s;
		items_seen[judge_items(r, file_records_items(s))]++;
	}
	if (open && done)
		complain("both complete and crashed", 0);
	if (truth->stage >= BEGUN && truth->stage <= SAID && !open)
		complain("open, and not found", 0);
	if (truth->stage >= ENDED && !done)
		complain("ended, and not found", 0);
	if (truth->stage == ENDING && !open && !done)
		complain("lost while ending", 0);
	if (truth->stage < ENDING && done)
		complain("complete before its end", 0);
	if (done && done->flags != BLIX_REC_PRIORITY)
		complain("flags", done->flags);
	found_open += open != NULL;
	found_done += done != NULL;
}

static void judge_log(const struct file_records *r)
{
	const struct record_read *log = file_records_log(r, "stepped", 0);
	struct blix_item_seen item;

	if (!log && truth->stage == LOGGED)
		complain("a log was lost", 0);
	if (log && (truth->stage < LOGGING || !file_records_item(r, file_records_items(log),
								 BLIX_ITEM_STRING, "s", 0, &item)))
		complain("a torn log", 0);
	found_log += log != NULL;
}

static void judge_context(const struct blix_view *view)
{
	for (uint32_t lane = 1; lane < view->n_lanes; lane++) {
		const struct blix_thread_context *c = &blix_view_lane(view, lane)->context;

		if (!c->valid) {
			if (truth->attached == 2 && c->owner_tid != 0)
				complain("attached, and not shown", lane);
			continue;
		}
		found_context++;
		if (truth->attached == 0 || memcmp(c->trace_id, truth->span.trace_id, 16) != 0 ||
		    memcmp(c->span_id, truth->span.span_id, 8) != 0 ||
		    c->trace_flags != truth->span.trace_flags)
			complain("a context that is nobody's", lane);
	}
}

static void judge_exemplar(const struct blix_view *view)
{
	struct blix_exemplar e;

	if (!blix_exemplar_try_read(blix_view_exemplar(view, truth->exemplar), &e))
		return;
	found_exemplar++;
	if (e.value != 7 || memcmp(e.trace_id, truth->span.trace_id, 16) != 0 ||
	    memcmp(e.span_id, truth->span.span_id, 8) != 0)
		complain("a torn exemplar", e.value);
}

static bool stopped(void *unused)
{
	static struct file_records first;
	static uint8_t *last;
	static struct truth last_truth;
	const struct blix_view *view;
	size_t lanes_len, exemplars_len;
	struct file_records now;

	(void)unused;
	if (!first.of || !last)
		first = file_records_read(scratch.path);
	view = blix_map_view(first.map);
	lanes_len = view->n_lanes * view->lane_stride;
	exemplars_len = 1024 * sizeof(struct blix_exemplar);
	if (!last)
		last = calloc(1, lanes_len + exemplars_len);
	else if (memcmp(last, view->base + view->lanes_off, lanes_len) == 0 &&
		 memcmp(last + lanes_len, view->base + view->exemplars_off, exemplars_len) == 0 &&
		 memcmp(&last_truth, truth, sizeof(last_truth)) == 0)
		return true;
	memcpy(last, view->base + view->lanes_off, lanes_len);
	memcpy(last + lanes_len, view->base + view->exemplars_off, exemplars_len);
	last_truth = *truth;

	judged++;
	now = file_records_read(scratch.path);
	judge_spans(&now);
	judge_log(&now);
	judge_context(view);
	judge_exemplar(view);
	file_records_free(&now);
	if (truth->stage == LOGGED) { /* the next file is another one */
		free(last);
		last = NULL;
		file_records_free(&first);
		return false;
	}
	return bad < BAD_MAX;
}

static void check_coverage(bool own_lane)
{
	if (!found_open || !found_done || !found_log || !found_exemplar ||
	    (own_lane && !found_context))
		complain("coverage: something was never seen", 0);
	for (uint64_t n = 0; n <= 6; n++)
		if (!items_seen[n])
			complain("coverage: never seen with so many items", n);
}

static int step(uint32_t n_lanes)
{
	struct stepper stepper = {.prepare = prepare, .run = story, .stopped = stopped};
	int64_t steps;

	lanes = n_lanes;
	judged = found_open = found_done = found_log = found_exemplar = found_context = 0;
	memset(items_seen, 0, sizeof(items_seen));
	memset(truth, 0, sizeof(*truth));
	scratch = scratch_new(NULL);
	fflush(stdout);
	steps = stepper_run(&stepper);
	scratch_remove(&scratch);
	if (steps == -ENOSYS) {
		printf("skipped: ptrace is not allowed here\n");
		exit(77);
	}
	if (steps < 0) {
		printf("the story died by itself\n");
		return 1;
	}
	check_coverage(n_lanes > 1);
	printf("%s: %" PRId64 " instructions stepped, %" PRIu64 " deaths judged (%" PRIu64
	       " with the span open, %" PRIu64 " with it done); bad %" PRIu64 "\n",
	       n_lanes > 1 ? "own lane" : "lane 0", steps, judged, found_open, found_done, bad);
	return bad != 0;
}

int main(void)
{
	int failed;

	setenv("BLIXARD_LOG_RATE", "0", 1);
	truth = mmap(NULL, sizeof(*truth), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (truth == MAP_FAILED)
		abort();
	failed = step(3);
	return step(1) | failed;
}
