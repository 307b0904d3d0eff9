/* agent/check_export.c - what would be exported where, and whether the far end takes it.
 *
 * --check says the first and sends nothing; --check-export sends an empty request to each
 * destination. Both run before there is a loop to hold up: files are read here and now. Includes:
 * check_private.h, agent.h, export/, encode/otlp.h, libevent. */
#include "agent/agent.h"
#include "agent/check_private.h"
#include "agent/encode/otlp.h"
#include "agent/export/credentials.h"
#include "agent/export/otlp_config.h"
#include "agent/export/tls.h"
#include "agent/export/transport.h"

#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Large: not on the stack. */
static struct otlp_config config;

static const char *from_environment(void *arg, const char *name)
{
	(void)arg;
	return getenv(name);
}

static void read_config(struct check_report *report)
{
	otlp_config_read(from_environment, NULL, &config);
	for (uint32_t i = 0; i < config.n_warnings; i++)
		check_say(report, NOTE, "export", "%s", config.warnings[i]);
	if (config.disabled)
		check_say(report, NOTE, "export", "OTEL_SDK_DISABLED=true: nothing is sent");
	else if (!otlp_config_any(&config))
		check_say(report, NOTE, "export",
			  "nothing is sent: OTEL_EXPORTER_OTLP_ENDPOINT is not set for the agent");
}

/* The PEM texts of an endpoint that TLS accepts. 0; a negative errno, said. */
static int read_credentials(struct check_report *report, enum otlp_signal s,
			    struct credentials *ret_credentials)
{
	char reason[CREDENTIALS_REASON_MAX], why[VERDICT_MESSAGE_MAX];
	struct credentials c = {0};
	struct transport_tls tls;
	int err = credentials_read(&config.signals[s], &c, reason);

	if (err) {
		check_say(report, BAD, "export", "%s: %s", otlp_signal_names[s], reason);
		return err;
	}
	tls = credentials_tls(&c);
	if (tls.ca_pem || tls.client_cert_pem || tls.client_key_pem)
		err = tls_check(&tls, why);
	if (err) {
		check_say(report, BAD, "export", "%s: %s", otlp_signal_names[s], why);
		credentials_done(&c);
		return err;
	}
	*ret_credentials = c;
	return 0;
}

/* ---- --check --------------------------------------------------------------------------------- */

static void say_endpoint(struct check_report *report, enum otlp_signal s)
{
	const struct otlp_endpoint *e = &config.signals[s];
	char headers[48] = "", timeout[48] = "no limit of time";

	if (e->n_headers)
		snprintf(headers, sizeof(headers), ", %" PRIu32 " header%s", e->n_headers,
			 e->n_headers == 1 ? "" : "s");
	if (e->timeout_ms)
		snprintf(timeout, sizeof(timeout), "%" PRIu32 " ms an attempt", e->timeout_ms);
	check_say(report, FINE, "export", "%s to %s by %s, %s%s%s%s", otlp_signal_names[s],
		  e->shown_url, otlp_protocol_names[e->protocol], timeout, e->gzip ? ", gzip" : "",
		  headers, e->client_cert_file[0] ? ", client certificate" : "");
}

void check_exports(struct check_report *report)
{
	read_config(report);
	for (int s = 0; s < OTLP_SIGNALS; s++) {
		struct credentials c = {0};

		if (!config.signals[s].on)
			continue;
		if (read_credentials(report, (enum otlp_signal)s, &c) == 0)
			say_endpoint(report, (enum otlp_signal)s);
		credentials_done(&c);
	}
}

/* ---- --check-export -------------------------------------------------------------------------- */

/* One destination that is being asked. */
struct asked {
	struct check_report *report;
	struct event_base *base;
	enum otlp_signal signal;
};

static void on_answer(void *arg, const struct verdict *v)
{
	const struct asked *a = arg;
	const struct otlp_endpoint *e = &config.signals[a->signal];
	bool fine = v->kind == VERDICT_ACCEPTED;
	char code[32] = "";

	if (!fine && v->code >= 0)
		snprintf(code, sizeof(code), " (%s status %d)",
			 e->protocol == TRANSPORT_GRPC ? "gRPC" : "HTTP", v->code);
	check_say(a->report, fine ? FINE : BAD, "export", "%s to %s by %s: %s%s%s%s",
		  otlp_signal_names[a->signal], e->shown_url, otlp_protocol_names[e->protocol],
		  verdict_name(v->kind), code, v->message[0] ? ": " : "", v->message);
	event_base_loopbreak(a->base);
}

static void ask(struct asked *a, const struct credentials *credentials)
{
	static const char *const methods[OTLP_SIGNALS] = {
		"/opentelemetry.proto.collector.trace.v1.TraceService/Export",
		"/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
		"/opentelemetry.proto.collector.logs.v1.LogsService/Export",
	};
	const struct otlp_endpoint *e = &config.signals[a->signal];
	const bool json = e->protocol == TRANSPORT_HTTP_JSON;
	/* A request without resources: valid, and nothing arrives. */
	const struct transport_request request = {
		.body = (const uint8_t *)(json ? "{}" : ""),
		.len = json ? 2 : 0,
		.timeout_ms = e->timeout_ms && e->timeout_ms < AGENT_CHECK_EXPORT_MS
				      ? e->timeout_ms
				      : AGENT_CHECK_EXPORT_MS,
	};
	const struct transport_options options = {
		.protocol = e->protocol,
		.url = e->url,
		.grpc_method = e->protocol == TRANSPORT_GRPC ? methods[a->signal] : NULL,
		.headers = e->headers,
		.n_headers = e->n_headers,
		.gzip = e->gzip,
		.tls = credentials_tls(credentials),
		.user_agent = "Blixard/" BLIX_VERSION " OTel-OTLP-Exporter-C/" BLIX_VERSION,
		.partial = otlp_partial,
	};
	char reason[VERDICT_MESSAGE_MAX];
	struct transport *t = NULL;
	int err = transport_new(a->base, &options, &t, reason);

	if (err) {
		check_say(a->report, BAD, "export", "%s: %s", otlp_signal_names[a->signal], reason);
		return;
	}
	err = transport_send(t, &request, on_answer, a);
	if (err)
		check_say(a->report, BAD, "export", "%s: %s", otlp_signal_names[a->signal],
			  strerror(-err));
	else
		event_base_dispatch(a->base);
	transport_free(t);
}

int agent_check_export(void)
{
	struct check_report report = {0};
	struct asked a = {.report = &report, .base = event_base_new()};

	if (!a.base)
		return EXIT_FAILURE;
	signal(SIGPIPE, SIG_IGN); /* a far end that hangs up is a verdict */
	read_config(&report);
	for (int s = 0; s < OTLP_SIGNALS; s++) {
		struct credentials c = {0};

		a.signal = (enum otlp_signal)s;
		if (config.signals[s].on && read_credentials(&report, a.signal, &c) == 0)
			ask(&a, &c);
		credentials_done(&c);
	}
	event_base_free(a.base);
	if (!otlp_config_any(&config))
		report.bad++;
	printf("%s\n", report.bad ? "Not everything could be exported." : "Exports work.");
	return report.bad || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
