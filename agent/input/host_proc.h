/* agent/input/host_proc.h - the host's families: CPU, memory, pressure, disks, clock.
 *
 * Read from /proc at most once a second, whoever asks; what the kernel does not offer (pressure,
 * flushes) is absent, never zero. Thread rule: the loop thread. Includes: model/, look.h, libc. */
#ifndef BLIX_AGENT_INPUT_HOST_PROC_H
#define BLIX_AGENT_INPUT_HOST_PROC_H

#include "agent/input/look.h"
#include "agent/model/snapshot.h"

struct host;

struct host *host_new(void);		/* NULL: no memory */
struct host *host_free(struct host *h); /* accepts NULL, returns NULL */

/* Add the families to an empty snapshot, or to the same one after its reset. 0; errors of
 * snapshot_family(). */
int host_register(struct host *h, struct snapshot *s);

/* Read what is older than a second (now_ns: CLOCK_MONOTONIC) and set the values. `look` is the
 * disk thread's last answer. */
void host_collect(struct host *h, struct snapshot *s, const struct look_result *look,
		  uint64_t now_ns);

#endif
