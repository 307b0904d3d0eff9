/* shm/map_validate.c - page 0 and the table of contents of a foreign file, checked once.
 *
 * Reads with pread(2), which cannot fault, into private memory; so nothing changes between check
 * and use. What comes out is a blix_view whose every part lies inside the file, is aligned, within
 * the caps of layout.h and overlaps no other part. Thread rule: none, it keeps no state.
 * Includes: shm/ only. */
#include "shm/map_private.h"

#include "shm/format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	FROZEN_BYTES = 16,
	KNOWN_INCOMPAT = 0,
	PART_ALIGN = 64,
	SECTIONS = BLIX_SEC_SLOTS0 + 1,
	STRIDE_ANY = -1,
};

/* What this reader knows of each section type. */
struct section_rule {
	const char *name;
	uint64_t align;
	uint32_t count_max;
	int64_t stride; /* the only one the view can express, or STRIDE_ANY */
	uint32_t stride_min;
	bool required;
};

static const struct section_rule rules[SECTIONS] = {
	[BLIX_SEC_STRINGS] = {"STRINGS", PART_ALIGN, UINT32_MAX, STRIDE_ANY, 0, true},
	[BLIX_SEC_METRICS] = {"METRICS", PART_ALIGN, BLIX_CAP_METRICS, STRIDE_ANY, 0, true},
	[BLIX_SEC_SERIES] = {"SERIES", PART_ALIGN, BLIX_CAP_SERIES, STRIDE_ANY, 0, true},
	[BLIX_SEC_BUCKET_LAYOUTS] = {"BUCKET_LAYOUTS", PART_ALIGN, BLIX_CAP_LAYOUTS, STRIDE_ANY, 0,
				     false},
	[BLIX_SEC_GAUGES] = {"GAUGES", PART_ALIGN, BLIX_CAP_GAUGES, 8, 8, false},
	[BLIX_SEC_EXEMPLARS] = {"EXEMPLARS", PART_ALIGN, BLIX_CAP_EXEMPLARS, STRIDE_ANY,
				sizeof(struct blix_exemplar), false},
	[BLIX_SEC_LANES] = {"LANES", BLIX_SECTION_ALIGN, BLIX_CAP_LANES, STRIDE_ANY,
			    BLIX_SECTION_ALIGN, true},
	[BLIX_SEC_CONSUMER] = {"CONSUMER", BLIX_SECTION_ALIGN, BLIX_CAP_LANES,
			       sizeof(struct blix_consumer_lane), 0, true},
	[BLIX_SEC_RESOURCE] = {"RESOURCE", PART_ALIGN, UINT32_MAX, STRIDE_ANY, 0, false},
	[BLIX_SEC_CONTROL] = {"CONTROL", PART_ALIGN, 1, STRIDE_ANY, 0, false},
	[BLIX_SEC_SLOTS0] = {"SLOTS0", PART_ALIGN, BLIX_CAP_SLOTS, sizeof(struct blix_span_slot), 0,
			     false},
};

/* Everything needed while one file is judged. */
struct judge {
	int fd;
	const char *path;
	char *reason;
	uint64_t bytes; /* as far as the header says and fstat agrees */
	struct blix_header header;
	struct blix_toc toc[SECTIONS]; /* by type; type 0 = absent */
};

int blix_map_refuse(char reason[BLIX_REASON_MAX], int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, BLIX_REASON_MAX, format, args);
	va_end(args);
	return error;
}

