/* test/cluster/selftest/vm_local.c
 * Goal: the life of a VM on its node keeps to its deadlines and bounds, and records each thing once.
 * Method: the clock, the process and the records are ours: steps are taken at invented times, the
 * process answers, falls silent, and ends when a case says so.
 */
#include "tap.h"

#include "test/cluster/log.h"
#include "test/cluster/record/record.h"
#include "test/cluster/record/record_vm.h"
#include "test/cluster/vm/vm_child.h"
#include "test/cluster/vm/vm_local.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static const uint64_t ms = 1000000;
static uint64_t now = 1000000000;
static struct event_base *base;

/* ---- the doubles ----------------------------------------------------------------------------- */

static struct {
	unsigned begun[VM_OPS], failed[VM_OPS], took[VM_OPS];
	unsigned passed, not_passed, changes, recoveries, recoveries_failed;
} seen;

static struct {
	int start_error;
	unsigned starts, pings, terms, kills;
	char verb[16];
	bool has_packet;
	uint64_t packet;
	uint64_t last_ping;
} process;

void log_line(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
}

uint64_t record_now_ns(void)
{
	return now;
}

void record_vm_begun(enum vm_operation op)
{
	seen.begun[op]++;
}

void record_vm_failed(enum vm_operation op)
{
	seen.failed[op]++;
}

void record_vm_took(enum vm_operation op, uint64_t duration_ns)
{
	seen.took[op] += duration_ns > 0;
}

void record_vm_checked(bool passed)
{
	if (passed)
		seen.passed++;
	else
		seen.not_passed++;
}

void record_vm_status_changed(void)
{
	seen.changes++;
}

void record_vm_recovery_begun(void)
{
	seen.recoveries++;
}

void record_vm_recovery_failed(void)
{
	seen.recoveries_failed++;
}

int vm_process_start(const struct vm_spec *spec, const char *verb, struct vm_process *ret_process)
{
	(void)spec;
	process.starts++;
	snprintf(process.verb, sizeof(process.verb), "%s", verb);
	if (!process.start_error)
		*ret_process = (struct vm_process){.pid = 1234, .channel = -1};
	return process.start_error;
}

void vm_process_signal(const struct vm_process *p, int signal)
{
	process.terms += p->pid == 1234 && signal == SIGTERM;
	process.kills += p->pid == 1234 && signal == SIGKILL;
}

int vm_process_ping(const struct vm_process *p, uint64_t sequence)
{
	(void)p;
	process.pings++;
	process.last_ping = sequence;
	return 0;
}

int vm_process_receive(const struct vm_process *p, uint64_t *ret_sequence)
{
	(void)p;
	if (!process.has_packet)
		return -EAGAIN;
	process.has_packet = false;
	*ret_sequence = process.packet;
	return 0;
}

void vm_process_close(struct vm_process *p)
{
	*p = (struct vm_process){.channel = -1};
}

void vm_process_end(struct vm_process *p)
{
	vm_process_close(p);
}

/* ---- what a case can do ---------------------------------------------------------------------- */

enum { EXIT_0 = 0, EXIT_1 = 1 << 8, BY_SIGNAL_9 = 9 };

static struct vm vm;
static struct vm_local *local;

static void begin(enum vm_status status)
{
	memset(&seen, 0, sizeof(seen));
	memset(&process, 0, sizeof(process));
	vm = (struct vm){.name = "a",
			 .number = 1,
			 .node_id = 1,
			 .placement = 7,
			 .status = status,
			 .request = {.needs = {.vcpus = 1, .memory_bytes = 1}}};
	local = vm_local_new(&vm, "/nowhere");
}

static void step(uint64_t after_ms)
{
	now += after_ms * ms;
	vm_local_step(local, &vm, base, now);
}

/* The packet is there; the event that would tell is made to. */
static void send_packet(uint64_t packet)
{
	process.has_packet = true;
	process.packet = packet;
	event_active(local->readable, EV_READ, 1);
	event_base_loop(base, EVLOOP_NONBLOCK);
}

static void end(int status)
{
	now += ms;
	vm_local_ended(local, status, now);
}

/* From nothing to up. */
static void bring_up(void)
{
	begin(VM_CREATING);
	step(0);
	end(EXIT_0);
	step(0);
	now += ms;
	send_packet(VM_CHILD_READY);
}

/* How long until it is tried again; UINT32_MAX: not within ten minutes. */
static uint32_t waits_ms(void)
{
	unsigned starts = process.starts;

	for (uint32_t waited = 0; waited < 600000; waited += 50) {
		step(50);
		if (process.starts != starts)
			return waited + 50;
	}
	return UINT32_MAX;
}

/* ---- the cases ------------------------------------------------------------------------------- */

