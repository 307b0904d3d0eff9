/* Goal: every flag and key takes what it should and refuses the rest in one line that names flag,
 * value and remedy. Method: parse command lines and configuration texts, both sides of each limit.
 */
#include "agent/options.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct options o;
static char error[OPTIONS_ERROR_MAX];

/* Parse "--shm /a --linger 3". */
static int parse(const char *line)
{
	static char copy[16384];
	char *argv[64] = {"blixard-agent"};
	int argc = 1;

	options_init(&o);
	error[0] = '\0';
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *word = strtok(copy, " "); word && argc < 63; word = strtok(NULL, " "))
		argv[argc++] = word;
	return options_parse(&o, argc, argv, error);
}

static void refused(const char *line, const char *flag, const char *value, const char *remedy)
{
	cr_assert_eq(parse(line), -EINVAL, "%s", line);
	cr_expect(strstr(error, flag), "%s: no %s in: %s", line, flag, error);
	cr_expect(strstr(error, value), "%s: no %s in: %s", line, value, error);
	cr_expect(strstr(error, remedy), "%s: no '%s' in: %s", line, remedy, error);
	cr_expect_null(strchr(error, '\n'), "%s", error);
}

static int configure(const char *text)
{
	error[0] = '\0';
	return options_config(&o, "agent.json", text, strlen(text), error);
}

static void config_refused(const char *text, const char *where, const char *why)
{
	struct options before;

	options_init(&o);
	before = o;
	cr_assert_eq(configure(text), -EINVAL, "%s", text);
	cr_expect(!strncmp(error, where, strlen(where)), "%s: %s", text, error);
	cr_expect(strstr(error, why), "%s: no '%s' in: %s", text, why, error);
	cr_expect_null(strchr(error, '\n'));
	cr_expect(!memcmp(&before, &o, sizeof(o)), "a refused file must change nothing: %s", text);
}

Test(options, defaults_are_those_that_help_names)
{
	struct buf text;

	cr_assert_eq(parse(""), 0);
	cr_expect_eq(o.action, OPTIONS_RUN);
	cr_expect_eq(o.names, ENCODE_NAMES_BOTH);
	cr_expect_eq(o.stale_after_s, 10);
	cr_expect_eq(o.linger_s, 300);
	cr_expect_eq(o.owner, geteuid());
	cr_expect_eq(o.log_level, LOG_LEVEL_INFO);
	cr_expect_eq(o.log_format, LOG_FORMAT_TEXT);
	buf_init(&text, 1 << 20);
	options_help(&text);
	buf_add(&text, "", 1);
	cr_assert(!text.failed);
	cr_expect(strstr((char *)text.data, "Default: 10"));
	cr_expect(strstr((char *)text.data, "Default: 300"));
	cr_expect(strstr((char *)text.data, "Example:"));
	buf_done(&text);
}

Test(options, help_lists_every_flag_and_none_of_later_issues)
{
	static const char *const listed[] = {
		"shm",		 "listen",	"owner",      "names",	 "native-histograms",
		"created-lines", "stale-after", "linger",     "config",	 "log-level",
		"no-bpf",	 "slow-io-ms",	"log-format", "check",	 "dump-metrics",
		"version",	 "help",	"spool",      "journal", "check-export"};
	static const char *const later[] = {"--web-config", "--bundle", "--print-sd"};
	struct buf text;

	buf_init(&text, 1 << 20);
	options_help(&text);
	buf_add(&text, "", 1);
	for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++) {
		char flag[40];

		snprintf(flag, sizeof(flag), "  --%s", listed[i]);
		cr_expect(strstr((char *)text.data, flag), "%s", flag);
	}
	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
		cr_expect_null(strstr((char *)text.data, later[i]), "%s", later[i]);
		cr_expect_eq(parse(later[i]), -EINVAL);
	}
	buf_done(&text);
}

Test(options, probes_can_be_left_out_and_told_what_is_slow)
{
	cr_assert_eq(parse("--shm /a"), 0);
	cr_expect_not(o.no_bpf);
	cr_expect_eq(o.slow_io_ms, 10);
	cr_assert_eq(parse("--shm /a --no-bpf --slow-io-ms 0"), 0);
	cr_expect(o.no_bpf);
	cr_expect_eq(o.slow_io_ms, 0);
	cr_assert_eq(parse("--shm /a --slow-io-ms 60000"), 0);
	refused("--shm /a --slow-io-ms 60001", "--slow-io-ms", "60001", "milliseconds");
	refused("--shm /a --slow-io-ms 1.5", "--slow-io-ms", "1.5", "milliseconds");
}

