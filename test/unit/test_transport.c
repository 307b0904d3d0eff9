/* Goal: a transport refuses what it cannot send with the documented error, answers what it took once
 * and never from within transport_send(), and may be freed at any time.
 * Method: both protocols towards a port of this machine where nobody listens; both sides of each limit;
 * answers counted by request. */
#include "agent/export/transport.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BODY_MAX = 64 << 20, HEADERS_MAX = 128 };

static struct event_base *base;
static struct transport *transport;
static int answers[VERDICT_KINDS], send_from_done;
static const enum transport_protocol protocols[] = {TRANSPORT_GRPC, TRANSPORT_HTTP_PROTOBUF};

static void on_done(void *arg, const struct verdict *v)
{
	static const struct transport_request again = {.body = (const uint8_t *)"x", .len = 1};

	(void)arg;
	answers[v->kind]++;
	if (send_from_done)
		send_from_done = transport_send(transport, &again, on_done, NULL);
}

static void closed_port(char url[64])
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* Bound and never listening: nobody else gets it while the test runs. */
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	snprintf(url, 64, "http://127.0.0.1:%u", ntohs(a.sin_port));
}

static void start(enum transport_protocol protocol, uint32_t concurrency)
{
	char url[64], reason[VERDICT_MESSAGE_MAX];
	struct transport_options o = {
		.protocol = protocol,
		.url = url,
		.grpc_method = protocol == TRANSPORT_GRPC ? "/s/m" : NULL,
		.concurrency = concurrency,
	};

	signal(SIGPIPE, SIG_IGN);
	closed_port(url);
	memset(answers, 0, sizeof(answers));
	send_from_done = 0;
	base = event_base_new();
	cr_assert_eq(transport_new(base, &o, &transport, reason), 0, "%s", reason);
}

static void stop(void)
{
	transport = transport_free(transport);
	event_base_free(base);
}

static int sum(void)
{
	int n = 0;

	for (int i = 0; i < VERDICT_KINDS; i++)
		n += answers[i];
	return n;
}

static int send_one(size_t len)
{
	/* One body for all: never read beyond what is said to be its length. */
	static uint8_t *body;
	struct transport_request r = {.len = len, .timeout_ms = 60000};

	body = body ? body : calloc(1, BODY_MAX);
	r.body = body;
	return transport_send(transport, &r, on_done, NULL);
}

ParameterizedTestParameters(transport, more_than_its_concurrency_is_ebusy_until_one_is_answered)
{
	return cr_make_param_array(const enum transport_protocol, (void *)protocols, 2);
}

ParameterizedTest(const enum transport_protocol *protocol, transport,
		  more_than_its_concurrency_is_ebusy_until_one_is_answered)
{
	struct transport_counts counts;

	start(*protocol, 2);
	cr_assert_eq(send_one(10), 0);
	cr_assert_eq(send_one(10), 0);
	cr_assert_eq(send_one(10), -EBUSY);
	transport_counts(transport, &counts);
	cr_assert_eq(counts.in_flight, 2);
	cr_assert_eq(sum(), 0, "answered from within");
	while (sum() < 2)
		cr_assert_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	cr_assert_eq(answers[VERDICT_RETRY], 2);
	cr_assert_eq(send_one(10), 0);
	stop();
	cr_assert_eq(answers[VERDICT_CANCELLED], 1);
	cr_assert_eq(sum(), 3);
}

ParameterizedTestParameters(transport, a_body_over_64_mib_is_emsgsize_and_one_of_64_mib_is_taken)
{
	return cr_make_param_array(const enum transport_protocol, (void *)protocols, 2);
}

ParameterizedTest(const enum transport_protocol *protocol, transport,
		  a_body_over_64_mib_is_emsgsize_and_one_of_64_mib_is_taken)
{
	start(*protocol, 1);
	cr_assert_eq(send_one((size_t)BODY_MAX + 1), -EMSGSIZE);
	cr_assert_eq(send_one(SIZE_MAX), -EMSGSIZE);
	cr_assert_eq(send_one(BODY_MAX), 0, "what was refused is not counted as under way");
	stop();
	cr_assert_eq(answers[VERDICT_CANCELLED], 1);
	cr_assert_eq(sum(), 1);
}

ParameterizedTestParameters(transport, a_request_from_done_while_it_is_freed_is_ebusy)
{
	return cr_make_param_array(const enum transport_protocol, (void *)protocols, 2);
}

ParameterizedTest(const enum transport_protocol *protocol, transport,
		  a_request_from_done_while_it_is_freed_is_ebusy)
{
	start(*protocol, 4);
	cr_assert_eq(send_one(1), 0);
	send_from_done = 1;
	stop();
	cr_assert_eq(send_from_done, -EBUSY);
	cr_assert_eq(sum(), 1);
}

Test(transport, headers_that_cannot_be_sent_are_einval)
{
	static const struct transport_header bad[] = {
		{"", "v", false},	   {"Upper", "v", false},
		{"a b", "v", false},	   {"grpc-status", "0", false},
		{"te", "v", false},	   {"content-type", "v", false},
		{"x", "a\r\ny: z", false}, {"x", "\x7f", false},
	};
	struct transport_header many[HEADERS_MAX + 1];
	struct transport_request r = {.body = (const uint8_t *)"x", .len = 1, .headers = many};

	start(TRANSPORT_GRPC, 2);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		many[0] = bad[i];
		r.n_headers = 1;
		cr_assert_eq(transport_send(transport, &r, on_done, NULL), -EINVAL, "%zu", i);
	}
	for (size_t i = 0; i < HEADERS_MAX + 1; i++)
		many[i] = (struct transport_header){"x-many", "tab\tand \xc3\xa9", true};
	r.n_headers = HEADERS_MAX + 1;
	cr_assert_eq(transport_send(transport, &r, on_done, NULL), -EINVAL);
	r.n_headers = HEADERS_MAX;
	cr_assert_eq(transport_send(transport, &r, on_done, NULL), 0);
	stop();
	cr_assert_eq(answers[VERDICT_CANCELLED], 1);
}

Test(transport, options_that_cannot_be_used_are_refused_with_a_reason)
{
	struct transport_options o = {
		.protocol = TRANSPORT_GRPC, .url = "ftp://x", .grpc_method = "/s/m"};
	struct transport_header bad = {"x", "a\nb", false};
	char reason[VERDICT_MESSAGE_MAX];
	struct transport *t = NULL;

	base = event_base_new();
	cr_assert_eq(transport_new(base, &o, &t, reason), -EINVAL);
	cr_assert_not_null(strstr(reason, "scheme"), "%s", reason);
	o.url = NULL;
	cr_assert_eq(transport_new(base, &o, &t, reason), -EINVAL);
	o.url = "https://x:1";
	o.tls.ca_pem = "junk";
	cr_assert_eq(transport_new(base, &o, &t, reason), -EPROTO);
	cr_assert_not_null(strstr(reason, "CA"), "%s", reason);
	o.protocol = TRANSPORT_HTTP_PROTOBUF;
	cr_assert_eq(transport_new(base, &o, &t, reason), -EPROTO);
	o.tls.ca_pem = NULL;
	o.headers = &bad;
	o.n_headers = 1;
	cr_assert_eq(transport_new(base, &o, &t, reason), -EINVAL);
	cr_assert_null(t);
	cr_assert_null(transport_free(NULL));
	event_base_free(base);
}
