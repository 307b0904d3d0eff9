/* node-hooks/settings.c - what the environment says about spans and logs.
 *
 * Read when the library is loaded, so that spans begun before blix_open() go by it, and again by
 * blix_open(). What is malformed is ignored, as OpenTelemetry wants it, and told once in
 * blix_status().warning.
 *
 * Thread rule: read by one thread at a time; the settings may be loaded at any time. */
#include "trace.h"

#include "shm/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
	COUNT_DEFAULT = 128,
	COUNT_MAX = 255, /* a slot counts in bytes */
	RATE_MAX = 1000000,
	LOG_OFF = 25,
};

struct blix_settings blix_settings_;
const struct blix_baggage_keys *blix_baggage_keys_;

static void complain(char *warning, const char *name, const char *wanted)
{
	if (warning && !warning[0])
		snprintf(warning, BLIX_TEXT_MAX, "%s is malformed and was ignored: %s", name,
			 wanted);
}

/* The variable, trimmed of nothing; NULL if unset or empty, as OpenTelemetry defines unset. */
static const char *variable(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

/* ---- numbers -------------------------------------------------------------------------------- */

static uint64_t number(const char *name, uint64_t otherwise, uint64_t max, char *warning)
{
	const char *text = variable(name);
	char *end;
	unsigned long long value;

	if (!text)
		return otherwise;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno) {
		complain(warning, name, "a whole number");
		return otherwise;
	}
	return value < max ? value : max;
}

/* Of the two names of one limit the narrower wins. */
static uint32_t limit(const char *narrow, const char *wide, uint32_t otherwise, uint32_t max,
		      char *warning)
{
	uint64_t general = number(wide, otherwise, max, warning);

	return (uint32_t)number(narrow, general, max, warning);
}

static void read_limits(struct blix_settings *s, char *warning)
{
	s->span_attrs_max = limit("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT",
				  COUNT_DEFAULT, COUNT_MAX, warning);
	s->log_attrs_max = limit("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
				 "OTEL_ATTRIBUTE_COUNT_LIMIT", COUNT_DEFAULT, COUNT_MAX, warning);
	s->span_value_chars =
		limit("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
		      UINT32_MAX, UINT32_MAX, warning);
	s->log_value_chars =
		limit("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
		      "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", UINT32_MAX, UINT32_MAX, warning);
	s->span_events_max =
		(uint32_t)number("OTEL_SPAN_EVENT_COUNT_LIMIT", COUNT_DEFAULT, COUNT_MAX, warning);
	s->span_links_max =
		(uint32_t)number("OTEL_SPAN_LINK_COUNT_LIMIT", COUNT_DEFAULT, COUNT_MAX, warning);
	s->event_attrs_max = (uint32_t)number("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", COUNT_DEFAULT,
					      COUNT_MAX, warning);
	s->link_attrs_max = (uint32_t)number("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", COUNT_DEFAULT,
					     COUNT_MAX, warning);
}

/* ---- the sampler ---------------------------------------------------------------------------- */

static const struct {
	const char *name;
	bool parent_based;
	bool ratio;
	uint64_t word;
} samplers[] = {
	{"parentbased_always_on", true, false, 0}, /* the first is the default */
	{"parentbased_always_off", true, false, BLIX_THRESHOLD_NEVER},
	{"parentbased_traceidratio", true, true, 0},
	{"always_on", false, false, 0},
	{"always_off", false, false, BLIX_THRESHOLD_NEVER},
	{"traceidratio", false, true, 0},
};

static double ratio_of(const char *text, char *warning)
{
	char *end;
	double ratio = 1.0;

	if (!text)
		return ratio;
	ratio = strtod(text, &end);
	if (end == text || *end != '\0' || !(ratio >= 0 && ratio <= 1)) {
		complain(warning, "OTEL_TRACES_SAMPLER_ARG", "a number from 0 to 1");
		return 1.0;
	}
	return ratio;
}

static void read_sampler(struct blix_settings *s, char *warning)
{
	const char *name = variable("OTEL_TRACES_SAMPLER");
	size_t i = 0;

	while (name && i < sizeof(samplers) / sizeof(samplers[0]) &&
	       strcasecmp(name, samplers[i].name) != 0)
		i++;
	if (i == sizeof(samplers) / sizeof(samplers[0])) {
		complain(warning, "OTEL_TRACES_SAMPLER",
			 "always_on, always_off, traceidratio, each also with parentbased_");
		i = 0;
	}
	s->parent_based = samplers[i].parent_based;
	s->sampler_word = samplers[i].word;
	if (samplers[i].ratio)
		s->sampler_word = blix_control_threshold(
					  ratio_of(variable("OTEL_TRACES_SAMPLER_ARG"), warning)) |
				  BLIX_THRESHOLD_TOLD;
}

/* ---- lists of words -------------------------------------------------------------------------- */

/* The next word of a comma-separated list, without blanks around it. False: no further one. */
static bool next_word(const char **list, char *word, size_t size)
{
	size_t n;
	size_t len;

	*list += strspn(*list, ", \t");
	if (**list == '\0')
		return false;
	n = strcspn(*list, ",");
	len = n;
	while (len > 0 && ((*list)[len - 1] == ' ' || (*list)[len - 1] == '\t'))
		len--;
	snprintf(word, size, "%.*s", (int)(len < size ? len : size - 1), *list);
	*list += n;
	return true;
}

