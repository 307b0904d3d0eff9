/* transport_send - send one body N times through a transport and print each verdict as a JSON line.
 * What the end-to-end tests of the transports drive.
 *
 *   transport_send --url U [--protocol grpc|http|json] [--method /S/M] [--body FILE] [--count N]
 *                  [--concurrency C] [--timeout-ms T] [--gzip] [--ca F] [--cert F] [--key F]
 *                  [--header K=V]... [--again-ms P] [--cancel-after-ms T] [--response-max B]
 *
 * Exit 0 when every request was answered exactly once and no descriptor was left over. */
#include "agent/encode/otlp.h"
#include "agent/export/transport.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADERS_MAX = 16, SENDS_MAX = 1000000 };

static struct run {
	struct event_base *base;
	struct transport *transport;
	struct transport_request request;
	struct event *next, *cancel;
	uint32_t count, sent, answered, again_ms;
	uint8_t *answers; /* how often each was answered */
} run;

static void arm(struct event *timer, uint32_t ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};

	evtimer_add(timer, &tv);
}

static char *read_file(const char *path, size_t *ret_len)
{
	FILE *f = fopen(path, "rb");
	char *data = malloc(64 << 20);
	size_t len;

	if (!f || !data) {
		fprintf(stderr, "transport_send: %s: %s\n", path, strerror(errno));
		exit(2);
	}
	len = fread(data, 1, (64 << 20) - 1, f);
	data[len] = '\0';
	fclose(f);
	if (ret_len)
		*ret_len = len;
	return data;
}

static unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