static void test_creating(void)
{
	begin(VM_CREATING);
	step(0);
	tap(local->phase == PHASE_PREPARING && !strcmp(process.verb, VM_CHILD_PREPARE),
	    "a new VM gets its disk first");
	end(EXIT_0);
	step(0);
	tap(local->phase == PHASE_BOOTING && !strcmp(process.verb, VM_CHILD_RUN), "then it starts");
	now += ms;
	send_packet(VM_CHILD_READY);
	tap(local->phase == PHASE_UP && local->status == VM_RUNNING &&
		    seen.begun[VM_OP_CREATE] == 1 && seen.took[VM_OP_CREATE] == 1 &&
		    seen.begun[VM_OP_START] == 1 && seen.took[VM_OP_START] == 1 &&
		    !seen.recoveries && seen.changes == 2,
	    "and each is recorded once");
	vm_local_free(local);
	begin(VM_CREATING);
	vm.desired = VM_WANT_STOPPED;
	step(0);
	end(EXIT_0);
	step(0);
	tap(local->phase == PHASE_IDLE && local->status == VM_STOPPED && !seen.begun[VM_OP_START],
	    "one that is not wanted running is only created");
	vm_local_free(local);
	begin(VM_CREATING);
	step(0);
	step(VM_DISK_TIMEOUT_MS - 1);
	bool patient = !process.kills;
	step(1);
	step(1);
	tap(patient && process.kills == 1, "a disk that takes too long is given up, once");
	end(BY_SIGNAL_9);
	tap(seen.failed[VM_OP_CREATE] == 1 && local->status == VM_FAILED &&
		    waits_ms() == VM_RETRY_MIN_MS,
	    "which is a failed create, and tried again later");
	vm_local_free(local);
}

static void test_not_booting(void)
{
	begin(VM_STOPPED);
	step(0);
	step(VM_BOOT_TIMEOUT_MS - 1);
	bool patient = !process.kills;
	step(1);
	end(BY_SIGNAL_9);
	tap(patient && process.kills == 1 && seen.failed[VM_OP_START] == 1 &&
		    !seen.took[VM_OP_START],
	    "a start that takes too long has failed");
	vm_local_free(local);
	begin(VM_STOPPED);
	process.start_error = -EAGAIN;
	step(0);
	tap(seen.begun[VM_OP_START] == 1 && seen.failed[VM_OP_START] == 1 &&
		    local->phase == PHASE_IDLE,
	    "so has one for which there is no process");
	vm_local_free(local);
}

static void test_recovery(void)
{
	uint32_t waits[VM_FAILURES_MAX + 1], n = 0;
	bool doubles = true;

	bring_up();
	end(BY_SIGNAL_9);
	tap(local->status == VM_FAILED && vm_local_is_unhealthy(local, &vm) &&
		    !seen.failed[VM_OP_START],
	    "a crash shows");
	while ((waits[n] = waits_ms()) != UINT32_MAX && n < VM_FAILURES_MAX) {
		n++;
		end(EXIT_1);
	}
	for (uint32_t i = 1; i < n; i++)
		doubles &= waits[i] == (waits[i - 1] * 2 < VM_RETRY_MAX_MS ? waits[i - 1] * 2
									   : VM_RETRY_MAX_MS);
	tap(n == VM_FAILURES_MAX && waits[0] == VM_RETRY_MIN_MS && doubles,
	    "recovery is tried again and again, after twice the time, up to a bound");
	tap(waits[n] == UINT32_MAX && local->gave_up && local->status == VM_FAILED &&
		    seen.recoveries == n && seen.recoveries_failed == n &&
		    seen.begun[VM_OP_START] == 1,
	    "and given up in the end; every try is recorded as a recovery");
	vm.orders++;
	step(0);
	tap(local->phase == PHASE_BOOTING && seen.begun[VM_OP_START] == 2 && seen.recoveries == n,
	    "an order starts it at once, and that is a start");
	now += ms;
	send_packet(VM_CHILD_READY);
	for (int i = 0; i < VM_STABLE_MS / 50 + 2; i++) {
		step(50);
		if (process.last_ping == local->ping && local->ping_is_out)
			send_packet(process.last_ping);
	}
	end(EXIT_0);
	tap(local->failures == 1 && waits_ms() == VM_RETRY_MIN_MS,
	    "after a while without trouble earlier failures no longer count");
	vm_local_free(local);
}

