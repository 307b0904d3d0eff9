/* trace_context.h - where in which trace something belongs, as commands and the replicated state
 * carry it. Plain data, any thread.
 *
 * Ids and flags alone: what else W3C lets a context carry ends with the request. */
#ifndef CLUSTER_TRACE_CONTEXT_H
#define CLUSTER_TRACE_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

enum { TRACE_CONTEXT_BYTES = 25 };

struct trace_context {
	uint8_t trace_id[16]; /* all zero: of no trace */
	uint8_t span_id[8];
	uint8_t flags; /* W3C */
};

static inline bool trace_context_is_set(const struct trace_context *context)
{
	static const struct trace_context none;

	return __builtin_memcmp(context->trace_id, none.trace_id, sizeof(none.trace_id)) != 0;
}

#endif
