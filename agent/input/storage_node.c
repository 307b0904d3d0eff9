/* agent/input/storage_node.c - the storage families of one target. See storage.h. */
#include "agent/input/storage_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const op_names[STORAGE_OPS] = {"read",	"write",   "flush",
						  "flush_wait", "discard", "other"};
static const char *const origin_names[STORAGE_ORIGINS] = {"node", "vm", "kernel", "other",
							  "unknown"};
static const char *const call_names[STORAGE_CALLS] = {"fsync", "fdatasync"};
static const char *const layer_names[STORAGE_LAYERS] = {"block", "sync"};

/* ---- whom to follow -------------------------------------------------------------------------- */

struct storage_node *storage_node_new(struct storage *s,
				      void (*slow)(void *arg, const struct storage_slow_event *e),
				      void *arg)
{
	struct storage_node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->slow = slow;
	n->slow_arg = arg;
	n->slot = STORAGE_NODES_MAX;
	for (uint32_t i = 0; s && i < STORAGE_NODES_MAX && n->slot == STORAGE_NODES_MAX; i++)
		if (!s->nodes[i])
			n->slot = i;
	n->storage = s;
	if (n->slot < STORAGE_NODES_MAX)
		s->nodes[n->slot] = n;
	return n;
}

struct storage_node *storage_node_free(struct storage_node *n)
{
	if (!n)
		return NULL;
	storage_node_unfollow(n);
	if (n->slot < STORAGE_NODES_MAX)
		n->storage->nodes[n->slot] = NULL;
	free(n->rows);
	free(n);
	return NULL;
}

/* The node's unit: what runs in it beside the node are its VMs, also those it did not fork. */
static void follow_unit(struct storage_node *n, uint32_t tgid)
{
	static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	char path[64], text[4096], unit[512], full[640];
	struct proc_file file = PROC_FILE(path);
	uint32_t level = 0;
	struct stat st;
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%u/cgroup", tgid);
	len = proc_file_read(&file, text, sizeof(text));
	proc_file_close(&file);
	if (len <= 0 || storage_parse_cgroup(text, (size_t)len, unit, sizeof(unit), &level) < 0)
		return;
	for (size_t i = 0; i < 2; i++) {
		snprintf(full, sizeof(full), "%s/%s", roots[i], unit);
		/* The id of a cgroup is the number of its directory. */
		if (stat(full, &st) == 0 && probe_add_cgroup(n->storage->probes[PROBE_BLOCK],
							     st.st_ino, level, n->slot) == 0) {
			n->cgroup = st.st_ino;
			return;
		}
	}
}

int storage_node_follow(struct storage_node *n, uint32_t tgid, const struct storage_proc *lanes)
{
	struct storage_proc proc = *lanes;
	int err = -ENODEV;

	storage_node_unfollow(n);
	if (!n->storage)
		return -ENODEV;
	if (n->slot == STORAGE_NODES_MAX)
		return -ENOSPC;
	proc.slot = n->slot;
	for (int kind = 0; kind < PROBE_KINDS; kind++)
		if (n->storage->probes[kind])
			err = probe_add_process(n->storage->probes[kind], tgid, &proc);
	if (err < 0)
		return err;
	n->tgid = tgid;
	n->followed = true;
	if (n->storage->probes[PROBE_BLOCK])
		follow_unit(n, tgid);
	return 0;
}

void storage_node_unfollow(struct storage_node *n)
{
	if (!n || !n->tgid)
		return;
	storage_drain(n->storage); /* what it waited for last is still in the ring */
	for (int kind = 0; kind < PROBE_KINDS; kind++)
		if (n->storage->probes[kind])
			probe_remove_process(n->storage->probes[kind], n->tgid);
	if (n->cgroup)
		probe_remove_cgroup(n->storage->probes[PROBE_BLOCK], n->cgroup);
	n->cgroup = 0;
	n->tgid = 0;
}

/* ---- slow waits ------------------------------------------------------------------------------ */

void storage_node_slow(struct storage_node *n, const struct storage_slow_event *e,
		       enum storage_call call)
{
	uint64_t ns = e->end_ns - e->start_ns;

