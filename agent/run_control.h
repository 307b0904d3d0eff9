/* agent/run_control.h - what this agent asks of its nodes at run time: how much is sampled, which
 * logs are recorded. Settings come from the configuration file and from the control socket, each
 * may end by itself, and together they make the one element that is written into each file.
 *
 * Order: what was asked through the socket comes before the configuration file, the latest first:
 * somebody wants it now. Settings of the socket live in this process alone; they end with it.
 *
 * Pure: time is an argument (ns of CLOCK_MONOTONIC). Thread rule: the loop thread.
 * Includes: libc, shm/control.h for the element and its limits. */
#ifndef BLIX_AGENT_RUN_CONTROL_H
#define BLIX_AGENT_RUN_CONTROL_H

#include "shm/control.h"

#include <stdbool.h>
#include <stdint.h>

enum run_control_source { RUN_CONTROL_SOCKET, RUN_CONTROL_CONFIG, RUN_CONTROL_SOURCES };

enum {
	RUN_CONTROL_RULES = BLIX_CONTROL_RULES / 2, /* of each source: both always fit */
	RUN_CONTROL_FOR_MAX_S = BLIX_CONTROL_TICKS_MAX,
	RUN_CONTROL_NO_END_TICKS = 60, /* a setting without end outlives its agent by this */
	RUN_CONTROL_REFRESH_S = 20,    /* so it is written again this often */
	RUN_CONTROL_LOG_OFF = 25,
};

/* One setting. */
struct run_control_entry {
	bool set;
	bool log;			    /* severity; else ratio */
	char glob[BLIX_CONTROL_GLOB_BYTES]; /* of a rule; "" = every name */
	double ratio;			    /* 0 to 1 */
	uint32_t log_min;		    /* 1 to 24, RUN_CONTROL_LOG_OFF */
	uint64_t until_ns;		    /* 0 = without end */
};

/* Zeroed memory is "nothing is set". */
struct run_control {
	struct run_control_part {
		struct run_control_entry ratio;
		struct run_control_entry log;
		uint32_t n_rules;
		struct run_control_entry rules[RUN_CONTROL_RULES];
	} parts[RUN_CONTROL_SOURCES];
};

extern const char *const run_control_source_names[RUN_CONTROL_SOURCES]; /* "socket", "config" */

/* Sample names that match `glob` ("" or NULL: every name) at `ratio` for `for_s` seconds (0: without
 * end). The same glob again replaces its rule and comes first.
 * 0; -EINVAL ratio, glob or time out of range; -ENOSPC no room for another rule. */
int run_control_sample(struct run_control *c, enum run_control_source source, const char *glob,
		       double ratio, uint32_t for_s, uint64_t now_ns);

/* Record logs from this severity on. 0; -EINVAL out of range. */
int run_control_log(struct run_control *c, enum run_control_source source, uint32_t log_min,
		    uint32_t for_s, uint64_t now_ns);

/* Forget what this source asked for. True: that changed something. */
bool run_control_clear(struct run_control *c, enum run_control_source source);

/* Forget what has ended. True: that changed something. */
bool run_control_expire(struct run_control *c, uint64_t now_ns);

/* When to look again: the next end, or the next refresh. UINT64_MAX: nothing is set. */
uint64_t run_control_due_ns(const struct run_control *c, uint64_t now_ns);

/* The element to write now. Always within the limits of blix_control_write(). */
void run_control_merge(const struct run_control *c, uint64_t now_ns,
		       struct blix_control_setting *ret_setting);

/* The settings in force in the order in which they are tried. NULL beyond the last. */
const struct run_control_entry *run_control_nth(const struct run_control *c, uint32_t n,
						enum run_control_source *ret_source);

/* Seconds until it ends, rounded up; 0: without end. */
uint32_t run_control_left_s(const struct run_control_entry *e, uint64_t now_ns);

/* The general ratio in force. False: the node's own setting holds. */
bool run_control_ratio(const struct run_control *c, double *ret_ratio);

/* "trace" to "fatal", "off", or a number from 1 to 24. 0; -EINVAL. */
int run_control_level(const char *text, uint32_t *ret_log_min);
/* The name of that severity; "" where it has none but its number. */
const char *run_control_level_name(uint32_t log_min);

/* "90", "90s", "10m", "2h", "7d" as seconds, 1 to RUN_CONTROL_FOR_MAX_S. 0; -EINVAL. */
int run_control_time(const char *text, uint32_t *ret_seconds);

#endif
