/* agent/export/transport_private.h - what transport.c shares with its two protocols.
 *
 * Calls are kept here: counted, timed, and answered from the loop exactly once, whatever a protocol
 * does. Includes: agent/export/transport.h, url.h, libc. Thread rule: the loop thread. */
#ifndef BLIX_AGENT_EXPORT_TRANSPORT_PRIVATE_H
#define BLIX_AGENT_EXPORT_TRANSPORT_PRIVATE_H

#include "agent/buf.h"
#include "agent/export/transport.h"
#include "agent/export/url.h"

#include <sys/queue.h>

enum {
	TRANSPORT_TIMEOUT_MAX_MS = 600000, /* where a request names none, or more */
	TRANSPORT_RESPONSE_MAX = 4 << 20,
	TRANSPORT_REQUEST_MAX = 64 << 20, /* OTLP's limit, before and after compression */
	TRANSPORT_CONNECT_TIMEOUT_MS = 10000,
	TRANSPORT_HEADERS_MAX = 128,	   /* of the configuration and of a request together */
	TRANSPORT_USER_TIMEOUT_MS = 20000, /* TCP_USER_TIMEOUT: sent and never acknowledged */
};

/* One request. Protocols put a struct of their own around it. */
struct call {
	TAILQ_ENTRY(call) entry;
	struct transport *t;
	struct transport_request request; /* borrowed */
	uint64_t deadline_ms;		  /* of the monotonic clock */
	struct event *timer;
	transport_done done;
	void *arg;
	bool finished; /* in t->finished with its verdict */
	struct verdict verdict;
};
TAILQ_HEAD(calls, call);

struct protocol {
	size_t transport_size, call_size;
	int (*open)(struct transport *t, char reason[VERDICT_MESSAGE_MAX]);
	void (*close)(struct transport *t); /* every call has been given back */
	/* Begin; from the loop. */
	int (*prepare)(struct call *c); /* within transport_send: make the message, nothing more */
	void (*begin)(struct call *c);
	/* Forget it: its deadline has passed or it is cancelled. Sets *v for a deadline. */
	void (*abandon)(struct call *c, struct verdict *v);
	void (*release)(struct call *c); /* free what prepare made */
};
extern const struct protocol grpc_protocol, http_protocol;

struct transport {
	const struct protocol *protocol;
	struct event_base *base;
	struct transport_options options; /* every text in it is ours */
	struct url url;
	struct calls fresh, active, finished;
	uint32_t n_calls;
	uint64_t connections;
	struct event *turn; /* begins fresh calls and delivers finished ones */
	bool closing;
	bool *gone; /* set when freed during a delivery */
};

uint64_t transport_now_ms(void);
int transport_arm(struct event *timer, uint32_t ms);
uint32_t call_left_ms(const struct call *c);
/* The call ends with this verdict; done() comes from the loop. Safe to call from any callback; the
 * protocol must not touch the call afterwards. */
void call_finish(struct call *c, const struct verdict *v);

#endif
