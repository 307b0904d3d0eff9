/* Goal: every OTEL_ variable that decides what is exported where means what OpenTelemetry says, a
 * wrong one costs itself alone and is spoken of, and no warning ever holds a secret.
 * Method: read made-up environments, right and wrong, both sides of each limit. What is accepted is
 * given to the transport, which has its own opinion of addresses and headers. */
#include "agent/export/otlp_config.h"

#include <criterion/criterion.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VARIABLES_MAX = 64, TEXT_MAX = 32768 };

static struct otlp_config config;
static char names[VARIABLES_MAX][96];
static char values[VARIABLES_MAX][TEXT_MAX];
static uint32_t n_variables;

static const char *get(void *arg, const char *name)
{
	cr_assert_eq(arg, (void *)names);
	for (uint32_t i = 0; i < n_variables; i++)
		if (!strcmp(names[i], name))
			return values[i];
	return NULL;
}

static void set(const char *name, const char *value)
{
	cr_assert_lt(n_variables, VARIABLES_MAX);
	snprintf(names[n_variables], sizeof(names[0]), "%s", name);
	snprintf(values[n_variables++], TEXT_MAX, "%s", value);
}

static void load(void)
{
	memset(&config, 0x5a, sizeof(config)); /* nothing may be left as it was */
	otlp_config_read(get, names, &config);
}

/* Lines of NAME=VALUE, nothing else set. */
static void env(const char *lines)
{
	char line[TEXT_MAX + 96], *equals;

	n_variables = 0;
	for (const char *at = lines; *at; at += at[0] == '\n') {
		size_t len = strcspn(at, "\n");

		snprintf(line, sizeof(line), "%.*s", (int)len, at);
		equals = strchr(line, '=');
		cr_assert(equals);
		*equals = '\0';
		set(line, equals + 1);
		at += len;
	}
	load();
}

static const struct otlp_endpoint *of(enum otlp_signal s)
{
	return &config.signals[s];
}

static void quiet(void)
{
	cr_expect_eq(config.n_warnings, 0, "%s", config.n_warnings ? config.warnings[0] : "");
}

/* Exactly one warning, which holds both. */
static void warned(const char *what, const char *remedy)
{
	cr_assert_eq(config.n_warnings, 1, "%u warnings, first: %s", config.n_warnings,
		     config.n_warnings ? config.warnings[0] : "");
	cr_expect(strstr(config.warnings[0], what), "no '%s' in: %s", what, config.warnings[0]);
	cr_expect(strstr(config.warnings[0], remedy), "no '%s' in: %s", remedy, config.warnings[0]);
	cr_expect_null(strchr(config.warnings[0], '\n'));
}

static bool warns_of(const char *text)
{
	for (uint32_t i = 0; i < config.n_warnings; i++)
		if (strstr(config.warnings[i], text))
			return true;
	return false;
}

static const char *header(enum otlp_signal s, const char *name)
{
	for (uint32_t i = 0; i < of(s)->n_headers; i++)
		if (!strcmp(of(s)->headers[i].name, name))
			return of(s)->headers[i].value;
	return NULL;
}

static void header_is(enum otlp_signal s, const char *name, const char *value)
{
	const char *got = header(s, name);

	cr_assert(got, "no %s", name);
	cr_expect_str_eq(got, value);
}

#define E  "OTEL_EXPORTER_OTLP_"
#define ON E "ENDPOINT=http://c:4317\n"

/* ---- what is on ------------------------------------------------------------------------------ */

Test(otlp_config, sends_nothing_anywhere_when_nothing_is_set)
{
	env("");
	quiet();
	cr_expect(!otlp_config_any(&config));
	for (int s = 0; s < OTLP_SIGNALS; s++) {
		cr_expect(!of(s)->on);
		cr_expect_str_eq(of(s)->url, "");
		cr_expect_eq(of(s)->n_headers, 0);
		cr_expect(!of(s)->gzip);
		cr_expect_eq(of(s)->timeout_ms, 10000);
		cr_expect_str_eq(of(s)->ca_file, "");
	}
	cr_expect_eq(config.batch[OTLP_TRACES].schedule_delay_ms, 5000);
	cr_expect_eq(config.batch[OTLP_TRACES].queue_items_max, 2048);
	cr_expect_eq(config.batch[OTLP_TRACES].batch_items_max, 512);
	cr_expect_eq(config.batch[OTLP_LOGS].schedule_delay_ms, 1000);
	cr_expect_eq(config.batch[OTLP_LOGS].queue_items_max, 2048);
	cr_expect_eq(config.batch[OTLP_LOGS].batch_items_max, 512);
	cr_expect_eq(config.metric_interval_ms, 60000);
	cr_expect_eq(config.temporality, OTLP_CUMULATIVE);
	cr_expect(!config.exponential_histograms);
	cr_expect(!config.disabled);
}

