/* pace.c - see pace.h. */
#include "pace.h"

#include <math.h>

static const double period_s = 2.0, quiet_s = 1.5, quiet_share = 0.5, burst_share = 2.5;

struct dice dice_of(uint64_t seed)
{
	/* splitmix64: neighbouring seeds must not throw alike. */
	uint64_t z = seed + 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (struct dice){.state = (z ^ (z >> 31)) | 1};
}

static uint32_t next(struct dice *dice)
{
	dice->state ^= dice->state >> 12;
	dice->state ^= dice->state << 25;
	dice->state ^= dice->state >> 27;
	return (uint32_t)((dice->state * 0x2545f4914f6cdd1dull) >> 32);
}

uint32_t dice_throw(struct dice *dice, uint32_t sides)
{
	return (uint32_t)(((uint64_t)next(dice) * sides) >> 32);
}

double dice_share(struct dice *dice)
{
	return ((double)next(dice) + 1) / 4294967296.0;
}

struct pace pace_of(enum profile profile, uint32_t per_second, uint64_t seed)
{
	return (struct pace){.profile = profile, .per_second = per_second, .dice = dice_of(~seed)};
}

/* When operation n is due: the quiet part of its period comes first. */
static double burst_s(double n, double per_second)
{
	double of_period = per_second * period_s, quiet = per_second * quiet_share * quiet_s;
	double place = fmod(n, of_period);
	double began_s = floor(n / of_period) * period_s;

	if (place < quiet)
		return began_s + place / (per_second * quiet_share);
	return began_s + quiet_s + (place - quiet) / (per_second * burst_share);
}

uint64_t pace_next_ns(struct pace *pace)
{
	double n = (double)pace->given++;
	double due_s = pace->random_s;

	if (pace->profile == PROFILE_STEADY)
		due_s = n / pace->per_second;
	else if (pace->profile == PROFILE_BURST)
		due_s = burst_s(n, pace->per_second);
	else
		pace->random_s -= log(dice_share(&pace->dice)) / pace->per_second;
	return (uint64_t)(due_s * 1e9);
}