/* The whole of ret_copy, or -ENODATA. */
static int read_at(const struct judge *j, uint64_t off, void *ret_copy, size_t len)
{
	ssize_t n;

	do {
		n = pread(j->fd, ret_copy, len, (off_t)off);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return blix_map_refuse(j->reason, -errno, "%s cannot be read: %s", j->path,
				       strerror(errno));
	if ((size_t)n < len)
		return blix_map_refuse(j->reason, -ENODATA,
				       "%s was truncated: it ends at byte %" PRIu64
				       "; restart its node",
				       j->path, off + (uint64_t)n);
	return 0;
}

static int malformed(const struct judge *j, const char *what)
{
	return blix_map_refuse(j->reason, -EPROTO,
			       "%s is damaged: %s; restart its node to get a new file", j->path,
			       what);
}

static int malformed_section(const struct judge *j, uint32_t type, const char *what)
{
	return blix_map_refuse(j->reason, -EPROTO,
			       "%s is damaged: section %s %s; restart its node to get a new file",
			       j->path, rules[type].name, what);
}

/* ---- page 0 ------------------------------------------------------------------------------- */

/* The first 16 bytes mean the same in every version there will ever be. */
static int check_frozen(const struct judge *j, uint64_t file_bytes)
{
	static const uint8_t zeros[FROZEN_BYTES];
	struct {
		uint8_t magic[8];
		uint32_t byte_order;
		uint16_t major;
		uint16_t minor;
	} frozen = {0};
	size_t len = file_bytes < FROZEN_BYTES ? (size_t)file_bytes : FROZEN_BYTES;
	int err = read_at(j, 0, &frozen, len);

	if (err)
		return err;
	if (memcmp(&frozen, zeros, FROZEN_BYTES) == 0)
		return blix_map_refuse(j->reason, -EAGAIN, "%s is empty: still being filled",
				       j->path);
	if (memcmp(frozen.magic, BLIX_MAGIC, len < 8 ? len : 8) != 0)
		return blix_map_refuse(j->reason, -EPROTO,
				       "%s is no Blixard telemetry file: wrong magic; check --shm",
				       j->path);
	if (len < FROZEN_BYTES)
		return blix_map_refuse(j->reason, -ENODATA,
				       "%s was truncated within its first page; restart its node",
				       j->path);
	if (frozen.byte_order != BLIX_BYTE_ORDER)
		return blix_map_refuse(j->reason, -EPROTONOSUPPORT,
				       "%s has byte order 0x%08" PRIx32
				       ": written on another kind of machine",
				       j->path, frozen.byte_order);
	if (frozen.major != BLIX_ABI_MAJOR)
		return blix_map_refuse(j->reason, -EPROTONOSUPPORT,
				       "%s was written by ABI %u.%u, this reader knows %u: "
				       "upgrade %s",
				       j->path, frozen.major, frozen.minor, BLIX_ABI_MAJOR,
				       frozen.major > BLIX_ABI_MAJOR ? "blixard-agent"
								     : "the node");
	return 0;
}

static int check_sizes(struct judge *j, uint64_t file_bytes)
{
	const struct blix_header *h = &j->header;
	uint64_t toc_end;

	if (h->incompat & ~(uint64_t)KNOWN_INCOMPAT)
		return blix_map_refuse(j->reason, -EPROTONOSUPPORT,
				       "%s (ABI %u.%u) needs features 0x%" PRIx64
				       " that this reader lacks: upgrade blixard-agent",
				       j->path, h->abi_major, h->abi_minor, h->incompat);
	if (h->file_size > file_bytes)
		return blix_map_refuse(j->reason, -ENODATA,
				       "%s was truncated: %" PRIu64 " of %" PRIu64
				       " bytes are left; restart its node",
				       j->path, file_bytes, h->file_size);
	if (h->header_len < sizeof(*h) || h->header_len > h->file_size)
		return malformed(j, "the header's length is impossible");
	if (h->toc_count > BLIX_CAP_TOC || h->toc_off % 8 || h->toc_stride % 8 ||
	    h->toc_off < sizeof(*h))
		return malformed(j, "the table of contents is misplaced");
	if (__builtin_add_overflow((uint64_t)h->toc_off, (uint64_t)h->toc_count * h->toc_stride,
				   &toc_end) ||
	    toc_end > h->file_size)
		return malformed(j, "the table of contents lies outside");
	j->bytes = h->file_size;
	return 0;
}

static int check_header(struct judge *j, uint64_t file_bytes)
{
	struct blix_header *h = &j->header;
	int err = check_frozen(j, file_bytes);

	if (err)
		return err;
	err = read_at(j, 0, h, sizeof(*h));
	if (err)
		return err;
	if (h->state == BLIX_STATE_INIT)
		return blix_map_refuse(j->reason, -EAGAIN, "%s is not ready: still being filled",
				       j->path);
	if (h->static_crc32c != blix_crc32c(h, offsetof(struct blix_header, static_crc32c)))
		return malformed(j, "the checksum of page 0 is wrong");
	return check_sizes(j, file_bytes);
}

/* ---- table of contents -------------------------------------------------------------------- */

static int check_entry(const struct judge *j, const struct blix_toc *t)
{
	const struct section_rule *rule = &rules[t->type];
	uint64_t end;
	uint64_t used;

	if (t->off % rule->align)
		return malformed_section(j, t->type, "is misaligned");
	if (__builtin_add_overflow(t->off, t->len, &end) || end > j->bytes)
		return malformed_section(j, t->type, "lies outside the file");
	if (t->off < j->header.header_len)
		return malformed_section(j, t->type, "overlaps page 0");
	if (t->count > rule->count_max)
		return malformed_section(j, t->type, "has more elements than this reader accepts");
	if (t->count && (t->stride % 8 || t->stride < rule->stride_min ||
			 (rule->stride != STRIDE_ANY && t->stride != rule->stride)))
		return malformed_section(j, t->type, "has an impossible stride");
	if (__builtin_mul_overflow((uint64_t)t->count, (uint64_t)t->stride, &used) || used > t->len)
		return malformed_section(j, t->type, "is shorter than its elements");
	return 0;
}

/* Read every entry; keep the known ones. A shorter entry has a zero tail. */
static int read_toc(struct judge *j)
{
	const struct blix_header *h = &j->header;
	size_t known =
		h->toc_stride < sizeof(struct blix_toc) ? h->toc_stride : sizeof(struct blix_toc);

	for (uint32_t i = 0; i < h->toc_count; i++) {
		struct blix_toc t = {0};
		int err = read_at(j, h->toc_off + (uint64_t)i * h->toc_stride, &t, known);

		if (err)
			return err;
		if (t.type >= SECTIONS || !rules[t.type].name)
			continue;
		if (j->toc[t.type].type)
			return malformed_section(j, t.type, "comes twice");
		err = check_entry(j, &t);
		if (err)
			return err;
		j->toc[t.type] = t;
	}
	for (uint32_t type = 0; type < SECTIONS; type++)
		if (rules[type].required && !j->toc[type].type)
			return malformed_section(j, type, "is missing");
	return 0;
}

static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a_len && b_len && a < b + b_len && b < a + a_len;
}

