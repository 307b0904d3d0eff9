/* agent/input/self.c - see self.h. */
#include "agent/input/self.h"

#include "agent/input/registration.h"

#include "agent/input/host_parse.h"
#include "agent/input/proc_file.h"
#include "shm/layout.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SELF_MAX_AGE_NS UINT64_C(1000000000)
enum { SELF_FDS_MAX = 65536, SELF_LANE_STATES = 3 };

static const char *const lane_states[SELF_LANE_STATES] = {"unused", "free", "owned"};
static const char *const drop_kinds[BLIX_DROP_KINDS] = {"span", "log"};
static const char *const drop_reasons[SELF_DROP_REASONS] = {
	"full",	      "shed",	 "too_big",  "reentrant",    "contended",
	"open_limit", "corrupt", "disabled", "rate_limited",
};

struct self {
	uint64_t start_unix_ns;
	uint64_t page_bytes;
	struct proc_file stat;

	/* read from /proc/self */
	uint64_t read_ns; /* 0 = never */
	bool known;
	uint64_t resident_bytes, virtual_bytes, open_fds;

	/* series */
	uint32_t node_up, node_states[TARGET_NODES], file_states[TARGET_FILES];
	uint32_t heartbeat, start, cpu_wait;
	uint32_t corrupt, quarantined, regressions, overflow, incarnations, orphans;
	uint32_t lanes[SELF_LANE_STATES], records[DRAIN_KINDS], used_ratio, listen_up, log_dropped;
	uint32_t sampling_ratio;
	uint32_t dropped[BLIX_DROP_KINDS][SELF_DROP_REASONS];
	uint32_t cpu, resident, address_space, process_start, fds, fds_max;

	/* series whose labels are only known later; they move with what they say */
	uint32_t build_family, info_family;
	uint32_t build, info;
	bool has_build, has_info;
	char build_version[64];
	char info_version[64];
	uint64_t info_node_id;
};

/* When this process started, by the wall clock of now. */
static uint64_t start_unix_ns(struct self *self)
{
	struct host_process process;
	struct timespec real, boot;
	long ticks = sysconf(_SC_CLK_TCK);
	char text[1024];
	ssize_t n = proc_file_read(&self->stat, text, sizeof(text));
	uint64_t real_ns, boot_ns, age_ns = 0;

	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	real_ns = (uint64_t)real.tv_sec * 1000000000u + (uint64_t)real.tv_nsec;
	boot_ns = (uint64_t)boot.tv_sec * 1000000000u + (uint64_t)boot.tv_nsec;
	if (n > 0 && ticks > 0 && host_parse_process(text, (size_t)n, &process) == 0) {
		uint64_t born_ns = process.start_ticks * (1000000000u / (uint64_t)ticks);

		age_ns = born_ns < boot_ns ? boot_ns - born_ns : 0;
	}
	return real_ns - age_ns;
}

struct self *self_new(void)
{
	struct self *self = calloc(1, sizeof(*self));
	long page = sysconf(_SC_PAGESIZE);

	if (!self)
		return NULL;
	self->page_bytes = page > 0 ? (uint64_t)page : 4096;
	self->stat = (struct proc_file)PROC_FILE("/proc/self/stat");
	self->start_unix_ns = start_unix_ns(self);
	return self;
}

struct self *self_free(struct self *self)
{
	if (!self)
		return NULL;
	proc_file_close(&self->stat);
	free(self);
	return NULL;
}

/* ---- families -------------------------------------------------------------------------------- */

static uint32_t labelled(struct registration *r, uint32_t slot, const struct snapshot_label *labels,
			 uint32_t n_labels)
{
	return registration_series(r, registration_family(r, slot), labels, n_labels);
}

static uint32_t plain(struct registration *r, uint32_t slot)
{
	return labelled(r, slot, NULL, 0);
}

static uint32_t one(struct registration *r, uint32_t slot, const char *key, const char *value)
{
	return labelled(r, slot, &(struct snapshot_label){key, value}, 1);
}

static void register_node(struct self *self, struct registration *r)
{
	self->node_up = plain(r, BLIX_node_up);
	for (int i = 0; i < TARGET_NODES; i++)
		self->node_states[i] =
			one(r, BLIX_node_state, "state", target_node_name((enum target_node)i));
	self->info_family = registration_family(r, BLIX_node_info);
	self->heartbeat = plain(r, BLIX_node_heartbeat_timestamp_seconds);
	self->start = plain(r, BLIX_node_start_time_seconds);
	self->cpu_wait = plain(r, BLIX_node_cpu_wait_seconds_total);
}

