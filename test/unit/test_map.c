/* Goal: each errno that map.h names is provoked and leaves the result alone; what a node wrote is
 * what the reader returns; locks and death are seen across processes.
 * Method: a small live file made by test/support/shm_file.c in a directory of its own, damaged in
 * one way at a time. Processes end by signal and are waited for; nothing sleeps. */
#include "shm/map.h"
#include "test/support/shm_file.h"

#include "shm/atomic.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/dev/shm/blix-test-map-XXXXXX";
static char path[64];
static struct shm_file *file;
static char reason[BLIX_REASON_MAX];

static void setup(void)
{
	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(chmod(dir, 0755), 0);
	snprintf(path, sizeof(path), "%s/blix1", dir);
	file = shm_file_new(path, &(struct shm_file_options){.node_id = 42});
}

static void teardown(void)
{
	file = shm_file_free(file);
	unlink(path);
	cr_expect_eq(rmdir(dir), 0);
}

TestSuite(map_open, .init = setup, .fini = teardown);
TestSuite(map_live, .init = setup, .fini = teardown);

static struct blix_map *open_with(const struct blix_map_options *options)
{
	struct blix_map *map = NULL;

	cr_assert_eq(blix_map_open(path, options, &map, reason), 0, "%s", reason);
	cr_assert_not_null(map);
	return map;
}

static struct blix_map *open_map(void)
{
	return open_with(&(struct blix_map_options){0});
}

/* The open fails with `error`; the reason is one sentence that names the file and `says`. */
static void expect_refused_with(const struct blix_map_options *options, int error, const char *says)
{
	struct blix_map *map = (struct blix_map *)&reason;

	memset(reason, 0, sizeof(reason));
	cr_expect_eq(blix_map_open(path, options, &map, reason), error, "\"%s\"", reason);
	cr_expect_eq(map, (struct blix_map *)&reason, "the result was touched");
	cr_expect_eq(strncmp(reason, dir, strlen(dir)), 0, "no path in \"%s\"", reason);
	cr_expect_not_null(strstr(reason, says), "no \"%s\" in \"%s\"", says, reason);
	cr_expect_null(strchr(reason, '\n'));
}

static void expect_refused(int error, const char *says)
{
	expect_refused_with(&(struct blix_map_options){0}, error, says);
	expect_refused_with(&(struct blix_map_options){.consumer = true}, error, says);
}

/* ---- every errno of blix_map_open() ---------------------------------------------------------- */

Test(map_open, missing_file_is_enoent)
{
	unlink(path);
	expect_refused(-ENOENT, "has not started");
}

Test(map_open, file_in_state_init_is_eagain_and_live_opens)
{
	blix_view_header(&file->view)->state = BLIX_STATE_INIT;
	expect_refused(-EAGAIN, "still being filled");
	blix_view_header(&file->view)->state = BLIX_STATE_LIVE;
	blix_map_close(open_map());
}

Test(map_open, empty_or_zeroed_file_is_eagain)
{
	unlink(path);
	cr_assert_geq(close(open(path, O_CREAT | O_RDWR, 0600)), 0);
	expect_refused(-EAGAIN, "empty");
	cr_assert_eq(truncate(path, 1 << 20), 0);
	expect_refused(-EAGAIN, "empty");
}

Test(map_open, another_magic_is_eproto)
{
	file->view.base[0] ^= 1;
	expect_refused(-EPROTO, "magic");
}

Test(map_open, short_text_file_is_eproto)
{
	int fd;

	unlink(path);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	cr_assert_eq(write(fd, "hi\n", 3), 3);
	close(fd);
	expect_refused(-EPROTO, "magic");
}

Test(map_open, wrong_checksum_is_eproto)
{
	blix_view_header(&file->view)->node_id ^= 1;
	expect_refused(-EPROTO, "checksum");
	shm_file_reseal(file);
	blix_map_close(open_map());
}

Test(map_open, newer_major_is_refused_with_both_versions)
{
	blix_view_header(&file->view)->abi_major = 2;
	blix_view_header(&file->view)->abi_minor = 7;
	expect_refused(-EPROTONOSUPPORT, "ABI 2.7, this reader knows 1: upgrade blixard-agent");
	blix_view_header(&file->view)->abi_major = 0;
	expect_refused(-EPROTONOSUPPORT, "upgrade the node");
}

Test(map_open, other_byte_order_is_refused)
{
	blix_view_header(&file->view)->byte_order = 0x04030201;
	expect_refused(-EPROTONOSUPPORT, "byte order");
}

