/* Goal: a forked child changes nothing in its parent's file and does not keep its lock, and the
 * parent loses nothing by forking.
 * Method: TAP cases. Children record by every call before they exit; the file is read back by the
 * validating reader. */
#include "node-hooks/blixard_hooks.h"
#include "shm/map.h"
#include "test/support/scratch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CELLS = 2048, FORKS = 200 };

static struct scratch scratch;
static blix_counter counter;
static blix_gauge gauge;
static blix_histogram histogram;
static int case_number;
static int failures;

static void report(bool ok, const char *what)
{
	printf("%sok %d - %s\n", ok ? "" : "not ", ++case_number, what);
	failures += !ok;
}

static struct blix_map *look(void)
{
	char reason[BLIX_REASON_MAX];
	struct blix_map *map = NULL;

	if (blix_map_open(scratch.path, &(struct blix_map_options){0}, &map, reason) < 0) {
		printf("Bail out! %s\n", reason);
		exit(1);
	}
	return map;
}

static void open_file(void)
{
	struct blix_identity identity = {.lanes = 8, .ring_bytes = 16 << 10, .slots = 2};

	if (blix_open(scratch.path, &identity) < 0) {
		printf("Bail out! %s\n", blix_status().reason);
		exit(1);
	}
}

static void record_everything(void)
{
	blix_add(counter, 1);
	blix_sig_add(counter, 1);
	blix_observe_ns(histogram, 1000);
	blix_set(gauge, 99);
	blix_heartbeat();
}

static void *record_on_a_thread(void *unused)
{
	record_everything();
	return unused;
}

/* 0 if the child behaves as a child must. */
static int be_a_child(void)
{
	pthread_t thread;

	for (int i = 0; i < 1000; i++)
		record_everything();
	if (pthread_create(&thread, NULL, record_on_a_thread, NULL) == 0)
		pthread_join(thread, NULL);
	blix_counter_of(BLIX_grpc_requests_total, "a series of the child");
	if (blix_status().state != BLIX_STATUS_FORKED || blix_open(scratch.path, NULL) != -ECHILD)
		return 1;
	blix_close();
	if (fork() == 0) { /* and so must a grandchild */
		record_everything();
		exit(blix_open(scratch.path, NULL) != -ECHILD);
	}
	int wait_status;
	return wait(&wait_status) < 0 || wait_status != 0;
}

static void child_leaves_the_file_alone(void)
{
	uint64_t before[CELLS];
	uint64_t after[CELLS];
	struct blix_map_life life;
	struct blix_map *map;
	uint32_t series;
	int wait_status;

	open_file();
	blix_add(counter, 5);
	blix_set(gauge, 7);
	map = look();
	series = blix_map_series_count(map);
	blix_map_sum_cells(map, before, CELLS);
	fflush(stdout);
	if (fork() == 0)
		exit(be_a_child()); /* exit, so that destructors run */
	wait(&wait_status);
	blix_map_refresh(map);
	blix_map_sum_cells(map, after, CELLS);
	blix_map_life(map, &life);
	report(wait_status == 0, "a child is told that it cannot record");
	report(memcmp(before, after, sizeof(before)) == 0 &&
		       blix_map_gauge(map, gauge.index) == 7 && life.app_beat == 0,
	       "a child's updates do not reach the file");
	report(blix_map_series_count(map) == series, "nor do its series");
	report(life.state == BLIX_STATE_LIVE, "nor does its exit");
	blix_add(counter, 1);
	blix_map_sum_cells(map, after, CELLS);
	report(after[counter.cell] == before[counter.cell] + 1, "the parent records on");
	report(blix_map_owner_state(map) == BLIX_OWNER_ALIVE, "and keeps its lock");
	blix_map_close(map);
	blix_close();
}

/* A child of a fork that runs no handlers still maps the parent's file; its ends must not look like
 * the parent's. */
static void child_without_handlers_ends_quietly(void)
{
	struct blix_map_lanes lanes;
	struct blix_map_life life;
	struct blix_map *map;
	int wait_status;
	int unclean = 0;
	pid_t pid;

	open_file();
	blix_add(counter, 1); /* so that this thread has a lane to give back */
	map = look();
	fflush(stdout);
	for (int way = 0; way < 2; way++) {
		pid = _Fork();
		if (pid == 0 && way == 0)
			exit(0); /* runs the library's destructor */
		if (pid == 0)
			pthread_exit(NULL); /* runs the thread's */
		waitpid(pid, &wait_status, 0);
		unclean |= wait_status;
	}
	blix_map_life(map, &life);
	blix_map_lanes(map, &lanes);
	report(unclean == 0 && life.state == BLIX_STATE_LIVE,
	       "a child without handlers does not mark the file as left");
	report(lanes.owned == 1, "nor does it give back its parent's lane");
	blix_map_close(map);
	blix_close();
}

