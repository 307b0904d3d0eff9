/* agent/export/grpc.c - unary gRPC calls: the message made, the answer read.
 *
 * Connections and HTTP/2 are grpc_conn.c's. Includes agent/export, agent/encode (gzip), zlib.
 * Thread rule: the loop thread. */
#include "agent/encode/encode.h"
#include "agent/export/grpc_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

static struct grpc *grpc_of(struct grpc_call *c)
{
	return (struct grpc *)c->call.t;
}

/* ---- the message out ------------------------------------------------------------------------ */

static int grpc_prepare(struct call *call)
{
	struct grpc_call *c = (struct grpc_call *)call;
	const struct transport_request *r = &call->request;
	struct buf body = {.data = (uint8_t *)r->body, .len = r->len};
	uint8_t *prefix;
	uint32_t len;

	buf_init(&c->message, r->len + r->len / 8 + 1024);
	buf_init(&c->answer.body, 0);
	grpc_answer_reset(c);
	prefix = buf_room(&c->message, GRPC_PREFIX);
	if (!prefix)
		return -ENOMEM;
	buf_commit(&c->message, GRPC_PREFIX);
	if (!call->t->options.gzip)
		buf_add(&c->message, r->body, r->len);
	else if (encode_gzip(&body, &c->message) != 0)
		return -ENOMEM;
	if (c->message.failed)
		return -ENOMEM;
	len = (uint32_t)(c->message.len - GRPC_PREFIX);
	c->message.data[0] = call->t->options.gzip;
	for (int i = 0; i < 4; i++)
		c->message.data[1 + i] = (uint8_t)(len >> (24 - 8 * i));
	return 0;
}

static void grpc_release(struct call *call)
{
	struct grpc_call *c = (struct grpc_call *)call;

	buf_done(&c->message);
	buf_done(&c->answer.body);
	free(c->answer.details);
}

static void grpc_begin(struct call *call)
{
	struct grpc *g = (struct grpc *)call->t;
	struct verdict v;

	if (!g->current && conn_start(g) != 0) {
		verdict_make(&v, VERDICT_RETRY, VERDICT_CODE_NONE, "no connection: out of memory");
		call_finish(call, &v);
		return;
	}
	if (g->current && conn_is_up(g->current))
		conn_submit_waiting(g->current);
}

/* ---- the answer ----------------------------------------------------------------------------- */

void grpc_answer_reset(struct grpc_call *c)
{
	free(c->answer.details);
	buf_done(&c->answer.body);
	c->answer = (struct grpc_answer){.status = VERDICT_CODE_NONE};
	buf_init(&c->answer.body, c->call.t->options.response_bytes_max + GRPC_PREFIX);
	c->conn = NULL;
	c->stream_id = 0;
	c->sent = false;
	c->taken = 0;
}

void grpc_call_end(struct grpc_call *c, const struct verdict *v)
{
	c->conn = NULL;
	call_finish(&c->call, v);
}

/* Bounded before a byte is written: a small answer may unpack to anything. 0; -EBADMSG; -ENOSPC. */
static int inflate_message(const uint8_t *data, size_t len, struct buf *out)
{
	z_stream z = {.next_in = (Bytef *)data, .avail_in = (uInt)len};
	int state = Z_OK, err = -EBADMSG;

	if (inflateInit2(&z, 15 + 32) != Z_OK)
		return -ENOMEM;
	while (state == Z_OK) {
		uint8_t *room = buf_room(out, 4096);

		if (!room) {
			err = -ENOSPC;
			break;
		}
		z.next_out = room;
		z.avail_out = 4096;
		state = inflate(&z, Z_NO_FLUSH);
		buf_commit(out, 4096 - z.avail_out);
	}
	(void)inflateEnd(&z);
	return state == Z_STREAM_END ? 0 : err;
}

/* The one message of the answer: in place, or inflated into *out. */
static int read_message(const struct grpc_answer *a, struct buf *out, const uint8_t **ret_data,
			size_t *ret_len)
{
	const uint8_t *data = a->body.data;
	size_t len;

	if (a->body.len < GRPC_PREFIX || data[0] > 1)
		return -EBADMSG;
	len = (size_t)data[1] << 24 | (size_t)data[2] << 16 | (size_t)data[3] << 8 | data[4];
	if (len != a->body.len - GRPC_PREFIX || (data[0] && !a->gzip))
		return -EBADMSG;
	if (data[0]) {
		int err = inflate_message(data + GRPC_PREFIX, len, out);

		*ret_data = out->data;
		*ret_len = out->len;
		return err;
	}
	*ret_data = data + GRPC_PREFIX;
	*ret_len = len;
	return 0;
}

/* The server said OK: it has the data, whatever is the matter with the rest of its answer. */
static void read_success(struct grpc_call *c, struct verdict *v)
{
	const struct transport_options *o = &c->call.t->options;
	const uint8_t *data = NULL;
	struct buf inflated;
	size_t len = 0;
	int err;

	buf_init(&inflated, o->response_bytes_max);
	err = read_message(&c->answer, &inflated, &data, &len);
	if (err)
		snprintf(v->message, sizeof(v->message), "accepted, but the answer %s",
			 err == -ENOSPC ? "unpacks to more than is allowed" : "cannot be read");
	else if (o->partial)
		(void)o->partial(len ? data : (const uint8_t *)"", len, false, &v->rejected,
				 v->message);
	buf_done(&inflated);
}

