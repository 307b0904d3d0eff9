/* shm/publish.c - creation, naming and removal of telemetry files; see publish.h.
 *
 * Everything found under the path is a stranger's until its type, owner, magic and lock have been
 * checked on an open descriptor. */
#include "publish.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <linux/magic.h>

enum {
	NAP_MS = 20,	    /* between two looks at a held lock */
	ORPHAN_PASSES = 64, /* bound on removals in one start */
	HEX_LEN = 32,
};

#define ORPHAN_INFIX ".o."

#define explain(p, ...) snprintf((p)->reason, sizeof((p)->reason), __VA_ARGS__)

/* ---- small things --------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = NAP_MS * 1000000L}, NULL);
}

/* 0: we hold the exclusive lock on byte 0. -EBUSY: somebody else does. */
static int lock_byte0(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

/* Does `name` still lead to the inode behind fd? */
static bool leads_to(int dir_fd, const char *name, int fd)
{
	struct stat by_fd;
	struct stat by_name;

	return fstat(fd, &by_fd) == 0 &&
	       fstatat(dir_fd, name, &by_name, AT_SYMLINK_NOFOLLOW) == 0 &&
	       by_fd.st_dev == by_name.st_dev && by_fd.st_ino == by_name.st_ino;
}

static void to_hex(const uint8_t bytes[16], char ret_hex[HEX_LEN + 1])
{
	for (size_t i = 0; i < 16; i++)
		snprintf(ret_hex + 2 * i, 3, "%02x", bytes[i]);
}

/* The first page of a file of ours, from an fd. False: no telemetry file. */
static bool read_header(int fd, uint8_t ret_page[BLIX_PAGE_HEADER])
{
	return pread(fd, ret_page, BLIX_PAGE_HEADER, 0) == BLIX_PAGE_HEADER &&
	       memcmp(ret_page, BLIX_MAGIC, 8) == 0;
}

/* ---- create --------------------------------------------------------------------------------- */

/* Split the path and open its directory, so that no rename of a parent misleads us later. */
static int open_directory(struct blix_publish *p, const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;
	const char *name = slash ? slash + 1 : path;
	char dir[sizeof(p->path)];

	if (!path || strlen(path) >= sizeof(p->path) || !*name || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0 || strlen(name) > BLIX_PUBLISH_NAME_MAX) {
		explain(p, "path is empty, too long or ends in a slash: give a file name such as "
			   "/dev/shm/blix1");
		return -EINVAL;
	}
	snprintf(p->path, sizeof(p->path), "%s", path);
	snprintf(p->name, sizeof(p->name), "%s", name);
	if (!slash)
		strcpy(dir, ".");
	else if (slash == path)
		strcpy(dir, "/");
	else
		snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);

	p->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->dir_fd < 0) {
		int err = -errno;

		explain(p, "cannot open directory %.100s: %s", dir, strerror(-err));
		return err;
	}
	return 0;
}

static int create_nameless(struct blix_publish *p)
{
	struct statfs fs;

	p->fd = openat(p->dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0660);
	if (p->fd < 0) {
		/* A file system without O_TMPFILE takes the request for one to write a directory.
		 */
		int err = errno == EISDIR ? -EOPNOTSUPP : -errno;

		explain(p,
			"cannot create a file beside %.90s: %s; use a writable tmpfs such as "
			"/dev/shm",
			p->path, strerror(-err));
		return err;
	}
	/* The agent may be another user of our group and writes the consumer pages: no umask. */
	if (fchmod(p->fd, 0660) < 0)
		return -errno;
	if (fstatfs(p->fd, &fs) == 0 && fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
		snprintf(p->warning, sizeof(p->warning),
			 "%.100s is not on a tmpfs: write-back can stall the node; use /dev/shm",
			 p->path);
	return 0;
}

/* posix_fallocate that survives signals. A file beyond RLIMIT_FSIZE would earn a fatal SIGXFSZ, so
 * the limit is asked first. */
static int allocate(int fd, uint64_t bytes)
{
	struct rlimit limit;
	int err;

	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    bytes > limit.rlim_cur)
		return -EFBIG;
	do
		err = posix_fallocate(fd, 0, (off_t)bytes);
	while (err == EINTR);
	return -err;
}

static bool means_full(int err)
{
	return err == -ENOSPC || err == -EDQUOT || err == -EFBIG;
}

static int discard_orphan(struct blix_publish *p, uint32_t keep);

