/* agent/model/figures.h - MODEL: what became of the items that were to leave the host.
 *
 * Filled by export/, shown by the snapshot and the status page; neither knows the other. All counts are
 * since the agent's start, in items unless said otherwise. At any quiet moment of a destination:
 * offered = sent + rejected + dropped (all reasons) + waiting + spooled. Includes: libc. */
#ifndef BLIX_AGENT_MODEL_FIGURES_H
#define BLIX_AGENT_MODEL_FIGURES_H

#include <stdbool.h>
#include <stdint.h>

enum figures_drop {
	FIGURES_DROP_REFUSED,	 /* the destination will never take them */
	FIGURES_DROP_TOO_LARGE,	 /* one item alone is larger than the destination takes */
	FIGURES_DROP_SUPERSEDED, /* cumulative points: newer ones say the same */
	FIGURES_DROP_QUEUE_FULL, /* no room in memory and no spool */
	FIGURES_DROP_ENCODE,	 /* no memory for the request */
	FIGURES_DROP_SPOOL_FULL,
	FIGURES_DROP_SPOOL_AGE,
	FIGURES_DROP_SPOOL_CORRUPT,
	FIGURES_DROPS,
};
extern const char *const figures_drop_names[FIGURES_DROPS]; /* "refused" ... */

enum figures_failure {
	FIGURES_FAILURE_UNAVAILABLE, /* tried again */
	FIGURES_FAILURE_THROTTLED,
	FIGURES_FAILURE_LOST_VERDICT,
	FIGURES_FAILURE_CONFIG, /* address, protocol, certificate, credentials */
	FIGURES_FAILURE_REFUSED,
	FIGURES_FAILURE_TOO_LARGE,
	FIGURES_FAILURES,
};
extern const char *const figures_failure_names[FIGURES_FAILURES];

enum { FIGURES_PIPES_MAX = 24, FIGURES_PROBLEM_MAX = 256 };

/* One destination, one signal. */
struct figures_pipe {
	const char *exporter; /* "otlp" */
	const char *signal;   /* "traces" */
	const char *address;  /* URL; NULL = unknown */
	uint64_t offered;
	uint64_t sent, rejected;
	uint64_t dropped[FIGURES_DROPS];
	uint64_t requests;		     /* answered, of whatever kind */
	uint64_t failures[FIGURES_FAILURES]; /* requests */
	uint64_t lost_verdicts;		     /* requests */
	uint64_t retries;		     /* requests */
	uint64_t throttled_ns;
	uint64_t last_success_unix_ns; /* 0 = never */
	uint64_t waiting;	       /* in memory */
	uint64_t capacity;
	uint64_t spool_items, spool_bytes, spool_oldest_unix_ns;
	bool failing;
	char problem[FIGURES_PROBLEM_MAX]; /* the last failure while it fails; "" else */
};

struct figures {
	char problem
		[FIGURES_PROBLEM_MAX]; /* what is configured and not exported at all; "" = nothing */
	uint32_t n;
	struct figures_pipe pipes[FIGURES_PIPES_MAX];
	bool spool_used;
	bool spool_degraded;
	double spool_cover_s; /* < 0: not filling */
	char spool_problem[FIGURES_PROBLEM_MAX];
	const char *spool_path; /* "" = none */
};

#endif
