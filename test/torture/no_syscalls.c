/* Goal: recording makes no system call, whatever the thread's situation.
 * Metrics, spans, logs, context and headers alike; the clock may be the kernel's, which answers
 * without a system call.
 * Method: in child processes, warm up, install a seccomp filter on the recording thread that kills
 * the process on every system call but exit_group, and record 100,000 times by each call. One more
 * child breaks the rule on purpose, to prove that the filter bites. */
#include "node-hooks/blixard_hooks.h"
#include "test/support/scratch.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

enum { ROUNDS = 100000, EXIT_NO_SECCOMP = 77, EXIT_NO_FILE = 78 };

static struct scratch scratch;
static blix_counter counter;
static blix_updown_counter updown;
static blix_gauge gauge;
static blix_histogram histogram;
static blix_grpc_method method;
static blix_storage_table table;

/* Only exit_group from here on. The filter belongs to the calling thread alone: housekeeping may
 * go on as it likes. */
static void forbid_system_calls(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), /* offset of seccomp_data.nr */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		syscall(SYS_exit_group, EXIT_NO_SECCOMP);
}

static const char *get(void *arg, const char *name)
{
	(void)arg;
	return strcmp(name, "traceparent") == 0
		       ? "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	       : strcmp(name, "tracestate") == 0 ? "congo=1"
						 : "tenant=acme";
}

static void set(void *arg, const char *name, const char *value)
{
	*(size_t *)arg += strlen(name) + strlen(value);
}

/* Spans with all that they can carry, sampled and not, and logs up to and beyond their rate. */
static void trace(void)
{
	static const struct blix_context unsampled = {.trace_id = {1}, .span_id = {1}};
	struct blix_context remote = blix_extract(get, NULL);
	blix_span span = blix_span_begin(BLIX_NAME("server"), BLIX_SERVER, &remote);
	BLIX_SCOPE(span);
	blix_span child = blix_span_begin(BLIX_NAME("client"), BLIX_CLIENT, NULL);
	blix_span quiet = blix_span_begin(BLIX_NAME("quiet"), BLIX_CLIENT, &unsampled);
	size_t injected = 0;

	blix_span_str(span, BLIX_KEY("vm.name"), "vm-1");
	blix_span_i64(span, BLIX_KEY("vm.vcpus"), 2);
	blix_span_event(span, "placed", BLIX_F64("load", 0.5));
	blix_span_link(span, &remote, BLIX_BOOL("again", 1));
	blix_log(BLIX_INFO, "vm created", BLIX_STR("vm.name", "vm-1"));
	blix_add(counter, 1);
	blix_observe_ns(histogram, 1000);
	blix_inject(set, &injected);
	blix_span_error(child, "no room");
	blix_span_end(child);
	blix_span_end(quiet);
	blix_span_end(span);
	blix_span_end(span); /* stale */
	blix_record_grpc_request(method, 1000, 14);
	blix_record_storage_operation(table, BLIX_STORAGE_WRITE, 1000, 1);
	blix_record_raft_proposal(1000, BLIX_RAFT_TIMEOUT);
}

static void record(int rounds)
{
	for (int i = 0; i < rounds; i++) {
		trace();
		blix_add(counter, 1);
		blix_updown(updown, -1);
		blix_sig_add(counter, 1);
		blix_set(gauge, i);
		blix_set_f64(gauge, 0.5);
		blix_observe_ns(histogram, (uint64_t)i * 1000);
		blix_observe(histogram, (uint64_t)i);
		blix_heartbeat();
	}
}

static void open_file(uint32_t lanes)
{
	struct blix_identity identity = {
		.lanes = lanes, .ring_bytes = 16 << 10, .slots = 2, .histograms = 2};

	if (blix_open(scratch.path, &identity) < 0)
		_exit(EXIT_NO_FILE);
}

static void record_under_the_filter(void)
{
	record(1);
	forbid_system_calls();
	record(ROUNDS);
	syscall(SYS_exit_group, 0);
}

static void before_open(void)
{
	record_under_the_filter();
}

static void with_a_lane(void)
{
	open_file(4);
	record_under_the_filter();
}

static void on_lane_0(void)
{
	open_file(1);
	record_under_the_filter();
}

static void after_close(void)
{
	open_file(4);
	record(1);
	blix_close();
	record_under_the_filter();
}

static void *on_second_thread(void *unused)
{
	record_under_the_filter();
	return unused;
}

static void on_another_thread(void)
{
	pthread_t thread;

	open_file(4);
	pthread_create(&thread, NULL, on_second_thread, NULL);
	pthread_join(thread, NULL);
}

static void in_a_forked_child(void)
{
	int wait_status;

	open_file(4);
	if (fork() == 0)
		record_under_the_filter();
	wait(&wait_status);
	_exit(WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 1);
}

static void breaking_the_rule(void)
{
	forbid_system_calls();
	getppid();
	syscall(SYS_exit_group, 0);
}

static const struct {
	const char *name;
	void (*body)(void);
	bool must_die;
} cases[] = {
	{"before a file is open", before_open, false},
	{"on a lane of its own", with_a_lane, false},
	{"on the shared lane", on_lane_0, false},
	{"on another thread", on_another_thread, false},
	{"after close", after_close, false},
	{"in a forked child", in_a_forked_child, false},
	{"a system call under the filter is fatal", breaking_the_rule, true},
};

int main(void)
{
	int failures = 0;

	scratch = scratch_new(NULL);
	counter = blix_counter_of(BLIX_grpc_requests_total, "CreateVm");
	updown = blix_updown_of(BLIX_raft_proposals_total); /* void: the catalogue may have none */
	gauge = blix_gauge_of(BLIX_raft_term);
	histogram = blix_histogram_of(BLIX_raft_proposal_duration_seconds);
	method = blix_grpc_method_of("CreateVm");
	table = blix_storage_table_of("raft_log");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int wait_status;
		pid_t pid;
		bool ok;

		fflush(stdout);
		pid = fork();
		if (pid == 0) {
			cases[i].body();
			_exit(1);
		}
		waitpid(pid, &wait_status, 0);
		if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == EXIT_NO_SECCOMP) {
			printf("ok %zu - %s # SKIP seccomp filters\n", i + 1, cases[i].name);
			continue;
		}
		ok = cases[i].must_die ? WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGSYS
				       : WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;
		printf("%sok %zu - %s\n", ok ? "" : "not ", i + 1, cases[i].name);
		if (!ok)
			printf("# wait status %#x\n", (unsigned int)wait_status);
		failures += !ok;
	}
	printf("1..%zu\n", sizeof(cases) / sizeof(cases[0]));
	scratch_remove(&scratch);
	return failures > 0;
}
