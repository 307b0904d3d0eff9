/* agent/input/storage.c - the probes of the agent: load, devices, slow waits. See storage.h. */
#include "agent/input/storage_private.h"

#include "agent/log.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum { MAJOR_RAM = 1, MAJOR_LOOP = 7 };

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the probes ------------------------------------------------------------------------------ */

static void on_note(void *arg, const char *line)
{
	const struct storage *s = arg;

	if (!s->options.quiet)
		log_line(LOG_LEVEL_INFO, "probe_note", "%s", line);
}

static void open_probe(struct storage *s, enum probe_kind kind)
{
	const struct probe_options options = {
		.slow_ns = s->options.slow_io_ms ? s->options.slow_io_ms * UINT64_C(1000000)
						 : UINT64_MAX,
	};
	const char *name = probe_kind_name(kind);

	if (probe_open(kind, &options, on_note, s, &s->probes[kind], s->reasons[kind]) == 0)
		s->reasons[kind][0] = '\0';
	if (s->options.quiet)
		return;
	if (s->probes[kind])
		log_line(LOG_LEVEL_INFO, "probe_attached", "probe %s is attached to hook %s", name,
			 probe_hook_name(probe_hook_used(s->probes[kind])));
	else
		log_line(
			LOG_LEVEL_WARNING, "probe_off",
			"probe %s is off: %s. Its metrics are absent; /proc/diskstats and pressure "
			"are served on",
			name, s->reasons[kind]);
}

struct storage *storage_new(const struct storage_options *options)
{
	struct storage *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->options = *options;
	s->opened_unix_ns = clock_ns(CLOCK_REALTIME);
	s->diskstats = (struct proc_file)PROC_FILE("/proc/diskstats");
	for (int kind = 0; kind < PROBE_KINDS; kind++) {
		if (!options->off)
			open_probe(s, (enum probe_kind)kind);
		else
			snprintf(s->reasons[kind], sizeof(s->reasons[kind]),
				 "switched off by --no-bpf");
	}
	storage_read_disks(s, clock_ns(CLOCK_MONOTONIC));
	return s;
}

struct storage *storage_free(struct storage *s)
{
	if (!s)
		return NULL;
	if (s->timer)
		event_free(s->timer);
	for (int kind = 0; kind < PROBE_KINDS; kind++) {
		if (s->rings[kind])
			event_free(s->rings[kind]);
		probe_close(s->probes[kind]);
	}
	for (uint32_t i = 0; i < s->n_devices; i++)
		proc_file_close(&s->devices[i].inflight);
	proc_file_close(&s->diskstats);
	free(s);
	return NULL;
}

const char *storage_built(void)
{
	return probe_built()
		       ? "storage probes: built in"
		       : "storage probes: none; clang, bpftool or libbpf-dev was missing when "
			 "this agent was built";
}

struct storage_probe_status storage_status(const struct storage *s, enum probe_kind kind)
{
	const struct probe *p = s ? s->probes[kind] : NULL;

	return (struct storage_probe_status){
		.up = p != NULL,
		.hook = probe_hook_name(p ? probe_hook_used(p) : PROBE_HOOKS),
		.reason = s ? s->reasons[kind] : "this agent has no probes",
	};
}

/* ---- rights ---------------------------------------------------------------------------------- */

static int change_rights(uint32_t remove_low, uint32_t remove_high, bool permitted)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	data[0].effective &= ~remove_low;
	data[1].effective &= ~remove_high;
	if (permitted) {
		data[0].permitted &= ~remove_low;
		data[1].permitted &= ~remove_high;
		data[0].inheritable &= ~remove_low;
		data[1].inheritable &= ~remove_high;
	} else {
		data[0].effective |= data[0].permitted & ~remove_low;
		data[1].effective |= data[1].permitted & ~remove_high;
	}
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* Can maps still be read and written? Kernels before 5.19 ask for CAP_BPF each time, where
 * kernel.unprivileged_bpf_disabled is set. Tried out, because versions tell little. */
static bool maps_work(struct storage *s, struct probe *p)
{
	uint64_t counts[STORAGE_COUNTS];
	const struct storage_proc nobody = {0};

	(void)s;
	return probe_read_counts(p, counts) == 0 &&
	       probe_add_process(p, UINT32_MAX, &nobody) == 0 &&
	       probe_remove_process(p, UINT32_MAX) == 0;
}

