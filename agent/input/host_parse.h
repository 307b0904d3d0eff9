/* agent/input/host_parse.h - pure parsers of what /proc says about the host.
 *
 * Each takes (bytes, len) of a file that may be cut anywhere, longer than expected, or nonsense;
 * none reads past `len`, none needs a terminator, none keeps a pointer. A number that does not fit
 * 64 bits makes its line invalid. Includes libc only; thread-safe. */
#ifndef BLIX_AGENT_INPUT_HOST_PARSE_H
#define BLIX_AGENT_INPUT_HOST_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* /proc/stat, first line: ticks of USER_HZ. */
enum host_cpu_mode {
	HOST_CPU_USER,
	HOST_CPU_NICE,
	HOST_CPU_SYSTEM,
	HOST_CPU_IDLE,
	HOST_CPU_IOWAIT,
	HOST_CPU_IRQ,
	HOST_CPU_SOFTIRQ,
	HOST_CPU_STEAL,
	HOST_CPU_MODES,
};
const char *host_cpu_mode_name(enum host_cpu_mode mode);

/* 0; -EBADMSG: no line of all CPUs with at least these fields. */
int host_parse_cpu(const char *bytes, size_t len, uint64_t ret_ticks[HOST_CPU_MODES]);

struct host_memory {
	uint64_t total_bytes;
	uint64_t available_bytes;
};
/* /proc/meminfo. 0; -EBADMSG: one of the two is missing. */
int host_parse_meminfo(const char *bytes, size_t len, struct host_memory *ret_memory);

/* /proc/pressure/X: time in which some task waited. 0; -EBADMSG. */
int host_parse_pressure(const char *bytes, size_t len, uint64_t *ret_some_us);

enum { HOST_DISKS_MAX = 32, HOST_DISK_NAME_MAX = 32 };

struct host_disk {
	char name[HOST_DISK_NAME_MAX];
	uint64_t reads;
	uint64_t sectors_read; /* of 512 bytes, whatever the disk says */
	uint64_t read_ms;
	uint64_t writes;
	uint64_t sectors_written;
	uint64_t write_ms;
	uint64_t flushes; /* 0 before Linux 5.5 */
	uint64_t flush_ms;
	bool has_flushes;
};

/* /proc/diskstats: the whole disks, in the file's order. Partitions, loop, RAM, floppy and optical
 * devices and malformed lines are left out. *ret_more: disks beyond `max`. Returns how many. */
uint32_t host_parse_diskstats(const char *bytes, size_t len, struct host_disk *ret_disks,
			      uint32_t max, uint32_t *ret_more);

/* /proc/PID/task/TID/schedstat: time spent waiting for a CPU. 0; -EBADMSG. */
int host_parse_schedstat(const char *bytes, size_t len, uint64_t *ret_wait_ns);

/* /proc/PID/stat: the fields named; the command may hold spaces and parentheses. 0; -EBADMSG. */
struct host_process {
	uint64_t user_ticks;
	uint64_t system_ticks;
	uint64_t threads;
	uint64_t start_ticks; /* since boot */
	uint64_t virtual_bytes;
	uint64_t resident_pages;
};
int host_parse_process(const char *bytes, size_t len, struct host_process *ret_process);

/* /proc/self/mountinfo: the mount point that `path` (absolute, resolved) lies below; of several at
 * the same place the topmost. 0; -ENOENT none; -ENAMETOOLONG it does not fit. */
int host_parse_mount_point(const char *bytes, size_t len, const char *path, char *ret_mount_point,
			   size_t size);

/* "btime N" of /proc/stat, seconds since 1970. 0; -EBADMSG. */
int host_parse_boot_time(const char *bytes, size_t len, uint64_t *ret_unix_s);

/* One value of a limits file ("Max open files"), the soft one; UINT64_MAX = unlimited. 0; -EBADMSG.
 */
int host_parse_limit(const char *bytes, size_t len, const char *name, uint64_t *ret_soft);

#endif
