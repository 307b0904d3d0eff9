/* image.c - see image.h. Pure, any thread. */
#include "image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool image_name_is_good(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";
	size_t len = strlen(name);

	return len && len <= IMAGE_NAME_MAX && name[0] != '.' && strspn(name, letters) == len;
}

size_t image_chunks_of(uint64_t size)
{
	if (size > (uint64_t)IMAGE_CHUNKS_MAX * CHUNK_BYTES)
		return 0;
	return (size_t)((size + CHUNK_BYTES - 1) / CHUNK_BYTES);
}

size_t image_chunk_len(const struct image *image, size_t i)
{
	return i + 1 < image->n_chunks ? (size_t)CHUNK_BYTES
				       : (size_t)(image->size - (uint64_t)i * CHUNK_BYTES);
}

struct image *image_new(const char *name, uint64_t size)
{
	size_t n = image_chunks_of(size);
	struct image *image = calloc(1, sizeof(*image) + n * sizeof(image->chunks[0]));

	if (!image)
		return NULL;
	strncpy(image->name, name, IMAGE_NAME_MAX);
	image->size = size;
	image->n_chunks = n;
	return image;
}

struct image *image_copy(const struct image *image)
{
	size_t bytes = sizeof(*image) + image->n_chunks * sizeof(image->chunks[0]);
	struct image *copy = malloc(bytes);

	if (copy)
		memcpy(copy, image, bytes);
	return copy;
}

int image_from_message(const Blixard__VmImage *message, struct image **ret_image)
{
	size_t n = message ? image_chunks_of(message->size) : 0;

	if (!n || !image_name_is_good(message->name) || message->digest.len != DIGEST_BYTES ||
	    message->chunks.len != n * DIGEST_BYTES)
		return -EINVAL;
	struct image *image = image_new(message->name, message->size);
	if (!image)
		return -ENOMEM;
	memcpy(image->digest.bytes, message->digest.data, DIGEST_BYTES);
	memcpy(image->chunks, message->chunks.data, n * DIGEST_BYTES);
	*ret_image = image;
	return 0;
}

Blixard__VmImage image_to_message(const struct image *image)
{
	Blixard__VmImage message = BLIXARD__VM_IMAGE__INIT;

	message.name = (char *)image->name;
	message.size = image->size;
	message.digest.len = DIGEST_BYTES;
	message.digest.data = (uint8_t *)image->digest.bytes;
	message.chunks.len = image->n_chunks * DIGEST_BYTES;
	message.chunks.data = (uint8_t *)image->chunks;
	return message;
}
