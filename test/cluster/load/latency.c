/* latency.c - see latency.h. */
#include "latency.h"

/* A unit is 1024 ns. Values below 64 units have a bucket each, then every doubling has 64. */
enum { UNIT_BITS = 10, SUB_BITS = 6, SUB = 1 << SUB_BITS };

static unsigned bucket_of(uint64_t ns)
{
	uint64_t units = ns >> UNIT_BITS;

	if (units < SUB)
		return (unsigned)units;
	unsigned doublings = 63u - (unsigned)__builtin_clzll(units) - SUB_BITS;
	unsigned bucket =
		(doublings + 1) * SUB + (unsigned)((units >> doublings) & (uint64_t)(SUB - 1));
	return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

/* The first value that is beyond the bucket. */
static uint64_t end_of(unsigned bucket)
{
	if (bucket < SUB)
		return (uint64_t)(bucket + 1) << UNIT_BITS;
	unsigned doublings = bucket / SUB - 1;
	uint64_t units = (uint64_t)(SUB + bucket % SUB + 1) << doublings;
	return units << UNIT_BITS;
}

void latency_add(struct latency *latency, uint64_t ns)
{
	latency->n++;
	latency->buckets[bucket_of(ns)]++;
	if (ns > latency->max_ns)
		latency->max_ns = ns;
}

void latency_merge(struct latency *sum, const struct latency *more)
{
	sum->n += more->n;
	for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
		sum->buckets[i] += more->buckets[i];
	if (more->max_ns > sum->max_ns)
		sum->max_ns = more->max_ns;
}

uint64_t latency_at(const struct latency *latency, double share)
{
	double wanted = share * (double)latency->n;
	uint64_t seen = 0;

	for (unsigned i = 0; latency->n && i < LATENCY_BUCKETS - 1; i++) {
		seen += latency->buckets[i];
		if ((double)seen >= wanted && seen)
			return end_of(i) < latency->max_ns ? end_of(i) : latency->max_ns;
	}
	return latency->max_ns;
}
