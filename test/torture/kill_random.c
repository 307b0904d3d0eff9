/* Goal: whatever is killed, frozen or restarted, and whenever: no torn record, no span both
 * complete and crashed, none missing, every loss counted, counters exact.
 *
 * Method: rounds of a few milliseconds, each with a node process of four threads (two claim and
 * release lanes all the time, two share lane 0; spans wander between them), an agent, a second
 * reader on a read-only mapping that is frozen now and then, and a recovery that is itself killed.
 * Each writes what it did into memory of the test; afterwards the two accounts are compared. Modes:
 *   0  an agent always listens, the writers know it               nothing may be lost
 *   1  agents are killed and restarted, the writers believe in one     nothing may be lost
 *   2  no agent at first, then one; the beat tells the writers
 *   3  everything: agents killed, frozen, late; the beat tells the writers
 *
 * kill_random [seconds, default 5]. Prints kills a minute. exit 0 if both accounts agree. */
#include "shm/atomic.h"
#include "shm/lane.h"
#include "shm/slot.h"
#include "test/support/tiny_file.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	THREADS = 4, /* 0 and 1 have lanes, 2 and 3 share lane 0 */
	LANED_THREADS = 2,
	LANES = 4,
	SLOTS = 24,
	SLOTS0 = 40,
	IDS_MAX = 1 << 16, /* spans of one thread in one round */
	HELD_MAX = 16,	   /* open spans a thread keeps */
	MAIL_MAX = 16,
	CHURN_OPS = 100,
	CELL = 3,
	STILL_TICKS = 8, /* of the node's housekeeping, until it believes that nobody listens */
	TICK_US = 300,
};

enum { BEGUN = 1, OPEN = 2, ENDING = 4, ENDED = 8, SHARED = 16 };

/* What the node did. */
struct truth {
	uint8_t spans[THREADS][IDS_MAX];
	uint32_t next[THREADS];
	uint32_t believe; /* the writers take an agent for granted */
	uint32_t stop;	  /* the agent acknowledges all it has and ends */
};

/* What the others saw. */
struct seen {
	uint8_t complete[THREADS][IDS_MAX];
	uint8_t crashed[THREADS][IDS_MAX];	  /* by the last, whole run of recovery */
	uint8_t crashed_before[THREADS][IDS_MAX]; /* by runs that were killed */
	uint64_t torn, corrupt;
	uint64_t second_ok, second_torn, second_corrupt, second_lapped;
	uint64_t wakes;
};

static struct tiny_file file;
static struct truth *truth;
static struct seen *seen;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t random_state;

static uint64_t random_below(uint64_t n)
{
	random_state += UINT64_C(0x9e3779b97f4a7c15);
	return tiny_hash(random_state) % n;
}

/* ---- the node ------------------------------------------------------------------------------- */

static bool listening;
static struct blix_lane_shared shared;

struct held {
	uint64_t id;
	struct blix_slot_ref ref;
};

/* Spans handed from one thread to the next; one sender, one receiver. */
struct mailbox {
	_Alignas(BLIX_LINE) uint64_t taken;
	_Alignas(BLIX_LINE) uint64_t put;
	struct held mail[MAIL_MAX];
};
static struct mailbox mailboxes[THREADS];

struct thread {
	uint32_t index;
	uint32_t tid;
	uint32_t lane;
	uint32_t hint;
	uint32_t n_held;
	uint64_t random;
	struct blix_ring_writer writer;
	struct held held[HELD_MAX];
};

static uint8_t *span_of(uint64_t id)
{
	return &truth->spans[id >> 32][(uint32_t)id];
}

static uint64_t thread_random(struct thread *thread)
{
	thread->random += UINT64_C(0x9e3779b97f4a7c15);
	return tiny_hash(thread->random);
}

/* Each owner is a new thread as far as the file can tell. */
static void thread_arrive(struct thread *thread)
{
	thread->tid += THREADS;
	if (thread->index >= LANED_THREADS)
		return;
	if (blix_lane_claim(&file.view, thread->tid, &thread->lane) < 0 ||
	    blix_ring_writer_init(&thread->writer, &file.view, thread->lane) < 0)
		abort();
}