Test(map_open, unknown_incompat_bit_is_refused_and_unknown_compat_bit_is_not)
{
	blix_view_header(&file->view)->compat = UINT64_MAX;
	shm_file_reseal(file);
	blix_map_close(open_map());
	blix_view_header(&file->view)->incompat = UINT64_C(1) << 63;
	shm_file_reseal(file);
	expect_refused(-EPROTONOSUPPORT, "0x8000000000000000");
}

Test(map_open, unknown_consumer_version_is_refused_to_consumers_only)
{
	blix_view_consumer(&file->view)->layout_ver = 2;
	blix_map_close(open_map());
	expect_refused_with(&(struct blix_map_options){.consumer = true}, -EPROTONOSUPPORT,
			    "version 2");
}

Test(map_open, truncated_file_is_enodata)
{
	const uint64_t sizes[] = {8, 15, 16, 100, 2047, 2048, 4096, file->view.size - 1};

	for (size_t i = sizeof(sizes) / sizeof(sizes[0]); i-- > 0;) {
		cr_assert_eq(truncate(path, (off_t)sizes[i]), 0);
		expect_refused(-ENODATA, "truncated");
	}
}

Test(map_open, file_may_be_longer_than_it_says)
{
	cr_assert_eq(truncate(path, (off_t)file->view.size + 5), 0);
	blix_map_close(open_map());
}

Test(map_open, foreign_owner_is_eperm_only_if_asked)
{
	struct blix_map_options options = {.check_owner = true, .owner = getuid() + 1};

	if (geteuid() == 0) {
		blix_map_close(open_with(&options)); /* root may own any file */
		cr_assert_eq(chown(path, 4711, (gid_t)-1), 0);
		options.owner = 4711;
		blix_map_close(open_with(&options));
		options.owner = 4712;
	}
	expect_refused_with(&options, -EPERM, "--owner");
	options.check_owner = false;
	blix_map_close(open_with(&options));
}

Test(map_open, second_link_is_eperm)
{
	char other[80];

	snprintf(other, sizeof(other), "%s.link", path);
	cr_assert_eq(link(path, other), 0);
	expect_refused(-EPERM, "2 links");
	unlink(other);
	blix_map_close(open_map());
}

Test(map_open, symbolic_link_is_eloop)
{
	char target[80];

	snprintf(target, sizeof(target), "%s.real", path);
	cr_assert_eq(rename(path, target), 0);
	cr_assert_eq(symlink(target, path), 0);
	expect_refused(-ELOOP, "symbolic link");
	unlink(target);
}

Test(map_open, directory_is_eisdir)
{
	unlink(path);
	cr_assert_eq(mkdir(path, 0700), 0);
	expect_refused(-EISDIR, "directory");
	rmdir(path);
}

Test(map_open, fifo_is_einval_without_blocking)
{
	unlink(path);
	cr_assert_eq(mkfifo(path, 0600), 0);
	expect_refused(-EINVAL, "regular");
}

Test(map_open, socket_is_einval)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	unlink(path);
	strcpy(address.sun_path, path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	expect_refused(-EINVAL, "regular");
	close(fd);
}

Test(map_open, file_beyond_max_bytes_is_efbig)
{
	struct blix_map_options options = {.max_bytes = file->view.size};

	blix_map_close(open_with(&options));
	options.max_bytes--;
	expect_refused_with(&options, -EFBIG, "at most");
	cr_assert_eq(truncate(path, (off_t)BLIX_CAP_FILE_BYTES + 1), 0);
	expect_refused(-EFBIG, "at most");
}

Test(map_open, unreadable_file_is_eacces)
{
	if (geteuid() == 0) {
		cr_assert_eq(chmod(path, 0600), 0);
		cr_assert_eq(seteuid(65534), 0);
	} else {
		cr_assert_eq(chmod(path, 0), 0);
	}
	expect_refused(-EACCES, "group");
	(void)!seteuid(getuid());
}

Test(map_open, read_only_permission_suffices_unless_consuming)
{
	if (geteuid() == 0) {
		cr_assert_eq(chmod(path, 0644), 0);
		cr_assert_eq(seteuid(65534), 0);
	} else {
		cr_assert_eq(chmod(path, 0400), 0);
	}
	blix_map_close(open_map());
	expect_refused_with(&(struct blix_map_options){.consumer = true}, -EACCES, "group");
	(void)!seteuid(getuid());
}

