/* agent/input/open_spans.h - the spans a living node has open now.
 *
 * Slots are looked at without stopping anybody: a span that changes meanwhile is left out. Thread
 * rule: the loop thread. Bounded by OPEN_SPANS_*. Includes: shm/, libc. */
#ifndef BLIX_AGENT_INPUT_OPEN_SPANS_H
#define BLIX_AGENT_INPUT_OPEN_SPANS_H

#include "shm/map.h"

enum {
	OPEN_SPANS_SLOTS_MAX = 16384, /* looked at; a file with more is looked at in part */
	OPEN_SPANS_NAMES_MAX = 60,    /* told apart; the rest is "other" */
	OPEN_SPANS_OLDEST_MAX = 20,
	OPEN_SPANS_NAME_BYTES = 64, /* longer names are cut, at a character */
};

struct open_span {
	char name[OPEN_SPANS_NAME_BYTES];
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint64_t start_mono_ns;
};

struct open_spans {
	uint32_t n_names;
	struct open_span_name {
		uint32_t id;
		char name[OPEN_SPANS_NAME_BYTES];
		uint32_t count;
		uint64_t start_mono_ns;	   /* of the oldest */
	} names[OPEN_SPANS_NAMES_MAX + 1]; /* "other" is the last, if any */
	uint32_t n_oldest;
	struct open_span oldest[OPEN_SPANS_OLDEST_MAX]; /* the oldest first */
	uint32_t total;
};

void open_spans_look(struct blix_map *map, struct open_spans *ret_spans);

#endif
