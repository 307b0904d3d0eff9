/* agent/input/node_wait.h - how long the threads of the node were ready to run and had no CPU.
 *
 * The scheduler keeps it by thread, so it is summed over the threads alive at each look; what a
 * thread waited after the last look of its life is missed. The process is held by its directory in
 * /proc, which never comes to mean another process.
 *
 * Thread rule: the loop thread. Includes libc only. */
#ifndef BLIX_AGENT_INPUT_NODE_WAIT_H
#define BLIX_AGENT_INPUT_NODE_WAIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { NODE_WAIT_THREADS_MAX = 256 }; /* of one process; further ones are left out */

struct node_wait;

/* `pid` in our own pid namespace, started at `start_ticks` (field 22 of its stat file).
 * 0; -ESRCH: no such process, or another one; -ENOMEM, -EACCES, ... as the system says. */
int node_wait_new(pid_t pid, uint64_t start_ticks, struct node_wait **ret_wait);
struct node_wait *node_wait_free(struct node_wait *w); /* accepts NULL, returns NULL */

/* Look again, if the last look is older than a second. True: *ret_ns is known and never falls. */
bool node_wait_read(struct node_wait *w, uint64_t now_ns, uint64_t *ret_ns);

#endif
