/* test/support/stepper.h - run code in a child, one machine instruction at a time.
 *
 * "SIGKILL at any instruction" made literal: after each instruction the child is stopped, and its
 * shared memory is what a kill at that point would have left. x86-64 and aarch64 Linux, by ptrace.
 */
#ifndef TEST_SUPPORT_STEPPER_H
#define TEST_SUPPORT_STEPPER_H

#include <stdbool.h>
#include <stdint.h>

struct stepper {
	void (*prepare)(void *arg); /* in the child, at full speed; may be NULL */
	void (*run)(void *arg);	    /* in the child, stepped */
	bool (*stopped)(
		void *arg); /* in the parent, after each instruction of run; false: enough */
	void *arg;
};

/* Number of instructions stepped; -ENOSYS where nobody may trace, -ECHILD if the child ended by
 * itself. */
int64_t stepper_run(const struct stepper *stepper);

#endif
