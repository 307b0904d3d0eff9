/* Goal: whatever /proc says, the parsers take the right numbers from good text, refuse bad text,
 * and never look past its end; the host's families carry what this kernel says.
 * Method: every text is copied against a guard page, whole and cut after each byte; the collected
 * families are compared with what the test reads from the same kernel. */
#include "agent/input/host_parse.h"
#include "agent/input/host_proc.h"
#include "agent/input/look.h"
#include "agent/input/node_wait.h"
#include "agent/input/proc_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(host_proc, .timeout = 20);

/* `len` bytes that end where the readable memory does. */
static const char *guarded(const char *text, size_t len)
{
	static char *pages;
	const size_t readable = 16 << 10;

	cr_assert_leq(len, readable);
	if (!pages) {
		pages = mmap(NULL, readable + 4096, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		cr_assert_neq(pages, MAP_FAILED);
		cr_assert_eq(mprotect(pages + readable, 4096, PROT_NONE), 0);
	}
	return memcpy(pages + readable - len, text, len);
}
#define G(text) guarded((text), strlen(text)), strlen(text)

/* ---- CPU, memory, pressure ------------------------------------------------------------------- */

Test(host_proc, the_line_of_all_cpus_is_read)
{
	uint64_t t[HOST_CPU_MODES];

	cr_assert_eq(host_parse_cpu(G("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 9 9 9 9 9 9 9 9\n"), t), 0);
	for (uint64_t i = 0; i < HOST_CPU_MODES; i++)
		cr_expect_eq(t[i], i + 1);
	cr_expect_str_eq(host_cpu_mode_name(HOST_CPU_USER), "user");
	cr_expect_str_eq(host_cpu_mode_name(HOST_CPU_STEAL), "steal");
}

Test(host_proc, malformed_cpu_lines_are_refused_and_change_nothing)
{
	static const char *const bad[] = {
		"",
		"cpu  1 2 3 4 5 6 7 8",			     /* no newline: cut in a number? */
		"cpu  1 2 3 4 5 6 7\n",			     /* a kernel without steal */
		"cpu0 1 2 3 4 5 6 7 8\n",		     /* one CPU only */
		"cpu  1 2 3 -4 5 6 7 8\n",		     /* negative */
		"cpu  1 2 3 4x 5 6 7 8\n",		     /* not a number */
		"cpu  99999999999999999999 2 3 4 5 6 7 8\n", /* beyond 64 bits */
	};
	uint64_t t[HOST_CPU_MODES] = {42};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(host_parse_cpu(G(bad[i]), t), -EBADMSG, "%zu", i);
	cr_expect_eq(t[0], 42u);
	cr_expect_eq(host_parse_cpu(G("cpu 18446744073709551615 2 3 4 5 6 7 8\n"), t), 0);
	cr_expect_eq(t[0], UINT64_MAX);
}

Test(host_proc, memory_needs_both_lines)
{
	struct host_memory m = {0};

	cr_expect_eq(
		host_parse_meminfo(G("MemTotal:  16 kB\nMemFree: 1 kB\nMemAvailable: 3 kB\n"), &m),
		0);
	cr_expect_eq(m.total_bytes, 16384u);
	cr_expect_eq(m.available_bytes, 3072u);
	cr_expect_eq(host_parse_meminfo(G("MemTotal: 16 kB\n"), &m), -EBADMSG);
	cr_expect_eq(host_parse_meminfo(G("MemAvailable: 16 kB\n"), &m), -EBADMSG);
	cr_expect_eq(
		host_parse_meminfo(G("MemTotal: 18014398509481984 kB\nMemAvailable: 1 kB\n"), &m),
		-EBADMSG, "KiB that do not fit in bytes");
	cr_expect_eq(m.total_bytes, 16384u, "written on success only");
}

Test(host_proc, pressure_is_the_total_of_some)
{
	uint64_t us = 7;

	cr_expect_eq(host_parse_pressure(G("full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
					   "some avg10=1.00 avg60=0.10 avg300=0.00 total=123\n"),
					 &us),
		     0);
	cr_expect_eq(us, 123u);
	cr_expect_eq(host_parse_pressure(G("some avg10=1.00\n"), &us), -EBADMSG);
	cr_expect_eq(host_parse_pressure(G("some total=x\n"), &us), -EBADMSG);
	cr_expect_eq(host_parse_pressure(G("some total=5"), &us), -EBADMSG, "cut off");
	cr_expect_eq(us, 123u);
}

Test(host_proc, waiting_and_boot_time)
{
	uint64_t v = 0;

	cr_expect_eq(host_parse_schedstat(G("100 200 3\n"), &v), 0);
	cr_expect_eq(v, 200u);
	cr_expect_eq(host_parse_schedstat(G("100\n"), &v), -EBADMSG);
	cr_expect_eq(host_parse_schedstat(G(""), &v), -EBADMSG);
	cr_expect_eq(host_parse_boot_time(G("cpu 1\nbtime 1700000000\nx\n"), &v), 0);
	cr_expect_eq(v, 1700000000u);
	cr_expect_eq(host_parse_boot_time(G("cpu 1\n"), &v), -EBADMSG);
}

/* ---- disks ----------------------------------------------------------------------------------- */

#define NUMBERS " 1 2 3 4 5 6 7 8 9 10 11"

Test(host_proc, whole_disks_only)
{
	static const char text[] =
		"   8  0 sda" NUMBERS " 12 13 14 15 16 17\n   8 1 sda1" NUMBERS "\n"
		" 259 0 nvme0n1" NUMBERS "\n 259 1 nvme0n1p1" NUMBERS "\n 259 2 nvme0n12" NUMBERS
		"\n 7 0 loop0" NUMBERS "\n 1 0 ram3" NUMBERS "\n 11 0 sr0" NUMBERS
		"\n 254 0 vda" NUMBERS "\n 254 1 vda10" NUMBERS "\n 253 0 dm-0" NUMBERS "\n";
	static const char *const expected[] = {"sda", "nvme0n1", "nvme0n12", "vda", "dm-0"};
	struct host_disk d[HOST_DISKS_MAX];
	uint32_t more, n = host_parse_diskstats(G(text), d, HOST_DISKS_MAX, &more);

	cr_assert_eq(n, 5u);
	cr_expect_eq(more, 0u);
	for (uint32_t i = 0; i < n; i++)
		cr_expect_str_eq(d[i].name, expected[i]);
	cr_expect_eq(d[0].reads, 1u);
	cr_expect_eq(d[0].sectors_read, 3u);
	cr_expect_eq(d[0].read_ms, 4u);
	cr_expect_eq(d[0].writes, 5u);
	cr_expect_eq(d[0].sectors_written, 7u);
	cr_expect_eq(d[0].write_ms, 8u);
	cr_expect(d[0].has_flushes);
	cr_expect_eq(d[0].flushes, 16u);
	cr_expect_eq(d[0].flush_ms, 17u);
	cr_expect(!d[1].has_flushes, "a kernel before 5.5");
}

Test(host_proc, the_number_of_disks_is_bounded)
{
	char text[8192] = "";
	struct host_disk d[4];
	uint32_t more;

	for (int i = 0; i < 6; i++)
		sprintf(text + strlen(text), " 8 %d sd%c" NUMBERS "\n", i * 16, 'a' + i);
	cr_expect_eq(host_parse_diskstats(G(text), d, 4, &more), 4u);
	cr_expect_eq(more, 2u);
}

Test(host_proc, malformed_disk_lines_are_skipped)
{
	static const char text[] =
		"\n8\n 8 0\n 8 0 sda 1 2\n"
		" 8 0 a-name-that-is-far-too-long-for-a-device" NUMBERS "\n"
		" 8 0 b\001d" NUMBERS "\n 8 0 sdb 1 2 3 4 5 6 7 8 9 10 x\n 8 0 sdc" NUMBERS "\n"
		" 8 0 sdc" NUMBERS "\n";
	struct host_disk d[4];
	uint32_t more;

	cr_expect_eq(host_parse_diskstats(G(text), d, 4, &more), 1u, "and no name twice");
	cr_expect_str_eq(d[0].name, "sdc");
}

/* ---- processes and mounts -------------------------------------------------------------------- */

#define STAT_TAIL " S 1 2 3 4 -1 5 6 7 8 9 140 150 1 1 20 0 12 0 2200 23000 240 1844 1\n"

Test(host_proc, a_command_may_look_like_fields)
{
	struct host_process p;

	cr_assert_eq(host_parse_process(G("12 (a) S 1 (b)" STAT_TAIL), &p), 0);
	cr_expect_eq(p.user_ticks, 140u);
	cr_expect_eq(p.system_ticks, 150u);
	cr_expect_eq(p.threads, 12u);
	cr_expect_eq(p.start_ticks, 2200u);
	cr_expect_eq(p.virtual_bytes, 23000u);
	cr_expect_eq(p.resident_pages, 240u);
	cr_expect_eq(host_parse_process(G("12 a S 1"), &p), -EBADMSG);
	cr_expect_eq(host_parse_process(G("12 (a) S 1 2\n"), &p), -EBADMSG);
	cr_expect_eq(host_parse_process(G(""), &p), -EBADMSG);
}

Test(host_proc, limits_may_be_unlimited)
{
	static const char text[] = "Limit   Soft   Hard  Units\n"
				   "Max open files            1024                 4096   files\n"
				   "Max processes   unlimited  unlimited processes\n";
	uint64_t v = 0;

	cr_expect_eq(host_parse_limit(G(text), "Max open files", &v), 0);
	cr_expect_eq(v, 1024u);
	cr_expect_eq(host_parse_limit(G(text), "Max processes", &v), 0);
	cr_expect_eq(v, UINT64_MAX);
	cr_expect_eq(host_parse_limit(G(text), "Max nothing", &v), -EBADMSG);
}

static const char mounts[] = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
			     "2 1 8:2 / /var rw - ext4 /dev/sda2 rw\n"
			     "3 2 8:3 / /var/lib/my\\040vms rw - xfs /dev/sdb rw\n"
			     "4 1 8:4 / /variant rw - ext4 /dev/sdc rw\n"
			     "short line\n";

Test(host_proc, the_deepest_mount_point_wins)
{
	static const struct {
		const char *path, *mount_point;
	} cases[] = {
		{"/", "/"},
		{"/etc/x", "/"},
		{"/var", "/var"},
		{"/var/lib", "/var"},
		{"/var/lib/my vms/7", "/var/lib/my vms"},
		{"/variants", "/"}, /* neither /var nor /variant */
		{"/variant/a", "/variant"},
	};
	char got[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_assert_eq(host_parse_mount_point(G(mounts), cases[i].path, got, sizeof(got)), 0);
		cr_expect_str_eq(got, cases[i].mount_point, "%s", cases[i].path);
	}
	cr_expect_eq(host_parse_mount_point(G(mounts), "relative", got, sizeof(got)), -ENOENT);
	cr_expect_eq(host_parse_mount_point(G(mounts), "/var/lib/my vms/7", got, 15), -ENAMETOOLONG,
		     "15 bytes and their end need 16");
	cr_expect_eq(host_parse_mount_point(G(mounts), "/var/lib/my vms/7", got, 16), 0);
}

/* Every parser, on every prefix of a good text, and on each byte turned into something else. */
static void parse_all(const char *bytes, size_t len)
{
	uint64_t t[HOST_CPU_MODES], v;
	struct host_memory m;
	struct host_disk d[4];
	struct host_process p;
	uint32_t more;
	char name[64];

	host_parse_cpu(bytes, len, t);
	host_parse_meminfo(bytes, len, &m);
	host_parse_pressure(bytes, len, &v);
	cr_expect_leq(host_parse_diskstats(bytes, len, d, 4, &more), 4u);
	host_parse_schedstat(bytes, len, &v);
	host_parse_process(bytes, len, &p);
	host_parse_boot_time(bytes, len, &v);
	host_parse_limit(bytes, len, "Max open files", &v);
	host_parse_mount_point(bytes, len, "/var/lib", name, sizeof(name));
}

Test(host_proc, no_parser_reads_beyond_its_text)
{
	static const char *const texts[] = {
		"cpu  1 2 3 4 5 6 7 8 9 10\nbtime 5\n",
		"MemTotal:  16 kB\nMemAvailable: 3 kB\n",
		"some avg10=1.00 avg60=0.10 avg300=0.00 total=123\n",
		"   8  0 sda" NUMBERS " 12 13 14 15 16 17\n   8 1 sda1" NUMBERS "\n",
		"12 (a) b)" STAT_TAIL,
		"Max open files  1024  4096 files\n",
		mounts,
		"1 0 8:1 / /a\\04 rw\n1 0 8:1 / /a\\ rw\n1 0 8:1 / /a\\0",
	};
	static const char odd[] = {0, '\n', ' ', '9', (char)0xff, '\\', ')'};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char copy[1024];
		size_t len = strlen(texts[i]);

		for (size_t cut = 0; cut <= len; cut++)
			parse_all(guarded(texts[i], cut), cut);
		for (size_t at = 0; at < len; at++)
			for (size_t k = 0; k < sizeof(odd); k++) {
				memcpy(copy, texts[i], len);
				copy[at] = odd[k];
				parse_all(guarded(copy, len), len);
			}
	}
}

