/* agent/options.c - see options.h. */
#include "agent/options.h"
#include "agent/run_control.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the table ------------------------------------------------------------------------------ */

/* What follows the flag, and the JSON type of the key. */
enum takes { TAKES_NOTHING, TAKES_TEXT, TAKES_NUMBER };

enum {
	CONFIGURABLE = 1u << 0, /* is also a key of the configuration file */
	RELOADABLE = 1u << 1,	/* SIGHUP may change it */
};

struct row {
	const char *name;
	const char *argument; /* as help prints it; NULL if none */
	enum takes takes;
	uint32_t flags;
	/* Take `value` ("" for TAKES_NOTHING). 0; -EINVAL and the rest of a sentence. */
	int (*set)(struct options *o, const char *value, char *reason);
	/* Do the two differ in it? */
	bool (*differs)(const struct options *a, const struct options *b);
	const char *help; /* a newline starts a new line of help */
};

enum { REASON_MAX = ADDRESS_REASON_MAX + 64 };

__attribute__((format(printf, 2, 3))) static int refuse(char *reason, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, REASON_MAX, format, args);
	va_end(args);
	return -EINVAL;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int set_shm(struct options *o, const char *value, char *reason)
{
	const char *name = base_name(value);

	if (o->n_targets == OPTIONS_TARGETS_MAX)
		return refuse(reason, "is one too many: one agent serves %d files",
			      OPTIONS_TARGETS_MAX);
	if (strlen(value) >= OPTIONS_PATH_MAX)
		return refuse(reason, "is longer than %d bytes", OPTIONS_PATH_MAX - 1);
	if (!name[0] || !strcmp(name, ".") || !strcmp(name, ".."))
		return refuse(reason, "names no file: write a path like /dev/shm/blix1");
	for (uint32_t i = 0; i < o->n_targets; i++)
		if (!strcmp(o->targets[i].shm, value))
			return refuse(reason, "was given twice: each file has one listener");
	memset(&o->targets[o->n_targets], 0, sizeof(o->targets[0]));
	memcpy(o->targets[o->n_targets++].shm, value, strlen(value) + 1);
	return 0;
}

static int set_listen(struct options *o, const char *value, char *reason)
{
	struct options_target *t;
	char why[ADDRESS_REASON_MAX];
	struct address a;

	if (!o->n_targets)
		return refuse(reason,
			      "stands before any --shm: put it after the file it belongs to");
	t = &o->targets[o->n_targets - 1];
	if (t->listens)
		return refuse(reason, "is a second address for %s: each file has one", t->shm);
	if (address_parse(value, &a, why) < 0)
		return refuse(reason, "is no address: %s", why);
	for (uint32_t i = 0; i < o->n_targets; i++)
		if (o->targets[i].listens && address_equal(&o->targets[i].listen, &a))
			return refuse(reason, "already belongs to %s: give each file its own port",
				      o->targets[i].shm);
	t->listen = a;
	t->listens = true;
	return 0;
}

/* Digits only, within [low, high]. */
static int number(const char *value, uint32_t low, uint32_t high, uint32_t *ret, char *reason)
{
	uint64_t n = 0;
	const char *p = value;

	for (; *p >= '0' && *p <= '9' && n <= UINT32_MAX; p++)
		n = n * 10 + (uint64_t)(*p - '0');
	if (p == value || *p || n < low || n > high)
		return refuse(reason,
			      "is not a whole number of seconds from %" PRIu32 " to %" PRIu32, low,
			      high);
	*ret = (uint32_t)n;
	return 0;
}

static int set_stale_after(struct options *o, const char *value, char *reason)
{
	return number(value, 1, OPTIONS_STALE_AFTER_MAX_S, &o->stale_after_s, reason);
}

static int set_linger(struct options *o, const char *value, char *reason)
{
	return number(value, 0, OPTIONS_LINGER_MAX_S, &o->linger_s, reason);
}

static int set_no_bpf(struct options *o, const char *value, char *reason)
{
	(void)reason;
	o->no_bpf = strcmp(value, "false") != 0;
	return 0;
}

static int set_slow_io(struct options *o, const char *value, char *reason)
{
	int err = number(value, 0, OPTIONS_SLOW_IO_MAX_MS, &o->slow_io_ms, reason);

	if (err)
		refuse(reason, "is not a whole number of milliseconds from 0 to %d",
		       OPTIONS_SLOW_IO_MAX_MS);
	return err;
}

