/* agent/input/host_proc.c - see host_proc.h. */
#include "agent/input/host_proc.h"

#include "agent/input/host_parse.h"
#include "agent/input/proc_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <unistd.h>

enum {
	HOST_STAT_BYTES = 4096, /* the line of all CPUs comes first */
	HOST_TEXT_BYTES = 64 << 10,
	HOST_RESOURCES = 3,
	HOST_DISK_FAMILIES = 8,
};
#define HOST_MAX_AGE_NS	     UINT64_C(1000000000)
#define HOST_LOOK_MAX_AGE_NS UINT64_C(60000000000) /* of a disk that no longer answers */
#define NS_PER_MS	     UINT64_C(1000000)

static const char *const resources[HOST_RESOURCES] = {"cpu", "memory", "io"};

/* Slots in the order of struct disk_series. */
static const uint32_t disk_slots[HOST_DISK_FAMILIES] = {
	BLIX_host_disk_reads_completed_total,	BLIX_host_disk_writes_completed_total,
	BLIX_host_disk_read_time_seconds_total, BLIX_host_disk_write_time_seconds_total,
	BLIX_host_disk_read_bytes_total,	BLIX_host_disk_written_bytes_total,
	BLIX_host_disk_flushes_completed_total, BLIX_host_disk_flush_time_seconds_total,
};
enum { DISK_FLUSHES_FIRST = 6 }; /* the families only newer kernels have */

struct disk_series {
	char name[HOST_DISK_NAME_MAX];
	uint32_t series[HOST_DISK_FAMILIES];
};

struct host {
	uint64_t read_ns; /* when /proc was read last; 0 = never */
	uint64_t ns_per_tick;
	uint64_t boot_unix_ns;
	struct proc_file stat, meminfo, diskstats, pressure[HOST_RESOURCES];

	/* What was read; a value whose file could not be read is not known. */
	bool cpu_known, memory_known, pressure_known[HOST_RESOURCES], clock_known;
	uint64_t cpu_ticks[HOST_CPU_MODES];
	struct host_memory memory;
	uint64_t pressure_us[HOST_RESOURCES];
	struct host_disk disks[HOST_DISKS_MAX];
	uint32_t n_disks;
	bool clock_synchronised;
	double clock_error_s;

	/* Where it goes. */
	uint32_t cpu[HOST_CPU_MODES], mem_total, mem_available, waiting[HOST_RESOURCES];
	uint32_t synchronised, max_error;
	uint32_t disk_families[HOST_DISK_FAMILIES], fs_avail_family, fs_size_family;
	struct disk_series shown[HOST_DISKS_MAX];
	uint32_t n_shown;
	char mount_point[LOOK_LABEL_BYTES]; /* that fs_avail and fs_size are labelled with */
	uint32_t fs_avail, fs_size;

	char text[HOST_TEXT_BYTES];
};

struct host *host_new(void)
{
	struct host *h = calloc(1, sizeof(*h));
	long ticks = sysconf(_SC_CLK_TCK);
	uint64_t boot_s;
	ssize_t n;

	if (!h)
		return NULL;
	h->ns_per_tick = 1000000000u / (ticks > 0 ? (uint64_t)ticks : 100);
	h->stat = (struct proc_file)PROC_FILE("/proc/stat");
	h->meminfo = (struct proc_file)PROC_FILE("/proc/meminfo");
	h->diskstats = (struct proc_file)PROC_FILE("/proc/diskstats");
	h->pressure[0] = (struct proc_file)PROC_FILE("/proc/pressure/cpu");
	h->pressure[1] = (struct proc_file)PROC_FILE("/proc/pressure/memory");
	h->pressure[2] = (struct proc_file)PROC_FILE("/proc/pressure/io");
	n = proc_file_read(&h->stat, h->text, sizeof(h->text)); /* the boot time comes late in it */
	if (n > 0 && host_parse_boot_time(h->text, (size_t)n, &boot_s) == 0 &&
	    boot_s < UINT64_MAX / 1000000000u)
		h->boot_unix_ns = boot_s * 1000000000u;
	return h;
}

struct host *host_free(struct host *h)
{
	if (!h)
		return NULL;
	proc_file_close(&h->stat);
	proc_file_close(&h->meminfo);
	proc_file_close(&h->diskstats);
	for (int i = 0; i < HOST_RESOURCES; i++)
		proc_file_close(&h->pressure[i]);
	free(h);
	return NULL;
}

/* ---- families ------------------------------------------------------------------------------- */