static void register_rings(struct self *self, struct registration *r)
{
	for (int i = 0; i < DRAIN_KINDS; i++)
		self->records[i] = one(r, BLIX_agent_ring_records_total, "kind",
				       drain_kind_name((enum drain_kind)i));
	for (int kind = 0; kind < BLIX_DROP_KINDS; kind++)
		for (int i = 0; i < SELF_DROP_REASONS; i++) {
			const struct snapshot_label labels[] = {{"kind", drop_kinds[kind]},
								{"reason", drop_reasons[i]}};

			self->dropped[kind][i] =
				labelled(r, BLIX_agent_ring_dropped_total, labels, 2);
		}
	self->used_ratio = plain(r, BLIX_agent_ring_used_ratio);
}

static void register_input(struct self *self, struct registration *r)
{
	self->build_family = registration_family(r, BLIX_agent_build_info);
	for (int i = 0; i < TARGET_FILES; i++)
		self->file_states[i] = one(r, BLIX_agent_shm_state, "state",
					   target_file_name((enum target_file)i));
	self->corrupt = plain(r, BLIX_agent_shm_corrupt_records_total);
	self->quarantined = plain(r, BLIX_agent_shm_quarantined_lanes);
	self->regressions = plain(r, BLIX_agent_value_regressions_total);
	self->overflow = plain(r, BLIX_agent_series_overflow_total);
	for (int i = 0; i < SELF_LANE_STATES; i++)
		self->lanes[i] = one(r, BLIX_agent_lanes, "state", lane_states[i]);
	self->incarnations = plain(r, BLIX_agent_incarnations_total);
	self->orphans = plain(r, BLIX_agent_orphans_pending);
	register_rings(self, r);
	self->listen_up = plain(r, BLIX_agent_listen_up);
	self->log_dropped = plain(r, BLIX_agent_log_lines_dropped_total);
	self->sampling_ratio = plain(r, BLIX_agent_sampling_ratio);
}

static void register_process(struct self *self, struct registration *r)
{
	self->cpu = plain(r, BLIX_process_cpu_seconds_total);
	self->resident = plain(r, BLIX_process_resident_memory_bytes);
	self->address_space = plain(r, BLIX_process_virtual_memory_bytes);
	self->process_start = plain(r, BLIX_process_start_time_seconds);
	self->fds = plain(r, BLIX_process_open_fds);
	self->fds_max = plain(r, BLIX_process_max_fds);
}

int self_register(struct self *self, struct snapshot *s)
{
	struct registration r = {.s = s, .start_unix_ns = self->start_unix_ns};

	self->has_build = false;
	self->has_info = false;
	register_node(self, &r);
	register_input(self, &r);
	register_process(self, &r);
	return r.error;
}

/* ---- values ---------------------------------------------------------------------------------- */

static double seconds(uint64_t ns)
{
	return (double)(ns / 1000000000u) + (double)(ns % 1000000000u) * 1e-9;
}

static int64_t clamp_i64(uint64_t value)
{
	return value < INT64_MAX ? (int64_t)value : INT64_MAX;
}

static uint64_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint64_t n = 0;

	if (!dir)
		return 0;
	for (const struct dirent *e; n < SELF_FDS_MAX && (e = readdir(dir));)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n > 0 ? n - 1 : 0; /* not the one that is being read */
}

static void read_process(struct self *self)
{
	struct host_process process;
	char text[1024];
	ssize_t n = proc_file_read(&self->stat, text, sizeof(text));

	self->known = n > 0 && host_parse_process(text, (size_t)n, &process) == 0;
	if (!self->known)
		return;
	self->resident_bytes = process.resident_pages * self->page_bytes;
	self->virtual_bytes = process.virtual_bytes;
	self->open_fds = count_fds();
}