static void on_answer(void *arg, const struct verdict *v)
{
	size_t number = (size_t)arg;
	json_t *line =
		json_pack("{s:I s:s s:I s:i s:i s:s}", "n", (json_int_t)number, "verdict",
			  verdict_name(v->kind), "rejected", (json_int_t)v->rejected, "delay_ms",
			  (int)v->delay_ms, "code", v->code, "message", v->message);
	char *text = line ? json_dumps(line, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;

	if (!text) {
		fprintf(stderr, "transport_send: a verdict that JSON cannot hold\n");
		exit(3);
	}
	puts(text);
	fflush(stdout);
	free(text);
	json_decref(line);
	run.answers[number]++;
	if (++run.answered == run.count) {
		/* Freed within done(), which must be safe; the loop ends afterwards. */
		run.transport = transport_free(run.transport);
		event_base_loopbreak(run.base);
		return;
	}
	if (run.sent < run.count && run.again_ms)
		arm(run.next, run.again_ms);
	else if (run.sent < run.count)
		event_active(run.next, 0, 0);
}

static void send_more(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	while (run.transport && run.sent < run.count) {
		int err = transport_send(run.transport, &run.request, on_answer,
					 (void *)(size_t)run.sent);

		if (err == -EBUSY)
			return;
		if (err) {
			fprintf(stderr, "transport_send: %s\n", strerror(-err));
			exit(2);
		}
		run.sent++;
		if (run.again_ms)
			return;
	}
}

static void on_cancel(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	run.count = run.sent;
	if (run.transport)
		transport_cancel(run.transport);
}

static const struct option long_options[] = {
	{"url", 1, NULL, 'u'},		{"protocol", 1, NULL, 'p'},
	{"method", 1, NULL, 'm'},	{"body", 1, NULL, 'b'},
	{"count", 1, NULL, 'n'},	{"concurrency", 1, NULL, 'c'},
	{"timeout-ms", 1, NULL, 't'},	{"gzip", 0, NULL, 'z'},
	{"ca", 1, NULL, 'a'},		{"cert", 1, NULL, 'e'},
	{"key", 1, NULL, 'k'},		{"header", 1, NULL, 'h'},
	{"again-ms", 1, NULL, 'g'},	{"cancel-after-ms", 1, NULL, 'x'},
	{"response-max", 1, NULL, 'r'}, {NULL, 0, NULL, 0},
};

static struct transport_header headers[HEADERS_MAX];
static uint32_t cancel_after_ms;

static void add_header(struct transport_options *o, char *text)
{
	char *equals = strchr(text, '=');

	if (!equals || o->n_headers == HEADERS_MAX) {
		fprintf(stderr, "transport_send: --header NAME=VALUE\n");
		exit(2);
	}
	*equals = '\0';
	headers[o->n_headers++] =
		(struct transport_header){.name = text, .value = equals + 1, .secret = true};
	o->headers = headers;
}

static void take_option(int c, struct transport_options *o)
{
	char *body;

	switch (c) {
	case 'u':
		o->url = optarg;
		break;
	case 'p':
		o->protocol = strcmp(optarg, "grpc") == 0   ? TRANSPORT_GRPC
			      : strcmp(optarg, "json") == 0 ? TRANSPORT_HTTP_JSON
							    : TRANSPORT_HTTP_PROTOBUF;
		break;
	case 'm':
		o->grpc_method = optarg;
		break;
	case 'b':
		body = read_file(optarg, &run.request.len);
		run.request.body = (const uint8_t *)body;
		break;
	case 'n':
		run.count = (uint32_t)atoi(optarg);
		break;
	case 'c':
		o->concurrency = (uint32_t)atoi(optarg);
		break;
	case 't':
		run.request.timeout_ms = (uint32_t)atoi(optarg);
		break;
	case 'z':
		o->gzip = true;
		break;
	case 'a':
		o->tls.ca_pem = read_file(optarg, NULL);
		break;
	case 'e':
		o->tls.client_cert_pem = read_file(optarg, NULL);
		break;
	case 'k':
		o->tls.client_key_pem = read_file(optarg, NULL);
		break;
	case 'h':
		add_header(o, optarg);
		break;
	case 'g':
		run.again_ms = (uint32_t)atoi(optarg);
		break;
	case 'x':
		cancel_after_ms = (uint32_t)atoi(optarg);
		break;
	case 'r':
		o->response_bytes_max = (size_t)atoi(optarg);
		break;
	default:
		exit(2);
	}
}

static int judge(unsigned files_before, uint64_t connections)
{
	unsigned files;
	uint32_t wrong = 0;

	for (uint32_t i = 0; i < run.count; i++)
		wrong += run.answers[i] != 1;
	/* A resolver's thread lets go of its pipe on its own time. */
	for (int i = 0; (files = open_files()) != files_before && i < 1000; i++)
		usleep(10000);
	fprintf(stderr, "answered %u of %u, not exactly once %u, connections %lu, files %u -> %u\n",
		run.answered, run.count, wrong, connections, files_before, files);
	return wrong || files != files_before;
}

int main(int argc, char **argv)
{
	/* static: what it points to is held until the end. */
	static struct transport_options options = {
		.grpc_method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
		.user_agent = "Blixard/test OTel-OTLP-Exporter-C/test",
		.partial = otlp_partial,
	};
	char reason[VERDICT_MESSAGE_MAX];
	unsigned files;
	int c, err;

	run.count = 1;
	run.request.body = (const uint8_t *)"";
	run.request.timeout_ms = 10000;
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take_option(c, &options);
	signal(SIGPIPE, SIG_IGN);
	run.answers = calloc(run.count + 1, 1);
	run.base = event_base_new();
	/* What libraries open once and keep is not a leak. */
	OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL);
	files = open_files();
	err = transport_new(run.base, &options, &run.transport, reason);
	if (err) {
		printf("{\"error\":\"%s\",\"reason\":\"%s\"}\n", strerrorname_np(-err), reason);
		return 4;
	}
	run.next = event_new(run.base, -1, 0, send_more, NULL);
	run.cancel = evtimer_new(run.base, on_cancel, NULL);
	if (cancel_after_ms)
		arm(run.cancel, cancel_after_ms);
	event_active(run.next, 0, 0);
	struct transport_counts counts = {0};

	while (run.transport) {
		transport_counts(run.transport, &counts);
		if (event_base_loop(run.base, EVLOOP_ONCE) != 0)
			break;
	}
	/* bufferevents close their sockets in the next turn. */
	for (int i = 0; i < 3; i++)
		event_base_loop(run.base, EVLOOP_NONBLOCK);
	event_free(run.next);
	event_free(run.cancel);
	err = judge(files, counts.connections);
	event_base_free(run.base);
	return err;
}
