/* vm_local.c - the life of one VM on this node. Loop thread only. */
#include "vm_local.h"

#include "test/cluster/log.h"
#include "test/cluster/record/note.h"
#include "test/cluster/record/record.h"
#include "test/cluster/record/record_vm.h"
#include "vm_child.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint64_t ns_a_ms = 1000000;

uint64_t vm_local_placement_of(const char *file)
{
	const char *dash = strrchr(file, '-');
	char *end;

	if (!dash || dash[1] < '0' || dash[1] > '9')
		return 0;
	uint64_t placement = strtoull(dash + 1, &end, 10);
	return strcmp(end, ".disk") ? 0 : placement;
}

struct vm_local *vm_local_new(const struct vm *vm, const char *directory)
{
	struct vm_local *local = calloc(1, sizeof(*local));

	if (!local)
		return NULL;
	memcpy(local->name, vm->name, sizeof(local->name));
	snprintf(local->disk, sizeof(local->disk), "%s/%s-%" PRIu64 ".disk", directory, vm->name,
		 vm->placement);
	local->needs = vm->request.needs;
	local->placement = vm->placement;
	local->orders = vm->orders;
	local->status = vm->status;
	local->restarts = vm->restarts;
	/* One that has failed may have failed to be created. */
	local->created = vm->status != VM_CREATING &&
			 (vm->status != VM_FAILED || !access(local->disk, F_OK));
	local->process.channel = -1;
	/* Its process went down with this node. */
	local->recovering = vm->status == VM_RUNNING || (vm->status == VM_FAILED && local->created);
	return local;
}

static void forget_process(struct vm_local *local)
{
	if (local->readable)
		event_free(local->readable);
	local->readable = NULL;
	if (local->process.pid)
		vm_process_close(&local->process);
}

struct vm_local *vm_local_free(struct vm_local *local)
{
	if (!local)
		return NULL;
	vm_process_end(&local->process);
	forget_process(local);
	free(local);
	return NULL;
}

bool vm_local_is_unhealthy(const struct vm_local *local, const struct vm *vm)
{
	if (local->phase == PHASE_UP)
		return local->pings_failed > 0;
	return local->created && vm->desired == VM_WANT_RUNNING && local->status == VM_FAILED;
}

/* ---- changes --------------------------------------------------------------------------------- */

/* ---- traces: an operation is part of the trace of whoever wanted it --------------------------- */

static void begin_operation(struct vm_local *local, enum trace_name name)
{
	blix_span span = trace_begin_at(name, &local->context);

	/* A recovery that nobody's trace is about has one of its own. */
	if (!trace_is_set(span) && name == TRACE_VM_RECOVER)
		span = trace_begin_root(name);
	local->span = span;
	if (!blix_span_is_recorded(span))
		return;
	trace_str(span, TRACE_VM_NAME, local->name);
	trace_str(span, TRACE_VM_BACKEND, "process");
}

static void end_operation(struct vm_local *local, const char *failure, const char *text)
{
	trace_str(local->span, TRACE_RESULT, failure ? "failed" : "ok");
	if (failure)
		trace_fail(local->span, failure, text);
	trace_end(local->span); /* its ids are still good: for what follows from it */
}

static void end_check(struct vm_local *local, bool passed)
{
	blix_token token = trace_enter(local->check);

	record_vm_checked(passed);
	trace_leave(token);
	trace_str(local->check, TRACE_RESULT, passed ? "healthy" : "unresponsive");
	if (!passed)
		trace_fail(local->check, "timeout", "no answer in time");
	trace_end(local->check);
}

/* Nobody is left to answer. */
static void give_up_check(struct vm_local *local)
{
	if (!local->ping_is_out)
		return;
	local->ping_is_out = false;
	trace_str(local->check, TRACE_RESULT, "ended");
	trace_end(local->check);
}

static void set_status(struct vm_local *local, enum vm_status status)
{
	if (local->status == status)
		return;
	local->status = status;
	local->reported_ns = 0;
	record_vm_status_changed();
	blix_token token = trace_enter(local->span);
	note_vm_status(local->name, vm_status_name(status));
	trace_leave(token);
}

