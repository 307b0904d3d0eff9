/* node-hooks/hooks.c - open, close, and what the library says about its state.
 *
 * Thread rule: blix_open and blix_close exclude each other and fork(2) by life_lock; the status
 * has a lock of its own, so that it can be asked at any time. Lock order: life, status, registry.
 */
#include "trace.h"

#include "shm/publish.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint32_t blix_epoch_ = 1;
struct blix_session *blix_session_;

static pthread_mutex_t life_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t status_lock = PTHREAD_MUTEX_INITIALIZER;
static struct blix_report status;
static struct blix_session *sessions; /* all there ever were */
static bool forked;

/* ---- status --------------------------------------------------------------------------------- */

struct blix_report blix_status(void)
{
	struct blix_report now;

	pthread_mutex_lock(&status_lock);
	now = status;
	pthread_mutex_unlock(&status_lock);
	return now;
}

static void set_status(const struct blix_report *to)
{
	pthread_mutex_lock(&status_lock);
	status = *to;
	pthread_mutex_unlock(&status_lock);
}

const char *blix_strerror(int error)
{
	switch (error) {
	case 0:
		return "telemetry is on";
	case -EALREADY:
		return "this process already records into a file: close it first";
	case -EINVAL:
		return "path or identity is out of range: blix_status() names the field";
	case -EBUSY:
		return "another running node holds this path: stop it or choose another path";
	case -EEXIST:
		return "the path is taken by something else: remove it or choose another path";
	case -ENOSPC:
		return "no room: free memory in /dev/shm, or lower lanes and ring_bytes";
	case -EACCES:
	case -EPERM:
		return "no permission to create the file: check the directory's owner and mode";
	case -EROFS:
		return "the directory is read-only: use a writable tmpfs such as /dev/shm";
	case -ENOENT:
	case -ENOTDIR:
		return "the directory does not exist: create it, or use /dev/shm";
	case -EOPNOTSUPP:
		return "this file system cannot hold the file: use a tmpfs such as /dev/shm";
	case -ENOMEM:
		return "no address space for the file: raise the limit, or lower lanes and "
		       "ring_bytes";
	case -EMFILE:
	case -ENFILE:
		return "no file descriptor left: raise the limit";
	case -ECHILD:
		return "a forked child cannot record: exec first";
	default:
		return "unexpected error: see blix_status() for the reason";
	}
}

/* ---- sessions ------------------------------------------------------------------------------- */

static void next_epoch(void)
{
	uint32_t epoch = blix_epoch_ + 1;

	/* Zero is what a thread has that never recorded. */
	blix_store_release(&blix_epoch_, epoch ? epoch : 1);
}

void blix_session_begin(struct blix_session *session)
{
	next_epoch();
	session->epoch = blix_epoch_;
	session->pid = getpid();
	session->listening = 1; /* until it is known that nobody does */
	session->previous = sessions;
	sessions = session;
	blix_count_redirect(session);
	blix_store_release(&blix_session_, session);
}

void blix_session_end(void)
{
	next_epoch();
	blix_store_release(&blix_session_, NULL);
	blix_count_redirect(NULL);
}

/* Everything that is decided before the file is there. */
static struct blix_format_options options_for(const struct blix_identity *id,
					      const struct blix_description *d)
{
	uint32_t cells = id->cells	      ? id->cells
			 : d->histograms_both ? BLIX_REGISTRY_CELLS_BOTH
					      : BLIX_REGISTRY_CELLS;
	cpu_set_t cpus;

	return (struct blix_format_options){
		.n_cpus = sched_getaffinity(0, sizeof(cpus), &cpus) == 0
				  ? (uint32_t)CPU_COUNT(&cpus)
				  : 0,
		.lanes = id->lanes,
		.ring_bytes = id->ring_bytes,
		/* Series resolved earlier keep their cells, and none that is resolved now by
		 * another thread may outgrow the file. */
		.cells = blix_registry_limit_cells(&blix_registry_, cells),
		.slots = id->slots,
		.strings_bytes = BLIX_REGISTRY_STRINGS_BYTES,
		.metrics = BLIX_REGISTRY_METRICS,
		.series = BLIX_REGISTRY_SERIES,
		.layouts = BLIX_REGISTRY_LAYOUTS,
		.gauges = BLIX_REGISTRY_GAUGES,
		.exemplars = BLIX_REGISTRY_EXEMPLARS,
		.resource_len = d->resource_len,
		.histograms_both = d->histograms_both,
	};
}

/* Turn zeroed memory into a live file, still without a name. */
static int fill(const struct blix_view *view, const struct blix_description *d)
{
	int err = blix_format_fill(view, &d->format);

	if (err == 0)
		err = blix_registry_attach(&blix_registry_, view);
	if (err < 0)
		return err;
	blix_registry_catalogue(&blix_registry_);
	/* Lane 0 counts as used from the start: signal handlers add to it without claiming. */
	blix_store_release(&blix_view_lane(view, 0)->owner, 1);
	blix_store_release(&blix_view_header(view)->state, BLIX_STATE_LIVE);
	return 0;
}

static void warn(struct blix_report *s, const char *text)
{
	if (!s->warning[0])
		snprintf(s->warning, sizeof(s->warning), "%s", text);
}