static void test_health(void)
{
	unsigned pings;

	bring_up();
	step(VM_PING_EVERY_MS - 2);
	pings = process.pings;
	step(2);
	tap(!pings && process.pings == 1, "a VM is pinged once in each period");
	send_packet(process.last_ping + 1);
	send_packet(VM_CHILD_READY);
	bool ignored = !seen.passed;
	send_packet(process.last_ping);
	send_packet(process.last_ping);
	tap(ignored && seen.passed == 1, "only the answer to the last ping counts, and once");
	step(VM_PING_EVERY_MS);
	process.has_packet = true;
	process.packet = process.last_ping;
	step(VM_PING_TIMEOUT_MS + 100);
	tap(seen.passed == 2 && !seen.not_passed,
	    "an answer that was there in time counts, though read late");
	for (int i = 0; i < 100 && !seen.not_passed; i++)
		step(50);
	tap(seen.not_passed == 1 && vm_local_is_unhealthy(local, &vm) && !process.kills,
	    "one that is missed shows");
	while (!process.kills && seen.not_passed < 10)
		step(50);
	tap(seen.not_passed == VM_PINGS_FAILED_MAX && process.kills == 1,
	    "and too many in a row end it");
	end(BY_SIGNAL_9);
	step(VM_RETRY_MIN_MS);
	tap(local->recovering && seen.recoveries == 1 && local->restarts == 1, "to be recovered");
	now += ms;
	send_packet(VM_CHILD_READY);
	vm.desired = VM_WANT_STOPPED;
	step(0);
	end(BY_SIGNAL_9);
	step(0);
	vm.desired = VM_WANT_RUNNING;
	step(0);
	tap(local->phase == PHASE_BOOTING && seen.recoveries == 1 && seen.begun[VM_OP_START] == 2,
	    "recovered, its next start is a start again");
	vm_local_free(local);
}

static void test_stopping(void)
{
	bring_up();
	vm.desired = VM_WANT_STOPPED;
	step(0);
	step(VM_STOP_TIMEOUT_MS - 1);
	bool patient = process.terms == 1 && !process.kills && local->status == VM_STOPPING;
	step(1);
	step(1);
	tap(patient && process.kills == 1 && seen.begun[VM_OP_STOP] == 1 &&
		    seen.failed[VM_OP_STOP] == 1,
	    "who does not stop in time is killed, and that is a failed stop");
	end(BY_SIGNAL_9);
	step(0);
	tap(local->phase == PHASE_IDLE && local->status == VM_STOPPED && waits_ms() == UINT32_MAX,
	    "and stays down");
	vm_local_free(local);
}

static void test_deleting(void)
{
	bring_up();
	vm.desired = VM_WANT_DELETED;
	step(0);
	end(BY_SIGNAL_9);
	step(0);
	tap(local->phase == PHASE_ERASING && !strcmp(process.verb, VM_CHILD_ERASE) &&
		    !seen.begun[VM_OP_STOP],
	    "deleting ends it without counting a stop");
	end(EXIT_1);
	tap(seen.failed[VM_OP_DELETE] == 1 && waits_ms() == VM_RETRY_MIN_MS &&
		    seen.begun[VM_OP_DELETE] == 2,
	    "a disk that cannot be removed is tried again");
	end(EXIT_0);
	step(0);
	tap(local->phase == PHASE_GONE && seen.failed[VM_OP_DELETE] == 1, "until nothing is left");
	vm_local_free(local);
	bring_up();
	now += ms;
	vm_local_step(local, NULL, base, now);
	tap(local->phase == PHASE_ENDING && process.terms == 1,
	    "who is placed elsewhere has to go, too");
	vm_local_free(local);
}

static void test_next_life(void)
{
	begin(VM_RUNNING);
	step(0);
	tap(seen.recoveries == 1 && !seen.begun[VM_OP_CREATE] && !seen.begun[VM_OP_START],
	    "what ran in an earlier life of the node is recovered at once");
	vm_local_free(local);
	begin(VM_FAILED);
	step(0);
	tap(seen.begun[VM_OP_CREATE] == 1 && !seen.recoveries, "what has no disk is created");
	vm_local_free(local);
	begin(VM_STOPPING);
	vm.desired = VM_WANT_STOPPED;
	step(0);
	tap(local->status == VM_STOPPED && !process.starts, "what was stopping has stopped");
	vm_local_free(local);
}

static void test_file_names(void)
{
	tap(vm_local_placement_of("a-b-17.disk") == 17 && !vm_local_placement_of("a-b.disk") &&
		    !vm_local_placement_of("a-17.disk.old") && !vm_local_placement_of("17.disk") &&
		    vm_local_placement_of("a--1.disk") == 1 && !vm_local_placement_of("."),
	    "a disk's name tells its placement, and other files are left alone");
}

int main(void)
{
	base = event_base_new();
	test_creating();
	test_not_booting();
	test_recovery();
	test_health();
	test_stopping();
	test_deleting();
	test_next_life();
	test_file_names();
	event_base_free(base);
	return tap_done();
}
