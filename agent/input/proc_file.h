/* agent/input/proc_file.h - a file of /proc that is read again and again.
 *
 * Kept open and read from its start; opened again where the kernel does not allow that, or after
 * an error. /proc is memory of the kernel: reading it waits for no disk, so the loop may.
 * Thread rule: one thread at a time a file. Includes libc only. */
#ifndef BLIX_AGENT_INPUT_PROC_FILE_H
#define BLIX_AGENT_INPUT_PROC_FILE_H

#include <stddef.h>
#include <sys/types.h>

struct proc_file {
	int dir;	  /* directory that `path` is relative to; AT_FDCWD if absolute */
	const char *path; /* borrowed */
	int fd;		  /* -1: not open now */
};

#define PROC_FILE(path_)                                                                           \
	{                                                                                          \
		.dir = AT_FDCWD, .path = (path_), .fd = -1                                         \
	}

/* Read at most `size` bytes. The length, cut where the file is longer; or a negative errno. */
ssize_t proc_file_read(struct proc_file *f, char *buf, size_t size);
void proc_file_close(struct proc_file *f);

#endif
