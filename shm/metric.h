/* shm/metric.h - the catalogue: what each metric slot means.
 *
 * The table itself is metrics.def. Everything here is constant data, so each function is
 * thread-safe and async-signal-safe, and none allocates. Ground floor: libc only. */
#ifndef BLIX_SHM_METRIC_H
#define BLIX_SHM_METRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The values are those of the file (`struct blix_metric_desc.kind`). */
enum blix_kind {
	BLIX_COUNTER = 1,   /* monotone; u64 */
	BLIX_UPDOWN = 2,    /* sum that may fall; i64 */
	BLIX_GAUGE = 3,	    /* last value set; i64 */
	BLIX_GAUGE_F64 = 4, /* last value set; IEEE 754 double */
	BLIX_HISTOGRAM = 5, /* distribution over fixed bounds; u64 */
};

/* Bucket layouts of the catalogue. Bounds are upper-inclusive ("le"). */
enum blix_layout {
	BLIX_LAYOUT_NONE, /* not a histogram */
	BLIX_LAYOUT_TIME, /* 100 us .. 10 s: raft, gRPC, storage, peer, placement */
	BLIX_LAYOUT_LONG, /* 100 ms .. 300 s: VM and image transfer */
	BLIX_LAYOUT_POW2, /* 2^-17 .. 2^3 s: kernel probes, on the grid of buckets.h */
};

/* Who produces the values. */
enum blix_owner {
	BLIX_OWNER_NODE,    /* the node process, through shared memory */
	BLIX_OWNER_HOST,    /* the agent, from /proc and statvfs */
	BLIX_OWNER_STORAGE, /* the agent's eBPF probes */
	BLIX_OWNER_AGENT,   /* the agent, about itself and its inputs */
};

enum blix_tier {
	BLIX_TIER_ALL,	  /* served and shown on its drill-down dashboard */
	BLIX_TIER_GOLDEN, /* what an overview and the alerts stand on */
};

enum blix_limit {
	BLIX_LABELS_MAX = 8,	     /* label keys of one metric */
	BLIX_BOUNDS_MAX = 24,	     /* classic bucket bounds of one layout */
	BLIX_CATALOGUE_SLOTS = 1024, /* slots below are metrics.def's; runtime metrics start here */
};

/* Slots by name: BLIX_raft_term is the slot of `blixard_raft_term`. The spelling after BLIX_ is
 * the exposed name without `blixard_`, so that one grep finds row, call site, panel and alert. */
#ifndef BLIXARD_METRICS_H /* the installed header carries the same enum, generated */
enum blix_slot {
#define METRIC(slot, name, ...)	    BLIX_##name = (slot),
#define METRIC_RAW(slot, name, ...) BLIX_##name = (slot),
#include "metrics.def"
#undef METRIC
#undef METRIC_RAW
};
#endif

struct blix_metric {
	uint32_t slot;
	const char *name; /* canonical family name as exposed: "blixard_raft_proposals_total" */
	const char *seed; /* the seed guide's name, served as an alias; NULL if none */
	enum blix_kind kind;
	const char *unit;   /* UCUM, as OTLP carries it: "s", "By", "1" (a ratio), "{proposal}" */
	const char *labels; /* "method:CreateVm,StartVm code:UNAVAILABLE"; "" if none */
	enum blix_layout layout;
	uint32_t max_series; /* label sets of one node, the overflow series not counted; >= 1 */
	enum blix_owner owner;
	enum blix_tier tier;
	const char *subset_of; /* name of the family this one never exceeds; NULL if none */
	const char *help;      /* one sentence with its full stop, no newline, no quote */
};

/* Describe `slot`, a number read from a shared file and therefore not trusted.
 *
 * 0: *ret_metric points at static data; do not free it.
 * -ENOENT: this build's catalogue has no such slot. *ret_metric is written on success only. */
int blix_metric_describe(uint32_t slot, const struct blix_metric **ret_metric);

/* The row whose canonical name is `name` (not NUL-terminated, `len` bytes); NULL if none. */
const struct blix_metric *blix_metric_find(const char *name, size_t len);

/* The rows in ascending slot order: pass NULL for the first one; NULL after the last. */
const struct blix_metric *blix_metric_next(const struct blix_metric *prev);

/* Suffix that Prometheus demands for a unit: "seconds", "bytes", "ratio", or "" for a count. */
const char *blix_unit_prometheus(const char *ucum);

/* A metric in seconds that counts or distributes is stored in integer nanoseconds. */
static inline bool blix_stored_in_ns(enum blix_kind kind, const char *ucum)
{
	return ucum[0] == 's' && ucum[1] == '\0' &&
	       (kind == BLIX_COUNTER || kind == BLIX_UPDOWN || kind == BLIX_HISTOGRAM);
}

/* Bounds of a catalogue layout in seconds, ascending; *ret_n receives how many (0 for NONE). The
 * text form is what `le` shows ("0.005", "1.0"): it is part of a series' identity. */
struct blix_bounds {
	uint32_t n;
	uint64_t ns[BLIX_BOUNDS_MAX]; /* 0 where a bound is no whole number of ns (POW2) */
	double seconds[BLIX_BOUNDS_MAX];
	const char *le[BLIX_BOUNDS_MAX];
};
const struct blix_bounds *blix_layout_bounds(enum blix_layout layout);

/* Label keys and the values that exist from the start, parsed from the `labels` column.
 * Each call of blix_labels_next moves to the next combination of initial values (a cross product);
 * `values[i]`/`lens[i]` point into the column's text. Keys without initial values yield no
 * combination at all; a metric without keys yields exactly one, with n_keys = 0. */
struct blix_labels {
	uint32_t n_keys;
	const char *keys[BLIX_LABELS_MAX];
	uint32_t key_lens[BLIX_LABELS_MAX];
	const char *values[BLIX_LABELS_MAX];
	uint32_t value_lens[BLIX_LABELS_MAX];
	uint32_t at[BLIX_LABELS_MAX]; /* position of the cursor */
	bool started;
};
void blix_labels_begin(struct blix_labels *labels, const char *column);
bool blix_labels_next(struct blix_labels *labels);

#endif
