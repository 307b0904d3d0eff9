/* image_fetch.c - see image_fetch.h. Loop thread only, but for the work of jobs.
 *
 * A fetch lives until nothing of it is under way: no call, no job. The first failure is the one it
 * ends with. */
#include "image_fetch.h"

#include "test/cluster/record/record.h"
#include "test/cluster/record/record_image.h"
#include "test/cluster/record/record_rpc.h"
#include "test/cluster/record/trace.h"

#include <errno.h>
#include <event2/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { TEXT_MAX = 200 };

/* A chunk on its way. */
struct part {
	struct chunk_job job;
	struct fetch *fetch;
	bool busy;
	uint32_t number; /* of the chunk */
	uint8_t *data;
	size_t len;
	int err;
};

struct fetch {
	struct chunk_job job; /* the plan, and the end */
	struct image_fetches *fetches;
	struct fetch *next;
	struct fetch **link;
	struct rpc_channel *channel;
	char name[IMAGE_NAME_MAX + 1];
	struct digest digest;
	bool any_digest;
	uint64_t transfer;
	uint64_t started_ns;
	struct image *image;
	struct image_plan plan;
	size_t next_wanted; /* of the plan */
	size_t moved;
	struct part parts[IMAGE_WINDOW];
	size_t under_way; /* calls and jobs */
	int err;	  /* of the job */
	grpc_status_code code;
	char text[TEXT_MAX];
	bool verified;	   /* well or not */
	bool is_bad_chunk; /* `bad_chunk` is not of its digest */
	struct digest bad_chunk;
	bool ended; /* done() was called */
	image_fetch_cb done;
	void *arg;
	blix_span span;
	blix_span caller; /* what was current when it began */
};

struct image_fetches {
	struct image_parts parts;
	struct fetch *all;
	size_t n;
	bool stopping;
};

static void fetch_on(struct fetch *f);

/* ---- the end --------------------------------------------------------------------------------- */

static void free_fetch(struct fetch *f)
{
	*f->link = f->next;
	if (f->next)
		f->next->link = f->link;
	f->fetches->n--;
	rpc_channel_close(f->channel);
	for (int i = 0; i < IMAGE_WINDOW; i++)
		free(f->parts[i].data);
	free(f->image);
	free(f->plan.wanted);
	free(f);
}

static void on_goodbye(void *arg, const struct rpc_result *result)
{
	struct fetch *f = arg;

	(void)result; /* a peer that is not told finds out by the silence */
	f->under_way--;
	free_fetch(f);
}

static Blixard__GetVmImageRequest request_of(struct fetch *f)
{
	Blixard__GetVmImageRequest request = BLIXARD__GET_VM_IMAGE_REQUEST__INIT;

	request.name = f->name;
	request.transfer = f->transfer;
	return request;
}

static int call(struct fetch *f, const Blixard__GetVmImageRequest *request,
		void (*done)(void *arg, const struct rpc_result *result), void *arg)
{
	blix_token token = trace_enter(f->span);
	int err = rpc_channel_call(f->channel, "GetVmImage", &request->base,
				   &blixard__get_vm_image_reply__descriptor, IMAGE_CALL_TIMEOUT_MS,
				   done, arg);

	trace_leave(token);
	if (!err)
		f->under_way++;
	return err;
}

/* Tell the peer how it went. */
static int say_goodbye(struct fetch *f)
{
	Blixard__GetVmImageRequest request = request_of(f);
	bool good = f->code == GRPC_STATUS_OK;

	request.end = good ? BLIXARD__GET_VM_IMAGE_REQUEST__END__DONE
			   : BLIXARD__GET_VM_IMAGE_REQUEST__END__FAILED;
	if (f->is_bad_chunk)
		request.chunk = (ProtobufCBinaryData){DIGEST_BYTES, f->bad_chunk.bytes};
	return call(f, &request, on_goodbye, f);
}