/* Plan and allocate. Full: first the orphans go, then the rings shrink by halves. */
static int allocate_or_shrink(struct blix_publish *p, const struct blix_format_options *wanted,
			      struct blix_view *ret_plan)
{
	struct blix_format_options options = *wanted;
	uint32_t asked = 0;

	for (;;) {
		int err = blix_format_plan(&options, ret_plan);

		if (err < 0) {
			explain(p, "lanes, ring_bytes, cells or slots is out of range, or the file "
				   "would be too large");
			return err;
		}
		asked = asked ? asked : ret_plan->lane.ring_bytes;
		err = allocate(p->fd, ret_plan->size);
		if (err == 0)
			break;
		if (!means_full(err)) {
			explain(p, "cannot allocate %.100s: %s", p->path, strerror(-err));
			return err;
		}
		if (discard_orphan(p, 0) > 0)
			continue;
		options.ring_bytes = ret_plan->lane.ring_bytes / 2;
		if (options.ring_bytes < BLIX_PUBLISH_RING_FLOOR) {
			explain(p,
				"no room for %.90s: free memory in its file system or lower lanes "
				"and ring_bytes",
				p->path);
			return -ENOSPC;
		}
	}
	if (ret_plan->lane.ring_bytes < asked)
		snprintf(p->warning, sizeof(p->warning),
			 "little room for %.80s: rings of %u KiB instead of %u; enlarge the file "
			 "system",
			 p->path, ret_plan->lane.ring_bytes >> 10, asked >> 10);
	return 0;
}

int blix_publish_create(const char *path, const struct blix_format_options *options,
			struct blix_publish *ret_publish)
{
	struct blix_publish *p = ret_publish;
	struct blix_view plan = {0};
	void *base;
	int err;

	memset(p, 0, sizeof(*p));
	p->fd = -1;
	p->dir_fd = -1;
	err = open_directory(p, path);
	if (err == 0)
		err = create_nameless(p);
	if (err == 0)
		err = allocate_or_shrink(p, options, &plan);
	if (err < 0)
		goto fail;

