/* node-hooks/carried.c - tracestate and baggage of the spans that have any, in private memory.
 *
 * A span's handle has no room for them, and its slot too little; they live here from its beginning
 * to its end. An entry is named by its index and by the id of its span, which is random: a stale
 * index finds another id and nothing else. Entries are copied for children, never shared, so that
 * each is given up once, by whoever ends its span.
 *
 * Thread rule: any thread. Lock-free; a reader that is overtaken finds nothing. */
#include "trace.h"

enum { ENTRIES = 1024, TRIES = 64 };

#define BEING_FILLED UINT64_MAX /* never an id */

typedef uint64_t __attribute__((may_alias)) carried_word;

struct entry {
	uint64_t owner; /* the span's id; 0 = free */
	uint32_t tracestate_len;
	uint32_t baggage_len;
	uint64_t tracestate[BLIX_TRACESTATE_BYTES / 8];
	uint64_t baggage[BLIX_BAGGAGE_BYTES / 8];
};

/* Never touched, never resident. */
static struct entry entries[ENTRIES];

/* Words, because a reader may be looking at the same time; it then throws its copy away. */
static void copy_in(uint64_t *to, const char *from, uint32_t len)
{
	for (uint32_t at = 0; at < len; at += 8) {
		uint64_t word = 0;

		memcpy(&word, from + at, len - at < 8 ? len - at : 8);
		blix_store_data(&to[at / 8], word);
	}
}

static void copy_out(char *to, const uint64_t *from, uint32_t len)
{
	for (uint32_t at = 0; at < len; at += 8) {
		uint64_t word = blix_load_data(&from[at / 8]);

		memcpy(to + at, &word, len - at < 8 ? len - at : 8);
	}
}

static bool take(struct entry *entry)
{
	uint64_t nobody = 0;

	return blix_load_relaxed(&entry->owner) == 0 &&
	       blix_cas_acq_rel(&entry->owner, &nobody, BEING_FILLED);
}

uint16_t blix_carried_new(uint64_t id, const struct blix_carried_text *text)
{
	const struct blix_session *session;

	if (text->tracestate_len == 0 && text->baggage_len == 0)
		return 0;
	for (uint32_t i = 0; i < TRIES; i++) {
		/* The random id is as good a place to begin as any. */
		uint32_t index = (uint32_t)(id + i) % ENTRIES;
		struct entry *entry = &entries[index];

		if (!take(entry))
			continue;
		blix_fence_release(); /* taken before the data; pairs with the fence below */
		blix_store_data(&entry->tracestate_len, text->tracestate_len);
		blix_store_data(&entry->baggage_len, text->baggage_len);
		copy_in(entry->tracestate, text->tracestate, text->tracestate_len);
		copy_in(entry->baggage, text->baggage, text->baggage_len);
		blix_store_release(&entry->owner, id); /* the data before the id */
		return (uint16_t)(index + 1);
	}
	session = blix_load_acquire(&blix_session_);
	if (session)
		blix_count_stat(session, BLIX_STAT_CARRIED_FULL);
	return 0;
}

bool blix_carried_get(uint16_t carried, uint64_t id, struct blix_context *context)
{
	const struct entry *entry;
	uint32_t tracestate_len;
	uint32_t baggage_len;

	context->tracestate_len = 0;
	context->baggage_len = 0;
	if (carried == 0 || carried > ENTRIES)
		return false;
	entry = &entries[carried - 1];
	if (blix_load_acquire(&entry->owner) != id) /* pairs with the id's store */
		return false;
	tracestate_len = blix_load_data(&entry->tracestate_len);
	baggage_len = blix_load_data(&entry->baggage_len);
	if (tracestate_len > BLIX_TRACESTATE_BYTES || baggage_len > BLIX_BAGGAGE_BYTES)
		return false; /* overtaken: half of somebody else's */
	copy_out(context->tracestate, entry->tracestate, tracestate_len);
	copy_out(context->baggage, entry->baggage, baggage_len);
	blix_fence_acquire(); /* the data before the second look */
	if (blix_load_relaxed(&entry->owner) != id)
		return false;
	context->tracestate_len = (uint16_t)tracestate_len;
	context->baggage_len = (uint16_t)baggage_len;
	return true;
}

void blix_carried_end(uint16_t carried, uint64_t id)
{
	if (carried != 0 && carried <= ENTRIES)
		(void)blix_cas_acq_rel(&entries[carried - 1].owner, &id, 0);
}
