/* test/support/shm_file.c - see shm_file.h. Its own small registry writer on purpose: the reader
 * is then tested against the specification and not against the hooks' idea of it. */
#include "test/support/shm_file.h"

#include "shm/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what, const char *path)
{
	fprintf(stderr, "shm_file: %s %s: %s\n", what, path, strerror(errno));
	abort();
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static struct blix_format_options small_format(struct blix_format_options o)
{
	o.lanes = o.lanes ? o.lanes : 2;
	o.ring_bytes = o.ring_bytes ? o.ring_bytes : BLIX_RING_BYTES_MIN;
	o.cells = o.cells ? o.cells : 512;
	o.slots = o.slots ? o.slots : 2;
	o.strings_bytes = o.strings_bytes ? o.strings_bytes : 16384;
	o.metrics = o.metrics ? o.metrics : 64;
	o.series = o.series ? o.series : 256;
	o.layouts = o.layouts ? o.layouts : 8;
	o.gauges = o.gauges ? o.gauges : 64;
	o.exemplars = o.exemplars ? o.exemplars : 64;
	return o;
}

static void make_identity(const struct shm_file_options *o, struct blix_format_identity *id)
{
	static const uint8_t none[16];

	*id = (struct blix_format_identity){
		.node_id = o->node_id,
		.pid = (uint32_t)getpid(),
		.uid = (uint32_t)getuid(),
		.flags = o->flags,
		.open_mono_ns = o->open_mono_ns ? o->open_mono_ns : now_ns(CLOCK_MONOTONIC),
		.open_real_ns = o->open_real_ns ? o->open_real_ns : now_ns(CLOCK_REALTIME),
		.version = o->version ? o->version : "0.0.0-test",
		.grpc_address = o->grpc_address ? o->grpc_address : "127.0.0.1:7001",
		.cluster = o->cluster ? o->cluster : "test",
		.service_name = o->service_name ? o->service_name : "blixard",
		.data_dir = o->data_dir,
		.resource = o->resource,
	};
	memcpy(id->incarnation, o->incarnation, sizeof(id->incarnation));
	if (memcmp(id->incarnation, none, sizeof(none)) == 0 &&
	    getrandom(id->incarnation, sizeof(id->incarnation), 0) < 0)
		die("getrandom", "");
}

/* A nameless file of the right size, mapped, its byte-0 lock taken. */
static int create(struct shm_file *f, const struct blix_view *plan)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	char dir[sizeof(f->path)];
	struct stat st;
	void *base;
	int fd;

	memcpy(dir, f->path, sizeof(dir));
	fd = open(dirname(dir), O_TMPFILE | O_RDWR | O_CLOEXEC, 0660);
	if (fd < 0)
		die("create", f->path);
	errno = posix_fallocate(fd, 0, (off_t)plan->size);
	if (errno)
		die("allocate", f->path);
	base = mmap(NULL, plan->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		die("map", f->path);
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
		die("lock", f->path);
	if (fstat(fd, &st) < 0)
		die("stat", f->path);
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->view = blix_view_at(plan, base);
	return fd;
}

/* Give the file its name and let the descriptor go: the mapping alone keeps the lock. */
static void publish(struct shm_file *f, int fd)
{
	char self[64];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (unlink(f->path) < 0 && errno != ENOENT)
		die("unlink", f->path);
	if (linkat(AT_FDCWD, self, AT_FDCWD, f->path, AT_SYMLINK_FOLLOW) < 0)
		die("link", f->path);
	close(fd);
}

struct shm_file *shm_file_new(const char *path, const struct shm_file_options *options)
{
	static const struct shm_file_options none;
	const struct shm_file_options *o = options ? options : &none;
	struct blix_format_options format = small_format(o->format);
	struct shm_file *f = calloc(1, sizeof(*f));
	struct blix_format_identity id;
	struct blix_view plan;
	int fd;

	if (!f || strlen(path) >= sizeof(f->path))
		die("remember", path);
	memcpy(f->path, path, strlen(path));
	errno = -blix_format_plan(&format, &plan);
	if (errno)
		die("plan", path);
	fd = create(f, &plan);
	make_identity(o, &id);
	errno = -blix_format_fill(&f->view, &id);
	if (errno)
		die("fill", path);
	f->exponential_cells = calloc(plan.n_metrics, sizeof(uint32_t));
	if (!f->exponential_cells)
		die("remember", path);
	f->next_cell = 1;  /* cell 0 is the void cell */
	f->next_gauge = 1; /* and gauge 0 nobody's */
	f->metrics = (struct blix_metric_desc *)(void *)(f->view.base + f->view.metrics_off);
	f->series = (struct blix_series_desc *)(void *)(f->view.base + f->view.series_off);
	f->layouts = (struct blix_layout_desc *)(void *)(f->view.base + f->view.layouts_off);
	blix_store_release(&blix_view_header(&f->view)->state, BLIX_STATE_LIVE);
	publish(f, fd);
	return f;
}

static void unmap(struct shm_file *f)
{
	if (f->view.base)
		munmap(f->view.base, f->view.size);
	f->view.base = NULL;
}

void shm_file_abandon(struct shm_file *file)
{
	unmap(file);
}

void shm_file_close(struct shm_file *file)
{
	blix_store_release(&blix_view_header(&file->view)->state, BLIX_STATE_CLOSED);
	unmap(file);
}

struct shm_file *shm_file_forget(struct shm_file *file)
{
	if (!file)
		return NULL;
	unmap(file);
	free(file->exponential_cells);
	free(file);
	return NULL;
}

struct shm_file *shm_file_free(struct shm_file *file)
{
	struct stat st;

	if (file && lstat(file->path, &st) == 0 && st.st_dev == file->dev && st.st_ino == file->ino)
		unlink(file->path);
	return shm_file_forget(file);
}

/* ---- registry: bytes, then descriptor, then count with release ----------------------------- */

static void published(struct shm_file *f, uint32_t *count, uint32_t value)
{
	blix_store_release(count, value);
	blix_add_owned(&blix_view_header(&f->view)->reg_gen, 1);
}

static void must_fit(bool fits, const struct shm_file *f)
{
	if (fits)
		return;
	errno = ENOSPC;
	die("register in", f->path);
}

uint32_t shm_file_string(struct shm_file *file, const char *text)
{
	uint8_t *strings = file->view.base + file->view.strings_off;
	size_t len = strlen(text);
	uint32_t off = 0;
	uint16_t have;

	while (off < file->next_string) {
		memcpy(&have, strings + off, 2);
		if (have == len && memcmp(strings + off + 2, text, len) == 0)
			return off / 8;
		off += (2u + have + 7u) & ~7u;
	}
	must_fit(len <= UINT16_MAX && off + 2 + len <= file->view.strings_len, file);
	have = (uint16_t)len;
	memcpy(strings + off, &have, 2);
	memcpy(strings + off + 2, text, len);
	file->next_string = (uint32_t)(off + ((2 + len + 7) & ~(size_t)7));
	published(file, &blix_view_header(&file->view)->reg_strings_len, file->next_string);
	return off / 8;
}

static uint32_t put_layout(struct shm_file *f, const struct shm_file_metric *m)
{
	struct blix_header *h = blix_view_header(&f->view);
	uint32_t n = h->reg_layouts;

	for (uint32_t i = 0; i < n; i++)
		if (f->layouts[i].n_bounds == m->n_bounds &&
		    memcmp(f->layouts[i].bounds, m->bounds, m->n_bounds * sizeof(uint64_t)) == 0)
			return i;
	must_fit(n < f->view.n_layouts, f);
	f->layouts[n].n_bounds = m->n_bounds;
	memcpy(f->layouts[n].bounds, m->bounds, m->n_bounds * sizeof(uint64_t));
	published(f, &h->reg_layouts, n + 1);
	return n;
}

uint32_t shm_file_metric(struct shm_file *file, const struct shm_file_metric *metric)
{
	struct blix_header *h = blix_view_header(&file->view);
	uint32_t n = h->reg_metrics;
	struct blix_metric_desc *d = &file->metrics[n];
	char help[256];

	must_fit(n < file->view.n_metrics, file);
	snprintf(help, sizeof(help), "Help of %s.", metric->name);
	d->slot = metric->slot ? metric->slot : BLIX_CATALOGUE_SLOTS + n;
	d->kind = (uint8_t)metric->kind;
	d->flags = metric->flags;
	d->name_id = shm_file_string(file, metric->name);
	d->help_id = shm_file_string(file, metric->help ? metric->help : help);
	d->unit_id = shm_file_string(file, metric->unit ? metric->unit : "1");
	for (int i = 0; i < SHM_FILE_KEYS_MAX; i++)
		d->label_key_ids[i] = BLIX_NO_ID;
	for (; d->n_label_keys < SHM_FILE_KEYS_MAX && metric->keys[d->n_label_keys];
	     d->n_label_keys++)
		d->label_key_ids[d->n_label_keys] =
			shm_file_string(file, metric->keys[d->n_label_keys]);
	d->layout_id = metric->kind == BLIX_HISTOGRAM ? put_layout(file, metric) : BLIX_NO_ID;
	d->max_series = metric->max_series ? metric->max_series : 64;
	d->overflow_series = BLIX_NO_ID;
	file->exponential_cells[n] = metric->exponential_cells;
	published(file, &h->reg_metrics, n + 1);
	return n;
}

/* Cells, gauge and exemplars as the kind needs them. */
static void place(struct shm_file *f, struct blix_series_desc *d)
{
	const struct blix_metric_desc *m = &f->metrics[d->metric];

	d->gauge_idx = BLIX_NO_ID;
	d->exemplar_idx = BLIX_NO_ID;
	switch (m->kind) {
	case BLIX_GAUGE:
	case BLIX_GAUGE_F64:
		d->gauge_idx = f->next_gauge++;
		break;
	case BLIX_HISTOGRAM:
		d->n_exemplars = f->layouts[m->layout_id].n_bounds + 1;
		d->n_cells = d->n_exemplars + 1 + f->exponential_cells[d->metric];
		break;
	default:
		d->n_cells = 1;
		d->n_exemplars = m->kind == BLIX_COUNTER;
	}
	if (d->n_cells) {
		d->first_cell = f->next_cell;
		f->next_cell += d->n_cells;
	}
	if (d->n_exemplars) {
		d->exemplar_idx = f->next_exemplar;
		f->next_exemplar += d->n_exemplars;
	}
	must_fit(f->next_cell <= f->view.lane.n_cells && f->next_gauge <= f->view.n_gauges &&
			 f->next_exemplar <= f->view.n_exemplars,
		 f);
}

uint32_t shm_file_series_v(struct shm_file *file, uint32_t metric, const char *const *values,
			   bool overflow)
{
	struct blix_header *h = blix_view_header(&file->view);
	uint32_t n = h->reg_series;
	struct blix_series_desc *d = &file->series[n];
	uint32_t n_keys = overflow ? 0 : file->metrics[metric].n_label_keys;

	must_fit(n < file->view.n_series, file);
	d->metric = metric;
	for (uint32_t i = 0; i < SHM_FILE_KEYS_MAX; i++)
		d->label_val_ids[i] = i < n_keys ? shm_file_string(file, values[i]) : BLIX_NO_ID;
	d->flags = overflow ? BLIX_SERIES_OVERFLOW : 0;
	place(file, d);
	published(file, &h->reg_series, n + 1);
	return n;
}

uint32_t shm_file_overflow(struct shm_file *file, uint32_t metric)
{
	uint32_t index = blix_view_header(&file->view)->reg_series;

	file->metrics[metric].overflow_series = index;
	return shm_file_series_v(file, metric, NULL, true);
}

/* ---- values ---------------------------------------------------------------------------------- */

void shm_file_own_lane(struct shm_file *file, uint32_t lane, uint32_t tid, uint32_t generation)
{
	blix_store_release(&blix_view_lane(&file->view, lane)->owner,
			   (uint64_t)tid << 32 | generation);
}

static uint64_t *cell_of(struct shm_file *f, uint32_t series, uint32_t lane, uint32_t cell)
{
	must_fit(cell < f->series[series].n_cells, f);
	if (lane != 0 && blix_view_lane(&f->view, lane)->owner == 0)
		shm_file_own_lane(f, lane, (uint32_t)getpid(), 0);
	return blix_view_cells(&f->view, lane) + f->series[series].first_cell + cell;
}

void shm_file_add(struct shm_file *file, uint32_t series, uint32_t lane, uint64_t n)
{
	blix_add_owned(cell_of(file, series, lane, 0), n);
}

void shm_file_observe(struct shm_file *file, uint32_t series, uint32_t lane, uint64_t value)
{
	const struct blix_metric_desc *m = &file->metrics[file->series[series].metric];
	const struct blix_layout_desc *layout = &file->layouts[m->layout_id];
	uint32_t b = 0;

	while (b < layout->n_bounds && value > layout->bounds[b])
		b++;
	blix_add_owned(cell_of(file, series, lane, b), 1);
	blix_add_owned(cell_of(file, series, lane, layout->n_bounds + 1), value);
}

void shm_file_cell(struct shm_file *file, uint32_t series, uint32_t lane, uint32_t cell,
		   uint64_t value)
{
	blix_store_relaxed(cell_of(file, series, lane, cell), value);
}

void shm_file_set(struct shm_file *file, uint32_t series, int64_t value)
{
	blix_store_relaxed(&blix_view_gauges(&file->view)[file->series[series].gauge_idx],
			   (uint64_t)value);
}

void shm_file_set_f64(struct shm_file *file, uint32_t series, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	shm_file_set(file, series, (int64_t)bits);
}

void shm_file_exemplar(struct shm_file *file, uint32_t series, uint32_t bucket, uint64_t value,
		       uint64_t t_ns)
{
	struct blix_exemplar *e;

	must_fit(bucket < file->series[series].n_exemplars, file);
	e = blix_view_exemplar(&file->view, file->series[series].exemplar_idx + bucket);
	blix_store_relaxed(&e->seq, e->seq + 1);
	blix_fence_release();
	e->bucket = bucket;
	e->value = value;
	e->t_ns = t_ns;
	memset(e->trace_id, 0xab, sizeof(e->trace_id));
	memset(e->span_id, 0xcd, sizeof(e->span_id));
	blix_store_release(&e->seq, e->seq + 1);
}

void shm_file_beat(struct shm_file *file)
{
	struct blix_header *h = blix_view_header(&file->view);

	blix_add_owned(&h->alive_beat, 1);
	blix_store_relaxed(&h->pair_seq, h->pair_seq + 1);
	blix_fence_release();
	blix_store_relaxed(&h->pair_mono_ns, now_ns(CLOCK_MONOTONIC));
	blix_store_relaxed(&h->pair_real_ns, now_ns(CLOCK_REALTIME));
	blix_store_release(&h->pair_seq, h->pair_seq + 1);
}

void shm_file_reseal(struct shm_file *file)
{
	struct blix_header *h = blix_view_header(&file->view);

	h->static_crc32c = blix_crc32c(h, offsetof(struct blix_header, static_crc32c));
}

struct blix_toc *shm_file_toc(struct shm_file *file, uint32_t type)
{
	struct blix_header *h = blix_view_header(&file->view);
	struct blix_toc *toc = (struct blix_toc *)(void *)(file->view.base + h->toc_off);

	for (uint32_t i = 0; i < h->toc_count; i++)
		if (toc[i].type == type)
			return &toc[i];
	errno = ENOENT;
	die("find a section in", file->path);
	return NULL;
}
