/* Goal: cells of the probes become buckets without loss, and what /proc says about disks and
 * cgroups is taken for what it is, cut anywhere. Method: every cell alone, both sides of each bound
 * against the arithmetic of doubles, every prefix of real files. */
#include "agent/input/storage_parse.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <string.h>

static uint64_t sum(const uint64_t *values, size_t n)
{
	uint64_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += values[i];
	return total;
}

Test(storage_parse, every_cell_goes_to_the_classic_bucket_that_holds_its_durations)
{
	for (uint64_t ns = 1; ns < BLIX_BPF_NS_MAX; ns += 1 + ns / 97) {
		uint64_t cells[BLIX_BPF_CELLS] = {0}, classic[BLIX_POW2_BOUNDS + 1];
		uint32_t want = 0;

		while (want < BLIX_POW2_BOUNDS &&
		       (double)ns * 1e-9 > ldexp(1, BLIX_POW2_LOW + (int)want))
			want++;
		cells[blix_bpf_cell(ns)] = 3;
		storage_pow2(cells, classic);
		cr_assert_eq(classic[want], 3, "%llu ns", (unsigned long long)ns);
		cr_assert_eq(sum(classic, BLIX_POW2_BOUNDS + 1), 3);
	}
}

Test(storage_parse, both_sides_of_each_classic_bound_differ)
{
	for (int k = BLIX_POW2_LOW; k <= BLIX_POW2_HIGH; k++) {
		uint64_t at = (uint64_t)floor(ldexp(1e9, k)), want = (uint64_t)(k - BLIX_POW2_LOW);

		cr_expect_eq(blix_bpf_pow2_bucket(blix_bpf_cell(at)), want, "2^%d s", k);
		cr_expect_eq(blix_bpf_pow2_bucket(blix_bpf_cell(at + 1)), want + 1, "above 2^%d s",
			     k);
	}
}

Test(storage_parse, merging_the_exponential_cells_gives_the_probes_own_back)
{
	uint64_t cells[BLIX_BPF_CELLS], fine[BLIX_EXP_CELLS];
	int32_t offset = blix_exp_otlp_index(BLIX_EXP_FIRST);

	for (uint32_t i = 0; i < BLIX_BPF_CELLS; i++)
		cells[i] = 1 + i * i;
	storage_exponential(cells, fine);
	cr_assert_eq(sum(fine, BLIX_EXP_CELLS), sum(cells, BLIX_BPF_CELLS));
	cr_expect_eq(fine[BLIX_EXP_ZERO], cells[BLIX_EXP_ZERO]);
	cr_expect_eq(fine[BLIX_EXP_UNDER], cells[BLIX_EXP_UNDER]);
	cr_assert_eq(blix_exp_merge_pairs(fine + BLIX_EXP_FIRST, BLIX_EXP_GRID, &offset),
		     BLIX_EXP_GRID / 2);
	cr_expect_eq(offset, blix_bpf_otlp_index(BLIX_EXP_FIRST));
	for (uint32_t i = 0; i < BLIX_BPF_GRID; i++)
		cr_expect_eq(fine[BLIX_EXP_FIRST + i], cells[BLIX_EXP_FIRST + i], "cell %u", i);
}

Test(storage_parse, a_quarter_octave_keeps_its_upper_bound)
{
	for (uint32_t i = 0; i < BLIX_BPF_GRID; i++) {
		uint64_t cells[BLIX_BPF_CELLS] = {0}, fine[BLIX_EXP_CELLS];
		double upper = exp2((blix_bpf_otlp_index(BLIX_EXP_FIRST + i) + 1) / 4.0);
		uint32_t at = 0;

		cells[BLIX_EXP_FIRST + i] = 1;
		storage_exponential(cells, fine);
		while (at < BLIX_EXP_CELLS && !fine[at])
			at++;
		cr_expect_float_eq(exp2((blix_exp_otlp_index(at) + 1) / 8.0), upper, upper * 1e-12);
	}
}

static const char diskstats[] =
	" 254       0 vda 100 5 2000 40 50 6 4000 70 3 90 110 7 0 700 8 9 12\n"
	" 254       1 vda1 90 5 1900 39 50 6 4000 70 0 90 110 0 0 0 0 0 0\n"
	"   7       0 loop0 11 0 22 3 0 0 0 0 0 0 0\n"
	"nonsense\n"
	" 9999999 0 far 1 0 0 0 1 0 0 0 0 0 0\n"
	" 259 3 nvme0n1 1 2 3 4 5 6 7 8 9 10 11\n";

