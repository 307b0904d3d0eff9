/* agent/input/target.h - one --shm file: its life, its values, and the snapshot they fill.
 *
 * A target waits for the node's file, follows it through restarts and never fails because of what
 * a node does. It reads the file through the validating reader, drains the rings while it holds
 * the consumer lock, and adds the host's and the agent's own figures, so that its snapshot is all
 * that one listener serves.
 *
 * Thread rule: the loop thread only; nothing here sleeps. Includes: model/ and libc; the
 * implementation also shm/ and libevent. */
#ifndef BLIX_AGENT_INPUT_TARGET_H
#define BLIX_AGENT_INPUT_TARGET_H

#include "agent/model/snapshot.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct batch;
struct batch_resource;
struct event_base;
struct blix_control_setting;
struct disk;
struct figures;
struct redact;
struct storage;
struct storage_slow_event;
struct target;
struct wake;

/* What is known of the node: blixard_node_state. */
enum target_node {
	TARGET_NODE_WAITING, /* no file of a node has been seen yet */
	TARGET_NODE_LIVE,    /* holds its lock and its heartbeat moves */
	TARGET_NODE_HUNG,    /* holds its lock, but a heartbeat stood still for stale_after_s */
	TARGET_NODE_DEAD,    /* gone without closing its file */
	TARGET_NODE_CLOSED,  /* gone after closing it */
	TARGET_NODES,
};

/* What is known of the file at the path: blixard_agent_shm_state. */
enum target_file {
	TARGET_FILE_WAITING,	  /* nothing there, or still being filled */
	TARGET_FILE_ATTACHED,	  /* mapped, valid, read and drained */
	TARGET_FILE_STANDBY,	  /* mapped, valid, read; another agent drains it */
	TARGET_FILE_LINGERING,	  /* of a dead node: its final counters are still served */
	TARGET_FILE_DETACHED,	  /* of a dead node, and no longer served */
	TARGET_FILE_REFUSED,	  /* not ours: wrong magic, owner, or kind of file */
	TARGET_FILE_INCOMPATIBLE, /* written by a version this agent cannot read */
	TARGET_FILE_QUARANTINED,  /* truncated, or went bad while it was being read */
	TARGET_FILES,
};

const char *target_node_name(enum target_node node); /* "live" */
const char *target_file_name(enum target_file file); /* "attached" */

struct target_options {
	const char *shm_path; /* copied */
	bool check_owner;     /* refuse a file that neither `owner` nor root owns */
	uid_t owner;
	uint32_t stale_after_s; /* 0 = 10 */
	uint32_t linger_s;	/* seconds; 0 = final counters vanish with the node */
	bool native_histograms; /* take exponential cells into the snapshot where the node has them
				 */
	bool watch_only;	/* take no lock and no record: leave everything to a real agent */
	struct disk *disk; /* borrowed for the life of the target; NULL: no file system figures */

	struct wake *wake;     /* borrowed; NULL: rings are looked at every half second at least */
	struct redact *redact; /* borrowed; NULL: what the node says goes out as it is */

	/* What somebody answers for; the rest is counted and acknowledged at once. */
	bool wants_traces;
	bool wants_logs;
	uint32_t spans_delay_ms; /* OTEL_BSP_SCHEDULE_DELAY; 0 = 5000 */
	uint32_t logs_delay_ms;	 /* OTEL_BLRP_SCHEDULE_DELAY; 0 = 1000 */
	struct storage *storage; /* borrowed for the life of the target; NULL: no probes */
};

enum target_log {
	TARGET_LOG_STATE,  /* a change of state: worth one line each time */
	TARGET_LOG_REPEAT, /* a failure that may repeat: the receiver limits its rate */
};

struct target_events {
	/* The state of node or file, the role or the reason changed; ask target_status(). */
	void (*state_changed)(void *arg, struct target *t);
	/* A file was attached and names this gRPC address ("" if it names none). Called for every
	 * incarnation. The text is UTF-8 and terminated, but otherwise the node's word. */
	void (*address_known)(void *arg, struct target *t, const char *grpc_address);
	/* From now on this agent drains a file, and it alone may write what the node shall do: call
	 * target_control(). */
	void (*drain_began)(void *arg, struct target *t);
	/* One line for the log, without newline; `key` is its event: see log_events.def. */
	void (*log)(void *arg, struct target *t, enum target_log kind, const char *key,
		    const char *line);
	/* Spans or logs that are wanted: sealed, redacted, of one node life. The receiver is its
	 * one holder; only when it was released will the node's ring forget the records. May be
	 * released at once, but no function of the target may be called from here. */
	void (*batch)(void *arg, struct target *t, struct batch *b);
	/* The node waited long in fsync or its kin: see storage.h. Valid during the call. */
	void (*slow_io)(void *arg, struct target *t, const struct storage_slow_event *e);
	void *arg;
};

