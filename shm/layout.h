/* shm/layout.h - THE ABI: the file /dev/shm/blixN, version 1. Start here.
 *
 * One node process writes the file, any number of processes read it. Nothing in it is a pointer,
 * a lock or a size that depends on the compiler; every number is little-endian and naturally
 * aligned; every offset is a file offset. Includes libc's fixed-width integers only.
 *
 * ---- The file ------------------------------------------------------------------------------
 *
 *   0x0000  +---------------------------+  struct blix_header, page 0
 *           | frozen prefix, identity   |    written once, covered by static_crc32c
 *           | state, beats, clock pair  |    written by the housekeeping thread
 *           | registry counts           |    published with release as the registry grows
 *           | self statistics           |
 *           | gRPC address, names       |
 *   0x0800  | TOC: 64-byte entries      |  struct blix_toc[toc_count], stride toc_stride
 *   0x1000  +---------------------------+  each section starts where its TOC entry says:
 *           | BUCKET_LAYOUTS            |  struct blix_layout_desc[]
 *           | METRICS                   |  struct blix_metric_desc[]     append-only
 *           | SERIES                    |  struct blix_series_desc[]     append-only
 *           | STRINGS                   |  {u16 len; bytes; pad to 8}    append-only, id = offset/8
 *           | RESOURCE                  |  bytes of an OTLP Resource message
 *           | GAUGES                    |  u64[]: last value set, one place for all threads
 *           | EXEMPLARS                 |  struct blix_exemplar[]
 *           | SLOTS0                    |  struct blix_span_slot[]: more slots for lane 0
 *           +- 64 KiB boundary ---------+
 *           | LANES: lane 0             |  see "a lane"; lane 0 is shared by all who got no lane
 *           | LANES: lane 1 ..          |  each lane starts on a 64 KiB boundary
 *           +- 64 KiB boundary ---------+
 *           | CONSUMER                  |  the only pages the agent may write
 *           | CONTROL (inside)          |
 *           +---------------------------+  file_size
 *
 * A lane belongs to one thread at a time; aux of the LANES entry holds the offsets inside it:
 *
 *   struct blix_lane   owner word | thread context, each in its own 128-byte block
 *   cells              u64[n_cells]: counters, histogram buckets, sums; never zeroed
 *   struct blix_ring   tail | floor | drops, each in its own 128-byte block
 *   slots              struct blix_span_slot[n_slots]: spans being built
 *   ring data          power of two bytes
 *
 * ---- Writer (a recording thread) -----------------------------------------------------------
 *  counter    cells[c] += n             one relaxed load, one relaxed store: only this thread writes
 *  histogram  cells[bucket]++, cells[sum] += v      the count is the sum of the buckets
 *  gauge      gauges[i] = bits
 *  record     ring.c: make room by moving `floor`, fence, copy words, then one release store of
 *             `tail` commits. Nothing else makes a record visible.
 *  span       slot.c: FREE -> FILLING -> OPEN -> ENDING -> FREE, with a detour DROPPING
 *  registry   string bytes, then the descriptor, then the count with release; under a mutex of the
 *             writing process. Descriptors are never edited and never freed.
 *
 * ---- Reader ----------------------------------------------------------------------------------
 *  1. Read the frozen 16 bytes; refuse another magic, byte order or a newer major.
 *  2. Check static_crc32c, the incompat bits and every TOC entry against the real file size.
 *  3. Load the counts reg_series, reg_metrics, reg_layouts, reg_strings_len in that order (acquire);
 *     descriptors below the counts never change again.
 *  4. A value of a series is the sum of its cells over all lanes. Lanes whose owner word is still 0
 *     were never used and need not be touched.
 *  5. Records: ring.h. A private cursor per lane; loss is known from gaps in seq only.
 *  map.c does all of it and is the only code that trusts nothing and checks everything.
 *
 * ---- What a crash leaves behind -----------------------------------------------------------------
 *  After SIGKILL the memory equals a prefix, in compiled program order, of each thread's stores.
 *  So: counters hold their last value; a record is there whole or not at all (`tail` is stored
 *  last); a registry entry is there whole or not counted; a span that was being built is in its
 *  slot, and the slot's state says whether it also reached the ring. The exclusive OFD lock on
 *  byte 0 falls when the mapping goes: that, and no clock or pid, says that the owner is gone.
 *
 * ---- Evolution ------------------------------------------------------------------------------------
 *  minor  fields appended to an element (its stride grows), new TOC types, record types, compat
 *         bits. A reader takes min(stride, known); a missing tail reads as zero.
 *  major  only when an existing offset changes its meaning. An unknown incompat bit refuses.
 */