/* No gRPC status: a proxy, another protocol, or a server that broke off. */
static void read_no_status(struct grpc_call *c, struct verdict *v)
{
	const struct grpc_answer *a = &c->answer;

	if (a->http_status && a->http_status != 200)
		verdict_from_http_proxy(a->http_status, a->retry_after[0] ? a->retry_after : NULL,
					time(NULL), v);
	else if (a->http_status && !a->is_grpc)
		verdict_make(v, VERDICT_CONFIG, VERDICT_CODE_NONE,
			     "endpoint is not gRPC (did you mean :4318 / http/protobuf?)");
	else
		verdict_make(v, c->sent ? VERDICT_LOST : VERDICT_RETRY, VERDICT_CODE_NONE,
			     "the stream ended without a status");
}

void grpc_call_closed(struct grpc_call *c, uint32_t h2_code)
{
	const struct grpc_answer *a = &c->answer;
	struct verdict v;

	if (h2_code == NGHTTP2_REFUSED_STREAM) {
		grpc_call_refused(c);
		return;
	}
	/* A status that came before a reset (a server that does not wait for all of the body and
	 * says so with NO_ERROR, or not) is the answer. Content that is not gRPC has none. */
	if (a->status != VERDICT_CODE_NONE && (a->is_grpc || a->http_status == 200))
		verdict_from_grpc(a->status, a->message, a->details, &v);
	else if (h2_code != NGHTTP2_NO_ERROR && !a->http_status)
		verdict_from_reset(h2_code, c->sent, &v);
	else
		read_no_status(c, &v);
	if (a->status != VERDICT_CODE_NONE && !a->is_grpc)
		verdict_make(&v, VERDICT_CONFIG, VERDICT_CODE_NONE,
			     "endpoint is not gRPC (did you mean :4318 / http/protobuf?)");
	if (h2_code != NGHTTP2_NO_ERROR && a->http_status == 200 && a->is_grpc &&
	    a->status == VERDICT_CODE_NONE)
		verdict_from_reset(h2_code, c->sent, &v);
	if (v.kind == VERDICT_ACCEPTED)
		read_success(c, &v);
	grpc_call_end(c, &v);
}

void grpc_call_refused(struct grpc_call *c)
{
	struct grpc *g = grpc_of(c);
	struct verdict v;

	if (++c->tries >= GRPC_TRIES_MAX) {
		verdict_make(&v, VERDICT_RETRY, VERDICT_CODE_NONE,
			     "the server refused the stream %u times", c->tries);
		grpc_call_end(c, &v);
		return;
	}
	grpc_answer_reset(c);
	/* The first time at once (a connection that drains), then with a breath between. */
	if (!evtimer_pending(g->again, NULL))
		transport_arm(g->again, c->tries == 1 ? 0 : GRPC_AGAIN_MS);
}

void grpc_call_cut(struct grpc_call *c, bool fatal, const char *why)
{
	enum verdict_kind kind = fatal ? VERDICT_CONFIG : c->sent ? VERDICT_LOST : VERDICT_RETRY;
	struct verdict v;

	verdict_make(&v, kind, VERDICT_CODE_NONE, "%s", why);
	/* A status that arrived without the end of its stream still is the server's word. */
	if (c->answer.status != VERDICT_CODE_NONE && c->answer.is_grpc && !fatal) {
		verdict_from_grpc(c->answer.status, c->answer.message, c->answer.details, &v);
		if (v.kind == VERDICT_ACCEPTED)
			read_success(c, &v);
	}
	grpc_call_end(c, &v);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	struct grpc *g = arg;
	struct call *c, *next;

	(void)fd;
	(void)what;
	if (g->current && conn_is_up(g->current)) {
		conn_submit_waiting(g->current);
		return;
	}
	if (g->current || TAILQ_EMPTY(&g->transport.active) || conn_start(g) == 0)
		return;
	for (c = TAILQ_FIRST(&g->transport.active); c; c = next) {
		next = TAILQ_NEXT(c, entry);
		if (!((struct grpc_call *)c)->conn)
			grpc_call_cut((struct grpc_call *)c, false, "no connection: out of memory");
	}
}

static void grpc_abandon(struct call *call, struct verdict *v)
{
	struct grpc_call *c = (struct grpc_call *)call;
	struct conn *conn = c->conn;

	if (!conn) {
		snprintf(v->message, sizeof(v->message), "no connection within the deadline");
		return;
	}
	/* All of it left: the server may have it. */
	if (c->sent && v->kind == VERDICT_RETRY)
		v->kind = VERDICT_LOST;
	c->conn = NULL;
	conn_drop_stream(conn, c, v->kind != VERDICT_CANCELLED);
}

/* ---- a transport ---------------------------------------------------------------------------- */

static int grpc_open(struct transport *t, char reason[VERDICT_MESSAGE_MAX])
{
	struct grpc *g = (struct grpc *)t;
	int err;

	g->port = t->url.port ? t->url.port : t->url.tls ? GRPC_TLS_PORT : GRPC_PORT;
	url_authority(&t->url, g->port, g->authority);
	g->again = evtimer_new(t->base, on_again, g);
	if (!g->again)
		return -ENOMEM;
	if (!t->url.tls)
		return 0;
	err = tls_context_new(&t->options.tls, &g->tls, reason);
	if (err)
		event_free(g->again);
	return err;
}

static void grpc_close(struct transport *t)
{
	struct grpc *g = (struct grpc *)t;

	if (g->current)
		conn_free(g->current);
	while (g->draining)
		conn_free(g->draining);
	event_free(g->again);
	SSL_CTX_free(g->tls);
}

const struct protocol grpc_protocol = {
	.transport_size = sizeof(struct grpc),
	.call_size = sizeof(struct grpc_call),
	.open = grpc_open,
	.close = grpc_close,
	.prepare = grpc_prepare,
	.begin = grpc_begin,
	.abandon = grpc_abandon,
	.release = grpc_release,
};