static int add_family(struct snapshot *s, uint32_t slot, uint64_t created_unix_ns,
		      uint32_t *ret_family)
{
	const struct blix_metric *row;
	int r = blix_metric_describe(slot, &row);

	return r < 0 ? r : snapshot_family_of(s, row, created_unix_ns, ret_family);
}

/* One series of a family; key NULL: without label. */
static int add_series(struct snapshot *s, uint32_t slot, uint64_t created_unix_ns, const char *key,
		      const char *value, uint32_t *ret_series)
{
	struct snapshot_label label = {key, value};
	uint32_t family;
	int r = add_family(s, slot, created_unix_ns, &family);

	if (r < 0)
		return r;
	return snapshot_series(s, family, &label, key ? 1 : 0, false, false, ret_series);
}

static int register_plain(struct host *h, struct snapshot *s)
{
	int r;

	r = add_series(s, BLIX_host_memory_available_bytes, 0, NULL, NULL, &h->mem_available);
	if (r == 0)
		r = add_series(s, BLIX_host_memory_total_bytes, 0, NULL, NULL, &h->mem_total);
	if (r == 0)
		r = add_family(s, BLIX_host_filesystem_avail_bytes, 0, &h->fs_avail_family);
	if (r == 0)
		r = add_family(s, BLIX_host_filesystem_size_bytes, 0, &h->fs_size_family);
	if (r == 0)
		r = add_series(s, BLIX_host_clock_synchronised, 0, NULL, NULL, &h->synchronised);
	if (r == 0)
		r = add_series(s, BLIX_host_clock_max_error_seconds, 0, NULL, NULL, &h->max_error);
	return r;
}

int host_register(struct host *h, struct snapshot *s)
{
	int r = 0;

	h->n_shown = 0;
	h->mount_point[0] = '\0';
	for (int i = 0; i < HOST_CPU_MODES && r == 0; i++)
		r = add_series(s, BLIX_host_cpu_seconds_total, h->boot_unix_ns, "mode",
			       host_cpu_mode_name((enum host_cpu_mode)i), &h->cpu[i]);
	if (r == 0)
		r = register_plain(h, s);
	for (int i = 0; i < HOST_RESOURCES && r == 0; i++)
		r = add_series(s, BLIX_host_pressure_waiting_seconds_total, h->boot_unix_ns,
			       "resource", resources[i], &h->waiting[i]);
	for (int i = 0; i < HOST_DISK_FAMILIES && r == 0; i++)
		r = add_family(s, disk_slots[i], h->boot_unix_ns, &h->disk_families[i]);
	return r;
}

/* ---- reading /proc --------------------------------------------------------------------------- */

static void read_clock(struct host *h)
{
	struct timex tx = {0};
	int state = adjtimex(&tx);

	h->clock_known = state >= 0;
	h->clock_synchronised = state >= 0 && state != TIME_ERROR && !(tx.status & STA_UNSYNC);
	h->clock_error_s = (double)tx.maxerror * 1e-6;
}

static void read_disks(struct host *h)
{
	ssize_t n = proc_file_read(&h->diskstats, h->text, sizeof(h->text));
	uint32_t more;

	h->n_disks =
		n > 0 ? host_parse_diskstats(h->text, (size_t)n, h->disks, HOST_DISKS_MAX, &more)
		      : 0;
}

static void read_proc(struct host *h)
{
	ssize_t n = proc_file_read(&h->stat, h->text, HOST_STAT_BYTES);

	h->cpu_known = n > 0 && host_parse_cpu(h->text, (size_t)n, h->cpu_ticks) == 0;
	n = proc_file_read(&h->meminfo, h->text, sizeof(h->text));
	h->memory_known = n > 0 && host_parse_meminfo(h->text, (size_t)n, &h->memory) == 0;
	for (int i = 0; i < HOST_RESOURCES; i++) {
		n = proc_file_read(&h->pressure[i], h->text, sizeof(h->text));
		h->pressure_known[i] =
			n > 0 && host_parse_pressure(h->text, (size_t)n, &h->pressure_us[i]) == 0;
	}
	read_disks(h);
	read_clock(h);
}

/* ---- values ---------------------------------------------------------------------------------- */

static void set_u64(struct snapshot *s, uint32_t series, bool known, uint64_t value)
{
	snapshot_hide_series(s, series, !known);
	if (known)
		snapshot_set_u64(s, series, value);
}

/* A gauge of the catalogue is an i64. */
static int64_t clamp_i64(uint64_t value)
{
	return value < INT64_MAX ? (int64_t)value : INT64_MAX;
}

/* Saturates: a number from /proc that large is nonsense, and must not wrap to a small one. */
static uint64_t times(uint64_t value, uint64_t factor)
{
	uint64_t product;

	return __builtin_mul_overflow(value, factor, &product) ? UINT64_MAX : product;
}