Test(options, help_names_the_environment_and_fits_a_terminal)
{
	static const char *const named[] = {"Environment", "OTEL_EXPORTER_OTLP_ENDPOINT",
					    "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SDK_DISABLED",
					    "OTEL_METRIC_EXPORT_"};
	struct buf text;

	buf_init(&text, 1 << 20);
	options_help(&text);
	buf_add(&text, "", 1);
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
		cr_expect(strstr((char *)text.data, named[i]), "%s", named[i]);
	for (const char *line = (char *)text.data; *line; line += strcspn(line, "\n") + 1)
		cr_expect_leq(strcspn(line, "\n"), 110, "%.120s", line);
	buf_done(&text);
}

Test(options, the_spool_has_a_directory_and_the_journal_a_switch)
{
	char line[OPTIONS_PATH_MAX + 64] = "--spool ";
	char text[64];
	struct options a;

	cr_assert_eq(parse(""), 0);
	cr_expect_str_eq(o.spool, "");
	cr_expect_not(o.journal);
	a = o;
	cr_assert_eq(parse("--spool /var/spool/x --journal"), 0, "%s", error);
	cr_expect_str_eq(o.spool, "/var/spool/x");
	cr_expect(o.journal);
	options_need_restart(&a, &o, text, sizeof(text));
	cr_expect_str_eq(text, "spool, journal");
	options_init(&o);
	cr_assert_eq(configure("{\"spool\": \"/s\", \"journal\": true}"), 0, "%s", error);
	cr_expect_str_eq(o.spool, "/s");
	cr_expect(o.journal);
	cr_assert_eq(configure("{\"journal\": false}"), 0, "%s", error);
	cr_expect_not(o.journal);
	refused("--journal=yes", "--journal", "yes", "takes no value");
	refused("--spool=", "--spool", "", "directory");
	config_refused("{\"spool\": 5}", "agent.json:1:", "a string");
	config_refused("{\"check-export\": true}", "agent.json:1:", "check-export");
	memset(line + 8, 'd', OPTIONS_PATH_MAX - 1);
	line[8 + OPTIONS_PATH_MAX - 1] = '\0';
	cr_expect_eq(parse(line), 0, "%s", error);
	strcat(line, "d");
	refused(line, "--spool", "ddd", "no path");
}

Test(options, an_export_is_checked_without_any_file)
{
	cr_assert_eq(parse("--check-export"), 0, "%s", error);
	cr_expect_eq(o.action, OPTIONS_CHECK_EXPORT);
	cr_expect_eq(options_complete(&o, error), 0);
}

Test(options, a_listen_address_belongs_to_the_file_before_it)
{
	cr_assert_eq(
		parse("--shm /dev/shm/a --listen 127.0.0.1:1 --shm /dev/shm/b --shm=/dev/shm/c "
		      "--listen=[::1]:65535"),
		0, "%s", error);
	cr_assert_eq(o.n_targets, 3);
	cr_expect_str_eq(o.targets[0].shm, "/dev/shm/a");
	cr_expect(o.targets[0].listens);
	cr_expect_str_eq(o.targets[0].listen.host, "127.0.0.1");
	cr_expect_eq(o.targets[0].listen.port, 1);
	cr_expect_not(o.targets[1].listens);
	cr_expect_str_eq(o.targets[2].listen.host, "::1");
	cr_expect_eq(o.targets[2].listen.port, 65535);
	refused("--listen 127.0.0.1:1 --shm /a", "--listen", "127.0.0.1:1", "after the file");
	refused("--shm /a --listen a:1 --listen b:2", "--listen", "b:2", "each file has one");
	refused("--shm /a --listen h:1 --shm /b --listen H:1", "--listen", "H:1", "its own port");
	refused("--shm /a --shm /a", "--shm", "/a", "twice");
}

