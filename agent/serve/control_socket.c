/* agent/serve/control_socket.c - see control_socket.h. */
#include "agent/serve/control_socket.h"
#include "agent/log.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { PATH_BYTES = sizeof(((struct sockaddr_un *)0)->sun_path), GROUPS_MAX = 256 };

struct client {
	struct control_socket *socket;
	struct bufferevent *stream; /* NULL: free */
	struct event *deadline;
	struct control_peer peer;
	bool answered;
};

struct control_socket {
	struct event_base *base;
	struct control_socket_options options;
	char directory[PATH_BYTES];
	char path[PATH_BYTES];
	char problem[CONTROL_SOCKET_PROBLEM_MAX];
	int lock; /* of path + ".lock"; -1 = not open */
	bool locked;
	int fd; /* listening; -1 = not */
	struct event *readable;
	struct client clients[CONTROL_SOCKET_CLIENTS_MAX];
};

/* ---- where ------------------------------------------------------------------------------------ */

int control_socket_directory(const char *runtime_directory, const char *xdg_runtime_dir, bool root,
			     char *ret_path, size_t size)
{
	int n;

	/* systemd joins several directories by colons; ours is the first. */
	if (runtime_directory && runtime_directory[0] == '/')
		n = snprintf(ret_path, size, "%.*s", (int)strcspn(runtime_directory, ":"),
			     runtime_directory);
	else if (root)
		n = snprintf(ret_path, size, "/run/blixard");
	else if (xdg_runtime_dir && xdg_runtime_dir[0] == '/')
		n = snprintf(ret_path, size, "%s/blixard", xdg_runtime_dir);
	else
		return -ENOENT;
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

__attribute__((format(printf, 2, 3))) static void set_problem(struct control_socket *s,
							      const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(s->problem, sizeof(s->problem), format, args);
	va_end(args);
}

/* ---- clients ---------------------------------------------------------------------------------- */

static void accept_again(struct control_socket *s)
{
	if (s->readable)
		event_add(s->readable, NULL);
}

static void client_end(struct client *c)
{
	struct control_socket *s = c->socket;

	if (c->deadline)
		event_free(c->deadline);
	if (c->stream)
		bufferevent_free(c->stream);
	*c = (struct client){0};
	accept_again(s);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	client_end(arg);
}

static void on_written(struct bufferevent *stream, void *arg)
{
	struct client *c = arg;

	(void)stream;
	if (c->answered)
		client_end(c);
}

static void reply(struct client *c, const char *line, size_t len)
{
	struct buf text;

	buf_init(&text, CONTROL_SOCKET_REPLY_MAX);
	c->socket->options.answer(c->socket->options.arg, &c->peer, line, len, &text);
	c->answered = true;
	bufferevent_disable(c->stream, EV_READ);
	if (text.failed || bufferevent_write(c->stream, text.data, text.len) < 0 ||
	    bufferevent_write(c->stream, "\n", 1) < 0)
		client_end(c);
	buf_done(&text);
}

static void on_readable(struct bufferevent *stream, void *arg)
{
	struct client *c = arg;
	struct evbuffer *in = bufferevent_get_input(stream);
	size_t len;
	char *line;

	if (c->answered)
		return;
	line = evbuffer_readln(in, &len, EVBUFFER_EOL_LF);
	if (line && len < CONTROL_SOCKET_LINE_MAX)
		reply(c, line, len);
	else if (line || evbuffer_get_length(in) >= CONTROL_SOCKET_LINE_MAX)
		reply(c, "", 0); /* too long: answered like any line that is no request */
	free(line);
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
	struct client *c = arg;

	(void)stream;
	/* A client may say that it will send no more, and still wait for its answer. */
	if ((what & BEV_EVENT_EOF) && c->answered)
		return;
	client_end(c);
}

/* ---- who -------------------------------------------------------------------------------------- */

bool control_socket_trusts(uid_t peer, const gid_t *groups, size_t n_groups, uid_t me,
			   gid_t my_group)
{
	if (peer == 0 || peer == me)
		return true;
	for (size_t i = 0; i < n_groups; i++)
		if (groups[i] == my_group)
			return true;
	return false;
}

static bool is_trusted(int fd, struct control_peer *ret_peer)
{
	gid_t groups[GROUPS_MAX + 1];
	socklen_t groups_len = GROUPS_MAX * sizeof(groups[0]), len = sizeof(struct ucred);
	struct ucred peer;
	size_t n = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || len != sizeof(peer))
		return false;
	/* More groups than fit: only the first one counts. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &groups_len) == 0)
		n = groups_len / sizeof(groups[0]);
	groups[n++] = peer.gid;
	*ret_peer = (struct control_peer){.pid = peer.pid, .uid = peer.uid};
	return control_socket_trusts(peer.uid, groups, n, geteuid(), getegid());
}

static int client_start(struct client *c, struct control_socket *s, int fd)
{
	const struct timeval until = {.tv_sec = s->options.deadline_s};

	*c = (struct client){.socket = s};
	if (!is_trusted(fd, &c->peer)) {
		log_repeated(LOG_LEVEL_WARNING, "control_stranger", "control peer",
			     "%s: refused process %d of user %u: only this agent's user and group, "
			     "and root, give orders here",
			     s->path, (int)c->peer.pid, (unsigned int)c->peer.uid);
		close(fd);
		*c = (struct client){0};
		return -EPERM;
	}
	c->stream = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c->stream)
		close(fd);
	c->deadline = c->stream ? evtimer_new(s->base, on_deadline, c) : NULL;
	if (!c->deadline || evtimer_add(c->deadline, &until) < 0) {
		client_end(c);
		return -ENOMEM;
	}
	bufferevent_setcb(c->stream, on_readable, on_written, on_event, c);
	bufferevent_setwatermark(c->stream, EV_READ, 0, CONTROL_SOCKET_LINE_MAX);
	bufferevent_enable(c->stream, EV_READ | EV_WRITE);
	return 0;
}

static struct client *client_free_place(struct control_socket *s)
{
	for (size_t i = 0; i < CONTROL_SOCKET_CLIENTS_MAX; i++)
		if (!s->clients[i].stream)
			return &s->clients[i];
	return NULL;
}

static void on_connection(evutil_socket_t fd, short what, void *arg)
{
	struct control_socket *s = arg;
	struct client *place = client_free_place(s);
	int peer;

	(void)what;
	if (!place) {
		event_del(s->readable); /* until somebody leaves */
		return;
	}
	peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (peer < 0) {
		if (errno == EMFILE || errno == ENFILE)
			event_del(s->readable); /* until control_socket_retry() */
		return;
	}
	(void)client_start(place, s, peer);
}