void storage_drop_rights(struct storage *s)
{
	const uint32_t perfmon = CAP_TO_MASK(CAP_PERFMON), bpf = CAP_TO_MASK(CAP_BPF);
	uint32_t low = CAP_TO_MASK(CAP_SYS_ADMIN), high = perfmon | bpf;
	struct probe *p = s->probes[PROBE_BLOCK] ? s->probes[PROBE_BLOCK] : s->probes[PROBE_SYNC];

	if (!p)
		return;
	if (geteuid() != 0) /* was for tracefs; root needs it for the files of others */
		low |= CAP_TO_MASK(CAP_DAC_READ_SEARCH);
	if (change_rights(low, high, false) == 0 && !maps_work(s, p))
		high = perfmon;
	if (change_rights(low, high, true) < 0)
		log_line(LOG_LEVEL_WARNING, "rights_kept",
			 "cannot give up the rights that the probes needed");
}

/* ---- devices --------------------------------------------------------------------------------- */

uint32_t storage_device_index(const struct storage *s, uint32_t dev)
{
	for (uint32_t i = 0; i < s->n_devices; i++)
		if (s->devices[i].dev == dev)
			return i;
	return STORAGE_DEVICES_MAX;
}

const char *storage_device_name(const struct storage *s, uint32_t index)
{
	return index < s->n_devices ? s->devices[index].name : "other";
}

static bool is_whole_disk(const char *name)
{
	char path[64];

	if (strchr(name, '/') || name[0] == '.')
		return false;
	snprintf(path, sizeof(path), "/sys/block/%s", name);
	return access(path, F_OK) == 0;
}

static struct storage_device *show_device(struct storage *s, uint32_t dev, const char *name)
{
	struct storage_device *d;
	uint32_t i = storage_device_index(s, dev);

	if (i < STORAGE_DEVICES_MAX)
		return &s->devices[i];
	if (s->n_devices == STORAGE_DEVICES_MAX || !s->probes[PROBE_BLOCK] ||
	    probe_add_device(s->probes[PROBE_BLOCK], dev, true) < 0)
		return NULL;
	d = &s->devices[s->n_devices++];
	*d = (struct storage_device){.dev = dev};
	snprintf(d->name, sizeof(d->name), "%s", name);
	snprintf(d->inflight_path, sizeof(d->inflight_path), "/sys/block/%s/inflight", name);
	d->inflight = (struct proc_file)PROC_FILE(d->inflight_path);
	return d;
}

/* Compressed memory is no disk. Its major number is given out at boot, so its name has to tell. */
static struct storage_device *meet_device(struct storage *s, const struct storage_disk *disk)
{
	if (strncmp(disk->name, "zram", 4) != 0)
		return show_device(s, disk->dev, disk->name);
	probe_add_device(s->probes[PROBE_BLOCK], disk->dev, false);
	return NULL;
}

void storage_read_disks(struct storage *s, uint64_t now_ns)
{
	struct storage_disk disks[STORAGE_DISKS_MAX];
	uint32_t n;
	ssize_t len;

	if (!s->probes[PROBE_BLOCK] ||
	    (s->disks_read_ns && now_ns - s->disks_read_ns < STORAGE_DISKS_AGE_NS))
		return;
	s->disks_read_ns = now_ns;
	len = proc_file_read(&s->diskstats, s->text, sizeof(s->text));
	n = len > 0 ? storage_parse_disks(s->text, (size_t)len, disks, STORAGE_DISKS_MAX) : 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t major = disks[i].dev >> 20;
		uint32_t known = storage_device_index(s, disks[i].dev);
		struct storage_device *d = known < STORAGE_DEVICES_MAX ? &s->devices[known] : NULL;

		if (!d && major != MAJOR_LOOP && major != MAJOR_RAM && is_whole_disk(disks[i].name))
			d = meet_device(s, &disks[i]);
		if (!d)
			continue;
		if (!d->has_base || disks[i].requests < d->base) /* replaced: begins anew */
			d->base = disks[i].requests;
		d->has_base = true;
		d->now = disks[i].requests;
	}
	probe_show_others(s->probes[PROBE_BLOCK]);
}

void storage_node_disk(struct storage_node *n, uint32_t dev, const char *name)
{
	struct storage *s = n->storage;

	if (!s || !dev || storage_device_index(s, dev) < STORAGE_DEVICES_MAX)
		return;
	if (show_device(s, dev, name)) {
		s->disks_read_ns = 0; /* what the kernel had counted by now */
		storage_read_disks(s, clock_ns(CLOCK_MONOTONIC));
	}
}

/* The disk that a file system's device lies on, by the name it is shown under; "" if unknown. */
static const char *disk_of(const struct storage *s, uint32_t dev)
{
	char path[64], target[256];
	uint32_t i = storage_device_index(s, dev);
	ssize_t len;

	if (i < STORAGE_DEVICES_MAX)
		return s->devices[i].name;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", dev >> 20, dev & 0xfffff);
	len = dev ? readlink(path, target, sizeof(target) - 1) : 0;
	if (len <= 0)
		return "";
	target[len] = '\0';
	/* ".../block/vda/vda1": the disk is the part before the partition. */
	for (i = 0; i < s->n_devices; i++) {
		char part[STORAGE_DISK_NAME_MAX + 2];

		snprintf(part, sizeof(part), "/%s/", s->devices[i].name);
		if (strstr(target, part))
			return s->devices[i].name;
	}
	return "";
}

