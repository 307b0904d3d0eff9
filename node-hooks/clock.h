/* node-hooks/clock.h - a line from time stamp counter to CLOCK_MONOTONIC. Pure arithmetic, apart
 * from the published line; clock.c feeds it. Includes: shm/atomic.h, libc. */
#ifndef BLIX_HOOKS_CLOCK_H
#define BLIX_HOOKS_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

enum {
	BLIX_CLOCK_SHIFT = 40,
	BLIX_CLOCK_LINES = 16,		  /* a power of two */
	BLIX_CLOCK_LEAD_NS = 20000000,	  /* a line holds from this long after it is drawn */
	BLIX_CLOCK_VALID_NS = 2000000000, /* without a tick for twice this, the line is left */
	/* Off by more: the counter is given up. A clock that is slewed at 500 ppm gets a quarter of
	 * that off before a tick notices, and is met again a second later. */
	BLIX_CLOCK_ERROR_NS = 2000000,
};

/* Two readings of one moment. */
struct blix_clock_pair_of {
	uint64_t ticks;
	uint64_t ns;
};

/* ns = base_ns + (ticks - base_ticks) * slope, with one slope before the base and one after it. */
struct blix_clock_line {
	uint64_t seq; /* 1 + its number: a reader sees whether it was replaced meanwhile */
	uint64_t base_ticks;
	uint64_t base_ns;
	uint64_t before; /* ns a tick, times 2^BLIX_CLOCK_SHIFT */
	uint64_t after;
	uint64_t first_ticks; /* valid from here */
	uint64_t last_ticks;  /* to here */
};

/* The line's time at `ticks`. */
uint64_t blix_clock_at(const struct blix_clock_line *line, uint64_t ticks);

/* Draw the line that continues `line` (all zeros: none yet) after the moment `now`; `earlier` is a
 * pair from about a second ago. It leaves the old line where that is in LEAD_NS, without a step,
 * and meets the true time a second later.
 * 0; -ERANGE: the readings are implausible, or the old line was off by more than ERROR_NS. */
int blix_clock_draw(const struct blix_clock_line *line, const struct blix_clock_pair_of *earlier,
		    const struct blix_clock_pair_of *now, struct blix_clock_line *ret_line);

#endif