/* CONTROL is inside CONSUMER on purpose; see take_consumer(). */
static int check_overlaps(const struct judge *j)
{
	const struct blix_header *h = &j->header;
	uint64_t toc_len = (uint64_t)h->toc_count * h->toc_stride;

	for (uint32_t a = 1; a < SECTIONS; a++) {
		if (!j->toc[a].type || a == BLIX_SEC_CONTROL)
			continue;
		if (overlap(j->toc[a].off, j->toc[a].len, h->toc_off, toc_len))
			return malformed_section(j, a, "overlaps the table of contents");
		for (uint32_t b = a + 1; b < SECTIONS; b++)
			if (b != BLIX_SEC_CONTROL &&
			    overlap(j->toc[a].off, j->toc[a].len, j->toc[b].off, j->toc[b].len))
				return malformed_section(j, a, "overlaps another one");
	}
	return 0;
}

/* ---- from sections to a view ----------------------------------------------------------------- */

struct lane_part {
	uint64_t off;
	uint64_t len;
};

/* Inside a lane: its parts fit, are aligned and do not overlap. */
static int check_lane(const struct judge *j, const struct blix_lane_geometry *g)
{
	const struct blix_toc *t = &j->toc[BLIX_SEC_LANES];
	const struct lane_part parts[] = {
		{0, sizeof(struct blix_lane)},
		{g->cells_off, (uint64_t)g->n_cells * 8},
		{g->ring_ctl_off, sizeof(struct blix_ring)},
		{g->slots_off, (uint64_t)g->n_slots * sizeof(struct blix_span_slot)},
		{g->ring_off, g->ring_bytes},
	};
	const size_t n = sizeof(parts) / sizeof(parts[0]);

	if (g->n_cells == 0 || g->n_cells > BLIX_CAP_CELLS || g->n_slots > BLIX_CAP_SLOTS ||
	    (uint64_t)g->n_cells * t->count > BLIX_CAP_ALL_CELLS)
		return malformed_section(j, t->type, "has an impossible number of cells or slots");
	if (g->ring_bytes < BLIX_RING_BYTES_MIN || g->ring_bytes > BLIX_RING_BYTES_MAX ||
	    (g->ring_bytes & (g->ring_bytes - 1)))
		return malformed_section(j, t->type, "has rings of an impossible size");
	for (size_t a = 0; a < n; a++) {
		if (parts[a].off % PART_ALIGN || parts[a].off + parts[a].len > t->stride)
			return malformed_section(j, t->type, "has a misplaced part");
		for (size_t b = a + 1; b < n; b++)
			if (overlap(parts[a].off, parts[a].len, parts[b].off, parts[b].len))
				return malformed_section(j, t->type, "has overlapping parts");
	}
	return 0;
}

