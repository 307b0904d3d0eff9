/* agent/check.c - --check: would agent_run work? Looks at each file through the same input that
 * serves it, and at each address by listening there for a moment. Changes nothing. */
#include "agent/agent.h"
#include "agent/check_private.h"
#include "agent/input/storage.h"
#include "agent/input/target.h"
#include "agent/serve/listen.h"
#include "agent/serve/port_holder.h"
#include "agent/state.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct check {
	const struct options *options;
	struct event_base *base;
	struct state state;
	struct check_report report;
};

void check_say(struct check_report *report, enum finding finding, const char *what,
	       const char *format, ...)
{
	static const char *const words[] = {"ok", "note", "BAD"};
	char text[LISTEN_PROBLEM_MAX + OPTIONS_PATH_MAX], clean[LOG_LINE_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_escape(clean, sizeof(clean), text, strlen(text), false);
	printf("%-5s%-10s%s\n", words[finding], what, clean);
	report->bad += finding == BAD;
}

/* ---- addresses ------------------------------------------------------------------------------- */

static void check_bind(struct check *c, const struct address *a,
		       const struct listen_addresses *addresses)
{
	char text[ADDRESS_TEXT_MAX], holder[PORT_HOLDER_NAME_MAX + 32] = "";
	char name[PORT_HOLDER_NAME_MAX], problem[LISTEN_PROBLEM_MAX];
	int fd = -EADDRNOTAVAIL;
	pid_t pid;

	address_print(a, text);
	for (uint32_t i = 0; i < addresses->n && fd == -EADDRNOTAVAIL; i++)
		fd = listen_bind((const struct sockaddr *)&addresses->at[i], addresses->len[i]);
	if (fd >= 0) {
		close(fd);
		check_say(&c->report, FINE, "address", "%s is free", text);
		return;
	}
	if (fd == -EADDRINUSE && port_holder_find(a->port, &pid, name) == 0) {
		if (!strcmp(name, "blixard-agent")) {
			check_say(&c->report, NOTE, "address",
				  "%s is served by a running agent, pid %ld", text, (long)pid);
			return;
		}
		snprintf(holder, sizeof(holder), "pid %ld (%s)", (long)pid, name);
	}
	listen_explain(a, fd, holder, problem);
	check_say(&c->report, BAD, "address", "%s", problem);
}

static void check_address(struct check *c, const struct options_target *t, const char *grpc)
{
	char reason[ADDRESS_REASON_MAX];
	struct listen_addresses addresses;
	struct address a;
	int err;

	if (t->listens) {
		a = t->listen;
	} else if (grpc[0]) {
		if (address_beside(grpc, &a, reason) < 0) {
			check_say(&c->report, BAD, "address", "%s", reason);
			return;
		}
	} else if (state_listen_read(&c->state, t->shm, &a) < 0) {
		check_say(&c->report, NOTE, "address",
			  "not known before the node has started (--listen ADDR:PORT says it now)");
		return;
	}
	err = listen_resolve(&a, false, &addresses);
	if (err)
		check_say(&c->report, BAD, "address", "the name '%s' does not resolve: %s", a.host,
			  gai_strerror(err));
	else
		check_bind(c, &a, &addresses);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void on_changed(void *arg, struct target *t)
{
	struct check *c = arg;

	(void)t;
	event_base_loopbreak(c->base);
}

static void report_file(struct check *c, const struct target_status *s)
{
	switch (s->file) {
	case TARGET_FILE_WAITING:
		check_say(&c->report, FINE, "file",
			  "%s is not there yet: the agent would wait for it", s->shm_path);
		return;
	case TARGET_FILE_ATTACHED:
	case TARGET_FILE_STANDBY:
	case TARGET_FILE_LINGERING:
	case TARGET_FILE_DETACHED:
		check_say(&c->report, FINE, "file",
			  "%s: node %" PRIu64 "%s%s, %s, %" PRIu32 " metrics, %" PRIu32 " series",
			  s->shm_path, s->node_id, s->cluster[0] ? " of cluster " : "", s->cluster,
			  target_node_name(s->node), s->metrics, s->series);
		if (s->reason[0])
			check_say(&c->report, NOTE, "", "%s", s->reason);
		return;
	default:
		check_say(&c->report, BAD, "file", "%s: %s", s->shm_path,
			  s->reason[0] ? s->reason : target_file_name(s->file));
	}
}

static int check_target(struct check *c, const struct options_target *t)
{
	const struct target_options options = {
		.shm_path = t->shm,
		.check_owner = true,
		.owner = c->options->owner,
		.stale_after_s = c->options->stale_after_s,
		.linger_s = c->options->linger_s,
		.watch_only = true,
	};
	const struct target_events events = {.state_changed = on_changed, .arg = c};
	const struct timeval limit = {.tv_sec = AGENT_CHECK_S};
	char grpc[ADDRESS_TEXT_MAX] = "";
	struct target_status s;
	struct target *target;
	int err = target_new(c->base, &options, &events, &target);

	if (err) {
		check_say(&c->report, BAD, "file", "%s cannot be followed: %s", t->shm,
			  strerror(-err));
		return err;
	}
	event_base_loopexit(c->base, &limit);
	event_base_dispatch(c->base);
	target_status(target, &s);
	report_file(c, &s);
	if (s.known)
		snprintf(grpc, sizeof(grpc), "%s", s.grpc_address);
	check_address(c, t, grpc);
	target_free(target);
	return 0;
}

/* ---- the state directory --------------------------------------------------------------------- */

static void check_state(struct check *c)
{
	char error[OPTIONS_ERROR_MAX], path[OPTIONS_PATH_MAX], *slash;

	if (options_state_directory(c->options, getenv("STATE_DIRECTORY"), getenv("XDG_STATE_HOME"),
				    getenv("HOME"), geteuid() == 0, path, error) < 0) {
		check_say(&c->report, BAD, "state", "%s", error);
		return;
	}
	if (access(path, W_OK | X_OK) == 0) {
		check_say(&c->report, FINE, "state", "%s", path);
		return;
	}
	snprintf(error, sizeof(error), "%s", path);
	/* Not there: whoever can write to the nearest directory that is can make it. */
	while (errno == ENOENT && (slash = strrchr(path, '/'))) {
		*slash = '\0';
		errno = 0;
		if (access(path[0] ? path : "/", W_OK | X_OK) == 0) {
			check_say(&c->report, FINE, "state", "%s would be made", error);
			return;
		}
	}
	check_say(&c->report, BAD, "state",
		  "%s cannot be written: set STATE_DIRECTORY to a directory this user owns", error);
}

static void check_spool(struct check *c)
{
	const char *path = c->options->spool;
	int dir;

	if (!path[0])
		return;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0 && faccessat(dir, ".", W_OK | X_OK, AT_EACCESS) == 0)
		check_say(&c->report, FINE, "spool", "%s", path);
	else
		check_say(&c->report, BAD, "spool", "%s cannot be used: %s", path, strerror(errno));
	if (dir >= 0)
		close(dir);
}

/* The probes are loaded, attached and let go again: whether they would work cannot be told from
 * anything less. Without them the agent works all the same. */
static void check_probes(struct check *c)
{
	const struct storage_options options = {.off = c->options->no_bpf, .quiet = true};
	struct storage *storage = storage_new(&options);

	for (int kind = 0; storage && kind < PROBE_KINDS; kind++) {
		const struct storage_probe_status s =
			storage_status(storage, (enum probe_kind)kind);

		check_say(&c->report, s.up ? FINE : NOTE, "probe", "%s: %s%s",
			  probe_kind_name((enum probe_kind)kind),
			  s.up ? "attaches to hook " : "off: ", s.up ? s.hook : s.reason);
	}
	storage_free(storage);
}

int agent_check(const struct options *all)
{
	struct check c = {.options = all, .base = event_base_new()};

	if (!c.base)
		return EXIT_FAILURE;
	state_look(&c.state, all);
	if (all->config[0])
		check_say(&c.report, FINE, "config", "%s", all->config);
	for (uint32_t i = 0; i < all->n_targets; i++)
		check_target(&c, &all->targets[i]);
	check_state(&c);
	check_spool(&c);
	check_exports(&c.report);
	check_probes(&c);
	state_close(&c.state);
	event_base_free(c.base);
	printf("%s\n",
	       c.report.bad ? "The agent would not work as asked." : "The agent would work.");
	return c.report.bad || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
