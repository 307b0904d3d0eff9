/* vm_runtime.c - see vm_runtime.h. Loop thread only. */
#include "vm_runtime.h"

#include "test/cluster/log.h"
#include "test/cluster/record/record.h"
#include "test/cluster/record/record_vm.h"
#include "vm_local.h"
#include "vm_propose.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t report_every_ns = VM_REPORT_EVERY_MS * 1000000ull;

struct vm_runtime {
	struct vm_runtime_setup setup;
	char directory[PATH_MAX / 2];
	struct event *timer;
	struct event *sigchld;
	struct vm_local *first;
	uint64_t announced_ns;
	bool swept;
};

static const struct vms *vms_of(const struct vm_runtime *runtime)
{
	return runtime->setup.fsm->vms; /* a snapshot replaces it: never kept */
}

/* ---- disks --------------------------------------------------------------------------------- */

/* VMs that had to leave while this node was down have left their disks behind. */
static void sweep_disks(const struct vm_runtime *runtime)
{
	DIR *directory = opendir(runtime->directory);
	const struct dirent *entry;

	while (directory && (entry = readdir(directory))) {
		uint64_t placement = vm_local_placement_of(entry->d_name);
		const struct vm *vm = vms_get_placed(vms_of(runtime), placement);

		if (!placement || (vm && vm->node_id == runtime->setup.node.node_id))
			continue;
		log_line(LOG_INFO, "%s: of a VM that is no longer here, removing it",
			 entry->d_name);
		unlinkat(dirfd(directory), entry->d_name, 0);
	}
	if (directory)
		closedir(directory);
}

/* ---- which VMs ------------------------------------------------------------------------------- */

/* Until what this life has announced is applied, the state may be one of the past: a log that is
 * being read again, or one that this node has yet to catch up with. */
static bool knows_the_present(struct vm_runtime *runtime, uint64_t now_ns)
{
	const struct vm_node *self = &runtime->setup.node;
	const struct vm_node *known = vms_get_node(vms_of(runtime), self->node_id);

	if (known && known->life == self->life)
		return true;
	if (proposals_possible(runtime->setup.proposals) &&
	    (!runtime->announced_ns || now_ns - runtime->announced_ns >= report_every_ns)) {
		runtime->announced_ns = now_ns;
		vm_propose(runtime->setup.proposals, COMMAND_VM_NODE, "node",
			   &(union vm_value){.node = *self});
	}
	return false;
}

static const struct vm *record_of(const struct vm_runtime *runtime, const struct vm_local *local)
{
	const struct vm *vm = vms_get_placed(vms_of(runtime), local->placement);

	return vm && vm->node_id == runtime->setup.node.node_id ? vm : NULL;
}

static bool is_known(const struct vm_runtime *runtime, uint64_t placement)
{
	const struct vm_local *local = runtime->first;

	while (local && local->placement != placement)
		local = local->next;
	return local != NULL;
}

static void take_new(struct vm_runtime *runtime)
{
	const struct vm *all;
	size_t n = vms_all(vms_of(runtime), &all);

	for (size_t i = 0; i < n; i++) {
		if (all[i].node_id != runtime->setup.node.node_id ||
		    is_known(runtime, all[i].placement))
			continue;
		struct vm_local *local = vm_local_new(&all[i], runtime->directory);
		if (!local)
			return; /* the next tick tries again */
		local->next = runtime->first;
		runtime->first = local;
	}
}

/* Those of which nothing is left, here nor in the replicated state. */
static void drop_gone(struct vm_runtime *runtime)
{
	struct vm_local **link = &runtime->first;

	while (*link) {
		struct vm_local *local = *link;
		if (local->phase != PHASE_GONE || record_of(runtime, local)) {
			link = &local->next;
			continue;
		}
		*link = local->next;
		vm_local_free(local);
	}
}

/* ---- what is told ---------------------------------------------------------------------------- */

