/* agent/control_command.h - what the lines of the control socket mean.
 *
 * A request is one JSON object: {"version": 1, "command": "sample", "ratio": 1, "name": "Create*",
 * "for": 600}. Commands: sample (ratio, for; name), log-level (level, for), clear, status. An answer
 * has "version", "ok", and "error" where it is not; the answer to all of them is the status.
 *
 * Pure: time is an argument. Thread rule: the loop thread. Includes: run_control.h, buf.h, jansson. */
#ifndef BLIX_AGENT_CONTROL_COMMAND_H
#define BLIX_AGENT_CONTROL_COMMAND_H

#include "agent/buf.h"
#include "agent/run_control.h"

#include <stddef.h>

enum { CONTROL_PROTOCOL = 1, CONTROL_SAID_MAX = 256 };

struct json_t;

/* Carry out one line. *ret_changed: the settings are others now, and `said` tells which, for the
 * log. Returns the answer, to which the caller may add; NULL: no memory. */
struct json_t *control_command(struct run_control *c, const char *line, size_t len, uint64_t now_ns,
			       bool *ret_changed, char said[CONTROL_SAID_MAX]);

/* The settings in force, in the order in which they are tried. */
struct json_t *control_settings_json(const struct run_control *c, uint64_t now_ns);

#endif
