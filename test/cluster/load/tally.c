/* tally.c - see tally.h. */
#include "tally.h"

static const char *const names[TALLY_CODES] = {
	[GRPC_STATUS_OK] = "OK",
	[GRPC_STATUS_CANCELLED] = "CANCELLED",
	[GRPC_STATUS_UNKNOWN] = "UNKNOWN",
	[GRPC_STATUS_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
	[GRPC_STATUS_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
	[GRPC_STATUS_NOT_FOUND] = "NOT_FOUND",
	[GRPC_STATUS_ALREADY_EXISTS] = "ALREADY_EXISTS",
	[GRPC_STATUS_PERMISSION_DENIED] = "PERMISSION_DENIED",
	[GRPC_STATUS_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
	[GRPC_STATUS_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
	[GRPC_STATUS_ABORTED] = "ABORTED",
	[GRPC_STATUS_OUT_OF_RANGE] = "OUT_OF_RANGE",
	[GRPC_STATUS_UNIMPLEMENTED] = "UNIMPLEMENTED",
	[GRPC_STATUS_INTERNAL] = "INTERNAL",
	[GRPC_STATUS_UNAVAILABLE] = "UNAVAILABLE",
	[GRPC_STATUS_DATA_LOSS] = "DATA_LOSS",
	[GRPC_STATUS_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

const char *tally_code_name(unsigned code)
{
	return names[code];
}

void tally_sent(struct tally *tally, unsigned target, enum method method)
{
	tally->of[target][method].sent++;
	tally->sent++;
}

void tally_not_sent(struct tally *tally, unsigned target, enum method method)
{
	tally->of[target][method].not_sent++;
	tally->not_sent++;
}

void tally_ended(struct tally *tally, unsigned target, enum method method, grpc_status_code code,
		 uint64_t took_ns)
{
	/* A server can send any number. */
	unsigned known = (unsigned)code < TALLY_CODES ? (unsigned)code : GRPC_STATUS_UNKNOWN;

	tally->of[target][method].ended[known]++;
	tally->ended++;
	tally->ok += known == GRPC_STATUS_OK;
	latency_add(&tally->latency[method], took_ns);
}

void tally_image(struct tally *tally, unsigned target, uint64_t moved, uint64_t spared)
{
	struct tally_images *images = &tally->images[target];

	images->chunks_moved += moved;
	images->chunks_spared += spared;
	images->bytes_moved += workload_image_bytes(moved);
}

struct tally_row tally_sum(const struct tally *tally, enum method method)
{
	struct tally_row sum = {0};

	for (unsigned target = 0; target < TARGETS_MAX; target++) {
		const struct tally_row *row = &tally->of[target][method];

		sum.sent += row->sent;
		sum.not_sent += row->not_sent;
		for (unsigned code = 0; code < TALLY_CODES; code++)
			sum.ended[code] += row->ended[code];
	}
	return sum;
}
