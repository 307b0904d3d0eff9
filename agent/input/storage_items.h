/* agent/input/storage_items.h - a slow wait as a span and as a log record of the model.
 *
 * The span is a child of the one the thread was in, so its parent may have been sent already: nothing
 * of it changes. Pure but for the arena: no clock, no randomness. Includes: storage.h, model/. */
#ifndef BLIX_AGENT_INPUT_STORAGE_ITEMS_H
#define BLIX_AGENT_INPUT_STORAGE_ITEMS_H

#include "agent/input/storage.h"
#include "agent/model/batch.h"

/* The span "storage.fsync" (INTERNAL; ERROR where the call failed), its bytes in `memory`, the
 * batch's arena. span_id: made by the caller, not all zero. 0; -EINVAL the event names no sampled
 * span, so there is no trace to add to; -ENOSPC, -ENOMEM of the arena. */
int storage_span(const struct storage_slow_event *e, const uint8_t span_id[8], struct arena *memory,
		 struct batch_span *ret_span);

/* The log record (WARN), with the trace if the event names one; `unreported`: how many waits before it
 * have none. 0; -ENOSPC, -ENOMEM. */
int storage_log(const struct storage_slow_event *e, uint64_t unreported, struct arena *memory,
		struct batch_log *ret_log);

#endif