static void end_span(struct fetch *f)
{
	trace_u64(f->span, TRACE_CHUNKS, f->moved);
	if (f->image)
		trace_u64(f->span, TRACE_BYTES, f->image->size);
	if (f->code != GRPC_STATUS_OK)
		trace_fail(f->span, record_rpc_code_name(f->code), f->text);
	trace_end(f->span);
}

static void settle(struct fetch *f)
{
	if (f->under_way)
		return;
	f->ended = true;
	blix_token token = trace_enter(f->span); /* for the exemplar */
	record_image_ended(IMAGE_RECEIVE, f->code == GRPC_STATUS_OK,
			   record_now_ns() - f->started_ns);
	trace_leave(token);
	end_span(f);
	token = trace_enter(f->caller);
	f->done(f->arg, &(struct image_fetched){.code = f->code,
						.text = f->text,
						.image = f->image,
						.moved = f->moved,
						.spared = f->plan.spared});
	trace_leave(token);
	/* Without an image the peer has not begun to count. */
	if (f->fetches->stopping || !f->image || say_goodbye(f))
		free_fetch(f);
}

static void fail(struct fetch *f, grpc_status_code code, const char *text)
{
	if (f->code == GRPC_STATUS_OK) {
		f->code = code;
		snprintf(f->text, sizeof(f->text), "%s", text);
	}
	settle(f);
}

/* What the peer said, where that makes sense to whoever asked us. */
static void fail_as(struct fetch *f, const struct rpc_result *result)
{
	static const grpc_status_code passed_on[] = {
		GRPC_STATUS_NOT_FOUND, GRPC_STATUS_DEADLINE_EXCEEDED, GRPC_STATUS_UNAVAILABLE,
		GRPC_STATUS_DATA_LOSS, GRPC_STATUS_RESOURCE_EXHAUSTED};
	char text[TEXT_MAX];

	snprintf(text, sizeof(text), "the peer: %s", result->text);
	for (size_t i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++) {
		if (result->code == passed_on[i]) {
			fail(f, result->code, text);
			return;
		}
	}
	fail(f, GRPC_STATUS_UNAVAILABLE, text);
}

