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
 * blix_observe_ns, blix_observe, blix_heartbeat; of spans, context and logs all but the ..._of calls)
 * never blocks, allocates, takes a lock, makes a system call, touches errno or fails. Exceptions:
 * a thread's first recording call takes a lane for it, which costs one gettid(2), and its first span
 * may seed its ids, one getrandom(2); a record may wake a sleeping agent, one futex(2) each time
 * the agent has armed it; what keeps a handle in a static of its call site (BLIX_NAME, BLIX_KEY and
 * those made of them) resolves it at its first passage. Resolving calls (..._of, ..._resolve,
 * ..._register) are cold: they may wait for a mutex. Unless said otherwise every call may be made
 * from any thread; none but blix_sig_add() may be made from a signal handler. A span or log written
 * from one all the same, in the middle of another, is dropped and counted (reentrant).
 */
#ifndef BLIXARD_HOOKS_H
#define BLIXARD_HOOKS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* Never a function of its own in your program: the library has one under the same name. */
#define BLIX_INLINE_ static inline __attribute__((always_inline))

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

/* CLOCK_MONOTONIC in ns: the clock of every time in the file. Where the processor's time stamp
 * counter is the kernel's clock source, it is read instead, calibrated once a second: within
 * microseconds of clock_gettime(2). */
uint64_t blix_now_ns(void);

/* ---- names and keys ------------------------------------------------------------------------- */

/* The name of a span. All zeros: "overflow". */
typedef struct {
	uint32_t id;	/* string + 1 */
	uint32_t index; /* into the sampling thresholds; 0 = the general one */
} blix_name;

/* The key of an attribute, or the name of an event. All zeros: what carries it is dropped. */
typedef struct {
	uint32_t id; /* string + 1 */
} blix_key;

/* The handle of a text of up to 200 bytes (the rest is cut, what is not UTF-8 becomes U+FFFD; NULL
 * and "" give the handle of zeros). The same text always yields the same handle, before and after
 * blix_open(). When the process's string table is full, the handle of "overflow" comes back,
 * counted. Cold: takes a mutex. Names must come from a small set: never put ids into them. */
blix_name blix_name_of(const char *text);
blix_key blix_key_of(const char *text);

blix_name blix_name_first_(uint64_t *kept, const char *text);
blix_key blix_key_first_(uint32_t *kept, const char *text);

BLIX_INLINE_ blix_name blix_name_kept_(uint64_t *kept, const char *text)
{
	uint64_t both = __atomic_load_n(kept, __ATOMIC_RELAXED);
	blix_name name;

	if (__builtin_expect(both == 0, 0))
		return blix_name_first_(kept, text);
	name.id = (uint32_t)both;
	name.index = (uint32_t)(both >> 32);
	return name;
}

BLIX_INLINE_ blix_key blix_key_kept_(uint32_t *kept, const char *text)
{
	blix_key key;

	key.id = __atomic_load_n(kept, __ATOMIC_RELAXED);
	if (__builtin_expect(key.id == 0, 0))
		return blix_key_first_(kept, text);
	return key;
}

/* The handle of a literal, kept in a static of the call site: cold the first time it is passed, one
 * load from then on. Not for texts that differ from one passage to the next. */
#define BLIX_NAME(literal)                                                                         \
	__extension__({                                                                            \
		static uint64_t blix_kept_;                                                        \
		blix_name_kept_(&blix_kept_, "" literal);                                          \
	})
#define BLIX_KEY(literal)                                                                          \
	__extension__({                                                                            \
		static uint32_t blix_kept_;                                                        \
		blix_key_kept_(&blix_kept_, "" literal);                                           \
	})

/* ---- attributes ----------------------------------------------------------------------------- */

enum blix_attr_type {
	BLIX_ATTR_NONE = 0, /* dropped */
	BLIX_ATTR_BOOL = 1,
	BLIX_ATTR_I64 = 2,
	BLIX_ATTR_F64 = 3,
	BLIX_ATTR_STR = 4,
	BLIX_ATTR_BYTES = 6,
	BLIX_ATTR_STR_ARRAY = 7,
};

/* One attribute. What it points to is borrowed until the call it is given to returns. */
struct blix_attr {
	blix_key key;
	uint32_t type; /* enum blix_attr_type */
	uint64_t len;  /* bytes of a text or of bytes, strings of an array */
	union {
		uint64_t boolean;
		int64_t i64;
		double f64;
		const void *bytes;
		const char *const *strings;
	} value;
};

