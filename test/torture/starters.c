/* Goal: nodes that start, die and restart on one path while others clean up never displace or
 * remove a live node's file.
 * Method: eight processes publish, live for some microseconds while checking that the name still
 * leads to their own file, and die; two more take every file's lock and unlink what is dead, as
 * the rule of publish.h allows. Now and then a starter is killed and replaced. */
#include "shm/publish.h"
#include "test/support/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STARTERS = 8, CLEANERS = 2, LOOKS = 6, LIVES_MIN = 100 };

static struct shared {
	uint64_t lives;
	uint64_t displaced;
	uint64_t refused;
	uint64_t failed;
	uint64_t unlinked;
	uint64_t killed;
} * shared;

static struct scratch scratch;
static unsigned int random_state;

static void nap(int most_us)
{
	usleep((useconds_t)(rand_r(&random_state) % most_us));
}

static void count(uint64_t *what)
{
	__atomic_fetch_add(what, 1, __ATOMIC_RELAXED);
}

static bool name_leads_to(ino_t ino)
{
	struct stat st;

	return stat(scratch.path, &st) == 0 && st.st_ino == ino;
}

static void live_once(void)
{
	static const struct blix_format_options tiny = {.lanes = 1,
							.ring_bytes = 16 << 10,
							.cells = 64,
							.slots = 1,
							.strings_bytes = 4096,
							.metrics = 4,
							.series = 8,
							.gauges = 8,
							.exemplars = 8};
	struct blix_format_identity identity = {.pid = (uint32_t)getpid()};
	struct blix_publish p;
	struct stat st;
	int err = blix_publish_create(scratch.path, &tiny, &p);

	if (err < 0) {
		count(&shared->failed);
		return;
	}
	for (size_t i = 0; i < sizeof(identity.incarnation); i++)
		identity.incarnation[i] = (uint8_t)rand_r(&random_state);
	if (fstat(p.fd, &st) < 0 || blix_format_fill(&p.view, &identity) < 0)
		abort();
	err = blix_publish_name(&p);
	if (err < 0) {
		count(err == -EBUSY ? &shared->refused : &shared->failed);
		if (err != -EBUSY)
			fprintf(stderr, "# %s: %s\n", strerror(-err), p.reason);
		blix_publish_abandon(&p);
		return;
	}
	count(&shared->lives);
	for (int look = 0; look < LOOKS; look++) {
		if (!name_leads_to(st.st_ino)) {
			count(&shared->displaced);
			break;
		}
		nap(60);
	}
	blix_publish_let_go(&p.view);
	munmap(p.view.base, p.view.size);
}

/* Take the lock of a file under its name, look again, and only then unlink it. */
static void clean(const char *path)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	struct stat by_fd;
	struct stat by_name;

	if (fd < 0)
		return;
	if (fcntl(fd, F_OFD_SETLK, &lock) == 0 && fstat(fd, &by_fd) == 0 &&
	    stat(path, &by_name) == 0 && by_fd.st_ino == by_name.st_ino) {
		nap(100); /* sit on it: starters have to wait for us */
		if (rand_r(&random_state) % 2 && unlink(path) == 0)
			count(&shared->unlinked);
	}
	close(fd);
}

static void clean_directory(void)
{
	DIR *dir = opendir(scratch.dir);
	const struct dirent *entry;
	char path[512];

	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "blix1", 5) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", scratch.dir, entry->d_name);
		clean(path);
	}
	if (dir)
		closedir(dir);
	nap(200);
}

static pid_t spawn(void (*body)(void), unsigned int seed)
{
	pid_t pid = fork();

	if (pid == 0) {
		random_state = seed;
		for (;;)
			body();
	}
	return pid;
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 5;
	pid_t pids[STARTERS + CLEANERS];
	time_t end = time(NULL) + seconds;
	bool ok;

	scratch = scratch_new(NULL);
	random_state = (unsigned int)time(NULL);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	for (unsigned int i = 0; i < STARTERS + CLEANERS; i++)
		pids[i] = spawn(i < STARTERS ? live_once : clean_directory, i * 77 + random_state);
	while (time(NULL) < end) {
		unsigned int victim = (unsigned int)rand_r(&random_state) % STARTERS;

		usleep(20000);
		kill(pids[victim], SIGKILL);
		waitpid(pids[victim], NULL, 0);
		shared->killed++;
		pids[victim] = spawn(live_once, victim + random_state);
	}
	for (int i = 0; i < STARTERS + CLEANERS; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	ok = shared->displaced == 0 && shared->failed == 0 && shared->lives >= LIVES_MIN &&
	     scratch_count(&scratch, "blix1.o.", NULL, 0) <= BLIX_PUBLISH_ORPHANS_KEPT + STARTERS;
	printf("%d starters, %d cleaners, %d s: %llu lives, %llu killed, %llu refused, %llu "
	       "unlinked, "
	       "%llu failed, %llu displaced: %s\n",
	       STARTERS, CLEANERS, seconds, (unsigned long long)shared->lives,
	       (unsigned long long)shared->killed, (unsigned long long)shared->refused,
	       (unsigned long long)shared->unlinked, (unsigned long long)shared->failed,
	       (unsigned long long)shared->displaced, ok ? "ok" : "FAILED");
	scratch_remove(&scratch);
	return !ok;
}
