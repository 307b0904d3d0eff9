/* vm_child.c - the body of a "VM": takes its limits, its disk and its memory, and answers pings
 * until it is told to end, or its supervisor is gone. Its own process, one thread. */
#include "vm_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CPU_SECONDS_A_VCPU = 3600, FILES_MAX = 16 };

struct self {
	const char *name;
	const char *disk;
	uint64_t vcpus;
	uint64_t memory_bytes;
	uint64_t disk_bytes;
};

static int fail(const struct self *self, const char *what)
{
	fprintf(stderr, "blixard-node: vm %s: %s: %s\n", self->name, what, strerror(errno));
	return 1;
}

static bool set_limit(__rlimit_resource_t what, uint64_t most)
{
	struct rlimit limit = {.rlim_cur = most, .rlim_max = most};

	return !setrlimit(what, &limit);
}

/* The address space that this program takes by itself. */
static uint64_t own_bytes(void)
{
	unsigned long long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (!file)
		return 0;
	if (fscanf(file, "%llu", &pages) != 1)
		pages = 0;
	fclose(file);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* On top of its memory it gets what it takes to exist: a little heap, and the stack. */
static bool set_limits(const struct self *self)
{
	const uint64_t spare = 16u << 20;

	return set_limit(RLIMIT_AS, own_bytes() + self->memory_bytes + spare) &&
	       set_limit(RLIMIT_CPU, self->vcpus * CPU_SECONDS_A_VCPU) &&
	       set_limit(RLIMIT_FSIZE, self->disk_bytes) && set_limit(RLIMIT_NOFILE, FILES_MAX) &&
	       set_limit(RLIMIT_CORE, 0);
}

static int prepare(const struct self *self)
{
	int fd = open(self->disk, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return fail(self, self->disk);
	if (ftruncate(fd, (off_t)self->disk_bytes) || fsync(fd))
		return fail(self, self->disk);
	close(fd);
	return 0;
}

static int erase(const struct self *self)
{
	return unlink(self->disk) && errno != ENOENT ? fail(self, self->disk) : 0;
}

static int answer_pings(const struct self *self)
{
	struct pollfd channel = {.fd = VM_CHILD_CHANNEL, .events = POLLIN};
	uint64_t packet = VM_CHILD_READY;

	if (send(channel.fd, &packet, sizeof(packet), MSG_NOSIGNAL) != sizeof(packet))
		return fail(self, "cannot reach the supervisor");
	for (;;) {
		if (poll(&channel, 1, -1) < 0 && errno != EINTR)
			return fail(self, "poll");
		ssize_t len = recv(channel.fd, &packet, sizeof(packet), MSG_DONTWAIT);
		if (len < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (len != sizeof(packet))
			return 0; /* the supervisor has hung up */
		/* A full channel means that the supervisor does not read: it will ask again. */
		if (send(channel.fd, &packet, sizeof(packet), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
		    errno != EAGAIN)
			return 0;
	}
}

static int run(const struct self *self)
{
	int fd = open(self->disk, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return fail(self, self->disk);
	/* Memory that the machine cannot give is refused here, not when it is touched. */
	void *memory = mmap(NULL, self->memory_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return fail(self, "memory");
	return answer_pings(self);
}

static uint64_t number(const char *text)
{
	return strtoull(text, NULL, 10);
}

int vm_child_main(int argc, char **argv)
{
	if (argc != 9) {
		fprintf(stderr, "blixard-node: " VM_CHILD_WORD " is for its own use\n");
		return 2;
	}
	struct self self = {.name = argv[3],
			    .disk = argv[5],
			    .vcpus = number(argv[6]),
			    .memory_bytes = number(argv[7]),
			    .disk_bytes = number(argv[8])};

	/* A VM does not outlive its supervisor, which may have died before this line. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		return fail(&self, "prctl");
	if ((uint64_t)getppid() != number(argv[4]))
		return 1;
	if (!set_limits(&self))
		return fail(&self, "limits");
	if (!strcmp(argv[2], VM_CHILD_PREPARE))
		return prepare(&self);
	if (!strcmp(argv[2], VM_CHILD_ERASE))
		return erase(&self);
	return run(&self);
}