/* Index of `value` in words; -EINVAL and the list of them. */
static int word(const char *value, const char *const *words, int n, char *reason)
{
	size_t len;

	for (int i = 0; i < n; i++)
		if (!strcmp(words[i], value))
			return i;
	len = (size_t)snprintf(reason, REASON_MAX, "is none of");
	for (int i = 0; i < n; i++)
		len += (size_t)snprintf(reason + len, REASON_MAX - len, "%s %s", i ? "," : "",
					words[i]);
	return -EINVAL;
}

static int set_names(struct options *o, const char *value, char *reason)
{
	static const char *const words[] = {"both", "canonical", "seed"};
	int i = word(value, words, 3, reason);

	if (i < 0)
		return i;
	o->names = (enum encode_names)i;
	return 0;
}

static int set_log_format(struct options *o, const char *value, char *reason)
{
	int i = word(value, log_format_names, LOG_FORMATS, reason);

	if (i < 0)
		return i;
	o->log_format = (enum log_format)i;
	return 0;
}

static int set_log_level(struct options *o, const char *value, char *reason)
{
	int i = word(value, log_level_names, LOG_LEVELS, reason);

	if (i < 0)
		return i;
	o->log_level = (enum log_level)i;
	return 0;
}

static int set_node_log_level(struct options *o, const char *value, char *reason)
{
	if (run_control_level(value, &o->node_log_min) < 0)
		return refuse(reason,
			      "is none of trace, debug, info, warn, error, fatal, off, or a "
			      "severity from 1 to 24");
	return 0;
}

static int set_dump(struct options *o, const char *value, char *reason)
{
	static const char *const words[] = {"json", "markdown"};
	int i = word(value, words, 2, reason);

	if (i < 0)
		return i;
	o->action = i == 0 ? OPTIONS_DUMP_JSON : OPTIONS_DUMP_MARKDOWN;
	return 0;
}

static int set_owner(struct options *o, const char *value, char *reason)
{
	const struct passwd *user;
	char *end = NULL;
	unsigned long uid;

	if (value[0] >= '0' && value[0] <= '9') {
		errno = 0;
		uid = strtoul(value, &end, 10);
		if (errno || *end || uid >= UINT32_MAX)
			return refuse(reason, "is neither a user name nor a user id");
		o->owner = (uid_t)uid;
		return 0;
	}
	user = getpwnam(value);
	if (!user)
		return refuse(reason, "is no user of this system: see `getent passwd`");
	o->owner = user->pw_uid;
	return 0;
}

static int set_spool(struct options *o, const char *value, char *reason)
{
	if (!value[0] || strlen(value) >= OPTIONS_PATH_MAX)
		return refuse(reason, "is no path: write that of a directory, at most %d bytes",
			      OPTIONS_PATH_MAX - 1);
	memcpy(o->spool, value, strlen(value) + 1);
	return 0;
}

static int set_config(struct options *o, const char *value, char *reason)
{
	if (!value[0] || strlen(value) >= OPTIONS_PATH_MAX)
		return refuse(reason, "is no path");
	memcpy(o->config, value, strlen(value) + 1);
	return 0;
}

/* The switches: the value is "" on the command line, and "false" only in a configuration file. */
static int set_native(struct options *o, const char *value, char *reason)
{
	(void)reason;
	o->native_histograms = strcmp(value, "false") != 0;
	return 0;
}

static int set_created(struct options *o, const char *value, char *reason)
{
	(void)reason;
	o->created_lines = strcmp(value, "false") != 0;
	return 0;
}

static int set_journal(struct options *o, const char *value, char *reason)
{
	(void)reason;
	o->journal = strcmp(value, "false") != 0;
	return 0;
}

static int set_check(struct options *o, const char *value, char *reason)
{
	(void)value, (void)reason;
	o->action = OPTIONS_CHECK;
	return 0;
}

static int set_check_export(struct options *o, const char *value, char *reason)
{
	(void)value, (void)reason;
	o->action = OPTIONS_CHECK_EXPORT;
	return 0;
}

static int set_version(struct options *o, const char *value, char *reason)
{
	(void)value, (void)reason;
	o->action = OPTIONS_VERSION;
	return 0;
}

static int set_help(struct options *o, const char *value, char *reason)
{
	(void)value, (void)reason;
	o->action = OPTIONS_HELP;
	return 0;
}

