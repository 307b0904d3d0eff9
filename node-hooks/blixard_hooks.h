/* blixard_hooks.h - telemetry of a Blixard node, written into shared memory.
 *
 * The only installed header of libblixard-hooks. C99 and C++ clean; needs nothing beside libc.
 *
 * A process has one telemetry file, so no call takes a context. Handles are small values: copy
 * them, share them between threads, keep them in statics. A handle full of zeros is valid and
 * records nowhere.
 *
 * Every call is safe before blix_open(), after blix_close(), in a forked child, and when opening
 * failed: it then does nothing. A recording call (blix_add, blix_updown, blix_set, blix_set_f64,
 * blix_observe_ns, blix_observe, blix_heartbeat) never blocks, allocates, takes a lock, makes a
 * system call, touches errno or fails; a thread's first recording call takes a lane for it, which
 * costs one gettid(2). Resolving calls (..._of, ..._resolve, ..._register) are cold: they
 * may wait for a mutex. Unless said otherwise every call may be made from any thread; none but
 * blix_sig_add() may be made from a signal handler.
 */
#ifndef BLIXARD_HOOKS_H
#define BLIXARD_HOOKS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

#define BLIX_HOOKS_VERSION_MAJOR 0
#define BLIX_HOOKS_VERSION_MINOR 1
#define BLIX_HOOKS_VERSION_PATCH 0
#define BLIX_HOOKS_VERSION	 "0.1.0"

/* ---- handles -------------------------------------------------------------------------------- */

typedef struct {
	uint32_t cell;	   /* index into the lane's cells; 0 = nowhere */
	uint32_t exemplar; /* index of its exemplar slot; UINT32_MAX = none */
} blix_counter;

typedef struct {
	uint32_t cell;
	uint32_t reserved;
} blix_updown_counter;

typedef struct {
	uint32_t index; /* index into the gauges; 0 = nowhere */
	uint32_t kind;	/* 0 none, 1 integer, 2 floating point */
} blix_gauge;

typedef struct {
	uint32_t cell;	   /* first of its bucket cells; 0 = nowhere */
	uint32_t exemplar; /* index of its first exemplar slot; UINT32_MAX = none */
	uint16_t layout;   /* bucket layout, index into the process's layouts */
	uint16_t flags;	   /* bit 0: exponential cells follow */
	uint32_t reserved;
} blix_histogram;

/* ---- the catalogue -------------------------------------------------------------------------- */

/* Slots of the metrics every Blixard node has: BLIX_raft_term is `blixard_raft_term`. The enum is
 * generated from shm/metrics.def; installing puts its text in place of this line. */
#include "blixard_metrics.h"

/* ---- life ----------------------------------------------------------------------------------- */

struct blix_identity {
	/* Stable over restarts; 0 is allowed. */
	uint64_t node_id;
	/* At most 63 bytes; NULL = "default". */
	const char *cluster;
	/* "host:port" of the node's gRPC server, at most 127 bytes; the agent serves on port +
	 * 1000. */
	const char *grpc_address;
	/* Its file system is watched by the agent; at most 255 bytes; NULL = none. */
	const char *data_dir;
	/* At most 63 bytes; NULL = OTEL_SERVICE_NAME, else "blixard". */
	const char *service_name;
	/* At most 47 bytes; NULL = "". */
	const char *service_version;
	/* "key=value,key=value", percent-encoded where needed, beside OTEL_RESOURCE_ATTRIBUTES,
	 * which has the same syntax: this one wins. NULL = none. */
	const char *resource_attributes;

	/* From here on 0 is the default. Ring of each lane: 16 KiB to 64 MiB, a power of two. */
	uint32_t ring_bytes;
	/* 1 to 1024; default 2 x CPUs + 8, at least 16, at most 64. */
	uint32_t lanes;
	/* Of each lane: 2 to 65536; default 8192, 65536 with both histograms. */
	uint32_t cells;
	/* Span slots of each lane: 1 to 4096; default 128. */
	uint32_t slots;
	/* 1 = classic, 2 = classic and exponential; default: BLIXARD_HISTOGRAMS=both in the
	 * environment, else classic. What was resolved before blix_open() went by the environment
	 * and stays so. */
	uint32_t histograms;
	/* 0. */
	uint32_t reserved[7];
};