BLIX_INLINE_ struct blix_attr blix_attr_(blix_key key, enum blix_attr_type type, uint64_t len)
{
	struct blix_attr attr;

	attr.key = key;
	attr.type = (uint32_t)type;
	attr.len = len;
	attr.value.boolean = 0;
	return attr;
}

BLIX_INLINE_ struct blix_attr blix_attr_text(blix_key key, const char *text, size_t len_bytes)
{
	struct blix_attr attr = blix_attr_(key, BLIX_ATTR_STR, text ? len_bytes : 0);

	attr.value.bytes = text;
	return attr;
}

/* NULL is "". */
BLIX_INLINE_ struct blix_attr blix_attr_str(blix_key key, const char *text)
{
	return blix_attr_text(key, text, text ? __builtin_strlen(text) : 0);
}

BLIX_INLINE_ struct blix_attr blix_attr_i64(blix_key key, int64_t value)
{
	struct blix_attr attr = blix_attr_(key, BLIX_ATTR_I64, 0);

	attr.value.i64 = value;
	return attr;
}

BLIX_INLINE_ struct blix_attr blix_attr_f64(blix_key key, double value)
{
	struct blix_attr attr = blix_attr_(key, BLIX_ATTR_F64, 0);

	attr.value.f64 = value;
	return attr;
}

BLIX_INLINE_ struct blix_attr blix_attr_bool(blix_key key, int value)
{
	struct blix_attr attr = blix_attr_(key, BLIX_ATTR_BOOL, 0);

	attr.value.boolean = value != 0;
	return attr;
}

BLIX_INLINE_ struct blix_attr blix_attr_bytes(blix_key key, const void *bytes, size_t len_bytes)
{
	struct blix_attr attr = blix_attr_(key, BLIX_ATTR_BYTES, bytes ? len_bytes : 0);

	attr.value.bytes = bytes;
	return attr;
}

/* `n` strings; one that is NULL is "". */
BLIX_INLINE_ struct blix_attr blix_attr_str_array(blix_key key, const char *const *strings,
						  size_t n)
{
	struct blix_attr attr = blix_attr_(key, BLIX_ATTR_STR_ARRAY, strings ? n : 0);

	attr.value.strings = strings;
	return attr;
}

/* An attribute with a literal key, for the argument lists of blix_log and blix_span_event. */
#define BLIX_STR(key, text)		blix_attr_str(BLIX_KEY(key), (text))
#define BLIX_TEXT(key, text, len)	blix_attr_text(BLIX_KEY(key), (text), (len))
#define BLIX_I64(key, value)		blix_attr_i64(BLIX_KEY(key), (value))
#define BLIX_F64(key, value)		blix_attr_f64(BLIX_KEY(key), (value))
#define BLIX_BOOL(key, value)		blix_attr_bool(BLIX_KEY(key), (value))
#define BLIX_BYTES(key, bytes, len)	blix_attr_bytes(BLIX_KEY(key), (bytes), (len))
#define BLIX_STR_ARRAY(key, strings, n) blix_attr_str_array(BLIX_KEY(key), (strings), (n))

/* ---- context -------------------------------------------------------------------------------- */

enum {
	BLIX_TRACE_SAMPLED = 1, /* W3C trace flags */
	BLIX_TRACE_RANDOM = 2,
	BLIX_TRACESTATE_BYTES = 512,
	BLIX_BAGGAGE_BYTES = 8192,
};

/* Where in which trace: what a span begins under, and what travels to other processes. A value of
 * about 8.5 KiB, because W3C asks to carry that much baggage; only the used part is ever copied.
 * All ids zero: no parent. Texts are not terminated. */
struct blix_context {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t trace_flags;
	uint8_t remote; /* 1: a span of another process */
	uint16_t tracestate_len;
	uint16_t baggage_len;
	uint16_t reserved;
	char tracestate[BLIX_TRACESTATE_BYTES];
	char baggage[BLIX_BAGGAGE_BYTES];
};

/* ---- spans ---------------------------------------------------------------------------------- */

/* A span is a value: copy it, let it travel with the request from thread to thread. Its attributes,
 * events and links gather in its slot of the file, 896 bytes, and survive a crash of the process.
 * Calls on one span must not be made by two threads at the same time; ending one from two threads
 * is misuse. A span that is never ended holds its slot, and shows as open.
 *
 * A span that is not sampled, or begun while no file is open, or for which no slot was free, is not
 * recorded: calls on it do nothing, but its ids are valid and travel. Tracestate and baggage of up to
 * 1024 spans at a time travel with them; those of further ones are lost, counted. Calls on a span that has
 * ended, or that an earlier blix_open() recorded, do nothing and are counted. */
