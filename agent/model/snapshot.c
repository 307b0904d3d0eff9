/* agent/model/snapshot.c - families, series and values. Includes shm/{metric,buckets}.h, model/ and
 * libc; one thread at a time.
 *
 * Order in every function that adds: check, make room everywhere, then change. So a refusal leaves
 * nothing behind, and what a hostile file repeats does not pile up. */
#include "agent/model/snapshot.h"

#include "agent/model/escape.h"
#include "agent/model/number.h"
#include "agent/model/snapshot_private.h"
#include "shm/buckets.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static_assert((int)SNAPSHOT_TEXT_SLACK <= (int)ARENA_SLACK,
	      "texts are promised what the arena has");

/* ---- room ----------------------------------------------------------------------------------- */

/* Room for `need` elements in all; new ones are zero. */
static int grow(void *array, uint32_t *capacity, size_t need, size_t max, size_t size)
{
	size_t wanted = *capacity ? *capacity : 64;
	void *old, *new;

	if (need > max)
		return -ENOSPC;
	if (need <= *capacity)
		return 0;
	while (wanted < need)
		wanted *= 2;
	if (wanted > max)
		wanted = max;
	memcpy(&old, array, sizeof(old));
	new = realloc(old, wanted * size);
	if (!new)
		return -ENOMEM;
	memset((char *)new + *capacity *size, 0, (wanted - *capacity) * size);
	memcpy(array, &new, sizeof(new));
	*capacity = (uint32_t)wanted;
	return 0;
}

static int refuse(struct snapshot *s, int err)
{
	if (err == -ENOSPC || err == -EEXIST)
		s->refused++;
	return err;
}

/* ---- hashing -------------------------------------------------------------------------------- */

/* Keyed by where the snapshot lies, which a node that names series cannot know. */
static uint64_t hash_bytes(const struct snapshot *s, uint64_t hash, const char *text, size_t len)
{
	const uint64_t multiplier = 0x9e3779b97f4a7c15ull;

	hash ^= (uint64_t)(uintptr_t)s * multiplier;
	for (size_t i = 0; i < len; i += 8) {
		uint64_t word = 0;

		memcpy(&word, text + i, len - i < 8 ? len - i : 8);
		hash = (hash ^ word) * multiplier;
		hash ^= hash >> 29;
	}
	return (hash ^ len) * multiplier;
}

/* ---- names that are taken -------------------------------------------------------------------- */

static const char *const suffixes[] = {"", "_total", "_created", "_bucket", "_count", "_sum"};
enum { SUFFIX_NONE, SUFFIX_TOTAL, SUFFIX_CREATED, SUFFIX_BUCKET, SUFFIX_COUNT, SUFFIX_SUM };

/* One exposed name and the sample names that come with it. */
struct exposed {
	const char *base;
	uint32_t len;
	uint32_t n;
	uint32_t suffix[5];
};

static struct exposed expose(const char *name, enum snapshot_type type)
{
	struct exposed e = {.base = name, .len = (uint32_t)strlen(name), .n = 1};

	if (type == SNAPSHOT_COUNTER && e.len > 6 && !strcmp(name + e.len - 6, "_total")) {
		e.len -= 6;
		e.suffix[e.n++] = SUFFIX_TOTAL;
		e.suffix[e.n++] = SUFFIX_CREATED;
	} else if (type == SNAPSHOT_HISTOGRAM) {
		e.suffix[e.n++] = SUFFIX_BUCKET;
		e.suffix[e.n++] = SUFFIX_COUNT;
		e.suffix[e.n++] = SUFFIX_SUM;
		e.suffix[e.n++] = SUFFIX_CREATED;
	}
	return e;
}

static size_t spell(char out[SNAPSHOT_NAME_BYTES_MAX + 16], const char *base, uint32_t len,
		    uint32_t suffix)
{
	size_t more = strlen(suffixes[suffix]);

	memcpy(out, base, len);
	memcpy(out + len, suffixes[suffix], more + 1);
	return len + more;
}

