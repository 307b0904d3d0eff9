/* agent/export/http.c - OTLP over HTTP/1.1: libcurl's multi socket interface on the loop.
 *
 * One CURLM a transport: connections are kept between requests and shared with nobody. libcurl is
 * built with its threaded resolver here (checked in http_open), so nothing waits. gRPC does not go
 * through here: libcurl 7.88 cannot do it reliably. Includes agent/export, agent/encode (gzip),
 * libcurl, jansson. Thread rule: the loop thread. */
#include "agent/encode/encode.h"
#include "agent/export/tls.h"
#include "agent/export/transport_private.h"
#include "agent/export/verdict.h"

#include <curl/curl.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { HTTP_DEADLINE_SLACK_MS = 1000, HTTP_HEADER_BYTES_MAX = 65536 };

struct http {
	struct transport transport;
	CURLM *multi;
	struct event *timer;
	bool no_proxy;	 /* this machine is never behind one */
	bool cert_asked; /* the server asked for a client certificate, on any connection */
	char address[URL_TEXT_MAX];
};

struct http_call {
	struct call call;
	CURL *easy; /* NULL: not begun, or over */
	struct curl_slist *headers;
	struct buf message, body;
	size_t header_bytes;
	char retry_after[64];
	char error[CURL_ERROR_SIZE];
};

/* What libcurl's failures mean; those not listed are a cut connection. */
static const struct curl_rule {
	CURLcode code;
	enum verdict_kind kind;
	const char *advice;
} curl_rules[] = {
	{CURLE_COULDNT_RESOLVE_HOST, VERDICT_RETRY, ""},
	{CURLE_COULDNT_RESOLVE_PROXY, VERDICT_CONFIG, " (proxy of the environment)"},
	{CURLE_COULDNT_CONNECT, VERDICT_RETRY, ""},
	{CURLE_OUT_OF_MEMORY, VERDICT_RETRY, ""},
	{CURLE_UNSUPPORTED_PROTOCOL, VERDICT_CONFIG,
	 ": endpoint is not HTTP (did you mean :4317 / grpc?)"},
	{CURLE_WEIRD_SERVER_REPLY, VERDICT_CONFIG,
	 ": endpoint is not HTTP (did you mean :4317 / grpc?)"},
	{CURLE_PEER_FAILED_VERIFICATION, VERDICT_CONFIG, ""},
	{CURLE_SSL_CERTPROBLEM, VERDICT_CONFIG, ""},
	{CURLE_SSL_CACERT_BADFILE, VERDICT_CONFIG, ""},
	{CURLE_SSL_CIPHER, VERDICT_CONFIG, ""},
	{CURLE_SSL_ISSUER_ERROR, VERDICT_CONFIG, ""},
};

/* ---- the answer ----------------------------------------------------------------------------- */

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;

	buf_add(&c->body, data, size * n);
	return c->body.failed ? 0 : size * n;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	static const char name[] = "retry-after:";
	struct http_call *c = arg;
	size_t len = size * n;

	c->header_bytes += len;
	if (c->header_bytes > HTTP_HEADER_BYTES_MAX)
		return 0;
	/* A new status line: what came before belonged to 1xx. */
	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
		c->retry_after[0] = '\0';
	if (len > sizeof(name) - 1 && strncasecmp(line, name, sizeof(name) - 1) == 0)
		snprintf(c->retry_after, sizeof(c->retry_after), "%.*s",
			 (int)(len - sizeof(name) + 1 - (line[len - 1] == '\n') -
			       (len > 1 && line[len - 2] == '\r')),
			 line + sizeof(name) - 1);
	return len;
}

/* The server's own words: google.rpc.Status in either form, or plain text. Pages are not quoted. */
static void add_words(struct http_call *c, struct verdict *v)
{
	char words[VERDICT_MESSAGE_MAX] = "", head[64];
	const char *type = NULL;
	const uint8_t *data = c->body.data;

	curl_easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &type);
	if (!type || !c->body.len)
		return;
	if (strncasecmp(type, "application/json", 16) == 0) {
		json_t *root =
			json_loadb((const char *)data, c->body.len, JSON_REJECT_DUPLICATES, NULL);
		const char *text = json_string_value(json_object_get(root, "message"));

		if (text)
			verdict_print(text, strlen(text), false, words);
		json_decref(root);
	} else if (strncasecmp(type, "application/x-protobuf", 22) == 0) {
		(void)verdict_status_message(data, c->body.len, words);
	} else if (strncasecmp(type, "text/plain", 10) == 0) {
		verdict_print((const char *)data, c->body.len, false, words);
	}
	if (!words[0])
		return;
	snprintf(head, sizeof(head), "%.40s", v->message);
	snprintf(v->message, sizeof(v->message), "%s: %.*s", head,
		 (int)(sizeof(v->message) - sizeof(head) - 2), words);
}

