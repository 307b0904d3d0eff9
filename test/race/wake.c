/* Goal: each time a writer clears an armed word and wakes it, the loop is told once, whatever the loop
 * adds, arms and removes meanwhile; and a word that was removed is not touched any more.
 * Method: three threads play writers, each on its own word. The loop arms a word again each time it
 * is told, and between two turns adds a fourth word in memory that it unmaps as soon as it has
 * removed it. Both sides count. ThreadSanitizer judges the rest. A plain main: Criterion does not
 * start under it. */
#include "agent/input/wake.h"
#include "shm/atomic.h"

#include <event2/event.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WRITERS = 3, WAKES = 2000, PATIENCE_S = 120 };

struct writer {
	pthread_t thread;
	uint32_t *word;
	struct wake_file *file;
	int told; /* by the loop */
};

static struct event_base *base;
static bool give_up;

/* As shm/ring.c does it: clear what is armed, then wake. */
static void *write_on(void *arg)
{
	struct writer *w = arg;

	for (int n = 0; n < WAKES && !__atomic_load_n(&give_up, __ATOMIC_RELAXED);) {
		if (!blix_load_relaxed(w->word) || !blix_exchange_acq_rel(w->word, 0)) {
			sched_yield();
			continue;
		}
		(void)syscall(SYS_futex, w->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
		n++;
	}
	return NULL;
}

static void told(void *arg)
{
	struct writer *w = arg;

	w->told++;
	wake_arm(w->file);
}

static void told_of_churn(void *arg)
{
	++*(int *)arg;
}

static uint32_t *new_word(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		abort();
	return page;
}

/* A file that comes and goes: armed, perhaps waited for, removed, unmapped. */
static bool churn(struct wake *wake)
{
	struct wake_file *file;
	uint32_t *word = new_word();
	int woken = 0;

	if (wake_add(wake, word, told_of_churn, &woken, &file) < 0)
		return false;
	wake_arm(file);
	event_base_loop(base, EVLOOP_NONBLOCK);
	wake_remove(file);
	munmap(word, 4096);
	return woken == 0;
}

static bool all_told(const struct writer *writers)
{
	for (int i = 0; i < WRITERS; i++)
		if (writers[i].told < WAKES)
			return false;
	return true;
}

int main(void)
{
	struct writer writers[WRITERS] = {0};
	time_t end = time(NULL) + PATIENCE_S;
	struct wake *wake;
	int churned = 0, wrong = 0;

	base = event_base_new();
	if (wake_new(base, &wake) < 0) {
		printf("skipped: this kernel has no futex_waitv\n");
		return 77;
	}
	for (int i = 0; i < WRITERS; i++) {
		writers[i].word = new_word();
		if (wake_add(wake, writers[i].word, told, &writers[i], &writers[i].file) < 0 ||
		    pthread_create(&writers[i].thread, NULL, write_on, &writers[i]))
			return 1;
		wake_arm(writers[i].file);
	}
	for (; !all_told(writers) && time(NULL) < end; churned++)
		wrong += !churn(wake);
	__atomic_store_n(&give_up, true, __ATOMIC_RELAXED);
	for (int i = 0; i < WRITERS; i++) {
		pthread_join(writers[i].thread, NULL);
		wrong += writers[i].told != WAKES;
		printf("word %d: told %d of %d\n", i, writers[i].told, WAKES);
		wake_remove(writers[i].file);
	}
	wake_free(wake);
	event_base_free(base);
	printf("%d files came and went, %d wrong\n", churned, wrong);
	return wrong || churned < 10 ? 1 : 0;
}
