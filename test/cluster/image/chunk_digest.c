/* chunk_digest.c - see chunk_digest.h. Any thread. */
#include "chunk_digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

/* The stream is OpenSSL's context under a name of ours. */
static EVP_MD_CTX *context(struct digest_stream *stream)
{
	return (EVP_MD_CTX *)(void *)stream;
}

int digest_of(const void *data, size_t len, struct digest *ret_digest)
{
	return EVP_Digest(data, len, ret_digest->bytes, NULL, EVP_sha256(), NULL) ? 0 : -ENOMEM;
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
	return !memcmp(a->bytes, b->bytes, DIGEST_BYTES);
}

void digest_text(const struct digest *digest, char ret_text[DIGEST_TEXT + 1])
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < DIGEST_BYTES; i++) {
		ret_text[2 * i] = digits[digest->bytes[i] >> 4];
		ret_text[2 * i + 1] = digits[digest->bytes[i] & 15];
	}
	ret_text[DIGEST_TEXT] = '\0';
}

static int value_of(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

bool digest_parse(const char *text, struct digest *ret_digest)
{
	if (strlen(text) != DIGEST_TEXT)
		return false;
	for (int i = 0; i < DIGEST_BYTES; i++) {
		int high = value_of(text[2 * i]), low = value_of(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		ret_digest->bytes[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

struct digest_stream *digest_begin(void)
{
	EVP_MD_CTX *made = EVP_MD_CTX_new();

	if (made && EVP_DigestInit_ex(made, EVP_sha256(), NULL))
		return (struct digest_stream *)(void *)made;
	EVP_MD_CTX_free(made);
	return NULL;
}

int digest_add(struct digest_stream *stream, const void *data, size_t len)
{
	return EVP_DigestUpdate(context(stream), data, len) ? 0 : -ENOMEM;
}

int digest_end(struct digest_stream *stream, struct digest *ret_digest)
{
	int err = stream ? 0 : -ENOMEM;

	if (stream && ret_digest && !EVP_DigestFinal_ex(context(stream), ret_digest->bytes, NULL))
		err = -ENOMEM;
	EVP_MD_CTX_free(context(stream));
	return err;
}
