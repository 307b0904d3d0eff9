/* agent/model/delta.c - see delta.h.
 *
 * A life's baseline is one run of bytes, the one that is saved: entries of key, time and values.
 * An attempt writes the next run beside it; a commit puts it in the place of the first. An index of
 * hashes finds entries. Series that the snapshot does not show now keep their entry: if they come
 * back they must not count from zero again.
 *
 * Includes: snapshot_private.h, buf.h, zlib (crc32), libc. */
#include "agent/model/delta.h"

#include "agent/buf.h"
#include "agent/model/snapshot_private.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

enum { VERSION = 1, KEY_BYTES_MAX = UINT16_MAX };
static const char magic[8] = "blixdlt";

/* On disk and in memory, little-endian, packed one behind the other: this, the key (family's name,
 * NUL, labels' text), the values. */
struct entry {
	uint32_t n_values;
	uint32_t key_len;
	uint64_t unix_ns; /* of the last committed point */
};

struct file_header {
	char magic[8];
	uint32_t version;
	uint32_t n_lives;
};

struct life_header {
	char incarnation[DELTA_INCARNATION_BYTES];
	uint64_t last_unix_ns;
	uint64_t touched;
	uint64_t entries_len;
	uint64_t ended;
};

struct life {
	struct life_header h; /* host's byte order here */
	struct buf entries;
	uint32_t *slots;  /* offset of an entry + 1; 0 = free */
	uint32_t n_slots; /* a power of two, at most half full */
};

struct delta {
	struct life lives[DELTA_LIVES_MAX];
	uint64_t turn;
	uint64_t skipped;

	/* the attempt */
	struct life *open;
	struct life next;
	bool *seen; /* of the open life's slots */
	uint64_t *values;
	uint64_t *starts;
	bool *skips;
};

/* ---- entries --------------------------------------------------------------------------------- */

static struct entry entry_at(const uint8_t *at)
{
	struct entry e;

	memcpy(&e, at, sizeof(e));
	e.n_values = le32toh(e.n_values);
	e.key_len = le32toh(e.key_len);
	e.unix_ns = le64toh(e.unix_ns);
	return e;
}

static size_t entry_len(const struct entry *e)
{
	return sizeof(*e) + e->key_len + (size_t)e->n_values * sizeof(uint64_t);
}

static uint64_t value_at(const uint8_t *values, uint32_t i)
{
	uint64_t v;

	memcpy(&v, values + (size_t)i * sizeof(v), sizeof(v));
	return le64toh(v);
}

static uint32_t hash_of(const uint8_t *key, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */

	for (size_t i = 0; i < len; i++)
		h = (h ^ key[i]) * 0x100000001b3ull;
	return (uint32_t)(h ^ h >> 32);
}

/* The slot of this key: its own, or the free one where it would go. */
static uint32_t slot_of(const struct life *l, const uint8_t *key, uint32_t len)
{
	uint32_t i = hash_of(key, len) & (l->n_slots - 1);

	for (; l->slots[i]; i = (i + 1) & (l->n_slots - 1)) {
		const uint8_t *at = l->entries.data + l->slots[i] - 1;
		struct entry e = entry_at(at);

		if (e.key_len == len && !memcmp(at + sizeof(e), key, len))
			break;
	}
	return i;
}

/* Check the entries, and build their index. -EBADMSG, -ENOMEM. */
static int build_index(struct life *l)
{
	uint32_t n = 0, n_slots = 16;
	size_t at = 0;

	while (at < l->entries.len) {
		struct entry e;

		if (l->entries.len - at < sizeof(e))
			return -EBADMSG;
		e = entry_at(l->entries.data + at);
		if (!e.key_len || e.key_len > KEY_BYTES_MAX || e.n_values > SNAPSHOT_VALUES_MAX ||
		    entry_len(&e) > l->entries.len - at)
			return -EBADMSG;
		at += entry_len(&e);
		n++;
	}
	while (n_slots < 2 * n)
		n_slots *= 2;
	l->slots = calloc(n_slots, sizeof(*l->slots));
	if (!l->slots)
		return -ENOMEM;
	l->n_slots = n_slots;
	for (at = 0; at < l->entries.len;) {
		struct entry e = entry_at(l->entries.data + at);

		l->slots[slot_of(l, l->entries.data + at + sizeof(e), e.key_len)] =
			(uint32_t)at + 1;
		at += entry_len(&e);
	}
	return 0;
}

static void life_done(struct life *l)
{
	buf_done(&l->entries);
	free(l->slots);
	*l = (struct life){0};
	buf_init(&l->entries, DELTA_BYTES_MAX);
}

/* ---- lives ----------------------------------------------------------------------------------- */