/* ---- the real thing -------------------------------------------------------------------------- */

static const struct snapshot_series *series_of(const struct snapshot *s, const char *name,
					       const char *value)
{
	for (uint32_t f = 0; f < snapshot_family_count(s); f++) {
		const struct snapshot_family *family = snapshot_family_at(s, f);

		if (strcmp(family->name, name) != 0)
			continue;
		for (uint32_t i = 0; i < family->n_series; i++) {
			const struct snapshot_series *x = snapshot_family_series(s, f, i);

			if (!x->hidden && (!value || strcmp(x->labels[0].value, value) == 0))
				return x;
		}
	}
	return NULL;
}

static uint64_t value_of(const struct snapshot *s, const char *name, const char *label)
{
	const struct snapshot_series *x = series_of(s, name, label);

	cr_assert_not_null(x, "%s %s", name, label ? label : "");
	return *snapshot_value_at(s, x->value);
}

Test(host_proc, this_host_is_shown_as_it_is)
{
	struct host *h = host_new();
	struct snapshot *s = snapshot_new();
	struct look_result look = {0};
	uint64_t idle, total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	cr_assert_eq(host_register(h, s), 0);
	host_collect(h, s, &look, 1);
	cr_expect_eq(value_of(s, "blixard_host_memory_total_bytes", NULL), total);
	cr_expect_leq(value_of(s, "blixard_host_memory_available_bytes", NULL), total);
	idle = value_of(s, "blixard_host_cpu_seconds_total", "idle");
	cr_expect_gt(idle, 0u);
	cr_expect_leq(value_of(s, "blixard_host_clock_synchronised", NULL), 1u);
	cr_expect_eq(series_of(s, "blixard_host_pressure_waiting_seconds_total", "cpu") != NULL,
		     access("/proc/pressure/cpu", R_OK) == 0, "absent where the kernel has none");
	cr_expect_null(series_of(s, "blixard_host_filesystem_size_bytes", NULL), "not known yet");

	/* Within a second nothing is read again; after a reset the families come back. */
	host_collect(h, s, &look, 999999999);
	cr_expect_eq(value_of(s, "blixard_host_cpu_seconds_total", "idle"), idle);
	snapshot_reset(s);
	cr_assert_eq(host_register(h, s), 0);
	host_collect(h, s, &look, 5000000000);
	cr_expect_geq(value_of(s, "blixard_host_cpu_seconds_total", "idle"), idle);
	snapshot_free(s);
	cr_expect_null(host_free(h));
	cr_expect_null(host_free(NULL));
}

