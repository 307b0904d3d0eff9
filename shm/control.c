/* shm/control.c - see control.h.
 *
 * The element is copied word by word, both ways, so that every access is an atomic one of its
 * natural size: the other side may be writing at this very moment, or may be hostile.
 *
 * Includes: shm/ and libc only. Async-signal-safe; allocates nothing. */
#include "control.h"
#include "atomic.h"
#include "utf8.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum {
	CONTROL_WORDS = sizeof(struct blix_control) / 8,
	CONTROL_TRIES_MAX = 4,
	CONTROL_LOG_MIN_MAX = 25,
};
_Static_assert(sizeof(struct blix_control) % 8 == 0, "copied as whole words");
_Static_assert(offsetof(struct blix_control, gen) == 0 &&
		       offsetof(struct blix_control, n_rules) == 4,
	       "the first word is copied as its two halves");

/* The element as 64-bit words, whatever their type. */
typedef uint64_t __attribute__((may_alias)) control_word;

/* ---- where it is ------------------------------------------------------------------------------- */

static const struct blix_control *element(const struct blix_view *v)
{
	if (v->control_off == 0 || v->control_off % 8 != 0)
		return NULL;
	return (const struct blix_control *)(const void *)(v->base + v->control_off);
}

/* Through the mapping that may be written; base is read-only in an agent. */
static struct blix_control *element_to_write(const struct blix_view *v)
{
	if (!v->consumer || !element(v))
		return NULL;
	assert(v->control_off > v->consumer_off);
	return (struct blix_control *)(void *)(v->consumer + (v->control_off - v->consumer_off));
}

/* ---- what is in range -------------------------------------------------------------------------- */

static bool ticks_ok(uint32_t ticks)
{
	return ticks >= 1 && ticks <= BLIX_CONTROL_TICKS_MAX;
}

static bool glob_ok(const char *glob)
{
	size_t len = strnlen(glob, BLIX_CONTROL_GLOB_BYTES);

	if (len == 0 || len == BLIX_CONTROL_GLOB_BYTES)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)glob[i] < 0x20 || glob[i] == 0x7f)
			return false;
	return blix_utf8_valid((const uint8_t *)glob, len);
}

static bool rule_ok(const struct blix_control_rule *rule)
{
	return ticks_ok(rule->ticks) && rule->threshold56 <= BLIX_THRESHOLD_NEVER &&
	       glob_ok(rule->glob);
}

static bool setting_ok(const struct blix_control_setting *s)
{
	if (s->has_threshold &&
	    (!ticks_ok(s->threshold_ticks) || s->threshold56 > BLIX_THRESHOLD_NEVER))
		return false;
	if (s->has_log_min &&
	    (!ticks_ok(s->log_min_ticks) || s->log_min < 1 || s->log_min > CONTROL_LOG_MIN_MAX))
		return false;
	if (s->n_rules > BLIX_CONTROL_RULES)
		return false;
	for (uint32_t i = 0; i < s->n_rules; i++)
		if (!rule_ok(&s->rules[i]))
			return false;
	return true;
}

/* ---- write ------------------------------------------------------------------------------------- */

static void element_of(const struct blix_control_setting *s, struct blix_control *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->n_rules = s->n_rules;
	if (s->has_threshold) {
		ret->flags |= BLIX_CONTROL_THRESHOLD;
		ret->threshold56 = s->threshold56;
		ret->threshold_ticks = s->threshold_ticks;
	}
	if (s->has_log_min) {
		ret->flags |= BLIX_CONTROL_LOG_MIN;
		ret->log_min = s->log_min;
		ret->log_min_ticks = s->log_min_ticks;
	}
	for (uint32_t i = 0; i < s->n_rules; i++) {
		ret->rules[i].ticks = s->rules[i].ticks;
		ret->rules[i].threshold56 = s->rules[i].threshold56;
		/* Not the bytes behind the terminator: they are the caller's memory. */
		memcpy(ret->rules[i].glob, s->rules[i].glob, strlen(s->rules[i].glob));
	}
}

int blix_control_write(const struct blix_view *view, const struct blix_control_setting *setting)
{
	struct blix_control *to = element_to_write(view);
	struct blix_control copy;
	const control_word *from_words = (const control_word *)&copy;
	control_word *to_words = (control_word *)to;
	uint32_t odd;

	if (!to)
		return -ENOENT;
	if (!setting_ok(setting))
		return -EINVAL;
	element_of(setting, &copy);
	/* Odd already: a writer died in here. What it left is replaced as a whole. */
	odd = blix_load_relaxed(&to->gen) | 1;
	blix_store_relaxed(&to->gen, odd);
	blix_fence_release(); /* the odd gen before the data; pairs with the fence in copy_still() */
	blix_store_data(&to->n_rules, copy.n_rules);
	for (int i = 1; i < CONTROL_WORDS; i++)
		blix_store_data(&to_words[i], from_words[i]);
	/* The data before the even gen. 0 means never written and is left out when gen wraps. */
	blix_store_release(&to->gen, odd + 1 != 0 ? odd + 1 : 2);
	return 0;
}

/* ---- read -------------------------------------------------------------------------------------- */

uint32_t blix_control_generation(const struct blix_view *view)
{
	const struct blix_control *e = element(view);

	return e ? blix_load_acquire(&e->gen) : 0;
}