/* ---- the socket ------------------------------------------------------------------------------- */

static void lock_open(struct control_socket *s)
{
	char path[PATH_BYTES + 8];

	if (mkdir(s->directory, 0755) < 0 && errno != EEXIST) {
		set_problem(s, "cannot make the directory %s: %s", s->directory, strerror(errno));
		return;
	}
	snprintf(path, sizeof(path), "%s.lock", s->path);
	s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (s->lock < 0)
		set_problem(s, "cannot write %s: %s", path, strerror(errno));
}

/* The lock is ours, so a socket that lies there belongs to nobody: its agent is gone. */
static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), err;
	struct stat st;
	mode_t mask;

	if (fd < 0)
		return -errno;
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		(void)unlink(path); /* if that fails, bind says so */
	mask = umask(0117);	    /* the mode from the first moment on */
	err = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	(void)umask(mask);
	if (!err && listen(fd, CONTROL_SOCKET_CLIENTS_MAX) < 0)
		err = -errno;
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static void try_listen(struct control_socket *s)
{
	int fd;

	if (s->fd >= 0 || s->lock < 0)
		return;
	if (!s->locked && flock(s->lock, LOCK_EX | LOCK_NB) < 0) {
		set_problem(s, "%s belongs to another running agent; this one takes no orders",
			    s->path);
		return;
	}
	s->locked = true;
	fd = listen_at(s->path);
	if (fd < 0) {
		set_problem(s, "cannot listen on %s: %s", s->path, strerror(-fd));
		return;
	}
	s->readable = event_new(s->base, fd, EV_READ | EV_PERSIST, on_connection, s);
	if (!s->readable) {
		close(fd);
		return;
	}
	s->fd = fd;
	s->problem[0] = '\0';
	accept_again(s);
	log_line(LOG_LEVEL_INFO, "control_listening", "taking orders on %s", s->path);
}

int control_socket_open(struct event_base *base, const struct control_socket_options *options,
			struct control_socket **ret_socket)
{
	struct control_socket *s = calloc(1, sizeof(*s));
	int n, m;

	if (!s)
		return -ENOMEM;
	s->base = base;
	s->options = *options;
	if (!s->options.deadline_s)
		s->options.deadline_s = CONTROL_SOCKET_DEADLINE_S;
	s->lock = s->fd = -1;
	n = snprintf(s->directory, sizeof(s->directory), "%s", options->directory);
	m = snprintf(s->path, sizeof(s->path), "%s/%s.sock", options->directory, options->name);
	if (n >= (int)sizeof(s->directory) || m >= (int)sizeof(s->path)) {
		free(s);
		return -ENAMETOOLONG;
	}
	lock_open(s);
	try_listen(s);
	if (s->problem[0])
		log_line(LOG_LEVEL_WARNING, "control_unreachable", "%s", s->problem);
	*ret_socket = s;
	return 0;
}

void control_socket_retry(struct control_socket *s)
{
	if (!s)
		return;
	try_listen(s);
	if (s->readable && client_free_place(s))
		accept_again(s);
}

const char *control_socket_problem(const struct control_socket *s)
{
	return s->problem;
}

const char *control_socket_path(const struct control_socket *s)
{
	return s->path;
}

struct control_socket *control_socket_close(struct control_socket *s)
{
	if (!s)
		return NULL;
	for (size_t i = 0; i < CONTROL_SOCKET_CLIENTS_MAX; i++)
		if (s->clients[i].stream)
			client_end(&s->clients[i]);
	if (s->readable)
		event_free(s->readable);
	if (s->fd >= 0) {
		(void)unlink(s->path); /* before the lock goes: it is still ours */
		close(s->fd);
	}
	if (s->lock >= 0)
		close(s->lock);
	free(s);
	return NULL;
}
