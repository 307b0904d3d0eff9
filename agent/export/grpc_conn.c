/* agent/export/grpc_conn.c - a connection: resolved, connected, its HTTP/2 session, its end.
 *
 * A connection is `current` while it takes new streams. GOAWAY makes it draining: what runs on it
 * is answered there, what the server will not look at goes to a new one, nothing is lost. Calls are
 * found by their stream's number, never by a pointer kept in the session, so a call may end at any
 * time. Whoever hangs up or talks nonsense before any connection was HTTP/2 is the wrong endpoint,
 * which somebody has to mend; afterwards the same is a server that goes away. Nothing is freed inside a callback of nghttp2: `ending` is set and conn_pump() sees it.
 * Includes libevent, nghttp2, OpenSSL. Thread rule: the loop thread. */
#include "agent/export/grpc_private.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NOT_GRPC "endpoint is not gRPC (did you mean :4318 / http/protobuf?)"

struct conn {
	struct grpc *g;
	struct conn *next; /* of those that drain */
	bool up, is_draining, pumping;
	bool ending;	 /* close at the end of the pump */
	bool fatal;	 /* ... for a reason that somebody has to mend */
	bool calm;	 /* GOAWAY said "enhance your calm" */
	bool heard;	 /* a byte has come since the connection is up */
	bool cert_asked; /* the server asked for a client certificate */
	char why[VERDICT_MESSAGE_MAX];
	unsigned timeouts; /* in a row, nothing received between */
	struct resolve *resolve;
	struct resolve_address addresses[RESOLVE_ADDRESSES_MAX];
	unsigned n_addresses, at_address;
	struct event *timer; /* for connecting; later for a PING's answer */
	struct bufferevent *bev;
	nghttp2_session *session;
};

static void conn_end(struct conn *conn, bool fatal, const char *why)
{
	if (conn->ending)
		return;
	conn->ending = true;
	conn->fatal = fatal;
	snprintf(conn->why, sizeof(conn->why), "%s", why);
}

/* The peer ended it, or what came is not HTTP/2. */
static void conn_broken(struct conn *conn, const char *why)
{
	char text[VERDICT_MESSAGE_MAX];

	/* With TLS the handshake has agreed on HTTP/2. */
	if (conn->g->spoken || conn->g->tls) {
		conn_end(conn, false, why);
		return;
	}
	snprintf(text, sizeof(text), "%.120s: " NOT_GRPC, why);
	conn_end(conn, true, text);
}

bool conn_is_up(const struct conn *conn)
{
	return conn->up && !conn->ending;
}

static struct grpc_call *next_call(struct grpc_call *c)
{
	return (struct grpc_call *)TAILQ_NEXT(&c->call, entry);
}

static bool has_calls(const struct conn *conn)
{
	struct grpc_call *c = (struct grpc_call *)TAILQ_FIRST(&conn->g->transport.active);

	while (c && c->conn != conn)
		c = next_call(c);
	return c != NULL;
}

static struct grpc_call *find_call(struct conn *conn, int32_t stream_id)
{
	struct grpc_call *c = (struct grpc_call *)TAILQ_FIRST(&conn->g->transport.active);

	while (c && (c->conn != conn || c->stream_id != stream_id))
		c = next_call(c);
	return c;
}

/* ---- ends ----------------------------------------------------------------------------------- */

void conn_free(struct conn *conn)
{
	struct conn **at = &conn->g->draining;

	if (conn->g->current == conn)
		conn->g->current = NULL;
	while (*at && *at != conn)
		at = &(*at)->next;
	if (*at)
		*at = conn->next;
	resolve_cancel(conn->resolve);
	if (conn->timer)
		event_free(conn->timer);
	if (conn->session)
		nghttp2_session_del(conn->session);
	if (conn->bev)
		bufferevent_free(conn->bev);
	ERR_clear_error();
	free(conn);
}

/* Every call on it ends; while it was current and never up, those that wait for it, too. */
static void conn_close(struct conn *conn)
{
	struct grpc *g = conn->g;
	bool waited_for = g->current == conn && !conn->up, waiting = false;
	struct grpc_call *c = (struct grpc_call *)TAILQ_FIRST(&g->transport.active), *next;

	for (; c; c = next) {
		next = next_call(c);
		if (c->conn == conn || (!c->conn && (waited_for || conn->fatal)))
			grpc_call_cut(c, conn->fatal, conn->why);
		else if (!c->conn)
			waiting = true;
	}
	conn_free(conn);
	if (waiting && !g->current && !evtimer_pending(g->again, NULL))
		transport_arm(g->again, 0);
}