	n->slow_syncs++;
	if (e->valid)
		n->stamped++;
	else
		n->unstamped++;
	if (e->sampled) {
		struct snapshot_exemplar *to =
			&n->exemplars[call][blix_bpf_pow2_bucket(blix_bpf_cell(ns))];

		*to = (struct snapshot_exemplar){
			.set = true, .value = ns, .unix_ns = e->end_unix_ns};
		memcpy(to->trace_id, e->trace_id, sizeof(to->trace_id));
		memcpy(to->span_id, e->span_id, sizeof(to->span_id));
	}
	if (n->slow)
		n->slow(n->slow_arg, e);
}

void storage_node_catch_up(struct storage_node *n)
{
	if (n->storage)
		storage_drain(n->storage);
}

void storage_node_undelivered(struct storage_node *n, uint64_t items)
{
	n->undelivered = items;
}

/* ---- families -------------------------------------------------------------------------------- */

struct registration {
	struct storage_node *n;
	struct snapshot *s;
	int error; /* the first one */
};

static uint32_t family(struct registration *r, uint32_t slot)
{
	const struct blix_metric *row;
	uint32_t id = 0;
	int e = blix_metric_describe(slot, &row);

	if (e == 0)
		e = snapshot_family_of(r->s, row, r->n->storage ? r->n->storage->opened_unix_ns : 0,
				       &id);
	r->error = r->error ? r->error : e;
	return id;
}

static uint32_t series_of(struct registration *r, uint32_t in_family,
			  const struct snapshot_label *labels, uint32_t n_labels, bool histogram)
{
	uint32_t id = UINT32_MAX;
	int e = r->error ? r->error
			 : snapshot_series(r->s, in_family, labels, n_labels, histogram, histogram,
					   &id);

	r->error = e;
	return e == 0 ? id : UINT32_MAX;
}

static uint32_t one(struct registration *r, uint32_t slot, const char *key, const char *value)
{
	return series_of(r, family(r, slot), &(struct snapshot_label){key, value}, 1, false);
}

static void register_agent(struct registration *r)
{
	struct storage_node *n = r->n;

	for (int kind = 0; kind < PROBE_KINDS; kind++) {
		const char *name = probe_kind_name((enum probe_kind)kind);
		const struct snapshot_label labels[] = {
			{"probe", name},
			{"hook", storage_status(n->storage, (enum probe_kind)kind).hook},
		};

		n->probe_up[kind] =
			series_of(r, family(r, BLIX_agent_bpf_probe_up), labels, 2, false);
		n->runs[kind] = one(r, BLIX_agent_bpf_probe_runs_total, "probe", name);
		n->seconds[kind] = one(r, BLIX_agent_bpf_probe_seconds_total, "probe", name);
		n->map_full[kind] = one(r, BLIX_agent_bpf_map_full_total, "probe", name);
		n->unmatched[kind] =
			one(r, BLIX_agent_bpf_unmatched_completions_total, "probe", name);
	}
	n->coverage = series_of(r, family(r, BLIX_agent_bpf_block_coverage_ratio), NULL, 0, false);
}

static void register_sync(struct registration *r)
{
	struct storage_node *n = r->n;
	uint32_t duration = family(r, BLIX_storage_fsync_duration_seconds);

	for (int call = 0; call < STORAGE_CALLS; call++) {
		const struct snapshot_label label = {"call", call_names[call]};

		n->fsync_duration[call] = series_of(r, duration, &label, 1, true);
		n->fsync_errors[call] =
			one(r, BLIX_storage_fsync_errors_total, "call", call_names[call]);
	}
	n->result_stamped = one(r, BLIX_storage_slow_io_stamped_total, "result", "stamped");
	n->result_none = one(r, BLIX_storage_slow_io_stamped_total, "result", "none");
	for (int layer = 0; layer < STORAGE_LAYERS; layer++) {
		n->events[layer] =
			one(r, BLIX_storage_slow_io_events_total, "layer", layer_names[layer]);
		n->dropped[layer] =
			one(r, BLIX_storage_slow_io_dropped_total, "layer", layer_names[layer]);
	}
}

