/* node-hooks/trace.h - what the files about spans and logs share. Not installed.
 *
 * Thread rule: a struct blix_thread belongs to its thread. The settings are words of their own,
 * written by blix_open and housekeeping, read by anybody at any time. */
#ifndef BLIX_HOOKS_TRACE_H
#define BLIX_HOOKS_TRACE_H

#include "session.h"

#include "shm/atomic.h"
#include "shm/slot.h"

#include <string.h>

/* ---- thread.c: the calling thread ------------------------------------------------------------- */

struct blix_thread {
	struct blix_session *session; /* in which `lane` is meant */
	uint32_t tid;
	uint32_t lane;
	struct blix_span_slot *own_slots; /* of `lane`, if it is its own */
	uint32_t own_first;		  /* place of the first, as in a span */
	uint32_t own_n;			  /* 0: it has none */
	uint32_t freed_seen;		  /* lanes_freed when a lane was last sought in vain */
	uint32_t slot_hint;
	bool shared;  /* no lane of its own */
	bool leaving; /* its destructor ran: a lane would never be given back */
	bool forking;
	bool writer_ready; /* `writer` continues the ring of `lane` */
	bool busy;	   /* within a change of slot or ring: a signal handler must not join in */
	bool seeded;
	struct blix_ring_writer writer;
	blix_span current; /* all zeros: none */
	uint64_t random[4];
};

/* Where a span is recorded, as it says itself: 1 + the slot's index, and its lane above that. */
enum { BLIX_PLACE_SLOT_BITS = 14 };

extern __thread struct blix_thread blix_thread_ __attribute__((tls_model("initial-exec")));

/* The session the thread records into, having taken a lane if it can; NULL: nowhere. Keeps errno. */
struct blix_session *blix_thread_session_slow(struct blix_thread *thread);

static inline struct blix_session *blix_thread_session(struct blix_thread *thread)
{
	if (__builtin_expect(blix_self_.epoch == blix_load_relaxed(&blix_epoch_), 1))
		return thread->session;
	return blix_thread_session_slow(thread);
}

/* Has it a lane of its own in `session`, which is the one it records into? */
static inline bool blix_thread_owns_lane(const struct blix_thread *thread,
					 const struct blix_session *session)
{
	return thread->session == session && !thread->shared;
}

/* The id of the calling thread; asks the kernel once. */
uint32_t blix_thread_tid(struct blix_thread *thread);

/* Around each change of slots and rings. False: we interrupted one. */
static inline bool blix_thread_enter(struct blix_thread *thread)
{
	if (thread->busy)
		return false;
	thread->busy = true;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return true;
}

static inline void blix_thread_leave(struct blix_thread *thread)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	thread->busy = false;
}

/* Write a log record, or what else is no span, to the ring of the calling thread; between enter and
 * leave. BLIX_DROP_NONE or the reason, which is counted. */
int blix_thread_write(struct blix_thread *thread, struct blix_session *session,
		      const struct blix_ring_entry *entry);

/* The writer of the lane it owns, ready. */
struct blix_ring_writer *blix_thread_writer_init(struct blix_thread *thread,
						 struct blix_session *session);

static inline struct blix_ring_writer *blix_thread_writer(struct blix_thread *thread,
							  struct blix_session *session)
{
	return __builtin_expect(thread->writer_ready, 1) ? &thread->writer
							 : blix_thread_writer_init(thread, session);
}

/* A drop that may be counted at any time, even in a signal handler. */
static inline void blix_count_drop_anywhere(const struct blix_session *session,
					    enum blix_drop_kind kind, enum blix_drop_reason reason)
{
	blix_ring_count_drop(&session->view, 0, kind, reason);
}

static inline void blix_count_stat(const struct blix_session *session, enum blix_stat stat)
{
	blix_add_shared(&blix_view_header(&session->view)->stats[stat], 1);
}

/* ---- current.c -------------------------------------------------------------------------------- */

/* Show the current span in the lane's thread record, and to the recording calls. */
void blix_current_publish(struct blix_thread *thread);

/* ---- settings.c: the environment's say -------------------------------------------------------- */

enum { BLIX_PROPAGATE_TRACE = 1, BLIX_PROPAGATE_BAGGAGE = 2, BLIX_BAGGAGE_KEYS_MAX = 8 };

struct blix_settings {
	uint32_t span_attrs_max;
	uint32_t span_events_max;
	uint32_t span_links_max;
	uint32_t event_attrs_max;
	uint32_t link_attrs_max;
	uint32_t log_attrs_max;
	uint32_t span_value_chars; /* UINT32_MAX: no limit */
	uint32_t log_value_chars;
	uint32_t propagators;
	uint32_t exemplars;    /* 0: none */
	uint32_t parent_based; /* children follow their parents */
	uint32_t log_min;
	uint64_t slow_ns;
	uint64_t log_interval_ns; /* 0: no limit */
	uint64_t log_burst_ns;
	uint64_t sampler_word; /* as in the thresholds */
};

