/* shm/publish.h - how a telemetry file comes to its name, and how it leaves the process.
 *
 * The life of a file, writer side:
 *
 *   create   a nameless file, whole size allocated, mapped, exclusive OFD lock on byte 0
 *   (fill)   the caller lays it out and sets state LIVE
 *   name     linkat onto the path; a dead predecessor is renamed aside first; the fd is closed,
 *            the lock lives on with the mapping
 *   let go   anonymous memory is laid over the mapping: the lock falls, late stores go nowhere
 *
 * The one rule that keeps racing starters and cleaners from displacing a live file: only the
 * holder of an inode's byte-0 lock may rename or unlink its name, and only after checking that
 * the name still leads to that inode.
 *
 * Includes: shm/ only. Thread rule: one thread at a time a struct; cold, may sleep up to
 * BLIX_PUBLISH_WAIT_MS. */
#ifndef BLIX_SHM_PUBLISH_H
#define BLIX_SHM_PUBLISH_H

#include "format.h"

enum {
	BLIX_PUBLISH_WAIT_MS = 1000,	    /* how long a held lock is waited for */
	BLIX_PUBLISH_ORPHANS_KEPT = 2,	    /* files of dead predecessors kept beside the path */
	BLIX_PUBLISH_RING_FLOOR = 64 << 10, /* a full file system halves the rings down to this */
	BLIX_PUBLISH_NAME_MAX = 220, /* last component of the path; ".o." and 32 digits follow it */
	BLIX_PUBLISH_TEXT = 192,
};

struct blix_publish {
	int fd;
	int dir_fd;
	struct blix_view view; /* mapped; zeroed until the caller fills it */
	char path[512];
	char name[BLIX_PUBLISH_NAME_MAX + 1];
	uint32_t orphans_discarded;
	char reason[BLIX_PUBLISH_TEXT];	 /* after a failure: what is wrong and what to do */
	char warning[BLIX_PUBLISH_TEXT]; /* after success: what should be better; "" if nothing */
};

/* Create the nameless file beside `path`, with rings halved as far as the space demands.
 *
 * 0; the caller ends with blix_publish_name() or blix_publish_abandon(). Otherwise a negative
 * errno with ret_publish->reason set and nothing to undo:
 *   -EINVAL      path or options are out of range
 *   -ENOSPC      full, even with the smallest rings and without orphans; also the process's
 *                file size limit
 *   -ENOMEM      no address space
 *   -ENOENT, -ENOTDIR, -EACCES, -EROFS, -EOPNOTSUPP, ...  what the directory answered */
int blix_publish_create(const char *path, const struct blix_format_options *options,
			struct blix_publish *ret_publish);

/* Give the filled file its name, then let the orphans beside it be at most two.
 *
 * 0: both fds are closed and the view stays mapped. Otherwise a negative errno, publish->reason
 * is set, and the file still has to be abandoned:
 *   -EBUSY   another live process holds the file of this name
 *   -EEXIST  the name is taken by a stranger's file, a directory, a link, or no telemetry file
 *   others   what the directory answered */
int blix_publish_name(struct blix_publish *publish);

/* Drop a file that was not named: unmaps it and closes the fds. Keeps reason. */
void blix_publish_abandon(struct blix_publish *publish);

/* Lay anonymous memory over the whole mapping. Stores through old pointers stay harmless; the lock
 * falls unless a forked child still maps the file. 0, or -ENOMEM with the file still mapped. */
int blix_publish_let_go(const struct blix_view *view);

#endif
