/* test/corrupt/sigbus.c
 *
 * Goal: a file truncated while it is mapped never kills its reader, marks the right map and no
 * other; a SIGBUS that is not ours still does what it did before there was a map.
 * Method: each case in a child process of its own, so that death is an observable result and the
 * handler is installed anew. The truncation races with reading from a second thread, many times.
 * TAP output. */
#include "shm/map.h"
#include "test/support/shm_file.h"

#include "shm/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 100, CHILD_SECONDS_MAX = 20, SUMS = 512, SURVIVED = 0, FAILED = 1 };

static char dir[] = "/dev/shm/blix-test-sigbus-XXXXXX";
static char path[64];
static volatile uint64_t sink;

static struct blix_map *open_map(const char *at, bool consumer)
{
	struct blix_map_options options = {.consumer = consumer};
	char reason[BLIX_REASON_MAX];
	struct blix_map *map;

	if (blix_map_open(at, &options, &map, reason)) {
		printf("# %s\n", reason);
		exit(FAILED);
	}
	return map;
}

static void expect(bool holds, const char *what)
{
	if (holds)
		return;
	printf("# %s\n", what);
	fflush(stdout);
	exit(FAILED);
}

static struct shm_file *make_file(const char *at)
{
	struct shm_file *f = shm_file_new(at, NULL);
	uint32_t m = shm_file_metric(
		f, &(struct shm_file_metric){.name = "a_total", .kind = BLIX_COUNTER});

	shm_file_add(f, shm_file_plain(f, m), 1, 41);
	return f;
}

/* ---- holes in our maps ----------------------------------------------------------------------- */

struct race {
	uint32_t reads; /* rounds of reading so far */
	uint32_t cut;	/* set once the file is short */
};

static struct race race;

static void *cut_while_reading(void *arg)
{
	uint32_t after = *(uint32_t *)arg;

	while (blix_load_acquire(&race.reads) < after)
		;
	expect(truncate(path, 4096) == 0, "truncate");
	blix_store_release(&race.cut, 1);
	return NULL;
}

/* One round: read on and on until the cut was seen, then ask what happened. */
static void race_once(uint32_t round)
{
	struct shm_file *f = make_file(path);
	struct blix_map *map = open_map(path, false);
	uint32_t after = 1 + round % 7;
	uint64_t sums[SUMS];
	pthread_t thread;
	bool last = false;

	race = (struct race){0};
	expect(pthread_create(&thread, NULL, cut_while_reading, &after) == 0, "pthread_create");
	while (!last) {
		last = blix_load_acquire(&race.cut); /* one more round after the cut */
		blix_map_sum_cells(map, sums, SUMS);
		sink += sums[1] + blix_map_gauge(map, 3);
		blix_store_release(&race.reads, race.reads + 1);
	}
	pthread_join(thread, NULL);
	expect(blix_map_poisoned(map), "the hole was not noticed");
	expect(blix_map_refresh(map) == -ENODATA, "refresh found nothing wrong");
	blix_map_sum_cells(map, sums, SUMS);
	expect(sums[1] == 0, "a hole reads as something");
	blix_map_close(map);
	shm_file_free(f);
}

static void reader_survives_a_cut_at_any_moment(void)
{
	for (uint32_t i = 0; i < ROUNDS; i++)
		race_once(i);
}

static void consumer_survives_writing_into_a_hole(void)
{
	struct shm_file *f = make_file(path);
	struct blix_map *map = open_map(path, true);

	expect(truncate(path, 4096) == 0, "truncate");
	blix_store_relaxed(&blix_view_consumer(blix_map_view(map))->beat, 1);
	expect(blix_map_poisoned(map), "the hole was not noticed");
	expect(blix_view_consumer(blix_map_view(map))->beat == 1, "the page takes no writes");
	blix_map_close(map);
	shm_file_free(f);
}

static void other_maps_stay_as_they_are(void)
{
	struct shm_file *f[3];
	struct blix_map *map[3];
	char at[3][80];
	uint64_t sums[4];

	for (int i = 0; i < 3; i++) {
		snprintf(at[i], sizeof(at[i]), "%s.%d", path, i);
		f[i] = make_file(at[i]);
		map[i] = open_map(at[i], false);
	}
	expect(truncate(at[1], 0) == 0, "truncate");
	for (int i = 0; i < 3; i++) {
		blix_map_sum_cells(map[i], sums, 4);
		expect(sums[1] == (i == 1 ? 0 : 41), "a wrong sum");
		expect(blix_map_poisoned(map[i]) == (i == 1), "the wrong map is marked");
	}
	expect(blix_map_refresh(map[0]) == 0 && blix_map_refresh(map[2]) == 0, "refresh");
	map[1] = blix_map_close(map[1]);
	f[1] = shm_file_free(f[1]);
	f[1] = make_file(at[1]);
	map[1] = open_map(at[1], false); /* takes the slot of the poisoned one */
	expect(!blix_map_poisoned(map[1]), "a mark was inherited");
	for (int i = 0; i < 3; i++) {
		blix_map_close(map[i]);
		shm_file_free(f[i]);
	}
}

/* ---- what is not ours ------------------------------------------------------------------------ */

