/* agent/export/grpc_private.h - what the two halves of the gRPC transport share: grpc.c knows calls
 * and what their answers mean, grpc_conn.c knows connections and HTTP/2.
 *
 * Includes: agent/export, libevent, nghttp2, OpenSSL. Thread rule: the loop thread. */
#ifndef BLIX_AGENT_EXPORT_GRPC_PRIVATE_H
#define BLIX_AGENT_EXPORT_GRPC_PRIVATE_H

#include "agent/export/resolve.h"
#include "agent/export/tls.h"
#include "agent/export/transport_private.h"
#include "agent/export/verdict.h"

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <nghttp2/nghttp2.h>

enum {
	GRPC_PORT = 4317,
	GRPC_TLS_PORT = 443,
	GRPC_PREFIX = 5,	       /* flag and length before a message */
	GRPC_TRIES_MAX = 10,	       /* a stream that is refused is offered so often */
	GRPC_AGAIN_MS = 50,	       /* ... with this much time between */
	GRPC_HEADER_BYTES_MAX = 65536, /* of one answer */
	GRPC_DRAINING_MAX = 4,	       /* connections that only wait for their last answers */
	GRPC_PING_TIMEOUT_MS = 5000,
	GRPC_OUTPUT_MAX = 256 << 10, /* bytes given to the socket's buffer in advance */
	GRPC_OUTPUT_LOW = 64 << 10,
};

struct conn;

/* What has come of an answer so far. */
struct grpc_answer {
	int http_status;   /* 0: no header yet */
	int status;	   /* VERDICT_CODE_NONE: no grpc-status; the last one wins */
	bool is_grpc;	   /* content-type */
	bool gzip;	   /* grpc-encoding */
	bool bad_encoding; /* one we did not offer */
	size_t header_bytes;
	char message[VERDICT_MESSAGE_MAX * 3]; /* still percent-encoded */
	char retry_after[64];
	char *details; /* base64; NULL: none, or too long */
	struct buf body;
};

struct grpc_call {
	struct call call;
	struct conn *conn; /* NULL: waits for one */
	int32_t stream_id;
	unsigned tries;
	bool sent; /* the last byte was given to the connection */
	struct buf message;
	size_t taken; /* of the message */
	struct grpc_answer answer;
};

struct grpc {
	struct transport transport;
	SSL_CTX *tls;
	uint16_t port;
	char authority[URL_HOST_MAX + 9];
	struct conn *current;  /* takes new streams, or is on its way to */
	struct conn *draining; /* list */
	struct event *again;   /* refused streams are offered again */
	bool spoken;	       /* HTTP/2 (its SETTINGS) has come on some connection */
	bool secured;	       /* ... and some TLS handshake has been completed */
};

/* ---- grpc.c: a stream's end becomes a verdict ---- */

/* Forget what was received: the call will be offered again. */
void grpc_answer_reset(struct grpc_call *c);
/* The stream has ended by itself (h2_code 0) or was reset. */
void grpc_call_closed(struct grpc_call *c, uint32_t h2_code);
/* The server has certainly not looked at it (refused, above GOAWAY's last stream). `calm`: it asked
 * to be left alone, so it is not offered again at once. */
void grpc_call_refused(struct grpc_call *c, bool calm);
/* The connection ended under it. `fatal`: for a reason somebody has to mend. */
void grpc_call_cut(struct grpc_call *c, bool fatal, const char *why);
void grpc_call_end(struct grpc_call *c, const struct verdict *v);

/* ---- grpc_conn.c ---- */

/* Start one where there is none; g->current is then set unless there is no memory. */
int conn_start(struct grpc *g);
/* Give a connection that is up every call that waits. */
void conn_submit_waiting(struct conn *conn);
/* The deadline of a stream has passed, or it was cancelled. */
void conn_drop_stream(struct conn *conn, struct grpc_call *c, bool timed_out);
/* Send, receive, then close it if it has nothing left to do. */
void conn_pump(struct conn *conn);
void conn_free(struct conn *conn);
bool conn_is_up(const struct conn *conn);

#endif