Test(map_open, more_maps_than_the_guard_can_watch_is_emfile)
{
	struct blix_map *maps[200];
	struct blix_map *map = NULL;
	size_t n = 0;
	int err;

	while ((err = blix_map_open(path, &(struct blix_map_options){0}, &map, reason)) == 0) {
		cr_assert_lt(n, 200);
		maps[n++] = map;
	}
	cr_expect_eq(err, -EMFILE, "%s", reason);
	cr_expect_geq(n, 64);
	blix_map_close(maps[--n]);
	blix_map_close(open_map()); /* a slot given back is used again */
	while (n > 0)
		blix_map_close(maps[--n]);
}

Test(map_open, close_accepts_null)
{
	cr_expect_null(blix_map_close(NULL));
}

/* ---- structure ------------------------------------------------------------------------------- */

Test(map_open, impossible_header_fields_are_eproto)
{
	struct blix_header *h = blix_view_header(&file->view);
	const struct blix_header good = *h;

#define TRY(field, value)                                                                          \
	do {                                                                                       \
		h->field = (value);                                                                \
		shm_file_reseal(file);                                                             \
		expect_refused(-EPROTO, "damaged");                                                \
		*h = good;                                                                         \
	} while (0)

	TRY(header_len, 0);
	TRY(header_len, 2047);
	TRY(header_len, UINT32_MAX);
	TRY(toc_count, 0);
	TRY(toc_count, BLIX_CAP_TOC + 1);
	TRY(toc_count, UINT32_MAX);
	TRY(toc_stride, 60);
	TRY(toc_stride, UINT32_MAX - 7);
	TRY(toc_off, 0x804);
	TRY(toc_off, 0x100);
	TRY(toc_off, UINT32_MAX - 7);
	TRY(lane_count, 0);
	TRY(lane_count, 3);
	TRY(file_size, 8192);
	blix_map_close(open_map());
#undef TRY
}

static struct blix_toc *toc;
static struct blix_toc good_entry;

static void expect_entry_refused(int line)
{
	struct blix_map *map;

	cr_expect_eq(blix_map_open(path, &(struct blix_map_options){0}, &map, reason), -EPROTO,
		     "line %d: %s", line, reason);
	*toc = good_entry;
}

Test(map_open, impossible_toc_entries_are_eproto)
{
	const uint32_t types[] = {BLIX_SEC_STRINGS, BLIX_SEC_METRICS,  BLIX_SEC_SERIES,
				  BLIX_SEC_GAUGES,  BLIX_SEC_LANES,    BLIX_SEC_EXEMPLARS,
				  BLIX_SEC_SLOTS0,  BLIX_SEC_CONSUMER, BLIX_SEC_BUCKET_LAYOUTS};

#define TRY(field, value)                                                                          \
	do {                                                                                       \
		toc->field = (value);                                                              \
		expect_entry_refused(__LINE__);                                                    \
	} while (0)

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		toc = shm_file_toc(file, types[i]);
		good_entry = *toc;
		TRY(off, toc->off + 8);	      /* misaligned */
		TRY(off, 0);		      /* overlaps page 0 */
		TRY(off, 0x800);	      /* overlaps the TOC */
		TRY(off, file->view.size);    /* outside */
		TRY(off, UINT64_MAX - 65535); /* off + len overflows */
		TRY(len, file->view.size);    /* beyond the end */
		TRY(len, UINT64_MAX);
		TRY(len, file->view.size - toc->off + 1);
		TRY(type, types[i] == BLIX_SEC_STRINGS ? BLIX_SEC_METRICS : BLIX_SEC_STRINGS);
		if (types[i] == BLIX_SEC_STRINGS)
			continue;
		TRY(count, UINT32_MAX); /* cap, and count x stride overflows */
		TRY(stride, UINT32_MAX - 7);
		TRY(stride, 68); /* no multiple of 8 */
		TRY(len, (uint64_t)toc->count * toc->stride - 1);
	}
	blix_map_close(open_map());
}

Test(map_open, sections_larger_than_a_reader_takes_are_eproto)
{
	const uint64_t end = 64u << 20;

	/* Behind all else, so that only the size can be wrong. */
	cr_assert_eq(truncate(path, (off_t)end), 0);
	blix_view_header(&file->view)->file_size = end;
	shm_file_reseal(file);
	toc = shm_file_toc(file, BLIX_SEC_STRINGS);
	toc->off = file->view.size;
	toc->len = BLIX_CAP_STRINGS_BYTES;
	blix_map_close(open_map());
	good_entry = *toc;
	TRY(len, BLIX_CAP_STRINGS_BYTES + 8);
	toc = shm_file_toc(file, BLIX_SEC_RESOURCE);
	toc->off = end - 65536 - 64;
	toc->len = BLIX_CAP_RESOURCE_BYTES;
	blix_map_close(open_map());
	good_entry = *toc;
	TRY(len, BLIX_CAP_RESOURCE_BYTES + 1);
	TRY(off, end - 65536);
}

