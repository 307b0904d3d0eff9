/* agent/export/transport.c - calls of both protocols: options copied, deadlines kept, answers
 * delivered from the loop exactly once.
 *
 * A call is in one of three lists: fresh (handed over, the loop will begin it), active (with the
 * protocol), finished (has its verdict, the loop will deliver it). Includes libevent and
 * agent/export. Thread rule: the loop thread. */
#include "agent/export/transport_private.h"
#include "agent/export/verdict.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t transport_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int transport_arm(struct event *timer, uint32_t ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};

	return evtimer_add(timer, &tv);
}

uint32_t call_left_ms(const struct call *c)
{
	uint64_t now_ms = transport_now_ms();

	return c->deadline_ms > now_ms ? (uint32_t)(c->deadline_ms - now_ms) : 0;
}

/* ---- options -------------------------------------------------------------------------------- */

static void options_done(struct transport_options *o)
{
	for (uint32_t i = 0; o->headers && i < o->n_headers; i++) {
		free((char *)o->headers[i].name);
		free((char *)o->headers[i].value);
	}
	free((struct transport_header *)o->headers);
	free((char *)o->url);
	free((char *)o->grpc_method);
	free((char *)o->tls.ca_pem);
	free((char *)o->tls.client_cert_pem);
	/* A private key does not stay behind in freed memory. */
	if (o->tls.client_key_pem)
		explicit_bzero((char *)o->tls.client_key_pem, strlen(o->tls.client_key_pem));
	free((char *)o->tls.client_key_pem);
	free((char *)o->user_agent);
}