static void set_process(struct self *self, struct snapshot *s)
{
	struct timespec cpu;
	struct rlimit limit;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	snapshot_set_u64(s, self->cpu, (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec);
	snapshot_set_i64(s, self->resident, clamp_i64(self->resident_bytes));
	snapshot_set_i64(s, self->address_space, clamp_i64(self->virtual_bytes));
	snapshot_set_i64(s, self->fds, clamp_i64(self->open_fds));
	snapshot_hide_series(s, self->resident, !self->known);
	snapshot_hide_series(s, self->address_space, !self->known);
	snapshot_hide_series(s, self->fds, !self->known);
	snapshot_set_f64(s, self->process_start, seconds(self->start_unix_ns));
	getrlimit(RLIMIT_NOFILE, &limit);
	snapshot_set_i64(s, self->fds_max, clamp_i64(limit.rlim_cur));
}

static void copy_text(char *to, size_t size, const char *from)
{
	size_t len = strnlen(from ? from : "", size - 1);

	memcpy(to, from ? from : "", len);
	to[len] = '\0';
}

/* The series "constant 1": one whose labels say something new is another series. */
static void set_build(struct self *self, struct snapshot *s, const char *version)
{
	char text[sizeof(self->build_version)], abi[16];

	copy_text(text, sizeof(text), version);
	if (self->has_build && strcmp(text, self->build_version) == 0)
		return;
	if (self->has_build)
		snapshot_hide_series(s, self->build, true);
	snprintf(abi, sizeof(abi), "%d.%d", BLIX_ABI_MAJOR, BLIX_ABI_MINOR);
	const struct snapshot_label labels[] = {{"version", text}, {"abi", abi}};
	self->has_build =
		snapshot_series(s, self->build_family, labels, 2, false, false, &self->build) == 0;
	if (!self->has_build)
		return;
	strcpy(self->build_version, text);
	snapshot_hide_series(s, self->build, false);
	snapshot_set_i64(s, self->build, 1);
}

static void set_info(struct self *self, struct snapshot *s, const struct self_facts *facts)
{
	char text[sizeof(self->info_version)], id[24];

	copy_text(text, sizeof(text), facts->node_known ? facts->node_version : NULL);
	if (self->has_info && facts->node_known && self->info_node_id == facts->node_id &&
	    strcmp(text, self->info_version) == 0)
		return;
	if (self->has_info)
		snapshot_hide_series(s, self->info, true);
	self->has_info = false;
	if (!facts->node_known)
		return;
	snprintf(id, sizeof(id), "%llu", (unsigned long long)facts->node_id);
	const struct snapshot_label labels[] = {{"node_id", id}, {"version", text}};
	if (snapshot_series(s, self->info_family, labels, 2, false, false, &self->info) < 0)
		return;
	self->has_info = true;
	self->info_node_id = facts->node_id;
	strcpy(self->info_version, text);
	snapshot_hide_series(s, self->info, false);
	snapshot_set_i64(s, self->info, 1);
}

static void set_node(struct self *self, struct snapshot *s, const struct self_facts *facts)
{
	snapshot_set_i64(s, self->node_up, facts->node_up);
	for (int i = 0; i < TARGET_NODES; i++)
		snapshot_set_i64(s, self->node_states[i], facts->node == (enum target_node)i);
	set_info(self, s, facts);
	snapshot_set_f64(s, self->heartbeat, seconds(facts->heartbeat_unix_ns));
	snapshot_hide_series(s, self->heartbeat, !facts->node_known);
	snapshot_set_f64(s, self->start, seconds(facts->start_unix_ns));
	snapshot_hide_series(s, self->start, !facts->node_known);
	snapshot_set_u64(s, self->cpu_wait, facts->cpu_wait_ns);
	snapshot_hide_series(s, self->cpu_wait, !facts->cpu_wait_known);
}

static void set_input(struct self *self, struct snapshot *s, const struct self_facts *facts)
{
	const uint32_t lanes[SELF_LANE_STATES] = {facts->lanes.never, facts->lanes.free,
						  facts->lanes.owned};

	for (int i = 0; i < TARGET_FILES; i++)
		snapshot_set_i64(s, self->file_states[i], facts->file == (enum target_file)i);
	snapshot_set_u64(s, self->corrupt, facts->totals.corrupt);
	snapshot_set_i64(s, self->quarantined, facts->quarantined_lanes);
	snapshot_set_u64(s, self->regressions, facts->regressions);
	snapshot_set_u64(s, self->overflow, facts->series_overflow);
	for (int i = 0; i < SELF_LANE_STATES; i++) {
		snapshot_set_i64(s, self->lanes[i], lanes[i]);
		snapshot_hide_series(s, self->lanes[i], !facts->file_attached);
	}
	snapshot_set_u64(s, self->incarnations, facts->incarnations);
	snapshot_set_i64(s, self->orphans, facts->orphans);
	snapshot_hide_series(s, self->orphans, !facts->orphans_known);
	snapshot_set_i64(s, self->listen_up, facts->listen_up);
	snapshot_set_u64(s, self->log_dropped, facts->log_lines_dropped);
	snapshot_set_f64(s, self->sampling_ratio, facts->sampling_ratio);
	snapshot_hide_series(s, self->sampling_ratio, !facts->sampling_set);
}

static void set_rings(struct self *self, struct snapshot *s, const struct self_facts *facts)
{
	for (int i = 0; i < DRAIN_KINDS; i++)
		snapshot_set_u64(s, self->records[i], facts->totals.records[i]);
	for (int kind = 0; kind < BLIX_DROP_KINDS; kind++)
		for (int i = 0; i < SELF_DROP_REASONS; i++)
			snapshot_set_u64(s, self->dropped[kind][i], facts->dropped[kind][i]);
	snapshot_set_f64(s, self->used_ratio, facts->ring_used_ratio);
}

void self_collect(struct self *self, struct snapshot *s, const struct self_facts *facts,
		  uint64_t now_ns)
{
	if (self->read_ns == 0 || now_ns - self->read_ns >= SELF_MAX_AGE_NS) {
		read_process(self);
		self->read_ns = now_ns;
	}
	set_node(self, s, facts);
	set_build(self, s, facts->agent_version);
	set_input(self, s, facts);
	set_rings(self, s, facts);
	set_process(self, s);
}