static void set_phase(struct vm_local *local, enum vm_phase phase, uint64_t now_ns)
{
	local->phase = phase;
	local->phase_began_ns = now_ns;
	local->killed = false;
}

static bool has_lasted(const struct vm_local *local, uint64_t ms, uint64_t now_ns)
{
	return now_ns - local->phase_began_ns >= ms * ns_a_ms;
}

static void try_later(struct vm_local *local, uint64_t now_ns)
{
	uint64_t wait_ms = VM_RETRY_MIN_MS;

	for (uint32_t i = 0; i < local->failures && wait_ms < VM_RETRY_MAX_MS; i++)
		wait_ms *= 2;
	if (wait_ms > VM_RETRY_MAX_MS)
		wait_ms = VM_RETRY_MAX_MS;
	local->failures++;
	local->next_try_ns = now_ns + wait_ms * ns_a_ms;
}

static void kill_once(struct vm_local *local)
{
	if (local->killed)
		return;
	local->killed = true;
	vm_process_signal(&local->process, SIGKILL);
}

/* It is down though it should be up. */
static void went_down(struct vm_local *local, uint64_t now_ns)
{
	give_up_check(local);
	set_phase(local, PHASE_IDLE, now_ns);
	set_status(local, VM_FAILED);
	local->recovering = true;
	if (local->failures >= VM_FAILURES_MAX) {
		log_line(LOG_WARN, "vm %s: given up after %" PRIu32 " failures in a row",
			 local->name, local->failures);
		local->gave_up = true;
		return;
	}
	try_later(local, now_ns);
}

/* ---- the channel ----------------------------------------------------------------------------- */

static void on_ready(struct vm_local *local, uint64_t now_ns)
{
	blix_token token = trace_enter(local->span); /* for the exemplar */
	if (local->recovering)
		log_line(LOG_INFO, "vm %s: recovered", local->name);
	else
		record_vm_took(VM_OP_START, now_ns - local->phase_began_ns);
	trace_leave(token);
	local->recovering = false;
	local->ping_is_out = false;
	local->ping_sent_ns = now_ns;
	local->pings_failed = 0;
	set_phase(local, PHASE_UP, now_ns);
	set_status(local, VM_RUNNING);
	end_operation(local, NULL, NULL);
}

static void on_packet(struct vm_local *local, uint64_t sequence, uint64_t now_ns)
{
	if (local->phase == PHASE_BOOTING && sequence == VM_CHILD_READY) {
		on_ready(local, now_ns);
	} else if (local->phase == PHASE_UP && local->ping_is_out && sequence == local->ping) {
		end_check(local, true);
		local->ping_is_out = false;
		local->pings_failed = 0;
	}
}

/* A child that hangs up or talks nonsense is on its way out: its end is what counts. */
static void receive(struct vm_local *local)
{
	uint64_t sequence;
	int err;

	while (!(err = vm_process_receive(&local->process, &sequence)))
		on_packet(local, sequence, record_now_ns());
	if (err == -EPIPE && local->readable)
		event_del(local->readable);
}

