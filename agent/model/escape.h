/* agent/model/escape.h - foreign text made fit for an exposition: valid UTF-8, then escaped.
 *
 * Each function writes to `out`, or only measures when `out` is NULL, and returns the length;
 * nothing is terminated. Pure, thread-safe, libc only. */
#ifndef BLIX_AGENT_MODEL_ESCAPE_H
#define BLIX_AGENT_MODEL_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes that are not part of a valid UTF-8 sequence become U+FFFD, each one of them. */
size_t escape_utf8(char *out, const char *text, size_t len);

/* Backslash and newline, and the double quote where `quote`. */
size_t escape_text(char *out, const char *text, size_t len, bool quote);

/* Length of the longest start of `text` of at most `max` bytes that splits no character. */
size_t escape_cut(const char *text, size_t max);

#endif
