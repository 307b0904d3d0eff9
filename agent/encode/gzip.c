/* agent/encode/gzip.c - a body as one gzip member. Pure: the header holds no time, so the same
 * body always gives the same bytes. Includes agent/buf.h and zlib. */
#include "agent/encode/encode.h"

#include <errno.h>
#include <limits.h>
#include <zlib.h>

enum { GZIP_WINDOW_BITS = 15 + 16 /* with gzip's framing */, GZIP_MEMORY_LEVEL = 8 };

int encode_gzip(const struct buf *in, struct buf *out)
{
	z_stream stream = {0};
	uint8_t *at;
	size_t room;
	int state;

	if (in->failed || in->len > UINT_MAX)
		return -ENOSPC;
	/* The fastest level: the loop waits for it, and it makes a scrape ten times smaller. */
	if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW_BITS, GZIP_MEMORY_LEVEL,
			 Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	room = deflateBound(&stream, (uLong)in->len);
	if (room > out->max - out->len)
		room = out->max - out->len;
	at = room ? buf_room(out, room) : NULL;
	if (!at) {
		(void)deflateEnd(&stream);
		return room ? -ENOMEM : -ENOSPC;
	}
	stream.next_in = in->data;
	stream.avail_in = (uInt)in->len;
	stream.next_out = at;
	stream.avail_out = room > UINT_MAX ? UINT_MAX : (uInt)room;
	state = deflate(&stream, Z_FINISH);
	buf_commit(out, state == Z_STREAM_END ? stream.total_out : 0);
	(void)deflateEnd(&stream);
	return state == Z_STREAM_END ? 0 : -ENOSPC;
}
