/* agent/process/redact_shape.h - what looks like a credential inside a text.
 *
 * Pure. Thread rule: none. Includes: libc only. */
#ifndef BLIX_AGENT_PROCESS_REDACT_SHAPE_H
#define BLIX_AGENT_PROCESS_REDACT_SHAPE_H

#include <stdbool.h>
#include <stddef.h>

struct redact_found {
	size_t at;  /* first byte to mask */
	size_t len; /* > 0 */
};

/* The first credential at or after `from` in text[0 .. len). */
bool redact_shape_find(const char *text, size_t len, size_t from, struct redact_found *ret_found);

#endif
