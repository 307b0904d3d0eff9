/* agent/serve/http.c - see http.h.
 *
 * Two things about evhttp decide how fast a scrape is. It leaves Nagle's algorithm on and writes
 * at most 16 KiB at a time, so a larger body waits for a delayed acknowledgement: 40 ms for each
 * scrape. Here the listening socket has TCP_NODELAY (accepted ones inherit it; listen.c) and every
 * connection writes up to HTTP_WRITE_BYTES_MAX at once.
 *
 * evhttp does not say when a connection ends, so the table of connections keeps each socket's
 * inode: a descriptor that is closed, or is another socket by now, has another one or none. */
#include "agent/serve/http.h"
#include "agent/log.h"
#include "agent/options.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct connection {
	struct http *http;
	struct bufferevent *fresh; /* accepted in this turn of the loop, descriptor not known yet */
	int fd;			   /* -1 = free, unless fresh */
	ino_t inode;
	uint64_t request_ns;  /* a request began to arrive then; 0 = none */
	uint64_t response_ns; /* a response must be gone by then; 0 = none */
};

struct http {
	LIST_ENTRY(http) link;
	struct event_base *base;
	const struct serve_source *source;
	struct evhttp *evhttp;
	struct {
		struct evconnlistener *listener;
		struct evhttp_bound_socket *bound;
	} listeners[HTTP_LISTENERS_MAX];
	uint32_t n_listeners;
	bool paused;
	struct event *adopt; /* learn the descriptors of fresh connections */
	struct event *sweep; /* end slow connections; pending only while one might be slow */
	struct connection connections[HTTP_CONNECTIONS_MAX];
	struct buf body;
	struct buf packed;
	struct serve_counts counts;
};

/* evhttp keeps the argument of a listener's callbacks for itself, so that the error callback has to
 * look for the server it is about. */
static LIST_HEAD(, http) servers = LIST_HEAD_INITIALIZER(servers);

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- connections ----------------------------------------------------------------------------- */

static bool is_used(const struct connection *c)
{
	return c->fresh || c->fd >= 0;
}

/* Does the descriptor still lead to this connection's socket? */
static bool is_alive(const struct connection *c)
{
	struct stat st;

	return c->fresh || (c->fd >= 0 && fstat(c->fd, &st) == 0 && S_ISSOCK(st.st_mode) &&
			    st.st_ino == c->inode);
}

/* Forget connections that have ended; returns a free entry, NULL if there is none. */
static struct connection *find_free(struct http *h)
{
	struct connection *found = NULL;

	h->counts.connections = 0;
	for (uint32_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		struct connection *c = &h->connections[i];

		if (!is_alive(c))
			c->fd = -1;
		if (is_used(c))
			h->counts.connections++;
		else
			found = c;
	}
	return found;
}

static struct connection *connection_of(struct http *h, int fd)
{
	for (uint32_t i = 0; i < HTTP_CONNECTIONS_MAX; i++)
		if (h->connections[i].fd == fd && is_alive(&h->connections[i]))
			return &h->connections[i];
	return NULL;
}

static void watch(struct http *h)
{
	static const struct timeval soon = {.tv_sec = HTTP_SWEEP_S};

	if (!evtimer_pending(h->sweep, NULL))
		evtimer_add(h->sweep, &soon);
}

static void set_paused(struct http *h, bool paused)
{
	for (uint32_t i = 0; i < h->n_listeners; i++) {
		if (paused)
			evconnlistener_disable(h->listeners[i].listener);
		else
			evconnlistener_enable(h->listeners[i].listener);
	}
	h->paused = paused;
}

/* Bytes came in: unless a request is known to be arriving, one begins. */
static void on_input(struct evbuffer *input, const struct evbuffer_cb_info *info, void *arg)
{
	struct connection *c = arg;

	(void)input;
	if (info->n_added && !c->request_ns) {
		c->request_ns = now_ns();
		watch(c->http);
	}
}

