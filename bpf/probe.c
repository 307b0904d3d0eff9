/* bpf/probe.c - see probe.h. */
#include "bpf/probe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[PROBE_KINDS] = {"block", "sync"};
static const char *const hook_names[PROBE_HOOKS + 1] = {"fentry", "tracepoint", "ext4", "none"};

const char *probe_kind_name(enum probe_kind kind)
{
	return kind < PROBE_KINDS ? kind_names[kind] : "unknown";
}

const char *probe_hook_name(enum probe_hook hook)
{
	return hook_names[hook < PROBE_HOOKS ? hook : PROBE_HOOKS];
}

#ifdef BLIX_BPF

#include "shm/layout.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <block.skel.h>
#include <malloc.h>
#include <sync.skel.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	PROBE_CPUS_MAX = 1024,
	PROBE_PROGRAMS_MAX = 8,
	INIT_PIDNS_INO = 0xEFFFFFFC, /* PROC_PID_INIT_INO, include/linux/proc_ns.h */
};

/* What sync.bpf.c reads by numbers of its own. */
_Static_assert(offsetof(struct blix_lane, context) == 128, "LANE_CONTEXT_OFF");
_Static_assert(offsetof(struct blix_thread_context, owner_tid) == 28, "struct context");
_Static_assert(sizeof(struct storage_event) == 64, "both sides agree");

struct probe {
	enum probe_kind kind;
	enum probe_hook hook;
	struct block_bpf *block;
	struct sync_bpf *sync;
	struct bpf_object *object; /* of the one above */
	struct ring_buffer *ring;
	void *percpu; /* one value a CPU, rounded up to 8 bytes */
	uint32_t n_cpus;
	int procs_fd, counts_fd, series_fd;
	void (*each)(void *arg, const struct storage_event *event);
	void *each_arg;
};

bool probe_built(void)
{
	return true;
}

/* ---- reasons --------------------------------------------------------------------------------- */

/* libbpf explains itself on a callback without argument; probe_open() is not reentrant for it. */
static char last_warning[PROBE_REASON_MAX];

static int on_print(enum libbpf_print_level level, const char *format, va_list args)
{
	char line[PROBE_REASON_MAX];
	const char *text = line;
	size_t len;

	if (level != LIBBPF_WARN)
		return 0;
	vsnprintf(line, sizeof(line), format, args);
	if (!strncmp(text, "libbpf: ", 8))
		text += 8;
	len = strcspn(text, "\n");
	/* Consequences of the first cause, and a remedy that is no longer one. */
	if (last_warning[0] &&
	    (strstr(text, "failed to load object") || strstr(text, "failed to load BPF skeleton") ||
	     strstr(text, "failed to auto-attach")))
		return 0;
	if (len && !strstr(text, "BEGIN PROG LOAD LOG") && !strstr(text, "ulimit -l"))
		snprintf(last_warning, sizeof(last_warning), "%.*s", (int)len, text);
	return 0;
}

static const char *remedy(int err, bool attaching)
{
	switch (err) {
	case -EPERM:
		return "; the agent needs CAP_BPF and CAP_PERFMON, and a kernel that lets them "
		       "load it (lockdown, kernel.unprivileged_bpf_disabled)";
	case -EACCES:
		return attaching ? "; /sys/kernel/tracing must be mounted and readable "
				   "(CAP_DAC_READ_SEARCH while starting)"
				 : "; the kernel's verifier or a security module refuses it";
	case -ENOENT:
		if (attaching)
			return "; is tracefs mounted at /sys/kernel/tracing?";
		/* fall through */
	case -ESRCH:
		return "; this kernel does not have it";
	default:
		return "";
	}
}

static void explain(char reason[PROBE_REASON_MAX], const char *stage, int err)
{
	char detail[PROBE_REASON_MAX];

	snprintf(detail, sizeof(detail), "%s", last_warning);
	snprintf(reason, PROBE_REASON_MAX, "%s: %s%s%.180s%s%.180s", stage, strerror(-err),
		 detail[0] ? " (" : "", detail, detail[0] ? ")" : "",
		 remedy(err, !strcmp(stage, "attach")));
}

/* ---- what the kernel has --------------------------------------------------------------------- */

struct kernel {
	bool has_io_start;
	bool issue_has_queue;
};