static void thread_leave(struct thread *thread)
{
	if (thread->lane != 0 && blix_lane_release(&file.view, thread->lane, thread->tid) < 0)
		abort();
}

static void count_span(struct thread *thread)
{
	uint64_t *cell = &blix_view_cells(&file.view, thread->lane)[CELL];

	if (thread->lane == 0)
		(void)blix_add_shared(cell, 1);
	else
		blix_add_owned(cell, 1);
}

static void span_begin(struct thread *thread, bool give_away)
{
	struct mailbox *box = &mailboxes[(thread->index + 1) % THREADS];
	uint64_t id = (uint64_t)thread->index << 32 | truth->next[thread->index];
	struct blix_slot_head head = tiny_head(id, thread->tid);
	struct held held = {.id = id};

	blix_store_release(span_of(id), BEGUN);
	if (blix_slot_begin(&file.view, thread->lane, &thread->hint, &head, &held.ref) < 0) {
		blix_store_release(span_of(id), 0);
		return;
	}
	blix_store_release(span_of(id), BEGUN | OPEN);
	blix_store_release(&truth->next[thread->index], truth->next[thread->index] + 1);
	count_span(thread);
	if (give_away && box->put - blix_load_acquire(&box->taken) < MAIL_MAX) {
		box->mail[box->put % MAIL_MAX] = held;
		blix_store_release(&box->put, box->put + 1);
		return;
	}
	thread->held[thread->n_held++] = held;
}

static void span_end(struct thread *thread, struct held held, uint16_t flags)
{
	uint64_t words[TINY_BODY_WORDS_MAX];
	struct blix_ring_entry entry = tiny_entry(held.id, BLIX_REC_SPAN, flags, words);
	uint8_t *span = span_of(held.id);
	bool listens = blix_load_relaxed(&listening);
	int ret;

	blix_store_release(span, *span | ENDING | (thread->lane == 0 ? SHARED : 0));
	if (thread->lane == 0)
		ret = blix_slot_end_shared(&file.view, held.ref, &shared, thread->tid, &entry,
					   listens);
	else
		ret = blix_slot_end(&file.view, held.ref, &thread->writer, &entry, listens);
	/* Not what the protocol allows, whatever happens around us. */
	if (ret == -ESTALE || (ret != 0 && !listens && thread->lane != 0))
		abort();
	blix_store_release(span, *span | ENDED);
}

static void take_mail(struct thread *thread)
{
	struct mailbox *box = &mailboxes[thread->index];
	struct held held;

	if (blix_load_acquire(&box->put) == box->taken)
		return;
	held = box->mail[box->taken % MAIL_MAX];
	blix_store_release(&box->taken, box->taken + 1);
	span_end(thread, held, 0);
}

static void *thread_run(void *arg)
{
	struct thread thread = {.index = *(uint32_t *)arg, .tid = 1000 + *(uint32_t *)arg};

	thread.random = now_ns() ^ (uint64_t)thread.index << 56;
	thread_arrive(&thread);
	while (truth->next[thread.index] < IDS_MAX - 1) {
		uint64_t r = thread_random(&thread);

		if (r % 4 != 0 && thread.n_held < HELD_MAX) {
			span_begin(&thread, r >> 8 & 1);
		} else if (thread.n_held > 0) {
			uint32_t which = (uint32_t)(r >> 16) % thread.n_held;
			struct held held = thread.held[which];

			thread.held[which] = thread.held[--thread.n_held];
			span_end(&thread, held, (r >> 32) % 16 ? 0 : BLIX_REC_PRIORITY);
		}
		if ((r >> 36) % 2)
			take_mail(&thread);
		if ((r >> 40) % CHURN_OPS == 0) {
			thread_leave(&thread);
			thread_arrive(&thread);
		}
		if ((r >> 50) % 1024 == 0)
			usleep((unsigned int)(r >> 60) * 8);
	}
	for (;;)
		pause();
	return NULL;
}