Test(map_open, elements_without_size_are_counted_all_the_same)
{
	toc = shm_file_toc(file, BLIX_SEC_METRICS);
	toc->stride = 0;
	toc->count = BLIX_CAP_METRICS;
	blix_map_close(open_map());
	good_entry = *toc;
	TRY(count, BLIX_CAP_METRICS + 1);
	TRY(count, UINT32_MAX);
}

Test(map_open, consumer_section_must_hold_all_lanes)
{
	shm_file_toc(file, BLIX_SEC_CONTROL)->type = 999;
	toc = shm_file_toc(file, BLIX_SEC_CONSUMER);
	toc->len = sizeof(struct blix_consumer) + 2 * sizeof(struct blix_consumer_lane);
	blix_map_close(open_map());
	good_entry = *toc;
	TRY(len, toc->len - 1);
	TRY(count, 1);
}

Test(map_open, toc_may_be_anywhere_but_in_a_section)
{
	struct blix_header *h = blix_view_header(&file->view);
	uint8_t *old_toc = file->view.base + h->toc_off;
	size_t len = h->toc_count * h->toc_stride;
	struct blix_map *map = NULL;

	toc = shm_file_toc(file, BLIX_SEC_STRINGS);
	toc->len = 4096; /* of 16384 */
	h->toc_off = (uint32_t)toc->off + 4096;
	memcpy(file->view.base + h->toc_off, old_toc, len);
	shm_file_reseal(file);
	blix_map_close(open_map());
	h->toc_off -= 64;
	memcpy(file->view.base + h->toc_off, old_toc, len);
	shm_file_reseal(file);
	cr_expect_eq(blix_map_open(path, &(struct blix_map_options){0}, &map, reason), -EPROTO);
	cr_expect_not_null(strstr(reason, "table of contents"), "%s", reason);
}

Test(map_open, overlapping_sections_are_eproto)
{
	toc = shm_file_toc(file, BLIX_SEC_GAUGES);
	good_entry = *toc;
	TRY(off, shm_file_toc(file, BLIX_SEC_EXEMPLARS)->off);
	TRY(off, shm_file_toc(file, BLIX_SEC_LANES)->off);
	toc = shm_file_toc(file, BLIX_SEC_CONTROL);
	good_entry = *toc;
	TRY(off, shm_file_toc(file, BLIX_SEC_CONSUMER)->off); /* on the acknowledgements */
	TRY(off, shm_file_toc(file, BLIX_SEC_GAUGES)->off);
	TRY(len, 8);
}

Test(map_open, missing_required_section_is_eproto_and_an_optional_one_is_not)
{
	const uint32_t required[] = {BLIX_SEC_STRINGS, BLIX_SEC_METRICS, BLIX_SEC_SERIES,
				     BLIX_SEC_LANES, BLIX_SEC_CONSUMER};
	const uint32_t optional[] = {BLIX_SEC_GAUGES,  BLIX_SEC_EXEMPLARS,
				     BLIX_SEC_SLOTS0,  BLIX_SEC_RESOURCE,
				     BLIX_SEC_CONTROL, BLIX_SEC_BUCKET_LAYOUTS};

	for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
		toc = shm_file_toc(file, required[i]);
		good_entry = *toc;
		TRY(type, 999);
	}
	for (size_t i = 0; i < sizeof(optional) / sizeof(optional[0]); i++)
		shm_file_toc(file, optional[i])->type = 999;
	blix_map_close(open_map());
}

