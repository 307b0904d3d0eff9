/* Goal: through kill -9 of node and agent at any moment each span arrives, complete or crashed, never
 * as both, never not at all, unless the node counted it dropped; and so does each log.
 *
 * Method: rounds of some milliseconds. A node process begins and ends spans and writes logs, in turn
 * on three lanes, of which one is the shared lane 0; agents (the real drain,
 * decoder, custody and recovery) are killed and restarted on its file. An agent's receiver keeps
 * batches for a while, then writes their ids into memory of the test, which stands for a spool, and
 * only then releases them. Then the node is killed, and one agent after another until one of them
 * sees the file done. Afterwards the two accounts are compared.
 *
 * kill_drain [seconds, default 5]; SEED= repeats a run. exit 0 if they agree. */
#include "agent/input/drain.h"
#include "agent/input/resource.h"
#include "shm/lane.h"
#include "shm/slot.h"
#include "test/support/record_bytes.h"

#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { IDS_MAX = 1 << 17, LANES = 3, HELD = 8, KEPT = 3, DONE_EXIT = 42 };
enum { OPEN = 1, ENDED = 2, DROPPED = 4, COMPLETE = 8, CRASHED = 16 };

struct account {
	uint32_t next;
	uint8_t truth[IDS_MAX]; /* by the node */
	uint8_t seen[IDS_MAX];	/* by the agents' spool */
	uint32_t next_log;
	uint8_t log_truth[IDS_MAX], log_seen[IDS_MAX];
	uint64_t again;		 /* arrived more than once */
	uint64_t of_lane[LANES]; /* arrived, as the batches' origins say */
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

static struct blix_lane_shared shared;
static struct blix_ring_writer writers[LANES];

static void begin(struct shm_file *f, uint32_t lane, uint32_t name, uint32_t *hint,
		  struct blix_slot_ref *ref, uint32_t *ret_id)
{
	struct blix_slot_head head = {.name_id = name, .kind = 1, .start_ns = 1};
	uint32_t id = ++account->next;

	if (id >= IDS_MAX)
		pause(); /* enough for this round */
	head.trace_id[0] = head.span_id[7] = 1;
	memcpy(head.span_id, &id, sizeof(id));
	if (blix_slot_begin(&f->view, lane, hint, &head, ref) < 0)
		_exit(1);
	account->truth[id] = OPEN;
	*ret_id = id;
}

static void end(struct shm_file *f, uint32_t lane, struct blix_slot_ref ref, uint32_t name,
		uint32_t id)
{
	static struct record_bytes r;
	struct blix_span_body body = {.name_id = name, .kind = 1, .start_ns = 1, .end_ns = 2};
	int e;

	body.trace_id[0] = body.span_id[7] = 1;
	memcpy(body.span_id, &id, sizeof(id));
	r.len = 0;
	record_put(&r, &body, sizeof(body));
	record_text(&r, BLIX_ITEM_STRING, name, "value");
	struct blix_ring_entry entry = {.type = BLIX_REC_SPAN,
					.n_words = r.len / 8,
					.t_ns = 2,
					.body = (const uint64_t *)(const void *)r.at};
	if (lane == 0)
		e = blix_slot_end_shared(&f->view, ref, &shared, 1, &entry, true);
	else
		e = blix_slot_end(&f->view, ref, &writers[lane], &entry, true);
	account->truth[id] |= e == 0 ? ENDED : DROPPED;
}

/* Its id where a log has the span it belongs to. */
static void write_log(struct shm_file *f, uint32_t lane)
{
	static struct record_bytes r;
	struct blix_log_body body = {.event_id = BLIX_NO_ID, .severity = 9};
	uint32_t id = ++account->next_log;
	int reason;

	if (id >= IDS_MAX)
		pause();
	body.trace_id[0] = 1;
	memcpy(body.span_id, &id, sizeof(id));
	r.len = 0;
	record_put(&r, &body, sizeof(body));
	record_text(&r, BLIX_ITEM_BODY, 0, "a line");
	account->log_truth[id] = OPEN;
	if (lane == 0 && blix_lane_trylock_shared(&f->view, &shared, 1) < 0)
		_exit(1); /* there is no other thread */
	reason = record_write(lane == 0 ? &shared.writer : &writers[lane], BLIX_REC_LOG, 0, 2, &r,
			      true);
	if (lane == 0)
		blix_lane_unlock_shared(&f->view, &shared);
	account->log_truth[id] |= reason == BLIX_DROP_NONE ? ENDED : DROPPED;
}

static void node(void)
{
	const struct shm_file_options options = {
		.format = {.lanes = LANES, .ring_bytes = 32768, .slots = LANES * (HELD + 4)},
		.node_id = 1};
	struct shm_file *f = shm_file_new(path, &options);
	uint32_t name = shm_file_string(f, "Work"), hints[LANES] = {0}, ids[LANES][HELD];
	struct blix_slot_ref refs[LANES][HELD];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint32_t lane = 0; lane < LANES; lane++) {
		shm_file_own_lane(f, lane, lane > 0 ? (uint32_t)getpid() : 0, 1);
		if (lane > 0)
			blix_ring_writer_init(&writers[lane], &f->view, lane);
		for (uint32_t i = 0; i < HELD; i++)
			begin(f, lane, name, &hints[lane], &refs[lane][i], &ids[lane][i]);
	}
	for (uint32_t n = 0;; n++) {
		uint32_t i = next_random(HELD), lane = next_random(LANES);

		end(f, lane, refs[lane][i], name, ids[lane][i]);
		begin(f, lane, name, &hints[lane], &refs[lane][i], &ids[lane][i]);
		if (n % 3 == 0)
			write_log(f, next_random(LANES));
		if (n % 16 == 0)
			usleep(1);
	}
}