#ifndef BLIX_SHM_LAYOUT_H
#define BLIX_SHM_LAYOUT_H

/* The columns are documentation. */
/* clang-format off */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BLIX_ABI_MAJOR = 1,
	BLIX_ABI_MINOR = 0,
	BLIX_LINE = 128,	      /* two 64-byte lines: the adjacent-line prefetcher pairs them */
	BLIX_PAGE_HEADER = 4096,      /* size of page 0, whatever the machine's page size */
	BLIX_SECTION_ALIGN = 65536,   /* of LANES, each lane and CONSUMER: pages of 16 and 64 KiB exist */
	BLIX_TOC_OFFSET = 0x800,
};

#define BLIX_MAGIC "BLIXSHM\001" /* 8 bytes, the terminator not counted */
#define BLIX_BYTE_ORDER 0x01020304u

/* Hard caps: what a reader accepts, and what a writer may ask for. */
enum {
	BLIX_CAP_TOC = 64,
	BLIX_CAP_LANES = 1024,
	BLIX_CAP_CELLS = 65536,
	BLIX_CAP_ALL_CELLS = 16 << 20, /* lanes x cells: what a reader adds up for one scrape */
	BLIX_CAP_STRINGS_BYTES = 16 << 20,
	BLIX_CAP_METRICS = 8192,
	BLIX_CAP_SERIES = 65536,
	BLIX_CAP_LAYOUTS = 64,
	BLIX_CAP_GAUGES = 65536,
	BLIX_CAP_EXEMPLARS = 65536,
	BLIX_CAP_SLOTS = 4096,
	BLIX_CAP_RESOURCE_BYTES = 65536,
	BLIX_RING_BYTES_MIN = 16 << 10,
	BLIX_RING_BYTES_MAX = 64 << 20,
};
#define BLIX_CAP_FILE_BYTES (UINT64_C(8) << 30)

/* header.state */
enum blix_state {
	BLIX_STATE_INIT = 0,	    /* being filled; never seen under the published name */
	BLIX_STATE_LIVE = 1,
	BLIX_STATE_CLOSED = 2,	    /* blix_close() */
	BLIX_STATE_EXITED = 3,	    /* the process ended through exit() */
	BLIX_STATE_CRASH_NOTED = 4, /* a fatal signal was seen and exit_code holds it */
};

/* header.flags */
enum {
	BLIX_FLAG_ENDPOINT_SET = 1u << 0,   /* an OTLP endpoint variable was set in the node's environment */
	BLIX_FLAG_HISTOGRAMS_BOTH = 1u << 1, /* exponential cells beside the classic ones */
	BLIX_FLAG_APP_BEAT = 1u << 2,	    /* reserved: see app_beat, which is 0 until first used */
};

struct blix_header {
	/* 0x000: frozen for ever */
	uint8_t magic[8];
	uint32_t byte_order;
	uint16_t abi_major;
	uint16_t abi_minor;
	/* 0x010 */
	uint32_t header_len; /* BLIX_PAGE_HEADER */
	uint32_t toc_off;
	uint32_t toc_count;
	uint32_t toc_stride;
	uint64_t file_size;
	uint64_t incompat; /* unknown bit: refuse */
	uint64_t compat;   /* unknown bit: ignore */
	/* 0x038 */
	uint8_t boot_id[16];
	uint8_t incarnation[16]; /* random; the stable identity is node_id */
	/* 0x058 */
	uint64_t node_id;
	uint32_t pid; /* meaningful only where pidns_ino is the reader's own */
	uint32_t uid;
	uint64_t pid_start_ticks; /* field 22 of /proc/PID/stat */
	uint64_t pidns_ino;
	uint64_t timens_ino;
	/* 0x080 */
	uint32_t page_size;
	uint32_t line_size; /* BLIX_LINE */
	uint32_t lane_count;
	uint32_t flags;
	uint64_t map_base; /* address of page 0 in the node, for the BPF join */
	uint8_t build_id[20];
	char version[48]; /* service.version of the node */
	uint32_t rsv_dc;
	uint64_t open_mono_ns; /* clock pair of the moment of blix_open */
	uint64_t open_real_ns;
	uint8_t rsv_f0[8];
	uint32_t static_crc32c; /* over bytes 0x000 to 0x0f7 */
	uint32_t rsv_fc;

