/* log.c - the only file that writes to stderr once the node runs. A line is one write(2), so lines
 * of several threads and nodes on one terminal do not mix. Any thread. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static uint64_t log_node_id;
static enum log_level log_limit = LOG_INFO;

void log_init(uint64_t node_id, enum log_level level)
{
	log_node_id = node_id;
	log_limit = level;
}

void log_line(enum log_level level, const char *format, ...)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	char line[1024];
	va_list args;

	if (level > log_limit)
		return;
	int head =
		snprintf(line, sizeof(line),
			 "blixard-node %llu: %s: ", (unsigned long long)log_node_id, names[level]);
	va_start(args, format);
	int body = vsnprintf(line + head, sizeof(line) - (size_t)head - 1, format, args);
	va_end(args);
	if (body < 0)
		return;

	size_t len = (size_t)head + (size_t)body;
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len++] = '\n';
	/* A message that stderr does not take is lost: the node must not wait for its terminal. */
	if (write(STDERR_FILENO, line, len) < 0)
		return;
}
