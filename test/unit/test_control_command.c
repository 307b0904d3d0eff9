/* Goal: the places and people of the control socket follow their rules, and the configuration key
 * "sampling" takes what it should and refuses the rest in words. Method: the pure parts with given
 * values, both sides of each limit. (What lines do is tested end to end, test/e2e/15-control.py.) */
#include "agent/control_command.h"
#include "agent/options.h"
#include "agent/serve/control_socket.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <string.h>

static char path[64];

static int directory(const char *runtime, const char *xdg, bool root)
{
	path[0] = '\0';
	return control_socket_directory(runtime, xdg, root, path, sizeof(path));
}

Test(control_socket, its_directory_follows_from_the_environment)
{
	char longer[80];

	cr_expect_eq(directory("/run/a:/run/b", "/run/user/1", true), 0);
	cr_expect_str_eq(path, "/run/a");
	cr_expect_eq(directory(NULL, "/run/user/1", true), 0);
	cr_expect_str_eq(path, "/run/blixard");
	cr_expect_eq(directory("relative", "/run/user/1", false), 0);
	cr_expect_str_eq(path, "/run/user/1/blixard");
	cr_expect_eq(directory("", "", false), -ENOENT);
	memset(longer, 'x', sizeof(longer));
	longer[0] = '/';
	longer[64] = '\0';
	cr_expect_eq(directory(longer, NULL, false), -ENAMETOOLONG);
	longer[63] = '\0';
	cr_expect_eq(directory(longer, NULL, false), 0);
}

Test(control_socket, only_root_the_same_user_and_the_same_group_are_trusted)
{
	const gid_t groups[] = {5, 7, 100};

	cr_expect(control_socket_trusts(0, NULL, 0, 1000, 100));
	cr_expect(control_socket_trusts(1000, NULL, 0, 1000, 100));
	cr_expect(control_socket_trusts(1001, groups, 3, 1000, 100));
	cr_expect_not(control_socket_trusts(1001, groups, 2, 1000, 100));
	cr_expect_not(control_socket_trusts(1001, NULL, 0, 0, 0));
}

Test(control_command, an_order_changes_the_settings_and_says_what_it_did)
{
	static const char line[] =
		"{\"version\":1,\"command\":\"sample\",\"ratio\":0.5,\"name\":\"a*\",\"for\":9}";
	struct run_control c = {0};
	char said[CONTROL_SAID_MAX];
	bool changed = false;
	json_t *answer = control_command(&c, line, strlen(line), 1000, &changed, said);
	const json_t *setting = json_array_get(json_object_get(answer, "settings"), 0);

	cr_expect(changed);
	cr_expect_str_eq(said, "sample 0.5 of a* for 9 s");
	cr_expect(json_is_true(json_object_get(answer, "ok")));
	cr_expect_eq(json_integer_value(json_object_get(setting, "seconds_left")), 9);
	json_decref(answer);
	answer = control_command(&c, "{", 1, 1000, &changed, said);
	cr_expect_not(changed);
	cr_expect(json_is_false(json_object_get(answer, "ok")));
	cr_expect_eq(json_array_size(json_object_get(answer, "settings")), 1);
	json_decref(answer);
}

static int configure(struct options *o, const char *text, char *error)
{
	options_init(o);
	error[0] = '\0';
	return options_config(o, "agent.json", text, strlen(text), error);
}

Test(options, sampling_is_taken_whole_or_refused_in_words)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"{\"sampling\": 1}", "must be {"},
		{"{\"sampling\": {\"ratio\": 1.01}}", "from 0 to 1"},
		{"{\"sampling\": {\"ratio\": \"1\"}}", "from 0 to 1"},
		{"{\"sampling\": {\"rate\": 1}}", "\"rate\" is unknown"},
		{"{\"sampling\": {\"rules\": {}}}", "must be a list"},
		{"{\"sampling\": {\"rules\": [1]}}", "rule 1 must be"},
		{"{\"sampling\": {\"rules\": [{\"name\": \"a\"}]}}", "rule 1: \"ratio\""},
		{"{\"sampling\": {\"rules\": [{\"name\": \"\", \"ratio\": 1}]}}",
		 "rule 1: \"name\""},
		{"{\"sampling\": {\"rules\": [{\"name\": \"a\", \"ratio\": 1, \"for\": 9}]}}",
		 "rule 1: \"for\""},
		{"{\"sampling\": {\"rules\": [{\"name\": \"a\", \"ratio\": 1, \"to\": 9}]}}",
		 "\"to\" is unknown"},
		{"{\"node-log-level\": \"loud\"}", "is none of"},
	};
	static struct options o;
	char error[OPTIONS_ERROR_MAX], many[4096] = "{\"sampling\": {\"rules\": [";

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_expect_eq(configure(&o, bad[i].text, error), -EINVAL, "%s", bad[i].text);
		cr_expect(strstr(error, bad[i].why), "%s: %s", bad[i].text, error);
		cr_expect_eq(strncmp(error, "agent.json:1: \"", 15), 0, "%s", error);
	}
	cr_assert_eq(configure(&o,
			       "{\"sampling\": {\"ratio\": 0, \"rules\": [{\"name\": \"a\", "
			       "\"ratio\": 1, \"for\": \"7d\"}]}, \"node-log-level\": \"off\"}",
			       error),
		     0, "%s", error);
	cr_expect(o.sampling.has_ratio && o.sampling.n_rules == 1 && o.node_log_min == 25);
	cr_expect_eq(o.sampling.rules[0].for_s, 604800);
	for (int i = 0; i < OPTIONS_RULES_MAX; i++)
		strcat(many, "{\"name\": \"a\", \"ratio\": 1}, ");
	strcpy(many + strlen(many) - 2, "]}}");
	cr_expect_eq(configure(&o, many, error), 0, "%s", error);
	strcpy(many + strlen(many) - 3, ", {\"name\": \"a\", \"ratio\": 1}]}}");
	cr_expect_eq(configure(&o, many, error), -EINVAL);
	cr_expect(strstr(error, "more than 16 rules"), "%s", error);
}