struct delta *delta_new(void)
{
	struct delta *d = calloc(1, sizeof(*d));

	for (uint32_t i = 0; d && i < DELTA_LIVES_MAX; i++)
		buf_init(&d->lives[i].entries, DELTA_BYTES_MAX);
	return d;
}

struct delta *delta_free(struct delta *d)
{
	if (!d)
		return NULL;
	delta_rollback(d);
	for (uint32_t i = 0; i < DELTA_LIVES_MAX; i++)
		life_done(&d->lives[i]);
	free(d);
	return NULL;
}

uint64_t delta_skipped(const struct delta *d)
{
	return d->skipped;
}

/* This life, or the place that it takes: a free one, else that of the life touched longest ago. */
static struct life *find_life(struct delta *d, const char *incarnation)
{
	struct life *oldest = &d->lives[0];

	for (uint32_t i = 0; i < DELTA_LIVES_MAX; i++) {
		if (!memcmp(d->lives[i].h.incarnation, incarnation, DELTA_INCARNATION_BYTES))
			return &d->lives[i];
		if (d->lives[i].h.touched < oldest->h.touched)
			oldest = &d->lives[i];
	}
	return oldest;
}

static bool is_incarnation(const char *text)
{
	return strnlen(text, DELTA_INCARNATION_BYTES + 1) == DELTA_INCARNATION_BYTES &&
	       strspn(text, "0123456789abcdef") == DELTA_INCARNATION_BYTES;
}

/* ---- an attempt ------------------------------------------------------------------------------ */

struct pass {
	struct delta *d;
	const struct snapshot *s;
	const struct life *from;
	uint64_t unix_ns;
	bool known; /* the series with a baseline, or those without */
};

static double as_double(uint64_t bits)
{
	double v;

	memcpy(&v, &bits, sizeof(v));
	return v;
}

/* One value less its baseline; false where it fell, which a counter does by starting again. */
static bool subtract(enum snapshot_number number, uint64_t now, uint64_t base, uint64_t *ret)
{
	double difference;

	if (number != SNAPSHOT_F64) {
		*ret = now - base;
		return number == SNAPSHOT_I64 ? (int64_t)now >= (int64_t)base : now >= base;
	}
	difference = as_double(now) - as_double(base);
	memcpy(ret, &difference, sizeof(difference));
	return difference >= 0;
}

/* All values of a series less the baseline; a histogram that fell anywhere starts again as a whole,
 * for its cells and its sum belong together. */
static void take_off(const struct snapshot_family *f, const uint64_t *now, const uint8_t *base,
		     uint32_t n, uint64_t *ret)
{
	bool histogram = f->type == SNAPSHOT_HISTOGRAM;

	for (uint32_t i = 0; i < n; i++) {
		bool is_sum = histogram && i == f->bounds->n + 1;
		bool whole = subtract(histogram && !is_sum ? SNAPSHOT_U64 : f->number, now[i],
				      value_at(base, i), &ret[i]);

		/* A sum of numbers that may be negative may fall. */
		if (!whole && !(is_sum && f->number != SNAPSHOT_NS && f->number != SNAPSHOT_U64)) {
			memcpy(ret, now, n * sizeof(*now));
			return;
		}
	}
}

static bool add_entry(struct buf *out, const uint8_t *key, uint32_t key_len, const uint64_t *values,
		      uint32_t n, uint64_t unix_ns)
{
	struct entry e = {htole32(n), htole32(key_len), htole64(unix_ns)};
	size_t len = sizeof(e) + key_len + (size_t)n * sizeof(*values);
	uint8_t *at = len <= out->max - out->len ? buf_room(out, len) : NULL;

	if (!at)
		return false;
	memcpy(at, &e, sizeof(e));
	memcpy(at + sizeof(e), key, key_len);
	at += sizeof(e) + key_len;
	for (uint32_t i = 0; i < n; i++, at += sizeof(*values)) {
		uint64_t v = htole64(values[i]);

		memcpy(at, &v, sizeof(v));
	}
	buf_commit(out, len);
	return true;
}

static uint32_t key_of(const struct snapshot_family *f, const struct snapshot_series *series,
		       uint8_t key[KEY_BYTES_MAX])
{
	uint32_t name_len = f->name_text.len + 1;

	if (name_len + series->text_len > KEY_BYTES_MAX)
		return 0;
	memcpy(key, f->name, name_len);
	memcpy(key + name_len, series->text, series->text_len);
	return name_len + series->text_len;
}

static void skip(struct delta *d, uint32_t series)
{
	d->skips[series] = true;
	d->skipped++;
}