int storage_node_register(struct storage_node *n, struct snapshot *snapshot)
{
	struct registration r = {.n = n, .s = snapshot};

	n->n_rows = 0; /* their series are gone */
	memset(n->labels, 0, sizeof(n->labels));
	memset(n->has_inflight, 0, sizeof(n->has_inflight));
	register_agent(&r);
	n->duration = family(&r, BLIX_storage_block_io_duration_seconds);
	n->queue = family(&r, BLIX_storage_block_io_queue_seconds_total);
	n->queued = family(&r, BLIX_storage_block_io_queued_total);
	n->bytes = family(&r, BLIX_storage_block_io_bytes_total);
	n->errors = family(&r, BLIX_storage_block_io_errors_total);
	n->in_flight = family(&r, BLIX_storage_block_io_in_flight);
	register_sync(&r);
	n->registered = r.error == 0;
	return r.error;
}

/* ---- values: block --------------------------------------------------------------------------- */

struct walk {
	struct storage_node *n;
	struct snapshot *s;
	uint64_t requests[STORAGE_DEVICES_MAX + 1]; /* as /proc/diskstats counts them */
};

static struct storage_row *find_row(struct walk *w, uint8_t device, uint8_t op, uint8_t origin)
{
	struct storage_node *n = w->n;
	struct storage_row *row;

	for (uint32_t i = 0; i < n->n_rows; i++) {
		row = &n->rows[i];
		if (row->device == device && row->op == op && row->origin == origin)
			return row;
	}
	if (n->n_rows == n->cap_rows) {
		uint32_t cap = n->cap_rows ? 2 * n->cap_rows : 8;

		row = n->n_rows < STORAGE_ROWS_MAX ? realloc(n->rows, cap * sizeof(*row)) : NULL;
		if (!row)
			return NULL;
		n->rows = row;
		n->cap_rows = cap;
	}
	row = &n->rows[n->n_rows++];
	*row = (struct storage_row){.device = device, .op = op, .origin = origin};
	const struct snapshot_label labels[] = {
		{"device", storage_device_name(n->storage, device)},
		{"op", op_names[op]},
		{"origin", origin_names[origin]},
	};
	if (snapshot_series(w->s, n->duration, labels, 3, true, false, &row->series) < 0)
		row->series = UINT32_MAX;
	return row;
}

static void add_cells(struct storage_block_cells *to, const struct storage_block_cells *from)
{
	uint64_t *sums = (uint64_t *)(void *)to;
	const uint64_t *words = (const uint64_t *)(const void *)from;

	for (size_t i = 0; i < sizeof(*to) / sizeof(*sums); i++)
		sums[i] += words[i];
}

static void on_series(void *arg, const struct storage_block_key *key,
		      const struct storage_block_cells *cells)
{
	struct walk *w = arg;
	struct storage_node *n = w->n;
	uint32_t device = storage_device_index(n->storage, key->dev);
	enum storage_origin origin = storage_origin_of(key->owner, n->slot);
	struct storage_labels *labels;
	struct storage_row *row;

	if (key->op >= STORAGE_OPS)
		return;
	row = find_row(w, (uint8_t)device, key->op, (uint8_t)origin);
	if (row)
		add_cells(&row->sums, cells);
	labels = &n->labels[device][key->op];
	labels->queue_ns += cells->queue_ns;
	labels->n_queued += cells->queued;
	labels->n_bytes += cells->bytes;
	labels->n_errors += cells->errors;
	/* The kernel counts an empty flushing write as a write, and a flush of its own apart. */
	for (uint32_t i = 0; key->op != STORAGE_OP_FLUSH && i < BLIX_BPF_CELLS; i++)
		w->requests[device] += cells->cells[i];
}

/* The layout of a histogram's values: snapshot.h, snapshot_series.value. */
static void set_histogram(struct snapshot *s, uint32_t series, const uint64_t cells[BLIX_BPF_CELLS],
			  uint64_t sum_ns)
{
	uint32_t n = 0;
	uint64_t *values;

	if (series == UINT32_MAX)
		return;
	values = snapshot_values(s, series, &n);
	if (n < BLIX_POW2_BOUNDS + 2)
		return;
	storage_pow2(cells, values);
	values[BLIX_POW2_BOUNDS + 1] = sum_ns;
	if (n >= BLIX_POW2_BOUNDS + 2 + BLIX_EXP_CELLS)
		storage_exponential(cells, values + BLIX_POW2_BOUNDS + 2);
}