Test(host_proc, a_file_system_is_shown_while_its_answer_is_fresh)
{
	struct host *h = host_new();
	struct snapshot *s = snapshot_new();
	struct look_result look = {.fs_known = true,
				   .mount_point = "/a \"b\"",
				   .avail_bytes = 10,
				   .size_bytes = 20,
				   .at_ns = 1000};

	cr_assert_eq(host_register(h, s), 0);
	host_collect(h, s, &look, 2000);
	cr_expect_eq(value_of(s, "blixard_host_filesystem_avail_bytes", "/a \"b\""), 10u);
	cr_expect_eq(value_of(s, "blixard_host_filesystem_size_bytes", "/a \"b\""), 20u);
	strcpy(look.mount_point, "/c");
	host_collect(h, s, &look, 3000);
	cr_expect_null(series_of(s, "blixard_host_filesystem_size_bytes", "/a \"b\""));
	cr_expect_eq(value_of(s, "blixard_host_filesystem_size_bytes", "/c"), 20u);
	host_collect(h, s, &look, 61000000000);
	cr_expect_null(series_of(s, "blixard_host_filesystem_size_bytes", NULL),
		       "a disk that has not answered for a minute");
	snapshot_free(s);
	host_free(h);
}

Test(host_proc, the_room_is_that_of_the_mount_point)
{
	struct look_result r = {0};
	struct statvfs fs;

	look_at_fs("/proc/self/..", &r); /* a path that must be resolved */
	cr_assert_eq(statvfs("/proc", &fs), 0);
	cr_expect(r.fs_known);
	cr_expect_str_eq(r.mount_point, "/proc");
	cr_expect_eq(r.size_bytes, (uint64_t)fs.f_blocks * fs.f_frsize);
	look_at_fs("relative", &r);
	cr_expect(!r.fs_known);
	look_at_fs("/no/such/directory", &r);
	cr_expect(!r.fs_known);
	look_at_fs("", &r);
	cr_expect(!r.fs_known);
}