Test(options, malformed_addresses_are_refused_with_a_remedy)
{
	refused("--shm /a --listen 8001", "--listen", "8001", "HOST:PORT");
	refused("--shm /a --listen :8001", "--listen", ":8001", "0.0.0.0");
	refused("--shm /a --listen h:0", "--listen", "h:0", "1 to 65535");
	refused("--shm /a --listen h:65536", "--listen", "h:65536", "1 to 65535");
	refused("--shm /a --listen h:08001", "--listen", "h:08001", "1 to 65535");
	refused("--shm /a --listen h:", "--listen", "h:", "1 to 65535");
	refused("--shm /a --listen h:1x", "--listen", "h:1x", "1 to 65535");
	refused("--shm /a --listen ::1:8001", "--listen", "::1:8001", "[ADDRESS]:PORT");
	refused("--shm /a --listen [::1:8001", "--listen", "[::1:8001", "[ADDRESS]:PORT");
	refused("--shm /a --listen [h]:8001", "--listen", "[h]:8001", "malformed host");
	refused("--shm /a --listen h/x:8001", "--listen", "h/x:8001", "malformed host");
}

Test(options, a_wrong_flag_suggests_the_nearest_known_one)
{
	refused("--lisen x", "--lisen", "unknown", "did you mean --listen?");
	refused("--log", "--log", "unknown", "did you mean --log-");
	refused("--stale-afer=3", "--stale-afer", "unknown", "did you mean --stale-after?");
	refused("--xyzzyplugh", "--xyzzyplugh", "unknown", "--help");
	refused("--", "--", "unknown", "--help");
	refused("-x", "-x", "unknown", "--help");
	refused("/dev/shm/blix1", "/dev/shm/blix1", "unexpected", "--");
	refused("--_check", "--_check", "unknown", "did you mean --check?");
}

Test(options, values_are_demanded_and_refused_as_the_table_says)
{
	refused("--shm", "--shm", "needs a value", "--shm PATH");
	refused("--shm --check", "--shm", "needs a value", "--shm PATH");
	refused("--check=yes", "--check", "=yes", "takes no value");
	refused("--names all", "--names", "all", "both, canonical, seed");
	refused("--log-level loud", "--log-level", "loud", "error, warning, info, debug");
	refused("--log-format xml", "--log-format", "xml", "text, json");
	refused("--dump-metrics=yaml", "--dump-metrics", "yaml", "json, markdown");
	refused("--owner no_such_user_here", "--owner", "no_such_user_here", "getent");
	refused("--owner 4294967295", "--owner", "4294967295", "user id");
	refused("--owner 12x", "--owner", "12x", "user id");
	refused("--shm /dev/shm/", "--shm", "/dev/shm/", "names no file");
	refused("--shm /a/..", "--shm", "/a/..", "names no file");
}

Test(options, numbers_hold_at_both_sides_of_their_limits)
{
	cr_expect_eq(parse("--stale-after 1 --linger 0"), 0);
	cr_expect_eq(o.stale_after_s, 1);
	cr_expect_eq(o.linger_s, 0);
	cr_expect_eq(parse("--stale-after 3600 --linger 604800"), 0);
	refused("--stale-after 0", "--stale-after", "'0'", "from 1 to 3600");
	refused("--stale-after 3601", "--stale-after", "3601", "from 1 to 3600");
	refused("--linger 604801", "--linger", "604801", "from 0 to 604800");
	refused("--linger -1", "--linger", "-1", "from 0 to 604800");
	refused("--linger 18446744073709551617", "--linger", "18446744073709551617", "604800");
	refused("--linger 1e3", "--linger", "1e3", "whole number");
	refused("--linger=", "--linger", "''", "whole number");
}

Test(options, files_and_paths_are_bounded)
{
	char line[20000] = "", path[OPTIONS_PATH_MAX + 40];
	size_t len = 0;

	for (int i = 0; i < OPTIONS_TARGETS_MAX; i++)
		len += (size_t)snprintf(line + len, sizeof(line) - len, "--shm /s%d ", i);
	cr_expect_eq(parse(line), 0, "%s", error);
	snprintf(line + len, sizeof(line) - len, "--shm /more");
	refused(line, "--shm", "/more", "one too many");
	snprintf(path, sizeof(path), "--shm /%0*d", OPTIONS_PATH_MAX - 2, 0);
	cr_expect_eq(parse(path), 0, "%s", error);
	snprintf(path, sizeof(path), "--shm /%0*d", OPTIONS_PATH_MAX - 1, 0);
	refused(path, "--shm", "/0", "longer than");
}