static bool copy_text(const char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

static int options_copy(const struct transport_options *from, struct transport_options *to)
{
	struct transport_header *headers = calloc(from->n_headers + 1, sizeof(*headers));
	bool ok = headers != NULL;

	*to = *from;
	to->headers = headers;
	ok &= copy_text(&to->url, from->url);
	ok &= copy_text(&to->grpc_method, from->grpc_method);
	ok &= copy_text(&to->tls.ca_pem, from->tls.ca_pem);
	ok &= copy_text(&to->tls.client_cert_pem, from->tls.client_cert_pem);
	ok &= copy_text(&to->tls.client_key_pem, from->tls.client_key_pem);
	ok &= copy_text(&to->user_agent, from->user_agent ? from->user_agent : "blixard");
	for (uint32_t i = 0; headers && i < from->n_headers; i++) {
		headers[i].secret = from->headers[i].secret;
		ok &= copy_text(&headers[i].name, from->headers[i].name);
		ok &= copy_text(&headers[i].value, from->headers[i].value);
	}
	if (!to->concurrency)
		to->concurrency = 1;
	if (!to->response_bytes_max)
		to->response_bytes_max = TRANSPORT_RESPONSE_MAX;
	if (!ok)
		options_done(to);
	return ok ? 0 : -ENOMEM;
}

/* Those that are ours to set: a second one would contradict the first. */
static const char *const own_headers[] = {
	"content-type", "content-length", "content-encoding",  "te", "host", "connection",
	"user-agent",	"expect",	  "transfer-encoding",
};

static bool header_is_valid(const struct transport_header *h)
{
	static const char token[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.!#$%&'*+^`|~";

	if (!h->name[0] || strspn(h->name, token) != strlen(h->name) ||
	    strncmp(h->name, "grpc-", 5) == 0)
		return false;
	for (size_t i = 0; i < sizeof(own_headers) / sizeof(own_headers[0]); i++)
		if (strcmp(h->name, own_headers[i]) == 0)
			return false;
	for (const char *c = h->value; *c; c++)
		if ((unsigned char)*c < ' ' ? *c != '\t' : *c == 0x7f)
			return false;
	return true;
}

static int headers_check(const struct transport_header *headers, uint32_t n)
{
	if (n > TRANSPORT_HEADERS_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < n; i++)
		if (!header_is_valid(&headers[i]))
			return -EINVAL;
	return 0;
}

/* ---- calls ---------------------------------------------------------------------------------- */

static void call_free(struct call *c)
{
	c->t->protocol->release(c);
	if (c->timer)
		event_free(c->timer);
	c->t->n_calls--;
	free(c);
}

void call_finish(struct call *c, const struct verdict *v)
{
	struct transport *t = c->t;

	c->verdict = *v;
	c->finished = true;
	TAILQ_REMOVE(&t->active, c, entry);
	TAILQ_INSERT_TAIL(&t->finished, c, entry);
	event_active(t->turn, 0, 0);
}

/* Its memory is given back first, so that done() may send the next one. */
static void deliver(struct call *c)
{
	transport_done done = c->done;
	void *arg = c->arg;
	struct verdict verdict = c->verdict;

	TAILQ_REMOVE(&c->t->finished, c, entry);
	call_free(c);
	done(arg, &verdict);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct transport *t = arg;
	struct call *c;
	bool gone = false;

	(void)fd;
	(void)what;
	t->gone = &gone;
	while (!gone && (c = TAILQ_FIRST(&t->finished)))
		deliver(c);
	if (gone)
		return;
	t->gone = NULL;
	while ((c = TAILQ_FIRST(&t->fresh))) {
		TAILQ_REMOVE(&t->fresh, c, entry);
		TAILQ_INSERT_TAIL(&t->active, c, entry);
		t->protocol->begin(c);
	}
}

static void end_call(struct call *c, enum verdict_kind kind)
{
	struct transport *t = c->t;
	struct verdict v;

	verdict_make(&v, kind, VERDICT_CODE_NONE, "%s",
		     kind == VERDICT_CANCELLED ? "cancelled" : "no answer within the deadline");
	if (TAILQ_FIRST(&t->fresh) && !c->finished) {
		struct call *other;

		TAILQ_FOREACH(other, &t->fresh, entry)
		{
			if (other != c)
				continue;
			/* The protocol has not seen it. */
			TAILQ_REMOVE(&t->fresh, c, entry);
			TAILQ_INSERT_TAIL(&t->active, c, entry);
			call_finish(c, &v);
			return;
		}
	}
	t->protocol->abandon(c, &v);
	if (kind == VERDICT_CANCELLED)
		verdict_make(&v, kind, VERDICT_CODE_NONE, "cancelled");
	call_finish(c, &v);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct call *c = arg;

	(void)fd;
	(void)what;
	if (!c->finished)
		end_call(c, VERDICT_RETRY);
}

/* ---- the interface -------------------------------------------------------------------------- */

static int open_protocol(struct transport *t, char reason[VERDICT_MESSAGE_MAX])
{
	char why[URL_REASON_MAX];
	int err;

	if (!t->options.url ||
	    url_parse(t->options.url, t->options.protocol == TRANSPORT_GRPC, &t->url, why) != 0) {
		snprintf(reason, VERDICT_MESSAGE_MAX, "%s", t->options.url ? why : "no address");
		return -EINVAL;
	}
	if (headers_check(t->options.headers, t->options.n_headers) != 0) {
		snprintf(reason, VERDICT_MESSAGE_MAX,
			 "a header's name or value cannot be sent, or is the transport's to set");
		return -EINVAL;
	}
	if (t->options.protocol == TRANSPORT_GRPC && !t->options.grpc_method)
		return -EINVAL;
	t->turn = event_new(t->base, -1, EV_PERSIST, on_turn, t);
	err = t->turn ? t->protocol->open(t, reason) : -ENOMEM;
	if (err && t->turn)
		event_free(t->turn);
	return err;
}

int transport_new(struct event_base *base, const struct transport_options *options,
		  struct transport **ret_transport, char reason[VERDICT_MESSAGE_MAX])
{
	const struct protocol *protocol =
		options->protocol == TRANSPORT_GRPC ? &grpc_protocol : &http_protocol;
	struct transport *t;
	int err;

	reason[0] = '\0';
	t = calloc(1, protocol->transport_size);
	if (!t)
		return -ENOMEM;
	t->protocol = protocol;
	t->base = base;
	TAILQ_INIT(&t->fresh);
	TAILQ_INIT(&t->active);
	TAILQ_INIT(&t->finished);
	err = options_copy(options, &t->options);
	if (err) {
		free(t);
		return err;
	}
	err = open_protocol(t, reason);
	if (err) {
		options_done(&t->options);
		free(t);
		return err;
	}
	*ret_transport = t;
	return 0;
}

void transport_cancel(struct transport *t)
{
	struct call *c;

	while ((c = TAILQ_FIRST(&t->active)) || (c = TAILQ_FIRST(&t->fresh)))
		end_call(c, VERDICT_CANCELLED);
}

struct transport *transport_free(struct transport *t)
{
	struct call *c;

	if (!t || t->closing)
		return NULL;
	t->closing = true;
	if (t->gone)
		*t->gone = true;
	transport_cancel(t);
	while ((c = TAILQ_FIRST(&t->finished)))
		deliver(c);
	t->protocol->close(t);
	event_free(t->turn);
	options_done(&t->options);
	free(t);
	return NULL;
}

int transport_send(struct transport *t, const struct transport_request *request,
		   transport_done done, void *arg)
{
	uint32_t timeout_ms = request->timeout_ms;
	struct call *c;

	if (t->closing || t->n_calls >= t->options.concurrency)
		return -EBUSY;
	if (headers_check(request->headers, request->n_headers) != 0)
		return -EINVAL;
	if (request->len > TRANSPORT_REQUEST_MAX)
		return -EMSGSIZE;
	c = calloc(1, t->protocol->call_size);
	if (!c)
		return -ENOMEM;
	if (timeout_ms == 0 || timeout_ms > TRANSPORT_TIMEOUT_MAX_MS)
		timeout_ms = TRANSPORT_TIMEOUT_MAX_MS;
	c->t = t;
	c->request = *request;
	c->done = done;
	c->arg = arg;
	c->deadline_ms = transport_now_ms() + timeout_ms;
	t->n_calls++;
	c->timer = evtimer_new(t->base, on_deadline, c);
	if (!c->timer || t->protocol->prepare(c) != 0 || transport_arm(c->timer, timeout_ms) != 0) {
		call_free(c);
		return -ENOMEM;
	}
	TAILQ_INSERT_TAIL(&t->fresh, c, entry);
	event_active(t->turn, 0, 0);
	return 0;
}

void transport_counts(const struct transport *t, struct transport_counts *ret_counts)
{
	*ret_counts = (struct transport_counts){
		.connections = t->connections,
		.in_flight = t->n_calls,
	};
}
