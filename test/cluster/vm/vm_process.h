/* vm_process.h - starts the child process that is a "VM", and talks to it.
 *
 * The child is in a session of its own, has limits, and ends with the thread that has started it,
 * which is the loop's. Loop thread only. */
#ifndef CLUSTER_VM_PROCESS_H
#define CLUSTER_VM_PROCESS_H

#include "vm.h"

#include <sys/types.h>

struct vm_process {
	pid_t pid; /* 0: there is none */
	int channel;
};

struct vm_spec {
	const char *name;
	const char *disk; /* path of its file */
	struct vm_resources needs;
};

/* `verb` is one of vm_child.h. 0 or -errno. Whoever calls waits for the pid when SIGCHLD comes. */
int vm_process_start(const struct vm_spec *spec, const char *verb, struct vm_process *ret_process);

/* While it has not been waited for. */
void vm_process_signal(const struct vm_process *process, int signal);

/* 0; -EAGAIN: the channel is full; -EPIPE: the child has hung up. */
int vm_process_ping(const struct vm_process *process, uint64_t sequence);

/* The next packet. 0; -EAGAIN: none; -EPIPE: hung up, or nonsense. */
int vm_process_receive(const struct vm_process *process, uint64_t *ret_sequence);

/* Has it ended? *ret_status as of waitpid(2). */
bool vm_process_has_ended(const struct vm_process *process, int *ret_status);

/* Kill it, if there is one, and wait for its end. */
void vm_process_end(struct vm_process *process);

/* After it has ended. */
void vm_process_close(struct vm_process *process);

#endif