/* evhttp wants a bufferevent for a connection it has accepted; the descriptor follows later. */
static struct bufferevent *on_accept(struct event_base *base, void *arg)
{
	struct http *h = arg;
	struct bufferevent *bev = bufferevent_socket_new(base, -1, 0);
	struct connection *c = find_free(h);

	if (!bev)
		return NULL;
	bufferevent_set_max_single_write(bev, HTTP_WRITE_BYTES_MAX);
	assert(c); /* accepting pauses before the table is full */
	bufferevent_incref(bev);
	*c = (struct connection){.http = h, .fresh = bev, .fd = -1, .request_ns = now_ns()};
	evbuffer_add_cb(bufferevent_get_input(bev), on_input, c);
	h->counts.connections++;
	if (h->counts.connections == HTTP_CONNECTIONS_MAX) {
		h->counts.full++;
		set_paused(h, true);
	}
	event_active(h->adopt, 0, 0);
	watch(h);
	return bev;
}

static void on_adopt(evutil_socket_t fd, short what, void *arg)
{
	struct http *h = arg;

	(void)fd, (void)what;
	for (uint32_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		struct connection *c = &h->connections[i];
		struct stat st;

		if (!c->fresh)
			continue;
		c->fd = bufferevent_getfd(c->fresh);
		if (c->fd >= 0 && fstat(c->fd, &st) == 0)
			c->inode = st.st_ino;
		else
			c->fd = -1;
		bufferevent_decref(c->fresh);
		c->fresh = NULL;
	}
}

/* Shut down what is too slow; evhttp then sees the end of it and cleans up. */
static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
	struct http *h = arg;
	uint64_t now = now_ns();
	bool again = false;

	(void)fd, (void)what;
	find_free(h);
	for (uint32_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		struct connection *c = &h->connections[i];

		if (c->fd < 0 || (!c->request_ns && !c->response_ns))
			continue;
		if ((c->request_ns &&
		     now - c->request_ns > HTTP_REQUEST_S * UINT64_C(1000000000)) ||
		    (c->response_ns && now > c->response_ns)) {
			shutdown(c->fd, SHUT_RDWR);
			h->counts.timed_out++;
			c->request_ns = c->response_ns = 0;
			continue;
		}
		again = true;
	}
	if (h->paused && h->counts.connections < HTTP_CONNECTIONS_MAX)
		set_paused(h, false);
	if (again || h->paused)
		watch(h);
}

/* accept() failed, which may repeat at once: out of descriptors. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	int err = errno;
	struct http *h;

	(void)arg;
	log_repeated(LOG_LEVEL_WARNING, "accept_failed", "accept",
		     "cannot accept a connection: %s; waiting a moment", strerror(err));
	LIST_FOREACH(h, &servers, link)
	{
		for (uint32_t i = 0; i < h->n_listeners; i++) {
			if (h->listeners[i].listener == listener) {
				set_paused(h, true);
				watch(h);
			}
		}
	}
}

/* ---- requests -------------------------------------------------------------------------------- */

static const struct route {
	const char *path;
	serve_handler *handle;
} routes[] = {
	{"/", serve_page},	 {"/metrics", serve_metrics}, {"/health", serve_health},
	{"/ready", serve_ready}, {"/live", serve_live},	      {"/status.json", serve_status_json},
};

static const struct route *find_route(const char *path)
{
	for (size_t i = 0; path && i < sizeof(routes) / sizeof(routes[0]); i++)
		if (!strcmp(routes[i].path, path))
			return &routes[i];
	return NULL;
}

/* Replace the body by its gzip form where that is wanted and worth it. Returns what to send. */
static const struct buf *pack(struct http *h, struct evhttp_request *req,
			      const struct serve_request *request)
{
	if (h->body.len <= HTTP_GZIP_FROM_BYTES || !encode_accepts_gzip(request->accept_encoding))
		return &h->body;
	buf_clear(&h->packed);
	if (encode_gzip(&h->body, &h->packed) < 0 || h->packed.failed)
		return &h->body; /* larger, and as good */
	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Encoding", "gzip");
	return &h->packed;
}

