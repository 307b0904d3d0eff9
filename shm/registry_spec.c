/* shm/registry_spec.c - is what a program wants to register fit to be exposed? Pure checks on texts
 * and numbers, before the registry is touched. Thread rule: any thread; no state. Includes: shm/
 * only. */
#include "registry_private.h"
#include "utf8.h"

#include <errno.h>

struct text blix_text_clean(const char *from, char *to, uint32_t max)
{
	const uint8_t *in = (const uint8_t *)(from ? from : "");
	size_t left = strlen((const char *)in);
	uint32_t out = 0;

	while (left > 0) {
		size_t n = blix_utf8_char(in, left);
		const void *character = n ? (const void *)in : "\xef\xbf\xbd";
		uint32_t bytes = n ? (uint32_t)n : 3;

		if (out + bytes > max)
			break;
		memcpy(to + out, character, bytes);
		out += bytes;
		in += n ? n : 1;
		left -= n ? n : 1;
	}
	return (struct text){.at = to, .len = out};
}

static bool is_identifier(struct text t, uint32_t max)
{
	if (t.len == 0 || t.len > max || (t.at[0] >= '0' && t.at[0] <= '9'))
		return false;
	for (uint32_t i = 0; i < t.len; i++) {
		char c = t.at[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '_'))
			return false;
	}
	return true;
}

static bool ends_in(struct text t, const char *suffix)
{
	size_t len = strlen(suffix);

	return t.len > len && memcmp(t.at + t.len - len, suffix, len) == 0;
}

static bool name_valid(const struct candidate *c)
{
	/* Formats tell a counter by this suffix, and nothing else may look like one. */
	return is_identifier(c->name, BLIX_NAME_MAX) &&
	       ends_in(c->name, "_total") == (c->kind == BLIX_COUNTER);
}

static bool keys_valid(const struct candidate *c)
{
	for (uint32_t i = 0; i < c->n_keys; i++) {
		struct text key = c->keys[i];

		if (!is_identifier(key, BLIX_LABEL_KEY_MAX) || strncmp(key.at, "__", 2) == 0 ||
		    same_text(key, text_of("le")) || same_text(key, text_of("quantile")) ||
		    same_text(key, text_of("otel_metric_overflow")))
			return false;
		for (uint32_t j = 0; j < i; j++)
			if (same_text(key, c->keys[j]))
				return false;
	}
	return true;
}

static bool unit_valid(struct text unit)
{
	if (unit.len > BLIX_UNIT_MAX)
		return false;
	for (uint32_t i = 0; i < unit.len; i++)
		if (unit.at[i] <= ' ' || unit.at[i] > '~')
			return false;
	return true;
}

static bool bounds_valid(const struct candidate *c)
{
	if (c->kind != BLIX_HISTOGRAM)
		return !c->bounds && c->n_bounds == 0;
	if (!c->bounds || c->n_bounds == 0 || c->n_bounds > BLIX_BOUNDS_MAX)
		return false;
	for (uint32_t i = 1; i < c->n_bounds; i++)
		if (c->bounds[i] <= c->bounds[i - 1])
			return false;
	return c->bounds[0] > 0;
}

int blix_spec_check(const struct blix_registry_spec *spec, char help_buf[BLIX_HELP_MAX],
		    struct candidate *ret)
{
	const struct blix_bounds *time_bounds = blix_layout_bounds(BLIX_LAYOUT_TIME);

	if (!spec || !spec->name || spec->n_label_keys > BLIX_LABELS_MAX ||
	    (spec->n_label_keys && !spec->label_keys) || spec->max_series > BLIX_SERIES_LIMIT ||
	    spec->kind < BLIX_COUNTER || spec->kind > BLIX_HISTOGRAM ||
	    spec->n_bounds > BLIX_BOUNDS_MAX)
		return -EINVAL;
	*ret = (struct candidate){
		.kind = spec->kind,
		.name = text_of(spec->name),
		.help = blix_text_clean(spec->help, help_buf, BLIX_HELP_MAX),
		.unit = text_of(spec->unit),
		.stored_ns = blix_stored_in_ns(spec->kind, spec->unit ? spec->unit : ""),
		.n_keys = (uint32_t)spec->n_label_keys,
		.max_series = spec->max_series ? spec->max_series : BLIX_SERIES_DEFAULT,
		.bounds = spec->bounds,
		.n_bounds = (uint32_t)spec->n_bounds,
	};
	if (ret->n_keys == 0)
		ret->max_series = 1;
	for (uint32_t i = 0; i < ret->n_keys; i++)
		ret->keys[i] = text_of(spec->label_keys[i]);
	if (ret->kind == BLIX_HISTOGRAM && !ret->bounds && ret->n_bounds == 0 && ret->stored_ns) {
		ret->bounds = time_bounds->ns;
		ret->n_bounds = time_bounds->n;
	}
	return name_valid(ret) && keys_valid(ret) && unit_valid(ret->unit) && bounds_valid(ret)
		       ? 0
		       : -EINVAL;
}

/* The family name: what remains of a counter's without its suffix. */
static struct text family(struct text name)
{
	if (ends_in(name, "_total"))
		name.len -= (uint32_t)strlen("_total");
	return name;
}

/* Would a histogram called `histogram` have a sample called `name`? */
static bool sample_of(struct text histogram, struct text name)
{
	static const char *const suffixes[] = {"_bucket", "_count", "_sum", "_created"};

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++)
		if (ends_in(name, suffixes[i]) && name.len == histogram.len + strlen(suffixes[i]) &&
		    memcmp(name.at, histogram.at, histogram.len) == 0)
			return true;
	return false;
}

bool blix_names_collide(struct text a, uint32_t kind_a, struct text b, uint32_t kind_b)
{
	return same_text(family(a), family(b)) || (kind_a == BLIX_HISTOGRAM && sample_of(a, b)) ||
	       (kind_b == BLIX_HISTOGRAM && sample_of(b, a));
}
