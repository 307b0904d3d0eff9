/* Goal: an agent may die at any instruction of reading, cutting, releasing and acknowledging: each
 * record is then either with whoever took it over, or still in the ring for the next agent.
 *
 * Method: the real drain, decoder and custody run in a child on a real file with records on three
 * lanes. A receiver holds four batches; one instruction at a time it notes in shared memory what it
 * answers for now and releases them, the second before the first. Then it reads, cuts and releases
 * some more. After each instruction that changed something a successor's cursors, on a copy of the
 * file, must find all that was not noted, in order and without loss; and in the end nothing.
 *
 * exit 0 if every judgement was good, 77 without ptrace. */
#include "agent/input/drain.h"
#include "agent/input/resource.h"
#include "shm/ring.h"
#include "test/support/record_bytes.h"
#include "test/support/stepper.h"
#include "test/support/tiny_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	LANES = 3,
	ROUNDS = 4,
	EACH = 3,
	MORE = 2,
	IDS = LANES * (ROUNDS * EACH + MORE),
	BAD_MAX = 8
};

static char path[64];
static struct shm_file *file;
static uint32_t name;
static struct blix_ring_writer writers[LANES];
static uint64_t next_id;
static volatile uint8_t *answered; /* by id; shared with the child */

static uint8_t *last_consumer, last_answered[IDS + 1];
static size_t consumer_bytes;
static struct blix_view copy;
static uint64_t judged, bad;
static uint32_t left; /* unread, at the last judgement */

/* ---- the node -------------------------------------------------------------------------------- */

/* `each` spans and logs, in turn, on each lane. */
static void write_records(int each)
{
	static struct record_bytes r;

	for (int i = 0; i < each * LANES; i++) {
		struct blix_log_body log = {.event_id = BLIX_NO_ID, .severity = 9};
		uint64_t id = ++next_id;
		bool is_span = i % 2 == 0;

		r.len = 0;
		memcpy(log.span_id, &id, sizeof(id));
		log.trace_id[0] = 1;
		if (is_span)
			record_span(&r, id, name, 5000);
		else
			record_put(&r, &log, sizeof(log));
		if (record_write(&writers[i % LANES], is_span ? BLIX_REC_SPAN : BLIX_REC_LOG, 0,
				 5000, &r, true) != BLIX_DROP_NONE)
			abort();
	}
}

static void start_node(void)
{
	const struct shm_file_options options = {.format = {.lanes = LANES, .slots = 6},
						 .node_id = 1};

	snprintf(path, sizeof(path), "/dev/shm/blix-step-custody-%d", (int)getpid());
	file = shm_file_new(path, &options);
	name = shm_file_string(file, "Work");
	for (uint32_t lane = 0; lane < LANES; lane++) {
		shm_file_own_lane(file, lane, lane > 0 ? (uint32_t)getpid() : 0, 1);
		blix_ring_writer_init(&writers[lane], &file->view, lane);
	}
}

/* ---- the agent (child) ----------------------------------------------------------------------- */

static struct drain *d;
static struct batch *held[2 * (ROUNDS + 1)];
static uint32_t n_held;

static void hold(void *arg, struct batch *b)
{
	(void)arg;
	if (n_held == sizeof(held) / sizeof(held[0]))
		abort();
	held[n_held++] = b;
}

static void attach(void *arg)
{
	const struct drain_options options = {.wants = {true, true}, .batch = hold};
	static struct drain_totals totals;
	struct batch_resource *resource;
	char reason[BLIX_REASON_MAX];
	struct blix_map *map;

	(void)arg;
	if (blix_map_open(path, &(struct blix_map_options){.consumer = true}, &map, reason) < 0 ||
	    resource_new(blix_map_identity(map), NULL, 0, &resource) < 0 ||
	    drain_new(map, resource, &options, &totals, &d) < 0)
		abort();
	for (int i = 0; i < ROUNDS; i++) {
		write_records(EACH); /* the rings are shared: the parent's file sees them */
		drain_poll(d, 1);
		drain_flush(d);
	}
	write_records(MORE);
}

