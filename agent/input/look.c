/* agent/input/look.c - see look.h. */
#include "agent/input/look.h"

#include "agent/input/host_parse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum { MOUNTINFO_BYTES_MAX = 1 << 20, ORPHAN_HEX = 32 };

struct job {
	struct look *owner; /* loop thread only; NULL: nobody wants the answer any more */
	char shm_path[LOOK_PATH_BYTES];
	char data_dir[LOOK_PATH_BYTES];
	struct look_result result;
	bool ran;
};

struct look {
	struct disk *disk;
	struct job *under_way;
	bool again; /* asked while a question was under way */
	struct look_result last;
	char shm_path[LOOK_PATH_BYTES];
	char data_dir[LOOK_PATH_BYTES];
};

static uint64_t mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- on the disk thread ---------------------------------------------------------------------- */

/* All of a file up to `max` bytes; a longer one is cut. NULL: cannot be read. */
static char *read_file(const char *path, size_t max, size_t *ret_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char *bytes = fd >= 0 ? malloc(max) : NULL;
	size_t len = 0;
	ssize_t n = 1;

	while (bytes && len < max && n > 0) {
		n = read(fd, bytes + len, max - len);
		if (n > 0)
			len += (size_t)n;
	}
	if (fd >= 0)
		close(fd);
	if (bytes && n < 0) {
		free(bytes);
		return NULL;
	}
	*ret_len = len;
	return bytes;
}

/* The label is the mount point and not the directory: two nodes on one file system agree. */
static int mount_point_of(const char *dir, char *ret_name, size_t size)
{
	char *resolved = realpath(dir, NULL);
	size_t len = 0;
	char *mounts =
		resolved ? read_file("/proc/self/mountinfo", MOUNTINFO_BYTES_MAX, &len) : NULL;
	int r = mounts ? host_parse_mount_point(mounts, len, resolved, ret_name, size) : -ENOENT;

	free(mounts);
	free(resolved);
	return r;
}

void look_at_fs(const char *data_dir, struct look_result *ret_result)
{
	struct statvfs fs;

	ret_result->fs_known = false;
	if (data_dir[0] != '/' || statvfs(data_dir, &fs) < 0)
		return;
	if (mount_point_of(data_dir, ret_result->mount_point, sizeof(ret_result->mount_point)) < 0)
		return;
	if (__builtin_mul_overflow((uint64_t)fs.f_bavail, (uint64_t)fs.f_frsize,
				   &ret_result->avail_bytes) ||
	    __builtin_mul_overflow((uint64_t)fs.f_blocks, (uint64_t)fs.f_frsize,
				   &ret_result->size_bytes))
		return;
	ret_result->fs_known = true;
}

/* The whole disk of a file system on a partition is the directory above it in sysfs. */
void look_at_disk(const char *data_dir, struct look_result *ret_result)
{
	char path[128], *real;
	unsigned int major, minor;
	struct stat st;
	size_t len;
	char *text, *slash;

	ret_result->disk_dev = 0;
	if (data_dir[0] != '/' || stat(data_dir, &st) < 0)
		return;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
	real = realpath(path, NULL);
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/partition", major(st.st_dev),
		 minor(st.st_dev));
	if (real && access(path, F_OK) == 0 && (slash = strrchr(real, '/')))
		*slash = '\0';
	slash = real ? strrchr(real, '/') : NULL;
	if (slash && strlen(slash + 1) < sizeof(ret_result->disk_name)) {
		strcpy(ret_result->disk_name, slash + 1);
		snprintf(path, sizeof(path), "/sys/block/%s/dev", ret_result->disk_name);
		text = read_file(path, 64, &len);
		if (text && len < 64) {
			text[len] = '\0';
			if (sscanf(text, "%u:%u", &major, &minor) == 2)
				ret_result->disk_dev = major << 20 | minor;
		}
		free(text);
	}
	free(real);
}

/* NAME.o.<32 hex digits> */
static bool is_orphan(const char *entry, const char *name)
{
	size_t len = strlen(name);

	if (strncmp(entry, name, len) != 0 || strncmp(entry + len, ".o.", 3) != 0)
		return false;
	entry += len + 3;
	return strlen(entry) == ORPHAN_HEX && strspn(entry, "0123456789abcdef") == ORPHAN_HEX;
}

void look_at_orphans(const char *shm_path, struct look_result *ret_result)
{
	char dir_path[LOOK_PATH_BYTES];
	const char *slash = strrchr(shm_path, '/'), *name = slash ? slash + 1 : shm_path;
	size_t dir_len = slash ? (size_t)(slash - shm_path) : 0;
	const struct dirent *entry;
	uint32_t seen = 0;
	DIR *dir;

	ret_result->orphans = ret_result->n_names = 0;
	if (dir_len + 2 > sizeof(dir_path))
		return;
	memcpy(dir_path, shm_path, dir_len);
	strcpy(dir_path + dir_len, slash ? "/" : ".");
	dir = opendir(dir_path);
	if (!dir)
		return;
	while (seen++ < LOOK_ENTRIES_MAX && (entry = readdir(dir))) {
		if (!is_orphan(entry->d_name, name))
			continue;
		ret_result->orphans++;
		if (ret_result->n_names < LOOK_ORPHANS_MAX)
			strcpy(ret_result->names[ret_result->n_names++],
			       entry->d_name + strlen(name) + 3);
	}
	closedir(dir);
}

uint32_t look_count_orphans(const char *shm_path)
{
	struct look_result result = {0};

	look_at_orphans(shm_path, &result);
	return result.orphans;
}

static void work(void *arg)
{
	struct job *job = arg;

	look_at_fs(job->data_dir, &job->result);
	look_at_disk(job->data_dir, &job->result);
	look_at_orphans(job->shm_path, &job->result);
	job->result.at_ns = mono_ns();
	job->ran = true;
}

/* ---- on the loop thread ---------------------------------------------------------------------- */

static void submit(struct look *l);

static void done(void *arg)
{
	struct job *job = arg;
	struct look *owner = job->owner;

	if (owner) {
		owner->under_way = NULL;
		if (job->ran)
			owner->last = job->result;
		if (owner->again)
			submit(owner);
	}
	free(job);
}

static void submit(struct look *l)
{
	struct job *job = calloc(1, sizeof(*job));

	l->again = false;
	if (!job)
		return;
	job->owner = l;
	strcpy(job->shm_path, l->shm_path);
	strcpy(job->data_dir, l->data_dir);
	l->under_way = job;
	if (disk_submit(l->disk, work, done, job) < 0) {
		l->under_way = NULL; /* refused and counted by the disk: ask again next time */
		free(job);
	}
}

struct look *look_new(struct disk *disk, const char *shm_path)
{
	struct look *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->disk = disk;
	strncpy(l->shm_path, shm_path, sizeof(l->shm_path) - 1);
	return l;
}

struct look *look_free(struct look *l)
{
	if (!l)
		return NULL;
	if (l->under_way)
		l->under_way->owner = NULL; /* done() frees it */
	free(l);
	return NULL;
}

void look_ask(struct look *l, const char *data_dir)
{
	if (!l->disk)
		return;
	memset(l->data_dir, 0, sizeof(l->data_dir));
	strncpy(l->data_dir, data_dir, sizeof(l->data_dir) - 1);
	if (l->under_way)
		l->again = true; /* what is under way may be about another directory */
	else
		submit(l);
}

const struct look_result *look_result(const struct look *l)
{
	return &l->last;
}
