/* test/corrupt/corrupt_bytes.c
 *
 * Goal: whatever the bytes of a file are, opening, refreshing and reading it never crashes, hangs,
 * reads outside the mapping, or returns something map.h rules out.
 * Method: a small valid file; every single-byte damage of every region a reader interprets, each
 * byte with several values, before the open and between open and refresh; words at the edges of
 * their range in page 0 and TOC with the checksum made right; random damage of many bytes; every
 * truncation at and around a boundary, before and after mapping; a thread that changes bytes while
 * they are read, to find what is loaded twice. mmap() is replaced by one that
 * puts inaccessible pages around each mapping. After each case everything readable is read and
 * checked, and entries before the damaged one must have stayed as they were. TAP output. */
#include "shm/map.h"
#include "test/support/shm_file.h"

#include "shm/atomic.h"
#include "shm/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { CASE_SECONDS_MAX = 10, ERRORS = 256, SUMS = 512 };

static char dir[] = "/dev/shm/blix-test-corrupt-XXXXXX";
static char path[64];
static uint8_t *good; /* the undamaged file */
static uint64_t size;
static struct blix_view plan;
static int fd;

static uint64_t cases;
static uint64_t opened;
static uint64_t refused[ERRORS];
static uint64_t failures;
static volatile uint64_t sink;

/* ---- mappings between inaccessible pages ----------------------------------------------------- */

static const size_t page = 4096;

static size_t whole_pages(size_t len)
{
	return (len + page - 1) & ~(page - 1);
}

static void *map_raw(void *address, size_t len, int protection, int flags, int file_fd, off_t off)
{
	return (void *)syscall(SYS_mmap, address, len, protection, flags, file_fd, off);
}

