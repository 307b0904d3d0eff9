/* agent/serve/port_holder.c - see port_holder.h. */
#include "agent/serve/port_holder.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INODES_MAX = 16 };

/* The nth field of a line, from 0; its end if there are fewer. */
static const char *field(const char *line, uint32_t nth)
{
	line += strspn(line, " ");
	while (nth-- > 0) {
		line += strcspn(line, " ");
		line += strspn(line, " ");
	}
	return line;
}

uint64_t port_holder_line(const char *line, uint16_t port)
{
	/* proc(5): sl local_address rem_address st queues timer retransmits uid timeout inode */
	enum { LOCAL = 1, STATE = 3, INODE = 9, LISTENING = 0x0a };
	const char *local = field(line, LOCAL), *colon = strchr(local, ':');

	if (!colon || strtoul(colon + 1, NULL, 16) != port ||
	    strtoul(field(line, STATE), NULL, 16) != LISTENING)
		return 0;
	return strtoull(field(line, INODE), NULL, 10);
}

static uint32_t collect(const char *path, uint16_t port, uint64_t *inodes, uint32_t n)
{
	FILE *file = fopen(path, "re");
	char line[512];

	if (!file)
		return n;
	while (n < INODES_MAX && fgets(line, sizeof(line), file)) {
		uint64_t inode = port_holder_line(line, port);

		if (inode)
			inodes[n++] = inode;
	}
	fclose(file);
	return n;
}

/* Has the process one of these sockets open? */
static bool has_socket(const char *pid, const uint64_t *inodes, uint32_t n)
{
	static const char prefix[] = "socket:[";
	char path[64], target[64];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir))) {
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		uint64_t inode;

		if (len <= 0)
			continue;
		target[len] = '\0';
		if (strncmp(target, prefix, sizeof(prefix) - 1) != 0)
			continue;
		inode = strtoull(target + sizeof(prefix) - 1, NULL, 10);
		for (uint32_t i = 0; i < n; i++)
			found = found || inodes[i] == inode;
	}
	closedir(dir);
	return found;
}

static void process_name(const char *pid, char name[PORT_HOLDER_NAME_MAX])
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	file = fopen(path, "re");
	if (!file || !fgets(name, PORT_HOLDER_NAME_MAX, file))
		snprintf(name, PORT_HOLDER_NAME_MAX, "?");
	name[strcspn(name, "\n")] = '\0';
	if (file)
		fclose(file);
}

int port_holder_find(uint16_t port, pid_t *ret_pid, char ret_name[PORT_HOLDER_NAME_MAX])
{
	uint64_t inodes[INODES_MAX];
	struct dirent *entry;
	int err = -ENOENT;
	uint32_t n;
	DIR *dir;

	n = collect("/proc/net/tcp", port, inodes, 0);
	n = collect("/proc/net/tcp6", port, inodes, n);
	if (n == 0)
		return -ENOENT;
	dir = opendir("/proc");
	if (!dir)
		return -ENOENT;
	while (err && (entry = readdir(dir))) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9' ||
		    !has_socket(entry->d_name, inodes, n))
			continue;
		process_name(entry->d_name, ret_name);
		*ret_pid = (pid_t)strtol(entry->d_name, NULL, 10);
		err = 0;
	}
	closedir(dir);
	return err;
}