/* Into somebody else's custody, then out of our hands. */
static void answer(struct batch *b)
{
	for (uint32_t i = 0; i < b->n; i++) {
		const uint8_t *at =
			b->signal == BATCH_TRACES ? b->spans[i].span_id : b->logs[i].span_id;
		uint64_t id;

		memcpy(&id, at, sizeof(id));
		if (id == 0 || id > IDS)
			abort();
		answered[id] = 1;
	}
	batch_release(b);
}

static void agent(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i + 1 < n_held; i += 2) { /* each pair the wrong way round */
		answer(held[i + 1]);
		answer(held[i]);
	}
	n_held = 0;
	drain_poll(d, 1);
	drain_flush(d);
	while (n_held > 0)
		answer(held[--n_held]);
}

/* ---- the judge ------------------------------------------------------------------------------- */

static void report(const char *wrong, uint64_t number)
{
	if (bad++ < BAD_MAX)
		printf("# %s (%" PRIu64 ")\n", wrong, number);
}

static uint64_t id_of(const uint64_t *words)
{
	struct blix_span_body span;
	struct blix_log_body log;
	struct blix_record head;
	uint64_t id;

	memcpy(&head, words, sizeof(head));
	memcpy(&span, words + BLIX_RING_HEAD_WORDS, sizeof(span));
	memcpy(&log, words + BLIX_RING_HEAD_WORDS, sizeof(log));
	memcpy(&id, head.type == BLIX_REC_SPAN ? span.span_id : log.span_id, sizeof(id));
	return id <= IDS ? id : 0;
}

/* What a successor reads of a lane. */
static void read_lane(uint32_t lane, uint8_t seen[IDS + 1])
{
	uint64_t words[512] = {0};
	struct blix_ring_reader reader;
	int n;

	if (blix_ring_reader_resume(&reader, &copy, lane) < 0)
		report("the acknowledgement is implausible on lane", lane);
	while ((n = blix_ring_next(&reader, words, 512)) > 0) {
		seen[id_of(words)]++;
		left++;
	}
	if (n < 0 || reader.lost || reader.implausible || reader.duplicates || reader.corrupt)
		report("loss or damage on lane", lane);
}

static void judge(void)
{
	uint8_t seen[IDS + 1] = {0};

	judged++;
	left = 0;
	for (uint32_t lane = 0; lane < LANES; lane++)
		read_lane(lane, seen);
	if (seen[0])
		report("records of nobody", seen[0]);
	for (uint64_t id = 1; id <= IDS; id++)
		if (!answered[id] && seen[id] != 1)
			report("nobody answers for it, and it is not in the ring", id);
}

static bool stopped(void *arg)
{
	(void)arg;
	if (memcmp(last_consumer, file->view.consumer, consumer_bytes) == 0 &&
	    memcmp(last_answered, (const void *)answered, sizeof(last_answered)) == 0)
		return true;
	memcpy(last_consumer, file->view.consumer, consumer_bytes);
	memcpy(last_answered, (const void *)answered, sizeof(last_answered));
	memcpy(copy.base, file->view.base, copy.size);
	judge();
	return bad < BAD_MAX;
}

int main(void)
{
	struct stepper stepper = {.prepare = attach, .run = agent, .stopped = stopped};
	int64_t steps;

	start_node();
	consumer_bytes = sizeof(struct blix_consumer) + LANES * sizeof(struct blix_consumer_lane);
	answered = mmap(NULL, IDS + 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	last_consumer = calloc(1, consumer_bytes);
	copy = tiny_view_at(&file->view, calloc(1, file->view.size));
	if (answered == MAP_FAILED || !last_consumer || !copy.base)
		abort();
	steps = stepper_run(&stepper);
	shm_file_free(file);
	if (steps == -ENOSYS) {
		printf("skipped: ptrace is not allowed here\n");
		return 77;
	}
	printf("%" PRId64 " instructions stepped, judged %" PRIu64 " kills; %" PRIu32
	       " records left; bad %" PRIu64 "\n",
	       steps, judged, left, bad);
	return steps < 1000 || judged < IDS || left > 0 || bad > 0;
}
