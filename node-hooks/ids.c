/* node-hooks/ids.c - trace and span ids.
 *
 * Each thread has a generator of its own (xoshiro256++, by Blackman and Vigna, public domain),
 * seeded by the kernel at first use. A trace id begins with the seconds of its time, as some
 * destinations want it; its low 56 bits are random, as W3C's random flag promises.
 *
 * Thread rule: each thread for itself. A forked child seeds anew (blix_thread_in_child). */
#include "trace.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

uint32_t blix_epoch_seconds_;

void blix_ids_refresh(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	blix_store_relaxed(&blix_epoch_seconds_, (uint32_t)ts.tv_sec);
}

/* Without entropy in the kernel (a boot too early, seccomp) time and address still differ between
 * threads and processes. */
void blix_ids_seed(struct blix_thread *thread)
{
	int saved_errno = errno;

	if (getrandom(thread->random, sizeof(thread->random), GRND_NONBLOCK) !=
	    sizeof(thread->random)) {
		struct timespec ts;

		clock_gettime(CLOCK_MONOTONIC, &ts);
		thread->random[0] ^= (uint64_t)ts.tv_nsec << 32 ^ (uint64_t)ts.tv_sec;
		thread->random[1] ^= (uint64_t)(uintptr_t)thread;
		thread->random[2] ^= blix_thread_tid(thread);
		clock_gettime(CLOCK_REALTIME, &ts);
		thread->random[3] ^= ((uint64_t)ts.tv_nsec << 32 ^ (uint64_t)ts.tv_sec) | 1;
	}
	if (blix_load_relaxed(&blix_epoch_seconds_) == 0)
		blix_ids_refresh();
	thread->seeded = true;
	errno = saved_errno;
}
