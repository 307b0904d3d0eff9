/* agent/agent.h - the running program: one event loop, its targets and their servers.
 *
 * The only room that knows both sides, inputs and outputs. Includes: options.h. */
#ifndef BLIX_AGENT_AGENT_H
#define BLIX_AGENT_AGENT_H

#include "agent/options.h"

/* Serve until SIGTERM or SIGINT. `flags` are the options of the command line alone, `all` those
 * with the configuration file, which SIGHUP reads again. Returns the exit status. */
int agent_run(const struct options *flags, const struct options *all);

/* Look at everything that agent_run would need, print what was found, change nothing. Returns the
 * exit status: 0 it would work, 1 it would not. */
int agent_check(const struct options *all);

/* Send an empty request to every destination of the environment and print the answers. Returns the
 * exit status: 0 there is one and each took it, 1 not. */
int agent_check_export(void);

/* What this build has and lacks, one line. */
const char *agent_features(void);

#endif
