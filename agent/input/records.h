/* agent/input/records.h - one record or slot of a file, as a span or log of a batch.
 *
 * The input is a private copy of hostile bytes. What is sound is delivered, whatever is not beside
 * it: a malformed item is left out and counted, texts are repaired and counted, of two attributes
 * with one key the last one stays. A record that cannot be a span or log at all is refused.
 *
 * Pure but for the map's string table. Thread rule: the loop thread. Includes: names.h, batch.h,
 * shm/. */
#ifndef BLIX_AGENT_INPUT_RECORDS_H
#define BLIX_AGENT_INPUT_RECORDS_H

#include "agent/input/names.h"
#include "shm/slot.h"

/* ---- time ---------------------------------------------------------------------------------------- */

/* CLOCK_MONOTONIC of the node to Unix time: one pair of both at one moment. Wall time must not go
 * back within a life, and a second agent should arrive at the same times: so the pair of the node's
 * open is kept until the wall clock is found ahead of it by more than a step. A clock that was set
 * back is followed by the node's next life. */
struct records_clock {
	uint64_t mono_ns;
	uint64_t unix_ns;
};
#define RECORDS_CLOCK_STEP_NS UINT64_C(500000000)

/* Take up a newer pair, if it is a step ahead. Zeroed memory takes any. */
void records_clock_update(struct records_clock *clock, uint64_t mono_ns, uint64_t unix_ns);
uint64_t records_clock_unix_ns(const struct records_clock *clock, uint64_t mono_ns);

/* ---- decoding ------------------------------------------------------------------------------------ */

enum {
	RECORDS_EVENTS_MAX = 128,
	RECORDS_LINKS_MAX = 128,
};

/* They never fall. */
struct records_counts {
	uint64_t refused;     /* records or slots that are no span or log */
	uint64_t too_large;   /* records that do not fit into an empty batch */
	uint64_t no_memory;   /* times a record had to stay where it was */
	uint64_t damaged;     /* items left out, texts without an entry, times put right */
	uint64_t repaired;    /* texts that were no UTF-8 */
	uint64_t overwritten; /* attributes that a later one with the same key replaced */
	uint64_t cut;	      /* attributes, events, links above a batch's limits */
};

struct records;

/* `map` and `resource` are borrowed until records_free(). `counts` is added to. NULL: no memory. */
struct records *records_new(struct blix_map *map, struct batch_resource *resource,
			    struct records_counts *counts);
struct records *records_free(struct records *r); /* accepts NULL, returns NULL */

/* Update the clock from the file; call before each round of reading. */
void records_refresh(struct records *r, struct blix_map *map);
const struct records_clock *records_clock(const struct records *r);

/* Append a record, header first, of type SPAN (to a batch of spans) or LOG or MARK (of logs).
 *
 * 0; -EBADMSG: it is none, counted; -ENOSPC: the batch is full: give the record to an empty one, and
 * if that has no room either call records_too_large(); -ENOMEM. After an error the batch holds what
 * it held. */
int records_span(struct records *r, const uint64_t *record, uint32_t n_words, struct batch *b);
int records_log(struct records *r, const uint64_t *record, uint32_t n_words, struct batch *b);
void records_too_large(struct records *r);

/* How a process ended, for the spans it left open. */
struct records_end {
	const char *state;   /* blixard.span.state: "crashed"; a literal */
	const char *message; /* of the status; a literal */
	uint64_t at_ns; /* CLOCK_MONOTONIC of the node; the span ends no earlier than its parts */
	bool has_exit_code;
	int64_t exit_code;
	bool has_signal;
	int64_t signal;
};

/* Append the span that a process left open in a slot. Errors as records_span(). */
int records_slot(struct records *r, const struct blix_span_slot *slot,
		 const struct records_end *end, struct batch *b);

/* The text behind an id, for as long as `memory`; "unknown" if there is none. */
struct batch_text records_name(struct records *r, uint32_t id, struct arena *memory);

#endif