static bool lock_is_free(void *map)
{
	return blix_map_owner_state(map) == BLIX_OWNER_GONE;
}

/* Node and child of a node, both below this process. */
static void lock_falls_with_the_parent(void)
{
	int ready[2];
	pid_t pids[2] = {0};
	struct blix_map *map;
	pid_t node;

	if (pipe(ready) < 0)
		exit(1);
	node = fork();
	if (node == 0) {
		open_file();
		pids[0] = getpid();
		pids[1] = fork();
		if (pids[1] == 0) {
			pause();
			_exit(0);
		}
		(void)!write(ready[1], pids, sizeof(pids));
		pause();
		_exit(0);
	}
	if (read(ready[0], pids, sizeof(pids)) != sizeof(pids))
		exit(1);
	map = look();
	report(blix_map_owner_state(map) == BLIX_OWNER_ALIVE,
	       "the lock is held while the parent lives");
	kill(node, SIGKILL);
	waitpid(node, NULL, 0);
	report(scratch_wait(lock_is_free, map, 2000) && kill(pids[1], 0) == 0,
	       "the lock falls with the parent while its child lives");
	kill(pids[1], SIGKILL);
	blix_map_close(map);
}

/* A child that maps the file on keeps its lock: whoever starts next is told whom to end. */
static void child_without_handlers_keeps_the_lock(void)
{
	int ready[2];
	pid_t pids[2] = {0};
	bool told;
	pid_t node;

	if (pipe(ready) < 0)
		exit(1);
	node = fork();
	if (node == 0) {
		open_file();
		pids[1] = _Fork();
		if (pids[1] > 0)
			(void)!write(ready[1], pids, sizeof(pids));
		pause();
		_exit(0);
	}
	if (read(ready[0], pids, sizeof(pids)) != sizeof(pids))
		exit(1);
	kill(node, SIGKILL);
	waitpid(node, NULL, 0);
	told = blix_open(scratch.path, NULL) == -EBUSY && strstr(blix_status().reason, "child of");
	report(told, "a lock kept by a child of a dead node is explained");
	kill(pids[1], SIGKILL);
}

/* ---- forking under load, with recording fork handlers --------------------------------------- */

static bool recording_handlers;
static uint64_t handler_adds;
static bool stop;

/* Registered before the library's handlers: in `prepare` and in `child` it runs while the lane is
 * parked or not yet the child's. */
static void add_early(void)
{
	if (!recording_handlers)
		return;
	blix_add(counter, 1);
	handler_adds++;
}

static void add_in_prepare(void)
{
	blix_add(counter, 1);
	handler_adds++;
}

static void add_in_parent(void)
{
	blix_add(counter, 1);
	handler_adds++;
}

static void add_in_child(void)
{
	blix_add(counter, 1); /* must go nowhere */
}

static void *keep_adding(void *ret_adds)
{
	uint64_t adds = 0;

	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		blix_add(counter, 1);
		adds++;
	}
	*(uint64_t *)ret_adds = adds;
	return NULL;
}

static void forking_loses_nothing(void)
{
	uint64_t adds[2] = {0};
	uint64_t sums[CELLS];
	uint64_t own = 0;
	pthread_t threads[2];
	struct blix_map *map;

	open_file();
	map = look();
	recording_handlers = true;
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, keep_adding, &adds[i]);
	for (int i = 0; i < FORKS; i++) {
		pid_t pid;

		blix_add(counter, 1);
		own++;
		pid = fork();
		if (pid == 0) {
			blix_add(counter, 1);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	blix_map_sum_cells(map, sums, CELLS);
	printf("# %llu in the file, %llu made\n", (unsigned long long)sums[counter.cell],
	       (unsigned long long)(own + adds[0] + adds[1] + handler_adds));
	report(handler_adds == 4 * FORKS &&
		       sums[counter.cell] == own + adds[0] + adds[1] + handler_adds,
	       "200 forks under load, with handlers that record: every add arrives once");
	blix_map_close(map);
	blix_close();
}

int main(void)
{
	scratch = scratch_new(NULL);
	pthread_atfork(add_early, add_early, add_early); /* prepares after the library's handler */
	counter = blix_counter_of(BLIX_raft_proposals_total);
	gauge = blix_gauge_of(BLIX_raft_term);
	histogram = blix_histogram_of(BLIX_raft_proposal_duration_seconds);
	child_without_handlers_keeps_the_lock();
	lock_falls_with_the_parent();
	child_leaves_the_file_alone();
	child_without_handlers_ends_quietly();
	pthread_atfork(add_in_prepare, add_in_parent,
		       add_in_child); /* runs outside of the library's */
	forking_loses_nothing();
	printf("1..%d\n", case_number);
	scratch_remove(&scratch);
	return failures > 0;
}
