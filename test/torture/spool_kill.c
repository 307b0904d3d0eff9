/* Goal: kill -9 at any moment loses no request whose put was answered, and stores none twice.
 * Method: spool_writer prints what was confirmed; it is killed after a random time, started again
 * from a little before where it was, as an agent that reads a ring again, and so on; in the end the
 * rows are listed by another process and compared with what was printed. */
#include "test/support/spool_fixture.h"

#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NUMBERS_MAX = 1 << 20, AGAIN = 40, SECONDS = 8 };

static char writer[4096], dir[256];
static uint8_t confirmed[NUMBERS_MAX], stored[NUMBERS_MAX];

static pid_t start(const char *arg, FILE **ret_lines)
{
	int fds[2];
	pid_t child;

	if (pipe(fds) < 0)
		abort();
	child = fork();
	if (child == 0) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		execl(writer, writer, dir, arg, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	*ret_lines = fdopen(fds[0], "r");
	return child;
}

static int fail(const char *what, uint64_t number)
{
	printf("not ok 1 - %s: %" PRIu64 "\n1..1\n", what, number);
	return 1;
}

/* The highest number that was confirmed. Ends by a kill: 0; the writer ended by itself: -1. */
static int one_life(uint64_t first, uint64_t *highest)
{
	const struct timespec until = {.tv_nsec = 1000000 * (10 + random() % 250)};
	char arg[32];
	unsigned long n;
	FILE *lines;
	pid_t child;
	int status;

	(void)snprintf(arg, sizeof(arg), "%" PRIu64, first);
	child = start(arg, &lines);
	nanosleep(&until, NULL); /* the moment of the kill is the test's random input */
	kill(child, SIGKILL);
	while (fscanf(lines, "%lu\n", &n) == 1) {
		if (n >= NUMBERS_MAX)
			break;
		confirmed[n] = 1;
		if (n > *highest)
			*highest = n;
	}
	(void)fclose(lines);
	waitpid(child, &status, 0);
	return WIFSIGNALED(status) ? 0 : -1;
}

static int compare(uint64_t highest, uint32_t lives)
{
	uint64_t n_confirmed = 0, n_stored = 0;
	unsigned long n;
	FILE *lines;
	pid_t child = start("--list", &lines);
	int status;

	while (fscanf(lines, "%lu\n", &n) == 1) {
		if (n >= NUMBERS_MAX || stored[n]++)
			return fail("stored twice", n);
		n_stored++;
	}
	(void)fclose(lines);
	waitpid(child, &status, 0);
	if (status != 0)
		return fail("the list ended with a fault, status", (uint64_t)status);
	for (uint64_t i = 0; i <= highest; i++) {
		n_confirmed += confirmed[i];
		if (confirmed[i] && !stored[i])
			return fail("confirmed and gone", i);
	}
	if (n_confirmed == 0)
		return fail("nothing was ever confirmed, lives", lives);
	printf("# %u kills, %" PRIu64 " confirmed, %" PRIu64 " stored\n", lives, n_confirmed,
	       n_stored);
	printf("ok 1 - every confirmed row is there, once\n1..1\n");
	return 0;
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : SECONDS);
	uint64_t highest = 0;
	uint32_t lives = 0;
	char self[2048];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int r = 0;

	if (len < 0)
		return 1;
	self[len] = '\0';
	*strrchr(self, '/') = '\0';
	(void)snprintf(writer, sizeof(writer), "%s/../support/bin/spool_writer", self);
	spool_dir_make(dir, sizeof(dir));
	srandom((unsigned)end);
	while (time(NULL) < end && highest < NUMBERS_MAX / 2 && r == 0) {
		r = one_life(highest > AGAIN ? highest - AGAIN : 0, &highest);
		lives++;
	}
	r = r < 0 ? fail("the writer ended by itself in life", lives) : compare(highest, lives);
	spool_dir_remove(dir);
	return r;
}
