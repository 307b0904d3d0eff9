/* agent/export/cover.h - how long the spool's room lasts at the rate of the last minute.
 *
 * Noted at a fixed pace, whoever asks how often. Plain numbers in, a number out; no clock of its own.
 * Thread rule: one thread at a time. Includes: libc. */
#ifndef BLIX_AGENT_EXPORT_COVER_H
#define BLIX_AGENT_EXPORT_COVER_H

#include <stdint.h>

enum {
	COVER_EVERY_S = 5,
	COVER_WINDOW_S = 60,
	COVER_NOTES = COVER_WINDOW_S / COVER_EVERY_S + 1,
};

struct cover {
	uint32_t n, next;
	struct {
		uint64_t mono_ns, used_bytes;
	} notes[COVER_NOTES];
};

/* What the spool's rows take now; every COVER_EVERY_S seconds. */
void cover_note(struct cover *c, uint64_t mono_ns, uint64_t used_bytes);

/* Seconds that `room_bytes` last at the rate between the oldest and the newest note. Negative: it does not
 * fill, or there are not yet two notes. */
double cover_seconds(const struct cover *c, uint64_t room_bytes);

#endif
