/* disk.h - small file operations that the log, the hard state and snapshots share.
 *
 * Each returns 0 or -errno, is restarted after a signal, and opens with O_CLOEXEC. Any thread. */
#ifndef CLUSTER_DISK_H
#define CLUSTER_DISK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Write all of it at `offset`. */
int disk_write(int fd, const void *data, size_t len, uint64_t offset);

/* Read exactly `len` bytes at `offset`; -ENODATA when the file is shorter. */
int disk_read(int fd, void *data, size_t len, uint64_t offset);

/* The whole file, from malloc(); -EFBIG beyond `max`. */
int disk_read_file(int dir, const char *name, size_t max, uint8_t **ret_data, size_t *ret_len);

/* fdatasync(), counted when it fails. A failed sync is final: the kernel may have dropped the
 * pages, so trying again would prove nothing. */
int disk_sync(int fd);

/* Make created, renamed and deleted names durable. */
int disk_sync_dir(int dir);

/* Make the directory if it is missing, open it, and lock it against a second node.
 * -EBUSY: another process has it. *ret_dir and the lock live until exit. */
int disk_open_dir(const char *path, int *ret_dir);

#endif