/* Arguments of a tracepoint, the leading `void *data` included; -ENOENT: no such tracepoint. */
static int tracepoint_args(const struct btf *btf, const char *name)
{
	char type[64];
	const struct btf_type *t;
	int id;

	snprintf(type, sizeof(type), "btf_trace_%s", name);
	id = btf__find_by_name_kind(btf, type, BTF_KIND_TYPEDEF);
	if (id < 0)
		return -ENOENT;
	t = btf__type_by_id(btf, btf__type_by_id(btf, (uint32_t)id)->type);
	if (!t || !btf_is_ptr(t))
		return -ENOENT;
	t = btf__type_by_id(btf, t->type);
	return t && btf_is_func_proto(t) ? btf_vlen(t) : -ENOENT;
}

static int look_at_kernel(const char *btf_path, struct kernel *ret_kernel)
{
	struct btf *btf = btf_path ? btf__parse(btf_path, NULL) : btf__load_vmlinux_btf();

	if (!btf) {
		snprintf(last_warning, sizeof(last_warning),
			 "no BTF of the kernel at %s: it needs CONFIG_DEBUG_INFO_BTF, Linux 5.8",
			 btf_path ? btf_path : "/sys/kernel/btf/vmlinux");
		return -ENOENT;
	}
	/* (data, rq) now, (data, queue, rq) before 5.11; stable kernels changed in between. */
	ret_kernel->issue_has_queue = tracepoint_args(btf, "block_rq_issue") == 3;
	ret_kernel->has_io_start = tracepoint_args(btf, "block_io_start") > 0;
	btf__free(btf);
	return 0;
}