/* Takes the place of libc's for everything linked into this program. */
void *mmap(void *address, size_t len, int protection, int flags, int file_fd, off_t off)
{
	uint8_t *room;

	if (address || flags & MAP_FIXED || !(flags & MAP_SHARED))
		return map_raw(address, len, protection, flags, file_fd, off);
	room = map_raw(NULL, whole_pages(len) + 2 * page, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return room;
	return map_raw(room + page, len, protection, flags | MAP_FIXED, file_fd, off);
}

/* The reader unmaps what it got from mmap() above; the fences go with it. */
int munmap(void *address, size_t len)
{
	return (int)syscall(SYS_munmap, (uint8_t *)address - page, whole_pages(len) + 2 * page);
}

/* ---- one case -------------------------------------------------------------------------------- */

static char current[128];

static void fail(const char *what)
{
	if (failures++ < 20)
		printf("# %s: %s\n", current, what);
}

static void check(bool holds, const char *what)
{
	if (!holds)
		fail(what);
}

static void on_alarm(int signal_number)
{
	static const char hang[] = "Bail out! a case hangs\n";

	(void)signal_number;
	(void)!write(STDOUT_FILENO, hang, sizeof(hang) - 1);
	_exit(1);
}

static void check_text(const char *text)
{
	check(text != NULL, "a text is missing");
	if (text)
		check(blix_utf8_valid((const uint8_t *)text, strlen(text)), "a text is no UTF-8");
}

static void check_metric(const struct blix_map *map, const struct blix_map_metric *m)
{
	check(m->kind >= BLIX_COUNTER && m->kind <= BLIX_HISTOGRAM, "a kind is out of range");
	check(m->n_label_keys <= 8, "too many label keys");
	check((m->layout != NULL) == (m->kind == BLIX_HISTOGRAM),
	      "a layout is where it must not be");
	check(m->overflow_series == BLIX_NO_ID || m->overflow_series < blix_map_view(map)->n_series,
	      "an overflow series is out of range");
	check_text(m->name);
	check_text(m->help);
	check_text(m->unit);
	for (uint32_t i = 0; i < m->n_label_keys; i++)
		check_text(m->label_keys[i]);
	if (!m->layout)
		return;
	check(m->layout->n_bounds <= BLIX_MAP_BOUNDS_MAX, "too many bounds");
	for (uint32_t i = 1; i < m->layout->n_bounds; i++)
		check(m->layout->bounds[i - 1] < m->layout->bounds[i], "bounds do not ascend");
}

static void check_series(const struct blix_map *map, const struct blix_map_series *s)
{
	const struct blix_map_metric *m = blix_map_metric(map, s->metric);
	const struct blix_view *v = blix_map_view(map);

	check(m != NULL, "a series without its metric");
	if (!m)
		return;
	check((uint64_t)s->first_cell + s->n_cells <= v->lane.n_cells, "cells out of range");
	check(m->kind != BLIX_HISTOGRAM || s->n_cells >= m->layout->n_bounds + 2, "cells missing");
	check(s->gauge_idx == BLIX_NO_ID || s->gauge_idx < v->n_gauges, "gauge out of range");
	check(s->n_exemplars == 0 || (uint64_t)s->exemplar_idx + s->n_exemplars <= v->n_exemplars,
	      "exemplars out of range");
	for (uint32_t i = 0; i < m->n_label_keys; i++)
		check_text(s->label_values[i]);
	sink += blix_map_gauge(map, s->gauge_idx);
	for (uint32_t i = 0; i < s->n_exemplars; i++)
		sink += blix_load_relaxed(&blix_view_exemplar(v, s->exemplar_idx + i)->value) +
			blix_load_relaxed(&blix_view_exemplar(v, s->exemplar_idx + i)->seq);
}

static void touch(const void *from, uint64_t bytes)
{
	const uint8_t *at = from;

	if (bytes >= 8)
		sink += blix_load_relaxed((const uint64_t *)(const void *)at) +
			blix_load_relaxed(
				(const uint64_t *)(const void *)(at + (bytes & ~7ull) - 8));
}

/* Both ends of every part that the view vouches for. */
static void touch_view(const struct blix_view *v)
{
	for (uint32_t i = 0; i < v->n_lanes; i++) {
		touch(blix_view_lane(v, i), sizeof(struct blix_lane));
		touch(blix_view_cells(v, i), (uint64_t)v->lane.n_cells * 8);
		touch(blix_view_ring(v, i), sizeof(struct blix_ring));
		touch(blix_view_ring_data(v, i), v->lane.ring_bytes);
		for (uint32_t slot = 0; slot < blix_view_slot_count(v, i); slot++)
			touch(blix_view_slot(v, i, slot), sizeof(struct blix_span_slot));
	}
	touch(blix_view_gauges(v), (uint64_t)v->n_gauges * 8);
	if (v->control_off)
		touch(v->base + v->control_off, sizeof(struct blix_control));
	if (!v->consumer)
		return;
	for (uint32_t i = 0; i < v->n_lanes; i++)
		blix_store_relaxed(&blix_view_consumer_lane(v, i)->ack[1].lost, 0);
	blix_store_relaxed(&blix_view_consumer(v)->beat, 1);
}

static void read_values(struct blix_map *map)
{
	struct blix_map_lanes lanes;
	struct blix_map_life life;
	uint64_t sums[SUMS];
	size_t len;
	const uint8_t *resource = blix_map_resource(map, &len);

	blix_map_sum_cells(map, sums, SUMS);
	blix_map_lanes(map, &lanes);
	check(lanes.owned + lanes.free + lanes.never == blix_map_view(map)->n_lanes,
	      "lanes do not add up");
	blix_map_life(map, &life);
	check(life.state <= BLIX_STATE_CRASH_NOTED, "a state is out of range");
	for (uint32_t i = 0; i < BLIX_STAT_N; i++)
		sink += blix_map_stat(map, (enum blix_stat)i);
	for (uint32_t i = 0; i < BLIX_DROP_REASONS; i++)
		sink += blix_map_drops(map, BLIX_DROP_SPAN, (enum blix_drop_reason)i) +
			blix_map_drops(map, BLIX_DROP_LOG, (enum blix_drop_reason)i);
	for (size_t i = 0; i < len; i++)
		sink += resource[i];
	(void)blix_map_owner_state(map);
	(void)blix_map_lock_consumer(map);
	check(blix_map_is_at(map, path) == 1, "the path leads elsewhere");
}

static void read_everything(struct blix_map *map)
{
	const struct blix_map_identity *id = blix_map_identity(map);

	check_text(id->version);
	check_text(id->grpc_address);
	check_text(id->cluster);
	check_text(id->service_name);
	check_text(id->data_dir);
	for (uint32_t i = 0; i < blix_map_metric_count(map); i++)
		if (blix_map_metric(map, i))
			check_metric(map, blix_map_metric(map, i));
	for (uint32_t i = 0; i < blix_map_series_count(map); i++)
		if (blix_map_series(map, i))
			check_series(map, blix_map_series(map, i));
	read_values(map);
	touch_view(blix_map_view(map));
}

/* An error map.h names, with a sentence. */
static void check_refusal(int err, const char *reason)
{
	static const int named[] = {EAGAIN, EPROTO, EPROTONOSUPPORT, ENODATA, ENOMEM};
	bool known = false;

	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
		known |= err == -named[i];
	check(known, "an errno that map.h does not name");
	check(reason[0] && strlen(reason) < BLIX_REASON_MAX && !strchr(reason, '\n'), "no reason");
	refused[-err < ERRORS ? -err : 0]++;
}

static struct blix_map *open_case(void)
{
	struct blix_map_options options = {.consumer = cases % 2, .max_bytes = 1 << 30};
	char reason[BLIX_REASON_MAX] = "";
	struct blix_map *map = NULL;
	int err;

	cases++;
	alarm(CASE_SECONDS_MAX);
	err = blix_map_open(path, &options, &map, reason);
	if (err)
		check_refusal(err, reason);
	opened += !err;
	return map;
}

/* Open, refresh and read the file as it is now. */
static void run_case(void)
{
	struct blix_map *map = open_case();
	int err;

	if (!map)
		return;
	read_everything(map);
	err = blix_map_refresh(map);
	check(err == 0 || err == -EPROTO || err == -ENODATA, "an errno of refresh");
	read_everything(map);
	blix_map_close(map);
}

static void put(uint64_t off, const void *bytes, size_t len)
{
	if (pwrite(fd, bytes, len, (off_t)off) != (ssize_t)len) {
		printf("Bail out! pwrite\n");
		exit(1);
	}
}

static void restore(uint64_t off, size_t len)
{
	put(off, good + off, len);
}

/* Make the checksum of page 0 right for what the file holds now. */
static void reseal(void)
{
	uint8_t header[0xf8];
	uint32_t crc;

	(void)!pread(fd, header, sizeof(header), 0);
	crc = blix_crc32c(header, sizeof(header));
	put(offsetof(struct blix_header, static_crc32c), &crc, sizeof(crc));
}

/* ---- which bytes -------------------------------------------------------------------------- */

struct region {
	const char *name;
	uint64_t off;
	uint64_t len;
	bool sealed; /* the checksum is made right after the damage */
};

enum { N_METRICS = 6, N_SERIES = 9, N_REGIONS = 14 };

static uint64_t strings_used;

static void list_regions(struct region regions[N_REGIONS])
{
	const struct blix_view *v = &plan;
	const struct region all[N_REGIONS] = {
		{"page 0, checksum wrong", 0, 0x100, false},
		{"page 0, checksum right", 0, 0xf8, true},
		{"life, counts, statistics", 0x100, 0x200, false},
		{"texts", 0x300, 0x200, false},
		{"table of contents", BLIX_TOC_OFFSET, 12 * sizeof(struct blix_toc), false},
		{"layouts", v->layouts_off, 2 * sizeof(struct blix_layout_desc), false},
		{"metrics", v->metrics_off, N_METRICS * sizeof(struct blix_metric_desc), false},
		{"series", v->series_off, N_SERIES * sizeof(struct blix_series_desc), false},
		{"strings", v->strings_off, strings_used, false},
		{"exemplars", v->exemplars_off, 2 * sizeof(struct blix_exemplar), false},
		{"lane 0", v->lanes_off, sizeof(struct blix_lane), false},
		{"ring words", v->lanes_off + v->lane.ring_ctl_off, sizeof(struct blix_ring),
		 false},
		{"consumer", v->consumer_off, 128 + 2 * 128, false},
		{"control", v->control_off, 128, false},
	};

	memcpy(regions, all, sizeof(all));
}

/* Descriptors before the damaged one are judged before it: they must not have suffered. */
static void check_predecessors(const struct region *r, uint64_t off, const struct blix_map *map)
{
	uint64_t index = (off - r->off) / sizeof(struct blix_metric_desc);

	if (r->off == plan.metrics_off)
		for (uint32_t i = 0; i < index; i++)
			check(blix_map_metric(map, i) != NULL, "an earlier metric suffered");
	if (r->off == plan.series_off)
		for (uint32_t i = 0; i < index; i++)
			check(blix_map_series(map, i) != NULL, "an earlier series suffered");
}

static void damage_before_open(const struct region *r, uint64_t off, uint8_t value)
{
	struct blix_map *map;

	put(off, &value, 1);
	if (r->sealed)
		reseal();
	map = open_case();
	if (map) {
		read_everything(map);
		check_predecessors(r, off, map);
		(void)blix_map_refresh(map);
		blix_map_close(map);
	}
	restore(off, 1);
	restore(offsetof(struct blix_header, static_crc32c), 4);
}

/* Open while only half of the registry is published; the other half arrives damaged. */
static void damage_before_refresh(const struct region *r, uint64_t off, uint8_t value)
{
	const uint32_t half[4] = {(uint32_t)strings_used, N_METRICS / 2, N_SERIES / 2, 1};
	struct blix_map *map;
	int err;

	put(offsetof(struct blix_header, reg_strings_len), half, sizeof(half));
	map = open_case();
	restore(offsetof(struct blix_header, reg_strings_len), sizeof(half));
	put(off, &value, 1);
	if (map) {
		read_everything(map);
		err = blix_map_refresh(map);
		check(err == 0 || err == -EPROTO, "an errno of refresh");
		read_everything(map);
		check_predecessors(r, off, map);
		blix_map_close(map);
	} else {
		fail("half a registry was refused");
	}
	restore(off, 1);
}

static void damage_every_byte(const struct region *r)
{
	for (uint64_t off = r->off; off < r->off + r->len; off++) {
		const uint8_t values[] = {good[off] ^ 0x01, good[off] ^ 0x80, 0x00, 0xff};

		for (size_t i = 0; i < sizeof(values); i++) {
			if (values[i] == good[off])
				continue;
			snprintf(current, sizeof(current), "%s, byte 0x%llx = 0x%02x", r->name,
				 (unsigned long long)off, values[i]);
			damage_before_open(r, off, values[i]);
			if (off >= 0x100 && off != offsetof(struct blix_header, state))
				damage_before_refresh(r, off, values[i]);
		}
	}
}

/* ---- words at the edges of their range ---------------------------------------------------- */

static void damage_words(uint64_t from, uint64_t until, uint64_t step)
{
	const uint64_t values[] = {0,
				   1,
				   7,
				   8,
				   63,
				   64,
				   4095,
				   4096,
				   65535,
				   65536,
				   65537,
				   size - 65536,
				   size - 8,
				   size - 1,
				   size,
				   size + 1,
				   size + 65536,
				   INT32_MAX,
				   UINT32_MAX - 7,
				   UINT32_MAX,
				   UINT64_C(1) << 32,
				   INT64_MAX,
				   UINT64_MAX - 65535,
				   UINT64_MAX - 7,
				   UINT64_MAX};

	for (uint64_t off = from; off < until; off += step)
		for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
			snprintf(current, sizeof(current), "%llu-byte word 0x%llx = 0x%llx",
				 (unsigned long long)step, (unsigned long long)off,
				 (unsigned long long)values[i]);
			put(off, &values[i], step);
			reseal();
			run_case();
			restore(off, step);
		}
	restore(0, 0x100);
}

