/* Goal: a telemetry file gets its name under one rule, takes over from the dead only, touches
 * nothing that is not ours, and copes with little room.
 * Method: real files in a scratch directory on /dev/shm; other owners are open descriptions of
 * the same process, since OFD locks belong to those. Little room is a file size limit. */
#include "shm/publish.h"
#include "test/support/scratch.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

static struct scratch scratch;

static void setup(void)
{
	scratch = scratch_new(NULL);
}

static void teardown(void)
{
	scratch_remove(&scratch);
}

TestSuite(publish, .init = setup, .fini = teardown);

static const struct blix_format_options small = {
	.lanes = 2, .ring_bytes = 16 << 10, .cells = 64, .slots = 2};

/* Create and fill, with an incarnation of one repeated byte. */
static int create(struct blix_publish *p, const char *path, uint8_t id)
{
	struct blix_format_identity identity = {.node_id = 1, .pid = 4711};
	int err = blix_publish_create(path, &small, p);

	if (err < 0)
		return err;
	memset(identity.incarnation, id, sizeof(identity.incarnation));
	cr_assert_eq(blix_format_fill(&p->view, &identity), 0);
	blix_view_header(&p->view)->state = BLIX_STATE_LIVE;
	return 0;
}

/* A file of a past life at the scratch path. */
static void leave_dead_file(uint8_t id, uint32_t state, bool done)
{
	struct blix_publish p;

	cr_assert_eq(create(&p, scratch.path, id), 0, "%s", p.reason);
	cr_assert_eq(blix_publish_name(&p), 0, "%s", p.reason);
	blix_view_header(&p.view)->state = state;
	blix_view_consumer(&p.view)->flags = done ? BLIX_CONSUMER_DONE : 0;
	cr_assert_eq(blix_publish_let_go(&p.view), 0);
}

static bool orphan_exists(uint8_t id)
{
	char path[200];
	int n = snprintf(path, sizeof(path), "%s.o.", scratch.path);

	for (int i = 0; i < 16; i++)
		n += snprintf(path + n, sizeof(path) - (size_t)n, "%02x", id);
	return access(path, F_OK) == 0;
}

static ino_t inode_at(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_ino : 0;
}

static bool lock_is_free(const char *path)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	int fd = open(path, O_RDWR | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	cr_assert_eq(fcntl(fd, F_OFD_GETLK, &lock), 0);
	close(fd);
	return lock.l_type == F_UNLCK;
}

Test(publish, a_new_file_has_its_size_allocated_and_its_mode_whatever_the_umask)
{
	struct blix_publish p;
	struct stat st;

	umask(077);
	cr_assert_eq(create(&p, scratch.path, 1), 0);
	cr_expect_eq(inode_at(scratch.path), 0, "no name before blix_publish_name");
	cr_assert_eq(blix_publish_name(&p), 0);
	cr_assert_eq(stat(scratch.path, &st), 0);
	cr_expect_eq((uint64_t)st.st_size, p.view.size);
	cr_expect_geq((uint64_t)st.st_blocks * 512, p.view.size,
		      "a hole would be a SIGBUS some day");
	cr_expect_eq(st.st_mode & 07777, 0660);
	cr_expect_eq(p.fd, -1);
	cr_expect_str_empty(p.warning);
}

Test(publish, the_lock_lives_with_the_mapping_and_falls_when_it_is_let_go)
{
	struct blix_publish p;

	cr_assert_eq(create(&p, scratch.path, 1), 0);
	cr_assert_eq(blix_publish_name(&p), 0);
	cr_expect_not(lock_is_free(scratch.path));
	cr_assert_eq(blix_publish_let_go(&p.view), 0);
	cr_expect(lock_is_free(scratch.path));
	p.view.base[0] = 'X'; /* a late store goes nowhere */
	p.view.base[p.view.size - 1] = 'X';
	leave_dead_file(2, BLIX_STATE_LIVE, false);
	cr_expect(orphan_exists(1), "the file kept its magic: the store did not reach it");
}

