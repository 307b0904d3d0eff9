/* Goal: a full, small or read-only /dev/shm never harms the node: rings shrink, old files give way,
 * or telemetry stays off with a reason while the process runs on.
 * Method: TAP cases on tmpfs mounts of exact sizes in a mount namespace of our own. */
#include "node-hooks/blixard_hooks.h"
#include "test/support/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct scratch scratch;
static blix_counter counter;
static blix_gauge gauge;
static blix_histogram histogram;

/* A fresh tmpfs of this size over the scratch directory; the last one is taken away. */
static void mount_fresh(unsigned int kib)
{
	char options[64];

	umount2(scratch.dir, MNT_DETACH);
	snprintf(options, sizeof(options), "size=%uk,mode=0755", kib);
	if (mount("tmpfs", scratch.dir, "tmpfs", 0, options) < 0) {
		printf("Bail out! mount: %s\n", strerror(errno));
		exit(1);
	}
}

static void record(int rounds)
{
	for (int i = 0; i < rounds; i++) {
		blix_add(counter, 1);
		blix_set(gauge, i);
		blix_observe_ns(histogram, (uint64_t)i);
	}
}

/* Use up what is left, to the last page. */
static void fill_up(void)
{
	char path[128];
	char block[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/filler", scratch.dir);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	memset(block, 'x', sizeof(block));
	while (write(fd, block, sizeof(block)) > 0)
		;
	close(fd);
}

/* ---- cases: each runs in a process of its own; 0 is good ------------------------------------ */

static const struct blix_identity eight_lanes = {
	.lanes = 8, .ring_bytes = 1 << 20, .slots = 2, .cells = 2048};

static int rings_shrink(void)
{
	mount_fresh(6 << 10);
	if (blix_open(scratch.path, &eight_lanes) < 0)
		return 1;
	record(1000);
	if (blix_status().ring_bytes >= 1 << 20 || blix_status().ring_bytes < 64 << 10)
		return 2;
	return strstr(blix_status().warning, "instead of") ? 0 : 3;
}

static int nothing_fits(void)
{
	mount_fresh(512);
	if (blix_open(scratch.path, &eight_lanes) != -ENOSPC)
		return 1;
	record(1000);
	if (blix_status().state != BLIX_STATUS_FAILED || blix_status().error != -ENOSPC ||
	    !strstr(blix_status().reason, "room"))
		return 2;
	return scratch_count(&scratch, "blix", NULL, 0) == 0 ? 0 : 3;
}

static int a_full_one(void)
{
	mount_fresh(32 << 10);
	fill_up();
	if (blix_open(scratch.path, &eight_lanes) != -ENOSPC)
		return 1;
	record(1000);
	return 0;
}

static int old_files_give_way(void)
{
	mount_fresh(32 << 10); /* room for three files of about 9 MiB */
	for (int life = 0; life < 8; life++) {
		if (blix_open(scratch.path, &eight_lanes) < 0)
			return 1;
		if (blix_status().ring_bytes != 1 << 20)
			return 2; /* an orphan should have gone first */
		record(1000);
		blix_close();
	}
	return scratch_count(&scratch, "blix1.o.", NULL, 0) <= 2 ? 0 : 3;
}

static int filled_up_later(void)
{
	mount_fresh(16 << 10);
	if (blix_open(scratch.path, &eight_lanes) < 0)
		return 1;
	fill_up();
	for (uint32_t i = 0; i < 64; i++) { /* series never touched before */
		char peer[16];

		snprintf(peer, sizeof(peer), "%u", i);
		blix_add(blix_counter_of(BLIX_grpc_requests_total, peer), 1);
	}
	record(100000);
	return 0; /* a hole in the file would have been a SIGBUS */
}

static int read_only(void)
{
	mount_fresh(16 << 10);
	if (mount(NULL, scratch.dir, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
		return 1;
	if (blix_open(scratch.path, &eight_lanes) != -EROFS)
		return 2;
	record(1000);
	return strstr(blix_status().reason, "Read-only") ? 0 : 3;
}

static const struct {
	const char *name;
	int (*body)(void);
} cases[] = {
	{"with little room the rings shrink, with a warning", rings_shrink},
	{"with no room for the smallest rings telemetry stays off", nothing_fits},
	{"on a full file system telemetry stays off", a_full_one},
	{"files of past lives give way before rings shrink", old_files_give_way},
	{"a file system that fills up later stops no writer", filled_up_later},
	{"a read-only directory is told as such", read_only},
};

int main(void)
{
	int failures = 0;

	scratch = scratch_new(NULL);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", scratch.dir, "tmpfs", 0, "size=64k") < 0) {
		printf("skipped: mounting a tmpfs is not permitted here (%s)\n", strerror(errno));
		scratch_remove(&scratch);
		return 77;
	}
	counter = blix_counter_of(BLIX_raft_proposals_total);
	gauge = blix_gauge_of(BLIX_raft_term);
	histogram = blix_histogram_of(BLIX_raft_proposal_duration_seconds);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int wait_status;
		pid_t pid;

		fflush(stdout);
		pid = fork();
		if (pid == 0)
			exit(cases[i].body());
		waitpid(pid, &wait_status, 0);
		printf("%sok %zu - %s\n", wait_status == 0 ? "" : "not ", i + 1, cases[i].name);
		if (wait_status)
			printf("# wait status %#x\n", (unsigned int)wait_status);
		failures += wait_status != 0;
	}
	printf("1..%zu\n", sizeof(cases) / sizeof(cases[0]));
	while (umount2(scratch.dir, MNT_DETACH) == 0)
		;
	scratch_remove(&scratch);
	return failures > 0;
}