/* Copy the element as it is between two looks at an unchanged, even gen. */
static int copy_still(const struct blix_control *from, struct blix_control *ret)
{
	const control_word *from_words = (const control_word *)from;
	control_word *to_words = (control_word *)ret;

	for (int tries = 0; tries < CONTROL_TRIES_MAX; tries++) {
		/* Pairs with the release at the end of blix_control_write(). */
		uint32_t gen = blix_load_acquire(&from->gen);

		if (gen == 0)
			return -ENOENT;
		if (gen & 1)
			continue;
		ret->n_rules = blix_load_data(&from->n_rules);
		for (int i = 1; i < CONTROL_WORDS; i++)
			to_words[i] = blix_load_data(&from_words[i]);
		blix_fence_acquire(); /* the data before the second look at gen */
		if (blix_load_relaxed(&from->gen) != gen)
			continue;
		ret->gen = gen;
		return 0;
	}
	return -EAGAIN;
}

static uint32_t at_most(uint32_t value, uint32_t max)
{
	return value < max ? value : max;
}

static uint64_t threshold_clamped(uint64_t threshold56)
{
	return threshold56 < BLIX_THRESHOLD_NEVER ? threshold56 : BLIX_THRESHOLD_NEVER;
}

/* Nothing lasts for no tick, so an entry with 0 of them is left out; one that would never end lasts
 * as long as any may. */
static void setting_of(const struct blix_control *e, struct blix_control_setting *ret)
{
	uint32_t n = at_most(e->n_rules, BLIX_CONTROL_RULES);

	memset(ret, 0, sizeof(*ret));
	if ((e->flags & BLIX_CONTROL_THRESHOLD) && e->threshold_ticks > 0) {
		ret->has_threshold = true;
		ret->threshold56 = threshold_clamped(e->threshold56);
		ret->threshold_ticks = at_most(e->threshold_ticks, BLIX_CONTROL_TICKS_MAX);
	}
	if ((e->flags & BLIX_CONTROL_LOG_MIN) && e->log_min_ticks > 0 && e->log_min > 0) {
		ret->has_log_min = true;
		ret->log_min = at_most(e->log_min, CONTROL_LOG_MIN_MAX);
		ret->log_min_ticks = at_most(e->log_min_ticks, BLIX_CONTROL_TICKS_MAX);
	}
	for (uint32_t i = 0; i < n; i++) {
		const struct blix_control_rule *from = &e->rules[i];
		struct blix_control_rule *to = &ret->rules[ret->n_rules];

		if (from->ticks == 0 || !glob_ok(from->glob))
			continue;
		to->ticks = at_most(from->ticks, BLIX_CONTROL_TICKS_MAX);
		to->threshold56 = threshold_clamped(from->threshold56);
		memcpy(to->glob, from->glob, strlen(from->glob));
		ret->n_rules++;
	}
}

int blix_control_read(const struct blix_view *view, struct blix_control_setting *ret_setting,
		      uint32_t *ret_gen)
{
	const struct blix_control *e = element(view);
	struct blix_control copy;
	int err;

	if (!e)
		return -ENOENT;
	err = copy_still(e, &copy);
	if (err)
		return err;
	setting_of(&copy, ret_setting);
	*ret_gen = copy.gen;
	return 0;
}

/* ---- names ------------------------------------------------------------------------------------- */

/* Bytes of the character at s; a byte that begins none counts as one. */
static size_t char_len(const char *s, size_t len)
{
	size_t n = blix_utf8_char((const uint8_t *)s, len);

	return n > 0 ? n : 1;
}

/* One step back is enough: whatever the last "*" skips, an earlier "*" could not do better. So the
 * work is at most (bytes of name) x (bytes of glob), and the glob has fewer than 48. */
bool blix_control_match(const char *glob, const char *name, size_t name_len)
{
	size_t glob_len = strnlen(glob, BLIX_CONTROL_GLOB_BYTES);
	size_t g = 0, n = 0, star = SIZE_MAX, skipped_to = 0;

	while (n < name_len) {
		size_t width = char_len(name + n, name_len - n);

		if (g < glob_len && glob[g] == '*') {
			star = g++;
			skipped_to = n;
		} else if (g < glob_len && glob[g] == '?') {
			g++;
			n += width;
		} else if (g < glob_len && char_len(glob + g, glob_len - g) == width &&
			   memcmp(glob + g, name + n, width) == 0) {
			g += width;
			n += width;
		} else if (star != SIZE_MAX) {
			/* "*" takes one character more. */
			skipped_to += char_len(name + skipped_to, name_len - skipped_to);
			n = skipped_to;
			g = star + 1;
		} else {
			return false;
		}
	}
	while (g < glob_len && glob[g] == '*')
		g++;
	return g == glob_len;
}

/* ---- ratios ------------------------------------------------------------------------------------ */

uint64_t blix_control_threshold(double ratio)
{
	double scaled;
	uint64_t part;

	if (!(ratio > 0)) /* NaN as well: what cannot be read switches nothing on */
		return BLIX_THRESHOLD_NEVER;
	if (ratio >= 1)
		return 0;
	/* Scaled by a power of two, so exact: a small ratio keeps all its bits, which 1 - ratio
	 * would lose. Rounded to nearest by hand; the node links no libm. */
	scaled = ratio * (double)BLIX_THRESHOLD_NEVER;
	part = (uint64_t)scaled;
	if (scaled - (double)part >= 0.5)
		part++;
	return BLIX_THRESHOLD_NEVER - part;
}

double blix_control_ratio(uint64_t threshold56)
{
	return (double)(BLIX_THRESHOLD_NEVER - threshold_clamped(threshold56)) /
	       (double)BLIX_THRESHOLD_NEVER;
}
