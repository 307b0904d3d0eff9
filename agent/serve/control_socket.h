/* agent/serve/control_socket.h - the UNIX socket through which people change what is recorded.
 *
 * One line in, one line out, then the connection ends. What the lines mean is the business of
 * `answer`; here is everything that keeps a stranger, a slow client or a second agent away: file
 * mode 0660 and the peer's credentials, bounded lines, a deadline for each client, few clients at
 * once, and a lock beside the socket, so that a stale one is replaced and a live one never is.
 *
 * Thread rule: the loop thread. control_socket_open() opens a file, so it belongs before the loop;
 * everything else never sleeps. Includes: buf.h, log.h, libevent. */
#ifndef BLIX_AGENT_SERVE_CONTROL_SOCKET_H
#define BLIX_AGENT_SERVE_CONTROL_SOCKET_H

#include "agent/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	CONTROL_SOCKET_LINE_MAX = 4096, /* of a request, with its newline */
	CONTROL_SOCKET_REPLY_MAX = 256 << 10,
	CONTROL_SOCKET_CLIENTS_MAX = 8, /* further ones wait in the backlog */
	CONTROL_SOCKET_DEADLINE_S = 5,	/* from accept to the last byte */
	CONTROL_SOCKET_PROBLEM_MAX = 512,
};

struct event_base;
struct control_socket;

struct control_peer {
	pid_t pid;
	uid_t uid;
};

struct control_socket_options {
	const char *directory; /* made (0755) if missing; copied */
	const char *name;      /* of the file in it, without ".sock"; copied */
	/* Answer `line` (terminated, without its newline; foreign) with one line, without newline. */
	void (*answer)(void *arg, const struct control_peer *peer, const char *line, size_t len,
		       struct buf *reply);
	void *arg;
	uint32_t deadline_s; /* 0 = CONTROL_SOCKET_DEADLINE_S */
};

/* The directory by the environment's rules; the values may be NULL.
 * 0; -ENOENT: no rule applies; -ENAMETOOLONG. */
int control_socket_directory(const char *runtime_directory, const char *xdg_runtime_dir, bool root,
			     char *ret_path, size_t size);

/* Start. Where another process holds the socket, it is asked for again by control_socket_retry().
 * 0; -ENOMEM; -ENAMETOOLONG. That it could not listen yet is no error: see _problem(). */
int control_socket_open(struct event_base *base, const struct control_socket_options *options,
			struct control_socket **ret_socket);

/* Try again what did not work; costs nothing when everything does. */
void control_socket_retry(struct control_socket *s);

/* Why it does not listen; "" while it does. */
const char *control_socket_problem(const struct control_socket *s);
const char *control_socket_path(const struct control_socket *s);

/* Ends every connection, removes the socket file. Accepts NULL; returns NULL. */
struct control_socket *control_socket_close(struct control_socket *s);

/* May this peer give orders? The same user, root, or a member of the agent's group. Pure. */
bool control_socket_trusts(uid_t peer, const gid_t *groups, size_t n_groups, uid_t me,
			   gid_t my_group);

#endif