	/* 0x100: life; written by the housekeeping thread, 1 Hz */
	uint32_t state; /* enum blix_state */
	uint32_t exit_code;
	uint64_t alive_beat; /* counts housekeeping ticks */
	uint64_t app_beat;   /* counts blix_heartbeat(); 0 = never used */
	uint32_t pair_seq;   /* seqlock of the pair: odd while it is being written */
	uint32_t rsv_11c;
	uint64_t pair_mono_ns; /* CLOCK_MONOTONIC and CLOCK_REALTIME of one moment */
	uint64_t pair_real_ns;
	uint32_t orphans_discarded;
	uint8_t rsv_134[0x4c];

	/* 0x180: registry; published with release, loaded in the order series, metrics, layouts, strings */
	uint32_t reg_strings_len; /* bytes used of STRINGS */
	uint32_t reg_metrics;
	uint32_t reg_series;
	uint32_t reg_layouts;
	uint64_t reg_gen; /* bumped after each registration */
	uint8_t rsv_198[0x68];

	/* 0x200: what the hooks count about themselves; index: enum blix_stat */
	uint64_t stats[32];

	/* 0x300: NUL-padded UTF-8 */
	char grpc_address[128]; /* host:port of the node's gRPC server */
	char cluster[64];
	char service_name[64];
	char data_dir[256];
	uint8_t rsv_500[BLIX_TOC_OFFSET - 0x500];
};

/* header.stats */
enum blix_stat {
	BLIX_STAT_SERIES_OVERFLOW,   /* label sets sent to an overflow series */
	BLIX_STAT_NO_CELLS,	     /* series without cells, gauges or descriptors left: recorded nowhere */
	BLIX_STAT_LABEL_MISMATCH,    /* resolving calls with a wrong number of label values */
	BLIX_STAT_STRINGS_FULL,	     /* strings replaced by "overflow" */
	BLIX_STAT_LANE0_CLAIMS,	     /* threads that found no free lane and share lane 0 */
	BLIX_STAT_LANES_SETTLED,     /* lanes taken back from threads that died without their destructor */
	BLIX_STAT_EXEMPLARS_FULL,    /* series that got no exemplar slots */
	BLIX_STAT_CONSUMER_CORRUPT,  /* acknowledgements beyond the tail, ignored */
	BLIX_STAT_DETACH_FOREIGN,    /* detach on another thread than the attach */
	BLIX_STAT_STALE_HANDLE,	     /* span calls on an ended or foreign handle */
	BLIX_STAT_UNKNOWN_SLOT,	     /* resolving calls with a slot or kind that does not fit */
	BLIX_STAT_CARRIED_FULL,	     /* spans whose tracestate and baggage found no room */
	BLIX_STAT_N,
};

struct blix_toc {
	uint32_t type; /* enum blix_section; unknown types are skipped */
	uint32_t flags;
	uint64_t off;
	uint64_t len;
	uint32_t stride; /* bytes from one element to the next; 0 where there are no elements */
	uint32_t count;
	uint64_t aux[4];
};

enum blix_section {
	BLIX_SEC_STRINGS = 1,
	BLIX_SEC_METRICS = 2,
	BLIX_SEC_SERIES = 3,
	BLIX_SEC_BUCKET_LAYOUTS = 4,
	BLIX_SEC_GAUGES = 5,
	BLIX_SEC_EXEMPLARS = 6,
	BLIX_SEC_LANES = 7,
	BLIX_SEC_CONSUMER = 8,
	BLIX_SEC_RESOURCE = 9,
	BLIX_SEC_CONTROL = 10,
	BLIX_SEC_SLOTS0 = 11,
};

/* aux of BLIX_SEC_LANES, read as eight u32: offsets inside a lane. */
struct blix_lane_geometry {
	uint32_t cells_off;
	uint32_t n_cells;
	uint32_t ring_ctl_off;
	uint32_t slots_off;
	uint32_t n_slots;
	uint32_t ring_off;
	uint32_t ring_bytes;
	uint32_t rsv;
};

/* ---- registry ---------------------------------------------------------------------------- */

#define BLIX_NO_ID UINT32_MAX /* no string, no gauge, no exemplar, no layout, no series */

