/* Goal: a process, or one of its threads, may die at any instruction of beginning, ending and
 * dropping spans, of claiming, releasing and settling lanes, and of writing an exemplar; recovery
 * then finds every open span, calls none both complete and crashed, and the sums are exact.
 *
 * Method: a child plays four threads by turns (two with lanes, two without) through a script that
 * takes every path of ring, slots and lanes. It runs one instruction at a time. Whenever one
 * changed shared memory, copies of it are judged: as after SIGKILL of the process, and, for each
 * thread that owns something, as after its death alone: its lanes are reclaimed, a newcomer claims
 * them and writes on, and only then the process dies.
 *
 * Prints what was stepped and judged; exit 0 if every judgement was good, 77 without ptrace. */
#include "shm/atomic.h"
#include "shm/exemplar.h"
#include "shm/lane.h"
#include "shm/slot.h"
#include "test/support/stepper.h"
#include "test/support/tiny_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	LANES = 4,
	SLOTS = 6,
	SLOTS0 = 2,
	IDS_MAX = 2048,
	BAD_MAX = 8, /* enough to stop */
	TID_A = 101, /* own lanes */
	TID_B = 102,
	TID_C = 103, /* lane 0 */
	TID_D = 104, /* comes and goes */
	TID_E = 105, /* dies before the script begins */
	TID_NEW = 201,
};

enum { BEGUN = 1, OPEN = 2, ENDING = 4, ENDED = 8 };

/* What really happened, written by the child beside the telemetry, not through it. */
struct truth {
	uint8_t spans[IDS_MAX];
	uint32_t next;
	uint32_t logs_begun;
	uint32_t logs_done;
	uint32_t contended; /* id of a span that is about to find lane 0 busy; 0 = none */
	struct blix_lane_shared shared;
	struct blix_exemplar exemplar;
};

static struct tiny_file file;
static struct truth *truth;

/* ---- the script (child) --------------------------------------------------------------------- */

struct actor {
	uint32_t tid;
	uint32_t lane;
	uint32_t hint;
	struct blix_ring_writer writer;
};
static struct actor a = {.tid = TID_A}, b = {.tid = TID_B}, c = {.tid = TID_C}, d = {.tid = TID_D};
static struct blix_slot_ref refs[IDS_MAX];

static void fail(const char *what)
{
	fprintf(stderr, "script: %s\n", what);
	abort();
}

static void arrive(struct actor *actor)
{
	if (blix_lane_claim(&file.view, actor->tid, &actor->lane) < 0 ||
	    blix_ring_writer_init(&actor->writer, &file.view, actor->lane) < 0)
		fail("no lane");
}

static uint32_t begin(struct actor *actor)
{
	uint32_t id = truth->next;
	struct blix_slot_head head = tiny_head(id, actor->tid);

	blix_store_release(&truth->spans[id], BEGUN);
	blix_store_release(&truth->next, id + 1);
	if (blix_slot_begin(&file.view, actor->lane, &actor->hint, &head, &refs[id]) < 0)
		blix_store_release(&truth->spans[id], 0); /* OPEN_LIMIT: never was a span */
	else
		blix_store_release(&truth->spans[id], BEGUN | OPEN);
	return id;
}

static void end(struct actor *actor, uint32_t id, uint16_t flags, bool listening)
{
	uint64_t words[TINY_BODY_WORDS_MAX];
	struct blix_ring_entry entry = tiny_entry(id, BLIX_REC_SPAN, flags, words);

	int ret;

	blix_store_release(&truth->spans[id], BEGUN | OPEN | ENDING);
	if (actor->lane == 0)
		ret = blix_slot_end_shared(&file.view, refs[id], &truth->shared, actor->tid, &entry,
					   listening);
	else
		ret = blix_slot_end(&file.view, refs[id], &actor->writer, &entry, listening);
	if (ret != 0 && !listening)
		fail("a span was refused though nobody listens");
	blix_store_release(&truth->spans[id], BEGUN | OPEN | ENDING | ENDED);
}