Test(publish, an_abandoned_file_leaves_nothing)
{
	struct blix_publish p;

	cr_assert_eq(create(&p, scratch.path, 1), 0);
	blix_publish_abandon(&p);
	cr_expect_null(p.view.base);
	cr_expect_eq(scratch_count(&scratch, "blix", NULL, 0), 0);
}

Test(publish, a_dead_predecessor_is_renamed_aside_and_not_touched)
{
	ino_t old;

	leave_dead_file(0xab, BLIX_STATE_LIVE, false);
	old = inode_at(scratch.path);
	leave_dead_file(0xcd, BLIX_STATE_LIVE, false);
	cr_expect(orphan_exists(0xab));
	cr_expect_neq(inode_at(scratch.path), old);
	cr_expect_eq(scratch_count(&scratch, "blix1", NULL, 0), 2);
}

Test(publish, a_live_predecessor_is_waited_for_and_then_refused)
{
	struct blix_publish first;
	struct blix_publish second;

	cr_assert_eq(create(&first, scratch.path, 1), 0);
	cr_assert_eq(blix_publish_name(&first), 0);
	cr_assert_eq(create(&second, scratch.path, 2), 0);
	cr_expect_eq(blix_publish_name(&second), -EBUSY);
	cr_expect(strstr(second.reason, "4711"), "names the process: %s", second.reason);
	blix_publish_abandon(&second);
	cr_expect_eq(scratch_count(&scratch, "blix1", NULL, 0), 1);
	cr_expect_not(lock_is_free(scratch.path), "the first still holds its file");
}

Test(publish, a_squatted_name_is_refused_and_left_alone)
{
	static const char *const what[] = {"directory", "symbolic", "telemetry", "regular", "user"};

	for (int i = 0; i < 5; i++) {
		struct blix_publish p;
		ino_t squatter;
		int fd;

		if (i == 4 && geteuid() != 0) {
			cr_log_warn("not root: another user's file is not tried");
			continue;
		}
		if (i == 0)
			cr_assert_eq(mkdir(scratch.path, 0700), 0);
		else if (i == 1)
			cr_assert_eq(symlink("elsewhere", scratch.path), 0);
		else if (i == 3)
			cr_assert_eq(mkfifo(scratch.path, 0600), 0);
		else {
			fd = open(scratch.path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
			cr_assert_eq(write(fd, "notes", 5), 5);
			cr_assert(i == 2 || fchown(fd, 12345, 12345) == 0);
			close(fd);
		}
		squatter = inode_at(scratch.path);
		cr_assert_eq(create(&p, scratch.path, 1), 0);
		cr_expect_eq(blix_publish_name(&p), -EEXIST, "%s", what[i]);
		cr_expect(strstr(p.reason, what[i]), "%s: %s", what[i], p.reason);
		blix_publish_abandon(&p);
		cr_expect_eq(inode_at(scratch.path), squatter, "%s", what[i]);
		cr_assert(unlink(scratch.path) == 0 || rmdir(scratch.path) == 0);
	}
}

Test(publish, done_and_closed_orphans_go_first_then_done_ones_then_the_oldest)
{
	leave_dead_file(1, BLIX_STATE_LIVE, false);
	leave_dead_file(2, BLIX_STATE_LIVE, true);
	leave_dead_file(3, BLIX_STATE_CLOSED, true);
	leave_dead_file(4, BLIX_STATE_LIVE, false); /* orphans now: 1 2 3, so 3 goes */
	cr_expect(orphan_exists(1) && orphan_exists(2) && !orphan_exists(3));
	leave_dead_file(5, BLIX_STATE_LIVE, false); /* 1 2 4: the done one goes */
	cr_expect(orphan_exists(1) && !orphan_exists(2) && orphan_exists(4));
	leave_dead_file(6, BLIX_STATE_CLOSED, false); /* 1 4 5: the oldest goes */
	cr_expect(!orphan_exists(1) && orphan_exists(4) && orphan_exists(5));
	leave_dead_file(7, BLIX_STATE_CLOSED,
			false); /* 4 5 6: closed but not done is as good as them */
	cr_expect(!orphan_exists(4) && orphan_exists(5) && orphan_exists(6));
}

Test(publish, discarded_orphans_are_counted_in_the_header_of_the_file_that_did_it)
{
	struct blix_publish p;

	for (uint8_t id = 1; id <= 3; id++)
		leave_dead_file(id, BLIX_STATE_LIVE, false);
	cr_assert_eq(create(&p, scratch.path, 9), 0);
	cr_assert_eq(blix_publish_name(&p), 0);
	cr_expect_eq(blix_view_header(&p.view)->orphans_discarded, 1u);
}

Test(publish, an_orphan_whose_lock_is_held_is_never_unlinked)
{
	char path[160];
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	int fd;

	leave_dead_file(1, BLIX_STATE_CLOSED, true);
	leave_dead_file(2, BLIX_STATE_LIVE, false);
	cr_assert_eq(scratch_count(&scratch, "blix1.o.", path, sizeof(path)), 1);
	fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_eq(fcntl(fd, F_OFD_SETLK, &lock), 0);
	for (uint8_t id = 3; id <= 6; id++)
		leave_dead_file(id, BLIX_STATE_LIVE, false);
	cr_expect(orphan_exists(1), "it would have been the first to go");
	cr_expect_eq(scratch_count(&scratch, "blix1.o.", NULL, 0), 2);
	close(fd);
	leave_dead_file(7, BLIX_STATE_LIVE, false);
	cr_expect_not(orphan_exists(1));
}

Test(publish, strangers_with_an_orphans_name_are_left_alone)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s.o.%032d", scratch.path, 0);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	cr_assert_eq(write(fd, "notes", 5), 5);
	close(fd);
	for (uint8_t id = 1; id <= 5; id++)
		leave_dead_file(id, BLIX_STATE_CLOSED, true);
	cr_expect_eq(access(path, F_OK), 0);
}

