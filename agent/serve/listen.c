/* agent/serve/listen.c - see listen.h. */
#include "agent/serve/listen.h"
#include "agent/disk.h"
#include "agent/log.h"
#include "agent/options.h"
#include "agent/serve/http.h"
#include "agent/serve/port_holder.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the disk thread does for a listener: resolve a name, or find who holds the port. */
struct job {
	struct listener *listener; /* NULL: gone, or not interested any more */
	struct address address;
	bool ran;
	int err; /* holder: why the port was not to be had; resolve: EAI_* */
	struct listen_addresses addresses;
	char holder[PORT_HOLDER_NAME_MAX + 32];
};

struct listener {
	struct listener_options options;
	struct event *retry;
	uint32_t retry_s;
	bool known;
	struct address wanted;
	char wanted_text[ADDRESS_TEXT_MAX];
	struct address used;
	char used_text[ADDRESS_TEXT_MAX]; /* "" = never */
	bool up;
	char problem[LISTEN_PROBLEM_MAX];
	char log_key[LOG_KEY_MAX];
	struct job *job; /* under way; owned by the disk until its done */
};

/* ---- sockets --------------------------------------------------------------------------------- */

int listen_resolve(const struct address *a, bool numeric_only, struct listen_addresses *ret)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV | (numeric_only ? AI_NUMERICHOST : 0),
	};
	struct addrinfo *list = NULL;
	char port[8];
	int err;

	snprintf(port, sizeof(port), "%u", (unsigned int)a->port);
	err = getaddrinfo(a->host, port, &hints, &list);
	if (err)
		return err;
	ret->n = 0;
	for (const struct addrinfo *i = list; i && ret->n < LISTEN_ADDRESSES_MAX; i = i->ai_next) {
		if (i->ai_addrlen > sizeof(ret->at[0]))
			continue;
		memcpy(&ret->at[ret->n], i->ai_addr, i->ai_addrlen);
		ret->len[ret->n++] = i->ai_addrlen;
	}
	freeaddrinfo(list);
	return ret->n ? 0 : EAI_NONAME;
}

