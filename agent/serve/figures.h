/* agent/serve/figures.h - the key figures of a node, computed from one snapshot.
 *
 * A table names them; the page and /status.json show the same ones. Only what a single snapshot
 * says: rates need two and are the reader's. Includes: model/. Thread rule: as the snapshot's. */
#ifndef BLIX_AGENT_SERVE_FIGURES_H
#define BLIX_AGENT_SERVE_FIGURES_H

#include "agent/model/snapshot.h"

enum figure_kind {
	FIGURE_VALUE,	/* a gauge; several series are added up */
	FIGURE_TOTAL,	/* a counter; the same */
	FIGURE_LATENCY, /* a histogram of seconds; the same */
};

struct figure_spec {
	const char *group;  /* heading on the page */
	const char *id;	    /* key in /status.json */
	const char *title;  /* on the page */
	const char *family; /* canonical name */
	enum figure_kind kind;
	const char *bytes; /* not NULL: a value in bytes */
};

enum { FIGURES = 29 };
extern const struct figure_spec figure_specs[FIGURES];

struct figure {
	bool present; /* the family is there and served */
	double value; /* of a gauge, a counter, or a histogram's count */
	double sum;   /* of a histogram, in seconds */
	const struct snapshot_bounds *bounds;
	uint64_t buckets[BLIX_BOUNDS_MAX + 1]; /* not cumulative; the last one is +Inf */
};

void figures_read(const struct snapshot *s, struct figure ret_figures[FIGURES]);

/* The q-quantile of a histogram, interpolated within its bucket as PromQL does it; the highest
 * bound if it lies beyond; NaN if nothing was observed. */
double figure_quantile(const struct figure *f, double q);

#endif
