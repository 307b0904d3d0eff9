/* agent/export/cover.c - see cover.h. */
#include "agent/export/cover.h"

void cover_note(struct cover *c, uint64_t mono_ns, uint64_t used_bytes)
{
	c->notes[c->next].mono_ns = mono_ns;
	c->notes[c->next].used_bytes = used_bytes;
	c->next = (c->next + 1) % COVER_NOTES;
	if (c->n < COVER_NOTES)
		c->n++;
}

double cover_seconds(const struct cover *c, uint64_t room_bytes)
{
	uint32_t newest = (c->next + COVER_NOTES - 1) % COVER_NOTES;
	uint32_t oldest = (c->next + COVER_NOTES - c->n) % COVER_NOTES;
	uint64_t grown_bytes, passed_ns;

	if (c->n < 2 || c->notes[newest].used_bytes <= c->notes[oldest].used_bytes ||
	    c->notes[newest].mono_ns <= c->notes[oldest].mono_ns)
		return -1;
	grown_bytes = c->notes[newest].used_bytes - c->notes[oldest].used_bytes;
	passed_ns = c->notes[newest].mono_ns - c->notes[oldest].mono_ns;
	return (double)room_bytes / ((double)grown_bytes / ((double)passed_ns * 1e-9));
}
