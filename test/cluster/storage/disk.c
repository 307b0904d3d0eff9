/* disk.c - small file operations. Errors are counted here, where they happen. Any thread. */
#include "disk.h"

#include "test/cluster/record/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int disk_write(int fd, const void *data, size_t len, uint64_t offset)
{
	const uint8_t *at = data;

	while (len) {
		ssize_t n = pwrite(fd, at, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int err = n < 0 ? -errno : -EIO;
			record_storage_error(STORAGE_WRITE);
			return err;
		}
		at += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int disk_read(int fd, void *data, size_t len, uint64_t offset)
{
	uint8_t *at = data;

	while (len) {
		ssize_t n = pread(fd, at, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int err = -errno;
			record_storage_error(STORAGE_READ);
			return err;
		}
		if (!n)
			return -ENODATA;
		at += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int disk_read_file(int dir, const char *name, size_t max, uint8_t **ret_data, size_t *ret_len)
{
	struct stat status;
	uint8_t *data = NULL;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	int err = fstat(fd, &status) ? -errno : 0;
	if (!err && (!S_ISREG(status.st_mode) || (uint64_t)status.st_size > max))
		err = -EFBIG;
	if (!err) {
		data = malloc(status.st_size ? (size_t)status.st_size : 1);
		err = data ? disk_read(fd, data, (size_t)status.st_size, 0) : -ENOMEM;
	}
	close(fd);
	if (err) {
		free(data);
		return err;
	}
	*ret_data = data;
	*ret_len = (size_t)status.st_size;
	return 0;
}

int disk_sync(int fd)
{
	int err;

	do {
		err = fdatasync(fd) ? -errno : 0;
	} while (err == -EINTR);
	if (err)
		record_storage_error(STORAGE_SYNC);
	return err;
}

int disk_sync_dir(int dir)
{
	if (!fsync(dir))
		return 0;
	int err = -errno;
	record_storage_error(STORAGE_SYNC);
	return err;
}

int disk_open_dir(const char *path, int *ret_dir)
{
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	if (flock(dir, LOCK_EX | LOCK_NB)) {
		int err = errno == EWOULDBLOCK ? -EBUSY : -errno;
		close(dir);
		return err;
	}
	*ret_dir = dir;
	return 0;
}