/* No new streams here; what runs is waited for. */
static void conn_drain(struct conn *conn)
{
	struct grpc *g = conn->g;
	struct conn *c, *oldest = NULL;
	unsigned n = 0;

	if (conn->is_draining)
		return;
	conn->is_draining = true;
	if (g->current == conn)
		g->current = NULL;
	conn->next = g->draining;
	g->draining = conn;
	for (c = g->draining; c; c = c->next, n++)
		oldest = c;
	if (n > GRPC_DRAINING_MAX && oldest && oldest != conn) {
		conn_end(oldest, false, "too many connections wait for their last answers");
		conn_close(oldest);
	}
}

/* ---- nghttp2's callbacks ---------------------------------------------------------------------- */

static bool name_is(const uint8_t *name, size_t len, const char *wanted)
{
	return strlen(wanted) == len && memcmp(name, wanted, len) == 0;
}

static void keep(char *to, size_t size, const uint8_t *value, size_t len)
{
	size_t n = len < size - 1 ? len : size - 1;

	memcpy(to, value, n);
	to[n] = '\0';
}

static void take_details(struct grpc_answer *a, const uint8_t *value, size_t len)
{
	free(a->details);
	a->details = len < VERDICT_DETAILS_MAX ? strndup((const char *)value, len) : NULL;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t len, uint8_t flags, void *arg)
{
	struct conn *conn = arg;
	struct grpc_call *c = find_call(conn, frame->hd.stream_id);
	struct grpc_answer *a = c ? &c->answer : NULL;

	(void)session;
	(void)flags;
	if (!a)
		return 0;
	a->header_bytes += name_len + len;
	if (a->header_bytes > GRPC_HEADER_BYTES_MAX)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (name_is(name, name_len, ":status"))
		a->http_status = len == 3 ? atoi((const char *)value) : 0;
	else if (name_is(name, name_len, "content-type"))
		a->is_grpc =
			len >= 16 && strncasecmp((const char *)value, "application/grpc", 16) == 0;
	else if (name_is(name, name_len, "grpc-status"))
		a->status = verdict_grpc_status((const char *)value, len);
	else if (name_is(name, name_len, "grpc-message"))
		keep(a->message, sizeof(a->message), value, len);
	else if (name_is(name, name_len, "grpc-status-details-bin"))
		take_details(a, value, len);
	else if (name_is(name, name_len, "grpc-encoding"))
		a->gzip = name_is(value, len, "gzip");
	else if (name_is(name, name_len, "retry-after"))
		keep(a->retry_after, sizeof(a->retry_after), value, len);
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
		   size_t len, void *arg)
{
	struct conn *conn = arg;
	struct grpc_call *c = find_call(conn, stream_id);
	struct verdict v;

	(void)flags;
	if (!c)
		return 0;
	buf_add(&c->answer.body, data, len);
	if (!c->answer.body.failed)
		return 0;
	verdict_make(&v, VERDICT_REFUSED, VERDICT_CODE_NONE,
		     "the answer is larger than is allowed");
	grpc_call_end(c, &v);
	return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_CANCEL)
		       ? NGHTTP2_ERR_CALLBACK_FAILURE
		       : 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t h2_code, void *arg)
{
	struct conn *conn = arg;
	struct grpc_call *c = find_call(conn, stream_id);

	(void)session;
	if (!c)
		return 0;
	if (c->answer.header_bytes > GRPC_HEADER_BYTES_MAX) {
		struct verdict v;

		verdict_make(&v, VERDICT_REFUSED, VERDICT_CODE_NONE,
			     "the answer's headers are larger than is allowed");
		grpc_call_end(c, &v);
		return 0;
	}
	if (conn->calm && h2_code == NGHTTP2_REFUSED_STREAM)
		grpc_call_refused(c, true);
	else
		grpc_call_closed(c, h2_code);
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct conn *conn = arg;

	(void)session;
	if (frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK))
		conn->g->spoken = true;
	if (frame->hd.type == NGHTTP2_GOAWAY) {
		conn->calm = frame->goaway.error_code == NGHTTP2_ENHANCE_YOUR_CALM;
		conn_drain(conn);
	}
	if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK))
		evtimer_del(conn->timer);
	return 0;
}

/* A request that could not leave any more: the server said GOAWAY before. */
static int on_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg)
{
	struct conn *conn = arg;
	struct grpc_call *c;

	(void)session;
	(void)error;
	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	c = find_call(conn, frame->hd.stream_id);
	if (c)
		grpc_call_refused(c, conn->calm);
	return 0;
}

