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

static double step_s(struct pace *pace)
{
	double share;

	switch (pace->profile) {
	case PROFILE_BURST:
		share = fmod(pace->next_s, period_s) < quiet_s ? quiet_share : burst_share;
		return 1 / (pace->per_second * share);
	case PROFILE_SOAK:
		return -log(dice_share(&pace->dice)) / pace->per_second;
	default:
		return 1 / pace->per_second;
	}
}

uint64_t pace_next_ns(struct pace *pace)
{
	double now_s = pace->next_s;

	pace->next_s += step_s(pace);
	return (uint64_t)(now_s * 1e9);
}