static int take_lanes(const struct judge *j, struct blix_view *v)
{
	const struct blix_toc *t = &j->toc[BLIX_SEC_LANES];
	struct blix_lane_geometry g;

	if (t->count == 0 || t->count != j->header.lane_count)
		return malformed_section(j, t->type,
					 "disagrees with page 0 on the number of lanes");
	if (t->stride % BLIX_SECTION_ALIGN)
		return malformed_section(j, t->type, "has an impossible stride");
	memcpy(&g, t->aux, sizeof(g));
	v->n_lanes = t->count;
	v->lanes_off = t->off;
	v->lane_stride = t->stride;
	v->lane = g;
	return check_lane(j, &g);
}

static int take_consumer(const struct judge *j, struct blix_view *v)
{
	const struct blix_toc *t = &j->toc[BLIX_SEC_CONSUMER];
	const struct blix_toc *control = &j->toc[BLIX_SEC_CONTROL];
	uint64_t used = sizeof(struct blix_consumer) +
			(uint64_t)v->n_lanes * sizeof(struct blix_consumer_lane);

	if (t->count != v->n_lanes || t->len < used)
		return malformed_section(j, t->type, "is too small for the lanes");
	v->consumer_off = t->off;
	v->consumer_len = t->len;
	if (!control->type)
		return 0;
	if (control->off < t->off + used || control->off + control->len > t->off + t->len ||
	    control->len < sizeof(struct blix_control))
		return malformed_section(j, control->type, "is not inside CONSUMER");
	v->control_off = control->off;
	return 0;
}