/* The place of `name`, or the empty one where it would go. */
static struct taken_name *find_name(const struct snapshot *s, const char *name, size_t len)
{
	uint32_t mask = s->names_capacity - 1;
	char other[SNAPSHOT_NAME_BYTES_MAX + 16];

	for (uint64_t at = hash_bytes(s, 0, name, len) >> 20;; at++) {
		struct taken_name *place = &s->names[at & mask];

		if (!place->family)
			return place;
		if (spell(other, place->base, place->len, place->suffix) == len &&
		    !memcmp(name, other, len))
			return place;
	}
}

static bool is_free(const struct snapshot *s, const struct exposed *e)
{
	char name[SNAPSHOT_NAME_BYTES_MAX + 16];

	for (uint32_t i = 0; i < e->n; i++) {
		size_t len = spell(name, e->base, e->len, e->suffix[i]);

		if (find_name(s, name, len)->family)
			return false;
	}
	return true;
}

static void take(struct snapshot *s, const struct exposed *e, uint32_t family)
{
	char name[SNAPSHOT_NAME_BYTES_MAX + 16];

	for (uint32_t i = 0; i < e->n; i++) {
		size_t len = spell(name, e->base, e->len, e->suffix[i]);
		struct taken_name *place = find_name(s, name, len);

		*place = (struct taken_name){e->base, e->len, e->suffix[i], family + 1};
		s->n_names++;
	}
}

/* Room for the names of one more family; the table stays at most half full. */
static int reserve_names(struct snapshot *s)
{
	const uint32_t most = 10; /* five for the name, five for the alias */
	struct taken_name *old = s->names;
	uint32_t old_capacity = s->names_capacity;
	uint32_t capacity = old_capacity ? old_capacity : 1024;
	char name[SNAPSHOT_NAME_BYTES_MAX + 16];

	while (capacity / 2 < s->n_names + most)
		capacity *= 2;
	if (capacity == old_capacity)
		return 0;
	s->names = calloc(capacity, sizeof(*s->names));
	if (!s->names) {
		s->names = old;
		return -ENOMEM;
	}
	s->names_capacity = capacity;
	for (uint32_t i = 0; i < old_capacity; i++) {
		if (old[i].family) {
			size_t len = spell(name, old[i].base, old[i].len, old[i].suffix);

			*find_name(s, name, len) = old[i];
		}
	}
	free(old);
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

struct snapshot *snapshot_new(void)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	if (s)
		arena_init(&s->text, SNAPSHOT_TEXT_BYTES_MAX);
	return s;
}

void snapshot_reset(struct snapshot *s)
{
	uint64_t refused = s->refused;

	for (uint32_t i = 0; i < s->n_families; i++)
		free(s->family_states[i].series);
	free(s->families);
	free(s->family_states);
	free(s->series);
	free(s->series_states);
	free(s->values);
	free(s->exemplars);
	free(s->names);
	free(s->series_index);
	arena_done(&s->text);
	*s = (struct snapshot){.refused = refused};
	arena_init(&s->text, SNAPSHOT_TEXT_BYTES_MAX);
}

struct snapshot *snapshot_free(struct snapshot *s)
{
	if (s)
		snapshot_reset(s);
	free(s);
	return NULL;
}

/* ---- families -------------------------------------------------------------------------------- */

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_name(const char *name, bool colon)
{
	size_t len = name ? strnlen(name, SNAPSHOT_NAME_BYTES_MAX + 1) : 0;

	if (len == 0 || len > SNAPSHOT_NAME_BYTES_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		bool digit = i > 0 && name[i] >= '0' && name[i] <= '9';

		if (!is_letter(name[i]) && !digit && !(colon && name[i] == ':'))
			return false;
	}
	return true;
}

