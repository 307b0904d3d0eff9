/* options.c - parses and checks the command line. Names are resolved here, once: afterwards the
 * node knows numeric addresses only and never waits for a resolver. Main thread. */
#include "options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	LOAD_MAX_PER_SECOND = 100000,
	SNAPSHOT_EVERY_MIN = 16,
	SNAPSHOT_EVERY_MAX = 1000000,
	VMS_LOAD_MAX = 64,
	IMAGE_CACHE_MAX_MIB = 64 << 10,
};

static const uint64_t mib = 1 << 20;

static const char usage_text[] =
	"Usage: blixard-node [node] --id N --bind HOST:PORT [--join HOST:PORT] --shm PATH --data "
	"DIR\n"
	"\n"
	"The reference Blixard node: Raft consensus over gRPC with a log on disk, instrumented "
	"with\n"
	"libblixard-hooks.\n"
	"\n"
	"  --id N              node id, 1 or more, unique in the cluster\n"
	"  --bind HOST:PORT    address of its gRPC server, which peers dial\n"
	"  --listen HOST:PORT  where that server listens, when peers reach it at --bind by way of "
	"a\n"
	"                      relay (default: at --bind)\n"
	"  --join HOST:PORT    a member of the cluster to join; without it, and with an empty "
	"data\n"
	"                      directory, the node starts a cluster of its own\n"
	"  --shm PATH          telemetry file, such as /dev/shm/blix1\n"
	"  --data DIR          directory of the log, made if it is missing\n"
	"  --cluster NAME      name of the cluster (default: default)\n"
	"  --load RATE         proposals a second that this node generates (default: 0)\n"
	"  --vms N             VMs that this load creates, starts, stops and deletes (default: 8)\n"
	"  --capacity C:M:D    what this node has to give to VMs: vCPUs, MiB of memory, MiB of "
	"disk\n"
	"                      (default: 12:4096:16384)\n"
	"  --image-cache BYTES chunks of images to keep, 1 MiB to 64 GiB (default: 64 MiB)\n"
	"  --failover MS       VMs of a node that is not heard of for that long get another one\n"
	"                      (default: 15000)\n"
	"  --snapshot-every N  applied entries between two snapshots (default: 4096)\n"
	"  --log-level LEVEL   error, warn, info or debug (default: info)\n"
	"  --inspect           print what the data directory holds, and exit\n"
	"  --version, --help\n";

