/* agent/disk.h - the one thread that may wait for a disk.
 *
 * The loop thread hands it jobs; it runs them one after the other and hands them back. Whatever
 * can sleep in a file system (fsync, statvfs, opening regular files, SQLite) runs here, so a slow
 * disk delays other disk work and nothing else.
 *
 * Bounded: at most `max_jobs` between submission and the return of their done(), so neither queue
 * can overflow; what does not fit is refused and counted. Includes: libc; the implementation also
 * libevent and pthread. */
#ifndef BLIX_AGENT_DISK_H
#define BLIX_AGENT_DISK_H

#include <stdint.h>

struct event_base;
struct disk;

enum { DISK_JOBS_MAX = 1024 };

/* 0; -EINVAL max_jobs is 0 or above DISK_JOBS_MAX; -ENOMEM, -EMFILE, -EAGAIN as the system says. */
int disk_new(struct event_base *base, uint32_t max_jobs, struct disk **ret_disk);

/* Stop. A running job gets `wait_ms` to finish; one that is stuck in the kernel is left behind with
 * its thread, and its done() never comes. done() of every other job is called from here; jobs not
 * yet started return without having run. Accepts NULL; returns NULL. Loop thread. */
struct disk *disk_free(struct disk *d, uint32_t wait_ms);

/* Run work(job) on the disk thread, then done(job) on the loop thread; done is called exactly once
 * (but see disk_free), also where work never ran, so let the job say whether it did. `job` belongs
 * to the disk until then. Loop thread.
 * 0; -ENOBUFS too many jobs: refused and counted, neither function is called. */
int disk_submit(struct disk *d, void (*work)(void *job), void (*done)(void *job), void *job);

struct disk_status {
	uint32_t jobs;	     /* submitted and not yet done */
	uint64_t refused;    /* since the start */
	uint64_t finished;   /* jobs run since the start */
	uint64_t running_ns; /* age of the job that runs now; 0 if none */
};
void disk_status(struct disk *d, struct disk_status *ret_status);

#endif
