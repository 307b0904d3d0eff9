/* Goal: the disk thread and the loop share nothing but what their mutex guards.
 * Method: many small jobs, each touched by both threads in turn, while the queues run full and the
 * disk is stopped again and again; ThreadSanitizer judges. A plain main: Criterion does not start
 * under it. */
#include "agent/disk.h"

#include <errno.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 20, JOBS = 500, QUEUE = 8 };

struct job {
	int steps; /* plain on purpose: handed from thread to thread, never shared */
};

static int n_done, n_ran;

static void work(void *arg)
{
	struct job *job = arg;

	job->steps++;
}

static void done(void *arg)
{
	struct job *job = arg;

	n_ran += job->steps == 2;
	n_done++;
	free(job);
}

/* Submit until all were taken; the loop turns when the queue is full. */
static int submit_all(struct event_base *base, struct disk *disk)
{
	int refused = 0;

	for (int i = 0; i < JOBS; i++) {
		struct job *job = calloc(1, sizeof(*job));

		if (!job)
			return -1;
		job->steps++;
		while (disk_submit(disk, work, done, job) == -ENOBUFS) {
			refused++;
			event_base_loop(base, EVLOOP_ONCE);
		}
	}
	return refused;
}

int main(void)
{
	struct event_base *base = event_base_new();
	int refused = 0;

	for (int round = 0; round < ROUNDS; round++) {
		struct disk_status status;
		struct disk *disk;

		if (disk_new(base, QUEUE, &disk) < 0)
			return 1;
		refused += submit_all(base, disk);
		disk_status(disk, &status);
		disk_free(disk, 5000);
	}
	event_base_free(base);
	printf("%d jobs handed back, %d of them had run, %d refusals\n", n_done, n_ran, refused);
	/* Stopping may hand back what waits in the queue without having run it. */
	return n_done == ROUNDS * JOBS && n_ran >= ROUNDS * (JOBS - QUEUE) && refused > 0 ? 0 : 1;
}
