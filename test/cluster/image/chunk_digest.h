/* chunk_digest.h - SHA-256 by OpenSSL, of a chunk at once or of an image piece by piece. Any
 * thread. */
#ifndef CLUSTER_CHUNK_DIGEST_H
#define CLUSTER_CHUNK_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DIGEST_BYTES = 32, DIGEST_TEXT = 2 * DIGEST_BYTES };

struct digest {
	uint8_t bytes[DIGEST_BYTES];
};

struct digest_stream;

/* 0; -ENOMEM: OpenSSL cannot. */
int digest_of(const void *data, size_t len, struct digest *ret_digest);

bool digest_equal(const struct digest *a, const struct digest *b);

/* Lower case hexadecimal digits and a zero. */
void digest_text(const struct digest *digest, char ret_text[DIGEST_TEXT + 1]);

/* The reverse; only what digest_text() writes. */
bool digest_parse(const char *text, struct digest *ret_digest);

/* NULL: no memory. */
struct digest_stream *digest_begin(void);
/* 0; -ENOMEM. */
int digest_add(struct digest_stream *stream, const void *data, size_t len);
/* Frees the stream, also when it fails; accepts NULL, which is -ENOMEM. ret_digest may be NULL. */
int digest_end(struct digest_stream *stream, struct digest *ret_digest);

#endif