static struct disk_series *find_disk(struct host *h, struct snapshot *s, const char *name)
{
	const struct snapshot_label label = {"device", name};
	struct disk_series *d;

	for (uint32_t i = 0; i < h->n_shown; i++)
		if (strcmp(h->shown[i].name, name) == 0)
			return &h->shown[i];
	if (h->n_shown == HOST_DISKS_MAX)
		return NULL;
	d = &h->shown[h->n_shown];
	for (int i = 0; i < HOST_DISK_FAMILIES; i++)
		if (snapshot_series(s, h->disk_families[i], &label, 1, false, false,
				    &d->series[i]) < 0)
			return NULL;
	strcpy(d->name, name);
	h->n_shown++;
	return d;
}

static void set_disks(struct host *h, struct snapshot *s)
{
	for (uint32_t i = 0; i < h->n_shown; i++) /* one that was pulled out shows no more */
		for (int k = 0; k < HOST_DISK_FAMILIES; k++)
			snapshot_hide_series(s, h->shown[i].series[k], true);
	for (uint32_t i = 0; i < h->n_disks; i++) {
		const struct host_disk *d = &h->disks[i];
		const struct disk_series *to = find_disk(h, s, d->name);
		const uint64_t values[HOST_DISK_FAMILIES] = {
			d->reads,
			d->writes,
			times(d->read_ms, NS_PER_MS),
			times(d->write_ms, NS_PER_MS),
			times(d->sectors_read, 512),
			times(d->sectors_written, 512),
			d->flushes,
			times(d->flush_ms, NS_PER_MS),
		};

		for (int k = 0; to && k < HOST_DISK_FAMILIES; k++)
			set_u64(s, to->series[k], k < DISK_FLUSHES_FIRST || d->has_flushes,
				values[k]);
	}
}

/* A new mount point gets its own series; the old ones stay hidden. */
static void set_fs(struct host *h, struct snapshot *s, const struct look_result *look,
		   uint64_t now_ns)
{
	const struct snapshot_label label = {"mountpoint", look->mount_point};
	bool known = look->fs_known && now_ns - look->at_ns < HOST_LOOK_MAX_AGE_NS;

	if (h->mount_point[0]) {
		snapshot_hide_series(s, h->fs_avail, true);
		snapshot_hide_series(s, h->fs_size, true);
	}
	if (!known)
		return;
	if (strcmp(h->mount_point, look->mount_point) != 0) {
		h->mount_point[0] = '\0';
		if (snapshot_series(s, h->fs_avail_family, &label, 1, false, false, &h->fs_avail) <
			    0 ||
		    snapshot_series(s, h->fs_size_family, &label, 1, false, false, &h->fs_size) < 0)
			return;
		strcpy(h->mount_point, look->mount_point);
	}
	snapshot_hide_series(s, h->fs_avail, false);
	snapshot_hide_series(s, h->fs_size, false);
	snapshot_set_i64(s, h->fs_avail, clamp_i64(look->avail_bytes));
	snapshot_set_i64(s, h->fs_size, clamp_i64(look->size_bytes));
}

static void set_plain(struct host *h, struct snapshot *s)
{
	snapshot_hide_series(s, h->mem_total, !h->memory_known);
	snapshot_set_i64(s, h->mem_total, clamp_i64(h->memory.total_bytes));
	snapshot_hide_series(s, h->mem_available, !h->memory_known);
	snapshot_set_i64(s, h->mem_available, clamp_i64(h->memory.available_bytes));
	snapshot_hide_series(s, h->synchronised, !h->clock_known);
	snapshot_set_i64(s, h->synchronised, h->clock_synchronised);
	snapshot_hide_series(s, h->max_error, !h->clock_known);
	snapshot_set_f64(s, h->max_error, h->clock_error_s);
}

void host_collect(struct host *h, struct snapshot *s, const struct look_result *look,
		  uint64_t now_ns)
{
	if (h->read_ns == 0 || now_ns - h->read_ns >= HOST_MAX_AGE_NS) {
		read_proc(h);
		h->read_ns = now_ns;
	}
	for (int i = 0; i < HOST_CPU_MODES; i++)
		set_u64(s, h->cpu[i], h->cpu_known, times(h->cpu_ticks[i], h->ns_per_tick));
	for (int i = 0; i < HOST_RESOURCES; i++)
		set_u64(s, h->waiting[i], h->pressure_known[i], times(h->pressure_us[i], 1000));
	set_plain(h, s);
	set_disks(h, s);
	set_fs(h, s, look, now_ns);
}
