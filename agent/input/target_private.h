/* agent/input/target_private.h - what a target is made of; for the target_*.c files alone.
 *
 * target.c	  interface: new, free, collect, status
 * target_turn.c  what happens when: timer, directory watch, end of the node's process
 * target_file.c  attach, leave, judge a file
 * target_orphans.c  files of dead predecessors
 * target_say.c	  states into words: reasons, log lines, events */
#ifndef BLIX_AGENT_INPUT_TARGET_PRIVATE_H
#define BLIX_AGENT_INPUT_TARGET_PRIVATE_H

#include "agent/input/drain.h"
#include "agent/input/host_proc.h"
#include "agent/input/look.h"
#include "agent/input/node_life.h"
#include "agent/input/node_shm.h"
#include "agent/input/node_wait.h"
#include "agent/input/open_spans.h"
#include "agent/input/resource.h"
#include "agent/input/self.h"
#include "agent/input/self_export.h"
#include "agent/input/self_spans.h"
#include "agent/input/slow_waits.h"
#include "agent/input/storage.h"
#include "agent/input/target.h"
#include "agent/input/wake.h"
#include "agent/input/watch.h"
#include "agent/process/redact.h"
#include "shm/map.h"

#include <limits.h>
#include <sys/stat.h>

enum {
	TARGET_REASON_BYTES = 512,
	TARGET_PEAKS = 60, /* seconds over which the peak of the ring fill is kept */
	TARGET_STALE_AFTER_S = 10,
	TARGET_LIFE_MS = 500,	       /* how often life is looked at */
	TARGET_PROBE_MS = 1000,	       /* how often the path is looked at */
	TARGET_LOOK_MS = 10000,	       /* how often the disk thread is asked */
	TARGET_ORPHANS_JUDGED = 16,    /* remembered */
	TARGET_ORPHAN_AGAIN_MS = 5000, /* until one is tried again that somebody gave up */
	TARGET_OLDS = 8,      /* of a node that keeps dying: each waits until it is acknowledged */
	TARGET_HURRY_MS = 20, /* between looks while a process has ended and its lock has not */
};
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

/* Which file lay at the path when it was judged: only another one is worth another judgement. */
struct target_signature {
	bool set;
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed;
};

/* A file of this target: the current one, or a predecessor whose rings are not empty yet. */
struct target_attached {
	struct blix_map *map;	/* NULL: none */
	struct drain *drain;	/* NULL: another agent has the lock, or the file is read-only */
	struct wake_file *wake; /* NULL: not woken */
	struct batch_resource *resource; /* held; NULL: no map, or no memory */
};

struct target {
	struct target_options options;
	struct target_events events;
	char path[PATH_MAX];

	struct event_base *base;
	struct event *timer;
	struct watch *watch;
	struct look *look;
	struct host *host;
	struct self *self;
	struct self_spans self_spans;
	struct self_export self_export;
	struct open_spans open; /* of the last look */
	uint64_t open_ns;	/* when that was; 0: never, or of another file */
	struct storage_node *storage;
	struct slow_waits *slow_waits; /* NULL: nobody takes them (any more) */
	struct snapshot *snapshot;

	/* the file */
	struct target_attached now, orphan;
	struct target_attached olds[TARGET_OLDS]; /* predecessors, in no order */
	struct node_shm *values;
	struct target_signature judged; /* refused, or served to its end */
	bool removed_said;
	bool served_out; /* dead for so long that its values are no longer shown */
	bool drained;	 /* rings of a dead node are empty */
	int lock_error;	 /* why `now.drain` is NULL */

	/* files of dead predecessors */
	char orphan_name[LOOK_ORPHAN_BYTES];
	char orphans_judged[TARGET_ORPHANS_JUDGED][LOOK_ORPHAN_BYTES];
	uint32_t next_judged;
	struct target_given_up {
		char name[LOOK_ORPHAN_BYTES];
		uint64_t due_ns; /* to be tried again */
	} given_up[LOOK_ORPHANS_MAX];
	uint32_t next_given_up;
	uint64_t orphans_looked_ns; /* the answer that was gone through */
	uint64_t orphan_polled_ns;

	/* the node */
	bool known;
	struct blix_map_identity id; /* of the attached file, or of the last one */
	struct node_life life;
	struct blix_map_life seen;
	uint64_t gone_ns; /* when it was seen to be gone; linger counts from here */
	struct event *pidfd_event;
	int pidfd;
	bool process_gone;
	struct node_wait *wait;

	/* the state as told */
	enum target_node node;
	enum target_file file;
	uint64_t since_unix_ns; /* 0: nothing told yet */
	char reason[TARGET_REASON_BYTES];

	/* clocks, CLOCK_MONOTONIC */
	uint64_t life_due_ns, probe_due_ns, look_due_ns;
	uint64_t polled_ns, old_polled_ns[TARGET_OLDS], old_since_ns[TARGET_OLDS];

	/* figures that outlive a file */
	struct drain_totals totals;
	uint64_t incarnations;
	uint64_t regressions;  /* of files left behind */
	uint64_t refused;      /* of files left behind */
	uint64_t refused_said; /* of the current file */
	uint64_t dropped[BLIX_DROP_KINDS][SELF_DROP_REASONS];
	uint64_t dropped_seen[BLIX_DROP_KINDS][SELF_DROP_REASONS]; /* in this incarnation */
	uint64_t overflow, overflow_seen;
	double peaks[TARGET_PEAKS];
	uint64_t peak_s; /* second of the newest */

	/* what the program told */
	char agent_version[64];
	bool listen_up;
	uint64_t log_lines_dropped;
	const struct figures *figures; /* borrowed; NULL: none */
	bool sampling_set;
	double sampling_ratio;
};

/* target_say.c */
void target_say(struct target *t, enum target_log kind, const char *key, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* Change the state; a change is told, once. */
void target_set_state(struct target *t, enum target_node node, enum target_file file,
		      const char *format, ...) __attribute__((format(printf, 4, 5)));

/* target_file.c */
/* Ready a batch for its receiver, and hand it over; `arg` is the target. */
void target_process(void *arg, struct batch *b);
void target_hand_over(void *arg, struct batch *b);
void target_probe(struct target *t, uint64_t now_ns);
void target_check_life(struct target *t, uint64_t now_ns);
void target_quarantine(struct target *t);
void target_retry_lock(struct target *t);
void target_leave(struct target *t, bool back_soon);
void target_drop_olds(struct target *t, bool back_soon);
void target_close_attached(struct target_attached *a, bool back_soon);
/* Take the consumer lock and start draining. Errors of drain_new(). */
int target_start_drain(struct target *t, struct target_attached *a);
void target_note_file_figures(struct target *t);
int target_rebuild(struct target *t);

void target_take_resource(struct target *t, struct target_attached *a);

/* target_orphans.c */
void target_turn_orphans(struct target *t, uint64_t now_ns);
void target_drop_orphan(struct target *t, bool back_soon);
uint32_t target_orphans_pending(const struct target *t);

/* target_turn.c */
uint32_t target_elapsed_ms(uint64_t *since_ns, uint64_t now_ns);
void target_turn(struct target *t, uint64_t now_ns);
int target_start_timer(struct target *t);
void target_wake_soon(struct target *t);
void target_drain_soon(struct target *t);
double target_peak(const struct target *t, uint64_t now_ns);
uint64_t target_mono_ns(void);
uint64_t target_unix_ns(void);

#endif
