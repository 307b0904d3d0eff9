/* test/support/bin/storage_probe.c - the probes alone, for tests: loads, reads, prints as JSON.
 *
 * storage_probe [--block] [--sync] [--skip HOOK] [--hash] [--no-io-start] [--slow-ns N]
 *               [--device MAJ:MIN] [--btf FILE] [--stats] [--drop UID]
 *
 * Prints a line when ready, then obeys lines of stdin: `add PID SLOT`, `remove PID`, `cgroup ID LEVEL
 * SLOT`, `read` (one line of JSON), `drain` (one line an event), `reload` (close and open again).
 * Ends at the end of stdin. Exit 1: a probe did not open; the reason is in the first line. */
#include "bpf/probe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const ops[STORAGE_OPS] = {"read",	   "write",   "flush",
					     "flush_wait", "discard", "other"};
static struct probe *probes[PROBE_KINDS];
static bool wanted[PROBE_KINDS];
static struct probe_options options = {.slow_ns = UINT64_MAX};
static uint32_t devices[16], n_devices;

static void note(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "%s\n", line);
}

static int open_all(void)
{
	char reason[PROBE_REASON_MAX] = "";

	for (int i = 0; i < PROBE_KINDS; i++) {
		int err = wanted[i] ? probe_open((enum probe_kind)i, &options, note, NULL,
						 &probes[i], reason)
				    : 0;

		if (err) {
			printf("{\"error\":%d,\"reason\":\"", err);
			for (const char *c = reason; *c; c++)
				putchar(*c == '"' || *c == '\\' || *c < ' ' ? '\'' : *c);
			puts("\"}");
			return err;
		}
	}
	for (uint32_t i = 0; i < n_devices && probes[PROBE_BLOCK]; i++)
		probe_add_device(probes[PROBE_BLOCK], devices[i], true);
	if (!n_devices && probes[PROBE_BLOCK])
		probe_show_others(probes[PROBE_BLOCK]);
	return 0;
}

static void cells_json(const uint64_t *cells, uint64_t sum_ns)
{
	uint64_t n = 0;
	uint32_t last = 0;

	for (uint32_t i = 0; i < BLIX_BPF_CELLS; i++) {
		n += cells[i];
		last = cells[i] ? i : last;
	}
	printf("\"n\":%" PRIu64 ",\"sum_ns\":%" PRIu64 ",\"top_otlp\":%d,\"cells\":[", n, sum_ns,
	       blix_bpf_otlp_index(last));
	for (uint32_t i = 0; i <= last; i++)
		printf("%s%" PRIu64, i ? "," : "", cells[i]);
	printf("]");
}

static void block_json(void *arg, const struct storage_block_key *key,
		       const struct storage_block_cells *c)
{
	bool *first = arg;

	printf("%s{\"dev\":\"%u:%u\",\"op\":\"%s\",\"owner\":%u,\"bytes\":%" PRIu64
	       ",\"errors\":%" PRIu64 ",\"queue_ns\":%" PRIu64 ",\"queued\":%" PRIu64 ",",
	       *first ? "" : ",", key->dev >> 20, key->dev & 0xfffff, ops[key->op], key->owner,
	       c->bytes, c->errors, c->queue_ns, c->queued);
	cells_json(c->cells, c->sum_ns);
	printf("}");
	*first = false;
}

static void common_json(struct probe *p)
{
	uint64_t counts[STORAGE_COUNTS] = {0};
	struct probe_cost cost = {0};

	probe_read_counts(p, counts);
	probe_cost(p, &cost);
	printf("\"hook\":\"%s\",\"map_full\":%" PRIu64 ",\"unmatched\":%" PRIu64
	       ",\"slow\":%" PRIu64 ",\"slow_lost\":%" PRIu64 ",\"runs\":%" PRIu64
	       ",\"run_ns\":%" PRIu64,
	       probe_hook_name(probe_hook_used(p)), counts[STORAGE_COUNT_MAP_FULL],
	       counts[STORAGE_COUNT_UNMATCHED], counts[STORAGE_COUNT_SLOW],
	       counts[STORAGE_COUNT_SLOW_LOST], cost.runs, cost.run_ns);
}

