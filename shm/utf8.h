/* shm/utf8.h - is this text what it claims to be?
 *
 * Header only, pure, no state. Includes: libc only. */
#ifndef BLIX_SHM_UTF8_H
#define BLIX_SHM_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the well-formed character (Unicode table 3-7: no overlong forms, no surrogates, nothing
 * above U+10FFFF) at the start of s[0 .. len); 0 if there is none. */
static inline size_t blix_utf8_char(const uint8_t *s, size_t len)
{
	uint8_t low = 0x80;
	uint8_t high = 0xbf;
	size_t n;

	if (len == 0)
		return 0;
	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (len < n || s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	return n;
}

static inline bool blix_utf8_valid(const uint8_t *s, size_t len)
{
	while (len > 0) {
		size_t n = blix_utf8_char(s, len);

		if (n == 0)
			return false;
		s += n;
		len -= n;
	}
	return true;
}

#endif
