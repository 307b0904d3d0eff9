/* agent/input/open_spans.c - see open_spans.h. */
#include "agent/input/open_spans.h"

#include "shm/atomic.h"
#include "shm/slot.h"
#include "shm/utf8.h"

#include <string.h>

#define OTHER_ID BLIX_NO_ID

struct look {
	struct blix_map *map;
	struct open_spans *spans;
};

/* As much of a text as fits, whole characters only. */
static void copy_name(char to[OPEN_SPANS_NAME_BYTES], const char *text)
{
	size_t left = strlen(text), len = 0, n;

	while ((n = blix_utf8_char((const uint8_t *)text + len, left)) > 0 &&
	       len + n < OPEN_SPANS_NAME_BYTES) {
		len += n;
		left -= n;
	}
	memcpy(to, text, len);
	to[len] = '\0';
}

static const char *name_text(const struct look *look, uint32_t id)
{
	const char *text = id == OTHER_ID ? "other" : blix_map_string(look->map, id);

	return text && text[0] ? text : "unknown";
}

static struct open_span_name *find_name(struct look *look, uint32_t id)
{
	struct open_spans *s = look->spans;

	for (uint32_t i = 0; i < s->n_names; i++)
		if (s->names[i].id == id)
			return &s->names[i];
	if (s->n_names > OPEN_SPANS_NAMES_MAX)
		return &s->names[OPEN_SPANS_NAMES_MAX];
	if (s->n_names == OPEN_SPANS_NAMES_MAX)
		id = OTHER_ID;
	s->names[s->n_names] = (struct open_span_name){.id = id, .start_mono_ns = UINT64_MAX};
	copy_name(s->names[s->n_names].name, name_text(look, id));
	return &s->names[s->n_names++];
}

/* Sorted by age; the youngest falls off the end. */
static void note_oldest(struct look *look, const struct blix_span_slot *slot)
{
	struct open_spans *s = look->spans;
	uint32_t at = s->n_oldest;

	while (at > 0 && s->oldest[at - 1].start_mono_ns > slot->start_ns)
		at--;
	if (at == OPEN_SPANS_OLDEST_MAX)
		return;
	if (s->n_oldest < OPEN_SPANS_OLDEST_MAX)
		s->n_oldest++;
	memmove(&s->oldest[at + 1], &s->oldest[at], (s->n_oldest - at - 1) * sizeof(s->oldest[0]));
	s->oldest[at].start_mono_ns = slot->start_ns;
	memcpy(s->oldest[at].trace_id, slot->trace_id, sizeof(slot->trace_id));
	memcpy(s->oldest[at].span_id, slot->span_id, sizeof(slot->span_id));
	copy_name(s->oldest[at].name, name_text(look, slot->name_id));
}

static void on_slot(void *arg, uint32_t lane, uint32_t index, enum blix_slot_state state,
		    const struct blix_span_slot *slot)
{
	struct look *look = arg;
	struct open_span_name *name;

	(void)lane;
	(void)index;
	if (state != BLIX_SLOT_OPEN) /* on its way out */
		return;
	look->spans->total++;
	name = find_name(look, slot->name_id);
	name->count++;
	if (slot->start_ns < name->start_mono_ns)
		name->start_mono_ns = slot->start_ns;
	note_oldest(look, slot);
}

void open_spans_look(struct blix_map *map, struct open_spans *ret_spans)
{
	const struct blix_view *view = blix_map_view(map);
	struct look look = {.map = map, .spans = ret_spans};
	struct blix_slots_found found = {0};

	*ret_spans = (struct open_spans){0};
	for (uint32_t lane = 0, seen = 0; lane < view->n_lanes && seen < OPEN_SPANS_SLOTS_MAX;
	     lane++) {
		if (lane != 0 && blix_load_relaxed(&blix_view_lane(view, lane)->owner) == 0)
			continue; /* never used: its pages stay untouched */
		blix_slots_recover_lane(view, lane, &found, on_slot, &look);
		seen += blix_view_slot_count(view, lane);
	}
}
