/* agent/export/otlp_config.c - see otlp_config.h. Includes: otlp_headers.h, url.h, libc. Pure.
 *
 * A setting with a variable for one signal and one for all is asked for in that order; a value that
 * cannot be used is warned about, and the search goes on as if it were unset. */
#include "agent/export/otlp_config.h"
#include "agent/export/otlp_headers.h"
#include "agent/export/url.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *const otlp_signal_names[OTLP_SIGNALS] = {"traces", "metrics", "logs"};
static const char *const signal_words[OTLP_SIGNALS] = {"TRACES", "METRICS", "LOGS"};

enum {
	NAME_MAX_BYTES = 96, /* of a variable */
	SHOWN_MAX = 40,	     /* of a value, in a warning */
	HTTP_PORT_USUAL = 4318,
	TIMEOUT_DEFAULT_MS = 10000,
	MS_MAX = INT32_MAX, /* the widest integer that every SDK takes */
	QUEUE_ITEMS_MAX = 1 << 20,
};

struct reader {
	otlp_getenv get;
	void *arg;
	struct otlp_config *config;
};

/* ---- warnings -------------------------------------------------------------------------------- */

/* What the variables of all signals say wrong is found once a signal, and said once. */
__attribute__((format(printf, 2, 3))) static void warn(struct reader *r, const char *format, ...)
{
	struct otlp_config *c = r->config;
	char text[OTLP_CONFIG_WARNING_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	for (uint32_t i = 0; i < c->n_warnings; i++)
		if (!strcmp(c->warnings[i], text))
			return;
	if (c->n_warnings == OTLP_CONFIG_WARNINGS_MAX)
		snprintf(c->warnings[OTLP_CONFIG_WARNINGS_MAX - 1], OTLP_CONFIG_WARNING_BYTES,
			 "OTEL_*: more is wrong than is listed here: mend these first");
	else
		memcpy(c->warnings[c->n_warnings++], text, sizeof(text));
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Without the white space around it. */
struct value {
	const char *at;
	size_t len;
};

/* A value as a warning may show it: printable, not long. */
struct shown {
	char text[SHOWN_MAX + 4];
};

static struct shown show(struct value v)
{
	size_t n = v.len < SHOWN_MAX ? v.len : SHOWN_MAX;
	struct shown s = {0};

	for (size_t i = 0; i < n; i++)
		s.text[i] = v.at[i] >= ' ' && v.at[i] <= '~' ? v.at[i] : '?';
	if (v.len > n)
		memcpy(s.text + n, "...", 3);
	return s;
}

static struct value trimmed(const char *at, size_t len)
{
	while (len && strchr(" \t\r\n", at[0]))
		at++, len--;
	while (len && strchr(" \t\r\n", at[len - 1]))
		len--;
	return (struct value){at, len};
}

/* False: unset, which an empty value is too. */
static bool look(const struct reader *r, const char *name, struct value *ret)
{
	const char *text = r->get(r->arg, name);
	struct value v = text ? trimmed(text, strlen(text)) : (struct value){0};

	if (!v.len)
		return false;
	*ret = v;
	return true;
}

static bool is_word(struct value v, const char *word)
{
	return v.len == strlen(word) && !strncasecmp(v.at, word, v.len);
}

/* A boolean is true or it is false; what is neither is false and spoken of. */
static bool boolean(struct reader *r, const char *name, bool *ret_is_set)
{
	struct value v;

	*ret_is_set = look(r, name, &v);
	if (!*ret_is_set || is_word(v, "false"))
		return false;
	if (is_word(v, "true"))
		return true;
	warn(r, "%s=%s is neither true nor false: taken as false", name, show(v).text);
	return false;
}

/* False: unset or unusable; then *ret is as it was. */
static bool number(struct reader *r, const char *name, uint32_t low, uint32_t high, uint32_t *ret)
{
	struct value v;
	uint64_t n = 0;
	size_t i = 0;

	if (!look(r, name, &v))
		return false;
	for (; i < v.len && v.at[i] >= '0' && v.at[i] <= '9' && n <= UINT32_MAX; i++)
		n = n * 10 + (uint64_t)(v.at[i] - '0');
	if (i < v.len || n < low || n > high) {
		warn(r,
		     "%s=%s is no whole number from %" PRIu32 " to %" PRIu32 ": taken as not set",
		     name, show(v).text, low, high);
		return false;
	}
	*ret = (uint32_t)n;
	return true;
}

/* The index of the value in words, an array that NULL ends; -1: unset or unknown. */
static int choice(struct reader *r, const char *name, const char *const *words)
{
	struct value v;
	char list[128] = "";
	size_t len = 0;

	if (!look(r, name, &v))
		return -1;
	for (int i = 0; words[i]; i++)
		if (is_word(v, words[i]))
			return i;
	for (int i = 0; words[i] && len < sizeof(list); i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "",
					words[i]);
	warn(r, "%s=%s is none of %s: taken as not set", name, show(v).text, list);
	return -1;
}

/* ---- settings with a variable for one signal and one for all --------------------------------- */

enum { LEVELS = 2 };

/* Level 0 is the signal's own variable, 1 that of all. */
static void level_name(char name[NAME_MAX_BYTES], int level, enum otlp_signal s, const char *what)
{
	snprintf(name, NAME_MAX_BYTES, "OTEL_EXPORTER_OTLP_%s%s%s",
		 level == 0 ? signal_words[s] : "", level == 0 ? "_" : "", what);
}

static int level_choice(struct reader *r, enum otlp_signal s, const char *what,
			const char *const *words)
{
	char name[NAME_MAX_BYTES];
	int i = -1;

	for (int level = 0; level < LEVELS && i < 0; level++) {
		level_name(name, level, s, what);
		i = choice(r, name, words);
	}
	return i;
}

static void read_timeout(struct reader *r, enum otlp_signal s, struct otlp_endpoint *e)
{
	static const char *const whole[OTLP_SIGNALS] = {
		"OTEL_BSP_EXPORT_TIMEOUT",
		"OTEL_METRIC_EXPORT_TIMEOUT",
		"OTEL_BLRP_EXPORT_TIMEOUT",
	};
	char name[NAME_MAX_BYTES];
	uint32_t limit_ms = 0;
	bool found = false;

	e->timeout_ms = TIMEOUT_DEFAULT_MS;
	for (int level = 0; level < LEVELS && !found; level++) {
		level_name(name, level, s, "TIMEOUT");
		found = number(r, name, 0, MS_MAX, &e->timeout_ms);
	}
	/* An SDK gives an export with all its retries this long. Here retries go on until a batch
	 * is through, so all that is left for it to bound is one attempt; 0 bounds nothing. */
	if (number(r, whole[s], 0, MS_MAX, &limit_ms) && limit_ms &&
	    (!e->timeout_ms || limit_ms < e->timeout_ms))
		e->timeout_ms = limit_ms;
}

static void read_path(struct reader *r, enum otlp_signal s, const char *what,
		      char path[OTLP_CONFIG_PATH_MAX])
{
	char name[NAME_MAX_BYTES];
	struct value v;

	for (int level = 0; level < LEVELS; level++) {
		level_name(name, level, s, what);
		if (!look(r, name, &v))
			continue;
		if (v.len < OTLP_CONFIG_PATH_MAX) {
			memcpy(path, v.at, v.len);
			path[v.len] = '\0';
			return;
		}
		warn(r, "%s is longer than %d bytes: taken as not set", name,
		     OTLP_CONFIG_PATH_MAX - 1);
	}
}

static void read_files(struct reader *r, enum otlp_signal s, struct otlp_endpoint *e)
{
	read_path(r, s, "CERTIFICATE", e->ca_file);
	read_path(r, s, "CLIENT_CERTIFICATE", e->client_cert_file);
	read_path(r, s, "CLIENT_KEY", e->client_key_file);
	if (!e->client_cert_file[0] == !e->client_key_file[0])
		return;
	warn(r,
	     "OTEL_EXPORTER_OTLP_CLIENT_%s stands alone for %s: no client certificate is sent "
	     "without OTEL_EXPORTER_OTLP_CLIENT_%s",
	     e->client_key_file[0] ? "KEY" : "CERTIFICATE", otlp_signal_names[s],
	     e->client_key_file[0] ? "CERTIFICATE" : "KEY");
	e->client_cert_file[0] = e->client_key_file[0] = '\0';
}

/* ---- headers --------------------------------------------------------------------------------- */

struct headers_source {
	struct reader *reader;
	const char *name;
};

static void header_left_out(void *arg, uint32_t nth, const char *reason)
{
	const struct headers_source *source = arg;

	warn(source->reader, "%s: member %" PRIu32 " of the list %s; left out", source->name, nth,
	     reason);
}

static void read_headers(struct reader *r, enum otlp_signal s, struct otlp_endpoint *e)
{
	char name[NAME_MAX_BYTES];
	struct headers_source source = {r, name};
	struct otlp_headers headers = {
		.endpoint = e,
		.left_out = header_left_out,
		.arg = &source,
	};

	for (int level = LEVELS - 1; level >= 0; level--) {
		const char *list;

		level_name(name, level, s, "HEADERS");
		list = r->get(r->arg, name);
		if (list)
			otlp_headers_add(&headers, list);
	}
}

/* ---- endpoints ------------------------------------------------------------------------------- */

const char *const otlp_protocol_names[] = {"grpc", "http/protobuf", "http/json", NULL};

/* Is "host:port" to be spoken to in plain text? */
static bool is_insecure(struct reader *r, enum otlp_signal s, bool *ret_is_set,
			char name[NAME_MAX_BYTES])
{
	bool insecure = false;

	*ret_is_set = false;
	for (int level = 0; level < LEVELS && !*ret_is_set; level++) {
		level_name(name, level, s, "INSECURE");
		insecure = boolean(r, name, ret_is_set);
	}
	return insecure;
}

/* http or https. A scheme that the address names decides; else INSECURE does, where "not set" is
 * false, as in every SDK: the secure way is the one that needs no word. */
static bool choose_tls(struct reader *r, enum otlp_signal s, const char *name, const struct url *u)
{
	char insecure_name[NAME_MAX_BYTES];
	bool is_set, insecure = is_insecure(r, s, &is_set, insecure_name);

	if (u->bare && !is_set)
		warn(r,
		     "%s names no scheme: https:// is taken. For plain text write http:// before "
		     "it, or set OTEL_EXPORTER_OTLP_INSECURE=true",
		     name);
	if (!u->bare && is_set && insecure == u->tls)
		warn(r, "%s=%s is not looked at: the scheme %s of %s decides", insecure_name,
		     insecure ? "true" : "false", u->tls ? "https" : "http", name);
	return u->bare ? !insecure : u->tls;
}

/* Path and query of the requests: `base` is that of the variable. */
static void http_path(char *path, size_t size, const char *base, bool is_base, enum otlp_signal s)
{
	size_t len = strcspn(base, "?");
	bool has_slash = len && base[len - 1] == '/';

	if (is_base)
		snprintf(path, size, "%.*s%sv1/%s%s", (int)len, base, has_slash ? "" : "/",
			 otlp_signal_names[s], base + len);
	else
		snprintf(path, size, "%s", base[0] ? base : "/");
}

static bool compose(struct reader *r, enum otlp_signal s, int level, const char *name,
		    const struct url *u, struct otlp_endpoint *e)
{
	char path[URL_PATH_MAX + 16] = "", authority[URL_HOST_MAX + 9];
	bool tls = choose_tls(r, s, name, u);
	int n;

	if (e->protocol != TRANSPORT_GRPC)
		http_path(path, sizeof(path), u->path, level != 0, s);
	else if (u->path[0] && strcmp(u->path, "/") != 0)
		warn(r, "%s has a path, which gRPC does not use: left out", name);
	url_authority(u, u->port, authority);
	if (!u->port) /* the transport knows the one that is usual */
		authority[strlen(authority) - strlen(":0")] = '\0';
	n = snprintf(e->url, sizeof(e->url), "%s://%s%s", tls ? "https" : "http", authority, path);
	if (n < (int)sizeof(e->url))
		return true;
	e->url[0] = '\0';
	warn(r, "%s is longer than %d bytes: taken as not set", name, OTLP_CONFIG_URL_MAX - 1);
	return false;
}

/* Take the address of one variable. False: unset or unusable. `protocol` is -1 where none was
 * named. */
static bool take_endpoint(struct reader *r, enum otlp_signal s, int level, int protocol,
			  struct otlp_endpoint *e)
{
	char name[NAME_MAX_BYTES], text[URL_TEXT_MAX], why[URL_REASON_MAX];
	struct url u;
	struct value v;

	level_name(name, level, s, "ENDPOINT");
	if (!look(r, name, &v))
		return false;
	if (v.len >= sizeof(text)) {
		warn(r, "%s is longer than %zu bytes: taken as not set", name, sizeof(text) - 1);
		return false;
	}
	memcpy(text, v.at, v.len);
	text[v.len] = '\0';
	if (url_parse(text, true, &u, why) < 0) {
		warn(r, "%s cannot be used, %s: taken as not set", name, why);
		return false;
	}
	if (protocol < 0)
		protocol = u.port == HTTP_PORT_USUAL ? TRANSPORT_HTTP_PROTOBUF : TRANSPORT_GRPC;
	if (u.bare && protocol != TRANSPORT_GRPC) {
		warn(r,
		     "%s names no scheme, which %s needs: taken as not set. Write http:// or "
		     "https:// before it",
		     name, otlp_protocol_names[protocol]);
		return false;
	}
	e->protocol = (enum transport_protocol)protocol;
	return compose(r, s, level, name, &u, e);
}

/* ---- exporters ------------------------------------------------------------------------------- */

enum exporter { EXPORTER_OTLP, EXPORTER_NONE, EXPORTER_PROMETHEUS, EXPORTERS_OFFERED };

/* The first ones are offered; of the others the specification says that an SDK may have them. */
static const char *const exporter_words[] = {"otlp",   "none",	 "prometheus", "console",
					     "zipkin", "jaeger", "logging",    "otlp/stdout"};

static int exporter_find(struct value word)
{
	for (size_t i = 0; i < sizeof(exporter_words) / sizeof(exporter_words[0]); i++)
		if (is_word(word, exporter_words[i]))
			return (int)i;
	return -1;
}

/* One word of the list. Returns its bit; 0 = as if it were not there. */
static uint32_t exporter_bit(struct reader *r, const char *name, struct value word,
			     enum otlp_signal s)
{
	int i = exporter_find(word);

	if (i < 0) {
		warn(r, "%s: no exporter is called %s: taken as not set", name, show(word).text);
		return 0;
	}
	if (i >= EXPORTERS_OFFERED || (i == EXPORTER_PROMETHEUS && s != OTLP_METRICS))
		warn(r, "%s: this agent has no exporter %s for %s; it has otlp and none", name,
		     exporter_words[i], otlp_signal_names[s]);
	return 1u << i;
}

/* OTEL_<signal>_EXPORTER: is OTLP among what is wanted? *ret_by_name: it was named. */
static bool wants_otlp(struct reader *r, enum otlp_signal s, bool *ret_by_name)
{
	char name[NAME_MAX_BYTES];
	uint32_t bits = 0;
	struct value v;

	*ret_by_name = false;
	snprintf(name, sizeof(name), "OTEL_%s_EXPORTER", signal_words[s]);
	if (!look(r, name, &v))
		return true;
	for (size_t at = 0; at <= v.len;) {
		const char *comma = memchr(v.at + at, ',', v.len - at);
		size_t len = comma ? (size_t)(comma - v.at) - at : v.len - at;
		struct value word = trimmed(v.at + at, len);

		if (word.len)
			bits |= exporter_bit(r, name, word, s);
		at += len + 1;
	}
	if ((bits & 1u << EXPORTER_NONE) && bits != 1u << EXPORTER_NONE)
		warn(r, "%s names exporters beside none: none is not looked at", name);
	*ret_by_name = bits & 1u << EXPORTER_OTLP;
	return !bits || *ret_by_name;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void read_signal(struct reader *r, enum otlp_signal s)
{
	static const char *const compressions[] = {"none", "gzip", NULL};
	struct otlp_endpoint *e = &r->config->signals[s];
	bool has_endpoint = false, by_name, wanted = wants_otlp(r, s, &by_name);
	int protocol = level_choice(r, s, "PROTOCOL", otlp_protocol_names);

	for (int level = 0; level < LEVELS && !has_endpoint; level++)
		has_endpoint = take_endpoint(r, s, level, protocol, e);
	if (by_name && !has_endpoint)
		warn(r,
		     "OTEL_%s_EXPORTER=otlp, but no usable endpoint is set: nothing is sent. Set "
		     "OTEL_EXPORTER_OTLP_ENDPOINT",
		     signal_words[s]);
	e->gzip = level_choice(r, s, "COMPRESSION", compressions) == 1;
	read_timeout(r, s, e);
	read_headers(r, s, e);
	read_files(r, s, e);
	e->on = wanted && has_endpoint && !r->config->disabled;
}

static void read_batch(struct reader *r, enum otlp_signal s, const char *prefix, uint32_t delay_ms)
{
	uint32_t queue = 2048, batch = 512;
	char name[NAME_MAX_BYTES];

	snprintf(name, sizeof(name), "%s_SCHEDULE_DELAY", prefix);
	number(r, name, 1, MS_MAX, &delay_ms);
	snprintf(name, sizeof(name), "%s_MAX_QUEUE_SIZE", prefix);
	number(r, name, 1, QUEUE_ITEMS_MAX, &queue);
	snprintf(name, sizeof(name), "%s_MAX_EXPORT_BATCH_SIZE", prefix);
	number(r, name, 1, INT32_MAX, &batch);
	if (batch > BATCH_ITEMS_MAX) {
		warn(r, "%s=%" PRIu32 " is more than a batch of this agent holds: taken as %d",
		     name, batch, BATCH_ITEMS_MAX);
		batch = BATCH_ITEMS_MAX;
	}
	/* Where only the smaller queue was asked for, that is what was meant. */
	if (batch > queue && r->get(r->arg, name))
		warn(r,
		     "%s=%" PRIu32 " is more than the queue holds: taken as %" PRIu32
		     ". See %s_MAX_QUEUE_SIZE",
		     name, batch, queue, prefix);
	r->config->batch[s].schedule_delay_ms = delay_ms;
	r->config->batch[s].queue_items_max = queue;
	r->config->batch[s].batch_items_max = batch < queue ? batch : queue;
}

static void read_metrics(struct reader *r)
{
	static const char *const temporalities[] = {"cumulative", "delta", "lowmemory", NULL};
	static const char *const aggregations[] = {"explicit_bucket_histogram",
						   "base2_exponential_bucket_histogram", NULL};
	int temporality =
		choice(r, "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporalities);

	r->config->temporality =
		temporality < 0 ? OTLP_CUMULATIVE : (enum otlp_temporality)temporality;
	r->config->exponential_histograms =
		choice(r, "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
		       aggregations) == 1;
	r->config->metric_interval_ms = 60000;
	number(r, "OTEL_METRIC_EXPORT_INTERVAL", 1, MS_MAX, &r->config->metric_interval_ms);
}

static void show_url(struct otlp_endpoint *e)
{
	size_t len = strcspn(e->url, "?");

	snprintf(e->shown_url, sizeof(e->shown_url), "%.*s%s", (int)len, e->url,
		 e->url[len] ? "?..." : "");
}

void otlp_config_read(otlp_getenv get, void *arg, struct otlp_config *ret_config)
{
	struct reader r = {get, arg, ret_config};
	struct value v;
	bool is_set;

	memset(ret_config, 0, sizeof(*ret_config));
	if (look(&r, "OTEL_CONFIG_FILE", &v))
		warn(&r, "OTEL_CONFIG_FILE is not supported: the file is not read, the other "
			 "OTEL_ variables hold");
	ret_config->disabled = boolean(&r, "OTEL_SDK_DISABLED", &is_set);
	for (int s = 0; s < OTLP_SIGNALS; s++) {
		read_signal(&r, (enum otlp_signal)s);
		show_url(&ret_config->signals[s]);
	}
	read_batch(&r, OTLP_TRACES, "OTEL_BSP", 5000);
	read_batch(&r, OTLP_LOGS, "OTEL_BLRP", 1000);
	read_metrics(&r);
}

bool otlp_config_any(const struct otlp_config *config)
{
	for (int s = 0; s < OTLP_SIGNALS; s++)
		if (config->signals[s].on)
			return true;
	return false;
}