/* ---- at random ----------------------------------------------------------------------------- */

static uint64_t random_state = 0x9e3779b97f4a7c15u; /* fixed: a failure can be repeated */

static uint64_t xorshift(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t next_random(void)
{
	return xorshift(&random_state);
}

static void damage_at_random(const struct region regions[N_REGIONS], uint64_t n)
{
	static const uint8_t favourites[] = {0, 1, 8, 0x40, 0x7f, 0x80, 0xff};

	for (uint64_t i = 0; i < n; i++) {
		uint64_t hits = 1 + next_random() % 24;

		snprintf(current, sizeof(current), "random case %llu", (unsigned long long)i);
		while (hits-- > 0) {
			const struct region *r = &regions[2 + next_random() % (N_REGIONS - 2)];
			uint64_t random = next_random();
			uint8_t value = random & 0x100 ? (uint8_t)random
						       : favourites[random % sizeof(favourites)];

			put(r->off + next_random() % r->len, &value, 1);
		}
		reseal();
		run_case();
		for (int r = 1; r < N_REGIONS; r++)
			restore(regions[r].off, regions[r].len);
		restore(0, 0x100);
	}
}

/* ---- bytes that change while they are read ------------------------------------------------- */

struct vandal {
	const struct region *regions;
	uint8_t *base; /* the file, writable */
	uint64_t seed;
	uint32_t stop;
};

static void flip_some(struct vandal *v)
{
	for (int i = 0; i < 40; i++) {
		const struct region *r = &v->regions[2 + xorshift(&v->seed) % (N_REGIONS - 2)];
		uint64_t random = xorshift(&v->seed);

		blix_store_relaxed(v->base + r->off + random % r->len, (uint8_t)(random >> 32));
	}
}

static void put_back(const struct vandal *v)
{
	for (int r = 0; r < N_REGIONS; r++)
		for (uint64_t i = 0; i < v->regions[r].len; i++)
			blix_store_relaxed(v->base + v->regions[r].off + i,
					   good[v->regions[r].off + i]);
}

/* Flip bytes and make the file whole again, over and over, so that some opens get far. */
static void *vandalise(void *arg)
{
	struct vandal *v = arg;

	while (!blix_load_acquire(&v->stop)) {
		flip_some(v);
		put_back(v);
	}
	return NULL;
}

static void read_while_changing(const struct region regions[N_REGIONS], int n)
{
	struct vandal vandal = {.regions = regions, .seed = 88172645463325252u};
	pthread_t thread;

	snprintf(current, sizeof(current), "bytes that change");
	vandal.base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (vandal.base == MAP_FAILED || pthread_create(&thread, NULL, vandalise, &vandal)) {
		fail("no vandal");
		return;
	}
	while (n-- > 0)
		run_case();
	blix_store_release(&vandal.stop, 1);
	pthread_join(thread, NULL);
	munmap(vandal.base, size);
	restore(0, size);
}

/* ---- truncation --------------------------------------------------------------------------- */

static void set_size(uint64_t bytes)
{
	if (ftruncate(fd, (off_t)bytes) < 0) {
		printf("Bail out! ftruncate\n");
		exit(1);
	}
}

static void truncate_to(uint64_t bytes)
{
	struct blix_map *map;

	snprintf(current, sizeof(current), "truncated to %llu bytes", (unsigned long long)bytes);
	set_size(bytes);
	map = open_case();
	check(map == NULL, "a truncated file was opened");
	blix_map_close(map);
	set_size(size);
	restore(0, size);

	map = open_case();
	if (!map) {
		fail("the whole file was refused");
		return;
	}
	set_size(bytes);
	read_everything(map); /* under the guard */
	check(blix_map_refresh(map) == -ENODATA, "refresh did not notice");
	read_everything(map);
	blix_map_close(map);
	set_size(size);
	restore(0, size);
}

static void truncate_everywhere(const struct region regions[N_REGIONS])
{
	const uint64_t ends[] = {0, 1, 8, 15, 16, 17, 2047, 2048, 2049, 4095, 4096, size - 1};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		truncate_to(ends[i]);
	for (int r = 4; r < N_REGIONS; r++)
		for (uint64_t d = 0; d < 3; d++)
			truncate_to(regions[r].off + d - 1);
	for (int i = 0; i < 200; i++)
		truncate_to(next_random() % size);
}

/* ---- the file, and the report ------------------------------------------------------------- */

static void make_good_file(void)
{
	const struct shm_file_options options = {.format.resource_len = 21,
						 .resource = "resource of 21 bytes",
						 .node_id = 1,
						 .data_dir = "/var/lib/x"};
	struct shm_file *f = shm_file_new(path, &options);
	const struct shm_file_metric metrics[N_METRICS] = {
		{.name = "a_total", .kind = BLIX_COUNTER, .keys = {"method", "code"}},
		{.name = "b", .kind = BLIX_UPDOWN},
		{.name = "c", .kind = BLIX_GAUGE, .keys = {"k"}},
		{.name = "d", .kind = BLIX_GAUGE_F64, .help = "Two\nlines."},
		{.name = "e", .kind = BLIX_HISTOGRAM, .bounds = {1, 2, 3}, .n_bounds = 3},
		{.name = "f", .kind = BLIX_HISTOGRAM, .bounds = {9}, .n_bounds = 1, .keys = {"k"}},
	};

	for (uint32_t i = 0; i < N_METRICS; i++)
		shm_file_metric(f, &metrics[i]);
	shm_file_add(f, shm_file_series(f, 0, "CreateVm", "OK"), 1, 3);
	shm_file_add(f, shm_file_series(f, 0, "StartVm", "caf\xc3\xa9"), 0, 3);
	shm_file_overflow(f, 0);
	shm_file_plain(f, 1);
	shm_file_set(f, shm_file_series(f, 2, "\xe2\x82\xac"), 5);
	shm_file_set_f64(f, shm_file_plain(f, 3), 1.5);
	shm_file_observe(f, shm_file_plain(f, 4), 1, 2);
	shm_file_observe(f, shm_file_series(f, 5, "x"), 1, 10);
	shm_file_exemplar(f, shm_file_series(f, 5, "y"), 1, 10, 1);
	plan = f->view;
	size = f->view.size;
	strings_used = f->next_string;
	good = malloc(size);
	if (!good)
		exit(1);
	memcpy(good, f->view.base, size);
	shm_file_forget(f);
	fd = open(path, O_RDWR | O_CLOEXEC);
}

static void report(int number, const char *name, uint64_t cases_before, uint64_t failures_before)
{
	printf("%sok %d - %s: %llu cases\n", failures == failures_before ? "" : "not ", number,
	       name, (unsigned long long)(cases - cases_before));
	fflush(stdout);
}

#define STEP(number, name, work)                                                                   \
	do {                                                                                       \
		uint64_t cases_before = cases;                                                     \
		uint64_t failures_before = failures;                                               \
		work;                                                                              \
		report(number, name, cases_before, failures_before);                               \
	} while (0)

static void run_all(uint64_t n_random)
{
	struct region regions[N_REGIONS];

	list_regions(regions);
	snprintf(current, sizeof(current), "undamaged");
	STEP(1, "the undamaged file", {
		run_case();
		check(opened == 1, "it was refused");
	});
	for (int r = 0; r < N_REGIONS; r++) {
		char name[96];

		snprintf(name, sizeof(name), "every byte of %s", regions[r].name);
		STEP(2 + r, name, damage_every_byte(&regions[r]));
	}
	STEP(2 + N_REGIONS, "edges of every word of page 0 and TOC", {
		damage_words(0x10, 0xf8, 4);
		damage_words(0x10, 0xf8, 8);
		damage_words(BLIX_TOC_OFFSET, BLIX_TOC_OFFSET + 11 * 64, 4);
		damage_words(BLIX_TOC_OFFSET, BLIX_TOC_OFFSET + 11 * 64, 8);
	});
	STEP(3 + N_REGIONS, "random damage of up to 24 bytes", damage_at_random(regions, n_random));
	STEP(4 + N_REGIONS, "bytes that change while they are read",
	     read_while_changing(regions, 10000));
	STEP(5 + N_REGIONS, "truncation", truncate_everywhere(regions));
	printf("1..%d\n", 5 + N_REGIONS);
}

static void summarise(void)
{
	printf("# %llu cases, %llu opened", (unsigned long long)cases, (unsigned long long)opened);
	for (int i = 0; i < ERRORS; i++)
		if (refused[i])
			printf(", %llu %s", (unsigned long long)refused[i], strerrorname_np(i));
	printf(", %llu failures\n", (unsigned long long)failures);
}

/* The first argument is the number of random cases. */
int main(int argc, char **argv)
{
	uint64_t n_random = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000;

	signal(SIGALRM, on_alarm);
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/blix1", dir);
	make_good_file();
	run_all(n_random);
	summarise();
	close(fd);
	free(good);
	unlink(path);
	rmdir(dir);
	return failures ? 1 : 0;
}
