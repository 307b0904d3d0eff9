/* agent/model/figures.c - see figures.h. */
#include "agent/model/figures.h"

const char *const figures_drop_names[FIGURES_DROPS] = {
	[FIGURES_DROP_REFUSED] = "refused",	  [FIGURES_DROP_TOO_LARGE] = "too_large",
	[FIGURES_DROP_SUPERSEDED] = "superseded", [FIGURES_DROP_QUEUE_FULL] = "queue_full",
	[FIGURES_DROP_ENCODE] = "encode",	  [FIGURES_DROP_SPOOL_FULL] = "spool_full",
	[FIGURES_DROP_SPOOL_AGE] = "spool_age",	  [FIGURES_DROP_SPOOL_CORRUPT] = "spool_corrupt",
};

const char *const figures_failure_names[FIGURES_FAILURES] = {
	[FIGURES_FAILURE_UNAVAILABLE] = "unavailable",	 [FIGURES_FAILURE_THROTTLED] = "throttled",
	[FIGURES_FAILURE_LOST_VERDICT] = "lost_verdict", [FIGURES_FAILURE_CONFIG] = "config",
	[FIGURES_FAILURE_REFUSED] = "refused",		 [FIGURES_FAILURE_TOO_LARGE] = "too_large",
};