static void report(struct vm_runtime *runtime, struct vm_local *local, const struct vm *vm,
		   uint64_t now_ns)
{
	bool gone = local->phase == PHASE_GONE;

	if (!gone && vm->status == local->status && vm->restarts == local->restarts)
		return;
	if (local->reported_ns && now_ns - local->reported_ns < report_every_ns)
		return;
	if (!proposals_possible(runtime->setup.proposals))
		return;
	local->reported_ns = now_ns;
	blix_token token = trace_enter(local->span); /* what is reported came of that */
	vm_propose(runtime->setup.proposals, COMMAND_VM_REPORT, local->name,
		   &(union vm_value){.report = {.placement = local->placement,
						.status = local->status,
						.restarts = local->restarts,
						.gone = gone}});
	trace_leave(token);
}

static void tell_counts(const struct vm_runtime *runtime)
{
	const struct vm_node *self = &runtime->setup.node;
	struct vm_resources allocated;
	size_t running = 0, unhealthy = 0;
	size_t placed = vms_allocated(vms_of(runtime), self->node_id, &allocated);

	for (const struct vm_local *local = runtime->first; local; local = local->next) {
		const struct vm *vm = record_of(runtime, local);

		running += local->phase == PHASE_UP;
		unhealthy += vm && vm_local_is_unhealthy(local, vm);
	}
	record_vms(placed, running, unhealthy);
	record_capacity(&self->capacity, &allocated);
}

/* ---- the loop's own -------------------------------------------------------------------------- */

static void reap(struct vm_runtime *runtime, uint64_t now_ns)
{
	int status;

	for (struct vm_local *local = runtime->first; local; local = local->next) {
		if (vm_process_has_ended(&local->process, &status))
			vm_local_ended(local, status, now_ns);
	}
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct vm_runtime *runtime = arg;
	uint64_t now_ns = record_now_ns();

	(void)fd;
	(void)what;
	reap(runtime, now_ns);
	if (knows_the_present(runtime, now_ns)) {
		if (!runtime->swept)
			sweep_disks(runtime);
		runtime->swept = true;
		take_new(runtime);
	}
	for (struct vm_local *local = runtime->first; local; local = local->next) {
		const struct vm *vm = record_of(runtime, local);

		vm_local_step(local, vm, runtime->setup.base, now_ns);
		if (vm)
			report(runtime, local, vm, now_ns);
	}
	drop_gone(runtime);
	tell_counts(runtime);
}

void vm_runtime_look(struct vm_runtime *runtime)
{
	/* Not EV_TIMEOUT, which would count as one of the timer's own periods. */
	event_active(runtime->timer, EV_READ, 1);
}

static void on_sigchld(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	vm_runtime_look(arg);
}

int vm_runtime_start(const struct vm_runtime_setup *setup, struct vm_runtime **ret_runtime)
{
	static const struct timeval period = {0, VM_TICK_MS * 1000};
	struct vm_runtime *runtime = calloc(1, sizeof(*runtime));

	if (!runtime)
		return -ENOMEM;
	runtime->setup = *setup;
	int len = snprintf(runtime->directory, sizeof(runtime->directory), "%s/vms", setup->data);
	int err = len < (int)sizeof(runtime->directory) ? 0 : -ENAMETOOLONG;
	if (!err && mkdir(runtime->directory, 0700) && errno != EEXIST)
		err = -errno;
	if (!err) {
		runtime->timer = event_new(setup->base, -1, EV_PERSIST, on_tick, runtime);
		runtime->sigchld = evsignal_new(setup->base, SIGCHLD, on_sigchld, runtime);
		if (!runtime->timer || !runtime->sigchld || event_add(runtime->timer, &period) ||
		    event_add(runtime->sigchld, NULL))
			err = -ENOMEM;
	}
	if (err) {
		vm_runtime_stop(runtime);
		return err;
	}
	*ret_runtime = runtime;
	return 0;
}

struct vm_runtime *vm_runtime_stop(struct vm_runtime *runtime)
{
	if (!runtime)
		return NULL;
	while (runtime->first) {
		struct vm_local *local = runtime->first;
		runtime->first = local->next;
		vm_local_free(local);
	}
	if (runtime->timer) {
		tell_counts(runtime);
		event_free(runtime->timer);
	}
	if (runtime->sigchld)
		event_free(runtime->sigchld);
	free(runtime);
	return NULL;
}