int listen_bind(const struct sockaddr *at, socklen_t len)
{
	int fd = socket(at->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), err;
	const int on = 1, off = 0;

	if (fd < 0)
		return -errno;
	/* Take the port although closed connections of a predecessor linger on it; this does not
	 * share it with anybody who listens. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* Accepted connections inherit it: see http.c. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (at->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, at, len) == 0 && listen(fd, HTTP_BACKLOG) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

void listen_explain(const struct address *a, int err, const char *holder,
		    char problem[LISTEN_PROBLEM_MAX])
{
	char text[ADDRESS_TEXT_MAX];
	size_t size = LISTEN_PROBLEM_MAX;

	address_print(a, text);
	switch (err) {
	case -EADDRINUSE:
		snprintf(problem, size,
			 "cannot listen on %s: the port is taken by %s; stop that program (a node "
			 "may "
			 "still run a metrics server of its own there), or give this agent another "
			 "address with --listen ADDR:PORT",
			 text, holder[0] ? holder : "another process");
		break;
	case -EADDRNOTAVAIL:
		snprintf(problem, size,
			 "cannot listen on %s: this host has no such address; use one of its own, "
			 "or "
			 "0.0.0.0 for all, with --listen ADDR:PORT",
			 text);
		break;
	case -EACCES:
		snprintf(problem, size,
			 "cannot listen on %s: not permitted; choose a port above 1023 with "
			 "--listen "
			 "ADDR:PORT, or grant CAP_NET_BIND_SERVICE",
			 text);
		break;
	default:
		snprintf(problem, size, "cannot listen on %s: %s", text, strerror(-err));
	}
}

/* ---- the machine ----------------------------------------------------------------------------- */

static void changed(struct listener *l)
{
	if (l->options.changed)
		l->options.changed(l->options.arg);
}

static void fail(struct listener *l, const char *problem)
{
	bool news = strcmp(l->problem, problem) != 0;

	snprintf(l->problem, sizeof(l->problem), "%s", problem);
	log_repeated(LOG_LEVEL_ERROR, "listen_failed", l->log_key, "%s: %s", l->options.name,
		     problem);
	if (news)
		changed(l);
}

static void try_later(struct listener *l)
{
	struct timeval after = {.tv_sec = l->retry_s};

	evtimer_add(l->retry, &after);
	l->retry_s = l->retry_s * 2 < LISTEN_RETRY_MAX_S ? l->retry_s * 2 : LISTEN_RETRY_MAX_S;
}

static void succeed(struct listener *l, uint32_t n_before)
{
	if (l->used_text[0])
		log_line(LOG_LEVEL_INFO, "listening",
			 "%s: now listening on http://%s/, no longer on %s", l->options.name,
			 l->wanted_text, l->used_text);
	else
		log_line(LOG_LEVEL_INFO, "listening", "%s: listening on http://%s/",
			 l->options.name, l->wanted_text);
	http_unlisten(l->options.http, n_before);
	l->used = l->wanted;
	l->up = true;
	snprintf(l->used_text, sizeof(l->used_text), "%s", l->wanted_text);
	l->problem[0] = '\0';
	l->retry_s = LISTEN_RETRY_MIN_S;
	log_settled(l->log_key);
	changed(l);
}

static void find_holder_work(void *arg)
{
	struct job *job = arg;
	char name[PORT_HOLDER_NAME_MAX];
	pid_t pid;

	if (port_holder_find(job->address.port, &pid, name) == 0)
		snprintf(job->holder, sizeof(job->holder), "pid %ld (%s)", (long)pid, name);
}

static void find_holder_done(void *arg)
{
	struct job *job = arg;
	struct listener *l = job->listener;
	char problem[LISTEN_PROBLEM_MAX];

	if (l) {
		l->job = NULL;
		listen_explain(&job->address, job->err, job->holder, problem);
		fail(l, problem);
	}
	free(job);
}

/* Hand a job over. False: it is not to be had now. */
static bool submit(struct listener *l, int err, void (*work)(void *), void (*done)(void *))
{
	struct job *job = l->options.disk ? calloc(1, sizeof(*job)) : NULL;

	if (!job)
		return false;
	job->listener = l;
	job->address = l->wanted;
	job->err = err;
	if (disk_submit(l->options.disk, work, done, job) < 0) {
		free(job);
		return false;
	}
	l->job = job;
	return true;
}

static void bind_all(struct listener *l, const struct listen_addresses *addresses);

static void bind_failed(struct listener *l, int err, const struct listen_addresses *addresses)
{
	char problem[LISTEN_PROBLEM_MAX];

	/* From 127.0.0.1:8001 to 0.0.0.0:8001: we are in our own way. */
	if (err == -EADDRINUSE && l->up && l->used.port == l->wanted.port) {
		http_unlisten(l->options.http, http_listening(l->options.http));
		l->up = false;
		bind_all(l, addresses);
		return;
	}
	try_later(l);
	if (err == -EADDRINUSE && submit(l, err, find_holder_work, find_holder_done))
		return;
	listen_explain(&l->wanted, err, "", problem);
	fail(l, problem);
}

/* A name may have several addresses (127.0.0.1 and ::1): all of them are listened on, but one that
 * this host does not have is no reason to fail while there is another. */
static void bind_all(struct listener *l, const struct listen_addresses *addresses)
{
	uint32_t before = http_listening(l->options.http), added = 0;
	int fds[LISTEN_ADDRESSES_MAX], err = 0;

	for (uint32_t i = 0; i < addresses->n; i++) {
		int fd = listen_bind((const struct sockaddr *)&addresses->at[i], addresses->len[i]);

		if (fd >= 0)
			fds[added++] = fd;
		else if (!err || err == -EADDRNOTAVAIL || err == -EAFNOSUPPORT)
			err = fd;
	}
	if (added && (err == -EADDRNOTAVAIL || err == -EAFNOSUPPORT))
		err = 0;
	for (uint32_t i = 0; i < added; i++) {
		if (err)
			close(fds[i]);
		else if (http_accept(l->options.http, fds[i]) < 0)
			err = http_listening(l->options.http) > before ? 0 : -ENOMEM;
	}
	if (err)
		bind_failed(l, err, addresses);
	else
		succeed(l, before);
}

static void resolved(struct listener *l, int err, const struct listen_addresses *addresses)
{
	char problem[LISTEN_PROBLEM_MAX];

	if (!err) {
		bind_all(l, addresses);
		return;
	}
	snprintf(problem, sizeof(problem),
		 "cannot listen on %s: the name does not resolve (%s); use a number, or another "
		 "name, "
		 "with --listen ADDR:PORT",
		 l->wanted_text, gai_strerror(err));
	try_later(l);
	fail(l, problem);
}

static void resolve_work(void *arg)
{
	struct job *job = arg;

	job->err = listen_resolve(&job->address, false, &job->addresses);
	job->ran = true;
}

static void resolve_done(void *arg)
{
	struct job *job = arg;
	struct listener *l = job->listener;

	if (l) {
		l->job = NULL;
		resolved(l, job->ran ? job->err : EAI_AGAIN, &job->addresses);
	}
	free(job);
}

static void try_now(struct listener *l)
{
	struct listen_addresses addresses;

	if (l->job) /* of an earlier attempt, which is of no interest any more */
		l->job->listener = NULL;
	l->job = NULL;
	if (listen_resolve(&l->wanted, true, &addresses) == 0)
		bind_all(l, &addresses);
	else if (!submit(l, 0, resolve_work, resolve_done))
		resolved(l, EAI_AGAIN, NULL);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	try_now(arg);
}

int listener_new(struct event_base *base, const struct listener_options *options,
		 struct listener **ret_listener)
{
	struct listener *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->options = *options;
	l->retry_s = LISTEN_RETRY_MIN_S;
	snprintf(l->log_key, sizeof(l->log_key), "listen %.140s", options->name);
	l->retry = evtimer_new(base, on_retry, l);
	if (!l->retry) {
		free(l);
		return -ENOMEM;
	}
	*ret_listener = l;
	return 0;
}

struct listener *listener_free(struct listener *l)
{
	if (!l)
		return NULL;
	if (l->job)
		l->job->listener = NULL;
	event_free(l->retry);
	free(l);
	return NULL;
}

void listener_set(struct listener *l, const struct address *address)
{
	if (l->known && address_equal(&l->wanted, address))
		return;
	l->known = true;
	l->wanted = *address;
	address_print(address, l->wanted_text);
	l->retry_s = LISTEN_RETRY_MIN_S;
	l->problem[0] = '\0';
	log_settled(l->log_key);
	evtimer_del(l->retry);
	if (l->up && !strcmp(l->wanted_text, l->used_text)) /* back to where it still is */
		changed(l);
	else
		try_now(l);
}

void listener_set_problem(struct listener *l, const char *problem)
{
	fail(l, problem);
}

bool listener_is_up(const struct listener *l)
{
	return l->up;
}

const char *listener_address(const struct listener *l)
{
	return l->up ? l->used_text : l->wanted_text;
}

const char *listener_problem(const struct listener *l)
{
	return l->problem;
}
