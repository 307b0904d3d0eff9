/* agent/input/slow_waits.h - a node's slow waits for storage on their way to the outputs.
 *
 * Each one whose trace is sampled becomes a span `storage.fsync` below the span that waited, and one
 * in SLOW_WAITS_LOG_NS a log record. They come from the kernel and from no ring, so nobody else keeps
 * them: what finds no room, or is given up by whom it went to, is lost, and counted.
 *
 * Filling (which may happen in the middle of a scrape) never hands anything over; only a turn and a
 * flush do. Batches may outlive the struct.
 *
 * Thread rule: the loop thread. Bounded by SLOW_WAITS_BATCHES_MAX batches. Includes: storage.h, model/;
 * the implementation also libc's getrandom(). */
#ifndef BLIX_AGENT_INPUT_SLOW_WAITS_H
#define BLIX_AGENT_INPUT_SLOW_WAITS_H

#include "agent/input/storage.h"
#include "agent/model/batch.h"

enum { SLOW_WAITS_BATCHES_MAX = 16 }; /* of a signal: being filled, waiting, or not released yet */
#define SLOW_WAITS_LOG_NS UINT64_C(10000000000)

struct slow_waits_options {
	bool wants[BATCH_SIGNALS];	  /* nothing is made of what nobody wants */
	uint32_t delay_ms[BATCH_SIGNALS]; /* the longest that one waits for company; 0 = a turn */
	/* Before a batch is sealed: redaction. NULL: nothing. */
	void (*process)(void *arg, struct batch *b);
	/* A sealed batch; the receiver is its one holder and may release it at once. */
	void (*batch)(void *arg, struct batch *b);
	void *arg;
};

struct slow_waits;

/* NULL: no memory. */
struct slow_waits *slow_waits_new(const struct slow_waits_options *options);
/* What was not handed over is lost: slow_waits_flush() comes before. Accepts NULL; returns NULL. */
struct slow_waits *slow_waits_free(struct slow_waits *w);

/* `resource`: the node's life whose wait it was. now_ns: CLOCK_MONOTONIC. */
void slow_waits_add(struct slow_waits *w, struct batch_resource *resource,
		    const struct storage_slow_event *e, uint64_t now_ns);

/* Hand over what is full or has waited for long enough. */
void slow_waits_turn(struct slow_waits *w, uint64_t now_ns);
/* Hand over everything. */
void slow_waits_flush(struct slow_waits *w);
/* When the next turn is due; UINT32_MAX: nothing waits. */
uint32_t slow_waits_due_ms(const struct slow_waits *w, uint64_t now_ns);

/* Spans and log records that were lost. */
uint64_t slow_waits_dropped(const struct slow_waits *w);

#endif