static bool are_bounds(const struct snapshot_bounds *bounds)
{
	if (!bounds || bounds->n == 0 || bounds->n > BLIX_BOUNDS_MAX)
		return false;
	for (uint32_t i = 0; i < bounds->n; i++) {
		if (!isfinite(bounds->value[i]) ||
		    (i > 0 && bounds->value[i] <= bounds->value[i - 1]))
			return false;
	}
	return true;
}

/* A string that goes into one block together with others: measured first, then placed. */
static const char *place(char **at, const char *text, size_t len)
{
	char *start = *at;

	memcpy(start, text, len);
	start[len] = '\0';
	*at += len + 1;
	return start;
}

static struct snapshot_text place_escaped(char **at, const char *text, size_t len, bool quote)
{
	struct snapshot_text t = {.at = *at};

	t.len = (uint32_t)escape_text(*at, text, len, quote);
	*at += t.len + 1;
	return t;
}

/* Valid UTF-8 without control characters but newlines: a carriage return ends no line here. */
static size_t clean_help(char out[3 * SNAPSHOT_HELP_BYTES_MAX], const char *help)
{
	size_t len = help ? escape_cut(help, SNAPSHOT_HELP_BYTES_MAX) : 0;

	len = escape_utf8(out, help, len);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)out[i] < 0x20 && out[i] != '\n')
			out[i] = ' ';
	return len;
}

static const char *or_empty(const char *text)
{
	return text ? text : "";
}

/* Bounds and the labels that name its buckets, in one block. */
static int copy_bounds(struct snapshot *s, const struct snapshot_bounds *bounds,
		       struct snapshot_family *family)
{
	const size_t le_bytes = sizeof(bounds->le[0]) + sizeof("le=\"\"");
	struct snapshot_bounds *copy;
	struct snapshot_text *le;
	void *block;
	char *at;
	int err;

	err = arena_alloc(&s->text, sizeof(*copy) + (bounds->n + 1) * (sizeof(*le) + le_bytes),
			  &block);
	if (err)
		return err;
	copy = block;
	*copy = *bounds;
	le = (struct snapshot_text *)(copy + 1);
	at = (char *)(le + bounds->n + 1);
	for (uint32_t i = 0; i <= bounds->n; i++) {
		const char *text = "+Inf";

		if (i < bounds->n) {
			*number_put_le(copy->le[i], copy->value[i]) = '\0';
			text = copy->le[i];
		}
		le[i].at = at;
		le[i].len = (uint32_t)snprintf(at, le_bytes, "le=\"%s\"", text);
		at += le[i].len;
	}
	family->bounds = copy;
	family->le = le;
	return 0;
}

/* Copy spec's strings into one block, and set what follows from them. */
static int copy_strings(struct snapshot *s, const struct snapshot_family *spec,
			struct snapshot_family *ret_family)
{
	char help[3 * SNAPSHOT_HELP_BYTES_MAX];
	size_t help_len = clean_help(help, spec->help);
	size_t name_len = strlen(spec->name), alias_len = strlen(or_empty(spec->alias));
	size_t unit_len = escape_cut(or_empty(spec->unit), SNAPSHOT_NAME_BYTES_MAX);
	size_t subset_len = escape_cut(or_empty(spec->subset_of), SNAPSHOT_NAME_BYTES_MAX);
	size_t len = name_len + alias_len + unit_len + subset_len + help_len +
		     escape_text(NULL, help, help_len, false) +
		     escape_text(NULL, help, help_len, true) + 7;
	struct snapshot_family f = *ret_family;
	void *block;
	char *at;
	int err;

	err = arena_alloc(&s->text, len, &block);
	if (err)
		return err;
	at = block;
	f.name = place(&at, spec->name, name_len);
	f.name_text = (struct snapshot_text){f.name, (uint32_t)name_len};
	f.alias = place(&at, or_empty(spec->alias), alias_len);
	f.alias_text = (struct snapshot_text){f.alias, (uint32_t)alias_len};
	f.alias = spec->alias ? f.alias : NULL;
	f.unit = place(&at, or_empty(spec->unit), unit_len);
	f.subset_of = place(&at, or_empty(spec->subset_of), subset_len);
	f.subset_of = spec->subset_of ? f.subset_of : NULL;
	f.help = place(&at, help, help_len);
	f.help_text = place_escaped(&at, help, help_len, false);
	f.help_openmetrics = place_escaped(&at, help, help_len, true);
	f.unit_suffix = blix_unit_prometheus(f.unit);
	*ret_family = f;
	return 0;
}