static void write_log(struct actor *actor, bool listening)
{
	uint64_t words[TINY_BODY_WORDS_MAX];
	struct blix_ring_entry entry = tiny_entry(IDS_MAX, BLIX_REC_LOG, 0, words);
	int reason;

	blix_store_release(&truth->logs_begun, truth->logs_begun + 1);
	reason = blix_ring_write(&actor->writer, &entry, listening);
	if (reason != BLIX_DROP_NONE)
		blix_ring_count_drop(&file.view, actor->lane, BLIX_DROP_LOG,
				     (enum blix_drop_reason)reason);
	blix_store_release(&truth->logs_done, truth->logs_done + 1);
}

/* A span that is more than an eighth of the ring. */
static void end_too_big(struct actor *actor, uint32_t id)
{
	static const uint64_t words[TINY_RING_BYTES / 64];
	struct blix_ring_entry entry = {
		.type = BLIX_REC_SPAN, .n_words = TINY_RING_BYTES / 64, .body = words};

	blix_store_release(&truth->spans[id], BEGUN | OPEN | ENDING);
	blix_slot_end(&file.view, refs[id], &actor->writer, &entry, true);
	blix_store_release(&truth->spans[id], BEGUN | OPEN | ENDING | ENDED);
}

/* A thread that died while it was ending a span, as its last instruction before the tail store or
 * the drop count left it. */
static void die_ending(struct actor *actor, uint32_t id, enum blix_slot_state state)
{
	struct blix_span_slot *slot = blix_slot_get(&file.view, refs[id]);

	truth->spans[id] |= ENDING;
	slot->end_lane = actor->lane;
	slot->end_pos = actor->writer.tail;
	slot->drop_reason = BLIX_DROP_FULL;
	slot->drop_before =
		blix_view_ring(&file.view, actor->lane)->drops[BLIX_DROP_SPAN][BLIX_DROP_FULL];
	slot->ctl = refs[id].gen << 8 | state;
}

static void fill_ring(struct actor *actor, uint64_t up_to)
{
	while (actor->writer.tail < up_to)
		end(actor, begin(actor), BLIX_REC_PRIORITY, true);
}

static uint32_t left_by_e[3];

static void prepare(void *arg)
{
	struct actor e = {.tid = TID_E};

	(void)arg;
	arrive(&a);
	arrive(&b);
	arrive(&e);
	fill_ring(&a, TINY_RING_BYTES - 1200);
	fill_ring(&b, TINY_RING_BYTES - 900);
	for (int i = 0; i < 3; i++)
		left_by_e[i] = begin(&e);
	end(&c, begin(&c), 0, true);
	die_ending(&e, left_by_e[0], BLIX_SLOT_ENDING);
	die_ending(&e, left_by_e[1], BLIX_SLOT_DROPPING);
}

static bool is_tid(void *arg, uint32_t tid)
{
	return tid == *(uint32_t *)arg;
}

static void acknowledge_all(struct actor *actor)
{
	blix_ring_ack(&file.view, actor->lane, actor->writer.tail, actor->writer.seq, 0);
}

static void script_lossless(void)
{
	uint32_t first = begin(&a), second = begin(&a), third = begin(&b);

	end(&a, first, BLIX_REC_PRIORITY, true);  /* own lane */
	end(&b, second, BLIX_REC_PRIORITY, true); /* another thread's lane */
	for (int i = 0; i < 8; i++)
		end(&a, begin(&a), BLIX_REC_PRIORITY, true); /* to the brim, then FULL */
	end(&a, third, 0, true);			     /* SHED */
	write_log(&a, true);
	end_too_big(&a, begin(&a));
	blix_store_release(&blix_view_consumer(&file.view)->wake_armed, 1);
	end(&b, begin(&b), BLIX_REC_PRIORITY, true); /* wakes */
	acknowledge_all(&a);
	for (int i = 0; i < 3; i++)
		end(&a, begin(&b), 0, true); /* the floor moves up to what was acknowledged */
	write_log(&a, true);
}

static void script_overwrite(void)
{
	for (int i = 0; i < 4; i++)
		end(&b, begin(&a), 0, false);
	write_log(&b, false);
}

static void script_shared(void)
{
	struct blix_lane_shared other = {0};
	uint32_t id = begin(&c);

	end(&c, id, 0, true);
	end(&a, begin(&c), BLIX_REC_PRIORITY, true); /* begun without, ended with a lane */
	end(&c, begin(&a), 0, true);		     /* and the reverse */
	id = begin(&c);
	if (blix_lane_trylock_shared(&file.view, &other, TID_D) < 0)
		fail("lane 0 is busy");
	blix_store_release(&truth->contended, id);
	end(&c, id, 0, true);
	blix_lane_unlock_shared(&file.view, &other);
	end(&c, begin(&c), 0, true); /* the lock word was moved by another: writer read afresh */
}

