/* agent/input/self_spans.h - the families about spans on their way: open, crashed, redacted, and read
 * but not yet answered for.
 *
 * Thread rule: the loop thread. Includes: open_spans.h, records.h, model/, libc. */
#ifndef BLIX_AGENT_INPUT_SELF_SPANS_H
#define BLIX_AGENT_INPUT_SELF_SPANS_H

#include "agent/input/open_spans.h"
#include "agent/input/records.h"
#include "agent/model/batch.h"
#include "agent/model/snapshot.h"

enum {
	SELF_SPANS_ACTIONS = 3,	 /* drop, hash, mask */
	SELF_SPANS_PROBLEMS = 7, /* of struct records_counts */
};

struct self_spans_facts {
	uint64_t unacknowledged[BATCH_SIGNALS];
	uint64_t crashed, torn;
	uint64_t redacted[SELF_SPANS_ACTIONS];
	struct records_counts decoding;
	const struct open_spans *open; /* NULL: no living node is attached */
	uint64_t now_mono_ns;
};

struct self_spans {
	uint32_t unacknowledged[BATCH_SIGNALS];
	uint32_t crashed, torn, redacted[SELF_SPANS_ACTIONS], problems[SELF_SPANS_PROBLEMS];
	uint32_t open_family, oldest_family;
	uint32_t n_names;
	struct {
		char name[OPEN_SPANS_NAME_BYTES];
		uint32_t open, oldest; /* series */
	} names[OPEN_SPANS_NAMES_MAX + 1];
};

/* Add the families to a snapshot that does not have them; names seen before are forgotten.
 * 0; errors of snapshot_family(). */
int self_spans_register(struct self_spans *self, struct snapshot *s, uint64_t start_unix_ns);
void self_spans_collect(struct self_spans *self, struct snapshot *s,
			const struct self_spans_facts *facts);

#endif