/* ---- the agent ------------------------------------------------------------------------------- */

static struct batch *kept[KEPT];
static uint32_t n_kept;

static void note(uint8_t *seen, const uint8_t span_id[8], uint8_t as)
{
	uint32_t id;

	memcpy(&id, span_id, sizeof(id));
	if (id >= IDS_MAX)
		_exit(1); /* torn */
	account->again += seen[id] != 0;
	seen[id] |= as;
}

/* Into the spool, then out of our hands. */
static void commit(struct batch *b)
{
	for (uint32_t i = 0; i < b->n_origins; i++)
		if (b->origins[i].lane < LANES)
			account->of_lane[b->origins[i].lane]++;
	for (uint32_t i = 0; i < b->n; i++) {
		if (b->signal == BATCH_TRACES)
			note(account->seen, b->spans[i].span_id,
			     b->spans[i].crashed ? CRASHED : COMPLETE);
		else if (b->logs[i].event_name.len == 0) /* the agent's own has one */
			note(account->log_seen, b->logs[i].span_id, COMPLETE);
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
		.wants = {true, true}, .delay_ms = {1, 1}, .batch = keep};
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
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		return -1;
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
	for (uint32_t id = 1; id <= account->next_log && id < IDS_MAX; id++) {
		if (account->log_truth[id] & ENDED && !account->log_seen[id])
			return "a log is missing";
		if (account->log_truth[id] & DROPPED && account->log_seen[id])
			return "a log that was counted dropped arrived";
	}
	return undecided > 1 ? "open spans are missing" : NULL;
}

int main(int argc, char **argv)
{
	double end_s = now_s() + (argc > 1 ? atof(argv[1]) : 5);
	const char *seed = getenv("SEED"), *wrong = NULL;
	uint64_t spans = 0, logs = 0, crashed = 0, kills = 0, again = 0, rounds = 0;
	uint64_t of_lane[LANES] = {0};
	bool all_lanes = true;

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
		int r = 0, status;

		memset(account, 0, sizeof(*account));
		unlink(path);
		pid = start(node);
		for (uint32_t n = 1 + next_random(4); n > 0 && r >= 0; n--, kills++)
			r = one_agent(us_max);
		status = stop(pid);
		kills++;
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			wrong = "the node failed";
		/* An agent that dies often still gets there in the end. */
		while (r == 0 && now_s() < patience && access(path, F_OK) == 0) {
			r = one_agent(us_max);
			us_max += 2000;
			kills++;
		}
		if (access(path, F_OK) != 0)
			continue; /* killed before its file was there */
		if (!wrong)
			wrong = r < 0	 ? "an agent failed"
				: r == 0 ? "never done"
					 : compare(&round_crashed);
		spans += account->next;
		logs += account->next_log;
		for (int i = 0; i < LANES; i++)
			of_lane[i] += account->of_lane[i];
		crashed += round_crashed;
		again += account->again;
	}
	unlink(path);
	printf("%" PRIu64 " rounds, %" PRIu64 " kills, %" PRIu64 " spans, %" PRIu64
	       " of them crashed, %" PRIu64 " logs, %" PRIu64 " delivered again\n",
	       rounds, kills, spans, crashed, logs, again);
	for (int i = 0; i < LANES; i++)
		all_lanes &= of_lane[i] > 0;
	if (wrong)
		printf("WRONG: %s\n", wrong);
	return wrong || spans == 0 || logs == 0 || crashed == 0 || !all_lanes ? 1 : 0;
}
