/* agent/serve/listen.h - where one target's server listens, and how it gets there.
 *
 * Given an address it binds, and tries again with back-off while it cannot; a second address moves
 * the server, the first one being served until the second is there. A port is never shared
 * (no SO_REUSEPORT). Names are resolved, and the holder of a taken port is looked for, on the disk
 * thread. Thread rule: the loop thread. Includes: address.h; the implementation also libevent,
 * disk.h, log.h, options.h. */
#ifndef BLIX_AGENT_SERVE_LISTEN_H
#define BLIX_AGENT_SERVE_LISTEN_H

#include "agent/serve/address.h"

#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct disk;
struct event_base;
struct http;
struct listener;

enum { LISTEN_PROBLEM_MAX = 768, LISTEN_ADDRESSES_MAX = 4 };

struct listener_options {
	struct disk *disk; /* borrowed; NULL: names cannot be resolved, holders not be found */
	struct http *http; /* borrowed */
	const char *name;  /* of the target, for the log; borrowed */
	void (*changed)(
		void *arg); /* listening began, ended, or the problem changed; may be NULL */
	void *arg;
};

/* 0; -ENOMEM. Callbacks come from the loop, or from within listener_set(). */
int listener_new(struct event_base *base, const struct listener_options *options,
		 struct listener **ret_listener);
/* Accepts NULL; returns NULL. The sockets stay with the server. */
struct listener *listener_free(struct listener *l);

/* Listen there from now on. */
void listener_set(struct listener *l, const struct address *address);
/* It cannot be known where to listen; the sentence is logged and shown until listener_set(). */
void listener_set_problem(struct listener *l, const char *problem);

bool listener_is_up(const struct listener *l);
const char *listener_address(const struct listener *l); /* in use, else wanted; "" = none */
const char *listener_problem(const struct listener *l); /* "" = none */

/* ---- also for --check ------------------------------------------------------------------------ */

struct listen_addresses {
	uint32_t n;
	struct sockaddr_storage at[LISTEN_ADDRESSES_MAX];
	socklen_t len[LISTEN_ADDRESSES_MAX];
};

/* 0, or an EAI_* error for gai_strerror(). May wait for a name server unless numeric_only. */
int listen_resolve(const struct address *a, bool numeric_only, struct listen_addresses *ret);

/* A socket that listens on one of them: the descriptor, or as bind(2) and listen(2) say. */
int listen_bind(const struct sockaddr *at, socklen_t len);

/* What went wrong and what to do. `holder`: "pid 7 (name)", "" if unknown. */
void listen_explain(const struct address *a, int err, const char *holder,
		    char problem[LISTEN_PROBLEM_MAX]);

#endif