/* Housekeeping: counts its own ticks, compares the beat for change, reads no clock of the agent. */
static void node(void)
{
	static uint32_t indexes[THREADS] = {0, 1, 2, 3};
	pthread_t threads[THREADS];
	uint32_t last = 0, still = 0;
	bool known = false;

	listening = truth->believe;
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, thread_run, &indexes[i]) != 0)
			abort();
	for (;;) {
		uint32_t beat = blix_load_relaxed(&blix_view_consumer(&file.view)->beat);

		still = beat == last ? still + 1 : 0;
		known |= beat != last;
		last = beat;
		blix_store_relaxed(&listening, truth->believe || (known && still < STILL_TICKS));
		usleep(TICK_US);
	}
}

/* ---- agent, second reader, recovery --------------------------------------------------------- */

static bool id_is_valid(uint64_t id)
{
	return id >> 32 < THREADS && (uint32_t)id < IDS_MAX;
}

/* Read up to `max` records. How many were read. */
static int drain(struct blix_ring_reader *reader, int max)
{
	uint64_t buf[TINY_RECORD_WORDS_MAX];
	uint64_t id;
	int done = 0;

	for (; done < max; done++) {
		int n = blix_ring_next(reader, buf, TINY_RECORD_WORDS_MAX);

		if (n == 0 || n == -EAGAIN || n == -ENOTRECOVERABLE)
			break;
		if (n > 0 && tiny_record_ok(buf, n, &id) && id_is_valid(id))
			seen->complete[id >> 32][(uint32_t)id] = 1;
		else
			seen->torn++;
	}
	seen->corrupt += reader->corrupt + reader->implausible + reader->duplicates;
	reader->corrupt = 0;
	reader->implausible = 0;
	reader->duplicates = 0;
	return done;
}

static void acknowledge(const struct blix_ring_reader *reader)
{
	blix_ring_ack(&file.view, reader->lane, reader->pos, reader->expect, reader->lost);
}

static void resume_all(struct blix_ring_reader readers[LANES])
{
	for (uint32_t lane = 0; lane < LANES; lane++)
		if (blix_ring_reader_resume(&readers[lane], &file.view, lane) < 0)
			seen->corrupt++;
}

/* Sleep until a ring is a quarter full, or a little while. */
static void wait_for_wake(void)
{
	uint32_t *armed = &blix_view_consumer(&file.view)->wake_armed;
	struct timespec limit = {.tv_nsec = 1000000};

	blix_store_release(armed, 1);
	for (uint32_t lane = 0; lane < LANES; lane++)
		if (blix_ring_fill(&file.view, lane).unacknowledged_bytes > TINY_RING_BYTES / 4)
			return;
	if (syscall(SYS_futex, armed, FUTEX_WAIT, 1, &limit, NULL, 0) == 0)
		seen->wakes++;
}

static void agent(void)
{
	struct blix_consumer *consumer = blix_view_consumer(&file.view);
	struct blix_ring_reader readers[LANES];

	resume_all(readers);
	for (;;) {
		bool last = blix_load_acquire(&truth->stop);

		blix_store_relaxed(&consumer->beat, blix_load_relaxed(&consumer->beat) + 1);
		for (uint32_t lane = 0; lane < LANES; lane++)
			if ((drain(&readers[lane], 40) && random_below(4)) || last)
				acknowledge(&readers[lane]);
		if (last)
			return;
		if (random_below(16) == 0)
			wait_for_wake();
	}
}