Test(options, something_to_serve_is_required_only_where_it_is_served)
{
	cr_assert_eq(parse(""), 0);
	cr_expect_eq(options_complete(&o, error), -EINVAL);
	cr_expect(strstr(error, "--shm"));
	cr_assert_eq(parse("--check"), 0);
	cr_expect_eq(options_complete(&o, error), -EINVAL);
	cr_assert_eq(parse("--version"), 0);
	cr_expect_eq(options_complete(&o, error), 0);
	cr_assert_eq(parse("-h"), 0);
	cr_expect_eq(o.action, OPTIONS_HELP);
	cr_assert_eq(parse("--dump-metrics markdown"), 0);
	cr_expect_eq(o.action, OPTIONS_DUMP_MARKDOWN);
}

Test(options, a_configuration_file_has_the_flags_as_keys)
{
	cr_assert_eq(parse(""), 0);
	cr_assert_eq(
		configure(
			"{\"shm\": [\"/a\", {\"path\": \"/b\", \"listen\": \"[::1]:9\"}],\n"
			"\"names\": \"seed\", \"native-histograms\": true, \"linger\": 7,\n"
			"\"stale_after\": 9, \"log_level\": \"debug\", \"log-format\": \"json\",\n"
			"\"created-lines\": true, \"owner\": \"root\"}"),
		0, "%s", error);
	cr_expect_eq(o.n_targets, 2);
	cr_expect_str_eq(o.targets[0].shm, "/a");
	cr_expect_not(o.targets[0].listens);
	cr_expect_eq(o.targets[1].listen.port, 9);
	cr_expect_eq(o.names, ENCODE_NAMES_SEED);
	cr_expect(o.native_histograms && o.created_lines);
	cr_expect_eq(o.linger_s, 7);
	cr_expect_eq(o.stale_after_s, 9);
	cr_expect_eq(o.log_level, LOG_LEVEL_DEBUG);
	cr_expect_eq(o.log_format, LOG_FORMAT_JSON);
	cr_assert_eq(configure("{\"listen\": \"127.0.0.1:5\", \"shm\": \"/c\", "
			       "\"native-histograms\": false}"),
		     0, "%s", error);
	cr_expect_eq(o.n_targets, 1);
	cr_expect_eq(o.targets[0].listen.port, 5);
	cr_expect_not(o.native_histograms);
}

Test(options, a_flag_wins_over_its_key)
{
	cr_assert_eq(parse("--shm /flag --linger 5"), 0);
	cr_assert_eq(configure("{\"shm\": \"/file\", \"linger\": 6, \"names\": \"seed\"}"), 0);
	cr_expect_eq(o.n_targets, 1);
	cr_expect_str_eq(o.targets[0].shm, "/flag");
	cr_expect_eq(o.linger_s, 5);
	cr_expect_eq(o.names, ENCODE_NAMES_SEED);
}

Test(options, a_faulty_configuration_names_line_and_key_and_changes_nothing)
{
	config_refused("{\n \"linger\": 3,\n \"lnger\": 4}",
		       "agent.json:3:", "did you mean \"linger\"");
	config_refused("{\n\n\"check\": true}", "agent.json:3:", "unknown");
	config_refused("{\"plugh\": 1}", "agent.json:1:", "--help");
	config_refused("{\"linger\": \"3\"}", "agent.json:1:", "whole number");
	config_refused("{\"linger\":\n 3.0}", "agent.json:1:", "whole number");
	config_refused("{\"native-histograms\": 1}", "agent.json:1:", "true or false");
	config_refused("{\n\"names\": \"x\"}", "agent.json:2:", "both, canonical, seed");
	config_refused("{\"names\": \"bo\\u0000th\"}", "agent.json:", "");
	config_refused("{\"linger\": 1, \"linger\": 2}", "agent.json:1:", "duplicate");
	config_refused("{\"log_level\": \"info\", \"log-level\": \"info\"}",
		       "agent.json:1:", "same key");
	config_refused("{\"listen\": \"h:1\"}", "agent.json:1:", "without \"shm\"");
	config_refused("{\"shm\": [\"/a\"], \"listen\": \"h:1\"}", "agent.json:1:", "elements");
	config_refused("{\"shm\": [{\"listen\": \"h:1\"}]}", "agent.json:1:", "no \"path\"");
	config_refused("{\"shm\": [{\"path\": \"/a\",\n\"port\": 1}]}",
		       "agent.json:2:", "path and listen");
	config_refused("{\"shm\": [{\"path\": \"/a\",\n\"listen\": \"h\"},\n{\"path\": \"/a\"}]}",
		       "agent.json:2:", "HOST:PORT");
	config_refused("{\"shm\": 5}", "agent.json:1:", "a string");
	config_refused("[]", "agent.json:", "not a JSON object");
	config_refused("{\n\"linger\" 3}", "agent.json:2:", "not JSON");
	config_refused("", "agent.json:", "not JSON");
	config_refused("{} {}", "agent.json:1:", "not JSON");
}