/* A sparse file of the largest plan, whose lanes then claim one cell more each. */
Test(map_open, more_cells_than_a_scrape_may_cost_are_eproto)
{
	const struct blix_format_options largest = {
		.lanes = 1024,
		.cells = BLIX_CAP_ALL_CELLS / 1024,
		.ring_bytes = BLIX_RING_BYTES_MIN,
		.slots = 1,
	};
	struct blix_view v;
	int fd;

	file = shm_file_free(file);
	unlink(path);
	cr_assert_eq(blix_format_plan(&largest, &v), 0);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, (off_t)v.size), 0);
	void *base = mmap(NULL, v.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	cr_assert_neq(base, MAP_FAILED);
	v = blix_view_at(&v, base);
	cr_assert_eq(blix_format_fill(&v, &(struct blix_format_identity){.node_id = 1}), 0);
	blix_view_header(&v)->state = BLIX_STATE_LIVE;
	blix_map_close(open_map());

	struct blix_toc *entry = (struct blix_toc *)(void *)(v.base + BLIX_TOC_OFFSET);

	while (entry->type != BLIX_SEC_LANES)
		entry++;
	struct blix_lane_geometry *g = (struct blix_lane_geometry *)(void *)entry->aux;

	g->n_cells++;
	expect_refused(-EPROTO, "impossible number of cells");
	munmap(base, v.size);
	close(fd);
}

Test(map_open, impossible_lane_geometry_is_eproto)
{
	struct blix_lane_geometry *g;
	const struct blix_lane_geometry good = file->view.lane;

	toc = shm_file_toc(file, BLIX_SEC_LANES);
	g = (struct blix_lane_geometry *)(void *)toc->aux;
#define LANE(field, value)                                                                         \
	do {                                                                                       \
		g->field = (value);                                                                \
		good_entry = *toc;                                                                 \
		expect_entry_refused(__LINE__);                                                    \
		*g = good;                                                                         \
	} while (0)
	LANE(n_cells, 0);
	LANE(n_cells, BLIX_CAP_CELLS + 1);
	LANE(n_cells, good.n_cells + 1); /* into the ring's control words */
	LANE(n_slots, BLIX_CAP_SLOTS + 1);
	LANE(n_slots, good.n_slots + 1); /* into the ring's data */
	LANE(ring_bytes, BLIX_RING_BYTES_MIN / 2);
	LANE(ring_bytes, BLIX_RING_BYTES_MIN + 8);
	LANE(ring_bytes, BLIX_RING_BYTES_MIN * 4); /* beyond the lane */
	LANE(ring_bytes, BLIX_RING_BYTES_MAX * 2u);
	LANE(cells_off, 0); /* onto the owner word */
	LANE(cells_off, good.cells_off + 4);
	LANE(ring_off, UINT32_MAX - 63);
	LANE(ring_ctl_off, good.cells_off);
	LANE(slots_off, 8);
	blix_map_close(open_map());
#undef LANE
#undef TRY
}

/* ---- identity -------------------------------------------------------------------------------- */

Test(map_open, identity_and_resource_make_the_round_trip)
{
	const struct shm_file_options options = {
		.format.resource_len = 13,
		.node_id = UINT64_MAX,
		.flags = BLIX_FLAG_HISTOGRAMS_BOTH,
		.version = "1.2.3-\xc3\xa9",
		.grpc_address = "127.0.0.1:7003",
		.cluster = "prod",
		.service_name = "blixard",
		.data_dir = "/var/lib/blix",
		.resource = "thirteen byte",
		.incarnation = {0xab, 1, 2, [15] = 0x0f},
		.open_mono_ns = 5,
		.open_real_ns = 6,
	};
	const struct blix_map_identity *id;
	struct blix_map *map;
	struct stat st;
	size_t len;

	file = shm_file_free(file);
	file = shm_file_new(path, &options);
	map = open_map();
	id = blix_map_identity(map);
	cr_expect_eq(id->node_id, UINT64_MAX);
	cr_expect_eq(id->pid, (uint32_t)getpid());
	cr_expect_eq(id->uid, getuid());
	cr_expect_eq(id->flags, BLIX_FLAG_HISTOGRAMS_BOTH);
	cr_expect_eq(id->abi_minor, 0);
	cr_expect_eq(id->open_mono_ns, 5);
	cr_expect_eq(id->open_real_ns, 6);
	cr_expect_eq(id->map_base, (uintptr_t)file->view.base);
	cr_expect_str_eq(id->version, "1.2.3-\xc3\xa9");
	cr_expect_str_eq(id->grpc_address, "127.0.0.1:7003");
	cr_expect_str_eq(id->cluster, "prod");
	cr_expect_str_eq(id->service_name, "blixard");
	cr_expect_str_eq(id->data_dir, "/var/lib/blix");
	cr_expect_arr_eq(id->incarnation, options.incarnation, 16);
	cr_expect_str_eq(id->incarnation_hex, "ab01020000000000000000000000000f");
	cr_assert_eq(stat(path, &st), 0);
	cr_expect_eq(id->dev, st.st_dev);
	cr_expect_eq(id->ino, st.st_ino);
	cr_expect_arr_eq(blix_map_resource(map, &len), "thirteen byte", 13);
	cr_expect_eq(len, 13);
	blix_map_close(map);
}

