/* agent/input/look.h - what only a disk can answer, asked on the disk thread.
 *
 * The room on the file system of the node's data directory, and how many files of dead
 * predecessors lie beside its telemetry file. A directory listing or statvfs may sleep, so the
 * loop never does them; the answer is kept, with its age, until the next one.
 *
 * Thread rule: the loop thread (the work itself runs in disk.c's). Includes: agent/disk.h, libc. */
#ifndef BLIX_AGENT_INPUT_LOOK_H
#define BLIX_AGENT_INPUT_LOOK_H

#include "agent/disk.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	LOOK_PATH_BYTES = 4096,
	LOOK_LABEL_BYTES = 512,
	LOOK_ORPHANS_MAX = 8,	 /* names told */
	LOOK_ORPHAN_BYTES = 33,	 /* hex of an incarnation, terminated */
	LOOK_ENTRIES_MAX = 4096, /* of a directory; more are not looked at */
};

struct look_result {
	bool fs_known;
	char mount_point[LOOK_LABEL_BYTES];
	uint64_t avail_bytes; /* to a process without privileges */
	uint64_t size_bytes;
	uint32_t
		disk_dev; /* of the disk below the data directory, as the kernel numbers it; 0 = ? */
	char disk_name[32];
	uint32_t orphans;
	uint32_t n_names;
	char names[LOOK_ORPHANS_MAX][LOOK_ORPHAN_BYTES]; /* incarnations of the first of them */
	uint64_t at_ns; /* CLOCK_MONOTONIC of the answer; 0 = none yet */
};

struct look;

/* shm_path is copied. `disk` is borrowed; NULL: nothing is ever known. NULL: no memory. */
struct look *look_new(struct disk *disk, const char *shm_path);
struct look *
look_free(struct look *l); /* accepts NULL, returns NULL; an answer under way is lost */

/* Ask; behind a question that is under way, at most once. data_dir: absolute, or "" for none;
 * copied. */
void look_ask(struct look *l, const char *data_dir);

/* The last answer. Borrowed until the next turn of the loop. */
const struct look_result *look_result(const struct look *l);

/* The work itself; for the disk thread, and for tests. */
void look_at_fs(const char *data_dir, struct look_result *ret_result);
void look_at_disk(const char *data_dir, struct look_result *ret_result);
uint32_t look_count_orphans(const char *shm_path);
void look_at_orphans(const char *shm_path, struct look_result *ret_result);

#endif
