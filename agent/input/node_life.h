/* agent/input/node_life.h - is the node alive, hung or gone? Decided from what was observed when.
 *
 * Pure: time and observations are arguments. No time crosses the process border: a heartbeat is a
 * number that must change, and how long it stood still is measured on the observer's clock, in
 * steps no longer than NODE_LIFE_STEP_MAX_NS, so that an observer that was itself stopped for a
 * minute does not accuse the node. Includes: target.h for the states, libc. */
#ifndef BLIX_AGENT_INPUT_NODE_LIFE_H
#define BLIX_AGENT_INPUT_NODE_LIFE_H

#include "agent/input/target.h"

#define NODE_LIFE_STEP_MAX_NS UINT64_C(1000000000)
/* A lock that outlives its process by this long is held by a forked child of it. */
#define NODE_LIFE_LEAK_NS UINT64_C(10000000000)

struct node_life_seen {
	bool locked;	   /* somebody holds the node's lock */
	bool process_gone; /* the process is known to have ended; false where that cannot be told */
	bool closed;	   /* the file says that it was closed or its process exited */
	uint64_t alive_beat;
	uint64_t app_beat; /* 0: never used */
};

/* Zeroed memory is a life not yet observed. */
struct node_life {
	bool observed;
	bool gone; /* for ever: the next life is another file */
	uint64_t at_ns;
	uint64_t alive_beat;
	uint64_t app_beat;
	uint64_t alive_still_ns; /* since the beat was last seen to change */
	uint64_t app_still_ns;
	enum target_node node;
	bool lock_leaked;
};

/* Take note of what is seen at `now_ns` and say what the node is: LIVE, HUNG, DEAD or CLOSED. */
enum target_node node_life_observe(struct node_life *life, const struct node_life_seen *seen,
				   uint64_t now_ns, uint64_t stale_after_ns);

/* How long the heartbeat that counts has stood still. */
uint64_t node_life_still_ns(const struct node_life *life);

#endif