extern struct blix_settings blix_settings_;

/* Keys of baggage members that become attributes: resolved handles and their texts. */
struct blix_baggage_keys {
	const struct blix_baggage_keys *before; /* keeps what was in force reachable */
	uint32_t n;
	blix_key key[BLIX_BAGGAGE_KEYS_MAX];
	char text[BLIX_BAGGAGE_KEYS_MAX][64];
};

/* The keys in force; never changed once published. NULL: none. */
extern const struct blix_baggage_keys *blix_baggage_keys_;

/* Read the environment anew. `warning` (may be NULL) gets the first thing that is wrong with it. */
void blix_settings_read(char warning[BLIX_TEXT_MAX]);

#define blix_setting(field) blix_load_relaxed(&blix_settings_.field)

/* ---- names.c ---------------------------------------------------------------------------------- */

enum { BLIX_NAMES_MAX = 1024 };

/* Handles that the library itself uses; zeros until the first blix_open(). */
struct blix_own_keys {
	blix_key error_type;
	blix_key exception;
	blix_key exception_type;
	blix_key exception_message;
	blix_key suppressed;
	blix_key overflow;
};
extern struct blix_own_keys blix_own_keys_;
void blix_own_keys_resolve(void);

/* Sets thresholds of names. `word_of` decides; called under the names' lock. */
typedef uint64_t (*blix_word_of)(const char *name, size_t len);
void blix_names_set_thresholds(blix_word_of word_of);

void blix_names_before_fork(void);
void blix_names_after_fork(void);
void blix_names_in_child(void);

/* ---- sampler.c -------------------------------------------------------------------------------- */

/* A word a root span reads: threshold in the low bits, and whether it is to be told in tracestate.
 * One for each name; index 0 for what has none of its own. */
#define BLIX_THRESHOLD_TOLD (UINT64_C(1) << 63)

extern uint64_t blix_thresholds_[BLIX_NAMES_MAX];

/* `low`: the second half of the trace id, as it lies in memory. */
static inline bool blix_is_sampled(uint64_t word, uint64_t low)
{
	return (__builtin_bswap64(low) & (BLIX_THRESHOLD_NEVER - 1)) >=
	       (word & ~BLIX_THRESHOLD_TOLD);
}

/* A housekeeping tick: take up, count down and forget what run-time control says. */
void blix_sampler_tick(struct blix_session *session);

/* Recompute every threshold; at open and close, which also forget run-time control. */
void blix_sampler_reset(void);

/* ---- ids.c ------------------------------------------------------------------------------------ */

/* Seconds of CLOCK_REALTIME, refreshed by housekeeping. */
extern uint32_t blix_epoch_seconds_;
void blix_ids_refresh(void);

/* Seed the thread's ids; ids.h does it before the first. */
void blix_ids_seed(struct blix_thread *thread);

/* ---- clock.c ---------------------------------------------------------------------------------- */

/* blix_now_ns(), without the detour of an exported function. */
uint64_t blix_clock_now(void);

/* A housekeeping tick: calibrate, or give the counter up. Also at open. */
void blix_clock_tick(void);

/* Time as of the last tick, of CLOCK_MONOTONIC: good enough to tell whether a second has passed. */
extern uint64_t blix_coarse_ns_;

/* ---- carried.c: tracestate and baggage of spans ------------------------------------------------- */

struct blix_carried_text {
	const char *tracestate;
	const char *baggage;
	uint32_t tracestate_len;
	uint32_t baggage_len;
};

/* Keep a copy for the span of this id. 1 + its place, 0: nothing to keep, or no room. */
uint16_t blix_carried_new(uint64_t span_id, const struct blix_carried_text *text);

/* Append what is kept for this span to the context, whose ids it leaves alone. False: nothing. */
bool blix_carried_get(uint16_t carried, uint64_t span_id, struct blix_context *context);

void blix_carried_end(uint16_t carried, uint64_t span_id);

/* ---- guide.c ---------------------------------------------------------------------------------- */

void blix_guide_before_fork(void);
void blix_guide_after_fork(void);
void blix_guide_in_child(void);

/* ---- exemplar.c ------------------------------------------------------------------------------- */

/* Leave the current span beside a value just recorded. Only while blix_self_.traced. */
void blix_exemplar_leave(uint32_t index, uint32_t bucket, uint64_t value);

#endif