Test(otlp_config, takes_the_block_of_the_seed_guide_as_it_stands)
{
	env("OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317\n"
	    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://localhost:4317\n"
	    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://localhost:4317\n"
	    "OTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer your-token\n");
	quiet();
	cr_expect(otlp_config_any(&config));
	for (int s = 0; s < OTLP_SIGNALS; s++) {
		cr_expect(of(s)->on);
		cr_expect_eq(of(s)->protocol, TRANSPORT_GRPC);
		cr_expect_str_eq(of(s)->url, "http://localhost:4317");
		cr_expect_eq(of(s)->n_headers, 1);
		header_is(s, "authorization", "Bearer your-token");
		cr_expect(of(s)->headers[0].secret);
	}
}

Test(otlp_config, exports_only_the_signals_that_have_an_endpoint)
{
	env(E "METRICS_ENDPOINT=http://c:4317");
	quiet();
	cr_expect(!of(OTLP_TRACES)->on);
	cr_expect(of(OTLP_METRICS)->on);
	cr_expect(!of(OTLP_LOGS)->on);
	cr_expect(otlp_config_any(&config));
}

Test(otlp_config, an_empty_value_is_no_value)
{
	env(E "ENDPOINT=\n" E "TRACES_ENDPOINT= \t\n" E "PROTOCOL=\n" E "TIMEOUT=\n" E
	      "HEADERS=\n" E "CERTIFICATE=\nOTEL_SDK_DISABLED=\nOTEL_TRACES_EXPORTER=\n"
	      "OTEL_CONFIG_FILE=\nOTEL_BSP_SCHEDULE_DELAY=\n" E "INSECURE=");
	quiet();
	cr_expect(!otlp_config_any(&config));
	cr_expect_eq(of(OTLP_TRACES)->timeout_ms, 10000);
}

Test(otlp_config, a_disabled_sdk_exports_nothing)
{
	env(ON "OTEL_SDK_DISABLED=TrUe");
	quiet();
	cr_expect(config.disabled);
	cr_expect(!otlp_config_any(&config));
	env(ON "OTEL_SDK_DISABLED=false");
	quiet();
	cr_expect(!config.disabled);
	cr_expect(otlp_config_any(&config));
}

Test(otlp_config, a_boolean_that_is_neither_is_false_and_said)
{
	static const char *const odd[] = {"1", "yes", "on", "truee", "0"};

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		char text[128];

		snprintf(text, sizeof(text), ON "OTEL_SDK_DISABLED=%s", odd[i]);
		env(text);
		warned("OTEL_SDK_DISABLED", "taken as false");
		cr_expect(otlp_config_any(&config));
	}
}

Test(otlp_config, warns_of_a_configuration_file_and_keeps_the_variables)
{
	env(ON "OTEL_CONFIG_FILE=/etc/otel.yaml");
	warned("OTEL_CONFIG_FILE", "not supported");
	cr_expect(otlp_config_any(&config));
}

/* ---- exporters ------------------------------------------------------------------------------- */

Test(otlp_config, none_turns_one_signal_off)
{
	static const char *const words[] = {"TRACES", "METRICS", "LOGS"};

	for (int off = 0; off < OTLP_SIGNALS; off++) {
		char text[128];

		snprintf(text, sizeof(text), ON "OTEL_%s_EXPORTER=None", words[off]);
		env(text);
		quiet();
		for (int s = 0; s < OTLP_SIGNALS; s++)
			cr_expect_eq(of(s)->on, s != off);
	}
}

Test(otlp_config, otlp_by_name_needs_an_endpoint_that_somebody_named)
{
	env("OTEL_TRACES_EXPORTER=otlp");
	warned("OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_ENDPOINT");
	cr_expect(!otlp_config_any(&config));
	env(ON "OTEL_TRACES_EXPORTER=OTLP");
	quiet();
	cr_expect(of(OTLP_TRACES)->on);
}

