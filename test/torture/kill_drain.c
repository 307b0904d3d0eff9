/* Goal: through kill -9 of node and agent at any moment each span arrives, complete or crashed, never
 * as both, never not at all, unless the node counted it dropped.
 *
 * Method: rounds of some milliseconds. A node process begins and ends spans; agents (the real drain,
 * decoder, custody and recovery) are killed and restarted on its file. An agent's receiver keeps
 * batches for a while, then writes their ids into memory of the test, which stands for a spool, and
 * only then releases them. Then the node is killed, and one agent after another until one of them
 * sees the file done. Afterwards the two accounts are compared.
 *
 * kill_drain [seconds, default 5]; SEED= repeats a run. exit 0 if they agree. */
#include "agent/input/drain.h"
#include "agent/input/resource.h"
#include "shm/slot.h"
#include "test/support/record_bytes.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { IDS_MAX = 1 << 17, HELD = 8, KEPT = 3, DONE_EXIT = 42 };
enum { OPEN = 1, ENDED = 2, DROPPED = 4, COMPLETE = 8, CRASHED = 16 };

struct account {
	uint32_t next;
	uint8_t truth[IDS_MAX]; /* by the node */
	uint8_t seen[IDS_MAX];	/* by the agents' spool */
	uint64_t again;		/* arrived more than once */
};

static struct account *account;
static char path[64];
static uint64_t random_state;

static uint32_t next_random(uint32_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 11) % below;
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* ---- the node -------------------------------------------------------------------------------- */

static void begin(struct shm_file *f, uint32_t name, uint32_t *hint, struct blix_slot_ref *ref,
		  uint32_t *ret_id)
{
	struct blix_slot_head head = {.name_id = name, .kind = 1, .start_ns = 1};
	uint32_t id = ++account->next;

	if (id >= IDS_MAX)
		pause(); /* enough for this round */
	head.trace_id[0] = head.span_id[7] = 1;
	memcpy(head.span_id, &id, sizeof(id));
	if (blix_slot_begin(&f->view, 1, hint, &head, ref) < 0)
		_exit(1);
	account->truth[id] = OPEN;
	*ret_id = id;
}

static void end(struct shm_file *f, struct blix_ring_writer *writer, struct blix_slot_ref ref,
		uint32_t name, uint32_t id)
{
	static struct record_bytes r;
	struct blix_span_body body = {.name_id = name, .kind = 1, .start_ns = 1, .end_ns = 2};

	body.trace_id[0] = body.span_id[7] = 1;
	memcpy(body.span_id, &id, sizeof(id));
	r.len = 0;
	record_put(&r, &body, sizeof(body));
	record_text(&r, BLIX_ITEM_STRING, name, "value");
	struct blix_ring_entry entry = {.type = BLIX_REC_SPAN,
					.n_words = r.len / 8,
					.t_ns = 2,
					.body = (const uint64_t *)(const void *)r.at};
	account->truth[id] |=
		blix_slot_end(&f->view, ref, writer, &entry, true) == 0 ? ENDED : DROPPED;
}

static void node(void)
{
	const struct shm_file_options options = {.format = {.ring_bytes = 32768, .slots = HELD + 4},
						 .node_id = 1};
	struct shm_file *f = shm_file_new(path, &options);
	uint32_t name = shm_file_string(f, "Work"), hint = 0, ids[HELD];
	struct blix_slot_ref refs[HELD];
	struct blix_ring_writer writer;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	shm_file_own_lane(f, 1, (uint32_t)getpid(), 1);
	blix_ring_writer_init(&writer, &f->view, 1);
	for (uint32_t i = 0; i < HELD; i++)
		begin(f, name, &hint, &refs[i], &ids[i]);
	for (uint32_t n = 0;; n++) {
		uint32_t i = next_random(HELD);

		end(f, &writer, refs[i], name, ids[i]);
		begin(f, name, &hint, &refs[i], &ids[i]);
		if (n % 16 == 0)
			usleep(1);
	}
}

/* ---- the agent ------------------------------------------------------------------------------- */

static struct batch *kept[KEPT];
static uint32_t n_kept;

/* Into the spool, then out of our hands. */
static void commit(struct batch *b)
{
	for (uint32_t i = 0; i < b->n; i++) {
		uint32_t id;

		memcpy(&id, b->spans[i].span_id, sizeof(id));
		if (id >= IDS_MAX)
			_exit(1); /* torn */
		account->again += account->seen[id] != 0;
		account->seen[id] |= b->spans[i].crashed ? CRASHED : COMPLETE;
	}
	batch_release(b);
}