Test(map_open, texts_that_are_no_text_are_made_one)
{
	struct blix_header *h = blix_view_header(&file->view);
	struct blix_map *map;

	memset(h->grpc_address, 'x', sizeof(h->grpc_address)); /* no terminator */
	memcpy(h->cluster, "a\xff\n\xc3\xa9\xed\xa0\x80", 9);  /* and a surrogate */
	memset(h->data_dir, 0xc3, sizeof(h->data_dir)); /* cut in the middle of a character */
	map = open_map();
	cr_expect_eq(strlen(blix_map_identity(map)->grpc_address), 128);
	cr_expect_str_eq(blix_map_identity(map)->cluster, "a??\xc3\xa9???");
	cr_expect_eq(strspn(blix_map_identity(map)->data_dir, "?"), 256);
	blix_map_close(map);
}

/* ---- while the node lives -------------------------------------------------------------------- */

Test(map_live, truncation_is_seen_at_the_next_refresh)
{
	struct blix_map *map = open_map();

	cr_expect_eq(blix_map_refresh(map), 0);
	cr_assert_eq(truncate(path, (off_t)file->view.size - 1), 0);
	cr_expect_eq(blix_map_refresh(map), -ENODATA);
	cr_expect_not(blix_map_poisoned(map), "nothing was read, so nothing faulted");
	blix_map_close(map);
}

Test(map_live, reading_a_hole_poisons_and_survives)
{
	struct blix_map *map = open_map();
	uint64_t sums[8];

	cr_assert_eq(truncate(path, 4096), 0);
	blix_map_sum_cells(map, sums, 8);
	cr_expect(blix_map_poisoned(map));
	cr_expect_eq(blix_map_refresh(map), -ENODATA);
	blix_map_close(map);
}

Test(map_live, life_follows_the_node)
{
	struct blix_header *h = blix_view_header(&file->view);
	struct blix_map *map = open_map();
	struct blix_map_life life;

	blix_map_life(map, &life);
	cr_expect_eq(life.state, BLIX_STATE_LIVE);
	cr_expect_eq(life.alive_beat, 0);
	cr_expect_eq(life.pair_mono_ns, blix_map_identity(map)->open_mono_ns);
	cr_expect_eq(life.pair_real_ns, blix_map_identity(map)->open_real_ns);
	shm_file_beat(file);
	h->app_beat = 3;
	h->orphans_discarded = 2;
	h->exit_code = 9;
	h->state = BLIX_STATE_CRASH_NOTED;
	blix_map_life(map, &life);
	cr_expect_eq(life.state, BLIX_STATE_CRASH_NOTED);
	cr_expect_eq(life.exit_code, 9);
	cr_expect_eq(life.alive_beat, 1);
	cr_expect_eq(life.app_beat, 3);
	cr_expect_eq(life.orphans_discarded, 2);
	cr_expect_eq(life.pair_mono_ns, h->pair_mono_ns);
	cr_expect_eq(life.pair_real_ns, h->pair_real_ns);
	h->state = 77;
	blix_map_life(map, &life);
	cr_expect_eq(life.state, BLIX_STATE_LIVE);
	blix_map_close(map);
}

Test(map_live, pair_left_half_written_is_not_believed)
{
	struct blix_header *h = blix_view_header(&file->view);
	struct blix_map *map = open_map();
	struct blix_map_life life;
	uint64_t mono_ns;

	shm_file_beat(file);
	blix_map_life(map, &life);
	mono_ns = life.pair_mono_ns;
	h->pair_seq++;
	h->pair_mono_ns = 1;
	blix_map_life(map, &life);
	cr_expect_eq(life.pair_mono_ns, mono_ns);
	h->pair_seq++;
	blix_map_life(map, &life);
	cr_expect_eq(life.pair_mono_ns, 1);
	blix_map_close(map);
}

Test(map_live, stats_are_read_by_index)
{
	struct blix_map *map = open_map();

	blix_view_header(&file->view)->stats[BLIX_STAT_NO_CELLS] = 17;
	cr_expect_eq(blix_map_stat(map, BLIX_STAT_NO_CELLS), 17);
	cr_expect_eq(blix_map_stat(map, BLIX_STAT_STALE_HANDLE), 0);
	cr_expect_eq(blix_map_stat(map, (enum blix_stat)32), 0);
	blix_map_close(map);
}