/* metric.flags */
enum {
	BLIX_METRIC_STORED_NS = 1u << 0,   /* values are integer nanoseconds, exposed in seconds */
	BLIX_METRIC_EXPONENTIAL = 1u << 1, /* exponential cells follow the classic ones */
};

struct blix_metric_desc {
	uint32_t slot; /* of metrics.def, or BLIX_CATALOGUE_SLOTS and up for a runtime metric */
	uint8_t kind;  /* enum blix_kind */
	uint8_t flags;
	uint8_t n_label_keys;
	uint8_t rsv;
	uint32_t name_id; /* canonical name as exposed */
	uint32_t help_id;
	uint32_t unit_id; /* UCUM */
	uint32_t label_key_ids[8];
	uint32_t layout_id;	  /* index into BUCKET_LAYOUTS; BLIX_NO_ID if not a histogram */
	uint32_t max_series;
	uint32_t overflow_series; /* index of the series labelled otel_metric_overflow="true" */
};

/* series.flags */
enum { BLIX_SERIES_OVERFLOW = 1u << 0 };

struct blix_series_desc {
	uint32_t metric;     /* index into METRICS */
	uint32_t first_cell; /* the same in every lane; 0 is the void cell nobody reads */
	uint32_t n_cells;    /* counter 1; histogram: buckets, +Inf bucket, sum [, exponential] */
	uint32_t gauge_idx;
	uint32_t label_val_ids[8];
	uint32_t exemplar_idx;
	uint32_t n_exemplars; /* 1 per counter, 1 per classic bucket, or 0 */
	uint32_t flags;
	uint32_t rsv;
};

struct blix_layout_desc {
	uint32_t n_bounds;
	uint32_t rsv;
	uint64_t bounds[24]; /* ascending, upper-inclusive; ns where the metric is stored in ns */
	uint64_t rsv_tail[7];
};

/* Exponential cells, in this order, after the classic buckets and the sum: see buckets.h. */

/* ---- exemplars ------------------------------------------------------------------------------ */

struct blix_exemplar {
	uint32_t seq; /* seqlock: odd while being written */
	uint32_t bucket;
	uint64_t value; /* as the series stores it */
	uint64_t t_ns;	/* CLOCK_MONOTONIC of the node */
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t rsv[16];
};

/* ---- lanes ---------------------------------------------------------------------------------- */

#define BLIX_LANE_SETTLING UINT32_MAX /* tid while a dead thread's lane is being settled */

/* What the thread does now; the layout of the first 28 bytes is OTEP 4947's thread record. */
struct blix_thread_context {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t valid;
	uint8_t trace_flags;
	uint16_t attrs_len; /* 0 */
	uint32_t owner_tid; /* in the node's pid namespace */
	uint8_t rsv[32];
};

struct blix_lane {
	uint64_t owner; /* tid << 32 | generation; tid 0 = free; the generation counts on for ever */
	uint8_t rsv0[BLIX_LINE - 8];
	struct blix_thread_context context; /* its own block: read by BPF while owner is polled */
	uint8_t rsv1[BLIX_LINE - 64];
};

enum blix_drop_kind { BLIX_DROP_SPAN, BLIX_DROP_LOG, BLIX_DROP_KINDS };
enum blix_drop_reason {
	BLIX_DROP_FULL,	      /* somebody listens and the ring has no acknowledged record to give up */
	BLIX_DROP_SHED,	      /* above the level at which ordinary records yield to important ones */
	BLIX_DROP_TOO_BIG,    /* record larger than an eighth of the ring */
	BLIX_DROP_REENTRANT,  /* a signal handler wrote during a write */
	BLIX_DROP_CONTENDED,  /* lane 0 was busy */
	BLIX_DROP_OPEN_LIMIT, /* no free span slot */
	BLIX_DROP_CORRUPT,    /* the lane's ring was switched off */
	BLIX_DROP_DISABLED,
	BLIX_DROP_RATE_LIMITED,	 /* a call site that logs too often */
	BLIX_DROP_REASONS = 16, /* 9 to 15 are reserved */
};

struct blix_ring {
	uint64_t tail; /* writer, release: everything below is committed */
	uint8_t rsv0[BLIX_LINE - 8];
	uint64_t floor; /* writer, relaxed + fence: everything below is being overwritten */
	uint8_t rsv1[BLIX_LINE - 8];
	uint64_t drops[BLIX_DROP_KINDS][BLIX_DROP_REASONS]; /* release */
};