	base = mmap(NULL, plan.size, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
	if (base == MAP_FAILED) {
		err = -errno;
		explain(p, "cannot map %llu bytes: %s", (unsigned long long)plan.size,
			strerror(-err));
		goto fail;
	}
	p->view = blix_view_at(&plan, base);
	err = lock_byte0(p->fd); /* nobody else knows the file: only ENOLCK and the like */
	if (err == 0)
		return 0;
	explain(p, "cannot lock %.100s: %s", p->path, strerror(-err));
fail:
	blix_publish_abandon(p);
	return err;
}

void blix_publish_abandon(struct blix_publish *p)
{
	if (p->view.base)
		munmap(p->view.base, p->view.size);
	p->view.base = NULL;
	if (p->fd >= 0)
		close(p->fd);
	if (p->dir_fd >= 0)
		close(p->dir_fd);
	p->fd = -1;
	p->dir_fd = -1;
}

/* ThreadSanitizer takes mmap for a write to the whole range. This one is meant to happen under the
 * feet of running writers, so its build goes past the interceptor. */
static void *map_over(void *at, size_t bytes)
{
	int prot = PROT_READ | PROT_WRITE;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;

#ifdef BLIX_TSAN
	return (void *)syscall(SYS_mmap, at, bytes, prot, flags, -1, 0L);
#else
	return mmap(at, bytes, prot, flags, -1, 0);
#endif
}

int blix_publish_let_go(const struct blix_view *view)
{
	return map_over(view->base, view->size) == MAP_FAILED ? -errno : 0;
}

/* ---- name ----------------------------------------------------------------------------------- */

static int link_name(const struct blix_publish *p)
{
	char self[64];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", p->fd);
	if (linkat(AT_FDCWD, self, p->dir_fd, p->name, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	/* Without /proc the fd itself can be linked, by a process with the right to. */
	if (errno == ENOENT && linkat(p->fd, "", p->dir_fd, p->name, AT_EMPTY_PATH) == 0)
		return 0;
	return -errno;
}

/* Open what has our name. The fd of a telemetry file of ours; -EEXIST with a reason when it is
 * something we must not touch; -ENOENT when it is gone again. */
static int open_predecessor(struct blix_publish *p, uint8_t ret_page[BLIX_PAGE_HEADER])
{
	int fd = openat(p->dir_fd, p->name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	const char *what = NULL;
	struct stat st;

	if (fd < 0) {
		if (errno == ENOENT)
			return -ENOENT;
		what = errno == ELOOP	 ? "a symbolic link"
		       : errno == EISDIR ? "a directory"
					 : "not ours to open";
	} else if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		what = "no regular file";
	} else if (st.st_uid != geteuid()) {
		what = "another user's file";
	} else if (!read_header(fd, ret_page)) {
		what = "no telemetry file";
	}
	if (!what)
		return fd;
	if (fd >= 0)
		close(fd);
	explain(p, "%.110s is %s: remove it or choose another path", p->path, what);
	return -EEXIST;
}

/* Rename the locked, dead file to its orphan name. The name must not be taken: whoever has it is
 * not locked by us. A copy made by hand has the same incarnation, so a random one follows. */
static int set_aside(struct blix_publish *p, const uint8_t *page)
{
	uint8_t id[16];
	char orphan[BLIX_PUBLISH_NAME_MAX + sizeof(ORPHAN_INFIX) + HEX_LEN];
	char hex[HEX_LEN + 1];

	memcpy(id, page + offsetof(struct blix_header, incarnation), sizeof(id));
	for (int attempt = 0; attempt < 2; attempt++) {
		to_hex(id, hex);
		snprintf(orphan, sizeof(orphan), "%s" ORPHAN_INFIX "%s", p->name, hex);
		if (renameat2(p->dir_fd, p->name, p->dir_fd, orphan, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST || getrandom(id, sizeof(id), 0) != sizeof(id))
			return -errno;
	}
	return -EEXIST;
}

/* Who holds the lock. A node that is gone may have left a child that maps its file still: one that
 * was made without running fork handlers. */
static void explain_owner(struct blix_publish *p, const uint8_t *page)
{
	struct blix_header header;
	struct stat st;
	bool gone;

	memcpy(&header, page, sizeof(header));
	gone = stat("/proc/self/ns/pid", &st) == 0 && st.st_ino == header.pidns_ino &&
	       kill((pid_t)header.pid, 0) < 0 && errno == ESRCH;
	if (gone)
		explain(p, "%.80s is held by a child of process %u, which is gone: end that child",
			p->path, header.pid);
	else
		explain(p,
			"%.80s belongs to a running node (process %u): stop it or use another path",
			p->path, header.pid);
}

/* One look at the file that has our name. 0: the name is free now, link again. -EBUSY: its owner
 * lives. Other errors are final. */
static int clear_name(struct blix_publish *p)
{
	uint8_t page[BLIX_PAGE_HEADER];
	int fd = open_predecessor(p, page);
	int err;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	err = lock_byte0(fd);
	if (err == -EBUSY) {
		explain_owner(p, page);
	} else if (err == 0 && leads_to(p->dir_fd, p->name, fd)) {
		err = set_aside(p, page);
		if (err < 0)
			explain(p, "cannot rename the old %.90s aside: %s", p->path,
				strerror(-err));
	}
	close(fd); /* and with it the lock */
	return err;
}

static int take_name(struct blix_publish *p)
{
	uint64_t deadline_ms = now_ms() + BLIX_PUBLISH_WAIT_MS;

	for (;;) {
		int err = link_name(p);

		if (err != -EEXIST) {
			if (err < 0)
				explain(p, "cannot name %.90s: %s; is /proc mounted?", p->path,
					strerror(-err));
			return err;
		}
		err = clear_name(p);
		if (err < 0 && err != -EBUSY)
			return err;
		/* Also bounds a race with other starters that we lose again and again. */
		if (now_ms() >= deadline_ms) {
			if (err == 0)
				explain(p,
					"%.100s is fought over by other starting nodes: choose "
					"another path",
					p->path);
			return -EBUSY;
		}
		if (err == -EBUSY)
			nap();
	}
}

/* ---- orphans -------------------------------------------------------------------------------- */

struct orphan {
	char name[NAME_MAX + 1];
	int rank; /* 0 is discarded first */
	struct timespec born;
};

static bool is_orphan_name(const struct blix_publish *p, const char *entry)
{
	size_t len = strlen(p->name);
	const char *hex = entry + len + strlen(ORPHAN_INFIX);

	return strncmp(entry, p->name, len) == 0 &&
	       strncmp(entry + len, ORPHAN_INFIX, strlen(ORPHAN_INFIX)) == 0 &&
	       strlen(hex) == HEX_LEN && strspn(hex, "0123456789abcdef") == HEX_LEN;
}

/* Flags an agent left in the consumer pages; 0 when they cannot be found. */
static uint32_t consumer_flags(int fd, const uint8_t page[BLIX_PAGE_HEADER])
{
	struct blix_consumer consumer;
	struct blix_header header;
	struct blix_toc toc;

	memcpy(&header, page, sizeof(header));
	for (uint32_t i = 0; i < header.toc_count && i < BLIX_CAP_TOC; i++) {
		uint64_t at = (uint64_t)header.toc_off + (uint64_t)i * header.toc_stride;

		if (header.toc_stride < sizeof(toc) || at > BLIX_PAGE_HEADER - sizeof(toc))
			break;
		memcpy(&toc, page + at, sizeof(toc));
		if (toc.type == BLIX_SEC_CONSUMER && toc.off < BLIX_CAP_FILE_BYTES &&
		    pread(fd, &consumer, sizeof(consumer), (off_t)toc.off) == sizeof(consumer))
			return consumer.flags;
	}
	return 0;
}

/* Open an orphan and judge it. -1: not a telemetry file of ours, leave it alone. */
static int open_orphan(const struct blix_publish *p, const char *name, struct orphan *ret_orphan)
{
	int fd = openat(p->dir_fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	uint8_t page[BLIX_PAGE_HEADER];
	struct stat st;
	uint32_t state;
	bool done;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    !read_header(fd, page)) {
		close(fd);
		return -1;
	}
	memcpy(&state, page + offsetof(struct blix_header, state), sizeof(state));
	done = consumer_flags(fd, page) & BLIX_CONSUMER_DONE;
	ret_orphan->rank = !done						      ? 2
			   : state == BLIX_STATE_CLOSED || state == BLIX_STATE_EXITED ? 0
										      : 1;
	ret_orphan->born = st.st_mtim; /* stores through a mapping leave it at the allocation */
	snprintf(ret_orphan->name, sizeof(ret_orphan->name), "%s", name);
	return fd;
}

static bool goes_before(const struct orphan *a, const struct orphan *b)
{
	if (a->rank != b->rank)
		return a->rank < b->rank;
	if (a->born.tv_sec != b->born.tv_sec)
		return a->born.tv_sec < b->born.tv_sec;
	return a->born.tv_nsec < b->born.tv_nsec;
}

/* Count the orphans and find the one to discard first. A file whose lock is held (a forked child
 * still maps it) counts but cannot go. */
static uint32_t survey_orphans(const struct blix_publish *p, struct orphan *ret_first)
{
	int dir_fd = openat(p->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = dir_fd < 0 ? NULL : fdopendir(dir_fd);
	const struct dirent *entry;
	uint32_t n = 0;

	ret_first->name[0] = '\0';
	if (!dir) {
		if (dir_fd >= 0)
			close(dir_fd);
		return 0;
	}
	while ((entry = readdir(dir))) {
		struct orphan orphan;
		int fd = is_orphan_name(p, entry->d_name) ? open_orphan(p, entry->d_name, &orphan)
							  : -1;

		if (fd < 0)
			continue;
		n++;
		if (lock_byte0(fd) == 0 && (!ret_first->name[0] || goes_before(&orphan, ret_first)))
			*ret_first = orphan;
		close(fd);
	}
	closedir(dir);
	return n;
}

/* Remove one orphan if there are more than `keep`. 1: one is gone; 0: nothing to do, or to be had.
 */
static int discard_orphan(struct blix_publish *p, uint32_t keep)
{
	struct orphan first;
	struct orphan again;
	int removed = 0;
	int fd;

	if (survey_orphans(p, &first) <= keep || !first.name[0])
		return 0;
	fd = open_orphan(p, first.name, &again);
	if (fd < 0)
		return 0;
	if (lock_byte0(fd) == 0 && leads_to(p->dir_fd, first.name, fd) &&
	    unlinkat(p->dir_fd, first.name, 0) == 0)
		removed = 1;
	close(fd);
	p->orphans_discarded += (uint32_t)removed;
	return removed;
}

int blix_publish_name(struct blix_publish *p)
{
	int err = take_name(p);

	if (err < 0)
		return err;
	for (int i = 0; i < ORPHAN_PASSES && discard_orphan(p, BLIX_PUBLISH_ORPHANS_KEPT) > 0; i++)
		;
	blix_view_header(&p->view)->orphans_discarded = p->orphans_discarded;
	close(p->fd);
	close(p->dir_fd);
	p->fd = -1;
	p->dir_fd = -1;
	return 0;
}
