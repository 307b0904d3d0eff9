/* vm_process.c - see vm_process.h. posix_spawn() rather than fork(): this process has threads and
 * libraries that a forked half of it must not meet. The child takes its limits itself, before it
 * does anything else. Loop thread only. */
#include "vm_process.h"

#include "vm_child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* A session of its own, and signals as a fresh program has them. */
static void describe(posix_spawnattr_t *how)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(how, &none);
	posix_spawnattr_setsigdefault(how, &all);
	posix_spawnattr_setflags(how, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
					      POSIX_SPAWN_SETSIGDEF);
}

/* No input, our output, the channel, and nothing else of ours. */
static int list_files(posix_spawn_file_actions_t *files, int channel)
{
	int err = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);

	if (!err)
		err = posix_spawn_file_actions_adddup2(files, channel, VM_CHILD_CHANNEL);
	if (!err)
		err = posix_spawn_file_actions_addclosefrom_np(files, VM_CHILD_CHANNEL + 1);
	return err;
}

static int spawn_with(char *const arguments[], int channel, pid_t *ret_pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t how;

	int err = posix_spawn_file_actions_init(&files);
	if (err)
		return -err;
	err = posix_spawnattr_init(&how);
	if (!err) {
		describe(&how);
		err = list_files(&files, channel);
		if (!err)
			err = posix_spawn(ret_pid, "/proc/self/exe", &files, &how, arguments,
					  environ);
		posix_spawnattr_destroy(&how);
	}
	posix_spawn_file_actions_destroy(&files);
	return -err;
}

static int spawn(const struct vm_spec *spec, const char *verb, int channel, pid_t *ret_pid)
{
	char parent[24], vcpus[24], memory[24], disk[24];
	char *arguments[] = {(char *)"blixard-node",
			     (char *)VM_CHILD_WORD,
			     (char *)verb,
			     (char *)spec->name,
			     parent,
			     (char *)spec->disk,
			     vcpus,
			     memory,
			     disk,
			     NULL};

	snprintf(parent, sizeof(parent), "%d", getpid());
	snprintf(vcpus, sizeof(vcpus), "%" PRIu32, spec->needs.vcpus);
	snprintf(memory, sizeof(memory), "%" PRIu64, spec->needs.memory_bytes);
	snprintf(disk, sizeof(disk), "%" PRIu64, spec->needs.disk_bytes);
	return spawn_with(arguments, channel, ret_pid);
}

int vm_process_start(const struct vm_spec *spec, const char *verb, struct vm_process *ret_process)
{
	struct vm_process process;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends))
		return -errno;
	int err = spawn(spec, verb, ends[1], &process.pid);
	close(ends[1]);
	if (err) {
		close(ends[0]);
		return err;
	}
	process.channel = ends[0];
	*ret_process = process;
	return 0;
}

void vm_process_signal(const struct vm_process *process, int signal)
{
	kill(process->pid, signal);
}

void vm_process_end(struct vm_process *process)
{
	int status;

	if (!process->pid)
		return;
	kill(process->pid, SIGKILL);
	while (waitpid(process->pid, &status, 0) < 0 && errno == EINTR)
		continue;
	vm_process_close(process);
}

int vm_process_ping(const struct vm_process *process, uint64_t sequence)
{
	if (send(process->channel, &sequence, sizeof(sequence), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return 0;
	return errno == EAGAIN ? -EAGAIN : -EPIPE;
}

int vm_process_receive(const struct vm_process *process, uint64_t *ret_sequence)
{
	ssize_t len;

	do
		len = recv(process->channel, ret_sequence, sizeof(*ret_sequence), MSG_DONTWAIT);
	while (len < 0 && errno == EINTR);
	if (len == sizeof(*ret_sequence))
		return 0;
	return len < 0 && errno == EAGAIN ? -EAGAIN : -EPIPE;
}

bool vm_process_has_ended(const struct vm_process *process, int *ret_status)
{
	return process->pid && waitpid(process->pid, ret_status, WNOHANG) == process->pid;
}

void vm_process_close(struct vm_process *process)
{
	close(process->channel);
	*process = (struct vm_process){.channel = -1};
}