static void set_labels(struct storage_node *n, struct snapshot *s, uint32_t device, uint32_t op)
{
	struct storage_labels *l = &n->labels[device][op];
	const struct snapshot_label labels[] = {{"device", storage_device_name(n->storage, device)},
						{"op", op_names[op]}};

	if (!l->used) {
		if (snapshot_series(s, n->queue, labels, 2, false, false, &l->queue) < 0 ||
		    snapshot_series(s, n->queued, labels, 2, false, false, &l->queued) < 0 ||
		    snapshot_series(s, n->bytes, labels, 2, false, false, &l->bytes) < 0 ||
		    snapshot_series(s, n->errors, labels, 2, false, false, &l->errors) < 0)
			return;
		l->used = true;
	}
	snapshot_set_u64(s, l->queue, l->queue_ns);
	snapshot_set_u64(s, l->queued, l->n_queued);
	snapshot_set_u64(s, l->bytes, l->n_bytes);
	snapshot_set_u64(s, l->errors, l->n_errors);
}

static void set_in_flight(struct storage_node *n, struct snapshot *s, uint32_t i)
{
	struct storage_device *d = &n->storage->devices[i];
	char text[64];
	ssize_t len = proc_file_read(&d->inflight, text, sizeof(text));
	uint64_t values[2];
	bool known =
		len > 0 && storage_parse_inflight(text, (size_t)len, &values[0], &values[1]) == 0;

	for (int k = 0; k < 2; k++) {
		const struct snapshot_label labels[] = {
			{"device", d->name},
			{"op", op_names[k == 0 ? STORAGE_OP_READ : STORAGE_OP_WRITE]}};

		if (!n->has_inflight[i] && snapshot_series(s, n->in_flight, labels, 2, false, false,
							   &n->inflight[i][k]) < 0)
			return;
		snapshot_hide_series(s, n->inflight[i][k], !known);
		if (known)
			snapshot_set_i64(s, n->inflight[i][k],
					 values[k] < INT64_MAX ? (int64_t)values[k] : INT64_MAX);
	}
	n->has_inflight[i] = true;
}

static void set_coverage(struct storage_node *n, struct snapshot *s, const struct walk *w)
{
	uint64_t measured = 0, counted = 0;
	double ratio;
	bool known;

	for (uint32_t i = 0; i < n->storage->n_devices; i++) {
		measured += w->requests[i];
		counted += n->storage->devices[i].now - n->storage->devices[i].base;
	}
	known = storage_coverage(measured, counted, &ratio);
	snapshot_hide_series(s, n->coverage, !known);
	if (known)
		snapshot_set_f64(s, n->coverage, ratio);
}

static void collect_block(struct storage_node *n, struct snapshot *s)
{
	struct walk w = {.n = n, .s = s};

	for (uint32_t i = 0; i < n->n_rows; i++)
		memset(&n->rows[i].sums, 0, sizeof(n->rows[i].sums));
	for (uint32_t device = 0; device <= STORAGE_DEVICES_MAX; device++)
		for (uint32_t op = 0; op < STORAGE_OPS; op++) {
			struct storage_labels *l = &n->labels[device][op];

			l->queue_ns = l->n_queued = l->n_bytes = l->n_errors = 0;
		}
	probe_read_block(n->storage->probes[PROBE_BLOCK], on_series, &w);
	for (uint32_t i = 0; i < n->n_rows; i++) {
		const struct storage_row *row = &n->rows[i];

		set_histogram(s, row->series, row->sums.cells, row->sums.sum_ns);
		set_labels(n, s, row->device, row->op);
	}
	for (uint32_t i = 0; i < n->storage->n_devices; i++)
		set_in_flight(n, s, i);
	set_coverage(n, s, &w);
}

/* ---- values: sync and the probes themselves -------------------------------------------------- */

