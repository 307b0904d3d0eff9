/* node-hooks/thread.c - which lane the calling thread records into.
 *
 * A thread takes a lane at its first recording call and gives it back when it exits. While it has
 * one, the inline fast path needs no help. Threads that found no lane share lane 0 with atomic
 * adds and come here each time, so that they notice when a lane becomes free.
 *
 * Thread rule: everything is about the calling thread. Not async-signal-safe. */
#include "session.h"

#include "shm/lane.h"

#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TLS __thread __attribute__((tls_model("initial-exec")))

TLS struct blix_self blix_self_;

struct thread {
	struct blix_session *session; /* in which `lane` is meant */
	uint32_t tid;
	uint32_t lane;
	uint32_t freed_seen; /* lanes_freed when a lane was last sought in vain */
	bool shared;	     /* no lane of its own */
	bool leaving;	     /* its destructor ran: a lane would never be given back */
	bool forking;
};

static TLS struct thread me;

static pthread_key_t key;
static bool key_valid;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

/* Runs at thread exit. A raw fork (no handlers) leaves the parent's mapping with us: look at the
 * pid before touching it. */
static void give_back(void *unused)
{
	struct blix_session *session = me.session;

	(void)unused;
	blix_self_.epoch = 0;
	me.leaving = true;
	me.session = NULL;
	if (session && !me.shared && session->pid == getpid() &&
	    blix_lane_release(&session->view, me.lane, me.tid) == 0)
		blix_add_shared_release(&session->lanes_freed, 1);
}

static void make_key(void)
{
	/* Without a key, housekeeping takes back the lanes of threads that are gone. */
	key_valid = pthread_key_create(&key, give_back) == 0;
}

void blix_thread_init(void)
{
	pthread_once(&key_once, make_key);
}

static void take_lane(struct blix_session *session)
{
	int saved_errno = errno;
	bool was_shared = me.session == session && me.shared;

	me.tid = (uint32_t)syscall(SYS_gettid);
	me.freed_seen = blix_load_acquire(&session->lanes_freed); /* before looking at the lanes */
	me.session = session;
	me.shared = me.leaving || blix_lane_claim(&session->view, me.tid, &me.lane) < 0;
	if (!me.shared) {
		blix_self_.cells = blix_view_cells(&session->view, me.lane);
		blix_self_.epoch = session->epoch;
		if (key_valid)
			pthread_setspecific(key, &me);
	} else if (!was_shared) {
		blix_add_shared(&blix_view_header(&session->view)->stats[BLIX_STAT_LANE0_CLAIMS],
				1);
	}
	errno = saved_errno;
}

static bool should_take_lane(const struct blix_session *session)
{
	if (me.session != session)
		return true;
	return me.shared && !me.leaving &&
	       me.freed_seen != blix_load_relaxed(&session->lanes_freed);
}

struct blix_cells blix_thread_cells(void)
{
	struct blix_session *session = blix_load_acquire(&blix_session_);

	if (!session)
		return (struct blix_cells){.cells = NULL};
	/* Between the fork handlers, a child that has not reached its own would write into the
	 * parent's lane; handlers are the one place where asking the kernel is worth it. */
	if (me.forking && session->pid != getpid())
		return (struct blix_cells){.cells = NULL};
	if (!me.forking && should_take_lane(session))
		take_lane(session);
	return (struct blix_cells){
		.cells = blix_view_cells(&session->view,
					 me.session != session || me.shared ? 0 : me.lane),
		.n_cells = session->view.lane.n_cells,
		.shared = me.session != session || me.shared,
	};
}

/* ---- fork ----------------------------------------------------------------------------------- */

void blix_thread_before_fork(void)
{
	me.forking = true;
	blix_self_.epoch = 0; /* parks the lane: everything takes the slow path */
}

void blix_thread_after_fork(void)
{
	me.forking = false;
	if (me.session && !me.shared)
		blix_self_.epoch = me.session->epoch;
}

void blix_thread_in_child(void)
{
	me = (struct thread){.leaving = me.leaving};
	blix_self_ = (struct blix_self){.epoch = 0};
}