static void on_channel(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	receive(arg);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static int start_process(struct vm_local *local, const char *verb, struct event_base *base)
{
	struct vm_spec spec = {.name = local->name, .disk = local->disk, .needs = local->needs};

	int err = vm_process_start(&spec, verb, &local->process);
	if (err) {
		log_line(LOG_WARN, "vm %s: cannot %s: %s", local->name, verb, strerror(-err));
		return err;
	}
	local->readable =
		event_new(base, local->process.channel, EV_READ | EV_PERSIST, on_channel, local);
	if (!local->readable || event_add(local->readable, NULL))
		vm_process_signal(&local->process,
				  SIGKILL); /* no memory: its end is reaped as any other */
	return 0;
}

static void create(struct vm_local *local, struct event_base *base, uint64_t now_ns)
{
	record_vm_begun(VM_OP_CREATE);
	begin_operation(local, TRACE_VM_CREATE);
	set_phase(local, PHASE_PREPARING, now_ns);
	if (start_process(local, VM_CHILD_PREPARE, base))
		vm_local_ended(local, 1 << 8, now_ns);
}

static void boot(struct vm_local *local, struct event_base *base, uint64_t now_ns)
{
	if (local->recovering) {
		record_vm_recovery_begun();
		local->restarts++;
	} else {
		record_vm_begun(VM_OP_START);
	}
	begin_operation(local, local->recovering ? TRACE_VM_RECOVER : TRACE_VM_START);
	set_phase(local, PHASE_BOOTING, now_ns);
	set_status(local, VM_STARTING);
	if (start_process(local, VM_CHILD_RUN, base))
		vm_local_ended(local, 1 << 8, now_ns);
}

static void erase(struct vm_local *local, struct event_base *base, uint64_t now_ns)
{
	record_vm_begun(VM_OP_DELETE);
	begin_operation(local, TRACE_VM_DELETE);
	set_phase(local, PHASE_ERASING, now_ns);
	if (start_process(local, VM_CHILD_ERASE, base))
		vm_local_ended(local, 1 << 8, now_ns);
}

static void end(struct vm_local *local, uint64_t now_ns)
{
	give_up_check(local);
	set_phase(local, PHASE_ENDING, now_ns);
	set_status(local, VM_STOPPING);
	vm_process_signal(&local->process, SIGTERM);
}

static void step_idle(struct vm_local *local, const struct vm *vm, struct event_base *base,
		      uint64_t now_ns)
{
	bool leaving = !vm || vm->desired == VM_WANT_DELETED;

	if (vm && vm->orders != local->orders) {
		/* Somebody cares: what failed before is tried again at once. */
		local->orders = vm->orders;
		local->recovering =
			local->recovering && !local->gave_up && vm->desired == VM_WANT_RUNNING;
		local->gave_up = false;
		local->failures = 0;
		local->next_try_ns = 0;
	}
	if (now_ns < local->next_try_ns)
		return;
	if (leaving) {
		erase(local, base, now_ns);
	} else if (!local->created) {
		create(local, base, now_ns);
	} else if (vm->desired == VM_WANT_STOPPED) {
		local->recovering = false;
		set_status(local, VM_STOPPED);
	} else if (!local->gave_up) {
		boot(local, base, now_ns);
	}
}

static void check_health(struct vm_local *local, uint64_t now_ns)
{
	/* An answer that this loop was too slow to read is an answer. */
	receive(local);
	if (local->ping_is_out && now_ns - local->ping_sent_ns >= VM_PING_TIMEOUT_MS * ns_a_ms) {
		local->ping_is_out = false;
		local->pings_failed++;
		end_check(local, false);
	}
	if (local->pings_failed >= VM_PINGS_FAILED_MAX && !local->killed) {
		log_line(LOG_WARN, "vm %s: does not answer, killing it", local->name);
		kill_once(local);
	}
	if (local->killed || now_ns - local->ping_sent_ns < VM_PING_EVERY_MS * ns_a_ms)
		return;
	local->ping_sent_ns = now_ns;
	/* A full channel counts like no answer; one hung up will be seen as a crash. */
	local->ping_is_out = vm_process_ping(&local->process, ++local->ping) != -EPIPE;
	if (!local->ping_is_out)
		return;
	local->check = trace_begin_root(TRACE_VM_HEALTH_CHECK);
	trace_str(local->check, TRACE_VM_NAME, local->name);
}

static void step_up(struct vm_local *local, const struct vm *vm, uint64_t now_ns)
{
	if (local->failures && has_lasted(local, VM_STABLE_MS, now_ns))
		local->failures = 0;
	if (!vm || vm->desired == VM_WANT_DELETED) {
		end(local, now_ns);
	} else if (vm->desired == VM_WANT_STOPPED) {
		record_vm_begun(VM_OP_STOP);
		begin_operation(local, TRACE_VM_STOP);
		local->stopping = true;
		end(local, now_ns);
	} else {
		local->orders = vm->orders;
		check_health(local, now_ns);
	}
}

/* Only a stop can fail: whoever deletes a VM does not mind how it ends. */
static void step_ending(struct vm_local *local, const struct vm *vm, uint64_t now_ns)
{
	if (local->killed || !has_lasted(local, VM_STOP_TIMEOUT_MS, now_ns))
		return;
	log_line(LOG_WARN, "vm %s: does not stop, killing it", local->name);
	if (vm && vm->desired == VM_WANT_STOPPED)
		record_vm_failed(VM_OP_STOP);
	kill_once(local);
}

void vm_local_step(struct vm_local *local, const struct vm *vm, struct event_base *base,
		   uint64_t now_ns)
{
	if (vm)
		local->context = vm->context;
	switch (local->phase) {
	case PHASE_IDLE:
		step_idle(local, vm, base, now_ns);
		break;
	case PHASE_PREPARING:
	case PHASE_ERASING:
		if (has_lasted(local, VM_DISK_TIMEOUT_MS, now_ns))
			kill_once(local);
		break;
	case PHASE_BOOTING:
		if (has_lasted(local, VM_BOOT_TIMEOUT_MS, now_ns))
			kill_once(local);
		break;
	case PHASE_UP:
		step_up(local, vm, now_ns);
		break;
	case PHASE_ENDING:
		step_ending(local, vm, now_ns);
		break;
	case PHASE_GONE:
		break;
	}
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void prepared(struct vm_local *local, bool good, uint64_t now_ns)
{
	uint64_t took = now_ns - local->phase_began_ns;

	set_phase(local, PHASE_IDLE, now_ns);
	if (good) {
		blix_token token = trace_enter(local->span); /* for the exemplar */
		record_vm_took(VM_OP_CREATE, took);
		trace_leave(token);
		end_operation(local, NULL, NULL);
		local->created = true;
		local->failures = 0;
		return;
	}
	record_vm_failed(VM_OP_CREATE);
	end_operation(local, "create_failed", "its disk could not be made");
	set_status(local, VM_FAILED);
	try_later(local, now_ns);
}

static void did_not_boot(struct vm_local *local, uint64_t now_ns)
{
	if (local->recovering)
		record_vm_recovery_failed();
	else
		record_vm_failed(VM_OP_START);
	end_operation(local, "boot_failed", "it did not come up");
	went_down(local, now_ns);
}

static void crashed(struct vm_local *local, int status, uint64_t now_ns)
{
	if (WIFSIGNALED(status))
		log_line(LOG_WARN, "vm %s: ended by signal %d", local->name, WTERMSIG(status));
	else
		log_line(LOG_WARN, "vm %s: ended with code %d", local->name, WEXITSTATUS(status));
	went_down(local, now_ns);
}

static void erased(struct vm_local *local, bool good, uint64_t now_ns)
{
	if (good) {
		end_operation(local, NULL, NULL);
		set_phase(local, PHASE_GONE, now_ns);
		return;
	}
	record_vm_failed(VM_OP_DELETE);
	end_operation(local, "delete_failed", "its disk could not be removed");
	set_phase(local, PHASE_IDLE, now_ns);
	try_later(local, now_ns);
}

void vm_local_ended(struct vm_local *local, int status, uint64_t now_ns)
{
	bool good = WIFEXITED(status) && !WEXITSTATUS(status);

	forget_process(local);
	switch (local->phase) {
	case PHASE_PREPARING:
		prepared(local, good, now_ns);
		break;
	case PHASE_BOOTING:
		did_not_boot(local, now_ns);
		break;
	case PHASE_UP:
		crashed(local, status, now_ns);
		break;
	case PHASE_ENDING:
		set_phase(local, PHASE_IDLE, now_ns);
		set_status(local, VM_STOPPED);
		if (local->stopping)
			end_operation(local, NULL, NULL);
		local->stopping = false;
		break;
	case PHASE_ERASING:
		erased(local, good, now_ns);
		break;
	case PHASE_IDLE:
	case PHASE_GONE:
		break;
	}
}