/* Sees the file read-only: it would die of a store. */
static void second_reader(void)
{
	struct blix_ring_reader readers[LANES];
	uint64_t buf[TINY_RECORD_WORDS_MAX];
	struct blix_view view;
	uint64_t id;
	void *base = mmap(NULL, file.view.size, PROT_READ, MAP_SHARED, file.fd, 0);

	if (base == MAP_FAILED)
		abort();
	view = tiny_view_at(&file.view, base);
	for (uint32_t lane = 0; lane < LANES; lane++)
		blix_ring_reader_init(&readers[lane], &view, lane);
	for (uint32_t lane = 0;; lane = (lane + 1) % LANES) {
		struct blix_ring_reader *reader = &readers[lane];

		for (int i = 0; i < 64; i++) {
			int n = blix_ring_next(reader, buf, TINY_RECORD_WORDS_MAX);

			if (n == 0)
				break;
			if (n > 0 && tiny_record_ok(buf, n, &id) && id_is_valid(id))
				seen->second_ok++;
			else if (n > 0)
				seen->second_torn++;
		}
		seen->second_corrupt += reader->corrupt + reader->implausible + reader->duplicates;
		reader->corrupt = 0;
		reader->implausible = 0;
		reader->duplicates = 0;
		seen->second_lapped += reader->lapped;
		reader->lapped = 0;
	}
}

static void visit(void *arg, uint32_t lane, uint32_t index, enum blix_slot_state state,
		  const struct blix_span_slot *slot)
{
	uint8_t(*crashed)[IDS_MAX] = arg;
	uint64_t id;

	(void)lane;
	(void)index;
	(void)state;
	if (tiny_slot_ok(slot, &id) && id_is_valid(id))
		crashed[id >> 32][(uint32_t)id] = 1;
	else
		seen->torn++;
}

/* Drain what is left, acknowledge as it goes, then look for unfinished spans. */
static void recovery(uint8_t (*crashed)[IDS_MAX])
{
	struct blix_ring_reader readers[LANES];
	struct blix_slots_found found;

	resume_all(readers);
	for (uint32_t lane = 0; lane < LANES; lane++) {
		while (drain(&readers[lane], 7) > 0)
			acknowledge(&readers[lane]);
		acknowledge(&readers[lane]); /* loss may have been all there was */
	}
	found = blix_slots_recover(&file.view, visit, crashed);
	seen->corrupt += found.invalid;
}

static void recovery_killed(void)
{
	recovery(seen->crashed_before);
}

static void recovery_whole(void)
{
	recovery(seen->crashed);
}

/* ---- a round -------------------------------------------------------------------------------- */

struct totals {
	uint64_t rounds, node_kills, agent_kills, agent_freezes, recovery_kills;
	uint64_t begun, ended, delivered, lost, dropped, crashed, crashed_ending, over_reported;
	uint64_t second_ok, second_lapped, wakes;
	uint64_t bad;
};
static struct totals totals;

static pid_t spawn(void (*run)(void))
{
	uint64_t seed = random_below(UINT64_MAX);
	pid_t pid = fork();

	if (pid < 0)
		abort();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody outlives the test */
		random_state = seed;
		run();
		_exit(0);
	}
	return pid;
}

/* A child that ended badly has found something out. Returns whether our signal was its end. */
static bool end_child(pid_t pid, int signal_number)
{
	int status;

	if (signal_number)
		kill(pid, signal_number);
	if (waitpid(pid, &status, 0) != pid)
		abort();
	if (WIFEXITED(status) ? WEXITSTATUS(status) != 0 : WTERMSIG(status) != SIGKILL) {
		printf("# a child died by itself, status 0x%x\n", (unsigned int)status);
		totals.bad++;
	}
	return WIFSIGNALED(status);
}

static void freeze(pid_t pid, unsigned int us)
{
	kill(pid, SIGSTOP);
	usleep(us);
	kill(pid, SIGCONT);
}

/* Let it run for `duration_ns`, and disturb it as the mode says. Returns the agent of the moment.
 */