static void read_propagators(struct blix_settings *s, char *warning)
{
	const char *list = variable("OTEL_PROPAGATORS");
	uint32_t bits = 0;
	bool none = false;
	char word[32];

	s->propagators = BLIX_PROPAGATE_TRACE | BLIX_PROPAGATE_BAGGAGE;
	if (!list)
		return;
	while (next_word(&list, word, sizeof(word))) {
		if (strcasecmp(word, "tracecontext") == 0)
			bits |= BLIX_PROPAGATE_TRACE;
		else if (strcasecmp(word, "baggage") == 0)
			bits |= BLIX_PROPAGATE_BAGGAGE;
		else if (strcasecmp(word, "none") == 0)
			none = true;
		else
			complain(warning, "OTEL_PROPAGATORS", "tracecontext, baggage, none");
	}
	if (none || bits)
		s->propagators = none ? 0 : bits;
}

/* Threads may be using the keys in force, so others get memory of their own, which is never freed:
 * one piece for each change of the variable between two openings. */
static void read_baggage_keys(void)
{
	const struct blix_baggage_keys *old = blix_load_relaxed(&blix_baggage_keys_);
	const char *list = variable("BLIXARD_BAGGAGE_ATTRIBUTES");
	struct blix_baggage_keys keys = {.before = old};
	struct blix_baggage_keys *kept;

	while (list && keys.n < BLIX_BAGGAGE_KEYS_MAX &&
	       next_word(&list, keys.text[keys.n], sizeof(keys.text[0]))) {
		keys.key[keys.n] = blix_key_of(keys.text[keys.n]);
		keys.n++;
	}
	if (old ? old->n == keys.n && memcmp(old->text, keys.text, sizeof(keys.text)) == 0
		: keys.n == 0)
		return;
	kept = malloc(sizeof(*kept));
	if (!kept)
		return; /* the old ones stay */
	*kept = keys;
	blix_store_release(&blix_baggage_keys_, kept);
}

/* ---- logs, exemplars ------------------------------------------------------------------------ */

static void read_log_level(struct blix_settings *s, char *warning)
{
	static const char *const levels[] = {"trace", "debug", "info", "warn", "error", "fatal"};
	const char *text = variable("BLIXARD_LOG_LEVEL");

	s->log_min = BLIX_TRACE;
	if (!text)
		return;
	if (strcasecmp(text, "off") == 0) {
		s->log_min = LOG_OFF;
		return;
	}
	for (uint32_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcasecmp(text, levels[i]) == 0) {
			s->log_min = BLIX_TRACE + 4 * i;
			return;
		}
	}
	s->log_min = (uint32_t)number("BLIXARD_LOG_LEVEL", BLIX_TRACE, LOG_OFF, warning);
	if (s->log_min == 0)
		s->log_min = BLIX_TRACE;
}

static void read_log_rate(struct blix_settings *s, char *warning)
{
	uint64_t rate = number("BLIXARD_LOG_RATE", 100, RATE_MAX, warning);
	uint64_t burst = number("BLIXARD_LOG_BURST", 1000, RATE_MAX, warning);

	s->log_interval_ns = rate ? UINT64_C(1000000000) / rate : 0;
	s->log_burst_ns = s->log_interval_ns * (burst ? burst : 1);
}

static void read_exemplars(struct blix_settings *s, char *warning)
{
	const char *text = variable("OTEL_METRICS_EXEMPLAR_FILTER");

	s->exemplars = !text || strcasecmp(text, "always_off") != 0;
	if (text && s->exemplars && strcasecmp(text, "trace_based") != 0 &&
	    strcasecmp(text, "always_on") != 0)
		complain(warning, "OTEL_METRICS_EXEMPLAR_FILTER",
			 "trace_based, always_on, always_off");
}

/* ---- all of it ------------------------------------------------------------------------------ */

/* Word by word: others may be reading. */
static void publish(const struct blix_settings *s)
{
#define PUBLISH(field) blix_store_relaxed(&blix_settings_.field, s->field)
	PUBLISH(span_attrs_max);
	PUBLISH(span_events_max);
	PUBLISH(span_links_max);
	PUBLISH(event_attrs_max);
	PUBLISH(link_attrs_max);
	PUBLISH(log_attrs_max);
	PUBLISH(span_value_chars);
	PUBLISH(log_value_chars);
	PUBLISH(propagators);
	PUBLISH(exemplars);
	PUBLISH(parent_based);
	PUBLISH(log_min);
	PUBLISH(slow_ns);
	PUBLISH(log_interval_ns);
	PUBLISH(log_burst_ns);
	PUBLISH(sampler_word);
#undef PUBLISH
}

void blix_settings_read(char warning[BLIX_TEXT_MAX])
{
	struct blix_settings s = {0};

	read_limits(&s, warning);
	read_sampler(&s, warning);
	read_propagators(&s, warning);
	read_log_level(&s, warning);
	read_log_rate(&s, warning);
	read_exemplars(&s, warning);
	s.slow_ns = number("BLIXARD_SLOW_SPAN_MS", 1000, UINT32_MAX, warning) * 1000000;
	publish(&s);
	read_baggage_keys();
	blix_sampler_reset();
}

__attribute__((constructor)) static void library_loaded(void)
{
	blix_settings_read(NULL);
}
