/* agent/model/batch.h - MODEL: spans or logs of one node life, decoded, and who still answers for them.
 *
 * Input fills a batch once; after batch_seal() it is immutable, so that every destination reads the
 * same one. A batch is held by each destination that has not yet put it into somebody else's custody
 * (accepted or refused by the far end, or committed to the spool). The last batch_release() calls the
 * hook that input set: only then may the ring forget the records. So memory and custody end together,
 * and the outputs need to know nothing of rings.
 *
 * Texts are valid UTF-8 (repaired and counted by whoever fills), not terminated, and live as long as
 * the batch. Times are Unix ns. Attribute keys are unique within their owner and not empty.
 *
 * Thread rule: fill, hold and release on the loop thread; a sealed batch may be read by any thread
 * that knows it held. Bounded by BATCH_*. Includes: arena.h, libc. */
#ifndef BLIX_AGENT_MODEL_BATCH_H
#define BLIX_AGENT_MODEL_BATCH_H

#include "agent/model/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BATCH_ITEMS_MAX = 512,	   /* spans or logs in one batch */
	BATCH_BYTES_MAX = 8 << 20, /* of its arena */
	BATCH_ATTRS_MAX = 128,	   /* of one owner */
	BATCH_RESOURCE_ATTRS_MAX = 256,
};

/* ---- values ---------------------------------------------------------------------------------- */

struct batch_text {
	const char *at;
	uint32_t len;
};

enum batch_type {
	BATCH_BOOL,
	BATCH_I64,
	BATCH_F64,
	BATCH_STRING,
	BATCH_BYTES,
	BATCH_ARRAY, /* of one of the types above, never nested */
	BATCH_TYPES,
};

struct batch_value {
	enum batch_type type;
	uint32_t n; /* bytes of a string or of bytes; elements of an array */
	union {
		bool boolean;
		int64_t i64;
		double f64;
		const char *text; /* STRING, BYTES */
		const struct batch_value *array;
	};
};

struct batch_attr {
	struct batch_text key;
	struct batch_value value;
};

struct batch_attrs {
	struct batch_attr *at; /* process/ may change them until the batch is sealed */
	uint32_t n;
	uint32_t dropped; /* by the node's limits, by decoding, or by redaction's "drop" */
};

/* ---- who sent it ------------------------------------------------------------------------------- */

/* One life of a node. Counted by itself, because several batches share it. */
struct batch_resource {
	uint32_t holders;
	struct arena memory;
	struct batch_attrs attrs; /* as the node wrote them (OTLP Resource), completed by input */
	/* attrs.at[0 .. n_stable) outlive a restart of the node; what follows names this one life
	 * and does not belong on metrics. */
	uint32_t n_stable;
	struct batch_text service_name;
	struct batch_text service_instance_id;
	struct batch_text scope_name; /* of everything the hooks record; never empty */
	struct batch_text scope_version;
	char incarnation[33]; /* hex, terminated */
	uint64_t node_id;
};

struct batch_resource *batch_resource_new(void); /* one holder; NULL: no memory */
struct batch_resource *batch_resource_hold(struct batch_resource *r);
void batch_resource_release(struct batch_resource *r); /* accepts NULL */

/* ---- spans ------------------------------------------------------------------------------------- */

/* flags of a span or link, as OTLP has them */
enum {
	BATCH_FLAGS_W3C = 0xff,
	BATCH_FLAG_HAS_IS_REMOTE = 0x100,
	BATCH_FLAG_IS_REMOTE = 0x200,
};

struct batch_event {
	uint64_t unix_ns;
	struct batch_text name;
	struct batch_attrs attrs;
};

struct batch_link {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	struct batch_text trace_state;
	struct batch_attrs attrs;
	uint32_t flags;
};

struct batch_span {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t parent_id[8]; /* all zero: a root */
	uint64_t start_unix_ns;
	uint64_t end_unix_ns; /* >= start */
	struct batch_text name;
	struct batch_text trace_state;
	struct batch_text status_message; /* with status 2 (ERROR) only */
	struct batch_attrs attrs;
	struct batch_event *events;
	struct batch_link *links;
	uint32_t n_events, n_links;
	uint32_t dropped_events, dropped_links;
	uint32_t flags;
	uint8_t kind;	/* OTLP SpanKind, 1 to 5 */
	uint8_t status; /* OTLP StatusCode, 0 to 2 */
	bool crashed;	/* was open when its process died; its attributes say so */
	bool priority;	/* error, slow or crashed: kept longest where something must go */
};

/* ---- logs -------------------------------------------------------------------------------------- */

struct batch_log {
	uint64_t unix_ns;
	uint64_t observed_unix_ns;
	uint8_t trace_id[16]; /* all zero: none */
	uint8_t span_id[8];
	struct batch_text body;
	struct batch_text event_name; /* empty: none */
	struct batch_attrs attrs;
	uint32_t flags;	  /* W3C */
	uint8_t severity; /* 1 to 24 */
	bool priority;
};

/* "INFO", "WARN2", ...; "" outside 1 to 24. */
const char *batch_severity_text(uint8_t severity);

/* ---- the batch --------------------------------------------------------------------------------- */

enum batch_signal { BATCH_TRACES, BATCH_LOGS, BATCH_SIGNALS };

struct batch {
	enum batch_signal signal;
	struct batch_resource *resource; /* held */
	struct arena memory;		 /* for everything below */
	struct batch_span *spans; /* zeroed room for BATCH_ITEMS_MAX where signal is TRACES */
	struct batch_log *logs;	  /* zeroed room for BATCH_ITEMS_MAX where signal is LOGS */
	uint32_t n;
	uint64_t id; /* of this agent's life; ascending */

	/* Where it came from, for the spool: re-reading an unacknowledged ring must not store twice. */
	struct batch_origin {
		uint32_t lane; /* UINT32_MAX: recovered slots */
		uint64_t first_seq, last_seq;
	} * origins;
	uint32_t n_origins;

	uint32_t holders;
	bool sealed;
	bool abandoned; /* some holder gave it up without custody: its records stay in the ring */
	void (*freed)(void *arg,
		      struct batch *b); /* custody's hook; called once, before memory goes */
	void *freed_arg;
};

/* An empty batch with one holder. `resource` is held by it. NULL: no memory. */
struct batch *batch_new(enum batch_signal signal, struct batch_resource *resource);
/* Nothing changes from here on. */
void batch_seal(struct batch *b);
struct batch *batch_hold(struct batch *b);
/* This holder's duty is done: the items were answered for, dropped and counted, or spooled. */
void batch_release(struct batch *b);
/* This holder stops without having done its duty: the records must stay where they came from. */
void batch_abandon(struct batch *b);

#endif