/* A mapping of our own with a hole in it. */
static volatile uint8_t *make_hole(void *address)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	void *hole;

	expect(fd >= 0 && ftruncate(fd, 65536) == 0, "file of the hole");
	hole = mmap(address, 65536, PROT_READ | PROT_WRITE,
		    address ? MAP_SHARED | MAP_FIXED : MAP_SHARED, fd, 0);
	expect(hole != MAP_FAILED && ftruncate(fd, 0) == 0, "map of the hole");
	close(fd);
	return hole;
}

/* Whatever a sanitizer put there: the default action is what a plain program has. */
static void as_in_a_plain_program(void)
{
	signal(SIGBUS, SIG_DFL);
}

static void foreign_fault(void)
{
	struct shm_file *f = make_file(path);

	as_in_a_plain_program();
	(void)open_map(path, false);
	sink += *make_hole(NULL);
	shm_file_free(f);
}

static void foreign_fault_where_a_map_was(void)
{
	struct shm_file *f = make_file(path);
	struct blix_map *map;
	void *base;

	as_in_a_plain_program();
	map = open_map(path, false);
	base = blix_map_view(map)->base;
	blix_map_close(map);
	sink += *make_hole(base);
	shm_file_free(f);
}

static void sent_signal(void)
{
	struct shm_file *f = make_file(path);

	as_in_a_plain_program();
	(void)open_map(path, false);
	raise(SIGBUS);
	shm_file_free(f);
}

static void sent_signal_that_was_ignored(void)
{
	struct shm_file *f = make_file(path);

	signal(SIGBUS, SIG_IGN);
	blix_map_close(open_map(path, false));
	raise(SIGBUS);
	raise(SIGBUS);
	shm_file_free(f);
}

static void foreign_fault_of_one_who_ignores_signals(void)
{
	struct shm_file *f = make_file(path);

	signal(SIGBUS, SIG_IGN);
	(void)open_map(path, false);
	sink += *make_hole(NULL);
	shm_file_free(f);
}

static sigjmp_buf back;
static void *seen_address;

static void plain_handler(int signal_number)
{
	siglongjmp(back, signal_number);
}

static void info_handler(int signal_number, siginfo_t *info, void *context)
{
	(void)context;
	seen_address = info->si_addr;
	siglongjmp(back, signal_number);
}

/* Our handler passes the foreign fault on, and still guards the map afterwards. */
static void expect_chained(void)
{
	struct shm_file *f = make_file(path);
	struct blix_map *map = open_map(path, false);
	volatile uint8_t *hole = make_hole(NULL);
	uint64_t sums[4];

	if (sigsetjmp(back, 1) == 0) {
		sink += *hole;
		expect(false, "the fault went unnoticed");
	}
	expect(!blix_map_poisoned(map), "a foreign fault marked our map");
	seen_address = seen_address ? seen_address : (void *)(uintptr_t)hole;
	expect(seen_address == (void *)(uintptr_t)hole, "another address");
	expect(truncate(path, 0) == 0, "truncate");
	blix_map_sum_cells(map, sums, 4);
	expect(blix_map_poisoned(map), "the hole was not noticed");
	blix_map_close(map);
	shm_file_free(f);
}

static void plain_handler_is_called(void)
{
	signal(SIGBUS, plain_handler);
	expect_chained();
}

static void info_handler_is_called(void)
{
	struct sigaction action = {.sa_sigaction = info_handler, .sa_flags = SA_SIGINFO};

	sigaction(SIGBUS, &action, NULL);
	expect_chained();
	expect(seen_address != NULL, "the handler saw no address");
}

/* ---- running ------------------------------------------------------------------------------ */

static const struct test {
	const char *name;
	void (*run)(void);
	int signal; /* that ends the child; 0 = it survives */
} tests[] = {
	{"a reader survives a cut at any moment", reader_survives_a_cut_at_any_moment, 0},
	{"a consumer survives writing into a hole", consumer_survives_writing_into_a_hole, 0},
	{"other maps stay as they are", other_maps_stay_as_they_are, 0},
	{"a foreign fault kills", foreign_fault, SIGBUS},
	{"a foreign fault where a map was kills", foreign_fault_where_a_map_was, SIGBUS},
	{"a signal somebody sent kills", sent_signal, SIGBUS},
	{"a signal somebody sent is ignored by who ignored it", sent_signal_that_was_ignored, 0},
	{"a fault cannot be ignored", foreign_fault_of_one_who_ignores_signals, SIGBUS},
	{"an earlier handler is called", plain_handler_is_called, 0},
	{"an earlier handler is called with its address", info_handler_is_called, 0},
};

static bool run(const struct test *t)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(CHILD_SECONDS_MAX);
		t->run();
		exit(SURVIVED);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (t->signal)
		return WIFSIGNALED(status) && WTERMSIG(status) == t->signal;
	return WIFEXITED(status) && WEXITSTATUS(status) == SURVIVED;
}

int main(void)
{
	const size_t n = sizeof(tests) / sizeof(tests[0]);
	bool all = true;

	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/blix1", dir);
	for (size_t i = 0; i < n; i++) {
		bool passed = run(&tests[i]);

		printf("%sok %zu - %s\n", passed ? "" : "not ", i + 1, tests[i].name);
		fflush(stdout);
		all &= passed;
		unlink(path); /* who was killed could not */
	}
	printf("1..%zu\n", n);
	rmdir(dir);
	return all ? 0 : 1;
}
