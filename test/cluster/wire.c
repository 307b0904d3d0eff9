/* wire.c - frames other than Raft's own. Pure, any thread. */
#include "wire.h"

#include "bytes.h"

#include <errno.h>

static const uint64_t hello_magic = 0x5245455058494c42ULL; /* "BLIXPEER" */

static size_t payload_limit(enum wire_kind kind)
{
	return kind == WIRE_RAFT ? (size_t)FRAME_MAX_BYTES : (size_t)FRAME_SMALL_MAX_BYTES;
}

int wire_decode_head(const uint8_t head[WIRE_HEAD_BYTES], struct wire_head *ret_head)
{
	struct reader r = reader_of(head, WIRE_HEAD_BYTES);
	uint32_t len = get_u32(&r);
	uint16_t kind = get_u16(&r);
	uint16_t zero = get_u16(&r);

	if (kind < WIRE_HELLO || kind >= WIRE_KINDS || zero ||
	    len > payload_limit((enum wire_kind)kind))
		return -EPROTO;
	*ret_head = (struct wire_head){.payload_bytes = len, .kind = (enum wire_kind)kind};
	return 0;
}

void wire_encode_head(uint8_t head[WIRE_HEAD_BYTES], enum wire_kind kind, size_t payload_bytes)
{
	struct writer w = writer_of(head, WIRE_HEAD_BYTES);

	put_u32(&w, (uint32_t)payload_bytes);
	put_u16(&w, (uint16_t)kind);
	put_u16(&w, 0);
}

static size_t written(const struct writer *w, size_t len)
{
	return w->failed ? 0 : len - w->left;
}

/* A length byte and text without NUL. */
static void put_text(struct writer *w, const char *text)
{
	size_t len = strlen(text);

	put_u8(w, (uint8_t)len);
	put_bytes(w, text, len);
	if (len > UINT8_MAX)
		w->failed = true;
}

static bool get_text(struct reader *r, char *ret_text, size_t max)
{
	size_t len = get_u8(r);
	const uint8_t *at = len <= max ? get_bytes(r, len) : NULL;

	if (!at || memchr(at, 0, len))
		return false;
	memcpy(ret_text, at, len);
	ret_text[len] = '\0';
	return true;
}

static int finish(const struct reader *r, bool ok)
{
	return ok && !r->failed && !r->left ? 0 : -EPROTO;
}

size_t wire_encode_hello(const struct wire_hello *hello, uint8_t *out, size_t len)
{
	struct writer w = writer_of(out, len);

	put_u64(&w, hello_magic);
	put_u16(&w, WIRE_VERSION);
	put_u64(&w, hello->node_id);
	put_text(&w, hello->cluster);
	put_text(&w, hello->address);
	return written(&w, len);
}

int wire_decode_hello(const uint8_t *payload, size_t len, struct wire_hello *ret_hello)
{
	struct reader r = reader_of(payload, len);
	struct wire_hello hello;

	if (get_u64(&r) != hello_magic || get_u16(&r) != WIRE_VERSION)
		return -EPROTO;
	hello.node_id = get_u64(&r);
	bool ok = hello.node_id != 0 && get_text(&r, hello.cluster, CLUSTER_NAME_MAX) &&
		  get_text(&r, hello.address, ADDRESS_MAX);
	if (finish(&r, ok))
		return -EPROTO;
	*ret_hello = hello;
	return 0;
}

size_t wire_encode_number(uint64_t number, uint8_t *out, size_t len)
{
	struct writer w = writer_of(out, len);

	put_u64(&w, number);
	return written(&w, len);
}

int wire_decode_number(const uint8_t *payload, size_t len, uint64_t *ret_number)
{
	struct reader r = reader_of(payload, len);
	uint64_t number = get_u64(&r);

	if (finish(&r, true))
		return -EPROTO;
	*ret_number = number;
	return 0;
}

size_t wire_encode_request(uint64_t request, const void *data, size_t data_len, uint8_t *out,
			   size_t len)
{
	struct writer w = writer_of(out, len);

	put_u64(&w, request);
	put_bytes(&w, data, data_len);
	return written(&w, len);
}

int wire_decode_request(const uint8_t *payload, size_t len, struct wire_request *ret_request)
{
	struct reader r = reader_of(payload, len);
	uint64_t request = get_u64(&r);

	if (r.failed || !r.left || r.left > COMMAND_MAX_BYTES)
		return -EPROTO;
	*ret_request = (struct wire_request){.request = request, .data = r.at, .len = r.left};
	return 0;
}

size_t wire_encode_verdict(uint64_t request, enum wire_verdict verdict, uint8_t *out, size_t len)
{
	struct writer w = writer_of(out, len);

	put_u64(&w, request);
	put_u32(&w, verdict);
	return written(&w, len);
}

int wire_decode_verdict(const uint8_t *payload, size_t len, uint64_t *ret_request,
			enum wire_verdict *ret_verdict)
{
	struct reader r = reader_of(payload, len);
	uint64_t request = get_u64(&r);
	uint32_t verdict = get_u32(&r);

	if (finish(&r, verdict < WIRE_VERDICTS))
		return -EPROTO;
	*ret_request = request;
	*ret_verdict = (enum wire_verdict)verdict;
	return 0;
}

size_t wire_encode_join(const struct wire_join *join, uint8_t *out, size_t len)
{
	struct writer w = writer_of(out, len);

	put_u64(&w, join->request);
	put_u64(&w, join->node_id);
	put_text(&w, join->address);
	return written(&w, len);
}

int wire_decode_join(const uint8_t *payload, size_t len, struct wire_join *ret_join)
{
	struct reader r = reader_of(payload, len);
	struct wire_join join;

	join.request = get_u64(&r);
	join.node_id = get_u64(&r);
	bool ok = join.node_id != 0 && get_text(&r, join.address, ADDRESS_MAX) && join.address[0];
	if (finish(&r, ok))
		return -EPROTO;
	*ret_join = join;
	return 0;
}
