/* agent/export/backoff.h - when to try again, and how often to speak of it. Pure; time and chance are
 * arguments. Includes libc. */
#ifndef BLIX_AGENT_EXPORT_BACKOFF_H
#define BLIX_AGENT_EXPORT_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

enum {
	BACKOFF_FIRST_MS = 1000,
	BACKOFF_MAX_MS = 60000,
	OUTAGE_FIRST_S = 60,	    /* from the first line about an outage to the second */
	OUTAGE_MAX_S = 4 * 60 * 60, /* then twice as long each time, up to this */
};

/* How long to wait after `failures` failures in a row (0 counts as 1): 1 s, times 1.6 each, up to 60 s,
 * give or take half of it by `chance` (any number), so that a thousand agents do not come back in step. Never
 * less than the far end asked for (`asked_ms`, 0 = it did not). */
uint32_t backoff_ms(uint32_t failures, uint32_t asked_ms, uint32_t chance);

/* An outage is a line at its start, then ever more rarely, and a line at its end: at most 15 a day. */
struct outage {
	bool on;
	uint64_t since_ns;
	uint64_t say_ns; /* when the next line is due */
	uint32_t every_s;
};

/* A failure at `now_ns` (> 0): is it worth a line? */
bool outage_fails(struct outage *o, uint64_t now_ns);
/* It works: was there an outage that was spoken of? *ret_lasted_s if so. */
bool outage_ends(struct outage *o, uint64_t now_ns, uint64_t *ret_lasted_s);

#endif