static void add_headers(struct evhttp_request *req, const struct serve_response *response)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);

	evhttp_add_header(headers, "Content-Type", response->content_type);
	evhttp_add_header(headers, "Vary", "Accept, Accept-Encoding");
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	evhttp_add_header(headers, "Content-Security-Policy",
			  response->policy[0] ? response->policy
					      : "default-src 'none'; frame-ancestors 'none'");
}

static void on_response_gone(struct evhttp_request *req, void *arg)
{
	struct connection *c = arg;
	struct evhttp_connection *connection = evhttp_request_get_connection(req);

	c->response_ns = 0;
	/* A pipelined request may have begun to arrive meanwhile. */
	if (connection && evbuffer_get_length(bufferevent_get_input(
				  evhttp_connection_get_bufferevent(connection))) > 0) {
		c->request_ns = now_ns();
		watch(c->http);
	}
}

/* The response's time begins. */
static void set_deadline(struct http *h, struct evhttp_request *req, uint64_t deadline_ns)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(req);
	uint64_t limit = HTTP_RESPONSE_S * UINT64_C(1000000000);
	struct connection *c;

	c = connection_of(h, bufferevent_getfd(evhttp_connection_get_bufferevent(connection)));
	if (!c)
		return;
	c->request_ns = 0;
	c->response_ns = now_ns() + (deadline_ns && deadline_ns < limit ? deadline_ns : limit);
	evhttp_request_set_on_complete_cb(req, on_response_gone, c);
	watch(h);
}

static void send_response(struct http *h, struct evhttp_request *req,
			  const struct serve_request *request,
			  const struct serve_response *response)
{
	struct evbuffer *out = evhttp_request_get_output_buffer(req);
	const struct buf *body = pack(h, req, request);
	char length[24];

	add_headers(req, response);
	/* evhttp counts only what it sends, and of a HEAD's body it sends nothing. */
	snprintf(length, sizeof(length), "%zu", body->len);
	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Length", length);
	if (evhttp_request_get_command(req) != EVHTTP_REQ_HEAD)
		evbuffer_add(out, body->data, body->len);
	if (response->code >= 400)
		h->counts.refused++;
	set_deadline(h, req, response->deadline_ns);
	evhttp_send_reply(req, response->code, NULL, NULL);
}

static void dispatch(struct http *h, struct evhttp_request *req,
		     const struct serve_request *request, struct serve_response *response)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const struct route *route = uri ? find_route(evhttp_uri_get_path(uri)) : NULL;
	enum evhttp_cmd_type method = evhttp_request_get_command(req);

	if (!uri) {
		serve_text(response, 400, "malformed request");
	} else if (!route) {
		serve_text(response, 404, "no such page: / links to all there are");
	} else if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
		evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", "GET, HEAD");
		serve_text(response, 405, "only GET and HEAD here");
	} else {
		route->handle(h->source, request, response);
	}
}

/* A buffer that one large answer made big does not stay so. */
static void shrink(struct buf *b)
{
	if (b->capacity > HTTP_KEEP_BYTES) {
		buf_done(b);
		buf_init(b, HTTP_BODY_OUT_MAX);
	}
}

static void on_request(struct evhttp_request *req, void *arg)
{
	struct http *h = arg;
	struct evkeyvalq *headers = evhttp_request_get_input_headers(req);
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	struct serve_request request = {
		.query = uri ? evhttp_uri_get_query(uri) : NULL,
		.accept = evhttp_find_header(headers, "Accept"),
		.accept_encoding = evhttp_find_header(headers, "Accept-Encoding"),
		.scrape_timeout =
			evhttp_find_header(headers, "X-Prometheus-Scrape-Timeout-Seconds"),
	};
	struct serve_response response = {.code = 500, .body = &h->body};

	buf_clear(&h->body);
	h->counts.requests++;
	dispatch(h, req, &request, &response);
	assert(response.content_type);
	send_response(h, req, &request, &response);
	shrink(&h->body);
	shrink(&h->packed);
}

