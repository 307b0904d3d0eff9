/* Goal: an agent may die at any instruction of reading, delivering and acknowledging; its
 * successor then delivers every record that is still in the ring, and knows the loss exactly.
 *
 * Method: a child drains a ring in small batches, delivers each (a count per record, in shared
 * memory) and acknowledges it, one instruction at a time. After each instruction that changed
 * something, copies are judged twice: a successor drains at once; and a writer that believes an
 * agent listens first fills all the room the acknowledgements give it, then the successor drains.
 * Rings: one never overwritten, one overwritten before the agent came (real loss), and one
 * overwritten by the writer between two lives of agents.
 *
 * exit 0 if every judgement was good, 77 without ptrace. */
#include "shm/ring.h"
#include "test/support/stepper.h"
#include "test/support/tiny_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LANE = 1, BATCH = 3, IDS_MAX = 1024, BAD_MAX = 8 };

struct delivered {
	uint8_t count[IDS_MAX];
};

static struct tiny_file file;
static struct delivered *delivered; /* shared with the child */
static uint8_t *last_file;
static struct delivered last_delivered;
static struct blix_view copy;
static uint32_t n_written; /* before the agent came */
static uint64_t true_lost; /* of those, by the time it came */
static uint64_t judged, bad;

/* ---- the agent (child, and its successors in the parent) ------------------------------------ */

/* Deliver up to `max` records. The stepped agent does not check them: that would be nine tenths of
 * its instructions, and its successors check the same records. */
static int drain(struct blix_ring_reader *reader, struct delivered *to, int max, bool check)
{
	uint64_t buf[TINY_RECORD_WORDS_MAX];
	uint64_t id;
	int done = 0;

	while (done < max) {
		int n = blix_ring_next(reader, buf, TINY_RECORD_WORDS_MAX);

		if (n == 0)
			break;
		if (n < 0 || (check && !tiny_record_ok(buf, n, &id)))
			return -1;
		id = buf[BLIX_RING_HEAD_WORDS];
		if (id >= IDS_MAX)
			return -1;
		to->count[id]++;
		done++;
	}
	return done;
}

static void agent(void *arg)
{
	struct blix_ring_reader reader;

	(void)arg;
	if (blix_ring_reader_resume(&reader, &file.view, LANE) < 0)
		abort();
	while (drain(&reader, delivered, BATCH, false) > 0)
		blix_ring_ack(&file.view, LANE, reader.pos, reader.expect, reader.lost);
}

/* ---- the judge ------------------------------------------------------------------------------ */

static void report(const char *what, const char *wrong, uint64_t number)
{
	if (bad++ < BAD_MAX)
		printf("# %s: %s (%" PRIu64 ")\n", what, wrong, number);
}

static void judge(const char *what, const struct delivered *to, uint32_t n_records)
{
	struct blix_ring_reader reader;
	struct delivered all = *to;
	uint64_t missing = 0;

	judged++;
	if (blix_ring_reader_resume(&reader, &copy, LANE) < 0)
		report(what, "the acknowledgement is implausible", 0);
	if (drain(&reader, &all, IDS_MAX, true) < 0)
		report(what, "damaged or torn", reader.pos);
	if (reader.implausible || reader.duplicates || reader.corrupt)
		report(what, "seq does not follow", reader.implausible + reader.duplicates);
	for (uint32_t id = 0; id < n_records; id++) {
		missing += all.count[id] == 0;
		if (all.count[id] > 2)
			report(what, "delivered more than once a life", id);
	}
	if (missing != true_lost)
		report(what, "records never delivered, beside those lost", missing - true_lost);
	if (reader.lost != true_lost)
		report(what, "loss is said to be", reader.lost);
}

/* The writer goes on while no agent lives; it believes one does, so it may take acknowledged room
 * only. Returns how many records there are now. */