static int reserve_family(struct snapshot *s)
{
	uint32_t states = s->families_capacity;
	int err;

	err = grow(&s->family_states, &states, s->n_families + 1u, SNAPSHOT_FAMILIES_MAX,
		   sizeof(*s->family_states));
	if (err)
		return err;
	return grow(&s->families, &s->families_capacity, s->n_families + 1u, SNAPSHOT_FAMILIES_MAX,
		    sizeof(*s->families));
}

/* 0; 1 a family of this name exists; -EEXIST. */
static int look_up(struct snapshot *s, const char *name, const struct exposed *e,
		   uint32_t *ret_family)
{
	const struct taken_name *taken = find_name(s, name, strlen(name));

	if (taken->family && !strcmp(s->families[taken->family - 1].name, name)) {
		*ret_family = taken->family - 1;
		return 1;
	}
	return is_free(s, e) ? 0 : -EEXIST;
}

/* Both checked: the names are free, there is room for them. */
static int add_family(struct snapshot *s, const struct snapshot_family *spec, uint32_t *ret_family)
{
	struct snapshot_family family = {
		.type = spec->type,
		.number = spec->number,
		.created_unix_ns = spec->created_unix_ns,
		.hidden = spec->hidden,
		.updown = spec->updown && spec->type == SNAPSHOT_GAUGE,
	};
	struct exposed e;
	int err;

	err = reserve_family(s);
	if (!err && spec->type == SNAPSHOT_HISTOGRAM)
		err = copy_bounds(s, spec->bounds, &family);
	if (!err)
		err = copy_strings(s, spec, &family);
	if (err)
		return err;
	e = expose(family.name, family.type);
	take(s, &e, s->n_families);
	if (family.alias) {
		e = expose(family.alias, family.type);
		if (is_free(s, &e)) {
			take(s, &e, s->n_families);
		} else {
			family.alias = NULL;
			family.alias_text.len = 0;
			s->refused++;
		}
	}
	s->families[s->n_families] = family;
	s->family_states[s->n_families] = (struct family_state){.superset = SNAPSHOT_NONE};
	*ret_family = s->n_families++;
	return 0;
}

int snapshot_family(struct snapshot *s, const struct snapshot_family *spec, uint32_t *ret_family)
{
	struct exposed e;
	int found, err;

	if (!is_name(spec->name, true) || (spec->alias && !is_name(spec->alias, true)))
		return -EINVAL;
	err = reserve_names(s);
	if (err)
		return err;
	e = expose(spec->name, spec->type);
	found = look_up(s, spec->name, &e, ret_family);
	if (found)
		return found > 0 ? 0 : refuse(s, found);
	if (spec->type == SNAPSHOT_HISTOGRAM && !are_bounds(spec->bounds))
		return -EINVAL;
	return refuse(s, add_family(s, spec, ret_family));
}

/* ---- series ---------------------------------------------------------------------------------- */

/* Labels as they will be kept: cleaned, without the empty ones. */
struct label_set {
	uint32_t n;
	size_t bytes;	   /* keys and values with their terminators */
	size_t text_bytes; /* escaped */
	size_t key_lens[SNAPSHOT_LABELS_MAX], value_lens[SNAPSHOT_LABELS_MAX];
	const char *keys[SNAPSHOT_LABELS_MAX];
	const char *values[SNAPSHOT_LABELS_MAX];
	char space[SNAPSHOT_LABELS_MAX][3 * SNAPSHOT_VALUE_BYTES_MAX];
};

