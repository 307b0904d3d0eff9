/* Goal: ring, slots, lanes and exemplars have no data race, and their promises hold between
 * threads of one process. Method: everything that normally runs in several processes runs here in
 * threads over one mapping, where ThreadSanitizer can see it (built with -DBLIX_TSAN, see
 * shm/atomic.h): two writers with lanes that hand spans to each other, two on lane 0, an agent
 * that acknowledges, two private readers, a viewer of open spans, a reader of exemplars.
 *
 * A plain main, since the sanitizer and Criterion's runner do not go together. exit 0 = pass. */
#include "shm/atomic.h"
#include "shm/exemplar.h"
#include "shm/lane.h"
#include "shm/slot.h"
#include "test/support/tiny_file.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	WRITERS = 4,
	LANED = 2, /* the others share lane 0 */
	LANES = 3,
	SLOTS = 8,
	SPANS = 100000, /* of each writer */
	CHURN = 64,	/* spans between two changes of lane */
};

static struct tiny_file file;
static struct blix_lane_shared shared;
static struct blix_exemplar exemplar;
static struct blix_slot_ref handed[LANED]; /* a span for the other writer; gen 0 = none */
static uint64_t handed_id[LANED];
static uint32_t handed_full[LANED];
static bool listening = true;
static uint32_t writers_left = WRITERS;
static uint64_t ended, refused, delivered, lost, looked_at, bad;

static void complain(const char *what, uint64_t number)
{
	if (__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED) < 8)
		printf("# %s (%" PRIu64 ")\n", what, number);
}

static bool writers_run(void)
{
	return blix_load_acquire(&writers_left) > 0;
}

/* ---- writers -------------------------------------------------------------------------------- */

struct writer {
	uint32_t index;
	uint32_t tid;
	uint32_t lane;
	uint32_t hint;
	struct blix_ring_writer ring;
};

static void change_lane(struct writer *writer)
{
	if (writer->index >= LANED)
		return;
	if (writer->lane != 0 && blix_lane_release(&file.view, writer->lane, writer->tid) < 0)
		complain("a lane changed its owner", writer->lane);
	writer->tid += WRITERS;
	if (blix_lane_claim(&file.view, writer->tid, &writer->lane) < 0 ||
	    blix_ring_writer_init(&writer->ring, &file.view, writer->lane) < 0)
		complain("no lane, or a damaged one", writer->lane);
}

static void end(struct writer *writer, struct blix_slot_ref ref, uint64_t id)
{
	uint64_t words[TINY_BODY_WORDS_MAX];
	struct blix_ring_entry entry = tiny_entry(id, BLIX_REC_SPAN, (uint16_t)(id & 1), words);
	bool listens = blix_load_relaxed(&listening);
	int ret;

	if (writer->lane == 0)
		ret = blix_slot_end_shared(&file.view, ref, &shared, writer->tid, &entry, listens);
	else
		ret = blix_slot_end(&file.view, ref, &writer->ring, &entry, listens);
	(void)__atomic_fetch_add(ret == 0 ? &ended : &refused, 1, __ATOMIC_RELAXED);
}

/* Laned writers exchange every eighth span, to end what another thread began. */
static bool hand_over(struct writer *writer, struct blix_slot_ref ref, uint64_t id)
{
	uint32_t other = 1 - writer->index;

	if (writer->index >= LANED || id % 8 != 0 || blix_load_acquire(&handed_full[other]))
		return false;
	handed[other] = ref;
	handed_id[other] = id;
	blix_store_release(&handed_full[other], 1);
	return true;
}

static void take_over(struct writer *writer)
{
	if (writer->index >= LANED || !blix_load_acquire(&handed_full[writer->index]))
		return;
	end(writer, handed[writer->index], handed_id[writer->index]);
	blix_store_release(&handed_full[writer->index], 0);
}

static void *write_spans(void *arg)
{
	struct writer writer = {.index = *(uint32_t *)arg, .tid = 100 + *(uint32_t *)arg};

	for (uint64_t i = 0; i < SPANS; i++) {
		uint64_t id = (uint64_t)writer.index << 32 | i;
		struct blix_slot_head head = tiny_head(id, writer.tid);
		struct blix_exemplar sample = {.value = id, .t_ns = ~id};
		struct blix_slot_ref ref;

		if (i % CHURN == 0)
			change_lane(&writer);
		if (blix_slot_begin(&file.view, writer.lane, &writer.hint, &head, &ref) == 0 &&
		    !hand_over(&writer, ref, id))
			end(&writer, ref, id);
		take_over(&writer);
		if (blix_exemplar_due(&exemplar, ~id))
			(void)blix_exemplar_write(&exemplar, &sample);
	}
	(void)__atomic_fetch_sub(&writers_left, 1, __ATOMIC_ACQ_REL);
	return NULL;
}

