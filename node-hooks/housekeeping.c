/* node-hooks/housekeeping.c - the one thread the library starts: once a second it shows that the
 * process is alive, publishes the clocks, takes back the lanes of threads that died without their
 * destructor, sees whether an agent listens, and takes up run-time control.
 *
 * Thread rule: start and stop are called by blix_open and blix_close, under their lock. */
#include "trace.h"

#include "shm/lane.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	STACK_BYTES = 256 << 10, /* thread-local variables of the program live on it as well */
	PAIR_TRIES = 3,
	PAIR_GAP_NS = 10000, /* good enough for a pair of clock readings */
	SILENT_TICKS = 10,   /* without a beat of the agent: nobody listens */
	AWAY_TICKS = 60,     /* the same, after it said that it will be back */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t thread;
	struct blix_session *session;
	bool running;
	bool stop;
} keeper = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- one tick ------------------------------------------------------------------------------- */

static uint64_t read_clock(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

void blix_clock_pair(uint64_t *ret_mono_ns, uint64_t *ret_real_ns)
{
	for (int i = 0; i < PAIR_TRIES; i++) {
		uint64_t before = read_clock(CLOCK_MONOTONIC);
		uint64_t real = read_clock(CLOCK_REALTIME);
		uint64_t after = read_clock(CLOCK_MONOTONIC);

		*ret_mono_ns = before + (after - before) / 2;
		*ret_real_ns = real;
		if (after - before < PAIR_GAP_NS)
			return; /* nobody took the processor away in between */
	}
}

void blix_housekeeping_beat(const struct blix_session *session)
{
	struct blix_header *h = blix_view_header(&session->view);
	uint32_t seq = blix_load_relaxed(&h->pair_seq);
	uint64_t mono_ns;
	uint64_t real_ns;

	blix_clock_pair(&mono_ns, &real_ns);
	blix_store_relaxed(&h->pair_seq, seq + 1);
	blix_fence_release(); /* odd before the data; pairs with the reader's second look */
	blix_store_data(&h->pair_mono_ns, mono_ns);
	blix_store_data(&h->pair_real_ns, real_ns);
	blix_store_release(&h->pair_seq, seq + 2);
	blix_add_owned(&h->alive_beat, 1);
}

static bool is_gone(void *arg, uint32_t tid)
{
	const struct blix_session *session = arg;

	return syscall(SYS_tgkill, session->pid, tid, 0) < 0 && errno == ESRCH;
}

static void reclaim_lanes(struct blix_session *session)
{
	uint32_t n = blix_lane_reclaim_dead(&session->view, is_gone, session);

	if (n == 0)
		return;
	blix_add_shared(&blix_view_header(&session->view)->stats[BLIX_STAT_LANES_SETTLED], n);
	blix_add_shared_release(&session->lanes_freed, 1);
}

/* The agent's beat is hostile input like all it writes: only whether it changes counts. */
static void look_for_agent(struct blix_session *session)
{
	static const struct blix_session *seen_of;
	static uint32_t beat_seen;
	static uint32_t silent_ticks;
	const struct blix_consumer *consumer = blix_view_consumer(&session->view);
	uint32_t beat = blix_load_relaxed(&consumer->beat);
	bool back_soon = blix_load_relaxed(&consumer->flags) & BLIX_CONSUMER_BACK_SOON;

	if (session != seen_of || beat != beat_seen)
		silent_ticks = 0;
	else if (silent_ticks < AWAY_TICKS)
		silent_ticks++;
	/* A new file has the benefit of the doubt for as long as an agent that fell silent. */
	seen_of = session;
	beat_seen = beat;
	blix_store_relaxed(&session->listening,
			   silent_ticks < (uint32_t)(back_soon ? AWAY_TICKS : SILENT_TICKS));
}

static void tick(struct blix_session *session)
{
	blix_housekeeping_beat(session);
	blix_clock_tick();
	blix_ids_refresh();
	reclaim_lanes(session);
	look_for_agent(session);
	blix_sampler_tick(session);
}

/* ---- the thread ----------------------------------------------------------------------------- */

/* Wait a second, or for the stop. True: go on. */
static bool wait_for_tick(void)
{
	struct timespec until;
	bool stop;
	int err = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec++;
	pthread_mutex_lock(&keeper.lock);
	while (!keeper.stop && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&keeper.wake, &keeper.lock, &until);
	stop = keeper.stop;
	pthread_mutex_unlock(&keeper.lock);
	return !stop;
}

static void *keep_house(void *arg)
{
	struct blix_session *session = arg;

	pthread_setname_np(pthread_self(), "blix-hooks");
	while (wait_for_tick())
		tick(session);
	return NULL;
}

static int start_thread(struct blix_session *session)
{
	pthread_attr_t attr;
	sigset_t all;
	sigset_t before;
	int err = pthread_attr_init(&attr);

	if (err)
		return -err;
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	/* The program's signals are the program's: the thread is born with all of them blocked. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&keeper.thread, &attr, keep_house, session);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return -err;
}

int blix_housekeeping_start(struct blix_session *session)
{
	pthread_condattr_t attr;
	int err;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&keeper.wake, &attr);
	pthread_condattr_destroy(&attr);
	keeper.stop = false;
	err = start_thread(session);
	keeper.running = err == 0;
	return err;
}

void blix_housekeeping_stop(bool wait)
{
	if (!keeper.running)
		return;
	pthread_mutex_lock(&keeper.lock);
	keeper.stop = true;
	pthread_cond_signal(&keeper.wake);
	pthread_mutex_unlock(&keeper.lock);
	keeper.running = false;
	if (wait)
		pthread_join(keeper.thread, NULL);
}

void blix_housekeeping_in_child(void)
{
	pthread_mutex_init(&keeper.lock, NULL);
	keeper.running = false;
}