static void pass_series(struct pass *p, const struct snapshot_family *f, uint32_t index)
{
	const struct snapshot_series *series = &p->s->series[index];
	const uint64_t *now = p->s->values + series->value;
	uint32_t n = snapshot_value_count(f, series->has_exponential), slot;
	uint8_t key[KEY_BYTES_MAX];
	uint32_t key_len = key_of(f, series, key);

	if (series->hidden || f->hidden) /* not sent: an entry that it has is carried over */
		return;
	if (!key_len) {
		if (!p->known)
			skip(p->d, index);
		return;
	}
	slot = slot_of(p->from, key, key_len);
	if ((p->from->slots[slot] != 0) != p->known)
		return;
	p->d->starts[index] = f->created_unix_ns;
	if (p->known) {
		const uint8_t *at = p->from->entries.data + p->from->slots[slot] - 1;
		struct entry e = entry_at(at);

		p->d->starts[index] = e.unix_ns;
		if (e.n_values == n)
			take_off(f, now, at + sizeof(e) + e.key_len, n,
				 p->d->values + series->value);
	}
	if (!add_entry(&p->d->next.entries, key, key_len, now, n, p->unix_ns))
		skip(p->d, index);
	else if (p->known)
		p->d->seen[slot] = true;
}

static void carry_over(struct delta *d)
{
	for (uint32_t i = 0; i < d->open->n_slots; i++) {
		const uint8_t *at;
		struct entry e;

		if (!d->open->slots[i] || d->seen[i])
			continue;
		at = d->open->entries.data + d->open->slots[i] - 1;
		e = entry_at(at);
		if (entry_len(&e) <= d->next.entries.max - d->next.entries.len)
			buf_add(&d->next.entries, at, entry_len(&e));
	}
}

/* Room for the results; the values start as the snapshot's own. */
static int take_room(struct delta *d, const struct snapshot *s)
{
	d->values = malloc(((size_t)s->n_values + 1) * sizeof(*d->values));
	d->starts = calloc((size_t)s->n_series + 1, sizeof(*d->starts));
	d->skips = calloc((size_t)s->n_series + 1, sizeof(*d->skips));
	d->seen = calloc(d->open->n_slots, sizeof(*d->seen));
	if (!d->values || !d->starts || !d->skips || !d->seen)
		return -ENOMEM;
	if (s->n_values)
		memcpy(d->values, s->values, s->n_values * sizeof(*d->values));
	return 0;
}

static void pass(struct pass *p, bool known)
{
	p->known = known;
	for (uint32_t i = 0; i < p->s->n_families; i++)
		for (uint32_t k = 0; k < p->s->families[i].n_series; k++)
			if (p->s->families[i].type != SNAPSHOT_GAUGE)
				pass_series(p, &p->s->families[i], p->s->families[i].series[k]);
}

/* New series get the room that is left: one that lost its baseline would be counted again. */
static int attempt(struct delta *d, const struct snapshot *s, uint64_t unix_ns)
{
	struct pass p = {.d = d, .s = s, .from = d->open, .unix_ns = unix_ns};
	int r = take_room(d, s);

	if (r < 0)
		return r;
	pass(&p, true);
	if (!d->next.h.ended)
		carry_over(d);
	pass(&p, false);
	if (d->next.entries.failed)
		return -ENOMEM;
	if (d->next.h.ended)
		buf_done(&d->next.entries); /* nothing will be compared with it again */
	return build_index(&d->next);
}

int delta_begin(struct delta *d, const struct snapshot *s, const char *incarnation,
		uint64_t time_unix_ns, bool final, struct delta_view *ret_view)
{
	struct life *l;
	int r = 0;

	if (d->open)
		return -EBUSY;
	if (!is_incarnation(incarnation))
		return -EINVAL;
	l = find_life(d, incarnation);
	if (memcmp(l->h.incarnation, incarnation, DELTA_INCARNATION_BYTES) != 0) {
		life_done(l);
		memcpy(l->h.incarnation, incarnation, DELTA_INCARNATION_BYTES);
	}
	if (l->h.ended)
		return -EALREADY;
	if (time_unix_ns <= l->h.last_unix_ns)
		return -EINVAL;
	l->h.touched = ++d->turn;
	if (!l->slots)
		r = build_index(l);
	if (r < 0)
		return r;
	d->open = l;
	d->next = (struct life){.h = l->h};
	d->next.h.last_unix_ns = time_unix_ns;
	d->next.h.ended = final;
	buf_init(&d->next.entries, DELTA_BYTES_MAX);
	r = attempt(d, s, time_unix_ns);
	if (r < 0) {
		delta_rollback(d);
		return r;
	}
	*ret_view = (struct delta_view){d->values, d->starts, d->skips};
	return 0;
}

