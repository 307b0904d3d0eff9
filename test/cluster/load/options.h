/* options.h - the command line of blixard-load. Main thread. */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include "pace.h"
#include "test/cluster/limits.h"
#include "workload.h"

enum { CONNECTIONS_MAX = 64 };

struct options {
	char targets[TARGETS_MAX][ADDRESS_MAX + 1]; /* numeric */
	unsigned n_targets;
	enum profile profile;
	uint32_t per_second;
	uint32_t seconds;
	uint32_t connections; /* to each target */
	uint32_t in_flight_max;
	uint32_t timeout_ms;
	uint32_t vms;
	uint32_t traces_percent;
	uint64_t seed;
	bool json;
};

/* -1: run; otherwise what the program ends with. */
int options_parse(int argc, char **argv, struct options *ret_options);

const char *options_profile_name(enum profile profile);

#endif