static ssize_t on_take(nghttp2_session *session, int32_t stream_id, uint8_t *to, size_t size,
		       uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct grpc_call *c = find_call(arg, stream_id);
	size_t n;

	(void)session;
	(void)source;
	if (!c)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	n = c->message.len - c->taken;
	if (n > size)
		n = size;
	memcpy(to, c->message.data + c->taken, n);
	c->taken += n;
	if (c->taken == c->message.len) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		c->sent = true;
	}
	return (ssize_t)n;
}

static int session_new(struct conn *conn)
{
	nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, GRPC_HEADER_BYTES_MAX},
	};
	nghttp2_session_callbacks *callbacks;
	int err;

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		return -ENOMEM;
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_not_sent);
	err = nghttp2_session_client_new(&conn->session, callbacks, conn);
	nghttp2_session_callbacks_del(callbacks);
	if (err || nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings, 2) != 0)
		return -ENOMEM;
	return 0;
}

/* ---- requests out ----------------------------------------------------------------------------- */

static nghttp2_nv pair(const char *name, const char *value, bool secret)
{
	return (nghttp2_nv){
		.name = (uint8_t *)name,
		.value = (uint8_t *)value,
		.namelen = strlen(name),
		.valuelen = strlen(value),
		/* Not kept in the compression table, so no other stream can probe for it. */
		.flags = secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE,
	};
}

static size_t add_headers(nghttp2_nv *nv, const struct transport_header *headers, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		nv[i] = pair(headers[i].name, headers[i].value, headers[i].secret);
	return n;
}

static void submit(struct conn *conn, struct grpc_call *c)
{
	const struct transport_options *o = &c->call.t->options;
	nghttp2_data_provider body = {.read_callback = on_take};
	nghttp2_nv nv[2 * TRANSPORT_HEADERS_MAX + 12];
	char timeout[16];
	size_t n = 0;
	int32_t id;

	/* At most 8 digits, and TRANSPORT_TIMEOUT_MAX_MS has 6. */
	snprintf(timeout, sizeof(timeout), "%um", call_left_ms(&c->call) + 1);
	nv[n++] = pair(":method", "POST", false);
	nv[n++] = pair(":scheme", c->call.t->url.tls ? "https" : "http", false);
	nv[n++] = pair(":path", o->grpc_method, false);
	nv[n++] = pair(":authority", conn->g->authority, false);
	nv[n++] = pair("te", "trailers", false);
	nv[n++] = pair("content-type", "application/grpc", false);
	nv[n++] = pair("user-agent", o->user_agent, false);
	nv[n++] = pair("grpc-accept-encoding", "identity,gzip", false);
	nv[n++] = pair("grpc-timeout", timeout, false);
	if (o->gzip)
		nv[n++] = pair("grpc-encoding", "gzip", false);
	n += add_headers(nv + n, o->headers, o->n_headers);
	n += add_headers(nv + n, c->call.request.headers, c->call.request.n_headers);
	id = nghttp2_submit_request(conn->session, NULL, nv, n, &body, NULL);
	if (id < 0) {
		/* Out of stream numbers, or of memory: a new connection has both. */
		conn_drain(conn);
		grpc_call_refused(c, false);
		return;
	}
	c->conn = conn;
	c->stream_id = id;
}

void conn_submit_waiting(struct conn *conn)
{
	struct grpc_call *c = (struct grpc_call *)TAILQ_FIRST(&conn->g->transport.active), *next;

	for (; c && conn->g->current == conn; c = next) {
		next = next_call(c);
		if (!c->conn)
			submit(conn, c);
	}
	conn_pump(conn);
}

void conn_drop_stream(struct conn *conn, struct grpc_call *c, bool timed_out)
{
	nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, c->stream_id, NGHTTP2_CANCEL);
	if (timed_out) {
		/* Slow or gone? One PING asks; a second timeout without a byte between is answer
		 * enough. */
		if (++conn->timeouts >= 2)
			conn_end(conn, false, "the server does not answer: connection given up");
		else if (nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL) == 0)
			transport_arm(conn->timer, GRPC_PING_TIMEOUT_MS);
	}
	/* Not from here: the call is still being ended. */
	bufferevent_trigger(conn->bev, EV_WRITE,
			    BEV_TRIG_DEFER_CALLBACKS | BEV_TRIG_IGNORE_WATERMARKS);
}

/* ---- bytes ------------------------------------------------------------------------------------ */