static void keep(void *arg, struct batch *b)
{
	(void)arg;
	if (n_kept == KEPT) {
		uint32_t i = next_random(KEPT); /* in any order */

		commit(kept[i]);
		kept[i] = kept[--n_kept];
	}
	kept[n_kept++] = b;
}

static void agent(void)
{
	const struct drain_options options = {
		.wants = {[BATCH_TRACES] = true}, .delay_ms = {1, 1}, .batch = keep};
	struct drain_totals totals = {0};
	struct batch_resource *resource;
	char reason[BLIX_REASON_MAX];
	struct blix_map *map;
	struct drain *d;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (blix_map_open(path, &(struct blix_map_options){.consumer = true}, &map, reason) < 0)
		_exit(0); /* not there yet */
	if (resource_new(blix_map_identity(map), NULL, 0, &resource) < 0 ||
	    drain_new(map, resource, &options, &totals, &d) < 0)
		_exit(1);
	for (;;) {
		bool gone = blix_map_owner_state(map) == BLIX_OWNER_GONE;
		bool more;

		blix_map_refresh(map);
		more = drain_poll(d, 1);
		if (gone && !more && drain_finish(d))
			_exit(totals.corrupt || totals.lost ? 1 : DONE_EXIT);
		while (gone && n_kept > 0)
			commit(kept[--n_kept]);
		usleep(100);
	}
}

/* ---- the rounds ------------------------------------------------------------------------------ */

static pid_t start(void (*run)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		random_state ^= (uint64_t)getpid() * UINT64_C(0x9e3779b97f4a7c15) | 1;
		run();
	}
	return pid;
}

static int stop(pid_t pid)
{
	int status = 0;

	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return status;
}

/* An agent that is killed after a while. -1: it failed; 1: it saw the file done. */
static int one_agent(uint32_t us_max)
{
	pid_t pid = start(agent);
	int status;

	usleep(next_random(us_max));
	status = stop(pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == DONE_EXIT)
		return 1;
	return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? -1 : 0;
}

/* The node's account against the spool's. */
static const char *compare(uint32_t *ret_crashed)
{
	uint32_t undecided = 0;

	for (uint32_t id = 1; id <= account->next && id < IDS_MAX; id++) {
		uint8_t truth = account->truth[id], seen = account->seen[id];

		*ret_crashed += seen == CRASHED;
		if (seen == (COMPLETE | CRASHED))
			return "a span is both complete and crashed";
		if (truth & ENDED && seen != COMPLETE)
			return "an ended span is missing or crashed";
		if (truth & DROPPED && seen)
			return "a span that was counted dropped arrived";
		if (truth == OPEN && !seen)
			undecided++; /* at most the one whose drop was counted as it died */
	}
	return undecided > 1 ? "open spans are missing" : NULL;
}

int main(int argc, char **argv)
{
	double end_s = now_s() + (argc > 1 ? atof(argv[1]) : 5);
	const char *seed = getenv("SEED"), *wrong = NULL;
	uint64_t spans = 0, crashed = 0, kills = 0, again = 0, rounds = 0;

	random_state = seed ? strtoull(seed, NULL, 0) | 1 : (uint64_t)time(NULL) * 2 + 1;
	printf("SEED=%#" PRIx64 "\n", random_state);
	snprintf(path, sizeof(path), "/dev/shm/blix-kill-drain-%d", (int)getpid());
	account = mmap(NULL, sizeof(*account), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (account == MAP_FAILED)
		return 1;
	for (; !wrong && now_s() < end_s; rounds++) {
		double patience = now_s() + 60;
		uint32_t round_crashed = 0, us_max = 20000;
		pid_t pid;
		int r = 0;

		memset(account, 0, sizeof(*account));
		unlink(path);
		pid = start(node);
		for (uint32_t n = 1 + next_random(4); n > 0 && r >= 0; n--, kills++)
			r = one_agent(us_max);
		stop(pid);
		kills++;
		/* An agent that dies often still gets there in the end. */
		while (r == 0 && now_s() < patience && access(path, F_OK) == 0) {
			r = one_agent(us_max);
			us_max += 2000;
			kills++;
		}
		if (access(path, F_OK) != 0)
			continue; /* killed before its file was there */
		wrong = r < 0 ? "an agent failed" : r == 0 ? "never done" : compare(&round_crashed);
		spans += account->next;
		crashed += round_crashed;
		again += account->again;
	}
	unlink(path);
	printf("%" PRIu64 " rounds, %" PRIu64 " kills, %" PRIu64 " spans, %" PRIu64
	       " of them crashed, %" PRIu64 " delivered again\n",
	       rounds, kills, spans, crashed, again);
	if (wrong)
		printf("WRONG: %s\n", wrong);
	return wrong || spans == 0 || crashed == 0 ? 1 : 0;
}