static void read_success(struct http_call *c, bool complete, struct verdict *v)
{
	const struct transport_options *o = &c->call.t->options;
	const char *type = NULL;
	bool json = o->protocol == TRANSPORT_HTTP_JSON;

	curl_easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &type);
	if (type && c->body.len)
		json = strncasecmp(type, "application/json", 16) == 0;
	if (!complete)
		snprintf(v->message, sizeof(v->message), "accepted, but the answer %s",
			 c->body.failed ? "is larger than is allowed" : "cannot be read");
	else if (o->partial && c->body.len)
		(void)o->partial(c->body.data, c->body.len, json, &v->rejected, v->message);
}

static void read_failure(struct http_call *c, CURLcode code, struct verdict *v)
{
	const char *why = c->error[0] ? c->error : curl_easy_strerror(code);
	curl_off_t uploaded = 0;
	long os_error = 0, connects = 0;
	bool sent;

	for (size_t i = 0; i < sizeof(curl_rules) / sizeof(curl_rules[0]); i++) {
		if (curl_rules[i].code != code)
			continue;
		verdict_make(v, curl_rules[i].kind, VERDICT_CODE_NONE, "%s%s", why,
			     curl_rules[i].advice);
		return;
	}
	curl_easy_getinfo(c->easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
	curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &os_error);
	curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &connects);
	sent = uploaded >= (curl_off_t)c->message.len;
	/* TLS 1.3 says "certificate required" only after the handshake. */
	if ((code == CURLE_SSL_CONNECT_ERROR && os_error == 0) ||
	    (code == CURLE_RECV_ERROR && strstr(why, "alert")))
		verdict_make(v, VERDICT_CONFIG, VERDICT_CODE_NONE, "TLS: %s", why);
	/* ... and a reset may overtake it. */
	else if (connects && ((struct http *)c->call.t)->cert_asked)
		verdict_make(v, VERDICT_CONFIG, VERDICT_CODE_NONE,
			     "the server asked for a client certificate and closed the connection");
	else
		verdict_make(v, sent ? VERDICT_LOST : VERDICT_RETRY, VERDICT_CODE_NONE, "%s", why);
}

static void read_answer(struct http_call *c, CURLcode code, struct verdict *v)
{
	long status = 0, connects = 0;

	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &connects);
	c->call.t->connections += (uint64_t)connects;
	/* Once there is a final status it is the answer, whatever becomes of the body. */
	if (status < 200) {
		read_failure(c, code, v);
		return;
	}
	verdict_from_http((int)status, c->retry_after[0] ? c->retry_after : NULL, time(NULL), v);
	if (v->kind == VERDICT_ACCEPTED)
		read_success(c, code == CURLE_OK, v);
	else if (code == CURLE_OK)
		add_words(c, v);
}

/* ---- libcurl on libevent ---------------------------------------------------------------------- */

static void drop_easy(struct http_call *c)
{
	struct http *h = (struct http *)c->call.t;

	if (!c->easy)
		return;
	curl_multi_remove_handle(h->multi, c->easy);
	curl_easy_cleanup(c->easy);
	c->easy = NULL;
}

static void collect(struct http *h)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(h->multi, &left))) {
		CURLcode code = message->data.result;
		struct http_call *c = NULL;
		struct verdict v;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&c);
		read_answer(c, code, &v);
		drop_easy(c);
		call_finish(&c->call, &v);
	}
}

