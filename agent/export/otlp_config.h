/* agent/export/otlp_config.h - the OTEL_* environment as one validated configuration.
 *
 * Pure: the environment is asked through a callback, files are only named (the disk thread reads
 * them). The rules are OpenTelemetry's; where it leaves room, ours: the protocol is grpc unless
 * OTEL_EXPORTER_OTLP_PROTOCOL or the port 4318 says otherwise, because the seed guide sets port 4317 and
 * no protocol. A signal is exported once an endpoint is set for it or for all; nothing is ever sent to a
 * default address that nobody named. Unusable values are warned about and treated as unset. An
 * address without a scheme means TLS unless INSECURE is true. OTEL_{BSP,BLRP,METRIC}_EXPORT_TIMEOUT,
 * where set, shorten the deadline of an attempt: retries are not bounded by time here.
 *
 * Thread rule: none. Includes: transport.h, encode/otlp.h, libc. */
#ifndef BLIX_AGENT_EXPORT_OTLP_CONFIG_H
#define BLIX_AGENT_EXPORT_OTLP_CONFIG_H

#include "agent/encode/otlp.h"
#include "agent/export/transport.h"

enum otlp_signal { OTLP_TRACES, OTLP_METRICS, OTLP_LOGS, OTLP_SIGNALS };
extern const char *const otlp_signal_names[OTLP_SIGNALS]; /* "traces" ... */
extern const char
	*const otlp_protocol_names[]; /* by enum transport_protocol: "grpc" ...; NULL ends */

enum {
	OTLP_CONFIG_URL_MAX = 1024,
	OTLP_CONFIG_PATH_MAX = 1024,
	OTLP_CONFIG_HEADERS_MAX = 32,
	OTLP_CONFIG_HEADER_BYTES_MAX = 8192, /* of all headers of a signal */
	OTLP_CONFIG_WARNINGS_MAX = 32,
	OTLP_CONFIG_WARNING_BYTES = 320,
};

/* Where one signal goes. Plain data with pointers into itself: never copy it. */
struct otlp_endpoint {
	bool on;
	enum transport_protocol protocol;
	char url[OTLP_CONFIG_URL_MAX]; /* complete, with the path of the signal for HTTP */
	/* The same for people: a query may hold a key, so "?..." stands for it. */
	char shown_url[OTLP_CONFIG_URL_MAX + 8];
	uint32_t n_headers;
	struct transport_header headers[OTLP_CONFIG_HEADERS_MAX]; /* all secret */
	char header_bytes[OTLP_CONFIG_HEADER_BYTES_MAX];
	bool gzip;
	uint32_t timeout_ms; /* of one attempt; 0 = no limit */
	/* "" = none. */
	char ca_file[OTLP_CONFIG_PATH_MAX];
	char client_cert_file[OTLP_CONFIG_PATH_MAX];
	char client_key_file[OTLP_CONFIG_PATH_MAX];
};

struct otlp_config {
	bool disabled; /* OTEL_SDK_DISABLED: everything is off, whatever else is said */
	struct otlp_endpoint signals[OTLP_SIGNALS];
	/* OTEL_BSP_* (traces) and OTEL_BLRP_* (logs) */
	struct {
		uint32_t schedule_delay_ms;
		uint32_t queue_items_max;
		uint32_t batch_items_max;
	} batch[OTLP_SIGNALS];
	uint32_t metric_interval_ms;
	enum otlp_temporality temporality;
	bool exponential_histograms;
	/* One line each: which variable, what is wrong, what is done instead. Never a header's value. */
	uint32_t n_warnings;
	char warnings[OTLP_CONFIG_WARNINGS_MAX][OTLP_CONFIG_WARNING_BYTES];
};

/* The value of an environment variable; NULL: unset. */
typedef const char *(*otlp_getenv)(void *arg, const char *name);

/* Read everything. Never fails. *ret_config is overwritten; it is large: keep it off the stack. */
void otlp_config_read(otlp_getenv get, void *arg, struct otlp_config *ret_config);

/* Is anything exported at all? */
bool otlp_config_any(const struct otlp_config *config);

#endif
