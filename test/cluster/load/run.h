/* run.h - sends the workload at its pace and counts what becomes of it. Main thread. */
#ifndef LOAD_RUN_H
#define LOAD_RUN_H

#include "options.h"
#include "tally.h"

/* Until the time is over or a signal comes, and then until everything has an answer. `progress` is
 * called each second. Fills in `tally` and how long operations were sent.
 * 0; -ENOMEM, -EMFILE: it could not begin. */
int run_load(const struct options *options,
	     void (*progress)(const struct options *options, const struct tally *tally,
			      uint64_t elapsed_ns),
	     struct tally *tally, uint64_t *ret_elapsed_ns);

#endif