/* ---- records ------------------------------------------------------------------------------------ */

enum blix_record_type {
	BLIX_REC_PAD = 1, /* one word {size, type}; fills the gap before the wrap */
	BLIX_REC_SPAN = 2,
	BLIX_REC_LOG = 3,
	/* 4 and 5 were never written */
	BLIX_REC_MARK = 6,  /* phase, leader change, drain, control change; body as LOG */
	BLIX_REC_EXPERIMENTAL = 0x8000,
};

/* record.flags */
enum {
	BLIX_REC_PRIORITY = 1u << 0, /* kept longest: error, slow, severe, MARK */
	BLIX_REC_TRUNCATED = 1u << 1,
};

struct blix_record {
	uint32_t size; /* whole record, multiple of 8 */
	uint16_t type;
	uint16_t flags;
	uint64_t seq; /* counts the committed non-PAD records of the lane */
	uint64_t t_ns; /* span: its end; log: when it happened */
};

/* span_flags of a slot and of a SPAN record */
enum {
	BLIX_SPAN_PARENT_REMOTE = 1u << 0, /* the parent is a span of another process */
};

/* enum values of kind and status are OpenTelemetry's: SpanKind 1 to 5, StatusCode 0 to 2. */

/* Body of SPAN. Followed by a run of items: attributes, EVENT, LINK, STATUS, TRACESTATE. */
struct blix_span_body {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t parent_id[8]; /* all zero: a root */
	uint64_t start_ns;
	uint64_t end_ns;
	uint32_t name_id;
	uint16_t scope_id; /* 0: the library's own; no other is defined */
	uint8_t kind;
	uint8_t status;
	uint8_t trace_flags; /* W3C */
	uint8_t span_flags;
	uint16_t dropped_attrs;
	uint16_t dropped_events;
	uint16_t dropped_links;
};

/* Body of LOG and MARK. Followed by a run of items: attributes, BODY. */
struct blix_log_body {
	uint8_t trace_id[16]; /* all zero: outside of any span */
	uint8_t span_id[8];
	uint32_t event_id; /* string id of the event's name; BLIX_NO_ID: none */
	uint16_t scope_id;
	uint8_t severity; /* OpenTelemetry severity number, 1 to 24 */
	uint8_t trace_flags;
	uint16_t dropped_attrs;
	uint16_t rsv;
	uint32_t rsv2;
};

/* ---- items: what spans and logs carry ------------------------------------------------------------ */

/* A run of items fills the rest of a SPAN or LOG record, and data[] of a span slot up to
 * used_bytes: the same bytes in both, in the order in which they were added; a crashed span is read
 * by the same code as a complete one. Item: this head, len bytes of value, zeros up to a multiple
 * of 8. Unknown types are skipped. The last attribute of a key wins. */
struct blix_item {
	uint32_t key_id; /* string id: of the attribute's key, the event's name; else BLIX_NO_ID */
	uint8_t type;	 /* enum blix_item_type */
	uint8_t flags;	 /* BLIX_ITEM_CUT */
	uint16_t len;
};

/* item.flags */
enum { BLIX_ITEM_CUT = 1u << 0 /* the text was longer */ };

enum blix_item_type {
	/* attributes, and elements of an ARRAY */
	BLIX_ITEM_BOOL = 1,	 /* u64, 0 or 1 */
	BLIX_ITEM_I64 = 2,	 /* u64 */
	BLIX_ITEM_F64 = 3,	 /* u64, the bits of a double */
	BLIX_ITEM_STRING = 4,	 /* UTF-8, not terminated */
	BLIX_ITEM_STRING_ID = 5, /* u64, string id */
	BLIX_ITEM_BYTES = 6,
	BLIX_ITEM_ARRAY = 7, /* run of items of one scalar or string type, key_id BLIX_NO_ID */
	/* parts of a span */
	BLIX_ITEM_EVENT = 16,	   /* struct blix_event, then its attributes */
	BLIX_ITEM_LINK = 17,	   /* struct blix_link, then TRACESTATE if any, then its attributes */
	BLIX_ITEM_STATUS = 18,	   /* text that explains an error; the last one wins */
	BLIX_ITEM_TRACESTATE = 19, /* W3C tracestate, as received */
	/* part of a log */
	BLIX_ITEM_BODY = 20, /* text */
};

struct blix_event {
	uint64_t t_ns;
	uint16_t dropped_attrs;
	uint16_t rsv;
	uint32_t rsv2;
};