Test(publish, an_orphan_name_that_is_taken_is_not_overwritten)
{
	char path[200];
	int fd;

	leave_dead_file(0x11, BLIX_STATE_LIVE, false);
	snprintf(path, sizeof(path), "%s.o.11111111111111111111111111111111", scratch.path);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	cr_assert_eq(write(fd, "copy", 4), 4);
	close(fd);
	leave_dead_file(0x22, BLIX_STATE_LIVE, false);
	cr_expect_eq(scratch_count(&scratch, "blix1.o.", NULL, 0), 2, "the copy and a random name");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_expect_eq(read(fd, path, sizeof(path)), 4, "still the copy");
	close(fd);
}

static void limit_file_size(uint64_t bytes)
{
	struct rlimit limit = {.rlim_cur = bytes, .rlim_max = bytes};

	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

Test(publish, too_little_room_halves_the_rings_and_says_so)
{
	struct blix_format_options options = {
		.lanes = 4, .ring_bytes = 1 << 20, .cells = 64, .slots = 2};
	struct blix_publish p;
	struct blix_view wanted;

	options.ring_bytes = 256 << 10;
	cr_assert_eq(blix_format_plan(&options, &wanted), 0);
	options.ring_bytes = 1 << 20;
	limit_file_size(wanted.size);
	cr_assert_eq(blix_publish_create(scratch.path, &options, &p), 0, "%s", p.reason);
	cr_expect_eq(p.view.lane.ring_bytes, 256u << 10);
	cr_expect(strstr(p.warning, "256 KiB instead of 1024"), "%s", p.warning);
	blix_publish_abandon(&p);
}

Test(publish, no_room_for_the_smallest_rings_is_enospc_and_costs_the_orphans)
{
	struct blix_format_options options = {.lanes = 4, .ring_bytes = 1 << 20};
	struct blix_publish p;

	leave_dead_file(1, BLIX_STATE_LIVE, false);
	leave_dead_file(2, BLIX_STATE_LIVE, false);
	limit_file_size(64 << 10);
	cr_expect_eq(blix_publish_create(scratch.path, &options, &p), -ENOSPC);
	cr_expect(strstr(p.reason, "no room"), "%s", p.reason);
	cr_expect_not(orphan_exists(1));
	cr_expect_neq(inode_at(scratch.path), 0, "what has the name itself is never discarded");
}

Test(publish, rings_asked_to_be_smaller_than_the_floor_are_not_halved)
{
	struct blix_publish p;

	limit_file_size(64 << 10);
	cr_expect_eq(blix_publish_create(scratch.path, &small, &p), -ENOSPC);
}

Test(publish, bad_paths_and_options_are_refused_with_a_reason)
{
	struct blix_format_options odd = {.ring_bytes = 12345};
	char longest[BLIX_PUBLISH_NAME_MAX + 40];
	const char *paths[] = {NULL, "", "/dev/shm/", "/dev/shm/.", "/dev/shm/..", longest};
	struct blix_publish p;

	memset(longest, 'n', sizeof(longest));
	memcpy(longest, "/dev/shm/", 9);
	longest[9 + BLIX_PUBLISH_NAME_MAX + 1] = '\0';
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		cr_expect_eq(blix_publish_create(paths[i], &small, &p), -EINVAL, "path %zu", i);
		cr_expect_neq(p.reason[0], '\0');
	}
	cr_expect_eq(blix_publish_create(scratch.path, &odd, &p), -EINVAL);
	cr_expect(strstr(p.reason, "ring_bytes"));
}

