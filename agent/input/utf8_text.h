/* agent/input/utf8_text.h - texts of records: valid already, or repaired.
 *
 * Thread rule: pure. Includes: batch.h, shm/utf8.h. */
#ifndef BLIX_AGENT_INPUT_UTF8_TEXT_H
#define BLIX_AGENT_INPUT_UTF8_TEXT_H

#include "agent/model/batch.h"

/* bytes[0 .. len) as text: pointing there when it is valid, else to a copy in `memory` in which
 * every byte that belongs to no character became U+FFFD; *repaired is then raised by one.
 * `bytes` must live as long as the batch. 0; errors of arena_alloc(). */
int utf8_text(const uint8_t *bytes, uint32_t len, struct arena *memory, uint64_t *repaired,
	      struct batch_text *ret_text);

#endif