Test(map_live, cells_add_up_over_used_lanes_and_lane_0)
{
	uint32_t metric = shm_file_metric(
		file, &(struct shm_file_metric){.name = "a_total", .kind = BLIX_COUNTER});
	uint32_t series = shm_file_plain(file, metric);
	uint32_t cell = file->series[series].first_cell;
	struct blix_map *map = open_map();
	uint64_t sums[600];

	blix_view_cells(&file->view, 1)[cell] = 1000; /* lane 1 was never claimed: not looked at */
	shm_file_add(file, series, 0, 5);
	blix_map_sum_cells(map, sums, 8);
	cr_expect_eq(sums[cell], 5);
	shm_file_own_lane(file, 1, 0, 1); /* claimed once, free now: counts for ever */
	blix_map_sum_cells(map, sums, 8);
	cr_expect_eq(sums[cell], 1005);
	memset(sums, 0xee, sizeof(sums));
	blix_view_ring(&file->view, 0)->tail = 77; /* right behind the 512 cells of a lane */
	blix_map_sum_cells(map, sums, 600);
	cr_expect_eq(sums[cell], 1005);
	cr_expect_eq(sums[511], 0);
	cr_expect_eq(sums[512], 0);
	cr_expect_eq(sums[599], 0);
	blix_map_close(map);
}

Test(map_live, any_number_of_lanes_adds_up)
{
	for (uint32_t n = 1; n <= 11; n++) {
		struct blix_map *map;
		uint64_t sums[9];
		uint64_t want = 0;

		file = shm_file_free(file);
		file = shm_file_new(path, &(struct shm_file_options){.format.lanes = n});
		for (uint32_t lane = 0; lane < n; lane++) {
			blix_view_cells(&file->view, lane)[8] = UINT64_C(1) << lane;
			if (lane % 5 == 3)
				continue; /* never used */
			shm_file_own_lane(file, lane, lane % 2, 1);
			want += UINT64_C(1) << lane;
		}
		map = open_map();
		blix_map_sum_cells(map, sums, 9);
		cr_expect_eq(sums[8], want, "%u lanes", n);
		cr_expect_eq(sums[7], 0);
		blix_map_close(map);
	}
}

Test(map_live, gauges_lanes_and_drops)
{
	struct blix_map *map = open_map();
	struct blix_map_lanes lanes;

	blix_view_gauges(&file->view)[63] = 12;
	blix_view_gauges(&file->view)[64] = 13; /* an exemplar, by now */
	cr_expect_eq(blix_map_gauge(map, 63), 12);
	cr_expect_eq(blix_map_gauge(map, 64), 0);
	cr_expect_eq(blix_map_gauge(map, UINT32_MAX), 0);

	blix_map_lanes(map, &lanes);
	cr_expect(lanes.owned == 0 && lanes.free == 0 && lanes.never == 2);
	shm_file_own_lane(file, 1, 99, 0);
	shm_file_own_lane(file, 0, 0, 3);
	blix_map_lanes(map, &lanes);
	cr_expect(lanes.owned == 1 && lanes.free == 1 && lanes.never == 0);

	blix_view_ring(&file->view, 0)->drops[BLIX_DROP_LOG][BLIX_DROP_SHED] = 2;
	blix_view_ring(&file->view, 1)->drops[BLIX_DROP_LOG][BLIX_DROP_SHED] = 3;
	cr_expect_eq(blix_map_drops(map, BLIX_DROP_LOG, BLIX_DROP_SHED), 5);
	cr_expect_eq(blix_map_drops(map, BLIX_DROP_SPAN, BLIX_DROP_SHED), 0);
	cr_expect_eq(blix_map_drops(map, (enum blix_drop_kind)2, BLIX_DROP_SHED), 0);
	cr_expect_eq(blix_map_drops(map, BLIX_DROP_LOG, BLIX_DROP_REASONS), 0);
	blix_map_close(map);
}