static uint32_t write_on(void)
{
	uint64_t words[TINY_BODY_WORDS_MAX];
	struct blix_ring_writer writer;
	uint32_t id = n_written;

	if (blix_ring_writer_init(&writer, &copy, LANE) < 0)
		report("writer", "found its ring damaged", 0);
	for (;; id++) {
		struct blix_ring_entry entry =
			tiny_entry(id, BLIX_REC_SPAN, BLIX_REC_PRIORITY, words);

		if (blix_ring_write(&writer, &entry, true) != BLIX_DROP_NONE)
			return id;
	}
}

static bool stopped(void *arg)
{
	(void)arg;
	if (memcmp(last_file, file.view.base, file.view.size) == 0 &&
	    memcmp(&last_delivered, delivered, sizeof(last_delivered)) == 0)
		return true;
	memcpy(last_file, file.view.base, file.view.size);
	last_delivered = *delivered;

	memcpy(copy.base, last_file, copy.size);
	judge("agent killed", &last_delivered, n_written);
	memcpy(copy.base, last_file, copy.size);
	judge("agent killed, writer went on", &last_delivered, write_on());
	return bad < BAD_MAX;
}

/* ---- the rings ------------------------------------------------------------------------------ */

/* Write records until there are `n`; nobody listens. */
static void write_up_to(uint32_t n)
{
	uint64_t words[TINY_BODY_WORDS_MAX];
	struct blix_ring_writer writer;

	if (blix_ring_writer_init(&writer, &file.view, LANE) < 0)
		abort();
	for (; n_written < n; n_written++) {
		struct blix_ring_entry entry = tiny_entry(n_written, BLIX_REC_SPAN, 0, words);

		if (blix_ring_write(&writer, &entry, false) != BLIX_DROP_NONE)
			abort();
	}
}

/* What an agent that reads all of it now will have lost. */
static uint64_t lost_now(void)
{
	struct blix_ring_reader reader;
	struct delivered ignored = {0};

	if (blix_ring_reader_resume(&reader, &file.view, LANE) < 0 ||
	    drain(&reader, &ignored, IDS_MAX, true) < 0)
		abort();
	return reader.lost;
}

static int64_t run(uint32_t n_before, uint32_t n_between)
{
	struct stepper stepper = {.run = agent, .stopped = stopped};
	int64_t steps;

	file = tiny_file_new(2, 1, 1);
	last_file = calloc(1, file.view.size);
	copy = tiny_view_at(&file.view, calloc(1, file.view.size));
	if (!last_file || !copy.base)
		abort();
	memset(delivered, 0, sizeof(*delivered));
	memset(&last_delivered, 0, sizeof(last_delivered));
	n_written = 0;
	write_up_to(n_before);
	if (n_between) {
		agent(NULL);
		write_up_to(n_before + n_between);
	}
	true_lost = lost_now();
	if ((true_lost > 0) != (n_before > 100 || n_between > 100))
		report("coverage", "the ring was not what it should be", true_lost);
	steps = stepper_run(&stepper);
	free(last_file);
	free(copy.base);
	tiny_file_done(&file);
	return steps;
}

int main(void)
{
	static const struct {
		uint32_t before, between;
	} rings[] = {{50, 0}, {150, 0}, {50, 150}};
	int64_t steps = 0;

	delivered = mmap(NULL, sizeof(*delivered), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (delivered == MAP_FAILED)
		abort();
	for (size_t i = 0; i < sizeof(rings) / sizeof(rings[0]) && bad < BAD_MAX; i++) {
		int64_t ret = run(rings[i].before, rings[i].between);

		if (ret == -ENOSYS) {
			printf("skipped: ptrace is not allowed here\n");
			return 77;
		}
		if (ret < 0) {
			printf("the agent died by itself\n");
			return 1;
		}
		steps += ret;
	}
	printf("%" PRId64 " instructions stepped, judged %" PRIu64
	       " kills of the agent; bad %" PRIu64 "\n",
	       steps, judged, bad);
	return bad != 0;
}