Test(storage_parse, disks_are_read_with_their_numbers_and_requests)
{
	struct storage_disk d[8];
	uint32_t n = storage_parse_disks(diskstats, sizeof(diskstats) - 1, d, 8);

	cr_assert_eq(n, 4);
	cr_expect_str_eq(d[0].name, "vda");
	cr_expect_eq(d[0].dev, storage_dev(254, 0));
	cr_expect_eq(d[0].requests, 157, "reads, writes and discards, no flushes");
	cr_expect_eq(d[1].dev, storage_dev(254, 1));
	cr_expect_eq(d[2].requests, 11, "older kernels have no discards");
	cr_expect_str_eq(d[3].name, "nvme0n1");
	cr_expect_eq(d[3].requests, 6);
	cr_expect_eq(storage_parse_disks(diskstats, sizeof(diskstats) - 1, d, 1), 1, "the limit");
}

Test(storage_parse, files_cut_anywhere_do_no_harm)
{
	static const char cgroup[] = "12:pids:/x\n0::/system.slice/blixard-node@1.service\n";
	struct storage_disk d[8];
	char path[128];
	uint32_t level;
	uint64_t r, w;

	for (size_t len = 0; len < sizeof(diskstats); len++)
		cr_expect_leq(storage_parse_disks(diskstats, len, d, 8), 5);
	for (size_t len = 0; len < sizeof(cgroup); len++)
		storage_parse_cgroup(cgroup, len, path, sizeof(path), &level);
	cr_expect_eq(storage_parse_inflight("", 0, &r, &w), -EBADMSG);
	cr_expect_eq(storage_parse_inflight("  7", 3, &r, &w), -EBADMSG);
	cr_expect_eq(storage_parse_inflight("       3       12\n", 18, &r, &w), 0);
	cr_expect_eq(r, 3);
	cr_expect_eq(w, 12);
}

static int cgroup_of(const char *text, char *path, uint32_t *level)
{
	return storage_parse_cgroup(text, strlen(text), path, 64, level);
}

Test(storage_parse, only_a_service_of_its_own_makes_its_processes_the_nodes)
{
	char path[64] = "";
	uint32_t level = 0;

	cr_expect_eq(cgroup_of("0::/system.slice/blixard@1.service\n", path, &level), 0);
	cr_expect_str_eq(path, "system.slice/blixard@1.service");
	cr_expect_eq(level, 2);
	cr_expect_eq(cgroup_of("0::/a.service\n", path, &level), 0);
	cr_expect_eq(level, 1);
	cr_expect_eq(cgroup_of("0::/\n", path, &level), -ENOENT);
	cr_expect_eq(cgroup_of("3:cpu:/x.service\n", path, &level), -ENOENT);
	cr_expect_eq(cgroup_of("0::/user.slice/session-3.scope\n", path, &level), -ENOENT);
	cr_expect_eq(cgroup_of("0::/user.slice/user@1000.service\n", path, &level), -ENOENT);
	cr_expect_eq(cgroup_of("0::/../x.service\n", path, &level), -ENOENT);
	cr_expect_eq(cgroup_of("0::/0123456789012345678901234567890123456789012345678901234567890"
			       "123456789.service\n",
			       path, &level),
		     -ENAMETOOLONG);
}

Test(storage_parse, coverage_says_nothing_of_little)
{
	double ratio = -1;

	cr_expect_not(storage_coverage(99, 99, &ratio));
	cr_expect_float_eq(ratio, -1, 0);
	cr_assert(storage_coverage(95, 100, &ratio));
	cr_expect_float_eq(ratio, 0.95, 1e-12);
	cr_assert(storage_coverage(0, 100, &ratio));
	cr_expect_float_eq(ratio, 0, 0);
}

Test(storage_parse, overlaps_are_those_of_intervals)
{
	cr_expect_eq(storage_overlap(10, 20, 15, 30), 5);
	cr_expect_eq(storage_overlap(10, 20, 0, 30), 10);
	cr_expect_eq(storage_overlap(10, 20, 20, 30), 0);
	cr_expect_eq(storage_overlap(10, 20, 25, 30), 0);
	cr_expect_eq(storage_overlap(10, 20, 0, 9), 0);
}

Test(storage_parse, another_node_is_other)
{
	cr_expect_eq(storage_origin_of(STORAGE_OWNER_NODE + 3, 3), STORAGE_ORIGIN_NODE);
	cr_expect_eq(storage_origin_of(STORAGE_OWNER_VM + 3, 3), STORAGE_ORIGIN_VM);
	cr_expect_eq(storage_origin_of(STORAGE_OWNER_NODE + 2, 3), STORAGE_ORIGIN_OTHER);
	cr_expect_eq(storage_origin_of(STORAGE_OWNER_VM + 2, 3), STORAGE_ORIGIN_OTHER);
	cr_expect_eq(storage_origin_of(STORAGE_OWNER_KERNEL, 3), STORAGE_ORIGIN_KERNEL);
	cr_expect_eq(storage_origin_of(STORAGE_OWNER_UNKNOWN, 3), STORAGE_ORIGIN_UNKNOWN);
	cr_expect_eq(storage_origin_of(255, 3), STORAGE_ORIGIN_OTHER);
}