Test(map_live, path_leads_to_this_file_another_or_none)
{
	struct blix_map *map = open_map();
	char aside[80];
	char below[80];

	cr_expect_eq(blix_map_is_at(map, path), 1);
	snprintf(aside, sizeof(aside), "%s.o", path);
	cr_assert_eq(rename(path, aside), 0);
	cr_expect_eq(blix_map_is_at(map, path), 0);
	cr_expect_eq(blix_map_is_at(map, aside), 1);
	cr_assert_geq(close(open(path, O_CREAT | O_RDWR, 0600)), 0);
	cr_expect_eq(blix_map_is_at(map, path), 0);
	snprintf(below, sizeof(below), "%s/x", path);
	cr_expect_eq(blix_map_is_at(map, below), -ENOTDIR);
	unlink(aside);
	blix_map_close(map);
}

Test(map_live, consumer_pages_are_written_through_their_own_mapping)
{
	struct blix_map *map = open_with(&(struct blix_map_options){.consumer = true});
	const struct blix_view *v = blix_map_view(map);

	blix_store_release(&blix_view_consumer(v)->beat, 5);
	blix_store_release(&blix_view_consumer_lane(v, 1)->ack[1].head, 64);
	cr_expect_eq(blix_view_consumer(&file->view)->beat, 5);
	cr_expect_eq(blix_view_consumer_lane(&file->view, 1)->ack[1].head, 64);
	blix_map_close(map);
	map = open_map();
	cr_expect_null(blix_map_view(map)->consumer);
	blix_map_close(map);
}

/* ---- locks between processes -------------------------------------------------------------- */

/* Run `work` in a child that reports readiness by one byte and then waits to be killed. */
static pid_t spawn(void (*work)(void))
{
	int pipefd[2];
	char ready = 0;
	pid_t pid;

	cr_assert_eq(pipe(pipefd), 0);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* whatever happens to the test */
		close(pipefd[0]);
		work();
		(void)!write(pipefd[1], "r", 1);
		for (;;)
			pause();
	}
	close(pipefd[1]);
	cr_assert_eq(read(pipefd[0], &ready, 1), 1, "the child failed");
	close(pipefd[0]);
	return pid;
}

static void kill_and_reap(pid_t pid)
{
	cr_assert_eq(kill(pid, SIGKILL), 0);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
}

static void consume(void)
{
	struct blix_map *map;

	if (blix_map_open(path, &(struct blix_map_options){.consumer = true}, &map, reason) ||
	    blix_map_lock_consumer(map))
		_exit(1);
}

Test(map_live, one_agent_at_a_time_consumes)
{
	struct blix_map *map = open_with(&(struct blix_map_options){.consumer = true});
	pid_t other = spawn(consume);

	cr_expect_eq(blix_map_lock_consumer(map), -EBUSY);
	kill_and_reap(other);
	cr_expect_eq(blix_map_lock_consumer(map), 0);
	cr_expect_eq(blix_map_lock_consumer(map), 0, "asking again is harmless");
	blix_map_close(map);
	map = open_with(&(struct blix_map_options){.consumer = true});
	cr_expect_eq(blix_map_lock_consumer(map), 0, "close has dropped the lock");
	blix_map_close(map);
}

Test(map_live, reader_without_write_permission_cannot_consume)
{
	struct blix_map *map = open_map();

	cr_expect_eq(blix_map_lock_consumer(map), -EBADF);
	blix_map_close(map);
}

Test(map_live, owner_is_gone_when_its_mapping_is)
{
	struct blix_map *map = open_map();

	cr_expect_eq(blix_map_owner_state(map), BLIX_OWNER_ALIVE);
	shm_file_abandon(file);
	cr_expect_eq(blix_map_owner_state(map), BLIX_OWNER_GONE);
	blix_map_close(map);
}

static void be_node(void)
{
	(void)shm_file_new(path, NULL);
}

Test(map_live, owner_is_gone_when_it_is_killed)
{
	struct blix_map *map;
	pid_t node;

	file = shm_file_free(file);
	node = spawn(be_node);
	map = open_map();
	cr_expect_eq(blix_map_owner_state(map), BLIX_OWNER_ALIVE);
	cr_expect_eq(blix_map_lock_consumer(map), -EBADF);
	kill_and_reap(node);
	cr_expect_eq(blix_map_owner_state(map), BLIX_OWNER_GONE);
	cr_expect_eq(blix_map_refresh(map), 0, "its last words can still be read");
	blix_map_close(map);
}

Test(map_live, stranger_who_may_only_read_cannot_play_the_owner)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 1};
	struct blix_map *map = open_map();
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	shm_file_abandon(file);
	cr_assert_eq(fcntl(fd, F_OFD_SETLK, &lock), 0);
	cr_expect_eq(blix_map_owner_state(map), BLIX_OWNER_GONE);
	close(fd);
	blix_map_close(map);
}