static void script_lanes(void)
{
	uint32_t dead = TID_E;
	uint32_t kept;

	if (blix_lane_reclaim_dead(&file.view, is_tid, &dead) != 1)
		fail("the dead thread's lane was not reclaimed");
	arrive(&d);
	kept = begin(&d);
	end(&d, left_by_e[0], 0, true); /* reopened by settling */
	end(&d, left_by_e[1], 0, true);
	if (blix_lane_release(&file.view, d.lane, d.tid) < 0)
		fail("release");
	arrive(&d);
	end(&d, kept, 0, true);
	for (int i = 0; i < 2 * SLOTS + SLOTS0 + 1; i++)
		begin(&d); /* own slots, lane 0's, OPEN_LIMIT; all stay open */
}

static struct blix_exemplar exemplar_of(uint64_t id)
{
	struct blix_exemplar exemplar = {
		.value = id, .t_ns = tiny_hash(id), .bucket = (uint32_t)id};

	memset(exemplar.trace_id, (int)id, sizeof(exemplar.trace_id));
	memset(exemplar.span_id, (int)id + 1, sizeof(exemplar.span_id));
	return exemplar;
}

static void script(void *arg)
{
	(void)arg;
	for (uint64_t id = 1; id <= 3; id++) {
		struct blix_exemplar exemplar = exemplar_of(id);

		blix_exemplar_write(&truth->exemplar, &exemplar);
	}
	script_lossless();
	script_overwrite();
	script_shared();
	script_lanes();
}

/* ---- the judge (parent) --------------------------------------------------------------------- */

static struct blix_view copy; /* what is judged */
static struct truth known;
static uint8_t *last_file; /* as of the last judgement */
static struct truth last_truth;
static uint32_t tids[] = {TID_A, TID_B, TID_C, TID_D};
enum { TIDS = sizeof(tids) / sizeof(tids[0]) };
static uint64_t kills, deaths[TIDS], bad;
static uint64_t states_seen[BLIX_SLOT_DROPPING + 1];

struct verdict {
	uint8_t complete[IDS_MAX];
	uint8_t crashed[IDS_MAX];
	uint64_t torn;
	uint64_t committed; /* by seq: what was overwritten counts too */
};

static void read_lane(uint32_t lane, struct verdict *verdict)
{
	uint64_t buf[TINY_RECORD_WORDS_MAX];
	struct blix_ring_reader reader;
	uint64_t id;
	int n;

	blix_ring_reader_init(&reader, &copy, lane);
	while ((n = blix_ring_next(&reader, buf, TINY_RECORD_WORDS_MAX)) != 0) {
		if (n < 0 || !tiny_record_ok(buf, n, &id) || id > IDS_MAX)
			verdict->torn++;
		else if (id < IDS_MAX)
			verdict->complete[id]++;
		if (n < 0 && reader.quarantined)
			break;
	}
	verdict->torn += reader.lost + reader.duplicates + reader.implausible + reader.corrupt;
	verdict->committed += reader.expect;
}

static void visit(void *arg, uint32_t lane, uint32_t index, enum blix_slot_state state,
		  const struct blix_span_slot *slot)
{
	struct verdict *verdict = arg;
	uint64_t id;

	(void)lane;
	(void)index;
	states_seen[state]++;
	if (!tiny_slot_ok(slot, &id) || id >= IDS_MAX)
		verdict->torn++;
	else
		verdict->crashed[id]++;
}

static uint64_t count_drops(void)
{
	uint64_t sum = 0;

	for (uint32_t lane = 0; lane < LANES; lane++)
		for (int kind = 0; kind < BLIX_DROP_KINDS; kind++)
			for (int reason = 0; reason < BLIX_DROP_REASONS; reason++)
				if (reason != BLIX_DROP_OPEN_LIMIT)
					sum += blix_view_ring(&copy, lane)->drops[kind][reason];
	return sum;
}

