/* agent/state.h - the state directory: whose it is, and the addresses kept in it.
 *
 * Its file `listen` has one line a target, "ADDR:PORT PATH", so that an agent whose node has not
 * started since a reboot listens where it always did. `redaction.key` is a secret.
 *
 * Thread rule: the loop thread; state_open, state_redaction_key and state_listen_read run before the
 * loop and may wait for a disk, writing later goes to the disk thread. Includes: libc, disk.h,
 * options.h, log.h. */
#ifndef BLIX_AGENT_STATE_H
#define BLIX_AGENT_STATE_H

#include "agent/disk.h"
#include "agent/options.h"

enum { STATE_PROBLEM_MAX = OPTIONS_PATH_MAX + 256 };

struct state {
	char path[OPTIONS_PATH_MAX];
	char problem[STATE_PROBLEM_MAX]; /* why nothing is kept; "" = it is */
	int dir;			 /* -1 = none */
	int lock;			 /* -1 = another agent's, or none */
};

/* Make the directory, open and lock it. Never fails the agent: see `problem`. */
void state_open(struct state *state, const struct options *o);
/* Open it for reading if it is there; makes and locks nothing. */
void state_look(struct state *state, const struct options *o);
void state_close(struct state *state);

/* The key with which redaction hashes (process/redact.h): kept, so that equal values stay equal over
 * restarts, in the file `redaction.key`, which only this user may read. Made if it is not there.
 * 0; -EBADF: nothing is kept; -EPERM: others may read it, or it is no such file: remove it;
 * -EAGAIN: no random numbers yet; errno of the file system. */
enum { STATE_KEY_BYTES = 32 };
int state_redaction_key(const struct state *state, uint8_t ret_key[STATE_KEY_BYTES]);

/* Where batches wait on disk: --spool, else the state directory. NULL: none, because the state
 * directory cannot be used or is another agent's (`problem` says why). Borrowed from the two. */
const char *state_spool(const struct state *state, const struct options *o);

/* The address kept for a target. 0; -ENOENT. */
int state_listen_read(const struct state *state, const char *shm, struct address *ret_address);

/* Keep these addresses (of targets whose `listens` is set; `shm` and `listen` are looked at).
 * 0; -EBADF nothing is kept; -ENOBUFS, -ENOMEM try again. */
int state_listen_write(const struct state *state, struct disk *disk,
		       const struct options_target *targets, uint32_t n);

/* One line of the file. True if it is well-formed and of this target. */
bool state_listen_line(const char *line, const char *shm, struct address *ret_address);

#endif