/* The namespace whose numbers gettid() speaks, where that is not the first one. */
static void find_pidns(volatile const uint64_t *dev, volatile const uint64_t *ino)
{
	struct stat st;

	if (stat("/proc/self/ns/pid", &st) < 0 || (uint32_t)st.st_ino == INIT_PIDNS_INO)
		return;
	/* The helper compares with the kernel's own encoding of a device number. */
	*(volatile uint64_t *)(uintptr_t)dev = st.st_dev;
	*(volatile uint64_t *)(uintptr_t)ino = st.st_ino;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int on_event(void *arg, void *data, size_t size)
{
	struct probe *p = arg;
	struct storage_event event;

	if (size < sizeof(event))
		return 0;
	memcpy(&event, data, sizeof(event));
	if (p->each)
		p->each(p->each_arg, &event);
	return 0;
}

static int prepare_block(struct probe *p, const struct probe_options *options)
{
	struct kernel kernel = {0};
	int err = look_at_kernel(options->btf_path, &kernel);
	LIBBPF_OPTS(bpf_object_open_opts, open, .btf_custom_path = options->btf_path);

	if (err)
		return err;
	p->block = block_bpf__open_opts(&open);
	if (!p->block)
		return -errno;
	p->object = p->block->obj;
	p->block->rodata->slow_ns = options->slow_ns;
	p->block->rodata->issue_has_queue = kernel.issue_has_queue;
	p->block->rodata->has_io_start = kernel.has_io_start && !options->no_io_start;
	p->block->rodata->has_task_btf =
		!options->no_task_storage &&
		libbpf_probe_bpf_helper(BPF_PROG_TYPE_TRACING, BPF_FUNC_get_current_task_btf,
					NULL) == 1;
	find_pidns(&p->block->rodata->pidns_dev, &p->block->rodata->pidns_ino);
	bpf_program__set_autoload(p->block->progs.io_start, p->block->rodata->has_io_start);
	return 0;
}

static int prepare_sync(struct probe *p, const struct probe_options *options)
{
	struct bpf_program *program;
	bool storage;
	LIBBPF_OPTS(bpf_object_open_opts, open, .btf_custom_path = options->btf_path);
	static const char *const prefixes[PROBE_HOOKS][2] = {
		{"fentry/", "fexit/"}, {"tp/", "tp/"}, {"tp_btf/", "tp_btf/"}};

	p->sync = sync_bpf__open_opts(&open);
	if (!p->sync)
		return -errno;
	p->object = p->sync->obj;
	storage = !options->no_task_storage &&
		  libbpf_probe_bpf_map_type(BPF_MAP_TYPE_TASK_STORAGE, NULL) == 1;
	p->sync->rodata->slow_ns = options->slow_ns;
	p->sync->rodata->has_task_storage = storage;
	find_pidns(&p->sync->rodata->pidns_dev, &p->sync->rodata->pidns_ino);
	bpf_map__set_autocreate(p->sync->maps.task_starts, storage);
	bpf_map__set_autocreate(p->sync->maps.tid_starts, !storage);
	bpf_object__for_each_program(program, p->object)
	{
		const char *section = bpf_program__section_name(program);
		const char *const *mine = prefixes[p->hook];
		bool wanted = !strncmp(section, mine[0], strlen(mine[0])) ||
			      !strncmp(section, mine[1], strlen(mine[1]));

		bpf_program__set_autoload(program, wanted);
	}
	return 0;
}

static int fd_of(const struct probe *p, const char *map)
{
	return bpf_object__find_map_fd_by_name(p->object, map);
}

/* Room to read one value of every CPU, and the ring. */
static int set_up_reading(struct probe *p)
{
	int n_cpus = libbpf_num_possible_cpus();

	if (n_cpus <= 0 || n_cpus > PROBE_CPUS_MAX)
		return -E2BIG;
	p->n_cpus = (uint32_t)n_cpus;
	p->procs_fd = fd_of(p, "procs");
	p->counts_fd = fd_of(p, "counts");
	p->series_fd = fd_of(p, "series");
	p->percpu = calloc(p->n_cpus, sizeof(struct storage_block_cells));
	p->ring = ring_buffer__new(fd_of(p, "slow"), on_event, p, NULL);
	return !p->percpu ? -ENOMEM : p->ring ? 0 : -errno;
}

static int try_hook(enum probe_kind kind, enum probe_hook hook, const struct probe_options *options,
		    struct probe **ret_probe, char reason[PROBE_REASON_MAX])
{
	struct probe *p = calloc(1, sizeof(*p));
	const char *stage = "load";
	int err = p ? 0 : -ENOMEM;

	last_warning[0] = '\0';
	if (!err) {
		p->kind = kind;
		p->hook = hook;
		err = kind == PROBE_BLOCK ? prepare_block(p, options) : prepare_sync(p, options);
	}
	if (!err)
		err = bpf_object__load_skeleton(kind == PROBE_BLOCK ? p->block->skeleton
								    : p->sync->skeleton);
	if (!err) {
		err = set_up_reading(p);
		stage = "attach";
	}
	if (!err)
		err = bpf_object__attach_skeleton(kind == PROBE_BLOCK ? p->block->skeleton
								      : p->sync->skeleton);
	if (err) {
		explain(reason, stage, err);
		probe_close(p);
		return err;
	}
	*ret_probe = p;
	return 0;
}

static void say(void (*note)(void *arg, const char *line), void *arg, enum probe_kind kind,
		enum probe_hook hook, const char *reason)
{
	char line[PROBE_REASON_MAX + 64];

	if (!note)
		return;
	snprintf(line, sizeof(line), "probe %s: hook %s passed over: %s", probe_kind_name(kind),
		 probe_hook_name(hook), reason);
	note(arg, line);
}

int probe_open(enum probe_kind kind, const struct probe_options *options,
	       void (*note)(void *arg, const char *line), void *arg, struct probe **ret_probe,
	       char reason[PROBE_REASON_MAX])
{
	libbpf_print_fn_t before = libbpf_set_print(on_print);
	int err = -ENOENT;

	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	snprintf(reason, PROBE_REASON_MAX, "every hook was left out");
	for (int hook = 0; hook < PROBE_HOOKS && err; hook++) {
		if (options->hooks_skipped & 1u << hook)
			continue;
		if (kind == PROBE_BLOCK && hook != PROBE_HOOK_TRACEPOINT)
			continue;
		err = try_hook(kind, (enum probe_hook)hook, options, ret_probe, reason);
		if (err && kind == PROBE_SYNC)
			say(note, arg, kind, (enum probe_hook)hook, reason);
	}
	libbpf_set_print(before);
	malloc_trim(0); /* the kernel's BTF was several megabytes */
	return err;
}

struct probe *probe_close(struct probe *p)
{
	if (!p)
		return NULL;
	ring_buffer__free(p->ring);
	block_bpf__destroy(p->block);
	sync_bpf__destroy(p->sync);
	free(p->percpu);
	free(p);
	return NULL;
}

enum probe_hook probe_hook_used(const struct probe *p)
{
	return p->hook;
}

/* ---- what to watch --------------------------------------------------------------------------- */

static int set(int fd, const void *key, const void *value)
{
	return bpf_map_update_elem(fd, key, value, BPF_ANY) < 0 ? -errno : 0;
}

static int unset(int fd, const void *key)
{
	return bpf_map_delete_elem(fd, key) < 0 ? -errno : 0;
}

int probe_add_process(struct probe *p, uint32_t tgid, const struct storage_proc *proc)
{
	if (proc->slot >= STORAGE_NODES_MAX)
		return -EINVAL;
	return set(p->procs_fd, &tgid, proc);
}

int probe_remove_process(struct probe *p, uint32_t tgid)
{
	return unset(p->procs_fd, &tgid);
}

int probe_add_device(struct probe *p, uint32_t dev, bool shown)
{
	const uint32_t value = shown;

	return p->block ? set(bpf_map__fd(p->block->maps.devices), &dev, &value) : -EINVAL;
}

int probe_show_others(struct probe *p)
{
	if (!p->block)
		return -EINVAL;
	p->block->bss->others_shown = 1;
	return 0;
}

int probe_remove_device(struct probe *p, uint32_t dev)
{
	return p->block ? unset(bpf_map__fd(p->block->maps.devices), &dev) : -EINVAL;
}

int probe_add_cgroup(struct probe *p, uint64_t id, uint32_t level, uint32_t slot)
{
	int err;

	if (!p->block || slot >= STORAGE_NODES_MAX || !level)
		return -EINVAL;
	err = set(bpf_map__fd(p->block->maps.cgroups), &id, &slot);
	if (!err)
		p->block->bss->cgroup_level = level;
	return err;
}

int probe_remove_cgroup(struct probe *p, uint64_t id)
{
	return p->block ? unset(bpf_map__fd(p->block->maps.cgroups), &id) : -EINVAL;
}

/* ---- what was seen --------------------------------------------------------------------------- */

/* Values of all CPUs lie one after the other, each a whole number of u64; add them up. */
static int read_sum(struct probe *p, int fd, const void *key, uint64_t *ret_words, size_t n_words)
{
	const uint64_t *words = p->percpu;

	if (bpf_map_lookup_elem(fd, key, p->percpu) < 0)
		return -errno;
	memset(ret_words, 0, n_words * sizeof(*ret_words));
	for (uint32_t cpu = 0; cpu < p->n_cpus; cpu++, words += n_words)
		for (size_t i = 0; i < n_words; i++)
			ret_words[i] += words[i];
	return 0;
}

int probe_read_block(struct probe *p,
		     void (*each)(void *arg, const struct storage_block_key *key,
				  const struct storage_block_cells *cells),
		     void *arg)
{
	struct storage_block_key key, next;
	struct storage_block_cells cells;
	const void *from = NULL;

	if (p->kind != PROBE_BLOCK)
		return -EINVAL;
	/* Entries are never deleted, so no walk starts over. */
	for (uint32_t i = 0; i < STORAGE_SERIES_MAX; i++) {
		if (bpf_map_get_next_key(p->series_fd, from, &next) < 0)
			return errno == ENOENT ? 0 : -errno;
		key = next;
		from = &key;
		if (read_sum(p, p->series_fd, &key, (uint64_t *)(void *)&cells,
			     sizeof(cells) / 8) == 0)
			each(arg, &key, &cells);
	}
	return 0;
}

int probe_read_sync(struct probe *p, uint32_t slot, enum storage_call call,
		    struct storage_sync_cells *ret_cells)
{
	uint32_t index = slot * STORAGE_CALLS + (uint32_t)call;

	if (p->kind != PROBE_SYNC || slot >= STORAGE_NODES_MAX || call >= STORAGE_CALLS)
		return -EINVAL;
	return read_sum(p, p->series_fd, &index, (uint64_t *)(void *)ret_cells,
			sizeof(*ret_cells) / 8);
}

int probe_read_counts(struct probe *p, uint64_t ret_counts[STORAGE_COUNTS])
{
	int err = 0;

	for (uint32_t i = 0; i < STORAGE_COUNTS && !err; i++)
		err = read_sum(p, p->counts_fd, &i, &ret_counts[i], 1);
	return err;
}

int probe_drain(struct probe *p, void (*each)(void *arg, const struct storage_event *event),
		void *arg)
{
	int n;

	p->each = each;
	p->each_arg = arg;
	/* Not ring_buffer__poll(): on a timeout it leaves events that came without a wake-up. */
	n = ring_buffer__consume(p->ring);
	p->each = NULL;
	return n;
}

int probe_ring_fd(const struct probe *p)
{
	return ring_buffer__epoll_fd(p->ring);
}

int probe_cost(const struct probe *p, struct probe_cost *ret_cost)
{
	struct probe_cost cost = {0};
	struct bpf_program *program;

	bpf_object__for_each_program(program, p->object)
	{
		struct bpf_prog_info info = {0};
		uint32_t len = sizeof(info);
		int fd = bpf_program__fd(program);

		if (fd < 0)
			continue;
		if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
			return -errno;
		cost.runs += info.run_cnt;
		cost.run_ns += info.run_time_ns;
	}
	*ret_cost = cost;
	return 0;
}

int probe_stats_fd(void)
{
	int fd = bpf_enable_stats(BPF_STATS_RUN_TIME);

	return fd < 0 ? -errno : fd;
}

#else /* !BLIX_BPF: clang, bpftool or libbpf was missing when this was built */

bool probe_built(void)
{
	return false;
}

int probe_open(enum probe_kind kind, const struct probe_options *options,
	       void (*note)(void *arg, const char *line), void *arg, struct probe **ret_probe,
	       char reason[PROBE_REASON_MAX])
{
	(void)kind, (void)options, (void)note, (void)arg, (void)ret_probe;
	snprintf(reason, PROBE_REASON_MAX,
		 "this agent was built without probes: clang, bpftool or libbpf-dev was missing");
	return -ENOSYS;
}

struct probe *probe_close(struct probe *p)
{
	(void)p;
	return NULL;
}

/* Nobody can hold a probe in this build, so nobody can call the rest. */
enum probe_hook probe_hook_used(const struct probe *p)
{
	(void)p;
	return PROBE_HOOKS;
}

int probe_add_process(struct probe *p, uint32_t tgid, const struct storage_proc *proc)
{
	(void)p, (void)tgid, (void)proc;
	return -ENOSYS;
}

int probe_remove_process(struct probe *p, uint32_t tgid)
{
	(void)p, (void)tgid;
	return -ENOSYS;
}

int probe_add_device(struct probe *p, uint32_t dev, bool shown)
{
	(void)p, (void)dev, (void)shown;
	return -ENOSYS;
}

int probe_show_others(struct probe *p)
{
	(void)p;
	return -ENOSYS;
}

int probe_remove_device(struct probe *p, uint32_t dev)
{
	(void)p, (void)dev;
	return -ENOSYS;
}

int probe_add_cgroup(struct probe *p, uint64_t id, uint32_t level, uint32_t slot)
{
	(void)p, (void)id, (void)level, (void)slot;
	return -ENOSYS;
}

int probe_remove_cgroup(struct probe *p, uint64_t id)
{
	(void)p, (void)id;
	return -ENOSYS;
}

int probe_read_block(struct probe *p,
		     void (*each)(void *arg, const struct storage_block_key *key,
				  const struct storage_block_cells *cells),
		     void *arg)
{
	(void)p, (void)each, (void)arg;
	return -ENOSYS;
}

int probe_read_sync(struct probe *p, uint32_t slot, enum storage_call call,
		    struct storage_sync_cells *ret_cells)
{
	(void)p, (void)slot, (void)call, (void)ret_cells;
	return -ENOSYS;
}

int probe_read_counts(struct probe *p, uint64_t ret_counts[STORAGE_COUNTS])
{
	(void)p, (void)ret_counts;
	return -ENOSYS;
}

int probe_drain(struct probe *p, void (*each)(void *arg, const struct storage_event *event),
		void *arg)
{
	(void)p, (void)each, (void)arg;
	return -ENOSYS;
}

int probe_ring_fd(const struct probe *p)
{
	(void)p;
	return -1;
}

int probe_cost(const struct probe *p, struct probe_cost *ret_cost)
{
	(void)p, (void)ret_cost;
	return -ENOSYS;
}

int probe_stats_fd(void)
{
	return -ENOSYS;
}

#endif
