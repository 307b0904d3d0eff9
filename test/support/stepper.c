/* test/support/stepper.c - see stepper.h. */
#include "stepper.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child: marks begin and end of the stepped part by stopping itself. */
static _Noreturn void child(const struct stepper *stepper)
{
	if (stepper->prepare)
		stepper->prepare(stepper->arg);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(1);
	raise(SIGSTOP);
	stepper->run(stepper->arg);
	raise(SIGSTOP);
	_exit(0);
}

static int64_t step_through(const struct stepper *stepper, pid_t pid)
{
	int64_t steps = 0;
	int status;

	for (;;) {
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0)
			return -ECHILD;
		if (waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status))
			return -ECHILD;
		if (WSTOPSIG(status) == SIGSTOP)
			return steps;
		if (WSTOPSIG(status) != SIGTRAP)
			return -ECHILD;
		steps++;
		if (!stepper->stopped(stepper->arg))
			return steps;
	}
}

int64_t stepper_run(const struct stepper *stepper)
{
	pid_t pid = fork();
	int64_t steps;
	int status;

	if (pid < 0)
		return -errno;
	if (pid == 0)
		child(stepper);
	if (waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status))
		return -ENOSYS;
	/* The child must not run on by itself if we are killed. */
	(void)ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL);
	steps = step_through(stepper, pid);
	kill(pid, SIGKILL);
	(void)waitpid(pid, &status, 0);
	return steps;
}