static int take_tables(const struct judge *j, struct blix_view *v)
{
	const struct blix_toc *toc = j->toc;

	v->strings_off = toc[BLIX_SEC_STRINGS].off;
	v->strings_len = toc[BLIX_SEC_STRINGS].len & ~UINT64_C(7);
	v->metrics_off = toc[BLIX_SEC_METRICS].off;
	v->metrics_stride = toc[BLIX_SEC_METRICS].stride;
	v->n_metrics = toc[BLIX_SEC_METRICS].count;
	v->series_off = toc[BLIX_SEC_SERIES].off;
	v->series_stride = toc[BLIX_SEC_SERIES].stride;
	v->n_series = toc[BLIX_SEC_SERIES].count;
	v->layouts_off = toc[BLIX_SEC_BUCKET_LAYOUTS].off;
	v->layouts_stride = toc[BLIX_SEC_BUCKET_LAYOUTS].stride;
	v->n_layouts = toc[BLIX_SEC_BUCKET_LAYOUTS].count;
	v->gauges_off = toc[BLIX_SEC_GAUGES].off;
	v->n_gauges = toc[BLIX_SEC_GAUGES].count;
	v->exemplars_off = toc[BLIX_SEC_EXEMPLARS].off;
	v->exemplars_stride = toc[BLIX_SEC_EXEMPLARS].stride;
	v->n_exemplars = toc[BLIX_SEC_EXEMPLARS].count;
	v->slots0_off = toc[BLIX_SEC_SLOTS0].off;
	v->n_slots0 = toc[BLIX_SEC_SLOTS0].count;
	v->resource_off = toc[BLIX_SEC_RESOURCE].off;
	v->resource_len = toc[BLIX_SEC_RESOURCE].len;
	if (v->strings_len > BLIX_CAP_STRINGS_BYTES)
		return malformed_section(j, BLIX_SEC_STRINGS, "is larger than this reader accepts");
	if (v->resource_len > BLIX_CAP_RESOURCE_BYTES)
		return malformed_section(j, BLIX_SEC_RESOURCE,
					 "is larger than this reader accepts");
	if (v->resource_off + v->resource_len + 7 > j->bytes) /* it is copied in whole words */
		return malformed_section(j, BLIX_SEC_RESOURCE, "reaches the end of the file");
	return 0;
}

static void take_identity(const struct blix_header *h, struct blix_map_identity *id)
{
	id->abi_minor = h->abi_minor;
	memcpy(id->boot_id, h->boot_id, sizeof(id->boot_id));
	memcpy(id->incarnation, h->incarnation, sizeof(id->incarnation));
	for (size_t i = 0; i < sizeof(id->incarnation); i++)
		snprintf(id->incarnation_hex + 2 * i, 3, "%02x", id->incarnation[i]);
	id->node_id = h->node_id;
	id->pid = h->pid;
	id->uid = h->uid;
	id->pid_start_ticks = h->pid_start_ticks;
	id->pidns_ino = h->pidns_ino;
	id->timens_ino = h->timens_ino;
	id->flags = h->flags;
	id->map_base = h->map_base;
	id->open_mono_ns = h->open_mono_ns;
	id->open_real_ns = h->open_real_ns;
	blix_map_copy_field(id->version, h->version, sizeof(h->version));
	blix_map_copy_field(id->grpc_address, h->grpc_address, sizeof(h->grpc_address));
	blix_map_copy_field(id->cluster, h->cluster, sizeof(h->cluster));
	blix_map_copy_field(id->service_name, h->service_name, sizeof(h->service_name));
	blix_map_copy_field(id->data_dir, h->data_dir, sizeof(h->data_dir));
}

int blix_map_validate(int fd, const char *path, uint64_t file_bytes, struct blix_view *ret_view,
		      struct blix_map_identity *ret_identity, char reason[BLIX_REASON_MAX])
{
	struct judge j = {.fd = fd, .path = path, .reason = reason};
	struct blix_view v = {0};
	int err = check_header(&j, file_bytes);

	if (!err)
		err = read_toc(&j);
	if (!err)
		err = check_overlaps(&j);
	if (!err)
		err = take_lanes(&j, &v);
	if (!err)
		err = take_consumer(&j, &v);
	if (!err)
		err = take_tables(&j, &v);
	if (err)
		return err;
	v.size = j.bytes;
	*ret_view = v;
	take_identity(&j.header, ret_identity);
	return 0;
}
