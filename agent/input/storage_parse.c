/* agent/input/storage_parse.c - see storage_parse.h. */
#include "agent/input/storage_parse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 512, COVERAGE_FROM = 100 };

/* The next line as a terminated copy; false at the end. A longer line is cut. */
static bool next_line(const char **at, const char *end, char line[LINE_BYTES])
{
	const char *newline;
	size_t len, copied;

	if (*at >= end)
		return false;
	newline = memchr(*at, '\n', (size_t)(end - *at));
	len = (size_t)((newline ? newline : end) - *at);
	copied = len < LINE_BYTES ? len : LINE_BYTES - 1;
	memcpy(line, *at, copied);
	line[copied] = '\0';
	*at = newline ? newline + 1 : end;
	return true;
}

uint32_t storage_parse_disks(const char *bytes, size_t len, struct storage_disk *ret_disks,
			     uint32_t max)
{
	const char *at = bytes, *end = bytes + len;
	char line[LINE_BYTES];
	uint32_t n = 0;

	while (n < max && next_line(&at, end, line)) {
		struct storage_disk *d = &ret_disks[n];
		uint32_t major, minor;
		uint64_t reads, writes, discards = 0;

		/* reads merged sectors ms, the same for writes, in flight, two times, discards */
		if (sscanf(line,
			   "%" SCNu32 " %" SCNu32 " %31s %" SCNu64 " %*u %*u %*u %" SCNu64
			   " %*u %*u %*u %*u %*u %*u %" SCNu64,
			   &major, &minor, d->name, &reads, &writes, &discards) < 5)
			continue;
		if (major > 0xfff || minor > 0xfffff)
			continue;
		d->dev = storage_dev(major, minor);
		d->requests = reads + writes + discards;
		n++;
	}
	return n;
}

int storage_parse_inflight(const char *bytes, size_t len, uint64_t *ret_reads, uint64_t *ret_writes)
{
	const char *at = bytes;
	char line[LINE_BYTES];
	uint64_t reads, writes;

	if (!next_line(&at, bytes + len, line) ||
	    sscanf(line, "%" SCNu64 " %" SCNu64, &reads, &writes) != 2)
		return -EBADMSG;
	*ret_reads = reads;
	*ret_writes = writes;
	return 0;
}

static bool is_unit(const char *path)
{
	const char *name = strrchr(path, '/');
	size_t n;

	name = name ? name + 1 : path;
	n = strlen(name);
	return n > 8 && !strcmp(name + n - 8, ".service") && strncmp(name, "user@", 5) != 0;
}

int storage_parse_cgroup(const char *bytes, size_t len, char *ret_path, size_t size,
			 uint32_t *ret_level)
{
	const char *at = bytes, *end = bytes + len;
	char line[LINE_BYTES];
	uint32_t level = 0;

	while (next_line(&at, end, line)) {
		if (strncmp(line, "0::/", 4) != 0)
			continue;
		if (strlen(line) == LINE_BYTES - 1 || strlen(line + 4) >= size)
			return -ENAMETOOLONG;
		if (strstr(line, "/../") || !is_unit(line + 4))
			return -ENOENT;
		for (const char *c = line + 3; *c; c++)
			level += *c == '/';
		strcpy(ret_path, line + 4);
		*ret_level = level;
		return 0;
	}
	return -ENOENT;
}

void storage_pow2(const uint64_t cells[BLIX_BPF_CELLS], uint64_t ret[BLIX_POW2_BOUNDS + 1])
{
	memset(ret, 0, (BLIX_POW2_BOUNDS + 1) * sizeof(*ret));
	for (uint32_t i = 0; i < BLIX_BPF_CELLS; i++)
		ret[blix_bpf_pow2_bucket(i)] += cells[i];
}

void storage_exponential(const uint64_t cells[BLIX_BPF_CELLS], uint64_t ret[BLIX_EXP_CELLS])
{
	memset(ret, 0, BLIX_EXP_CELLS * sizeof(*ret));
	ret[BLIX_EXP_ZERO] = cells[BLIX_EXP_ZERO];
	ret[BLIX_EXP_UNDER] = cells[BLIX_EXP_UNDER];
	for (uint32_t i = 0; i < BLIX_BPF_GRID; i++)
		ret[BLIX_EXP_FIRST + 2 * i + 1] = cells[BLIX_EXP_FIRST + i];
}

bool storage_coverage(uint64_t measured, uint64_t counted, double *ret_ratio)
{
	if (counted < COVERAGE_FROM)
		return false;
	*ret_ratio = (double)measured / (double)counted;
	return true;
}

uint64_t storage_overlap(uint64_t from, uint64_t to, uint64_t a, uint64_t b)
{
	uint64_t begin = from > a ? from : a, end = to < b ? to : b;

	return end > begin ? end - begin : 0;
}

enum storage_origin storage_origin_of(uint8_t owner, uint32_t slot)
{
	if (owner == STORAGE_OWNER_NODE + slot)
		return STORAGE_ORIGIN_NODE;
	if (owner == STORAGE_OWNER_VM + slot)
		return STORAGE_ORIGIN_VM;
	if (owner == STORAGE_OWNER_KERNEL)
		return STORAGE_ORIGIN_KERNEL;
	return owner == STORAGE_OWNER_UNKNOWN ? STORAGE_ORIGIN_UNKNOWN : STORAGE_ORIGIN_OTHER;
}