static void pull(struct conn *conn)
{
	struct evbuffer *out = bufferevent_get_output(conn->bev);

	while (!conn->ending && evbuffer_get_length(out) < GRPC_OUTPUT_MAX) {
		const uint8_t *data;
		ssize_t n = nghttp2_session_mem_send(conn->session, &data);

		if (n < 0)
			conn_end(conn, false, nghttp2_strerror((int)n));
		if (n <= 0)
			return;
		if (evbuffer_add(out, data, (size_t)n) != 0)
			conn_end(conn, false, "out of memory");
	}
}

static void push(struct conn *conn)
{
	struct evbuffer *in = bufferevent_get_input(conn->bev);
	size_t len;

	while (!conn->ending && (len = evbuffer_get_contiguous_space(in)) > 0) {
		const uint8_t *data = evbuffer_pullup(in, (ev_ssize_t)len);
		ssize_t n;

		if (!conn->heard && len >= 5 && memcmp(data, "HTTP/", 5) == 0) {
			conn_end(conn, true, NOT_GRPC);
			return;
		}
		conn->heard = true;
		conn->timeouts = 0;
		n = nghttp2_session_mem_recv(conn->session, data, len);
		if (n < 0) {
			conn_broken(conn, nghttp2_strerror((int)n));
			return;
		}
		evbuffer_drain(in, (size_t)n);
	}
}

void conn_pump(struct conn *conn)
{
	if (conn->pumping)
		return;
	conn->pumping = true;
	if (conn->up) {
		push(conn);
		pull(conn);
	}
	conn->pumping = false;
	if (!conn->ending && conn->up && conn->is_draining && !has_calls(conn))
		conn_end(conn, false, "drained");
	if (!conn->ending && conn->up && !nghttp2_session_want_read(conn->session) &&
	    !nghttp2_session_want_write(conn->session))
		conn_broken(conn, "the HTTP/2 session has ended");
	if (conn->ending)
		conn_close(conn);
}

static void on_readable(struct bufferevent *bev, void *arg)
{
	(void)bev;
	conn_pump(arg);
}

/* ---- connecting ------------------------------------------------------------------------------- */

static void connect_next(struct conn *conn);

static void set_socket(struct conn *conn)
{
	int fd = bufferevent_getfd(conn->bev), one = 1;
	unsigned user_timeout_ms = TRANSPORT_USER_TIMEOUT_MS;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms,
			 sizeof(user_timeout_ms));
}

static bool alpn_is_h2(struct conn *conn)
{
	SSL *ssl = bufferevent_openssl_get_ssl(conn->bev);
	const unsigned char *name = NULL;
	unsigned len = 0;

	if (!ssl)
		return true;
	SSL_get0_alpn_selected(ssl, &name, &len);
	return len == 2 && memcmp(name, "h2", 2) == 0;
}

static void on_connected(struct conn *conn)
{
	evtimer_del(conn->timer);
	set_socket(conn);
	conn->up = true;
	conn->g->secured = conn->g->tls != NULL;
	conn->g->transport.connections++;
	if (!alpn_is_h2(conn))
		conn_end(conn, true,
			 "the TLS peer does not offer HTTP/2: endpoint is not gRPC (did you mean "
			 ":4318 / http/protobuf?)");
	else if (session_new(conn) != 0)
		conn_end(conn, false, "out of memory");
	if (conn->ending)
		conn_close(conn);
	else
		conn_submit_waiting(conn);
}

/* The next address, if this one was refused before anything was said. */
static bool try_next(struct conn *conn)
{
	if (conn->up || conn->fatal || conn->at_address >= conn->n_addresses)
		return false;
	bufferevent_free(conn->bev);
	conn->bev = NULL;
	conn->ending = false;
	connect_next(conn);
	return true;
}

/* The peer accepted the connection and cut it off instead of a TLS handshake, which no peer of this
 * transport has completed so far; another address may be a better one. */
static bool is_not_tls(const struct conn *conn, short what, int error)
{
	return conn->g->tls && !conn->up && !conn->g->secured &&
	       conn->at_address >= conn->n_addresses &&
	       (what & BEV_EVENT_EOF || error == 0 || error == ECONNRESET || error == EPIPE);
}