static void fail_by(struct fetch *f, int err)
{
	switch (err) {
	case -EBADMSG:
		if (!f->verified)
			record_image_verified(false);
		f->verified = true;
		fail(f, GRPC_STATUS_DATA_LOSS, "what came is not of its digest");
		return;
	case -EFBIG:
	case -ENOSPC:
		fail(f, GRPC_STATUS_RESOURCE_EXHAUSTED, "there is no room for the image");
		return;
	case -ENOENT:
		fail(f, GRPC_STATUS_ABORTED, "others have pushed its chunks out of the cache");
		return;
	case -EBUSY:
		fail(f, GRPC_STATUS_RESOURCE_EXHAUSTED, "the cache has too much to do");
		return;
	default:
		fail(f, GRPC_STATUS_INTERNAL, strerror(-err));
	}
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static void plan_work(struct chunk_job *job)
{
	struct fetch *f = (struct fetch *)(void *)job; /* its first member */

	f->err = image_store_plan(f->fetches->parts.store, f->image, &f->plan);
}

static void finish_work(struct chunk_job *job)
{
	struct fetch *f = (struct fetch *)(void *)job;

	f->err = image_store_finish(f->fetches->parts.store, f->image);
}

static void store_work(struct chunk_job *job)
{
	struct part *part = (struct part *)(void *)job;
	struct fetch *f = part->fetch;

	part->err = chunk_store_put(image_store_chunks(f->fetches->parts.store),
				    &f->image->chunks[part->number], part->data, part->len);
}

/* When it cannot run, the fetch has failed, and may be gone. */
static void run_job(struct fetch *f, struct chunk_job *job, void (*work)(struct chunk_job *),
		    void (*done)(struct chunk_job *))
{
	job->work = work;
	job->done = done;
	int err = f->fetches->stopping ? -EBUSY : chunk_worker_run(f->fetches->parts.worker, job);
	if (err) {
		fail_by(f, err);
		return;
	}
	f->under_way++;
}

static void on_finished(struct chunk_job *job)
{
	struct fetch *f = (struct fetch *)(void *)job;

	f->under_way--;
	if (job->cancelled) {
		fail(f, GRPC_STATUS_CANCELLED, "the node stops");
	} else if (f->err) {
		fail_by(f, f->err);
	} else {
		record_image_verified(true);
		f->verified = true;
		settle(f);
	}
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static void on_stored(struct chunk_job *job)
{
	struct part *part = (struct part *)(void *)job;
	struct fetch *f = part->fetch;

	f->under_way--;
	part->busy = false;
	free(part->data);
	part->data = NULL;
	if (job->cancelled) {
		fail(f, GRPC_STATUS_CANCELLED, "the node stops");
	} else if (part->err) {
		if (part->err == -EBADMSG && !f->is_bad_chunk) {
			f->is_bad_chunk = true;
			f->bad_chunk = f->image->chunks[part->number];
		}
		fail_by(f, part->err);
	} else {
		f->moved++;
		record_image_chunk_moved();
		fetch_on(f);
	}
}

static void on_chunk(void *arg, const struct rpc_result *result)
{
	struct part *part = arg;
	struct fetch *f = part->fetch;

	f->under_way--;
	if (result->code != GRPC_STATUS_OK) {
		part->busy = false;
		fail_as(f, result);
		return;
	}
	const ProtobufCBinaryData *data =
		&((const Blixard__GetVmImageReply *)(const void *)result->reply)->data;
	record_image_bytes(IMAGE_RECEIVE, data->len);
	if (data->len != image_chunk_len(f->image, part->number)) {
		part->busy = false;
		fail_by(f, -EBADMSG);
		return;
	}
	part->data = malloc(data->len);
	if (!part->data) {
		part->busy = false;
		fail_by(f, -ENOMEM);
		return;
	}
	memcpy(part->data, data->data, data->len);
	part->len = data->len;
	run_job(f, &part->job, store_work, on_stored);
}

static int ask_for_chunk(struct fetch *f, struct part *part)
{
	Blixard__GetVmImageRequest request = request_of(f);

	part->fetch = f;
	part->number = f->plan.wanted[f->next_wanted];
	request.chunk = (ProtobufCBinaryData){DIGEST_BYTES, f->image->chunks[part->number].bytes};
	return call(f, &request, on_chunk, part);
}

/* Ask for what the window has room for; at the end of it all, look at the whole. */
static void fetch_on(struct fetch *f)
{
	bool idle = true;

	if (f->fetches->stopping) {
		fail(f, GRPC_STATUS_CANCELLED, "the node stops");
		return;
	}
	for (int i = 0; i < IMAGE_WINDOW; i++) {
		struct part *part = &f->parts[i];
		if (!part->busy && f->next_wanted < f->plan.n && f->code == GRPC_STATUS_OK) {
			if (ask_for_chunk(f, part)) {
				fail_by(f, -ENOMEM);
				return;
			}
			part->busy = true;
			f->next_wanted++;
		}
		idle &= !part->busy;
	}
	if (f->code != GRPC_STATUS_OK)
		settle(f);
	else if (idle)
		run_job(f, &f->job, finish_work, on_finished);
}

/* ---- the beginning --------------------------------------------------------------------------- */

static void on_planned(struct chunk_job *job)
{
	struct fetch *f = (struct fetch *)(void *)job;

	f->under_way--;
	if (job->cancelled) {
		fail(f, GRPC_STATUS_CANCELLED, "the node stops");
	} else if (f->err) {
		fail_by(f, f->err);
	} else {
		record_image_chunks_spared(f->plan.spared);
		fetch_on(f);
	}
}

static void on_image(void *arg, const struct rpc_result *result)
{
	struct fetch *f = arg;

	f->under_way--;
	if (result->code != GRPC_STATUS_OK) {
		fail_as(f, result);
		return;
	}
	const Blixard__GetVmImageReply *reply = (const void *)result->reply;
	int err = image_from_message(reply->image, &f->image);
	if (err == -ENOMEM) {
		fail_by(f, err);
	} else if (err || strcmp(f->image->name, f->name) != 0 ||
		   (!f->any_digest && !digest_equal(&f->image->digest, &f->digest))) {
		fail(f, GRPC_STATUS_DATA_LOSS, "the peer describes no image, or another one");
	} else {
		run_job(f, &f->job, plan_work, on_planned);
	}
}

bool image_peer_is_good(const char *peer)
{
	struct sockaddr_storage parsed;
	int len = sizeof(parsed);

	return strlen(peer) <= ADDRESS_MAX &&
	       !evutil_parse_sockaddr_port(peer, (struct sockaddr *)&parsed, &len);
}

static struct fetch *new_fetch(struct image_fetches *fetches, const char *name, const char *peer)
{
	struct fetch *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->channel = rpc_channel_open(fetches->parts.queue, peer);
	if (!f->channel || getrandom(&f->transfer, sizeof(f->transfer), 0) < 0) {
		rpc_channel_close(f->channel);
		free(f);
		return NULL;
	}
	f->transfer |= 1; /* not 0 */
	f->fetches = fetches;
	strncpy(f->name, name, IMAGE_NAME_MAX);
	f->link = &fetches->all;
	f->next = fetches->all;
	if (f->next)
		f->next->link = &f->next;
	fetches->all = f;
	fetches->n++;
	return f;
}

int image_fetch(struct image_fetches *fetches, const char *name, const struct digest *digest,
		const char *peer, image_fetch_cb done, void *arg)
{
	if (fetches->stopping || fetches->n >= IMAGE_FETCHES_MAX)
		return -EBUSY;
	struct fetch *f = new_fetch(fetches, name, peer);
	if (!f)
		return -ENOMEM;
	f->any_digest = !digest;
	f->done = done;
	f->arg = arg;
	f->started_ns = record_now_ns();
	f->caller = trace_here();
	f->span = trace_begin(TRACE_P2P_TRANSFER);
	trace_str(f->span, TRACE_IMAGE_ID, name);
	trace_str(f->span, TRACE_PEER_ADDRESS, peer);
	if (digest)
		f->digest = *digest;
	Blixard__GetVmImageRequest request = request_of(f);
	if (digest)
		request.digest = (ProtobufCBinaryData){DIGEST_BYTES, f->digest.bytes};
	if (call(f, &request, on_image, f)) {
		trace_fail(f->span, "ENOMEM", "the call cannot be started");
		trace_end(f->span);
		free_fetch(f);
		return -ENOMEM;
	}
	record_image_begun();
	return 0;
}

size_t image_fetches_count(const struct image_fetches *fetches)
{
	size_t n = 0;

	for (const struct fetch *f = fetches->all; f; f = f->next)
		n += !f->ended;
	return n;
}

/* ---- all of them ----------------------------------------------------------------------------- */

struct image_fetches *image_fetches_new(const struct image_parts *parts)
{
	struct image_fetches *fetches = calloc(1, sizeof(*fetches));

	if (fetches)
		fetches->parts = *parts;
	return fetches;
}

struct image_fetches *image_fetches_free(struct image_fetches *fetches)
{
	free(fetches);
	return NULL;
}

void image_fetches_stop(struct image_fetches *fetches)
{
	fetches->stopping = true;
}

void image_fetches_hang_up(struct image_fetches *fetches)
{
	/* Its calls come back later, as cancelled, and the last of them frees it. */
	for (struct fetch *f = fetches->all; f; f = f->next) {
		if (f->code == GRPC_STATUS_OK)
			f->code = GRPC_STATUS_CANCELLED;
		f->channel = rpc_channel_close(f->channel);
	}
}
