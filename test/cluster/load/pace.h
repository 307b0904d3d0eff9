/* pace.h - when operations are due: an open loop, which does not wait for answers. Pure: time is an
 * argument. One thread. */
#ifndef LOAD_PACE_H
#define LOAD_PACE_H

#include <stdint.h>

enum profile {
	PROFILE_STEADY, /* evenly */
	PROFILE_BURST,	/* half a second in every two with five times as many as in the rest */
	PROFILE_SOAK,	/* at random times, as many independent clients would */
	PROFILES,
};

/* xorshift64*; its state is never 0. */
struct dice {
	uint64_t state;
};

struct dice dice_of(uint64_t seed);
uint32_t dice_throw(struct dice *dice, uint32_t sides); /* 0 .. sides - 1 */
double dice_share(struct dice *dice);			/* above 0, at most 1 */

struct pace {
	enum profile profile;
	double per_second;
	uint64_t given;	 /* times, so far */
	double random_s; /* of the next, where times are random */
	struct dice dice;
};

struct pace pace_of(enum profile profile, uint32_t per_second, uint64_t seed);

/* When the next operation is due, in ns since the start; each call moves on by one. */
uint64_t pace_next_ns(struct pace *pace);

#endif
