/* agent/model/escape.c - foreign text made fit for an exposition. Pure, thread-safe, libc only. */
#include "agent/model/escape.h"

#include <stdint.h>
#include <string.h>

static bool continues(char byte)
{
	return ((unsigned char)byte & 0xc0) == 0x80;
}

/* Length of the valid UTF-8 sequence at `at`; 0 if it is none. Overlong forms, surrogates and what
 * lies above U+10FFFF are none. */
static size_t sequence(const char *at, size_t left)
{
	unsigned char lead = (unsigned char)at[0];
	unsigned char second = left > 1 ? (unsigned char)at[1] : 0;

	if (lead < 0x80)
		return 1;
	if (lead < 0xc2 || lead > 0xf4 || left < 2 || !continues(at[1]))
		return 0;
	if (lead < 0xe0)
		return 2;
	if (left < 3 || !continues(at[2]))
		return 0;
	if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f))
		return 0;
	if (lead < 0xf0)
		return 3;
	if (left < 4 || !continues(at[3]))
		return 0;
	if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
		return 0;
	return 4;
}

size_t escape_utf8(char *out, const char *text, size_t len)
{
	static const char replacement[3] = {'\xef', '\xbf', '\xbd'};
	size_t n = 0;

	for (size_t i = 0; i < len;) {
		size_t valid = sequence(text + i, len - i);

		if (out)
			memcpy(out + n, valid ? text + i : replacement, valid ? valid : 3);
		n += valid ? valid : 3;
		i += valid ? valid : 1;
	}
	return n;
}

size_t escape_text(char *out, const char *text, size_t len, bool quote)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		bool escaped = c == '\\' || c == '\n' || (quote && c == '"');

		if (out && escaped)
			out[n] = '\\';
		n += escaped;
		if (out)
			out[n] = c;
		if (out && c == '\n')
			out[n] = 'n';
		n++;
	}
	return n;
}

size_t escape_cut(const char *text, size_t max)
{
	size_t len = strnlen(text, max + 1), cut;

	if (len <= max)
		return len;
	/* A character is at most four bytes; what is no UTF-8 anyway is cut where it falls. */
	cut = max;
	while (cut > 0 && max - cut < 3 && continues(text[cut]))
		cut--;
	return continues(text[cut]) ? max : cut;
}
