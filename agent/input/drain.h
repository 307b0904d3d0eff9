/* agent/input/drain.h - take records out of the rings of one file, and keep them in the ring until
 * somebody else answers for them.
 *
 * Exactly one process may do that: the holder of the consumer lock. Records that somebody wants are
 * decoded into batches (records.h); a cut seals what is open and hands it over, and the rings'
 * heads follow once the batches were freed (custody.h). Records that nobody wants are counted and
 * acknowledged with the cut they belong to. When too much is out, reading stops: the ring is the
 * queue.
 *
 * After the node's end the rings are read to their end, then the spans it had open are recovered;
 * when all of that was freed, the file is marked done.
 *
 * Thread rule: the loop thread. Work is bounded by a budget a call. Includes: records.h, custody.h,
 * shm/, libc. */
#ifndef BLIX_AGENT_INPUT_DRAIN_H
#define BLIX_AGENT_INPUT_DRAIN_H

#include "agent/input/custody.h"
#include "agent/input/records.h"
#include "shm/map.h"

enum drain_kind { DRAIN_SPAN, DRAIN_LOG, DRAIN_MARK, DRAIN_UNKNOWN, DRAIN_KINDS };
const char *drain_kind_name(enum drain_kind kind);

/* Counted over every file of a target, so that they never fall. */
struct drain_totals {
	uint64_t records[DRAIN_KINDS];
	uint64_t lost; /* overwritten before they were read, by gaps in seq */
	uint64_t corrupt;
	uint64_t duplicates;
	uint64_t held_up;	/* polls that stopped: too much was out, or no memory */
	uint64_t spans_crashed; /* left open by a dead process, and delivered */
	uint64_t spans_torn;	/* died before they were open */
	struct records_counts decoding;
};

enum {
	DRAIN_BUDGET_BYTES = 4 << 20, /* of one call: no node can starve the others */
	DRAIN_INTERVAL_MIN_MS = 1,
	DRAIN_INTERVAL_HELD_MS = 50, /* while a quarter of a ring is not acknowledged */
	DRAIN_INTERVAL_MAX_MS = 500,
	DRAIN_SPANS_DELAY_MS = 5000, /* OTEL_BSP_SCHEDULE_DELAY */
	DRAIN_LOGS_DELAY_MS = 1000,  /* OTEL_BLRP_SCHEDULE_DELAY */
};

struct drain_options {
	bool wants[BATCH_SIGNALS];
	uint32_t delay_ms[BATCH_SIGNALS]; /* from a batch's first item to its cut; 0 = default */
	/* The last look at a batch before it is sealed; NULL: none. */
	void (*process)(void *arg, struct batch *b);
	/* A sealed batch; its one holder becomes the receiver. NULL: nobody wants anything. */
	void (*batch)(void *arg, struct batch *b);
	void *arg;
};

struct drain;

/* Take the consumer lock of `map` and continue where the last consumer left off. `totals` and
 * `map` are borrowed until drain_free(), `resource` is held. `options` may be NULL.
 * 0; -EBUSY: another agent has it; -EBADF: the file is mapped read-only; -ENOMEM. */
int drain_new(struct blix_map *map, struct batch_resource *resource,
	      const struct drain_options *options, struct drain_totals *totals,
	      struct drain **ret_drain);

/* Let go, but for the lock, which closing the map drops. What is open or out is not acknowledged:
 * the next consumer reads it again. back_soon: the agent stops and will be back, so the node keeps
 * its records for it. Accepts NULL; returns NULL. */
struct drain *drain_free(struct drain *d, bool back_soon);

/* Say that the agent is alive: the node compares for change. */
void drain_beat(struct drain *d);

/* Read what is there. `elapsed_ms`: since the last call. True: the budget ended before the
 * records did, or too much is out to read on. */
bool drain_poll(struct drain *d, uint32_t elapsed_ms);

/* Cut what is open, whatever its age. */
void drain_flush(struct drain *d);

/* When to poll next: the time the fastest ring needs to get a quarter full, or the next cut. */
uint32_t drain_interval_ms(const struct drain *d);

uint32_t drain_quarantined_lanes(const struct drain *d);
uint32_t drain_open_items(const struct drain *d, enum batch_signal signal); /* not cut yet */
void drain_custody(const struct drain *d, struct custody_figures *ret_figures);

/* Should a wake-up be armed? Not while rings are read all the time anyhow, and not while so much is
 * unacknowledged that the next record would wake us, which helps nobody. */
bool drain_wants_wake(const struct drain *d);
/* The futex word that wakes this consumer (wake.h). Lives as long as the map. */
uint32_t *drain_wake_word(const struct drain *d);

/* The node is gone: keep when it was first seen (CLOCK_MONOTONIC) for a restarted agent. */
void drain_note_exit(struct drain *d, uint64_t mono_ns);
/* The node is gone and drain_poll() said that its rings are empty: recover what it left open, a
 * bounded step a call. True: everything this incarnation left was freed by its holders, and the
 * file is marked done. */
bool drain_finish(struct drain *d);
/* Was everything of this incarnation taken out, now or by an earlier agent? */
bool drain_is_done(const struct blix_map *map);

/* The fullest ring now, 0 to 1, by what is not yet acknowledged; needs no consumer. */
double drain_fill(const struct blix_map *map);

/* When an agent saw the node's end, 0 if none did; hostile, so at most `now_mono_ns`. */
uint64_t drain_exit_mono_ns(const struct blix_map *map, uint64_t now_mono_ns);

/* Next interval (pure): the fill that `elapsed_ms` brought, and the interval until now. */
uint32_t drain_next_interval(double fill, uint32_t elapsed_ms, uint32_t interval_ms);

#endif
