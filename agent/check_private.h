/* agent/check_private.h - what the parts of --check and --check-export share: how a finding is said.
 *
 * Thread rule: the loop thread. Includes: libc. */
#ifndef BLIX_AGENT_CHECK_PRIVATE_H
#define BLIX_AGENT_CHECK_PRIVATE_H

#include <stdint.h>

struct options;

enum finding { FINE, NOTE, BAD };

struct check_report {
	uint32_t bad; /* findings that keep the agent from working as asked */
};

/* One line on standard output, control characters escaped. */
__attribute__((format(printf, 4, 5))) void check_say(struct check_report *report,
						     enum finding finding, const char *what,
						     const char *format, ...);

/* What the environment comes to: which signal goes where. Reads PEM files, sends nothing. No line
 * holds a header's value or the query of an address. */
void check_exports(struct check_report *report);

#endif
