/* agent/input/proc_file.c - see proc_file.h. */
#include "agent/input/proc_file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static ssize_t read_from_start(int fd, char *buf, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = pread(fd, buf + len, size - len, (off_t)len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

ssize_t proc_file_read(struct proc_file *f, char *buf, size_t size)
{
	ssize_t n = -1;

	if (f->fd >= 0) {
		n = read_from_start(f->fd, buf, size);
		if (n > 0)
			return n;
		proc_file_close(f);
	}
	f->fd = openat(f->dir, f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (f->fd < 0)
		return -errno;
	n = read_from_start(f->fd, buf, size);
	if (n < 0)
		proc_file_close(f);
	return n;
}

void proc_file_close(struct proc_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}
