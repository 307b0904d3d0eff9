/* agent/options_sampling.c - the key "sampling" of the configuration file: {"ratio": 0.1, "rules":
 * [{"name": "Create*", "ratio": 1, "for": "10m"}]}. The only value that no flag can carry.
 * Pure. Includes: options.h, run_control.h, jansson. */
#include "agent/options.h"
#include "agent/run_control.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

_Static_assert((int)OPTIONS_RULES_MAX == (int)RUN_CONTROL_RULES, "each rule has its place");
_Static_assert((int)OPTIONS_RULE_NAME_MAX == (int)BLIX_CONTROL_GLOB_BYTES, "and its pattern");

__attribute__((format(printf, 2, 3))) static int refuse(char *reason, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, OPTIONS_SAMPLING_REASON_MAX, format, args);
	va_end(args);
	return -EINVAL;
}

/* The first key of `object` that is not in `keys`; NULL if there is none. */
static const char *stranger(const json_t *object, const char *const *keys)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)object, key, value)
	{
		size_t i = 0;

		while (keys[i] && strcmp(key, keys[i]) != 0)
			i++;
		if (!keys[i])
			return key;
	}
	return NULL;
}

static bool take_ratio(const json_t *value, double *ret_ratio)
{
	double ratio = json_number_value(value);

	if (!json_is_number(value) || !(ratio >= 0 && ratio <= 1))
		return false;
	*ret_ratio = ratio;
	return true;
}

static int take_rule(const json_t *value, struct options_rule *rule, uint32_t nth, char *reason)
{
	static const char *const keys[] = {"name", "ratio", "for", NULL};
	const char *name = json_string_value(json_object_get(value, "name"));
	const json_t *time = json_object_get(value, "for");
	static struct run_control scratch;
	const char *key;

	if (!json_is_object(value))
		return refuse(reason, "rule %u must be {\"name\": PATTERN, \"ratio\": NUMBER}",
			      nth);
	key = stranger(value, keys);
	if (key)
		return refuse(reason, "rule %u: \"%.40s\" is unknown: it takes name, ratio and for",
			      nth, key);
	if (!take_ratio(json_object_get(value, "ratio"), &rule->ratio))
		return refuse(reason, "rule %u: \"ratio\" must be a number from 0 to 1", nth);
	scratch = (struct run_control){0};
	if (!name || !name[0] ||
	    run_control_sample(&scratch, RUN_CONTROL_CONFIG, name, rule->ratio, 0, 0) < 0)
		return refuse(reason, "rule %u: \"name\" must be a pattern of 1 to %d bytes", nth,
			      OPTIONS_RULE_NAME_MAX - 1);
	memcpy(rule->name, name, strlen(name) + 1);
	if (time &&
	    (!json_is_string(time) || run_control_time(json_string_value(time), &rule->for_s) < 0))
		return refuse(reason,
			      "rule %u: \"for\" must be a time like \"90s\" or \"10m\", at "
			      "most \"7d\"",
			      nth);
	return 0;
}

int options_sampling(struct options_sampling *ret, const struct json_t *value,
		     char reason[OPTIONS_SAMPLING_REASON_MAX])
{
	static const char *const keys[] = {"ratio", "rules", NULL};
	struct options_sampling s = {0};
	const json_t *ratio = json_object_get(value, "ratio");
	const json_t *rules = json_object_get(value, "rules");
	const char *key = stranger(value, keys);
	int err = 0;

	if (!json_is_object(value))
		return refuse(reason, "must be {\"ratio\": NUMBER, \"rules\": [...]}");
	if (key)
		return refuse(reason, "\"%.40s\" is unknown: it takes ratio and rules", key);
	s.has_ratio = ratio != NULL;
	if (ratio && !take_ratio(ratio, &s.ratio))
		return refuse(reason, "\"ratio\" must be a number from 0 to 1");
	if (rules && !json_is_array(rules))
		return refuse(reason, "\"rules\" must be a list");
	if (json_array_size(rules) > OPTIONS_RULES_MAX)
		return refuse(reason, "has more than %d rules", OPTIONS_RULES_MAX);
	for (uint32_t i = 0; !err && i < json_array_size(rules); i++)
		err = take_rule(json_array_get(rules, i), &s.rules[s.n_rules++], i + 1, reason);
	if (!err)
		*ret = s;
	return err;
}