static void read_json(void)
{
	struct timespec a, b;
	bool first = true;

	clock_gettime(CLOCK_MONOTONIC, &a);
	printf("{\"error\":0");
	if (probes[PROBE_BLOCK]) {
		printf(",\"block\":{");
		common_json(probes[PROBE_BLOCK]);
		printf(",\"series\":[");
		probe_read_block(probes[PROBE_BLOCK], block_json, &first);
		printf("]}");
	}
	if (probes[PROBE_SYNC]) {
		printf(",\"sync\":{");
		common_json(probes[PROBE_SYNC]);
		printf(",\"series\":[");
		for (uint32_t i = 0; i < 2 * STORAGE_CALLS; i++) {
			struct storage_sync_cells c;

			if (probe_read_sync(probes[PROBE_SYNC], i / STORAGE_CALLS,
					    (enum storage_call)(i % STORAGE_CALLS), &c) < 0)
				memset(&c, 0, sizeof(c));
			printf("%s{\"slot\":%u,\"call\":%u,\"errors\":%" PRIu64 ",", i ? "," : "",
			       i / STORAGE_CALLS, i % STORAGE_CALLS, c.errors);
			cells_json(c.cells, c.sum_ns);
			printf("}");
		}
		printf("]}");
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf(",\"read_us\":%ld}\n",
	       (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000);
}

static void event_json(void *arg, const struct storage_event *e)
{
	(void)arg;
	printf("{\"layer\":%u,\"what\":%u,\"owner\":%u,\"tid\":%u,\"tgid\":%u,\"dev\":\"%u:%u\","
	       "\"start_ns\":%" PRIu64 ",\"end_ns\":%" PRIu64 ",\"result\":%d,\"valid\":%u,"
	       "\"trace_id\":\"",
	       e->layer, e->what, e->owner, e->tid, e->tgid, e->dev >> 20, e->dev & 0xfffff,
	       e->start_ns, e->end_ns, e->result, e->valid);
	for (int i = 0; i < 16; i++)
		printf("%02x", e->trace_id[i]);
	printf("\"}\n");
}

static void obey(const char *line)
{
	struct storage_proc proc = {0};
	uint32_t pid, slot, level;
	uint64_t id;

	if (sscanf(line, "add %u %u", &pid, &slot) == 2) {
		proc.slot = slot;
		for (int i = 0; i < PROBE_KINDS; i++)
			if (probes[i])
				probe_add_process(probes[i], pid, &proc);
		puts("{}");
	} else if (sscanf(line, "remove %u", &pid) == 1) {
		for (int i = 0; i < PROBE_KINDS; i++)
			if (probes[i])
				probe_remove_process(probes[i], pid);
		puts("{}");
	} else if (sscanf(line, "cgroup %" SCNu64 " %u %u", &id, &level, &slot) == 3) {
		printf("{\"error\":%d}\n", probe_add_cgroup(probes[PROBE_BLOCK], id, level, slot));
	} else if (!strncmp(line, "drain", 5)) {
		for (int i = 0; i < PROBE_KINDS; i++)
			if (probes[i])
				probe_drain(probes[i], event_json, NULL);
		puts("{}");
	} else if (!strncmp(line, "reload", 6)) {
		for (int i = 0; i < PROBE_KINDS; i++)
			probes[i] = probe_close(probes[i]);
		if (open_all() == 0)
			puts("{\"error\":0}");
	} else {
		read_json();
	}
	fflush(stdout);
}

static void set_option(const char *flag, const char *value)
{
	uint32_t major, minor;

	if (!strcmp(flag, "--slow-ns"))
		options.slow_ns = strtoull(value, NULL, 10);
	else if (!strcmp(flag, "--btf"))
		options.btf_path = value;
	else if (!strcmp(flag, "--skip"))
		for (int i = 0; i < PROBE_HOOKS; i++)
			options.hooks_skipped |=
				strcmp(value, probe_hook_name((enum probe_hook)i)) ? 0 : 1u << i;
	if (!strcmp(flag, "--device") && sscanf(value, "%u:%u", &major, &minor) == 2 &&
	    n_devices < 16)
		devices[n_devices++] = storage_dev(major, minor);
}

int main(int argc, char **argv)
{
	char line[256];
	int stats = -1;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--block"))
			wanted[PROBE_BLOCK] = true;
		else if (!strcmp(argv[i], "--sync"))
			wanted[PROBE_SYNC] = true;
		else if (!strcmp(argv[i], "--hash"))
			options.no_task_storage = true;
		else if (!strcmp(argv[i], "--no-io-start"))
			options.no_io_start = true;
		else if (!strcmp(argv[i], "--stats"))
			stats = probe_stats_fd();
		else if (i + 1 < argc) {
			set_option(argv[i], argv[i + 1]);
			i++;
		}
	}
	if (open_all() < 0)
		return 1;
	read_json();
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		obey(line);
	for (int i = 0; i < PROBE_KINDS; i++)
		probe_close(probes[i]);
	if (stats >= 0)
		close(stats);
	return 0;
}