static void act(struct http *h, curl_socket_t fd, int what)
{
	int running;

	curl_multi_socket_action(h->multi, fd, what, &running);
	collect(h);
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
	act(arg, fd,
	    (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	act(arg, CURL_SOCKET_TIMEOUT, 0);
}

/* libcurl wants other events of a socket. */
static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct http *h = arg;
	struct event *event = socket_arg;

	(void)easy;
	if (event)
		event_free(event);
	event = NULL;
	if (what != CURL_POLL_REMOVE) {
		short wanted = (short)(EV_PERSIST | (what & CURL_POLL_IN ? EV_READ : 0) |
				       (what & CURL_POLL_OUT ? EV_WRITE : 0));

		event = event_new(h->transport.base, fd, wanted, on_socket, h);
		if (!event || event_add(event, NULL) != 0)
			return -1;
	}
	curl_multi_assign(h->multi, fd, event);
	return 0;
}

/* Only arms: libcurl must not be entered from here. */
static int set_timer(CURLM *multi, long timeout_ms, void *arg)
{
	struct http *h = arg;

	(void)multi;
	if (timeout_ms < 0)
		return evtimer_del(h->timer);
	return transport_arm(h->timer, timeout_ms > TRANSPORT_TIMEOUT_MAX_MS
					       ? TRANSPORT_TIMEOUT_MAX_MS
					       : (uint32_t)timeout_ms);
}

static int set_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	unsigned user_timeout_ms = TRANSPORT_USER_TIMEOUT_MS;

	(void)arg;
	(void)purpose;
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms,
			 sizeof(user_timeout_ms));
	return CURL_SOCKOPT_OK;
}

/* ---- requests out ----------------------------------------------------------------------------- */

static int http_prepare(struct call *call)
{
	struct http_call *c = (struct http_call *)call;
	const struct transport_request *r = &call->request;
	struct buf body = {.data = (uint8_t *)r->body, .len = r->len};

	buf_init(&c->message, r->len + r->len / 8 + 1024);
	buf_init(&c->body, call->t->options.response_bytes_max);
	if (call->t->options.gzip)
		return encode_gzip(&body, &c->message);
	buf_add(&c->message, r->body, r->len);
	return c->message.failed ? -ENOMEM : 0;
}

static void http_release(struct call *call)
{
	struct http_call *c = (struct http_call *)call;

	drop_easy(c);
	curl_slist_free_all(c->headers);
	buf_done(&c->message);
	buf_done(&c->body);
}

static int add_line(struct http_call *c, const char *name, const char *value)
{
	size_t size = strlen(name) + strlen(value) + 3;
	char *line = malloc(size);
	struct curl_slist *longer;

	if (!line)
		return -ENOMEM;
	/* "name;" is libcurl's way to write an empty value, "name:" alone would remove it. */
	if (value[0])
		snprintf(line, size, "%s: %s", name, value);
	else
		snprintf(line, size, "%s;", name);
	longer = curl_slist_append(c->headers, line);
	explicit_bzero(line, size);
	free(line);
	if (!longer)
		return -ENOMEM;
	c->headers = longer;
	return 0;
}

static int add_lines(struct http_call *c)
{
	const struct transport_options *o = &c->call.t->options;
	const struct transport_request *r = &c->call.request;
	struct curl_slist *expect;
	int err = 0;

	err |= add_line(c, "Content-Type",
			o->protocol == TRANSPORT_HTTP_JSON ? "application/json"
							   : "application/x-protobuf");
	if (o->gzip)
		err |= add_line(c, "Content-Encoding", "gzip");
	for (uint32_t i = 0; i < o->n_headers; i++)
		err |= add_line(c, o->headers[i].name, o->headers[i].value);
	for (uint32_t i = 0; i < r->n_headers; i++)
		err |= add_line(c, r->headers[i].name, r->headers[i].value);
	/* Removed: waiting for "100 Continue" costs a second with servers that ignore it. */
	expect = err ? NULL : curl_slist_append(c->headers, "Expect:");
	if (expect)
		c->headers = expect;
	return expect ? 0 : -ENOMEM;
}

static int on_asked(SSL *ssl, void *arg)
{
	struct http *h = arg;

	(void)ssl;
	h->cert_asked = true;
	return 1;
}

/* Connections outlive calls: what they point to is the transport. */
static CURLcode set_context(CURL *easy, void *context, void *arg)
{
	(void)easy;
	SSL_CTX_set_cert_cb(context, on_asked, arg);
	return CURLE_OK;
}

static CURLcode set_blob(CURL *easy, CURLoption option, const char *pem)
{
	struct curl_blob blob = {
		.data = (char *)pem, .len = pem ? strlen(pem) : 0, .flags = CURL_BLOB_NOCOPY};

	return pem ? curl_easy_setopt(easy, option, &blob) : CURLE_OK;
}