static bool is_label(const char *key)
{
	return is_name(key, false) && strncmp(key, "__", 2) != 0 && strcmp(key, "le") != 0 &&
	       strcmp(key, "quantile") != 0;
}

static int clean_labels(struct label_set *set, const struct snapshot_label *labels, uint32_t n)
{
	set->n = 0;
	set->bytes = set->text_bytes = 0;
	if (n > SNAPSHOT_LABELS_MAX)
		return -ENOSPC;
	for (uint32_t i = 0; i < n; i++) {
		size_t len = strnlen(labels[i].value, SNAPSHOT_VALUE_BYTES_MAX + 1);
		uint32_t at = set->n;

		if (!is_label(labels[i].key))
			return -EINVAL;
		for (uint32_t j = 0; j < i; j++)
			if (!strcmp(labels[i].key, labels[j].key))
				return -EINVAL;
		if (len > SNAPSHOT_VALUE_BYTES_MAX)
			return -ENOSPC;
		if (len == 0)
			continue;
		set->n++;
		set->keys[at] = labels[i].key;
		set->key_lens[at] = strlen(labels[i].key);
		set->values[at] = set->space[at];
		set->value_lens[at] = escape_utf8(set->space[at], labels[i].value, len);
		set->bytes += set->key_lens[at] + set->value_lens[at] + 2;
		set->text_bytes += set->key_lens[at] + 4 /* ="", */ +
				   escape_text(NULL, set->values[at], set->value_lens[at], true);
	}
	return 0;
}

/* The order of labels does not matter, so their hashes are added. */
static uint64_t hash_labels(const struct snapshot *s, uint32_t family, const struct label_set *set)
{
	uint64_t sum = hash_bytes(s, family, "", 0);

	for (uint32_t i = 0; i < set->n; i++) {
		uint64_t key = hash_bytes(s, 1, set->keys[i], set->key_lens[i]);

		sum += hash_bytes(s, key, set->values[i], set->value_lens[i]);
	}
	return sum ^ sum >> 32;
}

static bool has_label(const struct label_set *set, const struct snapshot_label *label)
{
	for (uint32_t i = 0; i < set->n; i++)
		if (!strcmp(set->keys[i], label->key))
			return strlen(label->value) == set->value_lens[i] &&
			       !memcmp(set->values[i], label->value, set->value_lens[i]);
	return false;
}

static bool same_labels(const struct label_set *set, const struct snapshot_series *series)
{
	if (series->n_labels != set->n)
		return false;
	for (uint32_t i = 0; i < set->n; i++)
		if (!has_label(set, &series->labels[i]))
			return false;
	return true;
}

/* The place in the index of this series, or the empty one where it would go. */
static uint32_t *find_series(const struct snapshot *s, uint64_t hash, uint32_t family,
			     const struct label_set *set)
{
	uint32_t mask = s->series_index_capacity - 1;

	for (uint64_t at = hash;; at++) {
		uint32_t *place = &s->series_index[at & mask];

		if (!*place)
			return place;
		if (s->series_states[*place - 1].hash == hash &&
		    s->series[*place - 1].family == family &&
		    same_labels(set, &s->series[*place - 1]))
			return place;
	}
}

/* The index stays at most half full. */
static int reserve_index(struct snapshot *s)
{
	uint32_t capacity = s->series_index_capacity ? s->series_index_capacity : 256;
	uint32_t *index;

	while (capacity / 2 < s->n_series + 1)
		capacity *= 2;
	if (capacity == s->series_index_capacity)
		return 0;
	index = calloc(capacity, sizeof(*index));
	if (!index)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n_series; i++) {
		uint64_t at = s->series_states[i].hash;

		while (index[at & (capacity - 1)])
			at++;
		index[at & (capacity - 1)] = i + 1;
	}
	free(s->series_index);
	s->series_index = index;
	s->series_index_capacity = capacity;
	return 0;
}

uint32_t snapshot_value_count(const struct snapshot_family *family, bool exponential)
{
	if (family->type != SNAPSHOT_HISTOGRAM)
		return 1;
	return family->bounds->n + 2 + (exponential ? BLIX_EXP_CELLS : 0);
}