static bool differs_targets(const struct options *a, const struct options *b)
{
	if (a->n_targets != b->n_targets)
		return true;
	for (uint32_t i = 0; i < a->n_targets; i++) {
		const struct options_target *x = &a->targets[i], *y = &b->targets[i];

		if (strcmp(x->shm, y->shm) != 0 || x->listens != y->listens ||
		    (x->listens && !address_equal(&x->listen, &y->listen)))
			return true;
	}
	return false;
}

static bool differs_spool(const struct options *a, const struct options *b)
{
	return strcmp(a->spool, b->spool) != 0;
}

#define DIFFERS(member)                                                                            \
	static bool differs_##member(const struct options *a, const struct options *b)             \
	{                                                                                          \
		return a->member != b->member;                                                     \
	}
DIFFERS(names)
DIFFERS(native_histograms)
DIFFERS(created_lines)
DIFFERS(stale_after_s)
DIFFERS(linger_s)
DIFFERS(no_bpf)
DIFFERS(slow_io_ms)
DIFFERS(owner)
DIFFERS(journal)
DIFFERS(log_format)
DIFFERS(log_level)
DIFFERS(node_log_min)

enum { LIVE = CONFIGURABLE | RELOADABLE };

/* A row without `set` is the heading of a group. */
/* clang-format off */
static const struct row rows[] = {
	{ .help = "What to read, and where to serve it" },
	{ "shm", "PATH", TAKES_TEXT, CONFIGURABLE, set_shm, differs_targets,
	  "shared-memory file of a node, e.g. /dev/shm/blix1; it may appear later.\n"
	  "Repeat it for further nodes of this host: each file has its own listener" },
	{ "listen", "ADDR:PORT", TAKES_TEXT, CONFIGURABLE, set_listen, NULL,
	  "address to serve the --shm before it; IPv6 in brackets.\n"
	  "Default: the last one used, else that of the node's gRPC server, port + 1000" },
	{ "owner", "USER", TAKES_TEXT, CONFIGURABLE, set_owner, differs_owner,
	  "whose files to trust, beside root's. Default: the user the agent runs as" },
	{ .help = "What to serve" },
	{ "names", "both|canonical|seed", TAKES_TEXT, LIVE, set_names, differs_names,
	  "metric names of a request that does not choose by ?names=. Default: both" },
	{ "native-histograms", NULL, TAKES_NOTHING, CONFIGURABLE, set_native,
	  differs_native_histograms,
	  "exponential buckets beside the classic ones in the protobuf format, where\n"
	  "the node records them. Prometheus 2.x then stores no classic ones" },
	{ "created-lines", NULL, TAKES_NOTHING, LIVE, set_created, differs_created_lines,
	  "_created samples in OpenMetrics: one more series for each counter" },
	{ .help = "What to send on (where to: see Environment, below)" },
	{ "spool", "DIR", TAKES_TEXT, CONFIGURABLE, set_spool, differs_spool,
	  "directory in which batches wait for a destination that does not take them.\n"
	  "Default: the state directory" },
	{ "journal", NULL, TAKES_NOTHING, CONFIGURABLE, set_journal, differs_journal,
	  "send the logs of the nodes to the systemd journal of this host" },
	{ .help = "How long to wait" },
	{ "stale-after", "SECONDS", TAKES_NUMBER, CONFIGURABLE, set_stale_after,
	  differs_stale_after_s,
	  "a node whose heartbeat stands still for this long is hung. Default: 10" },
	{ "linger", "SECONDS", TAKES_NUMBER, CONFIGURABLE, set_linger, differs_linger_s,
	  "serve the final counters of a dead node for this long, or until its\n"
	  "next start. Default: 300" },
	{ .help = "Storage probes in the kernel (eBPF)" },
	{ "no-bpf", NULL, TAKES_NOTHING, CONFIGURABLE, set_no_bpf, differs_no_bpf,
	  "load none. They need CAP_BPF and CAP_PERFMON, which the agent gives up\n"
	  "once they are attached; without them it serves everything else" },
	{ "slow-io-ms", "MILLISECONDS", TAKES_NUMBER, CONFIGURABLE, set_slow_io, differs_slow_io_ms,
	  "a wait for storage at least this long is told one by one, with its trace;\n"
	  "0: none is. Default: 10" },
	{ .help = "Configuration and log" },
	{ "config", "FILE", TAKES_TEXT, 0, set_config, NULL,
	  "JSON object whose keys are these flags without dashes in front; a flag\n"
	  "wins over its key. SIGHUP reads it again: names, created-lines, log-level\n"
	  "and log-format change at once, the others at the next start. One key more:\n"
	  "\"sampling\": {\"ratio\": 0.1, \"rules\": [{\"name\": \"*/CreateVm\", \"ratio\": 1,\n"
	  "\"for\": \"10m\"}]} changes what the nodes sample; see also blixctl --help" },
	{ "log-level", "error|warning|info|debug", TAKES_TEXT, LIVE, set_log_level,
	  differs_log_level, "what to say on stderr. Default: info" },
	{ "log-format", "text|json", TAKES_TEXT, LIVE, set_log_format, differs_log_format,
	  "how to say it. Default: text" },
	{ "node-log-level", "LEVEL", TAKES_TEXT, LIVE, set_node_log_level, differs_node_log_min,
	  "lowest level of the logs that the nodes record: trace, debug, info, warn,\n"
	  "error, fatal, off. Default: the nodes' own" },
	{ .help = "Instead of serving" },
	{ "check", NULL, TAKES_NOTHING, 0, set_check, NULL,
	  "validate flags, configuration, files and addresses, say what was found,\n"
	  "and exit: 0 if the agent would work, 1 if not. It sends nothing" },
	{ "check-export", NULL, TAKES_NOTHING, 0, set_check_export, NULL,
	  "send an empty request to every destination, say what each answered, and\n"
	  "exit: 0 if all took it, 1 if not. Needs no --shm" },
	{ "dump-metrics", "json|markdown", TAKES_TEXT, 0, set_dump, NULL,
	  "print the catalogue of metrics" },
	{ "version", NULL, TAKES_NOTHING, 0, set_version, NULL, "print the version" },
	{ "help", NULL, TAKES_NOTHING, 0, set_help, NULL, "print this" },
};
/* clang-format on */
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

