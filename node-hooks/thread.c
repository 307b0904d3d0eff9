/* node-hooks/thread.c - which lane the calling thread records into.
 *
 * A thread takes a lane at its first recording call and gives it back when it exits. While it has
 * one, the inline fast path needs no help. Threads that found no lane share lane 0 with atomic
 * adds and come here each time, so that they notice when a lane becomes free.
 *
 * Thread rule: everything is about the calling thread. Not async-signal-safe. */
#include "trace.h"

#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TLS __thread __attribute__((tls_model("initial-exec")))

TLS struct blix_self blix_self_;

TLS struct blix_thread blix_thread_;

#define me blix_thread_

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
	me.own_n = 0;
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
	me.writer_ready = false;
	me.slot_hint = 0;
	me.freed_seen = blix_load_acquire(&session->lanes_freed); /* before looking at the lanes */
	me.session = session;
	me.shared = me.leaving || blix_lane_claim(&session->view, me.tid, &me.lane) < 0;
	me.own_n = 0;
	if (!me.shared) {
		me.own_slots = blix_view_slot(&session->view, me.lane, 0);
		me.own_first = 1 + (me.lane << BLIX_PLACE_SLOT_BITS);
		me.own_n = session->view.lane.n_slots;
		blix_self_.cells = blix_view_cells(&session->view, me.lane);
		blix_self_.epoch = session->epoch;
		if (key_valid)
			pthread_setspecific(key, &me);
	} else if (!was_shared) {
		blix_add_shared(&blix_view_header(&session->view)->stats[BLIX_STAT_LANE0_CLAIMS],
				1);
	}
	blix_current_publish(&me); /* it may be within a span already */
	errno = saved_errno;
}

uint32_t blix_thread_tid(struct blix_thread *thread)
{
	int saved_errno = errno;

	if (thread->tid == 0)
		thread->tid = (uint32_t)syscall(SYS_gettid);
	errno = saved_errno;
	return thread->tid;
}

static bool should_take_lane(const struct blix_session *session)
{
	if (me.session != session)
		return true;
	return me.shared && !me.leaving &&
	       me.freed_seen != blix_load_relaxed(&session->lanes_freed);
}

struct blix_session *blix_thread_session_slow(struct blix_thread *thread)
{
	struct blix_session *session = blix_load_acquire(&blix_session_);

	if (!session)
		return NULL;
	/* Between the fork handlers, a child that has not reached its own would write into the
	 * parent's lane; handlers are the one place where asking the kernel is worth it. */
	if (thread->forking && session->pid != getpid())
		return NULL;
	if (!thread->forking && should_take_lane(session))
		take_lane(session);
	(void)blix_thread_tid(thread);
	return session;
}

struct blix_cells blix_thread_cells(void)
{
	struct blix_session *session = blix_thread_session_slow(&me);
	bool shared;

	if (!session)
		return (struct blix_cells){.cells = NULL};
	shared = !blix_thread_owns_lane(&me, session);
	return (struct blix_cells){
		.cells = blix_view_cells(&session->view, shared ? 0 : me.lane),
		.n_cells = session->view.lane.n_cells,
		.shared = shared,
	};
}

/* ---- the ring ------------------------------------------------------------------------------- */

struct blix_ring_writer *blix_thread_writer_init(struct blix_thread *thread,
						 struct blix_session *session)
{
	/* A damaged ring leaves a writer that refuses everything: that is its answer. */
	(void)blix_ring_writer_init(&thread->writer, &session->view, thread->lane);
	thread->writer_ready = true;
	return &thread->writer;
}

/* Through lane 0, if its lock is free. */
static int write_shared(struct blix_thread *thread, struct blix_session *session,
			const struct blix_ring_entry *entry)
{
	int reason;

	if (blix_lane_trylock_shared(&session->view, &session->shared, thread->tid) < 0)
		return BLIX_DROP_CONTENDED;
	reason = blix_ring_write(&session->shared.writer, entry,
				 blix_load_relaxed(&session->listening));
	blix_lane_unlock_shared(&session->view, &session->shared);
	return reason;
}

int blix_thread_write(struct blix_thread *thread, struct blix_session *session,
		      const struct blix_ring_entry *entry)
{
	bool own = blix_thread_owns_lane(thread, session);
	int reason = own ? blix_ring_write(blix_thread_writer(thread, session), entry,
					   blix_load_relaxed(&session->listening))
			 : write_shared(thread, session, entry);

	if (reason != BLIX_DROP_NONE)
		blix_ring_count_drop(&session->view, own ? thread->lane : 0,
				     blix_ring_drop_kind(entry->type),
				     (enum blix_drop_reason)reason);
	return reason;
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
	me = (struct blix_thread){.leaving = me.leaving};
	blix_self_ = (struct blix_self){.epoch = 0};
}