struct blix_link {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t trace_flags; /* W3C */
	uint8_t link_flags;  /* BLIX_SPAN_PARENT_REMOTE: of another process */
	uint16_t dropped_attrs;
	uint32_t rsv;
};

/* ---- span slots: spans under construction ------------------------------------------------------ */

enum blix_slot_state {
	BLIX_SLOT_FREE,
	BLIX_SLOT_FILLING,
	BLIX_SLOT_OPEN,
	BLIX_SLOT_ENDING,   /* its record is being written to the ring of end_lane */
	BLIX_SLOT_DROPPING, /* that ring refused; the drop is being counted */
};

struct blix_span_slot {
	uint64_t ctl; /* generation << 8 | enum blix_slot_state */
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t parent_id[8];
	uint64_t start_ns;
	uint32_t name_id;
	uint16_t scope_id;
	uint8_t kind;
	uint8_t status;
	uint32_t tid;
	uint32_t span_flags;
	uint64_t end_pos;     /* tail of end_lane before the record was written */
	uint32_t end_lane;
	uint32_t drop_reason;
	uint64_t drop_before; /* drops[span][drop_reason] of end_lane before the drop was counted */
	uint32_t used_bytes;  /* of data[]; release after the bytes */
	uint8_t trace_flags;
	uint8_t n_attrs; /* the owner's counts, against its limits */
	uint8_t n_events;
	uint8_t n_links;
	uint16_t dropped_attrs;
	uint16_t dropped_events;
	uint16_t dropped_links;
	uint8_t rsv[26];
	uint8_t data[896]; /* a run of items */
};

/* ---- consumer pages: the only ones an agent writes ------------------------------------------------ */

struct blix_ack {
	uint64_t head;	   /* everything below is acknowledged or spooled */
	uint64_t head_seq; /* the seq expected next */
	uint64_t lost;	   /* records known lost so far */
};

/* One per lane. Acknowledge: fill ack[1 - sel], then release-store sel. */
struct blix_consumer_lane {
	uint32_t sel;
	uint32_t rsv0;
	struct blix_ack ack[2];
	uint8_t rsv[72];
};

/* consumer.flags */
enum {
	BLIX_CONSUMER_BACK_SOON = 1u << 0, /* the agent stopped cleanly and will be back */
	BLIX_CONSUMER_DONE = 1u << 1,	   /* everything of this incarnation is in custody */
};

struct blix_consumer {
	uint32_t layout_ver; /* 1 */
	uint32_t agent_pid;
	uint32_t beat;	     /* changes at each wake-up of the agent, at least every 500 ms */
	uint32_t wake_armed; /* futex word: 1 = wake me at a quarter full */
	uint8_t agent_id[16];
	uint64_t exit_ns;   /* when the node was seen to die; CLOCK_MONOTONIC */
	uint32_t exit_code; /* wait status, if known */
	uint32_t flags;
	uint8_t rsv[80];
};

/* Run-time control: how much of what begins from now on is recorded. Times are housekeeping ticks
 * of the node (1 Hz) counted from the tick that saw the generation; so a setting ends even when the
 * agent that made it is gone. control.h has writer and validating reader. */
enum {
	BLIX_CONTROL_RULES = 32,
	BLIX_CONTROL_GLOB_BYTES = 48,
	BLIX_CONTROL_TICKS_MAX = 7 * 24 * 3600,
};
#define BLIX_THRESHOLD_NEVER (UINT64_C(1) << 56)

/* control.flags: which of the settings below are meant */
enum {
	BLIX_CONTROL_THRESHOLD = 1u << 0,
	BLIX_CONTROL_LOG_MIN = 1u << 1,
};

/* Spans that decide for themselves (roots, by the node's sampler) whose name matches. The first
 * match wins and comes before the general threshold. */
struct blix_control_rule {
	uint32_t ticks; /* 1 to BLIX_CONTROL_TICKS_MAX */
	uint32_t rsv;
	uint64_t threshold56;
	char glob[BLIX_CONTROL_GLOB_BYTES]; /* "*" and "?", NUL-terminated UTF-8 */
};