Test(host_proc, orphans_are_files_named_after_the_file)
{
	char dir[] = "/tmp/blix-orphans-XXXXXX", path[128];
	static const char hex[] = "0123456789abcdef0123456789abcdef";
	const char *const names[] = {"n1",	    "n1.o.%s",	"n1.o.f%.31s", "n1.o.%.31s",
				     "n1.o.%.31sG", "n12.o.%s", "n1.o.%sx"};

	cr_assert_not_null(mkdtemp(dir));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char name[80];
		int n = snprintf(name, sizeof(name), names[i], hex);

		cr_assert_lt(n, (int)sizeof(name));
		snprintf(path, sizeof(path), "%s/%s", dir, name);
		close(open(path, O_CREAT | O_WRONLY, 0600));
	}
	snprintf(path, sizeof(path), "%s/n1", dir);
	cr_expect_eq(look_count_orphans(path), 2u);
	cr_expect_eq(look_count_orphans("/no/such/dir/n1"), 0u);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char name[80];

		snprintf(name, sizeof(name), names[i], hex);
		snprintf(path, sizeof(path), "%s/%s", dir, name);
		unlink(path);
	}
	rmdir(dir);
}

Test(host_proc, a_file_is_read_from_its_start_each_time)
{
	struct proc_file f = PROC_FILE("/proc/sys/kernel/ostype");
	struct proc_file none = PROC_FILE("/proc/no/such/file");
	char a[16], b[3];

	cr_expect_eq(proc_file_read(&f, a, sizeof(a)), 6);
	cr_expect_eq(memcmp(a, "Linux\n", 6), 0);
	cr_expect_eq(proc_file_read(&f, b, sizeof(b)), 3, "cut");
	cr_expect_eq(memcmp(b, "Lin", 3), 0);
	proc_file_close(&f);
	cr_expect_eq(proc_file_read(&f, a, sizeof(a)), 6, "opened again");
	proc_file_close(&f);
	cr_expect_eq(proc_file_read(&none, a, sizeof(a)), -ENOENT);
}