typedef struct {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint32_t place;	  /* 1 + where it is recorded; 0 = nowhere */
	uint16_t carried; /* 1 + where its tracestate and baggage are; 0 = it has none */
	uint8_t trace_flags;
	uint8_t generation;
} blix_span;

enum blix_span_kind {
	BLIX_INTERNAL = 1,
	BLIX_SERVER = 2,
	BLIX_CLIENT = 3,
	BLIX_PRODUCER = 4,
	BLIX_CONSUMER = 5,
};

enum blix_span_status {
	BLIX_SPAN_UNSET = 0,
	BLIX_SPAN_OK = 1,
	BLIX_SPAN_ERROR = 2,
};

/* Begin a span now. `parent` NULL: below the thread's current span, if any, else a root; a context
 * of zeros: a root. Whether a root is recorded is decided here, by OTEL_TRACES_SAMPLER and run-time
 * control; a child follows its parent (with parentbased_*, the default). Never fails. */
blix_span blix_span_begin(blix_name name, enum blix_span_kind kind,
			  const struct blix_context *parent);

/* The same below another span of this process, which may have ended. */
blix_span blix_span_begin_under(blix_name name, enum blix_span_kind kind, blix_span parent);

/* End it now, from any thread. It is written to the ring as one record; one with status ERROR, or
 * longer than BLIXARD_SLOW_SPAN_MS (default 1000), is kept longest. */
void blix_span_end(blix_span span);

/* Will what is added be recorded? Saves the making of dear attributes. */
BLIX_INLINE_ int blix_span_is_recorded(blix_span span)
{
	return span.place != 0;
}

/* Add an attribute. Of two with one key the later counts. Texts and bytes are copied; a text that
 * is longer than OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, or than what is left of the slot, is cut
 * between two characters. Beyond OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT (default 128), or when the slot is
 * full, the attribute is dropped, and the record says how many were. */
void blix_span_str(blix_span span, blix_key key, const char *text);
void blix_span_text(blix_span span, blix_key key, const char *text, size_t len_bytes);
void blix_span_i64(blix_span span, blix_key key, int64_t value);
void blix_span_f64(blix_span span, blix_key key, double value);
void blix_span_bool(blix_span span, blix_key key, int value);
void blix_span_bytes(blix_span span, blix_key key, const void *bytes, size_t len_bytes);
void blix_span_str_array(blix_span span, blix_key key, const char *const *strings, size_t n);
void blix_span_attrs(blix_span span, const struct blix_attr *attrs, size_t n);

/* Add an event, now, with attributes of its own (within the same slot; OTEL_SPAN_EVENT_COUNT_LIMIT,
 * OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT). blix_span_event(span, "fsync.slow", BLIX_I64("ms", 12)) takes
 * a literal name and attributes, none or more. */
void blix_span_event_add(blix_span span, blix_key name, const struct blix_attr *attrs, size_t n);

/* Add a link to another span, with its tracestate and with attributes (OTEL_SPAN_LINK_COUNT_LIMIT,
 * OTEL_LINK_ATTRIBUTE_COUNT_LIMIT). Nothing is added for a context without ids. */
void blix_span_link_add(blix_span span, const struct blix_context *to,
			const struct blix_attr *attrs, size_t n);

/* Set the status. OK is final; ERROR replaces UNSET; setting UNSET does nothing. `text` explains an
 * ERROR (NULL: nothing) and is left out with another status. */
void blix_span_status(blix_span span, enum blix_span_status status, const char *text);

/* The operation failed: status ERROR with `text`, attribute error.type = `type`, and an event
 * "exception" with exception.type and exception.message. `type` is one of few: a class of errors, a
 * code, "ENOSPC"; NULL: "_OTHER". blix_span_error() is the same without a type. */
void blix_span_failed(blix_span span, const char *type, const char *text);
void blix_span_error(blix_span span, const char *text);

/* The context of a span: for links, and for children begun elsewhere. */
struct blix_context blix_context_of(blix_span span);

/* ---- the thread's current span -------------------------------------------------------------- */

/* What blix_detach() needs. */
typedef struct {
	blix_span previous;
	uint32_t tid; /* of the thread that attached; 0 = nothing was attached */
	uint32_t reserved;
} blix_token;

/* Make `span` the current one of this thread: parent of the spans it begins, source of exemplars
 * and of the ids of its logs, and what the storage probe reads. It stays so until detached, even
 * if it ends earlier. A thread's first attach may cost one gettid(2). */
