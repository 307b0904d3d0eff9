/* agent/serve/status.h - /status.json as a value, for the page that embeds it. */
#ifndef BLIX_AGENT_SERVE_STATUS_H
#define BLIX_AGENT_SERVE_STATUS_H

#include "agent/serve/figures.h"
#include "agent/serve/serve.h"

/* A new reference; NULL: no memory. */
struct json_t *status_json(const struct serve_status *s, const struct figure figures[FIGURES]);

/* The probes by name: {"up": bool, "hook": text, "reason": text}. */
struct json_t *status_probes_json(const struct serve_status *s);

#endif
