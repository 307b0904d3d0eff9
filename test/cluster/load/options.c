/* options.c - parses and checks the command line. Targets are resolved here, once. Main thread. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	RATE_MAX = 100000,
	SECONDS_MAX = 7 * 24 * 3600,
	IN_FLIGHT_MAX = 100000,
	TIMEOUT_MAX_MS = 600000
};

static const char usage_text[] =
	"Usage: blixard-load --target HOST:PORT [--target HOST:PORT ...] [options]\n"
	"\n"
	"A seeded mix of what clients do, at a given rate, over gRPC. It does not wait for answers "
	"to\n"
	"send more; times run from the moment an operation was due. Ctrl-C ends it early and "
	"prints\n"
	"the account; a second one gives up what has no answer yet.\n"
	"\n"
	"  --target HOST:PORT  a node; repeat it, and each gets an equal share\n"
	"  --rate N            operations a second, together (default: 100)\n"
	"  --seconds S         how long (default: 10)\n"
	"  --seed N            the same seed does the same (default: 1)\n"
	"  --profile NAME      steady: evenly (default); burst: half a second in every two at "
	"five\n"
	"                      times the rate of the rest; soak: at random times, a line a "
	"minute\n"
	"  --connections N     to each target (default: 1)\n"
	"  --in-flight N       operations under way at a time; one that finds no place is not "
	"sent,\n"
	"                      and counted as that (default: 512)\n"
	"  --vms N             VMs to create, stop, start and delete, each at most once a second, "
	"and to\n"
	"                      delete at the end (default: 8)\n"
	"  --timeout-ms N      of one operation (default: 10000)\n"
	"  --traces PERCENT    of the operations begin a sampled trace (traceparent; default: 0)\n"
	"  --json              the account as one JSON object\n"
	"  --version, --help\n";

static const char *const profiles[PROFILES] = {"steady", "burst", "soak"};

const char *options_profile_name(enum profile profile)
{
	return profiles[profile];
}

static int wrong(const char *what, const char *value)
{
	fprintf(stderr, "blixard-load: %s%s%s (see --help)\n", what, value ? ": " : "",
		value ? value : "");
	return 2;
}

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
	char *end;

	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || value < min || value > max)
		return false;
	*ret_value = value;
	return true;
}

/* "localhost:7001" -> "127.0.0.1:7001", "[::1]:7001" -> "[::1]:7001". */
static bool resolve(const char *text, char ret_address[ADDRESS_MAX + 1])
{
	const char *colon = strrchr(text, ':');
	char host[ADDRESS_MAX + 1], numeric[64];
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	uint64_t port;

	if (!colon || strlen(text) > ADDRESS_MAX || !parse_number(colon + 1, 1, 65535, &port))
		return false;
	size_t len = (size_t)(colon - text);
	bool bracketed = len >= 2 && text[0] == '[' && text[len - 1] == ']';
	snprintf(host, sizeof(host), "%.*s", (int)(bracketed ? len - 2 : len), text + bracketed);
	if (!host[0] || (!bracketed && strchr(host, ':')))
		return false;
	hints.ai_family = bracketed ? AF_INET6 : AF_INET;
	if (getaddrinfo(host, colon + 1, &hints, &found))
		return false;
	int err = getnameinfo(found->ai_addr, found->ai_addrlen, numeric, sizeof(numeric), NULL, 0,
			      NI_NUMERICHOST);
	freeaddrinfo(found);
	snprintf(ret_address, ADDRESS_MAX + 1, bracketed ? "[%s]:%u" : "%s:%u", numeric,
		 (unsigned)port);
	return !err;
}

static int take_target(struct options *o, const char *value)
{
	if (o->n_targets == TARGETS_MAX)
		return wrong("too many targets; there may be 16", NULL);
	if (!resolve(value, o->targets[o->n_targets]))
		return wrong("--target takes the HOST:PORT of a node", value);
	o->n_targets++;
	return -1;
}

static int take_profile(struct options *o, const char *value)
{
	for (int i = 0; i < PROFILES; i++) {
		if (!strcmp(profiles[i], value)) {
			o->profile = (enum profile)i;
			return -1;
		}
	}
	return wrong("--profile takes steady, burst or soak", value);
}

static int take_number(struct options *o, int option, const char *value)
{
	const struct {
		int option;
		uint32_t min, max;
		uint32_t *number;
		const char *what;
	} table[] = {
		{'r', 1, RATE_MAX, &o->per_second, "--rate takes 1 to 100000 a second"},
		{'s', 1, SECONDS_MAX, &o->seconds, "--seconds takes 1 to 604800"},
		{'c', 1, CONNECTIONS_MAX, &o->connections, "--connections takes 1 to 64"},
		{'i', 1, IN_FLIGHT_MAX, &o->in_flight_max, "--in-flight takes 1 to 100000"},
		{'v', 0, LOAD_VMS_MAX, &o->vms, "--vms takes 0 to 64"},
		{'T', 0, 100, &o->traces_percent, "--traces takes 0 to 100 percent"},
		{'m', 1, TIMEOUT_MAX_MS, &o->timeout_ms, "--timeout-ms takes 1 to 600000"},
	};
	uint64_t number;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (table[i].option != option)
			continue;
		if (!parse_number(value, table[i].min, table[i].max, &number))
			return wrong(table[i].what, value);
		*table[i].number = (uint32_t)number;
		return -1;
	}
	return 2; /* getopt has said what */
}

static int take(struct options *o, int option, const char *value)
{
	switch (option) {
	case 't':
		return take_target(o, value);
	case 'p':
		return take_profile(o, value);
	case 'd':
		return parse_number(value, 0, UINT64_MAX, &o->seed)
			       ? -1
			       : wrong("--seed takes a number", value);
	case 'j':
		o->json = true;
		return -1;
	case 'h':
		fputs(usage_text, stdout);
		return 0;
	case 'V':
		puts("blixard-load " BLIX_VERSION);
		return 0;
	default:
		return take_number(o, option, value);
	}
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
	static const struct option table[] = {
		{"target", required_argument, NULL, 't'},
		{"rate", required_argument, NULL, 'r'},
		{"seconds", required_argument, NULL, 's'},
		{"seed", required_argument, NULL, 'd'},
		{"profile", required_argument, NULL, 'p'},
		{"connections", required_argument, NULL, 'c'},
		{"in-flight", required_argument, NULL, 'i'},
		{"timeout-ms", required_argument, NULL, 'm'},
		{"vms", required_argument, NULL, 'v'},
		{"traces", required_argument, NULL, 'T'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	struct options o = {.per_second = 100,
			    .seconds = 10,
			    .seed = 1,
			    .connections = 1,
			    .in_flight_max = 512,
			    .timeout_ms = 10000,
			    .vms = 8};
	int option;

	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		int code = take(&o, option, optarg);
		if (code >= 0)
			return code;
	}
	if (optind < argc)
		return wrong("unexpected word", argv[optind]);
	if (!o.n_targets)
		return wrong("--target is missing", NULL);
	*ret_options = o;
	return -1;
}
