/* chunk_worker.h - a thread for what images cost: files and digests. Raft's storage has its own.
 *
 * A job is done on the thread, one after the other, and handed back to the loop. Jobs are embedded
 * in what they are about, so that running one allocates nothing. Loop thread, but for work(). */
#ifndef CLUSTER_CHUNK_WORKER_H
#define CLUSTER_CHUNK_WORKER_H

#include "test/cluster/record/trace.h"

#include <event2/event.h>
#include <stdbool.h>

struct chunk_worker;

struct chunk_job {
	struct chunk_job *next; /* the worker's */
	bool cancelled;		/* the worker stopped before it */
	blix_span caller;	/* current where it was run from, and again in work() and done() */
	void (*work)(struct chunk_job *job);
	void (*done)(struct chunk_job *job); /* may free it, or run it again */
};

/* 0; -ENOMEM, -EMFILE, -EAGAIN. */
int chunk_worker_start(struct event_base *base, struct chunk_worker **ret_worker);

/* 0: done() will be called, once. -EBUSY: too many wait already, or the worker stops. */
int chunk_worker_run(struct chunk_worker *worker, struct chunk_job *job);

/* Waits for the job at work; the others end as cancelled. Accepts NULL; returns NULL. */
struct chunk_worker *chunk_worker_stop(struct chunk_worker *worker);

#endif