blix_token blix_attach(blix_span span);

/* Back to what was current before. On another thread it restores nothing and is counted. */
void blix_detach(blix_token token);

/* The context that is current on this thread; all zeros: none. */
struct blix_context blix_current(void);

/* The span that is current on this thread; all zeros: none. */
blix_span blix_current_span(void);

BLIX_INLINE_ void blix_scope_end_(blix_token *token)
{
	blix_detach(*token);
}

/* Attach `span` until the end of the enclosing block, however it is left (not by longjmp). */
#define BLIX_PASTE2_(a, b) a##b
#define BLIX_PASTE_(a, b)  BLIX_PASTE2_(a, b)
#define BLIX_SCOPE(span)                                                                           \
	blix_token BLIX_PASTE_(blix_scope_, __LINE__)                                              \
		__attribute__((cleanup(blix_scope_end_), unused)) = blix_attach(span)

/* ---- to and from other processes ------------------------------------------------------------ */

/* The value of a header of an incoming request, in lower case ("traceparent", "tracestate",
 * "baggage"), terminated; NULL: absent. Several headers of one name are joined with commas.
 * Borrowed until the next call. */
typedef const char *(*blix_getter)(void *arg, const char *name);

/* Put a header into an outgoing request; `value` is borrowed for the call. */
typedef void (*blix_setter)(void *arg, const char *name, const char *value);

/* The context in the headers of a request, as W3C Trace Context and Baggage say and OTEL_PROPAGATORS
 * (tracecontext, baggage, none) allows. A malformed traceparent yields a context without ids, a
 * malformed tracestate is left out, and so is each malformed member of the baggage. */
struct blix_context blix_extract(blix_getter get, void *arg);

/* Put the thread's current context, a span's, or any into the headers of a request. */
void blix_inject(blix_setter set, void *arg);
void blix_inject_span(blix_span span, blix_setter set, void *arg);
void blix_inject_context(const struct blix_context *context, blix_setter set, void *arg);

/* ---- logs ----------------------------------------------------------------------------------- */

/* OpenTelemetry's severity numbers; those between are allowed. */
enum blix_severity {
	BLIX_TRACE = 1,
	BLIX_DEBUG = 5,
	BLIX_INFO = 9,
	BLIX_WARN = 13,
	BLIX_ERROR = 17,
	BLIX_FATAL = 21,
};

/* What a call site keeps between its records. Zeros. */
struct blix_log_site {
	uint64_t due_ns;     /* when its records so far would have been due at the allowed rate */
	uint32_t suppressed; /* since its last record */
	uint32_t reserved;
};

extern uint32_t blix_log_min_; /* lowest severity recorded */

BLIX_INLINE_ int blix_log_is_on(int severity)
{
	return (uint32_t)severity >= __atomic_load_n(&blix_log_min_, __ATOMIC_RELAXED);
}

/* Write one log record, with the ids of the thread's current span. `body` is at most 1 KiB, the
 * rest is cut between two characters; attributes beyond OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT or
 * about 1.9 KiB with the body are dropped and counted in the record. `event` names what happened
 * (all zeros: no event). One of severity ERROR and above is kept longest.
 *
 * A call site may write BLIXARD_LOG_RATE records a second (default 100; 0: no limit) after a burst
 * of BLIXARD_LOG_BURST (default 1000); what exceeds this is counted (rate_limited), and the site's
 * next record says how many there were, in blixard.log.suppressed. `site` NULL: no limit.
 * Below BLIXARD_LOG_LEVEL (trace, debug, info, warn, error, fatal, off, or 1 to 25; default trace)
 * or what run-time control demands, nothing is written. */
void blix_log_write(struct blix_log_site *site, int severity, blix_key event, const char *body,
		    const struct blix_attr *attrs, size_t n);

/* blix_log(BLIX_INFO, "vm created", BLIX_STR("vm.name", name), BLIX_I64("took_ms", ms));
 * blix_log_event(BLIX_WARN, "raft.leader.lost", "leader lost", ...): with an event's name.
 * A statement; the attributes are evaluated only if the severity is recorded. */
#ifdef __cplusplus
#define BLIX_NO_EVENT_ blix_key()
#else
#define BLIX_NO_EVENT_ ((blix_key){0})
#endif
#define BLIX_ATTR_END_	   blix_attr_(BLIX_NO_EVENT_, BLIX_ATTR_NONE, 0)
#define BLIX_COUNT_(attrs) (sizeof(attrs) / sizeof((attrs)[0]) - 1)
#define BLIX_LOG_(severity, event, body, ...)                                                      \
	do {                                                                                       \
		if (blix_log_is_on(severity)) {                                                    \
			static struct blix_log_site blix_site_;                                    \
			const struct blix_attr blix_attrs_[] = {__VA_ARGS__};                      \
			blix_log_write(&blix_site_, (severity), (event), (body), blix_attrs_,      \
				       BLIX_COUNT_(blix_attrs_));                                  \
		}                                                                                  \
	} while (0)
