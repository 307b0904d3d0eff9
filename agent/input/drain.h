/* agent/input/drain.h - take records out of the rings of one file and acknowledge them.
 *
 * Exactly one process may do that: the holder of the consumer lock. No destination is configured
 * in this version, so a record is acknowledged as soon as it was read and counted; with exporters,
 * the acknowledgement will wait for them.
 *
 * Thread rule: the loop thread. Work is bounded by a budget a call. Includes: shm/, libc. */
#ifndef BLIX_AGENT_INPUT_DRAIN_H
#define BLIX_AGENT_INPUT_DRAIN_H

#include "shm/map.h"

enum drain_kind { DRAIN_SPAN, DRAIN_LOG, DRAIN_MARK, DRAIN_UNKNOWN, DRAIN_KINDS };
const char *drain_kind_name(enum drain_kind kind);

/* Counted over every file of a target, so that they never fall. */
struct drain_totals {
	uint64_t records[DRAIN_KINDS];
	uint64_t lost; /* overwritten before they were read, by gaps in seq */
	uint64_t corrupt;
	uint64_t duplicates;
};

enum {
	DRAIN_BUDGET_BYTES = 4 << 20, /* of one call: no node can starve the others */
	DRAIN_INTERVAL_MIN_MS = 1,
	DRAIN_INTERVAL_MAX_MS = 500,
};

struct drain;

/* Take the consumer lock of `map` and continue where the last consumer left off. `totals` and
 * `map` are borrowed until drain_free().
 * 0; -EBUSY: another agent has it; -EBADF: the file is mapped read-only; -ENOMEM. */
int drain_new(struct blix_map *map, struct drain_totals *totals, struct drain **ret_drain);

/* Let go, but for the lock, which closing the map drops. back_soon: the agent stops and will be
 * back, so the node keeps its records for it. Accepts NULL; returns NULL. */
struct drain *drain_free(struct drain *d, bool back_soon);

/* Say that the agent is alive: the node compares for change. */
void drain_beat(struct drain *d);

/* Read what is there. `elapsed_ms`: since the last call. True: the budget ended before the
 * records did. */
bool drain_poll(struct drain *d, uint32_t elapsed_ms);

/* When to poll next: the time the fastest ring needs to get a quarter full. */
uint32_t drain_interval_ms(const struct drain *d);

uint32_t drain_quarantined_lanes(const struct drain *d);

/* The node is gone: keep when it was first seen (CLOCK_MONOTONIC) for a restarted agent. */
void drain_note_exit(struct drain *d, uint64_t mono_ns);
/* Everything of this incarnation was taken out. */
void drain_mark_done(struct drain *d);

/* The fullest ring now, 0 to 1, by what is not yet acknowledged; needs no consumer. */
double drain_fill(const struct blix_map *map);

/* When an agent saw the node's end, 0 if none did; hostile, so at most `now_mono_ns`. */
uint64_t drain_exit_mono_ns(const struct blix_map *map, uint64_t now_mono_ns);

/* Next interval (pure): the fill that `elapsed_ms` brought, and the interval until now. */
uint32_t drain_next_interval(double fill, uint32_t elapsed_ms, uint32_t interval_ms);

#endif