/* ---- waiting for a CPU ----------------------------------------------------------------------- */

static uint64_t start_of(pid_t pid)
{
	char path[64], text[1024];
	struct proc_file f = {.dir = AT_FDCWD, .path = path, .fd = -1};
	struct host_process p;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	n = proc_file_read(&f, text, sizeof(text));
	proc_file_close(&f);
	cr_assert_gt(n, 0);
	cr_assert_eq(host_parse_process(text, (size_t)n, &p), 0);
	return p.start_ticks;
}

Test(host_proc, waiting_belongs_to_the_process_with_that_start_time)
{
	struct node_wait *w = NULL;
	uint64_t ns = 0, later = 0;

	cr_expect_eq(node_wait_new(getpid(), start_of(getpid()) + 1, &w), -ESRCH, "pid reuse");
	cr_expect_null(w);
	cr_assert_eq(node_wait_new(getpid(), start_of(getpid()), &w), 0);
	if (node_wait_read(w, 1, &ns)) {
		cr_expect(node_wait_read(w, 2000000000, &later));
		cr_expect_geq(later, ns);
	}
	cr_expect_null(node_wait_free(w));
	cr_expect_null(node_wait_free(NULL));
}

Test(host_proc, a_process_that_ended_keeps_its_last_sum)
{
	struct node_wait *w = NULL;
	uint64_t ns = 0, later = 0;
	pid_t pid = fork();
	bool known;

	if (pid == 0) {
		pause();
		_exit(0);
	}
	cr_assert_eq(node_wait_new(pid, start_of(pid), &w), 0);
	known = node_wait_read(w, 1, &ns);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	cr_expect_eq(node_wait_read(w, 2000000000, &later), known);
	cr_expect_eq(later, ns);
	node_wait_free(w);
	cr_expect_eq(node_wait_new(pid, 1, &w), -ESRCH);
}
