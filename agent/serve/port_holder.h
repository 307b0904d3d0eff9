/* agent/serve/port_holder.h - which process has a port that we want?
 *
 * Reads all of /proc, so it belongs on the disk thread. Includes: libc only. */
#ifndef BLIX_AGENT_SERVE_PORT_HOLDER_H
#define BLIX_AGENT_SERVE_PORT_HOLDER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { PORT_HOLDER_NAME_MAX = 64 };

/* The process that listens on TCP `port`. 0; -ENOENT: nobody, or one we may not look into. */
int port_holder_find(uint16_t port, pid_t *ret_pid, char ret_name[PORT_HOLDER_NAME_MAX]);

/* Inode of the socket in one line of /proc/net/tcp or tcp6, if it listens on `port`; 0 if not. */
uint64_t port_holder_line(const char *line, uint16_t port);

#endif
