/* test/bench/bench_storage.c - what the storage probes cost an I/O, and reading them a scrape.
 *
 * bench_storage FILE: 12,000 direct reads of FILE at queue depth 1 with the block probe, as many with
 * a plain biolatency-style program, then 12,000 fdatasyncs with the sync probe. The kernel's own clock
 * tells the cost: run_time_ns of all programs of the probe, over the I/Os it counted. Others' I/O in
 * the meantime is counted on both sides. Lines as harness.h has them. */
#include "bpf/probe.h"

#include <stdio.h>
#include <string.h>

#ifndef BLIX_BPF

int main(void)
{
	fprintf(stderr, "this build has no probes\n");
	return 77;
}

#else

#include <biolatency.skel.h>
#include <bpf/bpf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { IOS = 12000, BLOCK_BYTES = 4096, FILE_BLOCKS = 4096 };

static int fd;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void result(const char *name, double ns)
{
	printf("%s\t1\t%.1f\t%.1f\t%.1f\t1\n", name, ns, ns, ns);
}

static void read_file(void)
{
	static _Alignas(BLOCK_BYTES) char block[BLOCK_BYTES];

	for (int i = 0; i < IOS; i++)
		if (pread(fd, block, sizeof(block), (off_t)(rand() % FILE_BLOCKS) * BLOCK_BYTES) <
		    0)
			perror("pread");
}

static void sync_file(void)
{
	for (int i = 0; i < IOS; i++)
		fdatasync(fd); /* of a clean file: the cost of the call, not of the disk */
}

static void on_series(void *arg, const struct storage_block_key *key,
		      const struct storage_block_cells *cells)
{
	uint64_t *n = arg;

	(void)key;
	for (int i = 0; i < BLIX_BPF_CELLS; i++)
		*n += cells->cells[i];
}

static void bench_block(bool registered)
{
	const struct probe_options options = {.slow_ns = UINT64_MAX};
	char reason[PROBE_REASON_MAX];
	struct probe_cost cost;
	struct probe *p;
	uint64_t n = 0, from;

	if (probe_open(PROBE_BLOCK, &options, NULL, NULL, &p, reason) < 0) {
		fprintf(stderr, "%s\n", reason);
		return;
	}
	probe_show_others(p);
	if (registered)
		probe_add_process(p, (uint32_t)getpid(), &(struct storage_proc){0});
	read_file();
	probe_read_block(p, on_series, &n);
	if (n >= IOS / 2 && probe_cost(p, &cost) == 0)
		result(registered ? "ours/block: one I/O of the node, with origin"
				  : "ours/block: one I/O of another process, with origin",
		       (double)cost.run_ns / (double)n);
	from = now_ns();
	for (int i = 0; registered && i < 100; i++) {
		n = 0;
		probe_read_block(p, on_series, &n);
	}
	if (registered)
		result("ours/block: reading the maps, a scrape", (double)(now_ns() - from) / 100);
	probe_close(p);
}

static void bench_plain(void)
{
	struct biolatency_bpf *b = biolatency_bpf__open_and_load();
	uint64_t ns = 0, n = 0;
	struct bpf_program *program;

	if (!b || biolatency_bpf__attach(b)) {
		biolatency_bpf__destroy(b);
		fprintf(stderr, "the plain program does not load\n");
		return;
	}
	read_file();
	for (int i = 0; i < 27; i++)
		n += b->bss->slots[i];
	bpf_object__for_each_program(program, b->obj)
	{
		struct bpf_prog_info info = {0};
		uint32_t len = sizeof(info);

		bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &len);
		ns += info.run_time_ns;
	}
	if (n >= IOS / 2)
		result("peer/block: one I/O, plain biolatency", (double)ns / (double)n);
	biolatency_bpf__destroy(b);
}

static void bench_sync(void)
{
	const struct probe_options options = {.slow_ns = UINT64_MAX};
	char reason[PROBE_REASON_MAX], name[64];
	struct storage_sync_cells cells;
	struct probe_cost cost;
	struct probe *p;
	uint64_t n = 0;

	if (probe_open(PROBE_SYNC, &options, NULL, NULL, &p, reason) < 0) {
		fprintf(stderr, "%s\n", reason);
		return;
	}
	probe_add_process(p, (uint32_t)getpid(), &(struct storage_proc){0});
	sync_file();
	probe_read_sync(p, 0, STORAGE_CALL_FDATASYNC, &cells);
	for (int i = 0; i < BLIX_BPF_CELLS; i++)
		n += cells.cells[i];
	snprintf(name, sizeof(name), "ours/sync: one fdatasync, %s",
		 probe_hook_name(probe_hook_used(p)));
	if (n >= IOS / 2 && probe_cost(p, &cost) == 0)
		result(name, (double)cost.run_ns / (double)n);
	probe_close(p);
}

int main(int argc, char **argv)
{
	int stats = probe_stats_fd();

	fd = argc > 1 ? open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC) : -1;
	if (stats < 0 || fd < 0) {
		fprintf(stderr, "%s\n",
			stats < 0 ? "needs root, for kernel.bpf_stats_enabled"
				  : "FILE cannot be opened for direct I/O");
		return 77;
	}
	bench_block(true);
	bench_block(false);
	bench_plain();
	bench_sync();
	return 0;
}

#endif