static void hide_sync(struct storage_node *n, struct snapshot *s, bool hidden)
{
	for (int call = 0; call < STORAGE_CALLS; call++) {
		snapshot_hide_series(s, n->fsync_duration[call], hidden);
		snapshot_hide_series(s, n->fsync_errors[call], hidden);
	}
	snapshot_hide_series(s, n->result_stamped, hidden);
	snapshot_hide_series(s, n->result_none, hidden);
}

static void collect_sync(struct storage_node *n, struct snapshot *s)
{
	for (int call = 0; call < STORAGE_CALLS; call++) {
		struct storage_sync_cells cells;
		struct snapshot_exemplar *exemplars;
		uint32_t k = 0;

		if (probe_read_sync(n->storage->probes[PROBE_SYNC], n->slot,
				    (enum storage_call)call, &cells) < 0)
			continue;
		set_histogram(s, n->fsync_duration[call], cells.cells, cells.sum_ns);
		snapshot_set_u64(s, n->fsync_errors[call], cells.errors);
		exemplars = snapshot_exemplars(s, n->fsync_duration[call], &k);
		if (exemplars && k == BLIX_POW2_BOUNDS + 1)
			memcpy(exemplars, n->exemplars[call], k * sizeof(*exemplars));
	}
	snapshot_set_u64(s, n->result_stamped, n->stamped);
	snapshot_set_u64(s, n->result_none, n->unstamped);
}

static void set_probe(struct storage_node *n, struct snapshot *s, enum probe_kind kind,
		      enum storage_layer layer, uint64_t slow)
{
	struct probe *p = n->storage ? n->storage->probes[kind] : NULL;
	bool slow_on = p && n->storage->options.slow_io_ms;
	uint64_t counts[STORAGE_COUNTS] = {0};
	struct probe_cost cost = {0};

	if (p && (probe_read_counts(p, counts) < 0 || probe_cost(p, &cost) < 0))
		p = NULL;
	snapshot_set_i64(s, n->probe_up[kind], n->storage && n->storage->probes[kind]);
	snapshot_hide_series(s, n->map_full[kind], !p);
	snapshot_hide_series(s, n->unmatched[kind], !p);
	snapshot_hide_series(s, n->runs[kind], !p || !cost.runs);
	snapshot_hide_series(s, n->seconds[kind], !p || !cost.runs);
	snapshot_hide_series(s, n->events[layer], !slow_on);
	snapshot_hide_series(s, n->dropped[layer], !slow_on);
	snapshot_set_u64(s, n->map_full[kind], counts[STORAGE_COUNT_MAP_FULL]);
	snapshot_set_u64(s, n->unmatched[kind], counts[STORAGE_COUNT_UNMATCHED]);
	snapshot_set_u64(s, n->runs[kind], cost.runs);
	snapshot_set_u64(s, n->seconds[kind], cost.run_ns);
	snapshot_set_u64(s, n->events[layer], slow + counts[STORAGE_COUNT_SLOW_LOST]);
	snapshot_set_u64(s, n->dropped[layer],
			 counts[STORAGE_COUNT_SLOW_LOST] +
				 (layer == STORAGE_LAYER_SYNC ? n->undelivered : 0));
}

void storage_node_collect(struct storage_node *n, struct snapshot *snapshot, uint64_t now_ns)
{
	struct storage *storage = n->storage;
	bool has_sync = storage && storage->probes[PROBE_SYNC] && n->followed;

	if (!n->registered)
		return;
	if (storage) {
		storage_read_disks(storage, now_ns);
		storage_drain(storage);
	}
	set_probe(n, snapshot, PROBE_BLOCK, STORAGE_LAYER_BLOCK,
		  storage ? storage->slow[STORAGE_LAYER_BLOCK] : 0);
	set_probe(n, snapshot, PROBE_SYNC, STORAGE_LAYER_SYNC, n->slow_syncs);
	hide_sync(n, snapshot, !has_sync);
	snapshot_hide_series(snapshot, n->coverage, true);
	if (storage && storage->probes[PROBE_BLOCK])
		collect_block(n, snapshot);
	if (has_sync)
		collect_sync(n, snapshot);
}