static void end_attempt(struct delta *d)
{
	life_done(&d->next);
	free(d->values);
	free(d->starts);
	free(d->skips);
	free(d->seen);
	d->values = NULL;
	d->starts = NULL;
	d->skips = NULL;
	d->seen = NULL;
	d->open = NULL;
}

void delta_commit(struct delta *d)
{
	struct life old;

	if (!d->open)
		return;
	old = *d->open;
	*d->open = d->next;
	d->next = old;
	end_attempt(d);
}

void delta_rollback(struct delta *d)
{
	if (d->open)
		end_attempt(d);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static struct life_header swap(struct life_header h)
{
	h.last_unix_ns = htole64(h.last_unix_ns);
	h.touched = htole64(h.touched);
	h.entries_len = htole64(h.entries_len);
	h.ended = htole64(h.ended);
	return h;
}

static uint32_t crc_of(const uint8_t *bytes, size_t len)
{
	return htole32((uint32_t)crc32_z(crc32_z(0, NULL, 0), bytes, len));
}

int delta_save(const struct delta *d, bool committed, uint8_t **ret_bytes, size_t *ret_len)
{
	struct file_header header = {.version = htole32(VERSION)};
	uint32_t n = 0, crc;
	struct buf out;

	buf_init(&out, SIZE_MAX / 2);
	memcpy(header.magic, magic, sizeof(magic));
	buf_add(&out, &header, sizeof(header));
	for (uint32_t i = 0; i < DELTA_LIVES_MAX; i++) {
		const struct life *l = &d->lives[i];
		struct life_header h;

		if (committed && d->open == l)
			l = &d->next;
		if (!l->h.last_unix_ns) /* nothing was ever committed */
			continue;
		h = l->h;
		h.entries_len = l->entries.len;
		h = swap(h);
		buf_add(&out, &h, sizeof(h));
		buf_add(&out, l->entries.data, l->entries.len);
		n++;
	}
	header.n_lives = htole32(n);
	if (!out.failed)
		memcpy(out.data, &header, sizeof(header));
	crc = out.failed ? 0 : crc_of(out.data, out.len);
	buf_add(&out, &crc, sizeof(crc));
	if (out.failed) {
		buf_done(&out);
		return -ENOMEM;
	}
	*ret_bytes = out.data;
	*ret_len = out.len;
	return 0;
}

static int load_life(struct life *l, const uint8_t **at, const uint8_t *end)
{
	if ((size_t)(end - *at) < sizeof(l->h))
		return -EBADMSG;
	memcpy(&l->h, *at, sizeof(l->h));
	l->h = swap(l->h);
	*at += sizeof(l->h);
	if (l->h.entries_len > (size_t)(end - *at) || l->h.entries_len > DELTA_BYTES_MAX)
		return -EBADMSG;
	buf_add(&l->entries, *at, l->h.entries_len);
	*at += l->h.entries_len;
	return l->entries.failed ? -ENOMEM : build_index(l);
}

static int load_all(struct delta *fresh, const uint8_t *bytes, size_t len)
{
	struct file_header header;
	const uint8_t *at = bytes + sizeof(header), *end = bytes + len - sizeof(uint32_t);
	int r;

	memcpy(&header, bytes, sizeof(header));
	if (le32toh(header.n_lives) > DELTA_LIVES_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < le32toh(header.n_lives); i++) {
		r = load_life(&fresh->lives[i], &at, end);
		if (r < 0)
			return r;
		if (fresh->lives[i].h.touched > fresh->turn)
			fresh->turn = fresh->lives[i].h.touched;
	}
	return at == end ? 0 : -EBADMSG;
}

int delta_load(struct delta *d, const uint8_t *bytes, size_t len)
{
	struct file_header header;
	struct delta *fresh, old;
	uint32_t crc;
	int r;

	if (d->open)
		return -EBUSY;
	if (len < sizeof(header) + sizeof(crc))
		return -EBADMSG;
	memcpy(&header, bytes, sizeof(header));
	memcpy(&crc, bytes + len - sizeof(crc), sizeof(crc));
	if (memcmp(header.magic, magic, sizeof(magic)) != 0 ||
	    crc != crc_of(bytes, len - sizeof(crc)))
		return -EBADMSG;
	if (le32toh(header.version) != VERSION)
		return -EPROTONOSUPPORT;
	fresh = delta_new();
	if (!fresh)
		return -ENOMEM;
	r = load_all(fresh, bytes, len);
	if (r == 0) {
		old = *d;
		*d = *fresh;
		d->skipped = old.skipped;
		*fresh = old;
	}
	delta_free(fresh);
	return r;
}
