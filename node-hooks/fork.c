/* node-hooks/fork.c - what fork(2) does to telemetry.
 *
 * The parent records on. The child must neither write into the parent's file nor keep its lock
 * alive: anonymous memory is laid over the whole mapping, and telemetry is off until it execs.
 * A fork waits for a blix_open or blix_close under way in another thread, so that the child never
 * inherits a half-open file.
 *
 * Thread rule: the handlers run in the forking thread. */
#include "trace.h"

#include <pthread.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int registered;

static void before_fork(void)
{
	blix_hooks_before_fork();
	blix_guide_before_fork();
	blix_names_before_fork();
	blix_registry_before_fork(&blix_registry_);
	blix_thread_before_fork();
}

static void after_fork(void)
{
	blix_thread_after_fork();
	blix_registry_after_fork(&blix_registry_);
	blix_names_after_fork();
	blix_guide_after_fork();
	blix_hooks_after_fork();
}

static void in_child(void)
{
	blix_thread_in_child();
	blix_housekeeping_in_child();
	blix_registry_in_child(&blix_registry_);
	blix_names_in_child();
	blix_guide_in_child();
	blix_hooks_in_child();
}

static void register_handlers(void)
{
	registered = -pthread_atfork(before_fork, after_fork, in_child);
}

int blix_fork_init(void)
{
	pthread_once(&once, register_handlers);
	return registered;
}
