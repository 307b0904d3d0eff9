/* shm/tools/blixctl.c - give orders to a running blixard-agent: what its nodes sample and log.
 *
 * Speaks one line of JSON each way over the agent's UNIX socket. Everything that comes back is
 * foreign text. Exit status: 0 done; 1 the agent refused or is not there; 2 a wrong command line.
 * Includes: libc, jansson. One thread. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	PATH_BYTES = sizeof(((struct sockaddr_un *)0)->sun_path),
	ANSWER_MAX = 1 << 20,
	TIMEOUT_S = 10,
	PROTOCOL = 1,
	EXIT_USAGE = 2,
	FOR_MAX_S = 7 * 24 * 3600,
};

static const char help[] =
	"Usage: blixctl [--shm PATH | --socket PATH] COMMAND\n"
	"Changes what Blixard nodes record while they run, through their agent. Every change ends\n"
	"by itself.\n"
	"\n"
	"  sample RATIO [--name PATTERN] --for TIME\n"
	"                     sample this share of new traces, 0 to 1; with --name only those "
	"whose\n"
	"                     first span has such a name (* any text, ? one character)\n"
	"  log-level LEVEL --for TIME\n"
	"                     record logs from LEVEL on: trace, debug, info, warn, error, fatal, "
	"off\n"
	"  status             show what holds now, and for how long\n"
	"  clear              take back what was asked for with blixctl; the agent's --config "
	"stays\n"
	"\n"
	"TIME: 90s, 10m, 2h, at most 7d.\n"
	"\n"
	"  --shm PATH         the agent of this file, e.g. /dev/shm/blix1\n"
	"  --socket PATH      the agent behind this socket\n"
	"                     Default: the only agent that runs here\n"
	"  --json             print the agent's answer as it is\n"
	"  --version, --help\n"
	"\n"
	"The socket is NAME.sock, NAME being that of the file, in $RUNTIME_DIRECTORY, else\n"
	"/run/blixard, else $XDG_RUNTIME_DIR/blixard; only the agent's user and group may use it.\n"
	"\n"
	"Example:  blixctl sample 1.0 --name '*/CreateVm' --for 10m\n"
	"Exit status: 0 done, 1 the agent refused or is not there, 2 a wrong command line.\n";

struct arguments {
	const char *shm, *socket, *name, *time;
	const char *words[3];
	int n_words;
	bool json;
};

__attribute__((format(printf, 2, 3), noreturn)) static void fail(int status, const char *format,
								 ...)
{
	va_list args;

	fputs("blixctl: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(status);
}

/* Foreign text on a terminal: no escape sequences. */
static void put(FILE *out, const char *text)
{
	for (; *text; text++)
		fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, out);
}

/* ---- the command line ------------------------------------------------------------------------- */

static const char *value_of(int argc, char **argv, int *at)
{
	if (*at + 1 >= argc)
		fail(EXIT_USAGE, "%s needs a value (see blixctl --help)", argv[*at]);
	return argv[++*at];
}

static void read_arguments(int argc, char **argv, struct arguments *a)
{
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];

		if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
			fputs(help, stdout);
			exit(fflush(stdout) ? 1 : 0);
		} else if (!strcmp(word, "--version")) {
			puts("blixctl " BLIX_VERSION);
			exit(0);
		} else if (!strcmp(word, "--shm")) {
			a->shm = value_of(argc, argv, &i);
		} else if (!strcmp(word, "--socket")) {
			a->socket = value_of(argc, argv, &i);
		} else if (!strcmp(word, "--name")) {
			a->name = value_of(argc, argv, &i);
		} else if (!strcmp(word, "--for")) {
			a->time = value_of(argc, argv, &i);
		} else if (!strcmp(word, "--json")) {
			a->json = true;
		} else if (!strncmp(word, "--", 2)) {
			fail(EXIT_USAGE, "unknown flag %s (see blixctl --help)", word);
		} else if (a->n_words == 3) {
			fail(EXIT_USAGE, "unexpected argument '%s' (see blixctl --help)", word);
		} else {
			a->words[a->n_words++] = word;
		}
	}
	if (a->shm && a->socket)
		fail(EXIT_USAGE, "--shm and --socket both name an agent: give one of them");
	if (!a->n_words)
		fail(EXIT_USAGE, "what shall it do? sample, log-level, status or clear "
				 "(blixctl --help tells more)");
}

static json_int_t seconds_of(const char *text)
{
	static const char units[] = "smhd";
	static const long factors[] = {1, 60, 3600, 24 * 3600};
	const char *unit;
	char *rest;
	long n, factor = 1;

	if (!text)
		fail(EXIT_USAGE, "for how long? Every change ends by itself: add --for 10m");
	errno = 0;
	n = strtol(text, &rest, 10);
	unit = *rest ? strchr(units, *rest) : NULL;
	if (unit)
		factor = factors[unit - units];
	if (!isdigit((unsigned char)text[0]) || errno || n < 1 || n > FOR_MAX_S / factor ||
	    (*rest && (!unit || rest[1])))
		fail(EXIT_USAGE, "--for '%s' is no time like 90s, 10m, 2h, at most 7d", text);
	return n * factor;
}