/* Create the telemetry file `path` (in a tmpfs, such as "/dev/shm/blix1") and record into it from
 * now on. Call it after daemonising. Strings are copied; identity may be NULL (all defaults). A
 * file left by a dead predecessor is renamed to `path`.o.<its incarnation> for the agent, and never
 * overwritten; at most two such files are kept. Takes up to a second while `path` is held by
 * another process, and a fork() meanwhile waits. Starts one thread, with all signals blocked.
 *
 * 0, or a negative errno; the library then stays a working no-op:
 *   -EALREADY  this process has a file open, which stays open: close it first
 *   -EINVAL    path or identity is out of range; blix_status() names the field
 *   -EBUSY     another live node holds `path`
 *   -EEXIST    `path` is another user's file, a directory, a link, or no telemetry file
 *   -ENOSPC    the file system, or the process's file size limit, has no room, even with the
 *              smallest rings and after discarding the files of predecessors
 *   -EACCES, -EROFS, -ENOENT, -ENOTDIR, -EOPNOTSUPP  the directory cannot take the file
 *   -ENOMEM    no address space
 *   -ECHILD    this is a forked child of a process that had a file open: exec first
 * and what else the system calls involved may answer (-EMFILE, ...). */
int blix_open(const char *path, const struct blix_identity *identity);

/* End recording: mark the file CLOSED and let go of it. Late calls of other threads go nowhere.
 * Harmless when nothing is open. The file's address range stays reserved, without memory behind
 * it. Without this call exit(3) marks the file EXITED; a process that ends any other way counts as
 * dead. */
void blix_close(void);

enum blix_status_state {
	BLIX_STATUS_OFF = 0, /* never opened */
	BLIX_STATUS_ON,	     /* recording */
	BLIX_STATUS_FAILED,  /* blix_open failed: error and reason say why */
	BLIX_STATUS_CLOSED,  /* blix_close was called */
	BLIX_STATUS_FORKED,  /* a forked child: records nowhere */
};

struct blix_report {
	enum blix_status_state state;
	int error;	     /* negative errno of the last failed open, else 0 */
	char reason[192];    /* what is wrong and what to do about it; "" while all is well */
	char warning[192];   /* recording, but something should be better; "" if nothing */
	uint32_t ring_bytes; /* in effect */
	uint32_t lanes;
};

/* The state of the library at any time. Thread-safe. */
struct blix_report blix_status(void);

/* What the operator should do about a negative errno of blix_open(). Static text, never NULL. */
const char *blix_strerror(int error);

/* Say that the loop which must stay alive is alive. Optional; once used, a loop that stops calling
 * shows as a hung node after the agent's --stale-after. One store. */
void blix_heartbeat(void);

/* ---- resolving: cold, once per series ------------------------------------------------------- */

/* The series of catalogue metric (or registered metric) `slot` with these label values, in the
 * order of its label keys. A wrong slot, kind or number of values is counted and yields the handle
 * that records nowhere. Beyond the metric's max_series, or when the file's cells are used up, the
 * overflow series comes back, counted; it shows as otel_metric_overflow="true". The same values
 * always yield the same handle. Values are copied; beyond 255 bytes they are cut, what is not UTF-8
 * becomes U+FFFD, NULL is "". Handles are valid before blix_open(), after it failed, and after
 * close and re-open. */
blix_counter blix_counter_resolve(uint32_t slot, const char *const *values, size_t n_values);
blix_updown_counter blix_updown_resolve(uint32_t slot, const char *const *values, size_t n_values);
blix_gauge blix_gauge_resolve(uint32_t slot, const char *const *values, size_t n_values);
blix_histogram blix_histogram_resolve(uint32_t slot, const char *const *values, size_t n_values);

/* The same with the label values as trailing arguments, none or more (in C++: at the end of this
 * header): blix_counter_of(BLIX_grpc_requests_total, "CreateVm"). */
#ifndef __cplusplus
#define BLIX_OF_(resolve, slot, ...)                                                               \
	resolve((slot), (const char *const[]){__VA_ARGS__},                                        \
		sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *) - 1)
#define blix_counter_of(...)   BLIX_OF_(blix_counter_resolve, __VA_ARGS__, NULL)
#define blix_updown_of(...)    BLIX_OF_(blix_updown_resolve, __VA_ARGS__, NULL)
#define blix_gauge_of(...)     BLIX_OF_(blix_gauge_resolve, __VA_ARGS__, NULL)
#define blix_histogram_of(...) BLIX_OF_(blix_histogram_resolve, __VA_ARGS__, NULL)
#endif

/* ---- a node's own metrics ------------------------------------------------------------------- */

enum blix_metric_kind {
	BLIX_KIND_COUNTER = 1,
	BLIX_KIND_UPDOWN = 2,
	BLIX_KIND_GAUGE = 3,
	BLIX_KIND_GAUGE_F64 = 4,
	BLIX_KIND_HISTOGRAM = 5,
};