Test(otlp_config, other_exporters_than_otlp_switch_it_off)
{
	env(ON "OTEL_METRICS_EXPORTER=prometheus"); /* which is served in any case */
	quiet();
	cr_expect(!of(OTLP_METRICS)->on);
	cr_expect(of(OTLP_TRACES)->on);
	env(ON "OTEL_METRICS_EXPORTER= prometheus , otlp");
	quiet();
	cr_expect(of(OTLP_METRICS)->on);
	env(ON "OTEL_LOGS_EXPORTER=console");
	warned("OTEL_LOGS_EXPORTER", "console");
	cr_expect(!of(OTLP_LOGS)->on);
	env(ON "OTEL_TRACES_EXPORTER=console,otlp");
	warned("OTEL_TRACES_EXPORTER", "console");
	cr_expect(of(OTLP_TRACES)->on);
	env(ON "OTEL_TRACES_EXPORTER=prometheus");
	warned("OTEL_TRACES_EXPORTER", "prometheus");
	cr_expect(!of(OTLP_TRACES)->on);
}

Test(otlp_config, an_unknown_exporter_is_as_if_it_were_not_there)
{
	env(ON "OTEL_TRACES_EXPORTER=telegraph");
	warned("OTEL_TRACES_EXPORTER", "telegraph");
	cr_expect(of(OTLP_TRACES)->on);
	env(ON "OTEL_TRACES_EXPORTER=telegraph,none");
	warned("OTEL_TRACES_EXPORTER", "telegraph");
	cr_expect(!of(OTLP_TRACES)->on);
	env(ON "OTEL_TRACES_EXPORTER=none,otlp");
	warned("OTEL_TRACES_EXPORTER", "beside none");
	cr_expect(of(OTLP_TRACES)->on);
}

/* ---- protocol -------------------------------------------------------------------------------- */

Test(otlp_config, the_protocol_is_grpc_unless_a_word_or_port_4318_says_otherwise)
{
	static const struct {
		const char *lines;
		enum transport_protocol protocol;
	} cases[] = {
		{E "ENDPOINT=http://c:4317", TRANSPORT_GRPC},
		{E "ENDPOINT=http://c", TRANSPORT_GRPC},
		{E "ENDPOINT=http://c:14318", TRANSPORT_GRPC},
		{E "ENDPOINT=http://c:4318", TRANSPORT_HTTP_PROTOBUF},
		{E "TRACES_ENDPOINT=http://c:4318/v1/traces\n" E "ENDPOINT=http://c:4317",
		 TRANSPORT_HTTP_PROTOBUF},
		{E "ENDPOINT=http://c:4318\n" E "PROTOCOL=grpc", TRANSPORT_GRPC},
		{E "ENDPOINT=http://c:4317\n" E "PROTOCOL=http/protobuf", TRANSPORT_HTTP_PROTOBUF},
		{E "ENDPOINT=http://c:4317\n" E "PROTOCOL=HTTP/JSON", TRANSPORT_HTTP_JSON},
		{E "ENDPOINT=http://c:4317\n" E "PROTOCOL=grpc\n" E "TRACES_PROTOCOL=http/json",
		 TRANSPORT_HTTP_JSON},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		env(cases[i].lines);
		quiet();
		cr_expect_eq(of(OTLP_TRACES)->protocol, cases[i].protocol, "%s", cases[i].lines);
	}
}

Test(otlp_config, an_unknown_protocol_is_shown_and_the_general_one_holds)
{
	env(ON E "TRACES_PROTOCOL=http/xml\n" E "PROTOCOL=http/json");
	warned("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/xml", "http/protobuf");
	cr_expect_eq(of(OTLP_TRACES)->protocol, TRANSPORT_HTTP_JSON);
	env(ON E "PROTOCOL=h\x01ttp");
	warned("OTEL_EXPORTER_OTLP_PROTOCOL=h?ttp", "not set");
	cr_expect_eq(of(OTLP_TRACES)->protocol, TRANSPORT_GRPC);
}

/* ---- addresses ------------------------------------------------------------------------------- */

