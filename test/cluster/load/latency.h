/* latency.h - a histogram of durations whose quantiles are exact to 1.6 percent: 64 buckets for each
 * doubling, from about a microsecond to eighteen minutes. Plain data, one thread. */
#ifndef LOAD_LATENCY_H
#define LOAD_LATENCY_H

#include <stdint.h>

enum { LATENCY_BUCKETS = 64 * 26 };

struct latency {
	uint64_t n;
	uint64_t max_ns;
	uint32_t buckets[LATENCY_BUCKETS];
};

void latency_add(struct latency *latency, uint64_t ns);
void latency_merge(struct latency *sum, const struct latency *more);

/* The duration that `share` (0 to 1) of all do not exceed; 0 when there are none. */
uint64_t latency_at(const struct latency *latency, double share);

#endif