/* ---- slow waits ------------------------------------------------------------------------------ */

static void on_block_event(void *arg, const struct storage_event *e)
{
	struct storage *s = arg;

	s->slow[STORAGE_LAYER_BLOCK]++;
	s->recent[s->n_recent++ % STORAGE_RECENT_MAX] = *e;
}

/* Time of slow requests of that disk within the wait, flushes and others. The device's flush and
 * the caller's wait for it are one thing, so the longer of the two stands for both. */
static void lay_over(const struct storage *s, struct storage_slow_event *slow)
{
	uint32_t n = s->n_recent < STORAGE_RECENT_MAX ? s->n_recent : STORAGE_RECENT_MAX;

	for (uint32_t i = 0; i < n; i++) {
		const struct storage_event *e = &s->recent[i];
		uint64_t ns = storage_overlap(slow->start_ns, slow->end_ns, e->start_ns, e->end_ns);
		bool flush = e->what == STORAGE_OP_FLUSH || e->what == STORAGE_OP_FLUSH_WAIT;
		uint64_t *longest = flush ? &slow->flush_ns : &slow->device_ns;
		const char *disk = storage_device_name(s, storage_device_index(s, e->dev));

		if (slow->device[0] && strcmp(slow->device, disk) == 0 && ns > *longest)
			*longest = ns;
	}
}

static void on_sync_event(void *arg, const struct storage_event *e)
{
	static const char *const calls[STORAGE_CALLS] = {"fsync", "fdatasync"};
	struct storage *s = arg;
	struct storage_node *n = e->owner < STORAGE_NODES_MAX ? s->nodes[e->owner] : NULL;
	struct storage_slow_event slow = {
		.valid = e->valid == 1,
		.sampled = e->valid == 1 && (e->trace_flags & 1),
		.tid = e->tid,
		.tgid = e->tgid,
		.start_ns = e->start_ns,
		.end_ns = e->end_ns,
		.start_unix_ns = e->start_ns + (uint64_t)s->mono_to_unix_ns,
		.end_unix_ns = e->end_ns + (uint64_t)s->mono_to_unix_ns,
		.call = calls[e->what % STORAGE_CALLS],
		.hook = probe_hook_name(probe_hook_used(s->probes[PROBE_SYNC])),
		.device = disk_of(s, e->dev),
		.result = e->result,
	};

	s->slow[STORAGE_LAYER_SYNC]++;
	if (!n)
		return;
	memcpy(slow.trace_id, e->trace_id, sizeof(slow.trace_id));
	memcpy(slow.span_id, e->span_id, sizeof(slow.span_id));
	lay_over(s, &slow);
	storage_node_slow(n, &slow, (enum storage_call)(e->what % STORAGE_CALLS));
}

/* Requests first: what they overlap comes after them. */
void storage_drain(struct storage *s)
{
	s->mono_to_unix_ns = (int64_t)(clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC));
	if (s->probes[PROBE_BLOCK])
		probe_drain(s->probes[PROBE_BLOCK], on_block_event, s);
	if (s->probes[PROBE_SYNC])
		probe_drain(s->probes[PROBE_SYNC], on_sync_event, s);
}

static void on_ring(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	storage_drain(arg);
}

/* On the half seconds on which idle targets tick as well: no wake-up of its own. */
static void arm(struct storage *s)
{
	const uint64_t period_us = STORAGE_DRAIN_MS * UINT64_C(1000);
	uint64_t us = period_us - clock_ns(CLOCK_MONOTONIC) / 1000 % period_us;
	struct timeval after = {.tv_sec = (time_t)(us / 1000000),
				.tv_usec = (suseconds_t)(us % 1000000)};

	evtimer_add(s->timer, &after);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	storage_drain(arg);
	arm(arg);
}

int storage_start(struct storage *s, struct event_base *base)
{
	if (!s->options.slow_io_ms || (!s->probes[PROBE_BLOCK] && !s->probes[PROBE_SYNC]))
		return 0;
	s->timer = evtimer_new(base, on_timer, s);
	if (!s->timer)
		return -ENOMEM;
	arm(s);
	for (int kind = 0; kind < PROBE_KINDS; kind++) {
		if (!s->probes[kind])
			continue;
		s->rings[kind] = event_new(base, probe_ring_fd(s->probes[kind]),
					   EV_READ | EV_PERSIST, on_ring, s);
		if (!s->rings[kind] || event_add(s->rings[kind], NULL) < 0)
			return -ENOMEM;
	}
	return 0;
}