void options_init(struct options *o)
{
	memset(o, 0, sizeof(*o));
	o->stale_after_s = 10;
	o->linger_s = 300;
	o->slow_io_ms = 10;
	o->owner = geteuid();
	o->log_level = LOG_LEVEL_INFO;
}

/* Row called `name`, '_' standing for '-' where `config`; ROWS if none. */
static uint32_t row_find(const char *name, size_t len, bool config)
{
	for (uint32_t i = 0; i < ROWS; i++) {
		const char *a = rows[i].name;
		size_t k = 0;

		if (!a || strlen(a) != len || (config && !(rows[i].flags & CONFIGURABLE)))
			continue;
		while (k < len && (a[k] == name[k] || (config && a[k] == '-' && name[k] == '_')))
			k++;
		if (k == len)
			return i;
	}
	return ROWS;
}

/* ---- the command line ------------------------------------------------------------------------ */

static uint32_t min3(uint32_t a, uint32_t b, uint32_t c)
{
	uint32_t m = a < b ? a : b;

	return m < c ? m : c;
}

/* Edits between two words (Levenshtein), names up to 31 letters. */
static uint32_t distance(const char *a, size_t a_len, const char *b)
{
	uint32_t line[32];
	size_t b_len = strlen(b);

	if (a_len >= 32 || b_len >= 32)
		return UINT32_MAX;
	for (uint32_t j = 0; j <= b_len; j++)
		line[j] = j;
	for (uint32_t i = 1; i <= a_len; i++) {
		uint32_t corner = line[0];

		line[0] = i;
		for (uint32_t j = 1; j <= b_len; j++) {
			uint32_t above = line[j];

			line[j] = min3(above + 1, line[j - 1] + 1,
				       corner + (a[i - 1] == b[j - 1] ? 0 : 1));
			corner = above;
		}
	}
	return line[b_len];
}

/* The known name nearest to a wrong one; NULL if none is near. */
static const char *nearest(const char *name, size_t len, bool config)
{
	const char *best = NULL;
	uint32_t best_distance = 4;

	for (uint32_t i = 0; i < ROWS; i++) {
		uint32_t d;

		if (!rows[i].name || (config && !(rows[i].flags & CONFIGURABLE)))
			continue;
		d = distance(name, len, rows[i].name);
		if (len >= 3 && strlen(rows[i].name) > len && !strncmp(rows[i].name, name, len))
			d = 1; /* the beginning of a name */
		if (d < best_distance && d < strlen(rows[i].name)) {
			best_distance = d;
			best = rows[i].name;
		}
	}
	return best;
}