static uint32_t exemplar_count(const struct snapshot_family *family)
{
	return family->type == SNAPSHOT_HISTOGRAM ? family->bounds->n + 1 : 1;
}

/* Room for one more series of this family, everywhere but in the text. */
static int reserve_series(struct snapshot *s, uint32_t family, uint32_t n_values,
			  uint32_t n_exemplars)
{
	struct family_state *state = &s->family_states[family];
	uint32_t states = s->series_capacity;
	int err;

	err = grow(&state->series, &state->series_capacity, s->families[family].n_series + 1u,
		   SNAPSHOT_SERIES_MAX, sizeof(*state->series));
	s->families[family].series = state->series;
	if (!err)
		err = grow(&s->series_states, &states, s->n_series + 1u, SNAPSHOT_SERIES_MAX,
			   sizeof(*s->series_states));
	if (!err)
		err = grow(&s->series, &s->series_capacity, s->n_series + 1u, SNAPSHOT_SERIES_MAX,
			   sizeof(*s->series));
	if (!err)
		err = grow(&s->values, &s->values_capacity, (size_t)s->n_values + n_values,
			   SNAPSHOT_VALUES_MAX, sizeof(*s->values));
	if (!err)
		err = grow(&s->exemplars, &s->exemplars_capacity,
			   (size_t)s->n_exemplars + n_exemplars, SNAPSHOT_EXEMPLARS_MAX,
			   sizeof(*s->exemplars));
	return err;
}

/* Labels, their strings and their printed form in one block. */
static int copy_labels(struct snapshot *s, const struct label_set *set,
		       struct snapshot_series *series)
{
	struct snapshot_label *labels;
	void *block;
	char *at, *text;
	int err;

	err = arena_alloc(&s->text, set->n * sizeof(*labels) + set->bytes + set->text_bytes,
			  &block);
	if (err)
		return err;
	labels = block;
	at = (char *)(labels + set->n);
	for (uint32_t i = 0; i < set->n; i++) {
		labels[i].key = place(&at, set->keys[i], set->key_lens[i]);
		labels[i].value = place(&at, set->values[i], set->value_lens[i]);
	}
	text = at;
	for (uint32_t i = 0; i < set->n; i++) {
		if (i > 0)
			*at++ = ',';
		memcpy(at, set->keys[i], set->key_lens[i]);
		at += set->key_lens[i];
		*at++ = '=';
		*at++ = '"';
		at += escape_text(at, set->values[i], set->value_lens[i], true);
		*at++ = '"';
	}
	series->n_labels = set->n;
	series->labels = labels;
	series->text = text;
	series->text_len = (uint32_t)(at - text);
	return 0;
}

static int add_series(struct snapshot *s, struct snapshot_series series,
		      const struct label_set *set, bool exemplars, uint64_t hash)
{
	struct snapshot_family *family = &s->families[series.family];
	uint32_t n_values = snapshot_value_count(family, series.has_exponential);
	uint32_t n_exemplars = exemplars ? exemplar_count(family) : 0;
	int err;

	err = reserve_series(s, series.family, n_values, n_exemplars);
	if (!err)
		err = copy_labels(s, set, &series);
	if (err)
		return err;
	series.value = s->n_values;
	series.exemplar = exemplars ? s->n_exemplars : UINT32_MAX;
	s->n_values += n_values;
	s->n_exemplars += n_exemplars;
	s->family_states[series.family].series[family->n_series++] = s->n_series;
	s->series_states[s->n_series] =
		(struct series_state){.hash = hash, .parent = SNAPSHOT_NONE};
	s->series[s->n_series++] = series;
	return 0;
}

