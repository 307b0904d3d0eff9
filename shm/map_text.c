/* shm/map_text.c - which foreign bytes may be called a name or a text. Pure; any thread.
 * Includes: shm/ only. */
#include "shm/map_private.h"

#include "shm/utf8.h"

#include <string.h>

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool blix_map_is_name(const char *text)
{
	size_t len = 0;

	if (!is_letter(text[0]))
		return false;
	for (; text[len]; len++)
		if (!is_letter(text[len]) && (text[len] < '0' || text[len] > '9'))
			return false;
	return len <= MAP_NAME_BYTES_MAX;
}

static bool is_control(uint8_t byte)
{
	return byte < 0x20 || byte == 0x7f;
}

bool blix_map_has_control(const char *text)
{
	for (; *text; text++)
		if (is_control((uint8_t)*text))
			return true;
	return false;
}

void blix_map_blank_controls(char *text)
{
	for (; *text; text++)
		if (is_control((uint8_t)*text))
			*text = ' ';
}

void blix_map_copy_field(char *ret_text, const char *field, size_t size)
{
	const uint8_t *bytes = (const uint8_t *)field;
	size_t len = strnlen(field, size);
	size_t at = 0;

	while (at < len) {
		size_t n = blix_utf8_char(bytes + at, len - at);

		if (n == 0 || is_control(bytes[at])) {
			ret_text[at++] = '?';
			continue;
		}
		memcpy(ret_text + at, field + at, n);
		at += n;
	}
	memset(ret_text + len, 0, size + 1 - len);
}