__attribute__((format(printf, 2, 3))) static int fail(char *error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, OPTIONS_ERROR_MAX, format, args);
	va_end(args);
	return -EINVAL;
}

static int unknown_flag(const char *arg, char *error)
{
	size_t len = strcspn(arg, "=");
	const char *near = NULL;

	if (len > 2 && !strncmp(arg, "--", 2))
		near = nearest(arg + 2, len - 2, false);
	else if (arg[0] != '-')
		return fail(error, "unexpected argument '%.200s': every option starts with --",
			    arg);
	if (near)
		return fail(error, "unknown flag %.*s: did you mean --%s?",
			    (int)(len < 200 ? len : 200), arg, near);
	return fail(error, "unknown flag %.*s: --help lists the known ones",
		    (int)(len < 200 ? len : 200), arg);
}

/* One flag at argv[*at], moving *at over its value. */
static int parse_flag(struct options *o, int argc, char **argv, int *at, char *error)
{
	const char *arg = !strcmp(argv[*at], "-h") ? "--help" : argv[*at], *value = "";
	size_t len = strcspn(arg, "=");
	char reason[REASON_MAX];
	const struct row *row;
	uint32_t i = ROWS;

	if (len > 2 && !strncmp(arg, "--", 2))
		i = row_find(arg + 2, len - 2, false);
	if (i == ROWS)
		return unknown_flag(arg, error);
	row = &rows[i];
	if (row->takes == TAKES_NOTHING) {
		if (arg[len])
			return fail(error, "--%s takes no value: remove '%.200s'", row->name,
				    arg + len);
	} else if (arg[len]) {
		value = arg + len + 1;
	} else if (*at + 1 < argc && strncmp(argv[*at + 1], "--", 2) != 0) {
		value = argv[++*at];
	} else {
		return fail(error, "--%s needs a value: --%s %s", row->name, row->name,
			    row->argument);
	}
	if (row->set(o, value, reason) < 0)
		return fail(error, "--%s '%.400s' %s", row->name, value, reason);
	o->by_flag |= UINT64_C(1) << i;
	return 0;
}

int options_parse(struct options *o, int argc, char **argv, char error[OPTIONS_ERROR_MAX])
{
	for (int at = 1; at < argc; at++) {
		int err = parse_flag(o, argc, argv, &at, error);

		if (err)
			return err;
	}
	return 0;
}

/* ---- the configuration file ------------------------------------------------------------------ */

/* Line of the `nth` (from 0) string `key` that is followed by a colon; 0 if there is none. The text
 * is known to be JSON, so strings are all that has to be understood. */
static uint32_t key_line(const char *text, size_t len, const char *key, uint32_t nth)
{
	uint32_t line = 1;
	size_t key_len = strlen(key);

	for (size_t i = 0; i < len; i++) {
		size_t begin, after;

		if (text[i] == '\n')
			line++;
		if (text[i] != '"')
			continue;
		begin = ++i;
		while (i < len && text[i] != '"')
			i += text[i] == '\\' ? 2 : 1;
		for (after = i + 1; after < len && strchr(" \t\r\n", text[after]); after++)
			;
		if (after < len && text[after] == ':' && i - begin == key_len &&
		    !memcmp(text + begin, key, key_len) && nth-- == 0)
			return line;
	}
	return 0;
}

/* A file being read: what messages need, and which rows were set already. */
struct config {
	struct options *o;
	const char *path;
	const char *text;
	size_t len;
	uint64_t seen;
	char *error;
};

/* "path:line: key ..." */
__attribute__((format(printf, 4, 5))) static int fail_at(const struct config *c, const char *key,
							 uint32_t nth, const char *format, ...)
{
	uint32_t line = key_line(c->text, c->len, key, nth);
	char what[REASON_MAX + 600];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (line)
		return fail(c->error, "%.400s:%" PRIu32 ": \"%.100s\" %s", c->path, line, key,
			    what);
	return fail(c->error, "%.400s: \"%.100s\" %s", c->path, key, what);
}

