/* test/support/golden.c - compare output with a file under test/golden/. libc only. */
#include "test/support/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GOLDEN_BYTES_MAX = 1 << 20 };

static int complain(char reason[GOLDEN_REASON_MAX], const char *path, const char *what)
{
	(void)snprintf(reason, GOLDEN_REASON_MAX, "%s: %s", path, what);
	return -1;
}

static int update(const char *path, const void *data, size_t len, char reason[GOLDEN_REASON_MAX])
{
	FILE *file = fopen(path, "wb");
	int err = 0;

	if (!file)
		return complain(reason, path, "cannot be written");
	if (fwrite(data, 1, len, file) != len)
		err = complain(reason, path, "was not written whole");
	if (fclose(file))
		err = complain(reason, path, "was not written whole");
	return err;
}

static int line_length(const char *at, const char *end)
{
	const char *newline = memchr(at, '\n', (size_t)(end - at));
	long len = newline ? newline - at : end - at;

	return len > 200 ? 200 : (int)len;
}

static int compare(const char *path, const char *expected, size_t expected_len, const char *data,
		   size_t len, char reason[GOLDEN_REASON_MAX])
{
	size_t at = 0, line = 0, number = 1;

	while (at < len && at < expected_len && data[at] == expected[at]) {
		if (data[at] == '\n') {
			line = at + 1;
			number++;
		}
		at++;
	}
	if (at == len && at == expected_len)
		return 0;
	(void)snprintf(reason, GOLDEN_REASON_MAX, "%s:%zu\n  expected: %.*s\n  got:      %.*s",
		       path, number, line_length(expected + line, expected + expected_len),
		       expected + line, line_length(data + line, data + len), data + line);
	return -1;
}

int golden_compare(const char *name, const void *data, size_t len, char reason[GOLDEN_REASON_MAX])
{
	char path[256], *expected;
	size_t expected_len;
	FILE *file;
	int err;

	(void)snprintf(path, sizeof(path), "test/golden/%s", name);
	if (getenv("GOLDEN_UPDATE"))
		return update(path, data, len, reason);
	file = fopen(path, "rb");
	if (!file)
		return complain(reason, path, "cannot be read");
	expected = malloc(GOLDEN_BYTES_MAX);
	if (!expected)
		abort();
	expected_len = fread(expected, 1, GOLDEN_BYTES_MAX, file);
	(void)fclose(file);
	err = compare(path, expected, expected_len, data, len, reason);
	free(expected);
	return err;
}
