/* agent/input/self.h - the families about the agent and about its view of the node.
 *
 * Rows of the catalogue whose owner is the agent, as far as their subject exists in this version:
 * nothing about exports, spool, probes or open spans. Also the node's wait for a CPU, which the
 * agent reads from outside.
 *
 * Thread rule: the loop thread. Includes: target.h, drain.h, model/, libc. */
#ifndef BLIX_AGENT_INPUT_SELF_H
#define BLIX_AGENT_INPUT_SELF_H

#include "agent/input/drain.h"
#include "agent/input/target.h"

enum { SELF_DROP_REASONS = BLIX_DROP_RATE_LIMITED + 1 };

/* What the target knows; plain numbers, so that a test can make them up. */
struct self_facts {
	const char *agent_version;
	bool listen_up;
	uint64_t log_lines_dropped;
	bool sampling_set;
	double sampling_ratio;
	enum target_node node;
	enum target_file file;
	bool node_up;

	bool node_known; /* the rest of this block says something */
	uint64_t node_id;
	const char *node_version;
	uint64_t heartbeat_unix_ns;
	uint64_t start_unix_ns;

	bool file_attached; /* lanes say something */
	struct blix_map_lanes lanes;
	bool cpu_wait_known;
	uint64_t cpu_wait_ns;
	bool orphans_known;
	uint32_t orphans;

	uint32_t quarantined_lanes;
	uint64_t regressions;
	uint64_t series_overflow;
	uint64_t incarnations;
	double ring_used_ratio;
	struct drain_totals totals;
	uint64_t dropped[BLIX_DROP_KINDS][SELF_DROP_REASONS];
};

struct self;

struct self *self_new(void);		   /* NULL: no memory */
struct self *self_free(struct self *self); /* accepts NULL, returns NULL */

/* Add the families to a snapshot that does not have them. 0; errors of snapshot_family(). */
int self_register(struct self *self, struct snapshot *s);

/* Set the values; /proc/self is read at most once a second. now_ns: CLOCK_MONOTONIC. */
void self_collect(struct self *self, struct snapshot *s, const struct self_facts *facts,
		  uint64_t now_ns);

#endif