/* What is wrong with one span; NULL if nothing. */
static const char *judge_span(const struct verdict *verdict, uint32_t id)
{
	uint8_t span = known.spans[id];

	if (verdict->complete[id] && verdict->crashed[id])
		return "both complete and crashed";
	if (verdict->complete[id] > 1 || verdict->crashed[id] > 1)
		return "twice";
	if ((span & ENDED) && verdict->crashed[id])
		return "crashed after it had ended";
	if ((span & OPEN) && !(span & ENDING) && !verdict->crashed[id])
		return "open, and not found";
	if (!(span & ENDING) && verdict->complete[id])
		return "complete before it ended";
	if (!span && verdict->crashed[id])
		return "found, but never begun";
	return NULL;
}

static void report(const char *what, const char *wrong, uint64_t number)
{
	if (bad++ < BAD_MAX)
		printf("# %s: %s (%" PRIu64 ")\n", what, wrong, number);
}

static void judge_sums(const char *what, const struct verdict *verdict)
{
	uint64_t ended = 0, crashed_ending = 0, accounted, expected_max;
	uint32_t contended = known.contended;

	for (uint32_t id = 0; id < known.next; id++) {
		ended += (known.spans[id] & ENDING) != 0;
		crashed_ending += (known.spans[id] & ENDING) && verdict->crashed[id];
	}
	accounted = verdict->committed + count_drops() + crashed_ending;
	expected_max = ended + known.logs_begun;
	/* The one documented exception: lane 0 was busy and the kill fell between count and FREE.
	 */
	if (contended && verdict->crashed[contended] && !(known.spans[contended] & ENDED) &&
	    blix_view_ring(&copy, 0)->drops[BLIX_DROP_SPAN][BLIX_DROP_CONTENDED])
		expected_max++;
	if (accounted > expected_max)
		report(what, "more accounted for than happened", accounted - expected_max);
	if (accounted < ended + known.logs_done)
		report(what, "not accounted for", ended + known.logs_done - accounted);
}

static void judge_exemplar(const char *what)
{
	struct blix_exemplar exemplar, expected;

	if (!blix_exemplar_try_read(&known.exemplar, &exemplar))
		return; /* never written, or died writing: ignored */
	expected = exemplar_of(exemplar.value);
	expected.seq = exemplar.seq;
	if (exemplar.value == 0 || memcmp(&exemplar, &expected, sizeof(expected)) != 0)
		report(what, "torn exemplar", exemplar.value);
}

static void judge(const char *what)
{
	static struct verdict verdict;
	struct blix_slots_found found;

	memset(&verdict, 0, sizeof(verdict));
	for (uint32_t lane = 0; lane < LANES; lane++)
		read_lane(lane, &verdict);
	found = blix_slots_recover(&copy, visit, &verdict);
	states_seen[BLIX_SLOT_FILLING] += found.torn;
	if (verdict.torn || found.invalid)
		report(what, "torn, damaged or invalid", verdict.torn + found.invalid);
	for (uint32_t id = 0; id < known.next; id++) {
		const char *wrong = judge_span(&verdict, id);

		if (wrong)
			report(what, wrong, id);
	}
	judge_sums(what, &verdict);
	judge_exemplar(what);
}

static void take_copy(void)
{
	memcpy(copy.base, last_file, copy.size);
	known = last_truth;
	/* The writer of lane 0 belongs to the process, whose memory the newcomer shares. */
	known.shared.writer.view = &copy;
	known.shared.writer.ring = blix_view_ring(&copy, 0);
	known.shared.writer.data = blix_view_ring_data(&copy, 0);
}

/* One span of the newcomer, begun and ended to the end, as the truth notes. */
static void newcomer_span(uint32_t lane, struct blix_ring_writer *writer)
{
	uint64_t words[TINY_BODY_WORDS_MAX];
	uint32_t id = known.next++;
	struct blix_slot_head head = tiny_head(id, TID_NEW);
	struct blix_ring_entry entry = tiny_entry(id, BLIX_REC_SPAN, BLIX_REC_PRIORITY, words);
	struct blix_slot_ref ref;
	uint32_t hint = 0;

	if (blix_slot_begin(&copy, lane, &hint, &head, &ref) < 0)
		return;
	known.spans[id] = BEGUN | OPEN | ENDING | ENDED;
	if (lane == 0)
		(void)blix_slot_end_shared(&copy, ref, &known.shared, TID_NEW, &entry, true);
	else
		(void)blix_slot_end(&copy, ref, writer, &entry, true);
}

