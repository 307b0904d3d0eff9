/* agent/export/resolve.h - a host name becomes addresses without the loop waiting.
 *
 * getaddrinfo() knows /etc/hosts, nsswitch and search domains and may wait for half a minute; it
 * runs in a thread of its own, one a resolution. Includes: libc; the implementation libevent and
 * pthread. Thread rule: called, and answers, on the loop thread. */
#ifndef BLIX_AGENT_EXPORT_RESOLVE_H
#define BLIX_AGENT_EXPORT_RESOLVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct event_base;
struct resolve;

enum { RESOLVE_ADDRESSES_MAX = 8 };

struct resolve_address {
	struct sockaddr_storage sa;
	socklen_t len;
};

/* error: 0, or an EAI_ code. addresses are valid during the call only. */
typedef void (*resolve_done)(void *arg, int error, const struct resolve_address *addresses,
			     unsigned n);

/* 0: done() comes from the loop, once, unless resolve_cancel() came first; *ret_resolve is invalid
 * after either. -ENOMEM, -EMFILE, -EAGAIN (no thread). */
int resolve_begin(struct event_base *base, const char *host, uint16_t port, bool is_number,
		  resolve_done done, void *arg, struct resolve **ret_resolve);
/* done() will not come. The thread ends by itself. Accepts NULL; returns NULL. */
struct resolve *resolve_cancel(struct resolve *r);

#endif