/* ---- readers -------------------------------------------------------------------------------- */

/* All there is in one lane. */
static void read_lane(struct blix_ring_reader *reader)
{
	uint64_t buf[TINY_RECORD_WORDS_MAX];
	uint64_t id;
	int n;

	while ((n = blix_ring_next(reader, buf, TINY_RECORD_WORDS_MAX)) > 0)
		if (!tiny_record_ok(buf, n, &id))
			complain("torn record, lane", reader->lane);
	if (reader->corrupt || reader->implausible || reader->duplicates)
		complain("a healthy lane is taken for damaged", reader->lane);
}

static void *read_privately(void *arg)
{
	struct blix_ring_reader readers[LANES];

	for (uint32_t lane = 0; lane < LANES; lane++)
		blix_ring_reader_init(&readers[lane], &file.view, lane);
	while (writers_run())
		for (uint32_t lane = 0; lane < LANES; lane++)
			read_lane(&readers[lane]);
	return arg;
}

/* Acknowledges, says now and then that it does not listen, and leaves the final account. */
static void *read_as_agent(void *arg)
{
	struct blix_ring_reader readers[LANES];
	uint32_t round = 0;
	bool last;

	for (uint32_t lane = 0; lane < LANES; lane++)
		(void)blix_ring_reader_resume(&readers[lane], &file.view, lane);
	do {
		last = !writers_run();
		blix_store_release(&blix_view_consumer(&file.view)->wake_armed, 1);
		blix_store_relaxed(&listening, round++ / 64 % 4 != 0);
		for (uint32_t lane = 0; lane < LANES; lane++) {
			struct blix_ring_reader *reader = &readers[lane];

			read_lane(reader);
			blix_ring_ack(&file.view, lane, reader->pos, reader->expect, reader->lost);
			(void)blix_ring_fill(&file.view, lane);
		}
	} while (!last);
	for (uint32_t lane = 0; lane < LANES; lane++) {
		delivered += readers[lane].delivered;
		lost += readers[lane].lost;
	}
	return arg;
}

static void visit(void *arg, uint32_t lane, uint32_t index, enum blix_slot_state state,
		  const struct blix_span_slot *slot)
{
	uint64_t id;

	(void)index;
	(void)state;
	if (!tiny_slot_ok(slot, &id))
		complain("mixture of two spans, lane", lane);
	*(uint64_t *)arg += 1;
}

static bool nobody_is_dead(void *arg, uint32_t tid)
{
	(void)arg;
	(void)tid;
	return false;
}

/* The viewer of open spans, with housekeeping's look at the lanes. */
static void *view_open_spans(void *arg)
{
	while (writers_run()) {
		struct blix_exemplar sample;

		(void)blix_slots_recover(&file.view, visit, &looked_at);
		(void)blix_lane_reclaim_dead(&file.view, nobody_is_dead, NULL);
		if (blix_exemplar_try_read(&exemplar, &sample) && sample.t_ns != ~sample.value)
			complain("torn exemplar", sample.value);
	}
	return arg;
}

int main(void)
{
	void *(*const others[])(void *) = {read_as_agent, read_privately, read_privately,
					   view_open_spans};
	enum { OTHERS = sizeof(others) / sizeof(others[0]) };
	pthread_t threads[WRITERS + OTHERS];
	uint32_t indexes[WRITERS];
	uint64_t unended = 0;

	file = tiny_file_new(LANES, SLOTS, SLOTS);
	for (uint32_t i = 0; i < OTHERS; i++)
		if (pthread_create(&threads[WRITERS + i], NULL, others[i], NULL) != 0)
			abort();
	for (uint32_t i = 0; i < WRITERS; i++) {
		indexes[i] = i;
		if (pthread_create(&threads[i], NULL, write_spans, &indexes[i]) != 0)
			abort();
	}
	for (int i = 0; i < WRITERS + OTHERS; i++)
		if (pthread_join(threads[i], NULL) != 0)
			abort();

	unended = handed_full[0] + handed_full[1];
	if (ended != delivered + lost)
		complain("committed, and neither delivered nor lost", ended - delivered - lost);
	if (ended + refused + unended != WRITERS * (uint64_t)SPANS)
		complain("spans without an end",
			 WRITERS * (uint64_t)SPANS - ended - refused - unended);
	if (!delivered || !looked_at || !refused)
		complain("something never happened", 0);
	printf("committed %" PRIu64 " = delivered %" PRIu64 " + lost %" PRIu64 "; refused %" PRIu64
	       "; open spans seen %" PRIu64 "; bad %" PRIu64 "\n",
	       ended, delivered, lost, refused, looked_at, bad);
	tiny_file_done(&file);
	return bad != 0;
}
