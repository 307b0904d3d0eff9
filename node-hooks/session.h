/* node-hooks/session.h - what the files of the library share. Not installed.
 *
 * A session is one open telemetry file, from blix_open to blix_close, exit or fork. Threads may
 * hold on to a session they loaded just before it ended; so a session is never freed and its
 * memory never unmapped, only overlaid (blix_publish_let_go). The hot path recognises its session
 * by an epoch: a thread whose epoch is not the current one takes the slow path and looks again. */
#ifndef BLIX_HOOKS_SESSION_H
#define BLIX_HOOKS_SESSION_H

#include "blixard_hooks.h"
#include "shm/format.h"
#include "shm/lane.h"
#include "shm/registry.h"

#include <stdbool.h>
#include <sys/types.h>

enum { BLIX_TEXT_MAX = sizeof(((struct blix_report *)0)->reason) };

struct blix_session {
	struct blix_view view;
	uint32_t epoch;
	uint32_t lanes_freed; /* counts up whenever a lane may have become free */
	pid_t pid;
	uint32_t listening;		/* an agent drains the file; housekeeping's word */
	struct blix_lane_shared shared; /* used by the holder of lane 0 */
	struct blix_session *previous;	/* keeps ended sessions reachable */
};

/* The current session, NULL while nothing is recorded. Load with acquire. */
extern struct blix_session *blix_session_;

/* The process's one registry. */
extern struct blix_registry blix_registry_;

/* ---- hooks.c -------------------------------------------------------------------------------- */

/* Begin and end of what the recording calls see. Both change the epoch. */
void blix_session_begin(struct blix_session *session);
void blix_session_end(void);

void blix_hooks_before_fork(void);
void blix_hooks_after_fork(void);
void blix_hooks_in_child(void);

/* ---- identity.c ----------------------------------------------------------------------------- */

enum { BLIX_RESOURCE_MAX = 16 << 10 };

/* Everything page 0 and the RESOURCE section say about this process. format's texts point into the
 * description itself, so it must stay where it is. */
struct blix_description {
	struct blix_format_identity format;
	bool histograms_both;
	uint32_t resource_len;
	char version[48];
	char grpc_address[128];
	char cluster[64];
	char service_name[64];
	char data_dir[256];
	uint8_t resource[BLIX_RESOURCE_MAX];
	char warning[BLIX_TEXT_MAX]; /* about the environment; "" if all is well */
};

/* Describe this process. `identity` is the caller's; the rest comes from /proc and environment.
 * 0; -EINVAL: `reason` names the field of `identity` that is out of range. */
int blix_describe(const struct blix_identity *identity, struct blix_description *ret_description,
		  char reason[BLIX_TEXT_MAX]);

/* Does the environment ask for both forms of histograms? */
bool blix_environment_histograms_both(void);

/* ---- thread.c ------------------------------------------------------------------------------- */

/* Where the calling thread records now. */
struct blix_cells {
	uint64_t *cells; /* NULL: nowhere */
	uint32_t n_cells;
	bool shared; /* lane 0: atomic adds only */
};

/* Find, or take, the calling thread's lane in the current session. Keeps errno. */
struct blix_cells blix_thread_cells(void);

/* Prepare the release of lanes at thread exit. Idempotent. */
void blix_thread_init(void);

/* Around fork(2), in the calling thread. */
void blix_thread_before_fork(void);
void blix_thread_after_fork(void);
void blix_thread_in_child(void);

/* ---- count.c -------------------------------------------------------------------------------- */

/* Let gauges and heartbeat go to this session's file; NULL: nowhere. */
void blix_count_redirect(const struct blix_session *session);

/* ---- housekeeping.c ------------------------------------------------------------------------- */

/* Start the 1 Hz thread. 0 or a negative errno. */
int blix_housekeeping_start(struct blix_session *session);

/* Stop it and wait for it; at process exit, do not wait. */
void blix_housekeeping_stop(bool wait);
void blix_housekeeping_in_child(void);

/* Publish what the clocks say now, and that this process is alive. */
void blix_housekeeping_beat(const struct blix_session *session);

/* A pair of clock readings of one moment. */
void blix_clock_pair(uint64_t *ret_mono_ns, uint64_t *ret_real_ns);

/* ---- fork.c --------------------------------------------------------------------------------- */

/* Register the fork handlers. Idempotent. 0 or a negative errno. */
int blix_fork_init(void);

#endif
