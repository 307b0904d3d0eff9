/* tally.h - the load's own account: every operation by target, method and gRPC status code, and how
 * long it took from the moment it was due. One thread. */
#ifndef LOAD_TALLY_H
#define LOAD_TALLY_H

#include "latency.h"
#include "workload.h"

#include <grpc/status.h>

enum { TALLY_CODES = GRPC_STATUS_UNAUTHENTICATED + 1 };

struct tally_row {
	uint64_t sent;
	uint64_t not_sent; /* too many were under way */
	uint64_t ended[TALLY_CODES];
};

/* What a node has fetched for us from another one. */
struct tally_images {
	uint64_t chunks_moved;
	uint64_t chunks_spared; /* it had them */
	uint64_t bytes_moved;
};

struct tally {
	struct tally_row of[TARGETS_MAX][METHODS];
	struct tally_images images[TARGETS_MAX];
	struct latency latency[METHODS];
	uint64_t sent;
	uint64_t ended;
	uint64_t ok;
	uint64_t not_sent;
};

void tally_sent(struct tally *tally, unsigned target, enum method method);
void tally_not_sent(struct tally *tally, unsigned target, enum method method);
void tally_ended(struct tally *tally, unsigned target, enum method method, grpc_status_code code,
		 uint64_t took_ns);

/* A node has fetched an image: this much, as the workload knows what is in it. */
void tally_image(struct tally *tally, unsigned target, uint64_t moved, uint64_t spared);

/* All targets together. */
struct tally_row tally_sum(const struct tally *tally, enum method method);

/* As gRPC spells it. */
const char *tally_code_name(unsigned code);

#endif
