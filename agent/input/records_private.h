/* agent/input/records_private.h - what records.c and records_items.c share. Nobody else includes it.
 *
 * Items are gathered here, where the limits of a batch fit, and then moved into the batch's memory
 * at their exact size. */
#ifndef BLIX_AGENT_INPUT_RECORDS_PRIVATE_H
#define BLIX_AGENT_INPUT_RECORDS_PRIVATE_H

#include "agent/input/records.h"

struct records_attrs {
	uint32_t n;
	uint32_t dropped;
	struct batch_attr at[BATCH_ATTRS_MAX];
};

/* What the items of one record are. */
struct records_parts {
	struct records_attrs attrs;
	struct records_attrs inner; /* of the event or link being read */
	struct batch_text status;
	struct batch_text trace_state;
	struct batch_text body;
	uint32_t n_events, dropped_events;
	uint32_t n_links, dropped_links;
	struct batch_event events[RECORDS_EVENTS_MAX];
	struct batch_link links[RECORDS_LINKS_MAX];
};

struct records {
	struct names *names;
	struct records_counts *counts;
	struct records_clock clock;
	struct records_parts parts;
};

/* Read a run of items into r->parts. The bytes are copied to `memory` first. 0; errors of
 * arena_alloc(). */
int records_take_items(struct records *r, const void *run, uint32_t len, struct arena *memory,
		       bool is_span);

/* Last wins. */
void records_add_attr(struct records *r, struct records_attrs *list, const struct batch_attr *attr);

/* Move n elements of `size` into memory; *ret_at is NULL where there are none. */
int records_place(const void *from, uint32_t n, size_t size, struct arena *memory, void **ret_at);
int records_place_attrs(const struct records_attrs *list, struct arena *memory, uint32_t dropped,
			struct batch_attrs *ret_attrs);

#endif