/* Why it ended, as a sentence; true when somebody has to mend it. */
static bool explain_end(const struct conn *conn, short what, int error,
			char why[VERDICT_MESSAGE_MAX])
{
	SSL *ssl = bufferevent_openssl_get_ssl(conn->bev);

	if (ssl && (what & BEV_EVENT_ERROR) &&
	    tls_explain(ssl, bufferevent_get_openssl_error(conn->bev), why))
		return true;
	/* TLS 1.3 refuses a client only after the handshake, and a reset may overtake the alert
	 * that says why. */
	if (conn->cert_asked && !conn->heard) {
		snprintf(why, VERDICT_MESSAGE_MAX,
			 "the server asked for a client certificate and closed the connection");
		return true;
	}
	if (is_not_tls(conn, what, error)) {
		snprintf(why, VERDICT_MESSAGE_MAX,
			 "the connection ended within the TLS handshake: does the endpoint speak "
			 "TLS (did you mean http://?)");
		return true;
	}
	if (conn->up)
		snprintf(why, VERDICT_MESSAGE_MAX, "the server closed the connection");
	else
		snprintf(why, VERDICT_MESSAGE_MAX, "connect: %s",
			 error ? evutil_socket_error_to_string(error) : "the connection ended");
	return false;
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct conn *conn = arg;
	int error = EVUTIL_SOCKET_ERROR();
	char why[VERDICT_MESSAGE_MAX];
	bool fatal;

	if (what & BEV_EVENT_CONNECTED) {
		on_connected(conn);
		return;
	}
	/* What came before the end counts: a GOAWAY, a status. */
	if (conn->up && !conn->ending && evbuffer_get_length(bufferevent_get_input(bev))) {
		conn->pumping = true;
		push(conn);
		conn->pumping = false;
	}
	fatal = explain_end(conn, what, error, why);
	if (conn->up && !fatal)
		conn_broken(conn, why);
	else
		conn_end(conn, fatal, why);
	if (!try_next(conn))
		conn_close(conn);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	(void)fd;
	(void)what;
	conn_end(conn, false,
		 conn->up ? "the server does not answer a PING: connection given up"
			  : "connect: no connection in time");
	if (!try_next(conn))
		conn_close(conn);
}

static int connect_to(struct conn *conn, const struct resolve_address *a)
{
	struct grpc *g = conn->g;
	SSL *ssl = NULL;

	if (g->tls) {
		ssl = tls_session_new(g->tls, &g->transport.url, &conn->cert_asked);
		if (!ssl)
			return -ENOMEM;
		conn->bev = bufferevent_openssl_socket_new(
			g->transport.base, -1, ssl, BUFFEREVENT_SSL_CONNECTING,
			BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
		if (!conn->bev)
			SSL_free(ssl);
	} else {
		conn->bev = bufferevent_socket_new(g->transport.base, -1,
						   BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	}
	if (!conn->bev)
		return -ENOMEM;
	if (ssl)
		bufferevent_openssl_set_allow_dirty_shutdown(conn->bev, 1);
	bufferevent_setcb(conn->bev, on_readable, on_readable, on_event, conn);
	bufferevent_setwatermark(conn->bev, EV_WRITE, GRPC_OUTPUT_LOW, 0);
	bufferevent_enable(conn->bev, EV_READ | EV_WRITE);
	transport_arm(conn->timer, TRANSPORT_CONNECT_TIMEOUT_MS);
	return bufferevent_socket_connect(conn->bev, (const struct sockaddr *)&a->sa, (int)a->len);
}

static void connect_next(struct conn *conn)
{
	while (conn->at_address < conn->n_addresses) {
		const struct resolve_address *a = &conn->addresses[conn->at_address++];

		if (connect_to(conn, a) == 0)
			return;
		if (conn->bev)
			bufferevent_free(conn->bev);
		conn->bev = NULL;
	}
	conn_end(conn, false, "connect: no address can be reached");
	transport_arm(conn->timer, 0);
}

static void on_resolved(void *arg, int error, const struct resolve_address *addresses, unsigned n)
{
	struct conn *conn = arg;
	char why[VERDICT_MESSAGE_MAX];

	conn->resolve = NULL;
	if (error) {
		snprintf(why, sizeof(why), "the host name cannot be resolved: %s",
			 gai_strerror(error));
		conn_end(conn, error == EAI_NONAME, why);
		conn_close(conn);
		return;
	}
	memcpy(conn->addresses, addresses, n * sizeof(*addresses));
	conn->n_addresses = n;
	connect_next(conn);
}

int conn_start(struct grpc *g)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	const struct url *url = &g->transport.url;

	if (!conn)
		return -ENOMEM;
	conn->g = g;
	conn->timer = evtimer_new(g->transport.base, on_timer, conn);
	if (!conn->timer || resolve_begin(g->transport.base, url->host, g->port, url->is_number,
					  on_resolved, conn, &conn->resolve) != 0) {
		if (conn->timer)
			event_free(conn->timer);
		free(conn);
		return -ENOMEM;
	}
	g->current = conn;
	return 0;
}