Test(otlp_config, http_addresses_follow_the_rules_of_base_and_signal)
{
	static const struct {
		const char *lines, *traces, *metrics;
	} cases[] = {
		{E "ENDPOINT=http://c:4318", "http://c:4318/v1/traces", "http://c:4318/v1/metrics"},
		{E "ENDPOINT=http://c:4318/", "http://c:4318/v1/traces",
		 "http://c:4318/v1/metrics"},
		{E "ENDPOINT=http://c:4318/my", "http://c:4318/my/v1/traces",
		 "http://c:4318/my/v1/metrics"},
		{E "ENDPOINT=http://c:4318/my/", "http://c:4318/my/v1/traces",
		 "http://c:4318/my/v1/metrics"},
		{E "ENDPOINT=https://c/otlp?key=1", "https://c/otlp/v1/traces?key=1",
		 "https://c/otlp/v1/metrics?key=1"},
		{E "TRACES_ENDPOINT=http://c:4318\n" E "METRICS_ENDPOINT=https://x/v1/metrics/",
		 "http://c:4318/", "https://x/v1/metrics/"},
		{E "TRACES_ENDPOINT=http://c:4318/\n" E "METRICS_ENDPOINT=http://[::1]/any?a=b",
		 "http://c:4318/", "http://[::1]/any?a=b"},
		{E "ENDPOINT=HTTPS://C.example\n" E "TRACES_ENDPOINT=http://t?k", "http://t/?k",
		 "https://c.example/v1/metrics"},
		{E "ENDPOINT= http://c:4318 ", "http://c:4318/v1/traces",
		 "http://c:4318/v1/metrics"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[512];

		snprintf(text, sizeof(text), E "PROTOCOL=http/protobuf\n%s", cases[i].lines);
		env(text);
		quiet();
		cr_expect_str_eq(of(OTLP_TRACES)->url, cases[i].traces);
		cr_expect_str_eq(of(OTLP_METRICS)->url, cases[i].metrics);
	}
}

Test(otlp_config, the_logs_go_to_v1_logs)
{
	env(E "ENDPOINT=http://c:4318");
	cr_expect_str_eq(of(OTLP_LOGS)->url, "http://c:4318/v1/logs");
}

Test(otlp_config, grpc_takes_a_url_or_a_bare_host_and_port)
{
	static const struct {
		const char *value, *url;
	} cases[] = {
		{"http://c:4317", "http://c:4317"},	     {"https://c", "https://c"},
		{"http://[::1]:4317/", "http://[::1]:4317"}, {"c:4317", "http://c:4317"},
		{"[::1]:4317", "http://[::1]:4317"},	     {"10.0.0.1:1", "http://10.0.0.1:1"},
		{"collector", "http://collector"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[256];

		snprintf(text, sizeof(text), E "ENDPOINT=%s%s", cases[i].value,
			 strstr(cases[i].value, "://") ? "" : "\n" E "INSECURE=true");
		env(text);
		quiet();
		cr_expect(of(OTLP_TRACES)->on, "%s", text);
		cr_expect_eq(of(OTLP_TRACES)->protocol, TRANSPORT_GRPC);
		cr_expect_str_eq(of(OTLP_TRACES)->url, cases[i].url);
	}
}

Test(otlp_config, a_path_for_grpc_is_left_out_and_said)
{
	env(E "TRACES_ENDPOINT=http://c:4317/v1/traces?key=hush");
	warned("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "path");
	cr_expect_str_eq(of(OTLP_TRACES)->url, "http://c:4317");
	cr_expect(!warns_of("hush"));
}

Test(otlp_config, an_address_that_cannot_be_used_is_taken_as_not_set)
{
	static const char *const bad[] = {
		"http://",	  "ftp://c:4317",	  "http://c:0",
		"http://c:65536", "http://u:hush@c:4317", "http://c:4317/#hush",
		"c d:4317"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[256];

		snprintf(text, sizeof(text), E "ENDPOINT=%s", bad[i]);
		env(text);
		warned("OTEL_EXPORTER_OTLP_ENDPOINT", "not set");
		cr_expect(!otlp_config_any(&config), "%s", bad[i]);
		cr_expect(!warns_of("hush"));
	}
	env(E "TRACES_ENDPOINT=ftp://c\n" E "ENDPOINT=http://general:4317");
	warned("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "neither http nor https");
	cr_expect_str_eq(of(OTLP_TRACES)->url, "http://general:4317");
}

Test(otlp_config, http_needs_a_scheme)
{
	env(E "ENDPOINT=localhost:4318");
	warned("OTEL_EXPORTER_OTLP_ENDPOINT", "Write http://");
	cr_expect(!otlp_config_any(&config));
	env(E "ENDPOINT=localhost:9\n" E "PROTOCOL=http/json");
	warned("http/json", "Write http://");
	cr_expect(!otlp_config_any(&config));
}

Test(otlp_config, an_address_has_a_limit)
{
	static const char lead[] = "http://c:4318/";
	static const char tail[] = "/v1/metrics"; /* the longest */
	char path[OTLP_CONFIG_URL_MAX];
	size_t fits = OTLP_CONFIG_URL_MAX - 1 - strlen(lead) - strlen(tail);

	for (size_t over = 0; over < 2; over++) {
		n_variables = 0;
		memset(path, 'p', sizeof(path));
		memcpy(path, lead, strlen(lead));
		path[strlen(lead) + fits + over] = '\0';
		set(E "ENDPOINT", path);
		load();
		cr_expect_eq(of(OTLP_METRICS)->on, !over);
		cr_expect(of(OTLP_LOGS)->on); /* two bytes shorter */
		cr_expect_eq(config.n_warnings, over);
		cr_expect_eq(strlen(of(OTLP_METRICS)->url), over ? 0 : OTLP_CONFIG_URL_MAX - 1);
	}
	n_variables = 0;
	set(E "ENDPOINT", "http://c:4318/");
	memset(values[0] + 14, 'p', 20000);
	values[0][20014] = '\0';
	load();
	warned("OTEL_EXPORTER_OTLP_ENDPOINT", "longer");
	cr_expect(!otlp_config_any(&config));
}

Test(otlp_config, without_a_scheme_insecure_decides_and_its_default_is_tls)
{
	env(E "ENDPOINT=c:4317");
	warned("OTEL_EXPORTER_OTLP_ENDPOINT", "INSECURE=true");
	cr_expect_str_eq(of(OTLP_TRACES)->url, "https://c:4317");
	env(E "ENDPOINT=c:4317\n" E "INSECURE=false");
	quiet();
	cr_expect_str_eq(of(OTLP_TRACES)->url, "https://c:4317");
	env(E "ENDPOINT=c:4317\n" E "INSECURE=TRUE\n" E "LOGS_INSECURE=false");
	quiet();
	cr_expect_str_eq(of(OTLP_TRACES)->url, "http://c:4317");
	cr_expect_str_eq(of(OTLP_LOGS)->url, "https://c:4317");
}

Test(otlp_config, a_scheme_beats_insecure)
{
	env(E "ENDPOINT=https://c:4317\n" E "INSECURE=true");
	warned("OTEL_EXPORTER_OTLP_INSECURE", "https");
	cr_expect_str_eq(of(OTLP_TRACES)->url, "https://c:4317");
	env(E "ENDPOINT=http://c:4317\n" E "INSECURE=false");
	warned("OTEL_EXPORTER_OTLP_INSECURE", "http");
	cr_expect_str_eq(of(OTLP_TRACES)->url, "http://c:4317");
	env(E "ENDPOINT=http://c:4317\n" E "INSECURE=true");
	quiet();
}

/* ---- headers --------------------------------------------------------------------------------- */

Test(otlp_config, headers_are_decoded_and_trimmed)
{
	env(ON E
	    "HEADERS=Authorization=Bearer%20tok, X-Key = a%3Db=c%2C%25 ,b64=eQ==,empty=,s=a;b");
	quiet();
	cr_expect_eq(of(OTLP_TRACES)->n_headers, 5);
	header_is(OTLP_TRACES, "authorization", "Bearer tok");
	header_is(OTLP_TRACES, "x-key", "a=b=c,%");
	header_is(OTLP_TRACES, "b64", "eQ==");
	header_is(OTLP_TRACES, "empty", "");
	header_is(OTLP_TRACES, "s", "a;b");
	env(ON E "HEADERS=,a=%C3%a9, ,");
	quiet();
	header_is(OTLP_TRACES, "a", "\xc3\xa9");
}

Test(otlp_config, headers_of_a_signal_go_over_those_of_all_key_by_key)
{
	env(ON E "HEADERS=Authorization=all,tenant=t\n" E
		 "METRICS_HEADERS=authorization=own,extra=e");
	quiet();
	cr_expect_eq(of(OTLP_METRICS)->n_headers, 3);
	header_is(OTLP_METRICS, "authorization", "own");
	header_is(OTLP_METRICS, "tenant", "t");
	header_is(OTLP_METRICS, "extra", "e");
	cr_expect_eq(of(OTLP_TRACES)->n_headers, 2);
	header_is(OTLP_TRACES, "authorization", "all");
}

Test(otlp_config, a_bad_member_of_the_headers_costs_itself_alone_and_is_never_shown)
{
	static const struct {
		const char *member, *reason;
	} cases[] = {
		{"hush", "no '='"},
		{"=hush", "no key"},
		{"a b=hush", "key that no header can have"},
		{":path=hush", "key that no header can have"},
		{"k\xc3\xa9=hush", "key that no header can have"},
		{"k=hush%0d%0aEvil: 1", "control character"},
		{"k=hush%0A", "control character"},
		{"k=hush%00x", "control character"},
		{"k=hush%7f", "control character"},
		{"k=hush\r", "control character"},
		{"k=hush\x01z", "control character"},
		{"k=hush%2", "two hex digits"},
		{"k=hush%", "two hex digits"},
		{"k=hush%zz", "two hex digits"},
		{"Content-Type=hush", "sets itself"},
		{"HOST=hush", "sets itself"},
		{"grpc-timeout=hush", "gRPC itself"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[256];

		snprintf(text, sizeof(text), ON E "HEADERS=first=1,%s,last=2", cases[i].member);
		env(text);
		warned("OTEL_EXPORTER_OTLP_HEADERS: member 2", cases[i].reason);
		cr_expect(!warns_of("hush"));
		cr_expect_eq(of(OTLP_TRACES)->n_headers, 2, "%s", cases[i].member);
		header_is(OTLP_TRACES, "first", "1");
		header_is(OTLP_TRACES, "last", "2");
	}
}

Test(otlp_config, the_number_of_headers_has_a_limit)
{
	for (int over = 0; over < 2; over++) {
		char list[1024] = "";
		size_t len = 0;

		for (int i = 0; i < OTLP_CONFIG_HEADERS_MAX + over; i++)
			len += (size_t)snprintf(list + len, sizeof(list) - len, "k%d=v,", i);
		n_variables = 0;
		set(E "ENDPOINT", "http://c:4317");
		set(E "HEADERS", list);
		load();
		cr_expect_eq(config.n_warnings, over);
		cr_expect_eq(of(OTLP_LOGS)->n_headers, OTLP_CONFIG_HEADERS_MAX);
		cr_expect(!over || warns_of("member 33"));
	}
}

Test(otlp_config, the_bytes_of_headers_have_a_limit)
{
	size_t fits = OTLP_CONFIG_HEADER_BYTES_MAX - 2 - 1; /* two ends and the key "k" */

	for (size_t over = 0; over < 2; over++) {
		n_variables = 0;
		set(E "ENDPOINT", "http://c:4317");
		set(E "HEADERS", "k=");
		memset(values[1] + 2, 'v', fits + over);
		values[1][2 + fits + over] = '\0';
		load();
		cr_expect_eq(config.n_warnings, over);
		cr_expect_eq(of(OTLP_LOGS)->n_headers, !over);
		cr_expect(over || strlen(header(OTLP_LOGS, "k")) == fits);
	}
}

/* What one lets through the other must not refuse: a refused header stops a whole destination. */
Test(otlp_config, the_transport_takes_what_the_configuration_lets_through)
{
	static const char *const keys[] = {
		"content-type", "content-length", "content-encoding", "te",	"host",
		"connection",	"user-agent",	  "expect",	      "grpc-x", "transfer-encoding",
		"Upper",	"x!#$&'*+^`|~.",  "accept",	      "t\te"};
	struct event_base *base = event_base_new();

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		for (int c = 1; c < 256; c++) {
			char text[256], reason[VERDICT_MESSAGE_MAX] = "";
			struct transport_options options = {.grpc_method = "/s/m"};
			struct transport *t;

			if (c == '\n')
				continue;
			snprintf(text, sizeof(text), ON E "HEADERS=%s=a%%%02xb", keys[i], c);
			env(text);
			options.url = of(OTLP_TRACES)->url;
			options.headers = of(OTLP_TRACES)->headers;
			options.n_headers = of(OTLP_TRACES)->n_headers;
			cr_assert_eq(transport_new(base, &options, &t, reason), 0, "%s: %s", text,
				     reason);
			transport_free(t);
		}
	}
	event_base_free(base);
}

/* ---- the rest of an endpoint ----------------------------------------------------------------- */

Test(otlp_config, compression_is_none_or_gzip)
{
	env(ON E "COMPRESSION=GZip\n" E "LOGS_COMPRESSION=none");
	quiet();
	cr_expect(of(OTLP_TRACES)->gzip);
	cr_expect(!of(OTLP_LOGS)->gzip);
	env(ON E "COMPRESSION=zstd");
	warned("OTEL_EXPORTER_OTLP_COMPRESSION=zstd", "gzip");
	cr_expect(!of(OTLP_TRACES)->gzip);
}

Test(otlp_config, a_timeout_is_milliseconds_and_zero_is_without_limit)
{
	env(ON E "TIMEOUT=2500\n" E "TRACES_TIMEOUT=0\n" E "METRICS_TIMEOUT=2147483647");
	quiet();
	cr_expect_eq(of(OTLP_TRACES)->timeout_ms, 0);
	cr_expect_eq(of(OTLP_METRICS)->timeout_ms, 2147483647);
	cr_expect_eq(of(OTLP_LOGS)->timeout_ms, 2500);
}

Test(otlp_config, a_bad_number_is_shown_and_taken_as_not_set)
{
	static const char *const bad[] = {"-1",		"10s",	      "1.5",
					  "2147483648", "4294967296", "+5",
					  "0x10",	"1 2",	      "99999999999999999999999999",
					  "lots"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[256];

		snprintf(text, sizeof(text), ON E "TRACES_TIMEOUT=%s\n" E "TIMEOUT=7", bad[i]);
		env(text);
		warned("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", bad[i]);
		cr_expect_eq(of(OTLP_TRACES)->timeout_ms, 7);
	}
}

Test(otlp_config, the_timeout_of_an_export_bounds_an_attempt_where_it_is_shorter)
{
	env(ON "OTEL_BSP_EXPORT_TIMEOUT=3000\nOTEL_BLRP_EXPORT_TIMEOUT=30000\n"
	       "OTEL_METRIC_EXPORT_TIMEOUT=0");
	quiet();
	cr_expect_eq(of(OTLP_TRACES)->timeout_ms, 3000);
	cr_expect_eq(of(OTLP_LOGS)->timeout_ms, 10000);
	cr_expect_eq(of(OTLP_METRICS)->timeout_ms, 10000);
	env(ON E "TIMEOUT=0\nOTEL_METRIC_EXPORT_TIMEOUT=4000");
	cr_expect_eq(of(OTLP_METRICS)->timeout_ms, 4000);
	cr_expect_eq(of(OTLP_TRACES)->timeout_ms, 0);
}

Test(otlp_config, certificates_are_named_for_all_or_for_one)
{
	env(ON E "CERTIFICATE=/ca\n" E "CLIENT_CERTIFICATE=/cert\n" E "CLIENT_KEY=/key\n" E
		 "LOGS_CERTIFICATE=/logs ca");
	quiet();
	cr_expect_str_eq(of(OTLP_TRACES)->ca_file, "/ca");
	cr_expect_str_eq(of(OTLP_TRACES)->client_cert_file, "/cert");
	cr_expect_str_eq(of(OTLP_TRACES)->client_key_file, "/key");
	cr_expect_str_eq(of(OTLP_LOGS)->ca_file, "/logs ca");
	cr_expect_str_eq(of(OTLP_LOGS)->client_key_file, "/key");
}

Test(otlp_config, a_client_certificate_needs_its_key)
{
	env(ON E "METRICS_CLIENT_CERTIFICATE=/cert");
	warned("metrics", "OTEL_EXPORTER_OTLP_CLIENT_KEY");
	cr_expect_str_eq(of(OTLP_METRICS)->client_cert_file, "");
	env(ON E "METRICS_CLIENT_KEY=/key");
	warned("metrics", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
	cr_expect_str_eq(of(OTLP_METRICS)->client_key_file, "");
}

Test(otlp_config, a_path_has_a_limit)
{
	for (size_t over = 0; over < 2; over++) {
		n_variables = 0;
		set(E "ENDPOINT", "http://c:4317");
		set(E "CERTIFICATE", "");
		memset(values[1], '/', OTLP_CONFIG_PATH_MAX - 1 + over);
		values[1][OTLP_CONFIG_PATH_MAX - 1 + over] = '\0';
		load();
		cr_expect_eq(config.n_warnings, over);
		cr_expect_eq(strlen(of(OTLP_LOGS)->ca_file), over ? 0 : OTLP_CONFIG_PATH_MAX - 1);
	}
}

/* ---- batches and metrics --------------------------------------------------------------------- */

Test(otlp_config, batches_are_as_asked_within_their_limits)
{
	env("OTEL_BSP_SCHEDULE_DELAY=100\nOTEL_BSP_MAX_QUEUE_SIZE=1048576\n"
	    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=1\nOTEL_BLRP_SCHEDULE_DELAY=1\n"
	    "OTEL_BLRP_MAX_QUEUE_SIZE=512\nOTEL_BLRP_MAX_EXPORT_BATCH_SIZE=512");
	quiet();
	cr_expect_eq(config.batch[OTLP_TRACES].schedule_delay_ms, 100);
	cr_expect_eq(config.batch[OTLP_TRACES].queue_items_max, 1048576);
	cr_expect_eq(config.batch[OTLP_TRACES].batch_items_max, 1);
	cr_expect_eq(config.batch[OTLP_LOGS].schedule_delay_ms, 1);
	cr_expect_eq(config.batch[OTLP_LOGS].queue_items_max, 512);
	cr_expect_eq(config.batch[OTLP_LOGS].batch_items_max, 512);
	env("OTEL_BSP_SCHEDULE_DELAY=0");
	warned("OTEL_BSP_SCHEDULE_DELAY=0", "not set");
	cr_expect_eq(config.batch[OTLP_TRACES].schedule_delay_ms, 5000);
	env("OTEL_BSP_MAX_QUEUE_SIZE=1048577");
	warned("OTEL_BSP_MAX_QUEUE_SIZE=1048577", "not set");
	cr_expect_eq(config.batch[OTLP_TRACES].queue_items_max, 2048);
	env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE=513");
	warned("OTEL_BSP_MAX_EXPORT_BATCH_SIZE=513", "taken as 512");
	cr_expect_eq(config.batch[OTLP_TRACES].batch_items_max, 512);
}

Test(otlp_config, a_batch_is_never_larger_than_its_queue)
{
	env("OTEL_BLRP_MAX_QUEUE_SIZE=100\nOTEL_BLRP_MAX_EXPORT_BATCH_SIZE=101");
	warned("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE=101", "taken as 100");
	cr_expect_eq(config.batch[OTLP_LOGS].batch_items_max, 100);
	env("OTEL_BLRP_MAX_QUEUE_SIZE=100");
	quiet();
	cr_expect_eq(config.batch[OTLP_LOGS].batch_items_max, 100);
}

Test(otlp_config, metrics_have_interval_temporality_and_aggregation)
{
	env("OTEL_METRIC_EXPORT_INTERVAL=1500\n" E "METRICS_TEMPORALITY_PREFERENCE=Delta\n" E
	    "METRICS_DEFAULT_HISTOGRAM_AGGREGATION=base2_exponential_bucket_histogram");
	quiet();
	cr_expect_eq(config.metric_interval_ms, 1500);
	cr_expect_eq(config.temporality, OTLP_DELTA);
	cr_expect(config.exponential_histograms);
	env(E "METRICS_TEMPORALITY_PREFERENCE=lowmemory\n" E
	      "METRICS_DEFAULT_HISTOGRAM_AGGREGATION=explicit_bucket_histogram");
	quiet();
	cr_expect_eq(config.temporality, OTLP_LOWMEMORY);
	cr_expect(!config.exponential_histograms);
	env(E "METRICS_TEMPORALITY_PREFERENCE=cumulative");
	quiet();
	cr_expect_eq(config.temporality, OTLP_CUMULATIVE);
	env(E "METRICS_TEMPORALITY_PREFERENCE=sometimes");
	warned("sometimes", "lowmemory");
	cr_expect_eq(config.temporality, OTLP_CUMULATIVE);
	env(E "METRICS_DEFAULT_HISTOGRAM_AGGREGATION=round");
	warned("round", "base2_exponential_bucket_histogram");
	env("OTEL_METRIC_EXPORT_INTERVAL=0");
	warned("OTEL_METRIC_EXPORT_INTERVAL=0", "not set");
	cr_expect_eq(config.metric_interval_ms, 60000);
}

/* ---- warnings -------------------------------------------------------------------------------- */

Test(otlp_config, warnings_have_a_limit_and_the_last_says_so)
{
	for (int over = -1; over < 2; over++) {
		char list[256] = "", *end = list;

		for (int i = 0; i < OTLP_CONFIG_WARNINGS_MAX + over; i++)
			end = stpcpy(end, "bad,");
		n_variables = 0;
		set(E "ENDPOINT", "http://c:4317");
		set(E "HEADERS", list);
		load();
		cr_expect_eq(config.n_warnings, OTLP_CONFIG_WARNINGS_MAX - (over < 0));
		cr_expect_eq(warns_of("more is wrong"), over == 1);
		cr_expect(warns_of("member 31"));
		cr_expect(of(OTLP_TRACES)->on);
	}
}

Test(otlp_config, a_long_value_is_shown_in_part)
{
	n_variables = 0;
	set(E "COMPRESSION", "");
	memset(values[0], 'z', 10000);
	values[0][10000] = '\0';
	load();
	warned("zzzzzzzzzz...", "gzip");
}

Test(otlp_config, an_address_is_shown_without_its_query)
{
	set("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
	set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c.example/v1/traces?api_key=hunter2");
	set("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://c.example/v1/logs");
	load();
	cr_assert(config.signals[OTLP_TRACES].on);
	cr_expect_not_null(strstr(config.signals[OTLP_TRACES].url, "hunter2"), "it is sent");
	cr_expect_str_eq(config.signals[OTLP_TRACES].shown_url, "https://c.example/v1/traces?...");
	cr_expect_str_eq(config.signals[OTLP_LOGS].shown_url, "https://c.example/v1/logs");
	cr_expect_str_eq(config.signals[OTLP_METRICS].shown_url, "");
}
