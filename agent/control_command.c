/* agent/control_command.c - see control_command.h. */
#include "agent/control_command.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ERROR_MAX = 256 };

/* One request on its way. */
struct command {
	struct run_control *control;
	const json_t *request;
	uint64_t now_ns;
	bool changed;
	char *said;
	char error[ERROR_MAX]; /* "" = none */
};

__attribute__((format(printf, 2, 3))) static void refuse(struct command *c, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(c->error, sizeof(c->error), format, args);
	va_end(args);
}

/* ---- arguments -------------------------------------------------------------------------------- */

static bool take_time(struct command *c, uint32_t *ret_seconds)
{
	const json_t *value = json_object_get(c->request, "for");
	json_int_t n = json_integer_value(value);

	if (json_is_integer(value) && n >= 1 && n <= RUN_CONTROL_FOR_MAX_S) {
		*ret_seconds = (uint32_t)n;
		return true;
	}
	refuse(c,
	       "\"for\" must be a whole number of seconds from 1 to %d: every order ends by itself",
	       RUN_CONTROL_FOR_MAX_S);
	return false;
}

/* Is there nothing but these? A typo must not be taken for "every name". */
static bool knows_all(struct command *c, const char *const *keys)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)c->request, key, value)
	{
		bool known = !strcmp(key, "version") || !strcmp(key, "command");

		for (size_t i = 0; keys[i]; i++)
			known = known || !strcmp(key, keys[i]);
		if (!known) {
			refuse(c, "\"%.40s\" is no argument of this command", key);
			return false;
		}
	}
	return true;
}

/* ---- commands --------------------------------------------------------------------------------- */

static void run_sample(struct command *c)
{
	static const char *const keys[] = {"ratio", "name", "for", NULL};
	const json_t *ratio = json_object_get(c->request, "ratio");
	const json_t *name = json_object_get(c->request, "name");
	double number = json_number_value(ratio);
	uint32_t seconds;
	int err;

	if (!knows_all(c, keys) || !take_time(c, &seconds))
		return;
	if (!json_is_number(ratio) || !(number >= 0 && number <= 1)) {
		refuse(c, "\"ratio\" must be a number from 0 to 1");
		return;
	}
	if (name && (!json_is_string(name) || !json_string_length(name))) {
		refuse(c, "\"name\" must be a pattern like \"*/CreateVm\"");
		return;
	}
	err = run_control_sample(c->control, RUN_CONTROL_SOCKET, json_string_value(name), number,
				 seconds, c->now_ns);
	if (err == -ENOSPC)
		refuse(c, "there are %d rules already: clear them, or wait for one to end",
		       RUN_CONTROL_RULES);
	else if (err)
		refuse(c, "\"name\" must have at most %d bytes and no control characters",
		       BLIX_CONTROL_GLOB_BYTES - 1);
	c->changed = !err;
	snprintf(c->said, CONTROL_SAID_MAX, "sample %g of %s for %u s", number,
		 name ? json_string_value(name) : "everything", seconds);
}

static void run_log_level(struct command *c)
{
	static const char *const keys[] = {"level", "for", NULL};
	const char *level = json_string_value(json_object_get(c->request, "level"));
	uint32_t seconds, log_min;

	if (!knows_all(c, keys) || !take_time(c, &seconds))
		return;
	if (!level || run_control_level(level, &log_min) < 0) {
		refuse(c, "\"level\" must be trace, debug, info, warn, error, fatal, off, or a "
			  "severity from \"1\" to \"24\"");
		return;
	}
	c->changed =
		run_control_log(c->control, RUN_CONTROL_SOCKET, log_min, seconds, c->now_ns) == 0;
	snprintf(c->said, CONTROL_SAID_MAX, "log level %.16s for %u s", level, seconds);
}

static void run_clear(struct command *c)
{
	static const char *const keys[] = {NULL};

	if (!knows_all(c, keys))
		return;
	c->changed = run_control_clear(c->control, RUN_CONTROL_SOCKET);
	snprintf(c->said, CONTROL_SAID_MAX, "everything asked for here is taken back");
}

static void run_status(struct command *c)
{
	static const char *const keys[] = {NULL};

	(void)knows_all(c, keys);
}

static const struct {
	const char *name;
	void (*run)(struct command *c);
} commands[] = {
	{"sample", run_sample},
	{"log-level", run_log_level},
	{"clear", run_clear},
	{"status", run_status},
};

static void run(struct command *c)
{
	const json_t *version = json_object_get(c->request, "version");
	const char *name = json_string_value(json_object_get(c->request, "command"));

	if (!json_is_object(c->request)) {
		refuse(c, "not a request: one JSON object in one line of at most 4095 bytes");
		return;
	}
	if (!json_is_integer(version) || json_integer_value(version) != CONTROL_PROTOCOL) {
		refuse(c, "\"version\" must be %d: this agent speaks no other protocol",
		       CONTROL_PROTOCOL);
		return;
	}
	for (size_t i = 0; name && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(name, commands[i].name) != 0)
			continue;
		commands[i].run(c);
		return;
	}
	refuse(c, "\"command\" must be sample, log-level, clear or status");
}

/* ---- answers ---------------------------------------------------------------------------------- */

static json_t *entry_json(const struct run_control_entry *e, enum run_control_source source,
			  uint64_t now_ns)
{
	json_t *json = json_object();
	char number[12];

	json_object_set_new(json, "setting", json_string(e->log ? "log-level" : "sample"));
	if (e->log) {
		const char *name = run_control_level_name(e->log_min);

		snprintf(number, sizeof(number), "%u", e->log_min);
		json_object_set_new(json, "level", json_string(name[0] ? name : number));
	} else {
		json_object_set_new(json, "ratio", json_real(e->ratio));
		if (e->glob[0])
			json_object_set_new(json, "name", json_string(e->glob));
	}
	json_object_set_new(json, "source", json_string(run_control_source_names[source]));
	if (e->until_ns)
		json_object_set_new(json, "seconds_left",
				    json_integer(run_control_left_s(e, now_ns)));
	return json;
}

json_t *control_settings_json(const struct run_control *c, uint64_t now_ns)
{
	const struct run_control_entry *e;
	enum run_control_source source;
	json_t *list = json_array();

	for (uint32_t n = 0; (e = run_control_nth(c, n, &source)); n++)
		json_array_append_new(list, entry_json(e, source, now_ns));
	return list;
}

json_t *control_command(struct run_control *control, const char *line, size_t len, uint64_t now_ns,
			bool *ret_changed, char said[CONTROL_SAID_MAX])
{
	struct command c = {.control = control, .now_ns = now_ns, .said = said};
	json_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL), *answer;

	said[0] = '\0';
	c.request = request;
	run(&c);
	answer = json_pack("{s:i, s:b}", "version", CONTROL_PROTOCOL, "ok", !c.error[0]);
	if (c.error[0])
		json_object_set_new(answer, "error", json_string(c.error));
	json_object_set_new(answer, "settings", control_settings_json(control, now_ns));
	json_decref(request);
	*ret_changed = c.changed;
	return answer;
}