static pid_t disturb(int mode, pid_t agent_pid, pid_t second_pid, uint64_t duration_ns)
{
	uint64_t start = now_ns();

	while (now_ns() - start < duration_ns) {
		usleep((unsigned int)(60 + random_below(400)));
		if (agent_pid && mode % 2 == 1 && random_below(6) == 0) {
			totals.agent_kills += end_child(agent_pid, SIGKILL);
			if (mode == 3)
				usleep((unsigned int)random_below(4000));
			agent_pid = spawn(agent);
		}
		if (agent_pid && mode == 3 && random_below(8) == 0) {
			freeze(agent_pid, (unsigned int)random_below(5000));
			totals.agent_freezes++;
		}
		if (random_below(5) == 0)
			freeze(second_pid, (unsigned int)random_below(600));
		if (!agent_pid && now_ns() - start > duration_ns / 2)
			agent_pid = spawn(agent);
	}
	return agent_pid;
}

static void recover_with_kills(void)
{
	for (uint64_t kills = random_below(3); kills > 0; kills--) {
		pid_t pid = spawn(recovery_killed);

		usleep((unsigned int)random_below(120));
		totals.recovery_kills += end_child(pid, SIGKILL);
	}
	(void)end_child(spawn(recovery_whole), 0);
}

static void run_round(int mode)
{
	pid_t agent_pid = 0, second_pid, node_pid;

	truth->believe = mode < 2;
	if (mode != 2) {
		agent_pid = spawn(agent);
		while (!blix_load_acquire(&blix_view_consumer(&file.view)->beat))
			usleep(20);
	}
	second_pid = spawn(second_reader);
	node_pid = spawn(node);
	agent_pid = disturb(mode, agent_pid, second_pid, 800000 + random_below(7000000));
	totals.node_kills += end_child(node_pid, SIGKILL);
	(void)end_child(second_pid, SIGKILL);
	if (agent_pid && mode % 2 == 0) {
		blix_store_release(&truth->stop, 1);
		(void)end_child(agent_pid, 0);
	} else if (agent_pid) {
		totals.agent_kills += end_child(agent_pid, SIGKILL);
	}
	recover_with_kills();
}

/* ---- the comparison ------------------------------------------------------------------------- */

struct account {
	uint64_t begun, ended, delivered, crashed, crashed_ending;
	uint64_t either; /* may have been counted as a drop too: killed at lane 0's door */
	uint64_t cells;
};

static void report(int mode, const char *wrong, uint64_t id)
{
	if (totals.bad++ < 8)
		printf("# mode %d: %s (%" PRIx64 ")\n", mode, wrong, id);
}

static void compare_span(int mode, uint64_t id, struct account *account)
{
	uint8_t span = *span_of(id);
	bool complete = seen->complete[id >> 32][(uint32_t)id];
	bool crashed = seen->crashed[id >> 32][(uint32_t)id];

	if (complete && crashed)
		report(mode, "both complete and crashed", id);
	if (seen->crashed_before[id >> 32][(uint32_t)id] && !crashed)
		report(mode, "crashed for one recovery, not for the next", id);
	if ((span & ENDED) && crashed)
		report(mode, "crashed after it had ended", id);
	if (!(span & ENDING) && complete)
		report(mode, "complete before it ended", id);
	if ((span & OPEN) && !(span & ENDING) && !crashed)
		report(mode, "open, and not found", id);
	if (!span && (crashed || complete))
		report(mode, "never begun", id);
	account->begun += (span & OPEN) != 0;
	account->ended += (span & ENDING) != 0;
	account->delivered += complete;
	account->crashed += crashed;
	account->crashed_ending += crashed && (span & ENDING);
	account->either += crashed && (span & ENDING) && (span & SHARED);
}