/* A JSON value as the text a flag would carry. False: the type does not fit. */
static bool value_text(const struct row *row, const json_t *value, char *text, size_t size)
{
	switch (row->takes) {
	case TAKES_NOTHING:
		snprintf(text, size, "%s", json_is_true(value) ? "true" : "false");
		return json_is_boolean(value);
	case TAKES_NUMBER:
		snprintf(text, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return json_is_integer(value);
	case TAKES_TEXT:
		break;
	}
	if (!json_is_string(value) || json_string_length(value) >= size ||
	    strlen(json_string_value(value)) != json_string_length(value))
		return false;
	memcpy(text, json_string_value(value), json_string_length(value) + 1);
	return true;
}

static int config_value(struct config *c, const char *key, uint32_t nth, const struct row *row,
			const json_t *value)
{
	static const char *const types[] = {"true or false", "a string", "a whole number"};
	char text[OPTIONS_PATH_MAX + 8], reason[REASON_MAX];

	if (!value_text(row, value, text, sizeof(text)))
		return fail_at(c, key, nth, "must be %s", types[row->takes]);
	if (row->set(c->o, text, reason) < 0)
		return fail_at(c, key, nth, "'%.400s' %s", text, reason);
	return 0;
}

/* One element of "shm": a path, or {"path": ..., "listen": ...}. */
static int config_target(struct config *c, uint32_t index, const json_t *element)
{
	const struct row *shm = &rows[row_find("shm", 3, true)];
	const struct row *listen = &rows[row_find("listen", 6, true)];
	const json_t *path = element, *address = NULL, *value;
	const char *key;
	void *iter;
	int err;

	if (json_is_object(element)) {
		path = json_object_get(element, "path");
		address = json_object_get(element, "listen");
		for (iter = json_object_iter((json_t *)element); iter;
		     iter = json_object_iter_next((json_t *)element, iter)) {
			key = json_object_iter_key(iter);
			value = json_object_iter_value(iter);
			if (value != path && value != address)
				return fail_at(c, key, 0,
					       "is unknown in \"shm\": it takes path and listen");
		}
		if (!path)
			return fail_at(c, "shm", 0, "element %" PRIu32 " has no \"path\"",
				       index + 1);
	}
	err = config_value(c, path == element ? "shm" : "path", path == element ? 0 : index, shm,
			   path);
	if (err || !address)
		return err;
	return config_value(c, "listen", index, listen, address);
}

static int config_targets(struct config *c, const json_t *root, const json_t *shm)
{
	const json_t *listen = json_object_get(root, "listen");
	int err = 0;

	c->o->n_targets = 0;
	if (!json_is_array(shm)) {
		err = config_target(c, 0, shm);
	} else {
		if (listen)
			return fail_at(c, "listen", 0,
				       "belongs into the elements of \"shm\": "
				       "{\"path\": ..., \"listen\": ...}");
		for (size_t i = 0; !err && i < json_array_size(shm); i++)
			err = config_target(c, (uint32_t)i, json_array_get(shm, i));
	}
	if (!err && listen)
		err = config_value(c, "listen", 0, &rows[row_find("listen", 6, true)], listen);
	return err;
}

static int config_key(struct config *c, const json_t *root, const char *key, const json_t *value)
{
	uint32_t i = row_find(key, strlen(key), true);
	char reason[OPTIONS_SAMPLING_REASON_MAX];
	const char *near;

	if (!strcmp(key, "sampling")) {
		if (options_sampling(&c->o->sampling, value, reason) < 0)
			return fail_at(c, key, 0, "%s", reason);
		return 0;
	}

	if (i == ROWS) {
		near = nearest(key, strlen(key), true);
		if (near)
			return fail_at(c, key, 0, "is unknown: did you mean \"%s\"?", near);
		return fail_at(c, key, 0, "is unknown: --help lists the flags, which are the keys");
	}
	if (c->seen & UINT64_C(1) << i)
		return fail_at(c, key, 0, "is the same key as one spelled with - or _");
	c->seen |= UINT64_C(1) << i;
	if (rows[i].set == set_listen) {
		if (!json_object_get(root, "shm"))
			return fail_at(c, key, 0, "stands without \"shm\"");
		return 0; /* taken together with it */
	}
	if (c->o->by_flag & UINT64_C(1) << i)
		return 0;
	if (rows[i].set == set_shm)
		return config_targets(c, root, value);
	return config_value(c, key, 0, &rows[i], value);
}

int options_config(struct options *o, const char *path, const char *text, size_t len,
		   char error[OPTIONS_ERROR_MAX])
{
	struct options changed = *o;
	struct config c = {.o = &changed, .path = path, .text = text, .len = len, .error = error};
	json_error_t where;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	int err = 0;

	if (!root)
		return fail(error, "%.400s:%d: not JSON: %s", path, where.line, where.text);
	if (!json_is_object(root))
		err = fail(error, "%.400s: not a JSON object: write { \"key\": value }", path);
	for (void *iter = err ? NULL : json_object_iter(root); !err && iter;
	     iter = json_object_iter_next(root, iter))
		err = config_key(&c, root, json_object_iter_key(iter),
				 json_object_iter_value(iter));
	json_decref(root);
	if (!err)
		*o = changed;
	return err;
}

static int read_fd(int fd, char **ret_text, size_t *ret_len)
{
	char *text = malloc(OPTIONS_CONFIG_BYTES_MAX + 1), *fitting;
	size_t len = 0;
	ssize_t n = 1;

	if (!text)
		return -ENOMEM;
	while (n > 0 && len <= OPTIONS_CONFIG_BYTES_MAX) {
		n = read(fd, text + len, OPTIONS_CONFIG_BYTES_MAX + 1 - len);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			len += (size_t)n;
	}
	if (n < 0 || len > OPTIONS_CONFIG_BYTES_MAX) {
		int err = n < 0 ? -errno : -EFBIG;

		free(text);
		return err;
	}
	fitting = realloc(text, len + 1);
	*ret_text = fitting ? fitting : text;
	(*ret_text)[len] = '\0';
	*ret_len = len;
	return 0;
}

int options_read_file(const char *path, char **ret_text, size_t *ret_len,
		      char error[OPTIONS_ERROR_MAX])
{
	/* O_NONBLOCK: opening a FIFO must not wait for its writer. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), err;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode))
		err = -EINVAL;
	else
		err = read_fd(fd, ret_text, ret_len);
	if (fd >= 0)
		close(fd);
	if (err == -EINVAL)
		fail(error, "--config '%.400s' is no regular file", path);
	else if (err == -EFBIG)
		fail(error, "--config '%.400s' is larger than %d bytes", path,
		     OPTIONS_CONFIG_BYTES_MAX);
	else if (err)
		fail(error, "--config '%.400s' cannot be read: %s", path, strerror(-err));
	return err;
}

/* ---- the whole ------------------------------------------------------------------------------- */

int options_complete(const struct options *o, char error[OPTIONS_ERROR_MAX])
{
	if ((o->action == OPTIONS_RUN || o->action == OPTIONS_CHECK) && !o->n_targets)
		return fail(error, "nothing to serve: name the node's file, "
				   "e.g. --shm /dev/shm/blix1 (--help tells more)");
	return 0;
}

void options_need_restart(const struct options *a, const struct options *b, char *text, size_t size)
{
	size_t len = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < ROWS; i++) {
		if (!rows[i].differs || (rows[i].flags & RELOADABLE) || !rows[i].differs(a, b))
			continue;
		len += (size_t)snprintf(text + len, size - len, "%s%s", len ? ", " : "",
					rows[i].name);
		if (len >= size)
			return;
	}
}

static void help_row(struct buf *text, const struct row *row)
{
	enum { COLUMN = 28 };
	char left[64];
	const char *line = row->help;

	if (!row->set) {
		buf_addf(text, "\n%s:\n", line);
		return;
	}
	snprintf(left, sizeof(left), "  --%s%s%s", row->name, row->argument ? " " : "",
		 row->argument ? row->argument : "");
	if (strlen(left) >= COLUMN) {
		buf_addf(text, "%s\n", left);
		left[0] = '\0';
	}
	while (*line) {
		size_t len = strcspn(line, "\n");

		buf_addf(text, "%-*s%.*s\n", COLUMN, left, (int)len, line);
		left[0] = '\0';
		line += len + (line[len] == '\n');
	}
}

/* The variables of otlp_config.c, as somebody needs them who sets up an export. */
static const char help_environment[] =
	"\nEnvironment (read at the start; --check says what it comes to):\n"
	"  OTEL_EXPORTER_OTLP_ENDPOINT       where traces, metrics and logs go, e.g.\n"
	"                            http://localhost:4317. Without an endpoint nothing is sent\n"
	"  OTEL_EXPORTER_OTLP_PROTOCOL       grpc, http/protobuf or http/json. Default: grpc, on\n"
	"                            port 4318 http/protobuf\n"
	"  OTEL_EXPORTER_OTLP_HEADERS        key=value,key2=value2, e.g. "
	"Authorization=Bearer%20...\n"
	"  OTEL_EXPORTER_OTLP_{TIMEOUT,COMPRESSION,INSECURE}\n"
	"                            milliseconds of an attempt (10000); none or gzip; true: "
	"plain\n"
	"                            text for an endpoint that names no scheme\n"
	"  OTEL_EXPORTER_OTLP_{CERTIFICATE,CLIENT_CERTIFICATE,CLIENT_KEY}   PEM files\n"
	"  OTEL_EXPORTER_OTLP_{TRACES,METRICS,LOGS}_...\n"
	"                            any of these for one signal, whose ENDPOINT is the whole URL\n"
	"  OTEL_{TRACES,METRICS,LOGS}_EXPORTER   none: do not send this signal\n"
	"  OTEL_{BSP,BLRP}_{SCHEDULE_DELAY,MAX_QUEUE_SIZE,MAX_EXPORT_BATCH_SIZE,EXPORT_TIMEOUT}\n"
	"  OTEL_METRIC_EXPORT_{INTERVAL,TIMEOUT}\n"
	"  OTEL_EXPORTER_OTLP_METRICS_{TEMPORALITY_PREFERENCE,DEFAULT_HISTOGRAM_AGGREGATION}\n"
	"  OTEL_SDK_DISABLED         true: send nothing\n"
	"Samplers, limits, propagators and the resource are set in the environment of the node.\n";

void options_help(struct buf *text)
{
	buf_adds(text, "Usage: blixard-agent --shm PATH [--listen ADDR:PORT] [--shm PATH ...] "
		       "[OPTION ...]\n"
		       "Serves what Blixard nodes write into shared memory: metrics for "
		       "Prometheus, health,\n"
		       "and a page for people.\n");
	for (uint32_t i = 0; i < ROWS; i++)
		help_row(text, &rows[i]);
	buf_adds(text, help_environment);
	buf_adds(text,
		 "\nExample:\n"
		 "  blixard-agent --shm /dev/shm/blix1 --listen 127.0.0.1:8001\n"
		 "  curl 127.0.0.1:8001/metrics        also: / /health /ready /live /status.json\n"
		 "\nThe last address is kept in the state directory: $STATE_DIRECTORY, else\n"
		 "/var/lib/blixard/NAME for root and $XDG_STATE_HOME/blixard/NAME for others, NAME "
		 "being\n"
		 "that of the first file. Exit status: 0 after SIGTERM or SIGINT, 1 when the agent "
		 "cannot\n"
		 "work, 2 for a wrong option.\n");
}

int options_state_directory(const struct options *o, const char *state_directory,
			    const char *xdg_state_home, const char *home, bool root,
			    char ret_path[OPTIONS_PATH_MAX], char error[OPTIONS_ERROR_MAX])
{
	const char *name = base_name(o->targets[0].shm);
	int n;

	/* systemd joins several directories by colons; ours is the first. */
	if (state_directory && state_directory[0] == '/')
		n = snprintf(ret_path, OPTIONS_PATH_MAX, "%.*s", (int)strcspn(state_directory, ":"),
			     state_directory);
	else if (state_directory && state_directory[0])
		return fail(error, "STATE_DIRECTORY '%.400s' is not absolute", state_directory);
	else if (root)
		n = snprintf(ret_path, OPTIONS_PATH_MAX, "/var/lib/blixard/%s", name);
	else if (xdg_state_home && xdg_state_home[0] == '/') /* others are to be ignored, it says */
		n = snprintf(ret_path, OPTIONS_PATH_MAX, "%s/blixard/%s", xdg_state_home, name);
	else if (home && home[0] == '/')
		n = snprintf(ret_path, OPTIONS_PATH_MAX, "%s/.local/state/blixard/%s", home, name);
	else
		return fail(error, "no state directory: set STATE_DIRECTORY to an absolute path");
	if (n >= OPTIONS_PATH_MAX)
		return fail(error, "the path of the state directory is longer than %d bytes",
			    OPTIONS_PATH_MAX - 1);
	return 0;
}