struct blix_control {
	uint32_t gen; /* seqlock: odd while being written; 0: never written */
	uint32_t n_rules;
	uint32_t flags;
	uint32_t threshold_ticks;
	uint64_t threshold56; /* sample when the low 56 bits of the trace id are at or above it */
	uint32_t log_min;     /* lowest severity recorded, 1 to 24; 25: none */
	uint32_t log_min_ticks;
	struct blix_control_rule rules[BLIX_CONTROL_RULES];
};

/* ---- the layout is a promise --------------------------------------------------------------------- */

#define BLIX_AT(type, field, offset)                                                               \
	_Static_assert(offsetof(struct type, field) == (offset), #type "." #field " moved")
#define BLIX_SIZE(type, bytes) _Static_assert(sizeof(struct type) == (bytes), #type " changed size")

#ifndef __cplusplus
BLIX_AT(blix_header, byte_order, 0x008);
BLIX_AT(blix_header, header_len, 0x010);
BLIX_AT(blix_header, file_size, 0x020);
BLIX_AT(blix_header, incompat, 0x028);
BLIX_AT(blix_header, boot_id, 0x038);
BLIX_AT(blix_header, node_id, 0x058);
BLIX_AT(blix_header, page_size, 0x080);
BLIX_AT(blix_header, map_base, 0x090);
BLIX_AT(blix_header, build_id, 0x098);
BLIX_AT(blix_header, version, 0x0ac);
BLIX_AT(blix_header, open_mono_ns, 0x0e0);
BLIX_AT(blix_header, static_crc32c, 0x0f8);
BLIX_AT(blix_header, state, 0x100);
BLIX_AT(blix_header, alive_beat, 0x108);
BLIX_AT(blix_header, pair_seq, 0x118);
BLIX_AT(blix_header, orphans_discarded, 0x130);
BLIX_AT(blix_header, reg_strings_len, 0x180);
BLIX_AT(blix_header, reg_gen, 0x190);
BLIX_AT(blix_header, stats, 0x200);
BLIX_AT(blix_header, grpc_address, 0x300);
BLIX_AT(blix_header, cluster, 0x380);
BLIX_AT(blix_header, service_name, 0x3c0);
BLIX_AT(blix_header, data_dir, 0x400);
BLIX_SIZE(blix_header, BLIX_TOC_OFFSET);
BLIX_SIZE(blix_toc, 64);
BLIX_AT(blix_toc, aux, 32);
BLIX_SIZE(blix_lane_geometry, 32);
BLIX_SIZE(blix_metric_desc, 64);
BLIX_AT(blix_metric_desc, label_key_ids, 20);
BLIX_AT(blix_metric_desc, overflow_series, 60);
BLIX_SIZE(blix_series_desc, 64);
BLIX_AT(blix_series_desc, label_val_ids, 16);
BLIX_SIZE(blix_layout_desc, 256);
BLIX_SIZE(blix_exemplar, 64);
BLIX_AT(blix_exemplar, trace_id, 24);
BLIX_SIZE(blix_thread_context, 64);
BLIX_AT(blix_thread_context, owner_tid, 28);
BLIX_SIZE(blix_lane, 256);
BLIX_AT(blix_lane, context, BLIX_LINE);
BLIX_SIZE(blix_ring, 512);
BLIX_AT(blix_ring, floor, BLIX_LINE);
BLIX_AT(blix_ring, drops, 256);
BLIX_SIZE(blix_record, 24);
BLIX_SIZE(blix_span_body, 64);
BLIX_AT(blix_span_body, name_id, 48);
BLIX_AT(blix_span_body, trace_flags, 56);
BLIX_SIZE(blix_log_body, 40);
BLIX_AT(blix_log_body, event_id, 24);
BLIX_SIZE(blix_item, 8);
BLIX_SIZE(blix_event, 16);
BLIX_SIZE(blix_link, 32);
BLIX_SIZE(blix_span_slot, 1024);
BLIX_AT(blix_span_slot, end_pos, 64);
BLIX_AT(blix_span_slot, used_bytes, 88);
BLIX_AT(blix_span_slot, data, 128);
BLIX_SIZE(blix_ack, 24);
BLIX_SIZE(blix_consumer_lane, BLIX_LINE);
BLIX_SIZE(blix_consumer, BLIX_LINE);
BLIX_AT(blix_consumer, beat, 8);
BLIX_AT(blix_consumer, agent_id, 16);
BLIX_AT(blix_consumer, exit_ns, 32);
BLIX_SIZE(blix_control_rule, 64);
BLIX_SIZE(blix_control, 32 + 32 * 64 + 0);
#endif

#endif
