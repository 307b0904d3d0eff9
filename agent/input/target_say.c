/* agent/input/target_say.c - states into words. See target_private.h. */
#include "agent/input/target_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = PATH_MAX + TARGET_REASON_BYTES + 256 };

const char *target_node_name(enum target_node node)
{
	static const char *const names[TARGET_NODES] = {
		[TARGET_NODE_WAITING] = "waiting", [TARGET_NODE_LIVE] = "live",
		[TARGET_NODE_HUNG] = "hung",	   [TARGET_NODE_DEAD] = "dead",
		[TARGET_NODE_CLOSED] = "closed",
	};

	return names[node];
}

const char *target_file_name(enum target_file file)
{
	static const char *const names[TARGET_FILES] = {
		[TARGET_FILE_WAITING] = "waiting",
		[TARGET_FILE_ATTACHED] = "attached",
		[TARGET_FILE_STANDBY] = "standby",
		[TARGET_FILE_LINGERING] = "lingering",
		[TARGET_FILE_DETACHED] = "detached",
		[TARGET_FILE_REFUSED] = "refused",
		[TARGET_FILE_INCOMPATIBLE] = "incompatible",
		[TARGET_FILE_QUARANTINED] = "quarantined",
	};

	return names[file];
}

void target_say(struct target *t, enum target_log kind, const char *key, const char *format, ...)
{
	char line[LINE_BYTES];
	va_list args;
	int n;

	if (!t->events.log)
		return;
	n = snprintf(line, sizeof(line), "%s: ", t->path);
	va_start(args, format);
	vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
	va_end(args);
	t->events.log(t->events.arg, t, kind, key, line);
}

/* One line that tells where node and file are now. */
static void tell(struct target *t)
{
	char node[128] = "node: ";

	if (t->known)
		snprintf(node, sizeof(node),
			 "node %llu of cluster %s: ", (unsigned long long)t->id.node_id,
			 t->id.cluster);
	target_say(t, TARGET_LOG_STATE, "node_state", "%s%s, file %s%s%s", node,
		   target_node_name(t->node), target_file_name(t->file), t->reason[0] ? ": " : "",
		   t->reason);
}

void target_set_state(struct target *t, enum target_node node, enum target_file file,
		      const char *format, ...)
{
	char reason[TARGET_REASON_BYTES];
	bool moved = node != t->node || file != t->file || t->since_unix_ns == 0;
	bool reworded;
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	reworded = strcmp(reason, t->reason) != 0;
	if (!moved && !reworded)
		return;
	t->node = node;
	t->file = file;
	strcpy(t->reason, reason);
	if (moved) {
		t->since_unix_ns = target_unix_ns();
		tell(t);
	} else if (reason[0]) {
		target_say(t, TARGET_LOG_REPEAT, "file_reason", "file %s: %s",
			   target_file_name(file), reason);
	}
	if (t->events.state_changed)
		t->events.state_changed(t->events.arg, t);
}
