/* agent/export/transport.h - send bytes, get a verdict: what gRPC and HTTP have in common.
 *
 * A transport belongs to one destination and one signal. It owns its connections, reconnects by
 * itself, and answers each request exactly once, within the deadline, with one of a few verdicts.
 * It knows nothing of queues, spools and telemetry formats: what is sent is bytes.
 *
 * Thread rule: the loop thread; nothing here blocks (names are resolved without blocking, files of
 * certificates were read by the disk thread and are handed over as text). Includes: libc. */
#ifndef BLIX_AGENT_EXPORT_TRANSPORT_H
#define BLIX_AGENT_EXPORT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct transport;

/* ---- verdicts ---------------------------------------------------------------------------------- */

enum verdict_kind {
	VERDICT_ACCEPTED,  /* all of it, or all but `rejected` items; never to be sent again */
	VERDICT_RETRY,	   /* not now; send again after back-off, and not before delay_ms */
	VERDICT_THROTTLE,  /* as RETRY; the whole destination asked to be left alone for delay_ms */
	VERDICT_TOO_LARGE, /* split it and send the halves; if it cannot be split, drop it */
	VERDICT_REFUSED,   /* never will be accepted: drop and count */
	VERDICT_LOST,	   /* accepted or not, nobody knows: retry, may duplicate; counted apart */
	VERDICT_CONFIG, /* wrong address, protocol, certificate, credentials: retry slowly, say so */
	VERDICT_CANCELLED, /* by transport_cancel() or transport_free() */
	VERDICT_KINDS,
};
const char *verdict_name(enum verdict_kind kind); /* "accepted" ... */

enum { VERDICT_MESSAGE_MAX = 256 };

struct verdict {
	enum verdict_kind kind;
	uint64_t rejected; /* items the far end did not take (partial success) */
	uint32_t delay_ms; /* asked for by the far end; 0 = none; at most VERDICT_DELAY_MAX_MS */
	int code;	   /* gRPC status or HTTP status; -1: none was received */
	char message[VERDICT_MESSAGE_MAX]; /* one printable line without secrets; "" if nothing */
};
enum { VERDICT_DELAY_MAX_MS = 600000 };

/* ---- requests ---------------------------------------------------------------------------------- */

struct transport_header {
	const char *name; /* lower case */
	const char *value;
	bool secret; /* never in a log or message */
};

struct transport_request {
	/* The message itself: the transport adds framing and compression. Borrowed until the answer. */
	const uint8_t *body;
	size_t len;
	uint32_t timeout_ms; /* 0 = none is asked for, a bound of 10 minutes holds */
	/* Further headers of this request (an authenticator's), beside those of the configuration. */
	const struct transport_header *headers;
	uint32_t n_headers;
};

/* Called once a request, from the loop, never from within transport_send(). */
typedef void (*transport_done)(void *arg, const struct verdict *verdict);

/* ---- a transport ------------------------------------------------------------------------------- */

enum transport_protocol { TRANSPORT_GRPC, TRANSPORT_HTTP_PROTOBUF, TRANSPORT_HTTP_JSON };

struct transport_tls {
	/* PEM texts; NULL = the system's CAs, no client certificate. */
	const char *ca_pem;
	const char *client_cert_pem;
	const char *client_key_pem;
};

struct transport_options {
	enum transport_protocol protocol;
	/* scheme://host:port/path, validated. For gRPC its path is not looked at. */
	const char *url;
	/* gRPC: "/opentelemetry.proto.collector.trace.v1.TraceService/Export". HTTP: NULL. */
	const char *grpc_method;
	const struct transport_header *headers;
	uint32_t n_headers;
	bool gzip;
	struct transport_tls tls;
	const char *user_agent;
	uint32_t concurrency;	   /* requests under way at once; 0 = 1 */
	size_t response_bytes_max; /* before and after decompression; 0 = 4 MiB */
	/* What the body of a success says: true with the items rejected (may be 0) and a message, also
	 * where it cannot be read; false: nothing, the results stay as they are. NULL: a success is a
	 * success. `json`: the body is JSON. See otlp_partial(). */
	bool (*partial)(const uint8_t *body, size_t len, bool json, uint64_t *ret_rejected,
			char message[VERDICT_MESSAGE_MAX]);
};

/* Copies what it is given. The process ignores SIGPIPE. 0; -EINVAL the URL or a header; -EPROTO the TLS material (reason says which part);
 * -ENOMEM. Does not connect before the first request. */
int transport_new(struct event_base *base, const struct transport_options *options,
		  struct transport **ret_transport, char reason[VERDICT_MESSAGE_MAX]);
/* Accepts NULL, returns NULL. Every request under way ends CANCELLED before it returns; allowed within
 * done(). */
struct transport *transport_free(struct transport *t);

/* 0: done() will come. -EBUSY: `concurrency` requests are under way, or the transport is being freed.
 * -EINVAL: a header of the request cannot be sent. -EMSGSIZE: the body exceeds OTLP's 64 MiB.
 * -ENOMEM. */
int transport_send(struct transport *t, const struct transport_request *request,
		   transport_done done, void *arg);
/* Every request under way ends CANCELLED. */
void transport_cancel(struct transport *t);

struct transport_counts {
	uint64_t connections; /* opened since the start */
	uint32_t in_flight;
};
void transport_counts(const struct transport *t, struct transport_counts *ret_counts);

#endif
