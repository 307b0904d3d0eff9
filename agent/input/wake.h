/* agent/input/wake.h - be woken by a ring that is a quarter full, instead of looking all the time.
 *
 * The consumer page of each file has a futex word: armed (1), it is cleared and woken by the writer
 * whose ring fills up. One thread sleeps on the words of all files and turns a wake-up into a call on
 * the loop. It does nothing else, and nothing at all while the rings are quiet.
 *
 * Thread rule: the loop thread; the thread inside is wake.c's own. It blocks every signal but SIGBUS
 * (shm/map.h). Needs Linux 5.16 (futex_waitv). Includes: libevent, libc. */
#ifndef BLIX_AGENT_INPUT_WAKE_H
#define BLIX_AGENT_INPUT_WAKE_H

#include <stdint.h>

enum { WAKE_FILES_MAX = 127 };

struct event_base;
struct wake;
struct wake_file;

/* 0; -ENOSYS: this kernel cannot wait for several words; errno of eventfd and pthread_create. */
int wake_new(struct event_base *base, struct wake **ret_wake);
/* After the last wake_remove(). Accepts NULL; returns NULL. */
struct wake *wake_free(struct wake *w);

/* Call `woken` from the loop each time the armed `word`, a shared futex, was woken. The word must stay
 * mapped until wake_remove(). 0; -ENOSPC beyond WAKE_FILES_MAX; -ENOMEM. */
int wake_add(struct wake *w, uint32_t *word, void (*woken)(void *arg), void *arg,
	     struct wake_file **ret_file);
/* Accepts NULL; returns NULL. */
struct wake_file *wake_remove(struct wake_file *file);

/* Arm the word, unless it is. Costs a load where it is armed already. */
void wake_arm(struct wake_file *file);

#endif