static void expect_words(const struct arguments *a, int n, const char *usage)
{
	if (a->n_words != n)
		fail(EXIT_USAGE, "usage: blixctl %s", usage);
}

static json_t *request_sample(const struct arguments *a)
{
	json_t *request = json_object();
	char *rest;
	double ratio;

	expect_words(a, 2, "sample RATIO [--name PATTERN] --for TIME");
	ratio = strtod(a->words[1], &rest);
	if (*rest || rest == a->words[1] || !(ratio >= 0 && ratio <= 1))
		fail(EXIT_USAGE, "'%s' is no ratio: a number from 0 to 1", a->words[1]);
	json_object_set_new(request, "ratio", json_real(ratio));
	json_object_set_new(request, "for", json_integer(seconds_of(a->time)));
	if (a->name && json_object_set_new(request, "name", json_string(a->name)) < 0)
		fail(EXIT_USAGE, "--name is not UTF-8");
	return request;
}

static json_t *request_log_level(const struct arguments *a)
{
	json_t *request = json_object();

	expect_words(a, 2, "log-level LEVEL --for TIME");
	if (a->name)
		fail(EXIT_USAGE, "log-level takes no --name: it holds for every log");
	if (json_object_set_new(request, "level", json_string(a->words[1])) < 0)
		fail(EXIT_USAGE, "the level is not UTF-8");
	json_object_set_new(request, "for", json_integer(seconds_of(a->time)));
	return request;
}

static json_t *request_plain(const struct arguments *a)
{
	if (a->name || a->time || a->n_words != 1)
		fail(EXIT_USAGE, "%s takes no arguments", a->words[0]);
	return json_object();
}

static const struct {
	const char *name;
	json_t *(*request)(const struct arguments *a);
} commands[] = {
	{"sample", request_sample},
	{"log-level", request_log_level},
	{"status", request_plain},
	{"clear", request_plain},
};

static json_t *request_of(const struct arguments *a)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		json_t *request;

		if (strcmp(commands[i].name, a->words[0]) != 0)
			continue;
		request = commands[i].request(a);
		json_object_set_new(request, "version", json_integer(PROTOCOL));
		json_object_set_new(request, "command", json_string(commands[i].name));
		return request;
	}
	fail(EXIT_USAGE, "unknown command '%s': sample, log-level, status or clear", a->words[0]);
}

/* ---- the agent -------------------------------------------------------------------------------- */

/* Connected; or a negative errno. */
static int reach(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct timeval limit = {.tv_sec = TIMEOUT_S};
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

/* The i-th place where sockets may lie, i < 3; "" if there is no such. */
static const char *directories(size_t i, char path[PATH_BYTES])
{
	const char *runtime = getenv("RUNTIME_DIRECTORY"), *xdg = getenv("XDG_RUNTIME_DIR");
	bool named = runtime && runtime[0] == '/'; /* then no other place is meant */
	int n = 0;

	path[0] = '\0';
	if (named && i == 0)
		n = snprintf(path, PATH_BYTES, "%.*s", (int)strcspn(runtime, ":"), runtime);
	else if (named)
		return "";
	else if (i == 1)
		n = snprintf(path, PATH_BYTES, "/run/blixard");
	else if (i == 2 && xdg && xdg[0] == '/')
		n = snprintf(path, PATH_BYTES, "%s/blixard", xdg);
	return n > 0 && n < PATH_BYTES ? path : "";
}

/* What was found while looking for the only agent. */
struct found {
	int fd; /* of the first one; -1 = none */
	pid_t pid;
	char paths[1024]; /* of all, for the message when there are several */
	bool several;
	bool denied;
};

static void look_at(struct found *f, const char *path)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);
	size_t used = strlen(f->paths);
	int fd = reach(path);

	f->denied = f->denied || fd == -EACCES;
	if (fd < 0)
		return;
	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	if (f->fd >= 0 && peer.pid == f->pid) { /* one agent, several files */
		close(fd);
		return;
	}
	if (used + strlen(path) + 2 < sizeof(f->paths))
		sprintf(f->paths + used, "%s%s", used ? " " : "", path);
	if (f->fd >= 0) {
		f->several = true;
		close(fd);
		return;
	}
	f->fd = fd;
	f->pid = peer.pid;
}

static void look_in(struct found *f, const char *directory)
{
	char path[PATH_BYTES];
	DIR *dir = opendir(directory);

	if (!dir)
		return;
	for (const struct dirent *e; (e = readdir(dir));) {
		size_t len = strlen(e->d_name);
		int n = snprintf(path, sizeof(path), "%s/%s", directory, e->d_name);

		if (len > 5 && !strcmp(e->d_name + len - 5, ".sock") && n < (int)sizeof(path))
			look_at(f, path);
	}
	closedir(dir);
}