/* Start following a file. Callbacks (each may be NULL) come from the loop, never from within
 * target_new. 0; -EINVAL the path is empty, too long or has no file name; -ENOMEM. */
int target_new(struct event_base *base, const struct target_options *options,
	       const struct target_events *events, struct target **ret_target);

/* Stop: tells the node that the agent will be back, lets go of file and locks. Accepts NULL;
 * returns NULL. */
struct target *target_free(struct target *t);

/* Bring every value up to date and return the snapshot; it stays valid and unchanged until the
 * next call into this target or the next turn of the loop. Never NULL, never blocks. */
const struct snapshot *target_collect(struct target *t);

/* Hand over at once what was read and not cut yet: for a clean stop, before the outputs end and then
 * the target. What is not released by target_free() stays in the ring for the next agent. */
void target_flush(struct target *t);

/* Who the node is, of the file that is attached; NULL: none is. Borrowed until the next call into
 * the target or the next turn of the loop: hold it to keep it. */
struct batch_resource *target_resource(const struct target *t);

/* The oldest spans the node has open now, the oldest first; at most `max`, and TARGET_OPEN_SPANS_MAX.
 * Returns how many; *ret_total says how many there are. None unless a living node is attached. */
enum { TARGET_OPEN_SPANS_MAX = 20, TARGET_SPAN_NAME_BYTES = 64 };
struct target_open_span {
	char name[TARGET_SPAN_NAME_BYTES]; /* UTF-8, terminated; the node's word */
	uint8_t trace_id[16];
	uint8_t span_id[8];
	double age_s;
};
uint32_t target_open_spans(struct target *t, struct target_open_span *ret_spans, uint32_t max,
			   uint32_t *ret_total);

/* Everything a page or a health check says about a target. Pointers live until the next call into
 * the target or the next turn of the loop. */
struct target_status {
	const char *shm_path;
	enum target_node node;
	enum target_file file;
	bool node_up;		/* blixard_node_up */
	bool draining;		/* this agent holds the consumer lock */
	const char *reason;	/* what is wrong and what to do; "" while nothing is */
	uint64_t since_unix_ns; /* when node or file state last changed; 0 before the first look */

	/* Of the file attached now, or the last one; empty before the first. */
	bool known;
	uint64_t node_id;
	const char *cluster;
	const char *service_name;
	const char *version; /* of the node */
	const char *grpc_address;
	const char *data_dir;
	const char *incarnation;   /* 32 hex digits */
	uint32_t pid;		   /* in the node's pid namespace */
	bool endpoint_in_node_env; /* an OTLP endpoint variable was set in the node's environment */
	uint64_t start_unix_ns;	   /* of the node's open */
	uint64_t heartbeat_unix_ns; /* last heartbeat, by the node's clock */
	double heartbeat_still_s; /* since a heartbeat was last seen to change; observer's clock */
	uint32_t exit_code;	  /* noted by the node; 0 if none */

	uint64_t file_bytes;
	uint32_t lanes_owned;
	uint32_t lanes_free;
	uint32_t lanes_never;
	uint32_t lanes_quarantined;
	uint32_t metrics;
	uint32_t series;
	double ring_used_ratio; /* peak of the last minute */
	uint64_t records_spans;
	uint64_t records_logs;
	uint64_t records_marks;
	uint64_t records_unknown; /* of types this agent does not know */
	uint64_t records_lost;	  /* by gaps in seq */
	uint64_t records_corrupt;
	uint64_t records_refused; /* no span or log, or too large: nobody gets them */
	uint64_t records_damaged; /* parts left out of those that were delivered, or put right */
	uint64_t held_up;	  /* times reading stopped: too much was out, or no memory */
	uint64_t series_overflow; /* label sets sent to an overflow series */
	uint64_t metrics_refused; /* of the node: malformed, or their names are somebody else's */
	uint64_t incarnations;	  /* attached since this agent started */
	uint32_t orphans;
};
void target_status(struct target *t, struct target_status *ret_status);

/* What only the program knows and the snapshot shows. Copied; call whenever something changed,
 * at the latest before target_collect(). */
struct agent_facts {
	const char *version; /* of the agent; NULL = unknown */
	bool listen_up;	     /* this target's listener accepts connections */
	uint64_t log_lines_dropped;
	bool sampling_set;     /* run-time control sets the general sampling ratio */
	double sampling_ratio; /* to this */
	const struct figures
		*figures; /* of the outputs; NULL: none. Borrowed until others are told */
};
void target_set_agent_facts(struct target *t, const struct agent_facts *facts);

/* Write run-time control into the current file, if this agent drains it.
 * 0; -ENOENT it drains none, or that has no such element; -EINVAL out of range. */
int target_control(struct target *t, const struct blix_control_setting *setting);

#endif