struct blix_metric_spec {
	/* As exposed: [a-zA-Z_][a-zA-Z0-9_]*, at most 200 bytes; a counter, and nothing else, ends
	 * in _total. */
	const char *name;
	/* One sentence, at most 1000 bytes; NULL = "". */
	const char *help;
	/* UCUM, at most 63 bytes: "s", "By", "1", "{thing}"; NULL = "". A counter, up-down counter
	 * or histogram in "s" is recorded in ns. */
	const char *unit;
	enum blix_metric_kind kind;
	/* n_label_keys of them, at most 8: [a-zA-Z_][a-zA-Z0-9_]*, at most 100 bytes, each once;
	 * not "le", "quantile", "otel_metric_overflow", nor with two underscores in front. */
	const char *const *label_keys;
	size_t n_label_keys;
	/* 0 = 64; at most 4096. */
	uint32_t max_series;
	/* Histogram: at most 24 ascending upper bounds, above 0, in the recorded unit; a value
	 * equal to a bound belongs below it. NULL = 100 us .. 10 s, for unit "s" only. Other kinds:
	 * NULL. */
	const uint64_t *bounds;
	size_t n_bounds;
};

/* Register a metric that the catalogue lacks. *ret_slot then works like a catalogue slot, before
 * and after blix_open(). Registering the same spec again gives the same slot. Strings are copied.
 *
 * 0, or a negative errno:
 *   -EINVAL  name, key, unit, kind, max_series or bounds are out of range
 *   -EEXIST  another metric has this name, or one of its samples would have it (a histogram "h"
 *            has h_bucket, h_count and h_sum)
 *   -ENOSPC  no descriptor, bucket layout or string space is left */
int blix_metric_register(const struct blix_metric_spec *spec, uint32_t *ret_slot);

/* ---- recording: hot ------------------------------------------------------------------------- */

/* What the recording calls need to know about their thread. Part of the ABI, written by the
 * library alone. */
struct blix_self {
	uint64_t *cells; /* of this thread's lane */
	uint32_t epoch;	 /* matches blix_epoch_ while `cells` may be used without further ado */
	uint32_t traced; /* non-zero inside a sampled span: updates may leave an exemplar */
};
extern __thread struct blix_self blix_self_ __attribute__((tls_model("initial-exec")));
extern uint32_t blix_epoch_; /* changes with each open, close and fork; never 0 */

void blix_add_slow_(blix_counter counter, uint64_t n);

/* Add `n` to a counter. */
static inline void blix_add(blix_counter counter, uint64_t n)
{
	uint32_t epoch = __atomic_load_n(&blix_epoch_, __ATOMIC_RELAXED);

	if (__builtin_expect(blix_self_.epoch != epoch || blix_self_.traced, 0)) {
		blix_add_slow_(counter, n);
		return;
	}
	uint64_t *cell = &blix_self_.cells[counter.cell];
	__atomic_store_n(cell, __atomic_load_n(cell, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

/* Add `n`, which may be negative, to an up-down counter. */
void blix_updown(blix_updown_counter counter, int64_t n);

/* Set an integer gauge, for all threads; on a floating-point gauge the value is converted. */
void blix_set(blix_gauge gauge, int64_t value);

/* Set a floating-point gauge; on an integer gauge the value is truncated (NaN and beyond: 0,
 * clamp). */
void blix_set_f64(blix_gauge gauge, double value);

/* Record a duration in nanoseconds into a histogram whose unit is "s". */
void blix_observe_ns(blix_histogram histogram, uint64_t ns);

/* Record a value into a histogram, in the unit it is recorded in: the metric's own, but ns where
 * that is "s". */
void blix_observe(blix_histogram histogram, uint64_t value);

/* Add `n` to a counter from a signal handler (async-signal-safe, about ten times dearer). */
void blix_sig_add(blix_counter counter, uint64_t n);

/* CLOCK_MONOTONIC in ns: the clock of every time in the file. */
uint64_t blix_now_ns(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}

#define BLIX_OF_(type, of, resolve)                                                                \
	template <typename... Values> inline type of(uint32_t slot, Values... values)              \
	{                                                                                          \
		const char *const list[] = {values..., nullptr};                                   \
		return resolve(slot, list, sizeof...(Values));                                     \
	}
BLIX_OF_(blix_counter, blix_counter_of, blix_counter_resolve)
BLIX_OF_(blix_updown_counter, blix_updown_of, blix_updown_resolve)
BLIX_OF_(blix_gauge, blix_gauge_of, blix_gauge_resolve)
BLIX_OF_(blix_histogram, blix_histogram_of, blix_histogram_resolve)
#undef BLIX_OF_
#endif

#endif