/* ---- life ------------------------------------------------------------------------------------ */

int http_new(struct event_base *base, const struct serve_source *source, struct http **ret_http)
{
	struct http *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	LIST_INSERT_HEAD(&servers, h, link);
	h->base = base;
	h->source = source;
	buf_init(&h->body, HTTP_BODY_OUT_MAX);
	buf_init(&h->packed, HTTP_BODY_OUT_MAX);
	for (uint32_t i = 0; i < HTTP_CONNECTIONS_MAX; i++)
		h->connections[i].fd = -1;
	h->evhttp = evhttp_new(base);
	h->adopt = event_new(base, -1, 0, on_adopt, h);
	h->sweep = evtimer_new(base, on_sweep, h);
	if (!h->evhttp || !h->adopt || !h->sweep) {
		http_free(h);
		return -ENOMEM;
	}
	evhttp_set_max_headers_size(h->evhttp, HTTP_HEADER_BYTES_MAX);
	evhttp_set_max_body_size(h->evhttp, HTTP_BODY_BYTES_MAX);
	evhttp_set_timeout(h->evhttp, HTTP_IDLE_S);
	/* All that it can tell apart, so that our answer is 405; others it answers by 501. */
	evhttp_set_allowed_methods(h->evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
						      EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |
						      EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
						      EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
	evhttp_set_bevcb(h->evhttp, on_accept, h);
	evhttp_set_gencb(h->evhttp, on_request, h);
	*ret_http = h;
	return 0;
}

struct http *http_free(struct http *h)
{
	if (!h)
		return NULL;
	LIST_REMOVE(h, link);
	on_adopt(-1, 0, h);
	if (h->evhttp) {
		http_unlisten(h, h->n_listeners);
		evhttp_free(h->evhttp);
	}
	if (h->adopt)
		event_free(h->adopt);
	if (h->sweep)
		event_free(h->sweep);
	buf_done(&h->body);
	buf_done(&h->packed);
	free(h);
	return NULL;
}

int http_accept(struct http *h, int fd)
{
	struct evconnlistener *listener;
	struct evhttp_bound_socket *bound;

	assert(h->n_listeners < HTTP_LISTENERS_MAX);
	listener = evconnlistener_new(h->base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE, 0, fd);
	if (!listener) {
		close(fd);
		return -ENOMEM;
	}
	bound = evhttp_bind_listener(h->evhttp, listener);
	if (!bound) {
		evconnlistener_free(listener);
		return -ENOMEM;
	}
	evconnlistener_set_error_cb(listener, on_accept_error);
	h->listeners[h->n_listeners].listener = listener;
	h->listeners[h->n_listeners++].bound = bound;
	if (h->paused)
		evconnlistener_disable(listener);
	return 0;
}

void http_unlisten(struct http *h, uint32_t n)
{
	assert(n <= h->n_listeners);
	for (uint32_t i = 0; i < n; i++)
		evhttp_del_accept_socket(h->evhttp, h->listeners[i].bound);
	h->n_listeners -= n;
	memmove(h->listeners, h->listeners + n, h->n_listeners * sizeof(h->listeners[0]));
}

uint32_t http_listening(const struct http *h)
{
	return h->n_listeners;
}

uint32_t http_busy(const struct http *h)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < HTTP_CONNECTIONS_MAX; i++)
		n += is_alive(&h->connections[i]) && h->connections[i].response_ns;
	return n;
}

void http_counts(const struct http *h, struct serve_counts *ret_counts)
{
	*ret_counts = h->counts;
	ret_counts->connections = 0;
	for (uint32_t i = 0; i < HTTP_CONNECTIONS_MAX; i++)
		ret_counts->connections +=
			is_used(&h->connections[i]) && is_alive(&h->connections[i]);
}
