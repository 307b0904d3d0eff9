/* log.h - the node's messages on stderr, one line each. Any thread. */
#ifndef CLUSTER_LOG_H
#define CLUSTER_LOG_H

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Set once, before threads start. */
void log_init(uint64_t node_id, enum log_level level);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