static enum options_verdict wrong(const char *what, const char *value)
{
	fprintf(stderr, "blixard-node: %s%s%s (see --help)\n", what, value ? ": " : "",
		value ? value : "");
	return OPTIONS_WRONG;
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

static bool is_wildcard(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return ((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr ==
		       htonl(INADDR_ANY);
	return IN6_IS_ADDR_UNSPECIFIED(
		&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

/* IPv4 where there is a choice, so that "localhost" is what most people mean by it. */
static struct addrinfo *look_up(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET};
	struct addrinfo *found;

	if (!getaddrinfo(host, port, &hints, &found))
		return found;
	hints.ai_family = AF_INET6;
	return getaddrinfo(host, port, &hints, &found) ? NULL : found;
}

/* "localhost:7001" -> "127.0.0.1:7001", "[::1]:7001" -> "[::1]:7001". */
static bool resolve(const char *text, char ret_address[ADDRESS_MAX + 1])
{
	char host[ADDRESS_MAX + 1];
	char numeric[INET6_ADDRSTRLEN + 32];
	const char *colon = strrchr(text, ':');
	uint64_t port;

	if (!colon || strlen(text) > ADDRESS_MAX || !parse_number(colon + 1, 1, 65535, &port))
		return false;
	size_t len = (size_t)(colon - text);
	bool bracketed = len >= 2 && text[0] == '[' && text[len - 1] == ']';
	snprintf(host, sizeof(host), "%.*s", (int)(bracketed ? len - 2 : len), text + bracketed);
	if (!host[0] || (!bracketed && strchr(host, ':')))
		return false;

	struct addrinfo *found = look_up(host, colon + 1);
	if (!found)
		return false;
	bool ok = !is_wildcard(found->ai_addr) &&
		  !getnameinfo(found->ai_addr, found->ai_addrlen, numeric, sizeof(numeric), NULL, 0,
			       NI_NUMERICHOST);
	bool is_v6 = found->ai_family == AF_INET6;
	freeaddrinfo(found);
	if (!ok)
		return false;
	snprintf(ret_address, ADDRESS_MAX + 1, is_v6 ? "[%.100s]:%u" : "%.100s:%u", numeric,
		 (unsigned)port);
	return true;
}

static bool parse_level(const char *text, enum log_level *ret_level)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};

	for (int i = 0; i < 4; i++) {
		if (!strcmp(text, names[i])) {
			*ret_level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

static enum options_verdict check(struct options *o)
{
	if (!o->data)
		return wrong("--data is missing", NULL);
	if (o->inspect)
		return OPTIONS_RUN;
	if (!o->id)
		return wrong("--id is missing", NULL);
	if (!o->bind)
		return wrong("--bind is missing", NULL);
	if (!o->shm)
		return wrong("--shm is missing", NULL);
	if (strlen(o->cluster) > CLUSTER_NAME_MAX || !o->cluster[0])
		return wrong("--cluster takes a name of 1 to 63 bytes", o->cluster);
	if (!resolve(o->bind, o->address))
		return wrong("--bind takes the HOST:PORT that peers dial, not a wildcard", o->bind);
	if (!resolve(o->listen ? o->listen : o->bind, o->listen_address))
		return wrong("--listen takes a HOST:PORT, not a wildcard", o->listen);
	if (o->join && !resolve(o->join, o->join_address))
		return wrong("--join takes the HOST:PORT of a member", o->join);
	if (o->join && !strcmp(o->join_address, o->address))
		return wrong("--join names this node itself", o->join);
	return OPTIONS_RUN;
}

static bool parse_capacity(const char *text, struct vm_resources *ret_capacity)
{
	char words[64], *at = words;
	uint64_t numbers[3];

	if (strlen(text) >= sizeof(words))
		return false;
	strcpy(words, text);
	for (int i = 0; i < 3; i++) {
		const char *word = strsep(&at, ":");
		uint64_t most = i ? VM_BYTES_MAX / mib : VM_VCPUS_MAX;
		if (!word || !parse_number(word, 0, most, &numbers[i]))
			return false;
	}
	*ret_capacity = (struct vm_resources){.vcpus = (uint32_t)numbers[0],
					      .memory_bytes = numbers[1] * mib,
					      .disk_bytes = numbers[2] * mib};
	return !at;
}

/* Checked when all are there. */
static enum options_verdict take_text(struct options *o, int option, const char *value)
{
	const struct {
		int option;
		const char **text;
	} table[] = {{'b', &o->bind}, {'L', &o->listen}, {'j', &o->join},
		     {'s', &o->shm},  {'d', &o->data},	 {'c', &o->cluster}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (table[i].option == option) {
			*table[i].text = value;
			return OPTIONS_RUN;
		}
	}
	return OPTIONS_WRONG; /* getopt has said what */
}

static enum options_verdict take(struct options *o, int option, const char *value)
{
	uint64_t number;

	switch (option) {
	case 'i':
		if (!parse_number(value, 1, INT64_MAX, &o->id))
			return wrong("--id takes a number from 1", value);
		return OPTIONS_RUN;
	case 'r':
		if (!parse_number(value, 0, LOAD_MAX_PER_SECOND, &number))
			return wrong("--load takes 0 to 100000 proposals a second", value);
		o->load_per_second = (uint32_t)number;
		return OPTIONS_RUN;
	case 'v':
		if (!parse_number(value, 0, VMS_LOAD_MAX, &number))
			return wrong("--vms takes 0 to 64", value);
		o->load_vms = (uint32_t)number;
		return OPTIONS_RUN;
	case 'C':
		if (!parse_capacity(value, &o->capacity))
			return wrong("--capacity takes VCPUS:MEMORY:DISK, the last two in MiB",
				     value);
		return OPTIONS_RUN;
	case 'G':
		if (!parse_number(value, mib, IMAGE_CACHE_MAX_MIB * mib, &o->image_cache_bytes))
			return wrong("--image-cache takes 1048576 to 68719476736 bytes", value);
		return OPTIONS_RUN;
	case 'e':
		if (!parse_number(value, SNAPSHOT_EVERY_MIN, SNAPSHOT_EVERY_MAX, &number))
			return wrong("--snapshot-every takes 16 to 1000000 entries", value);
		o->snapshot_every = (uint32_t)number;
		return OPTIONS_RUN;
	case 'F':
		if (!parse_number(value, FAILOVER_MIN_MS, FAILOVER_MAX_MS, &number))
			return wrong("--failover takes 1000 to 3600000 ms", value);
		o->failover_ms = (uint32_t)number;
		return OPTIONS_RUN;
	case 'l':
		if (!parse_level(value, &o->log_level))
			return wrong("--log-level takes error, warn, info or debug", value);
		return OPTIONS_RUN;
	case 'I':
		o->inspect = true;
		return OPTIONS_RUN;
	case 'h':
		fputs(usage_text, stdout);
		return OPTIONS_DONE;
	case 'V':
		puts("blixard-node " BLIX_VERSION);
		return OPTIONS_DONE;
	default:
		return take_text(o, option, value);
	}
}

enum options_verdict options_parse(int argc, char **argv, struct options *ret_options)
{
	static const struct option table[] = {
		{"id", required_argument, NULL, 'i'},
		{"bind", required_argument, NULL, 'b'},
		{"listen", required_argument, NULL, 'L'},
		{"join", required_argument, NULL, 'j'},
		{"shm", required_argument, NULL, 's'},
		{"data", required_argument, NULL, 'd'},
		{"cluster", required_argument, NULL, 'c'},
		{"load", required_argument, NULL, 'r'},
		{"vms", required_argument, NULL, 'v'},
		{"capacity", required_argument, NULL, 'C'},
		{"image-cache", required_argument, NULL, 'G'},
		{"log-level", required_argument, NULL, 'l'},
		{"failover", required_argument, NULL, 'F'},
		{"inspect", no_argument, NULL, 'I'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{"snapshot-every", required_argument, NULL, 'e'},
		{NULL, 0, NULL, 0},
	};
	struct options o = {
		.cluster = "default",
		.snapshot_every = 4096,
		.failover_ms = 15000,
		.log_level = LOG_INFO,
		.load_vms = 8,
		.image_cache_bytes = 64 * mib,
		.capacity = {.vcpus = 12, .memory_bytes = 4096 * mib, .disk_bytes = 16384 * mib},
	};
	int option;

	/* The guide's own form has the word "node" before the flags. */
	if (argc > 1 && !strcmp(argv[1], "node")) {
		argv[1] = argv[0];
		argc--;
		argv++;
	}
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		enum options_verdict verdict = take(&o, option, optarg);
		if (verdict != OPTIONS_RUN)
			return verdict;
	}
	if (optind < argc)
		return wrong("unexpected word", argv[optind]);

	enum options_verdict verdict = check(&o);
	if (verdict == OPTIONS_RUN)
		*ret_options = o;
	return verdict;
}
