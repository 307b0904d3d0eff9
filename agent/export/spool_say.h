/* agent/export/spool_say.h - what becomes of the spool, in the log: once when it begins, ever more rarely while it
 * lasts, once when it is over; and each loss with its count.
 *
 * Thread rule: the loop thread. Includes: spool.h, backoff.h, log.h. */
#ifndef BLIX_AGENT_EXPORT_SPOOL_SAY_H
#define BLIX_AGENT_EXPORT_SPOOL_SAY_H

#include "agent/export/backoff.h"
#include "agent/export/spool.h"

/* What was said already; starts as zeros. */
struct spool_say {
	struct outage outage;
	uint64_t damaged, dropped[SPOOL_DROPS];
};

/* Look at the spool; call it every few seconds. `dropped` are items since the start, of all destinations. */
void spool_say(struct spool_say *said, const struct spool_status *status,
	       const uint64_t dropped[SPOOL_DROPS], uint64_t mono_ns);

#endif