int snapshot_series(struct snapshot *s, uint32_t family, const struct snapshot_label *labels,
		    uint32_t n_labels, bool exponential, bool exemplars, uint32_t *ret_series)
{
	struct snapshot_series series = {.family = family};
	struct label_set set;
	uint32_t *place;
	uint64_t hash;
	int err;

	if (family >= s->n_families)
		return -EINVAL;
	err = clean_labels(&set, labels, n_labels);
	if (!err)
		err = reserve_index(s);
	if (err)
		return refuse(s, err);
	hash = hash_labels(s, family, &set);
	place = find_series(s, hash, family, &set);
	if (!*place) {
		series.has_exponential = exponential &&
					 s->families[family].type == SNAPSHOT_HISTOGRAM &&
					 s->families[family].number == SNAPSHOT_NS;
		err = add_series(s, series, &set, exemplars, hash);
		if (err)
			return refuse(s, err);
		*place = s->n_series;
	}
	*ret_series = *place - 1;
	return 0;
}

/* ---- values ---------------------------------------------------------------------------------- */

void snapshot_set_u64(struct snapshot *s, uint32_t series, uint64_t value)
{
	assert(series < s->n_series);
	s->values[s->series[series].value] = value;
}

void snapshot_set_i64(struct snapshot *s, uint32_t series, int64_t value)
{
	snapshot_set_u64(s, series, (uint64_t)value);
}

void snapshot_set_f64(struct snapshot *s, uint32_t series, double value)
{
	uint64_t bits;

	static_assert(sizeof(bits) == sizeof(value), "a double is 64 bits");
	memcpy(&bits, &value, sizeof(bits));
	snapshot_set_u64(s, series, bits);
}

uint64_t *snapshot_values(struct snapshot *s, uint32_t series, uint32_t *ret_n)
{
	const struct snapshot_series *which = &s->series[series];

	assert(series < s->n_series);
	*ret_n = snapshot_value_count(&s->families[which->family], which->has_exponential);
	return s->values + which->value;
}

struct snapshot_exemplar *snapshot_exemplars(struct snapshot *s, uint32_t series, uint32_t *ret_n)
{
	const struct snapshot_series *which = &s->series[series];

	assert(series < s->n_series);
	if (which->exemplar == UINT32_MAX)
		return NULL;
	*ret_n = exemplar_count(&s->families[which->family]);
	return s->exemplars + which->exemplar;
}

void snapshot_hide_series(struct snapshot *s, uint32_t series, bool hidden)
{
	assert(series < s->n_series);
	s->series[series].hidden = hidden;
}

void snapshot_hide_family(struct snapshot *s, uint32_t family, bool hidden)
{
	assert(family < s->n_families);
	s->families[family].hidden = hidden;
}

void snapshot_set_created(struct snapshot *s, uint32_t family, uint64_t created_unix_ns)
{
	assert(family < s->n_families);
	s->families[family].created_unix_ns = created_unix_ns;
}

/* ---- reading --------------------------------------------------------------------------------- */

uint32_t snapshot_family_count(const struct snapshot *s)
{
	return s->n_families;
}

const struct snapshot_family *snapshot_family_at(const struct snapshot *s, uint32_t family)
{
	assert(family < s->n_families);
	return &s->families[family];
}

const struct snapshot_series *snapshot_family_series(const struct snapshot *s, uint32_t family,
						     uint32_t i)
{
	assert(family < s->n_families && i < s->families[family].n_series);
	return &s->series[s->families[family].series[i]];
}

const uint64_t *snapshot_value_at(const struct snapshot *s, uint32_t value)
{
	assert(value < s->n_values);
	return &s->values[value];
}

const struct snapshot_exemplar *snapshot_exemplar_at(const struct snapshot *s, uint32_t exemplar)
{
	assert(exemplar < s->n_exemplars);
	return &s->exemplars[exemplar];
}

struct snapshot_view snapshot_view(const struct snapshot *s)
{
	return (struct snapshot_view){
		.families = s->families,
		.n_families = s->n_families,
		.series = s->series,
		.values = s->values,
		.exemplars = s->exemplars,
	};
}

uint64_t snapshot_refused(const struct snapshot *s)
{
	return s->refused;
}