Test(publish, the_longest_name_works_and_so_does_its_orphan)
{
	char path[BLIX_PUBLISH_NAME_MAX + sizeof(scratch.dir) + 2];
	struct blix_publish p;

	snprintf(path, sizeof(path), "%s/", scratch.dir);
	memset(path + strlen(path), 'n', BLIX_PUBLISH_NAME_MAX);
	path[strlen(scratch.dir) + 1 + BLIX_PUBLISH_NAME_MAX] = '\0';
	for (uint8_t id = 1; id <= 2; id++) {
		cr_assert_eq(create(&p, path, id), 0, "%s", p.reason);
		cr_assert_eq(blix_publish_name(&p), 0, "%s", p.reason);
		cr_assert_eq(blix_publish_let_go(&p.view), 0);
	}
	cr_expect_eq(scratch_count(&scratch, "nnn", NULL, 0), 2);
}

Test(publish, what_the_directory_answers_is_passed_on)
{
	char path[200];
	struct blix_publish p;
	int fd;

	snprintf(path, sizeof(path), "%s/absent/blix1", scratch.dir);
	cr_expect_eq(blix_publish_create(path, &small, &p), -ENOENT);
	cr_expect(strstr(p.reason, "absent"), "%s", p.reason);
	fd = open(scratch.path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	close(fd);
	snprintf(path, sizeof(path), "%s/blix1", scratch.path);
	cr_expect_eq(blix_publish_create(path, &small, &p), -ENOTDIR);
	cr_expect_eq(blix_publish_create("/proc/blix1", &small, &p), -EOPNOTSUPP, "%s", p.reason);
}

Test(publish, a_file_that_is_not_on_a_tmpfs_earns_a_warning)
{
	struct scratch elsewhere = scratch_new("/var/tmp");
	struct blix_publish p;
	struct statfs fs;

	cr_assert_eq(statfs(elsewhere.dir, &fs), 0);
	cr_assert_eq(blix_publish_create(elsewhere.path, &small, &p), 0, "%s", p.reason);
	cr_expect_eq(strstr(p.warning, "tmpfs") == NULL, fs.f_type == TMPFS_MAGIC, "%s", p.warning);
	blix_publish_abandon(&p);
	scratch_remove(&elsewhere);
}

Test(publish, no_address_space_is_enomem)
{
	struct rlimit limit = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY};
	struct blix_publish p;

	cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
	cr_expect_eq(blix_publish_create(scratch.path, &small, &p), -ENOMEM);
	cr_expect(strstr(p.reason, "map"), "%s", p.reason);
	limit.rlim_cur = RLIM_INFINITY;
	setrlimit(RLIMIT_AS, &limit);
}
