/* agent/input/utf8_text.c - see utf8_text.h. */
#include "agent/input/utf8_text.h"

#include "shm/utf8.h"

#include <string.h>

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */
enum { REPLACEMENT_BYTES = sizeof(replacement) - 1 };

/* Most texts are ASCII: eight bytes a step. */
static bool is_ascii(const uint8_t *bytes, uint32_t len)
{
	uint64_t word, high = 0;
	uint32_t i = 0;

	for (; i + 8 <= len; i += 8) {
		memcpy(&word, bytes + i, 8);
		high |= word;
	}
	for (; i < len; i++)
		high |= bytes[i];
	return (high & UINT64_C(0x8080808080808080)) == 0;
}

static int repair(const uint8_t *bytes, uint32_t len, struct arena *memory,
		  struct batch_text *ret_text)
{
	void *room;
	int r = arena_take(memory, (size_t)len * REPLACEMENT_BYTES, &room);
	char *to = room;

	if (r < 0)
		return r;
	while (len > 0) {
		size_t n = blix_utf8_char(bytes, len);
		size_t taken = n ? n : 1;

		memcpy(to, n ? (const char *)bytes : replacement, n ? n : REPLACEMENT_BYTES);
		to += n ? n : REPLACEMENT_BYTES;
		bytes += taken;
		len -= (uint32_t)taken;
	}
	*ret_text = (struct batch_text){room, (uint32_t)(to - (char *)room)};
	return 0;
}

int utf8_text(const uint8_t *bytes, uint32_t len, struct arena *memory, uint64_t *repaired,
	      struct batch_text *ret_text)
{
	int r;

	if (is_ascii(bytes, len) || blix_utf8_valid(bytes, len)) {
		*ret_text = (struct batch_text){(const char *)bytes, len};
		return 0;
	}
	r = repair(bytes, len, memory, ret_text);
	*repaired += r == 0;
	return r;
}