/* Everything that ended is delivered, lost, dropped or crashed on its way out. */
static void compare_sums(int mode, const struct account *account)
{
	uint64_t lost = 0, dropped = 0, cells = 0, accounted;

	for (uint32_t lane = 0; lane < LANES; lane++) {
		const struct blix_consumer_lane *consumer =
			blix_view_consumer_lane(&file.view, lane);
		const struct blix_ring *ring = blix_view_ring(&file.view, lane);

		lost += consumer->ack[consumer->sel].lost;
		cells += blix_view_cells(&file.view, lane)[CELL];
		for (int reason = 0; reason < BLIX_DROP_REASONS; reason++)
			if (reason != BLIX_DROP_OPEN_LIMIT)
				dropped += ring->drops[BLIX_DROP_SPAN][reason];
	}
	accounted = account->delivered + lost + dropped + account->crashed_ending;
	if (accounted < account->ended)
		report(mode, "ended, and not accounted for", account->ended - accounted);
	/* Where agents died and the ring was being overwritten, what they had read and not yet
	 * acknowledged counts as lost too. */
	if (accounted > account->ended)
		totals.over_reported += accounted - account->ended;
	if (accounted > account->ended + account->either + (mode == 3 ? lost : 0))
		report(mode, "accounted for twice", accounted - account->ended);
	if (mode < 2 && lost > 0)
		report(mode, "lost while somebody listened", lost);
	if (cells > account->begun || cells + THREADS < account->begun)
		report(mode, "the counters say another number of spans", cells);
	totals.lost += lost;
	totals.dropped += dropped;
}

static void compare(int mode)
{
	struct account account = {0};

	for (uint64_t thread = 0; thread < THREADS; thread++)
		for (uint64_t i = 0; i <= truth->next[thread]; i++)
			compare_span(mode, thread << 32 | i, &account);
	compare_sums(mode, &account);
	if (seen->torn || seen->second_torn)
		report(mode, "torn", seen->torn + seen->second_torn);
	if (seen->corrupt || seen->second_corrupt)
		report(mode, "taken for damaged", seen->corrupt + seen->second_corrupt);
	totals.begun += account.begun;
	totals.ended += account.ended;
	totals.delivered += account.delivered;
	totals.crashed += account.crashed;
	totals.crashed_ending += account.crashed_ending;
	totals.second_ok += seen->second_ok;
	totals.second_lapped += seen->second_lapped;
	totals.wakes += seen->wakes;
}

static void print_totals(double seconds)
{
	uint64_t kills = totals.node_kills + totals.agent_kills + totals.recovery_kills;

	printf("%" PRIu64 " rounds in %.1f s: %" PRIu64 " node, %" PRIu64 " agent, %" PRIu64
	       " recovery kills (%.0f a minute), %" PRIu64 " agent freezes\n",
	       totals.rounds, seconds, totals.node_kills, totals.agent_kills, totals.recovery_kills,
	       (double)kills * 60 / seconds, totals.agent_freezes);
	printf("spans begun %" PRIu64 ", ended %" PRIu64 " = delivered %" PRIu64 " + lost %" PRIu64
	       " + dropped %" PRIu64 " + crashed on the way %" PRIu64 " - counted twice %" PRIu64
	       "; crashed in all %" PRIu64 "\n",
	       totals.begun, totals.ended, totals.delivered, totals.lost, totals.dropped,
	       totals.crashed_ending, totals.over_reported, totals.crashed);
	printf("second reader: %" PRIu64 " whole records, lapped %" PRIu64
	       " times; futex wakes %" PRIu64 "; bad %" PRIu64 "\n",
	       totals.second_ok, totals.second_lapped, totals.wakes, totals.bad);
}

static void *shared_memory(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		abort();
	return memory;
}

int main(int argc, char **argv)
{
	uint64_t limit_ns = (argc > 1 ? strtoull(argv[1], NULL, 10) : 5) * 1000000000;
	uint64_t start = now_ns();

	setvbuf(stdout, NULL, _IONBF, 0); /* children must not print our lines again */
	random_state = start;
	file = tiny_file_new(LANES, SLOTS, SLOTS0);
	truth = shared_memory(sizeof(*truth));
	seen = shared_memory(sizeof(*seen));
	while (now_ns() - start < limit_ns && totals.bad == 0) {
		int mode = (int)(totals.rounds % 4);

		memset(file.view.base, 0, file.view.size);
		memset(truth, 0, sizeof(*truth));
		memset(seen, 0, sizeof(*seen));
		run_round(mode);
		compare(mode);
		totals.rounds++;
	}
	print_totals((double)(now_ns() - start) / 1e9);
	tiny_file_done(&file);
	return totals.bad != 0 || totals.rounds < 4;
}