static int reach_only(void)
{
	struct found f = {.fd = -1};
	char directory[PATH_BYTES];

	for (size_t i = 0; i < 3; i++)
		if (directories(i, directory)[0])
			look_in(&f, directory);
	if (f.several)
		fail(1, "several agents run here: say which one with --socket PATH (%s)", f.paths);
	if (f.fd < 0 && f.denied)
		fail(1, "an agent runs here, but this user may not give it orders: run blixctl as "
			"the agent's user or group");
	if (f.fd < 0)
		fail(1, "no agent runs here. Start one: blixard-agent --shm /dev/shm/blix1");
	return f.fd;
}

static int reach_named(const struct arguments *a)
{
	char directory[PATH_BYTES], path[PATH_BYTES * 2] = "";
	const char *name = a->shm ? strrchr(a->shm, '/') : NULL;
	int fd = -ENOENT;

	name = name ? name + 1 : a->shm;
	for (size_t i = 0; i < 3 && fd == -ENOENT; i++) {
		if (a->socket)
			snprintf(path, sizeof(path), "%s", a->socket);
		else if (directories(i, directory)[0])
			snprintf(path, sizeof(path), "%s/%.100s.sock", directory, name);
		else
			continue;
		fd = reach(path);
	}
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		fail(1, "no agent listens on %s. Start one: blixard-agent --shm %s", path,
		     a->shm ? a->shm : "/dev/shm/blix1");
	if (fd == -EACCES)
		fail(1, "%s: permission denied: run blixctl as the agent's user or group", path);
	if (fd < 0)
		fail(1, "%s: %s", path, strerror(-fd));
	return fd;
}

static json_t *ask(int fd, json_t *request)
{
	char *line = json_dumps(request, JSON_COMPACT);
	static char answer[ANSWER_MAX];
	size_t len = 0, sent = 0, size = line ? strlen(line) : 0;
	json_t *json;
	ssize_t n = 1;

	if (!line)
		fail(1, "no memory");
	line[size++] = '\n'; /* in the place of the terminator */
	while (sent < size && n > 0) {
		n = send(fd, line + sent, size - sent, MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
	}
	while (len < sizeof(answer) && (n = read(fd, answer + len, sizeof(answer) - len)) > 0)
		len += (size_t)n;
	free(line);
	if (!len)
		fail(1, "the agent does not answer: %s",
		     n < 0 ? strerror(errno) : "it closed the connection (is this its user?)");
	json = json_loadb(answer, len, JSON_DISABLE_EOF_CHECK, NULL);
	if (!json_is_object(json))
		fail(1, "the agent's answer is no JSON object: is this its control socket?");
	return json;
}

/* ---- what to show ----------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static void show_setting(const json_t *setting)
{
	const json_t *left = json_object_get(setting, "seconds_left");
	const char *name = text_of(setting, "name");

	if (!strcmp(text_of(setting, "setting"), "log-level")) {
		printf("log-level ");
		put(stdout, text_of(setting, "level"));
	} else {
		printf("sample %g", json_number_value(json_object_get(setting, "ratio")));
		if (name[0]) {
			printf(" --name '");
			put(stdout, name);
			printf("'");
		}
	}
	if (left)
		printf("  ends in %" JSON_INTEGER_FORMAT " s", json_integer_value(left));
	else
		printf("  without end");
	printf("  (");
	put(stdout, text_of(setting, "source"));
	printf(")\n");
}

static void show(const json_t *answer)
{
	const json_t *settings = json_object_get(answer, "settings");
	const json_t *files = json_object_get(answer, "files");

	printf("agent %" JSON_INTEGER_FORMAT ", version ",
	       json_integer_value(json_object_get(answer, "agent_pid")));
	put(stdout, text_of(answer, "agent_version"));
	printf("\n");
	for (size_t i = 0; i < json_array_size(files); i++) {
		const json_t *file = json_array_get(files, i);

		printf("  ");
		put(stdout, text_of(file, "path"));
		printf(": node ");
		put(stdout, text_of(file, "node"));
		printf(", file ");
		put(stdout, text_of(file, "file"));
		printf("%s\n", json_is_true(json_object_get(file, "draining"))
				       ? ""
				       : " (takes no orders from this agent now)");
	}
	if (!json_array_size(settings))
		printf("nothing is set: the nodes' own settings hold\n");
	for (size_t i = 0; i < json_array_size(settings); i++)
		show_setting(json_array_get(settings, i));
}

int main(int argc, char **argv)
{
	struct arguments a = {0};
	json_t *request, *answer;
	bool ok;
	int fd;

	read_arguments(argc, argv, &a);
	request = request_of(&a);
	fd = a.shm || a.socket ? reach_named(&a) : reach_only();
	answer = ask(fd, request);
	close(fd);
	ok = json_is_true(json_object_get(answer, "ok"));
	if (a.json)
		printf("%s\n", json_dumps(answer, JSON_INDENT(2) | JSON_ENSURE_ASCII));
	else if (ok)
		show(answer);
	if (!ok) {
		fputs("blixctl: the agent refused: ", stderr);
		put(stderr, text_of(answer, "error"));
		fputc('\n', stderr);
	}
	json_decref(request);
	json_decref(answer);
	if (fflush(stdout) || ferror(stdout))
		return 1;
	return ok ? 0 : 1;
}
