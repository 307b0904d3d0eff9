/* test/support/scratch.c - see scratch.h. */
#include "test/support/scratch.h"

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct scratch scratch_new(const char *parent)
{
	struct scratch s;

	snprintf(s.dir, sizeof(s.dir), "%.40s/blix-test-XXXXXX", parent ? parent : "/dev/shm");
	if (!mkdtemp(s.dir))
		err(1, "mkdtemp %s", s.dir);
	snprintf(s.path, sizeof(s.path), "%s/blix1", s.dir);
	return s;
}

void scratch_remove(const struct scratch *s)
{
	DIR *dir = opendir(s->dir);
	const struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (unlinkat(dirfd(dir), entry->d_name, 0) < 0)
			(void)unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
	closedir(dir);
	rmdir(s->dir);
}

int scratch_count(const struct scratch *s, const char *prefix, char *ret_path, size_t size)
{
	DIR *dir = opendir(s->dir);
	const struct dirent *entry;
	int n = 0;

	if (!dir)
		err(1, "opendir %s", s->dir);
	while ((entry = readdir(dir))) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
			continue;
		n++;
		if (ret_path)
			snprintf(ret_path, size, "%s/%s", s->dir, entry->d_name);
	}
	closedir(dir);
	return n;
}

bool scratch_wait(bool (*condition)(void *arg), void *arg, int timeout_ms)
{
	for (int waited_ms = 0; waited_ms < timeout_ms; waited_ms += 2) {
		if (condition(arg))
			return true;
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
	return condition(arg);
}