static void newcomer(void)
{
	struct blix_ring_writer writer = {0};
	uint32_t lane;

	if (blix_lane_claim(&copy, TID_NEW, &lane) < 0)
		lane = 0;
	else if (blix_ring_writer_init(&writer, &copy, lane) < 0)
		report("newcomer", "found a damaged ring in lane", lane);
	for (int i = 0; i < 3; i++) {
		newcomer_span(lane, &writer);
		newcomer_span(0, NULL);
	}
}

static bool stopped(void *arg)
{
	(void)arg;
	if (memcmp(last_file, file.view.base, file.view.size) == 0 &&
	    memcmp(&last_truth, truth, sizeof(last_truth)) == 0)
		return true;
	memcpy(last_file, file.view.base, file.view.size);
	last_truth = *truth;

	take_copy();
	kills++;
	judge("process killed");
	for (int i = 0; i < TIDS; i++) {
		take_copy();
		if (blix_lane_reclaim_dead(&copy, is_tid, &tids[i]) == 0)
			continue;
		deaths[i]++;
		newcomer();
		judge("thread died, lane reclaimed");
	}
	return bad < BAD_MAX;
}

/* A script that misses a path proves nothing about it. */
static void check_coverage(void)
{
	static const struct {
		uint32_t lane;
		enum blix_drop_kind kind;
		enum blix_drop_reason reason;
	} drops[] = {
		{1, BLIX_DROP_SPAN, BLIX_DROP_FULL},	  {1, BLIX_DROP_SPAN, BLIX_DROP_SHED},
		{1, BLIX_DROP_SPAN, BLIX_DROP_TOO_BIG},	  {1, BLIX_DROP_LOG, BLIX_DROP_SHED},
		{0, BLIX_DROP_SPAN, BLIX_DROP_CONTENDED}, {3, BLIX_DROP_SPAN, BLIX_DROP_OPEN_LIMIT},
	};

	for (size_t i = 0; i < sizeof(drops) / sizeof(drops[0]); i++)
		if (!blix_view_ring(&file.view, drops[i].lane)
			     ->drops[drops[i].kind][drops[i].reason])
			report("coverage", "no drop for reason", drops[i].reason);
	for (uint64_t state = BLIX_SLOT_FILLING; state <= BLIX_SLOT_DROPPING; state++)
		if (!states_seen[state])
			report("coverage", "no death in slot state", state);
	for (int i = 0; i < TIDS; i++)
		if (!deaths[i])
			report("coverage", "no death of thread", tids[i]);
	if (!blix_view_ring(&file.view, 1)->floor || !blix_view_ring(&file.view, 2)->floor)
		report("coverage", "the floor never moved", 0);
	if (blix_view_consumer(&file.view)->wake_armed)
		report("coverage", "nobody was woken", 0);
}

int main(void)
{
	struct stepper stepper = {.prepare = prepare, .run = script, .stopped = stopped};
	int64_t steps;

	file = tiny_file_new(LANES, SLOTS, SLOTS0);
	truth = mmap(NULL, sizeof(*truth), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	last_file = calloc(1, file.view.size);
	copy = tiny_view_at(&file.view, calloc(1, file.view.size));
	if (truth == MAP_FAILED || !last_file || !copy.base)
		abort();
	truth->next = 1;

	steps = stepper_run(&stepper);
	if (steps == -ENOSYS) {
		printf("skipped: ptrace is not allowed here\n");
		return 77;
	}
	if (steps < 0) {
		printf("the script died by itself\n");
		return 1;
	}
	check_coverage();
	printf("%" PRId64 " instructions stepped; judged %" PRIu64
	       " kills of the process and %" PRIu64 " of a thread; slots found FILLING %" PRIu64
	       " OPEN %" PRIu64 " ENDING %" PRIu64 " DROPPING %" PRIu64 "; bad %" PRIu64 "\n",
	       steps, kills, deaths[0] + deaths[1] + deaths[2] + deaths[3],
	       states_seen[BLIX_SLOT_FILLING], states_seen[BLIX_SLOT_OPEN],
	       states_seen[BLIX_SLOT_ENDING], states_seen[BLIX_SLOT_DROPPING], bad);
	tiny_file_done(&file);
	return bad != 0;
}