/* Create, fill and name the file. */
static int create_file(const char *path, const struct blix_identity *id,
		       const struct blix_description *d, struct blix_session *session,
		       struct blix_report *s)
{
	struct blix_format_options options = options_for(id, d);
	struct blix_publish publish;
	int err = blix_publish_create(path, &options, &publish);

	if (err == 0) {
		err = fill(&publish.view, d);
		if (err == 0)
			err = blix_publish_name(&publish);
		if (err < 0) {
			blix_registry_detach(&blix_registry_);
			blix_publish_abandon(&publish);
		}
	}
	if (err < 0) {
		snprintf(s->reason, sizeof(s->reason), "%s",
			 publish.reason[0] ? publish.reason : blix_strerror(err));
		return err;
	}
	session->view = publish.view;
	warn(s, publish.warning);
	return 0;
}

static int start_session(const char *path, const struct blix_identity *id,
			 const struct blix_description *d, struct blix_report *s)
{
	struct blix_session *session = calloc(1, sizeof(*session));
	int err = session ? 0 : -ENOMEM;

	if (err == 0)
		err = create_file(path, id, d, session, s);
	if (err < 0) {
		free(session);
		return err;
	}
	blix_own_keys_resolve();
	blix_ids_refresh();
	blix_clock_tick();
	blix_session_begin(session);
	blix_housekeeping_beat(session);
	err = blix_housekeeping_start(session);
	if (err < 0)
		warn(s, "no thread could be started: the agent will take this node for hung; raise "
			"the limit");
	s->ring_bytes = session->view.lane.ring_bytes;
	s->lanes = session->view.n_lanes;
	return 0;
}

static int open_locked(const char *path, const struct blix_identity *id, struct blix_report *s)
{
	char trouble[BLIX_TEXT_MAX] = "";
	struct blix_description *d;
	int err;

	blix_thread_init();
	err = blix_fork_init();
	if (err < 0)
		return err;
	d = malloc(sizeof(*d));
	if (!d)
		return -ENOMEM;
	err = blix_describe(id, d, s->reason);
	if (err == 0) {
		warn(s, d->warning);
		blix_settings_read(trouble);
		warn(s, trouble);
		if (blix_registry_set_exponential(&blix_registry_, d->histograms_both))
			warn(s, "histograms resolved before blix_open keep their form: set "
				"BLIXARD_HISTOGRAMS");
		err = start_session(path, id, d, s);
	}
	free(d);
	return err;
}

int blix_open(const char *path, const struct blix_identity *identity)
{
	static const struct blix_identity nobody;
	struct blix_report s = {.state = BLIX_STATUS_ON};
	int err;

	pthread_mutex_lock(&life_lock);
	if (forked || blix_session_) {
		/* What is open, or lost to fork, stays as it is. */
		err = forked ? -ECHILD : -EALREADY;
		goto out;
	}
	err = open_locked(path, identity ? identity : &nobody, &s);
	if (err < 0) {
		s.state = BLIX_STATUS_FAILED;
		s.error = err;
		s.warning[0] = '\0';
		if (!s.reason[0])
			snprintf(s.reason, sizeof(s.reason), "%s", blix_strerror(err));
	}
	set_status(&s);
out:
	pthread_mutex_unlock(&life_lock);
	return err;
}

/* ---- the ways it ends ----------------------------------------------------------------------- */

static void end_session(enum blix_state state, bool wait)
{
	struct blix_session *session = blix_session_;

	blix_session_end();
	blix_housekeeping_stop(wait);
	blix_store_release(&blix_view_header(&session->view)->state, (uint32_t)state);
	if (wait)
		blix_registry_detach(&blix_registry_);
	if (wait)
		blix_sampler_reset();		   /* run-time control was the file's */
	(void)blix_publish_let_go(&session->view); /* else exit drops the lock */
}

void blix_close(void)
{
	pthread_mutex_lock(&life_lock);
	if (blix_session_) {
		end_session(BLIX_STATE_CLOSED, true);
		set_status(&(struct blix_report){.state = BLIX_STATUS_CLOSED});
	}
	pthread_mutex_unlock(&life_lock);
}

/* At exit() nothing may be waited for: the exiting thread may have been interrupted in the middle
 * of anything. A raw fork's child runs this as well; the file is not its own. */
__attribute__((destructor)) static void process_exits(void)
{
	if (pthread_mutex_trylock(&life_lock) != 0)
		return;
	if (blix_session_ && blix_session_->pid == getpid())
		end_session(BLIX_STATE_EXITED, false);
	pthread_mutex_unlock(&life_lock);
}

void blix_hooks_before_fork(void)
{
	pthread_mutex_lock(&life_lock);
	pthread_mutex_lock(&status_lock);
}

void blix_hooks_after_fork(void)
{
	pthread_mutex_unlock(&status_lock);
	pthread_mutex_unlock(&life_lock);
}

void blix_hooks_in_child(void)
{
	struct blix_session *session = blix_session_;

	pthread_mutex_init(&life_lock, NULL);
	pthread_mutex_init(&status_lock, NULL);
	if (!session && !forked)
		return; /* nothing was open: this child may open its own file */
	forked = true;
	status = (struct blix_report){.state = BLIX_STATUS_FORKED, .error = -ECHILD};
	snprintf(status.reason, sizeof(status.reason), "%s", blix_strerror(-ECHILD));
	if (!session)
		return;
	blix_session_end();
	(void)blix_publish_let_go(&session->view);
}