static void set_options(struct http_call *c)
{
	const struct transport_options *o = &c->call.t->options;
	struct http *h = (struct http *)c->call.t;
	CURL *e = c->easy;

	curl_easy_setopt(e, CURLOPT_URL, h->address);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_POST, 1L);
	curl_easy_setopt(e, CURLOPT_POSTFIELDS, c->message.len ? (char *)c->message.data : "");
	curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->message.len);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, c->headers);
	curl_easy_setopt(e, CURLOPT_USERAGENT, o->user_agent);
	curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING, "gzip");
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->error);
	curl_easy_setopt(e, CURLOPT_PRIVATE, c);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_SOCKOPTFUNCTION, set_socket);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)TRANSPORT_CONNECT_TIMEOUT_MS);
	/* The call's own timer is the deadline; this is behind it. */
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS,
			 (long)call_left_ms(&c->call) + HTTP_DEADLINE_SLACK_MS);
	if (h->no_proxy)
		curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(e, CURLOPT_SSL_CTX_FUNCTION, set_context);
	curl_easy_setopt(e, CURLOPT_SSL_CTX_DATA, h);
	set_blob(e, CURLOPT_CAINFO_BLOB, o->tls.ca_pem);
	set_blob(e, CURLOPT_SSLCERT_BLOB, o->tls.client_cert_pem);
	set_blob(e, CURLOPT_SSLKEY_BLOB, o->tls.client_key_pem);
}

static void http_begin(struct call *call)
{
	struct http_call *c = (struct http_call *)call;
	struct http *h = (struct http *)call->t;
	struct verdict v;

	c->easy = curl_easy_init();
	if (c->easy && add_lines(c) == 0) {
		set_options(c);
		if (curl_multi_add_handle(h->multi, c->easy) == CURLM_OK)
			return;
	}
	curl_easy_cleanup(c->easy);
	c->easy = NULL;
	verdict_make(&v, VERDICT_RETRY, VERDICT_CODE_NONE, "out of memory");
	call_finish(call, &v);
}

static void http_abandon(struct call *call, struct verdict *v)
{
	struct http_call *c = (struct http_call *)call;
	curl_off_t uploaded = 0;

	if (c->easy)
		curl_easy_getinfo(c->easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
	if (c->message.len && uploaded >= (curl_off_t)c->message.len && v->kind == VERDICT_RETRY)
		v->kind = VERDICT_LOST;
	/* An unfinished exchange takes its connection with it: a frozen one is not used again. */
	drop_easy(c);
}

/* ---- a transport ---------------------------------------------------------------------------- */

static int http_open(struct transport *t, char reason[VERDICT_MESSAGE_MAX])
{
	struct http *h = (struct http *)t;
	char authority[URL_HOST_MAX + 9];
	int err;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	if (!(curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_ASYNCHDNS)) {
		snprintf(reason, VERDICT_MESSAGE_MAX, "this libcurl resolves names by waiting");
		return -EINVAL;
	}
	err = t->url.tls ? tls_check(&t->options.tls, reason) : 0;
	if (err)
		return err;
	/* Put together again from its checked parts: what libcurl reads is what was checked. */
	url_authority(&t->url, t->url.port ? t->url.port : t->url.tls ? 443 : 80, authority);
	snprintf(h->address, sizeof(h->address), "http%s://%s%s", t->url.tls ? "s" : "", authority,
		 t->url.path[0] ? t->url.path : "/");
	h->no_proxy = url_is_loopback(&t->url);
	h->multi = curl_multi_init();
	h->timer = evtimer_new(t->base, on_timer, h);
	if (!h->multi || !h->timer) {
		curl_multi_cleanup(h->multi);
		if (h->timer)
			event_free(h->timer);
		return -ENOMEM;
	}
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)t->options.concurrency);
	return 0;
}

static void http_close(struct transport *t)
{
	struct http *h = (struct http *)t;

	/* Its sockets go first: closing them still calls for events to be removed. */
	curl_multi_cleanup(h->multi);
	event_free(h->timer);
}

const struct protocol http_protocol = {
	.transport_size = sizeof(struct http),
	.call_size = sizeof(struct http_call),
	.open = http_open,
	.close = http_close,
	.prepare = http_prepare,
	.begin = http_begin,
	.abandon = http_abandon,
	.release = http_release,
};