Test(options, only_some_options_change_without_a_restart)
{
	struct options a, b;
	char text[256];

	cr_assert_eq(parse("--shm /a"), 0);
	a = b = o;
	b.names = ENCODE_NAMES_SEED;
	b.created_lines = true;
	b.log_level = LOG_LEVEL_DEBUG;
	options_need_restart(&a, &b, text, sizeof(text));
	cr_expect_str_eq(text, "");
	b.linger_s++;
	b.targets[0].listens = true;
	options_need_restart(&a, &b, text, sizeof(text));
	cr_expect_str_eq(text, "shm, linger");
	options_need_restart(&a, &b, text, 6); /* cut, not overrun */
	cr_expect(strlen(text) < 6);
}

Test(options, a_configuration_file_that_cannot_be_read_says_why)
{
	char dir[] = "/tmp/blixard-options-XXXXXX", path[64], *text = NULL;
	size_t len = 0;
	FILE *f;

	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/c", dir);
	cr_expect_eq(options_read_file(path, &text, &len, error), -ENOENT);
	cr_expect(strstr(error, path) && strstr(error, "No such file"));
	cr_expect_eq(options_read_file(dir, &text, &len, error), -EINVAL);
	cr_assert_eq(mkfifo(path, 0600), 0); /* must not wait for a writer */
	cr_expect_eq(options_read_file(path, &text, &len, error), -EINVAL);
	cr_expect(strstr(error, "regular"));
	unlink(path);
	f = fopen(path, "w");
	cr_assert(f);
	fputs("{}", f);
	fclose(f);
	cr_assert_eq(options_read_file(path, &text, &len, error), 0);
	cr_expect_eq(len, 2);
	cr_expect_str_eq(text, "{}");
	free(text);
	cr_assert_eq(truncate(path, OPTIONS_CONFIG_BYTES_MAX), 0);
	cr_assert_eq(options_read_file(path, &text, &len, error), 0);
	free(text);
	cr_assert_eq(truncate(path, OPTIONS_CONFIG_BYTES_MAX + 1), 0);
	cr_expect_eq(options_read_file(path, &text, &len, error), -EFBIG);
	unlink(path);
	rmdir(dir);
}

static void state_is(const char *state, const char *xdg, const char *home, bool root,
		     const char *expected)
{
	char path[OPTIONS_PATH_MAX];
	int err = options_state_directory(&o, state, xdg, home, root, path, error);

	if (!expected) {
		cr_expect_eq(err, -EINVAL);
		cr_expect(strstr(error, "STATE_DIRECTORY"));
		return;
	}
	cr_assert_eq(err, 0, "%s", error);
	cr_expect_str_eq(path, expected);
}

Test(options, the_state_directory_follows_the_rule)
{
	cr_assert_eq(parse("--shm /dev/shm/blix1 --shm /dev/shm/blix2"), 0);
	state_is("/var/lib/x", "/xdg", "/home/u", true, "/var/lib/x");
	state_is("/var/lib/x:/var/lib/y", NULL, NULL, false, "/var/lib/x");
	state_is("relative", NULL, NULL, true, NULL);
	state_is(NULL, "/xdg", "/home/u", true, "/var/lib/blixard/blix1");
	state_is("", "/xdg", "/home/u", false, "/xdg/blixard/blix1");
	state_is(NULL, "not/absolute", "/home/u", false, "/home/u/.local/state/blixard/blix1");
	state_is(NULL, NULL, NULL, false, NULL);
}
