/* agent/state.c - see state.h. */
#include "agent/state.h"
#include "agent/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LISTEN_BYTES_MAX = OPTIONS_TARGETS_MAX * (OPTIONS_PATH_MAX + ADDRESS_TEXT_MAX + 2) };

static const char listen_name[] = "listen";

static int make_path(const char *path)
{
	char part[OPTIONS_PATH_MAX];

	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	return mkdir(path, 0750) < 0 && errno != EEXIST ? -errno : 0;
}

static void set_problem(struct state *state, const char *what, int err)
{
	snprintf(state->problem, sizeof(state->problem),
		 "%s %s: %s; the last address is not kept (set STATE_DIRECTORY to a directory this "
		 "user may write)",
		 what, state->path, strerror(err));
}

static int find_path(struct state *state, const struct options *o)
{
	char error[OPTIONS_ERROR_MAX];
	int err;

	*state = (struct state){.dir = -1, .lock = -1};
	err = options_state_directory(o, getenv("STATE_DIRECTORY"), getenv("XDG_STATE_HOME"),
				      getenv("HOME"), geteuid() == 0, state->path, error);
	if (err)
		snprintf(state->problem, sizeof(state->problem), "%.1200s", error);
	return err;
}

void state_look(struct state *state, const struct options *o)
{
	if (find_path(state, o) == 0)
		state->dir = open(state->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

void state_open(struct state *state, const struct options *o)
{
	int err;

	if (find_path(state, o) < 0)
		return;
	err = make_path(state->path);
	if (!err)
		state->dir = open(state->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (err || state->dir < 0) {
		set_problem(state, "cannot use the state directory", err ? -err : errno);
		return;
	}
	state->lock = openat(state->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (state->lock < 0) {
		set_problem(state, "cannot write to the state directory", errno);
		return;
	}
	if (flock(state->lock, LOCK_EX | LOCK_NB) < 0) {
		snprintf(state->problem, sizeof(state->problem),
			 "the state directory %s belongs to another running agent; this one keeps "
			 "nothing there (give it its own by STATE_DIRECTORY)",
			 state->path);
		close(state->lock);
		state->lock = -1;
	}
}

void state_close(struct state *state)
{
	if (state->lock >= 0)
		close(state->lock);
	if (state->dir >= 0)
		close(state->dir);
	state->lock = state->dir = -1;
}

/* ---- the key of redaction -------------------------------------------------------------------- */

static const char key_name[] = "redaction.key";

static int read_key(const struct state *state, uint8_t ret_key[STATE_KEY_BYTES])
{
	int fd = openat(state->dir, key_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	uint8_t key[STATE_KEY_BYTES + 1];
	struct stat st;
	int err = 0;

	if (fd < 0)
		return errno == ELOOP ? -EPERM : -errno;
	if (fstat(fd, &st) < 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode) || (st.st_mode & 077) || st.st_uid != geteuid() ||
		 read(fd, key, sizeof(key)) != STATE_KEY_BYTES)
		err = -EPERM;
	close(fd);
	if (err == 0)
		memcpy(ret_key, key, STATE_KEY_BYTES);
	return err;
}

/* A crash leaves none or a whole one. The directory is locked, so nobody else is making it. */
static int make_key(const struct state *state, uint8_t ret_key[STATE_KEY_BYTES])
{
	static const char fresh[] = "redaction.key.new";
	uint8_t key[STATE_KEY_BYTES];
	int fd, err = 0;

	if (getrandom(key, sizeof(key), GRND_NONBLOCK) != (ssize_t)sizeof(key))
		return -EAGAIN;
	if (unlinkat(state->dir, fresh, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(state->dir, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	errno = 0;
	if (write(fd, key, sizeof(key)) != (ssize_t)sizeof(key) || fdatasync(fd) < 0)
		err = errno ? -errno : -EIO;
	if (close(fd) < 0 && !err)
		err = -errno;
	if (!err && renameat(state->dir, fresh, state->dir, key_name) < 0)
		err = -errno;
	if (err)
		unlinkat(state->dir, fresh, 0);
	else
		memcpy(ret_key, key, sizeof(key));
	return err;
}

int state_redaction_key(const struct state *state, uint8_t ret_key[STATE_KEY_BYTES])
{
	int err;

	if (state->lock < 0)
		return -EBADF;
	err = read_key(state, ret_key);
	return err == -ENOENT ? make_key(state, ret_key) : err;
}

const char *state_spool(const struct state *state, const struct options *o)
{
	if (o->spool[0])
		return o->spool;
	return state->lock >= 0 ? state->path : NULL;
}

/* ---- addresses ------------------------------------------------------------------------------- */

bool state_listen_line(const char *line, const char *shm, struct address *ret_address)
{
	char address[ADDRESS_TEXT_MAX], reason[ADDRESS_REASON_MAX];
	size_t len = strcspn(line, " ");

	if (!line[len] || len >= sizeof(address) || strcmp(line + len + 1, shm) != 0)
		return false;
	memcpy(address, line, len);
	address[len] = '\0';
	return address_parse(address, ret_address, reason) == 0;
}

int state_listen_read(const struct state *state, const char *shm, struct address *ret_address)
{
	char text[LISTEN_BYTES_MAX + 1];
	ssize_t n;
	int fd;

	if (state->dir < 0)
		return -ENOENT;
	fd = openat(state->dir, listen_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -ENOENT;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return -ENOENT;
	text[n] = '\0';
	for (char *line = text, *end; *line; line = end) {
		end = line + strcspn(line, "\n");
		if (*end)
			*end++ = '\0';
		if (state_listen_line(line, shm, ret_address))
			return 0;
	}
	return -ENOENT;
}

struct write_job {
	int dir; /* the state's; it stays open while the disk thread lives */
	int err;
	size_t len;
	char text[];
};

/* A crash leaves the old file or the new one. */
static int write_whole(const struct write_job *job)
{
	static const char fresh[] = "listen.new";
	int fd = openat(job->dir, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
			0644);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, job->text, job->len) != (ssize_t)job->len)
		err = errno ? -errno : -EIO;
	if (!err && fdatasync(fd) < 0)
		err = -errno;
	if (close(fd) < 0 && !err)
		err = -errno;
	if (!err && renameat(job->dir, fresh, job->dir, listen_name) < 0)
		err = -errno;
	if (err)
		unlinkat(job->dir, fresh, 0);
	return err;
}

static void write_work(void *arg)
{
	struct write_job *job = arg;

	errno = 0;
	job->err = write_whole(job);
}

static void write_done(void *arg)
{
	struct write_job *job = arg;

	if (job->err && job->err != -ECANCELED)
		log_repeated(LOG_LEVEL_WARNING, "state_unwritten", "state",
			     "cannot keep the address in the state directory: %s",
			     strerror(-job->err));
	free(job);
}

int state_listen_write(const struct state *state, struct disk *disk,
		       const struct options_target *targets, uint32_t n)
{
	struct write_job *job;
	int err;

	if (state->lock < 0)
		return -EBADF;
	job = malloc(sizeof(*job) + LISTEN_BYTES_MAX);
	if (!job)
		return -ENOMEM;
	job->dir = state->dir;
	job->err = -ECANCELED; /* until it has run */
	job->len = 0;
	for (uint32_t i = 0; i < n; i++) {
		char address[ADDRESS_TEXT_MAX];

		if (!targets[i].listens)
			continue;
		address_print(&targets[i].listen, address);
		job->len += (size_t)snprintf(job->text + job->len, LISTEN_BYTES_MAX - job->len,
					     "%s %s\n", address, targets[i].shm);
	}
	err = disk_submit(disk, write_work, write_done, job);
	if (err)
		free(job);
	return err;
}