#define BLIX_LOG_PLAIN_(severity, ...)	      BLIX_LOG_(severity, BLIX_NO_EVENT_, __VA_ARGS__)
#define BLIX_LOG_EVENT_(severity, event, ...) BLIX_LOG_(severity, BLIX_KEY(event), __VA_ARGS__)
#define blix_log(severity, ...)		      BLIX_LOG_PLAIN_(severity, __VA_ARGS__, BLIX_ATTR_END_)
#define blix_log_event(severity, event, ...)                                                       \
	BLIX_LOG_EVENT_(severity, event, __VA_ARGS__, BLIX_ATTR_END_)

#define BLIX_EVENT_(span, name, ...)                                                               \
	do {                                                                                       \
		const blix_span blix_span_ = (span);                                               \
		if (blix_span_is_recorded(blix_span_)) {                                           \
			const struct blix_attr blix_attrs_[] = {__VA_ARGS__};                      \
			blix_span_event_add(blix_span_, BLIX_KEY(name), blix_attrs_,               \
					    BLIX_COUNT_(blix_attrs_));                             \
		}                                                                                  \
	} while (0)
#define BLIX_LINK_(span, to, ...)                                                                  \
	do {                                                                                       \
		const blix_span blix_span_ = (span);                                               \
		if (blix_span_is_recorded(blix_span_)) {                                           \
			const struct blix_attr blix_attrs_[] = {__VA_ARGS__};                      \
			blix_span_link_add(blix_span_, (to), blix_attrs_,                          \
					   BLIX_COUNT_(blix_attrs_));                              \
		}                                                                                  \
	} while (0)
#define BLIX_EVENT_LIST_(span, ...) BLIX_EVENT_(span, __VA_ARGS__)
#define BLIX_LINK_LIST_(span, ...)  BLIX_LINK_(span, __VA_ARGS__)
#define blix_span_event(span, ...)  BLIX_EVENT_LIST_(span, __VA_ARGS__, BLIX_ATTR_END_)
#define blix_span_link(span, ...)   BLIX_LINK_LIST_(span, __VA_ARGS__, BLIX_ATTR_END_)

/* ---- what every node records ---------------------------------------------------------------- */

/* A gRPC method of the node's service. All zeros: "other". */
typedef struct {
	uint32_t index;
} blix_grpc_method;

/* A table of the node's storage. All zeros: "other". */
typedef struct {
	uint32_t index;
} blix_storage_table;

/* Cold; beyond 63 methods, or 15 tables, that of "other" comes back. */
blix_grpc_method blix_grpc_method_of(const char *method);
blix_storage_table blix_storage_table_of(const char *table);

/* One request served: counts it, its duration (with an exemplar inside a sampled span), and as
 * failed where `status`, a gRPC code (0 = OK to 16), says that the server, or the way to it, failed:
 * UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, RESOURCE_EXHAUSTED.
 * The first failure with a code of a method is cold. */
void blix_record_grpc_request(blix_grpc_method method, uint64_t duration_ns, int status);

enum blix_storage_op { BLIX_STORAGE_READ = 0, BLIX_STORAGE_WRITE = 1, BLIX_STORAGE_SYNC = 2 };

/* One storage operation: counts it by table and kind, its duration, and an error if `error` is not
 * 0. A SYNC has no count or duration of its own here: the storage probe times it. */
void blix_record_storage_operation(blix_storage_table table, enum blix_storage_op op,
				   uint64_t duration_ns, int error);

enum blix_raft_outcome {
	BLIX_RAFT_COMMITTED = 0,
	BLIX_RAFT_NOT_LEADER = 1,
	BLIX_RAFT_LEADERSHIP_LOST = 2,
	BLIX_RAFT_TIMEOUT = 3,
	BLIX_RAFT_STORAGE = 4,
	BLIX_RAFT_CANCELLED = 5,
	BLIX_RAFT_OTHER = 6,
};

/* One Raft proposal of this node: counts it, its duration if it was committed, and why not if it was
 * not. */
void blix_record_raft_proposal(uint64_t duration_ns, enum blix_raft_outcome outcome);

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
