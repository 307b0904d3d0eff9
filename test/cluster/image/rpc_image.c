/* rpc_image.c - the methods about images. What needs the cache becomes a job for its thread; the
 * answer follows when that is done. Loop thread only, but for the work of jobs. */
#include "images.h"

#include "test/cluster/record/record.h"
#include "test/cluster/record/record_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One call, and what it asks of the cache. */
struct asked {
	struct chunk_job job;
	struct images *images;
	struct rpc_call *call;
	char name[IMAGE_NAME_MAX + 1];
	char peer[ADDRESS_MAX + 1];
	struct digest digest;
	bool any_digest;
	uint64_t transfer;
	int err;
	struct image *image;
	bool complete;
	size_t len;
	uint8_t *data; /* of a chunk */
};

struct listed {
	struct chunk_job job;
	struct images *images;
	struct rpc_call *call;
	struct image *list[IMAGES_MAX];
	bool complete[IMAGES_MAX];
	size_t n;
	struct chunk_stats stats;
};

struct shared {
	struct image_share share;
	struct rpc_call *call;
};

static void fail_by(struct rpc_call *call, int err)
{
	static const struct {
		int err;
		grpc_status_code code;
		const char *text;
	} table[] = {
		{-EINVAL, GRPC_STATUS_INVALID_ARGUMENT, "no image, or no file, can be so"},
		{-ENOENT, GRPC_STATUS_NOT_FOUND, "it is not here"},
		{-EFBIG, GRPC_STATUS_RESOURCE_EXHAUSTED, "the image is too large"},
		{-ENOSPC, GRPC_STATUS_RESOURCE_EXHAUSTED, "the disk is full"},
		{-EBUSY, GRPC_STATUS_RESOURCE_EXHAUSTED, "too much is going on at a time"},
		{-ENOMEM, GRPC_STATUS_RESOURCE_EXHAUSTED, "no memory"},
		{-EBADMSG, GRPC_STATUS_DATA_LOSS, "it is damaged"},
		{-ENODATA, GRPC_STATUS_ABORTED, "the file has changed meanwhile"},
		{-ECANCELED, GRPC_STATUS_CANCELLED, "the node stops"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (table[i].err == err) {
			rpc_fail(call, table[i].code, table[i].text);
			return;
		}
	}
	rpc_fail(call, GRPC_STATUS_INTERNAL, strerror(-err));
}

static void free_asked(struct asked *asked)
{
	free(asked->image);
	free(asked->data);
	free(asked);
}

static void give_up(struct asked *asked, int err)
{
	fail_by(asked->call, err);
	free_asked(asked);
}

static int run(struct images *images, struct chunk_job *job, void (*work)(struct chunk_job *),
	       void (*done)(struct chunk_job *))
{
	job->work = work;
	job->done = done;
	return images->stopping ? -EBUSY : chunk_worker_run(images->parts.worker, job);
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static void chunk_work(struct chunk_job *job)
{
	struct asked *asked = (struct asked *)(void *)job; /* its first member */

	asked->err = chunk_store_get(image_store_chunks(asked->images->parts.store), &asked->digest,
				     asked->data, &asked->len);
	record_image_cache(!asked->err);
}

static void on_chunk(struct chunk_job *job)
{
	struct asked *asked = (struct asked *)(void *)job;
	Blixard__GetVmImageReply reply = BLIXARD__GET_VM_IMAGE_REPLY__INIT;

	if (job->cancelled || asked->err) {
		give_up(asked, job->cancelled ? -ECANCELED : asked->err);
		return;
	}
	if (asked->transfer)
		record_image_bytes(IMAGE_SEND, asked->len);
	reply.data = (ProtobufCBinaryData){asked->len, asked->data};
	rpc_reply(asked->call, &reply.base);
	free_asked(asked);
}

static void get_chunk(struct asked *asked, const Blixard__GetVmImageRequest *request)
{
	struct images *images = asked->images;

	if (asked->transfer &&
	    !image_sends_heard(&images->sends, asked->transfer, record_now_ns())) {
		rpc_fail(asked->call, GRPC_STATUS_FAILED_PRECONDITION, "there is no such transfer");
		free_asked(asked);
		return;
	}
	memcpy(asked->digest.bytes, request->chunk.data, DIGEST_BYTES);
	asked->data = malloc(CHUNK_BYTES);
	int err = asked->data ? run(images, &asked->job, chunk_work, on_chunk) : -ENOMEM;
	if (err)
		give_up(asked, err);
}

/* ---- the end of a transfer ------------------------------------------------------------------- */

/* Whoever says that a chunk of ours is bad may be wrong, too: see for ourselves. */
static void verify_work(struct chunk_job *job)
{
	struct asked *asked = (struct asked *)(void *)job;

	asked->err = chunk_store_verify(image_store_chunks(asked->images->parts.store),
					&asked->digest, asked->data, &asked->len);
}

static void on_verified(struct chunk_job *job)
{
	struct asked *asked = (struct asked *)(void *)job;
	Blixard__GetVmImageReply reply = BLIXARD__GET_VM_IMAGE_REPLY__INIT;

	rpc_reply(asked->call, &reply.base);
	free_asked(asked);
}

static void end_transfer(struct asked *asked, const Blixard__GetVmImageRequest *request)
{
	Blixard__GetVmImageReply reply = BLIXARD__GET_VM_IMAGE_REPLY__INIT;
	bool good = request->end == BLIXARD__GET_VM_IMAGE_REQUEST__END__DONE;

	if (!image_sends_end(&asked->images->sends, asked->transfer, good, record_now_ns())) {
		rpc_fail(asked->call, GRPC_STATUS_FAILED_PRECONDITION, "there is no such transfer");
		free_asked(asked);
		return;
	}
	if (!good && request->chunk.len) {
		memcpy(asked->digest.bytes, request->chunk.data, DIGEST_BYTES);
		asked->data = malloc(CHUNK_BYTES);
		if (asked->data && !run(asked->images, &asked->job, verify_work, on_verified))
			return;
	}
	rpc_reply(asked->call, &reply.base);
	free_asked(asked);
}

/* ---- images ---------------------------------------------------------------------------------- */

static void reply_image(struct rpc_call *call, const struct image *image, size_t moved,
			size_t spared)
{
	Blixard__GetVmImageReply reply = BLIXARD__GET_VM_IMAGE_REPLY__INIT;
	Blixard__VmImage message = image_to_message(image);

	message.complete = true;
	reply.image = &message;
	reply.chunks_moved = moved;
	reply.chunks_spared = spared;
	rpc_reply(call, &reply.base);
}

static void find_work(struct chunk_job *job)
{
	struct asked *asked = (struct asked *)(void *)job;

	asked->err = image_store_find(asked->images->parts.store, asked->name,
				      asked->any_digest ? NULL : &asked->digest, &asked->image,
				      &asked->complete);
}

static void on_fetched(void *arg, const struct image_fetched *fetched)
{
	struct asked *asked = arg;

	if (fetched->code == GRPC_STATUS_OK)
		reply_image(asked->call, fetched->image, fetched->moved, fetched->spared);
	else
		rpc_fail(asked->call, fetched->code, fetched->text);
	free_asked(asked);
}

static void on_found(struct chunk_job *job)
{
	struct asked *asked = (struct asked *)(void *)job;
	int err = job->cancelled ? -ECANCELED : asked->err;

	if (!err && !asked->complete)
		err = -ENOENT;
	if (!err && asked->transfer)
		err = image_sends_begin(&asked->images->sends, asked->transfer, record_now_ns());
	if (!err) {
		reply_image(asked->call, asked->image, 0, 0);
		free_asked(asked);
		return;
	}
	if (err == -ENOENT && asked->peer[0])
		err = image_fetch(asked->images->fetches, asked->name,
				  asked->any_digest ? NULL : &asked->digest, asked->peer,
				  on_fetched, asked);
	if (err)
		give_up(asked, err);
}

static bool is_digest_or_none(const ProtobufCBinaryData *data)
{
	return !data->len || data->len == DIGEST_BYTES;
}

/* Does what is asked go together? */
static bool is_good(const Blixard__GetVmImageRequest *request)
{
	bool end = request->end != BLIXARD__GET_VM_IMAGE_REQUEST__END__NONE;

	if (!is_digest_or_none(&request->digest) || !is_digest_or_none(&request->chunk) ||
	    request->end > BLIXARD__GET_VM_IMAGE_REQUEST__END__FAILED ||
	    (end && !request->transfer) || (request->peer[0] && request->transfer))
		return false;
	if (request->peer[0] && !image_peer_is_good(request->peer))
		return false;
	return request->chunk.len || end || image_name_is_good(request->name);
}

static struct asked *new_asked(struct images *images, struct rpc_call *call,
			       const Blixard__GetVmImageRequest *request)
{
	struct asked *asked = calloc(1, sizeof(*asked));

	if (!asked)
		return NULL;
	asked->images = images;
	asked->call = call;
	strncpy(asked->name, request->name, IMAGE_NAME_MAX);
	strncpy(asked->peer, request->peer, ADDRESS_MAX);
	asked->transfer = request->transfer;
	asked->any_digest = !request->digest.len;
	if (!asked->any_digest)
		memcpy(asked->digest.bytes, request->digest.data, DIGEST_BYTES);
	return asked;
}

static void on_get(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__GetVmImageRequest *request = (const void *)message;
	struct images *images = arg;

	if (!is_good(request)) {
		rpc_fail(call, GRPC_STATUS_INVALID_ARGUMENT,
			 "name, digest, peer, chunk or transfer are out of range, or do not go "
			 "together");
		return;
	}
	struct asked *asked = new_asked(images, call, request);
	if (!asked) {
		fail_by(call, -ENOMEM);
	} else if (request->end) {
		end_transfer(asked, request);
	} else if (request->chunk.len) {
		get_chunk(asked, request);
	} else {
		int err = run(images, &asked->job, find_work, on_found);
		if (err)
			give_up(asked, err);
	}
}

/* ---- sharing --------------------------------------------------------------------------------- */

static void on_shared(struct image_share *share)
{
	struct shared *shared = (struct shared *)(void *)share; /* its first member */
	Blixard__ShareVmImageReply reply = BLIXARD__SHARE_VM_IMAGE_REPLY__INIT;

	if (share->err) {
		fail_by(shared->call, share->err);
	} else {
		Blixard__VmImage message = image_to_message(share->image);
		message.complete = true;
		reply.image = &message;
		rpc_reply(shared->call, &reply.base);
	}
	free(share->image);
	free(share->data);
	free(shared);
}

static void on_share(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__ShareVmImageRequest *request = (const void *)message;
	bool from_file = request->file[0];

	if (!image_name_is_good(request->name) || from_file == (request->data.len > 0) ||
	    (from_file && !image_name_is_good(request->file))) {
		rpc_fail(call, GRPC_STATUS_INVALID_ARGUMENT,
			 "a name is needed, and either data or the name of a file");
		return;
	}
	struct shared *shared = calloc(1, sizeof(*shared));
	uint8_t *data = malloc(request->data.len + 1);
	int err = shared && data ? 0 : -ENOMEM;
	if (!err) {
		shared->call = call;
		strncpy(shared->share.name, request->name, IMAGE_NAME_MAX);
		strncpy(shared->share.file, request->file, IMAGE_NAME_MAX);
		if (request->data.len)
			memcpy(data, request->data.data, request->data.len);
		shared->share.data = data;
		shared->share.len = request->data.len;
		shared->share.done = on_shared;
		err = images_share(arg, &shared->share);
	}
	if (err) {
		free(data);
		free(shared);
		fail_by(call, err);
	}
}

/* ---- state ----------------------------------------------------------------------------------- */

static void list_work(struct chunk_job *job)
{
	struct listed *listed = (struct listed *)(void *)job; /* its first member */

	listed->n = image_store_list(listed->images->parts.store, listed->list, listed->complete);
}

static void on_listed(struct chunk_job *job)
{
	struct listed *listed = (struct listed *)(void *)job;
	Blixard__ListP2pImagesReply reply = BLIXARD__LIST_P2P_IMAGES_REPLY__INIT;
	Blixard__VmImage messages[IMAGES_MAX];
	Blixard__VmImage *list[IMAGES_MAX];

	for (size_t i = 0; i < listed->n; i++) {
		messages[i] = image_to_message(listed->list[i]);
		messages[i].complete = listed->complete[i];
		messages[i].chunks.len = 0;
		list[i] = &messages[i];
	}
	reply.images = list;
	reply.n_images = listed->n;
	if (job->cancelled)
		fail_by(listed->call, -ECANCELED);
	else
		rpc_reply(listed->call, &reply.base);
	for (size_t i = 0; i < listed->n; i++)
		free(listed->list[i]);
	free(listed);
}

static void status_work(struct chunk_job *job)
{
	struct listed *listed = (struct listed *)(void *)job;
	struct image_store *store = listed->images->parts.store;

	listed->n = image_store_count(store);
	listed->stats = chunk_store_stats(image_store_chunks(store));
}

static void on_status(struct chunk_job *job)
{
	struct listed *listed = (struct listed *)(void *)job;
	Blixard__GetP2pStatusReply reply = BLIXARD__GET_P2P_STATUS_REPLY__INIT;

	reply.images = listed->n;
	reply.chunks = listed->stats.chunks;
	reply.cached_bytes = listed->stats.bytes;
	reply.cache_max_bytes = listed->stats.max_bytes;
	reply.chunks_evicted = listed->stats.evicted;
	reply.receiving = image_fetches_count(listed->images->fetches);
	reply.sending = listed->images->sends.n;
	if (job->cancelled)
		fail_by(listed->call, -ECANCELED);
	else
		rpc_reply(listed->call, &reply.base);
	free(listed);
}

static void look(struct images *images, struct rpc_call *call, void (*work)(struct chunk_job *),
		 void (*done)(struct chunk_job *))
{
	struct listed *listed = calloc(1, sizeof(*listed));
	int err = -ENOMEM;

	if (listed) {
		listed->images = images;
		listed->call = call;
		err = run(images, &listed->job, work, done);
	}
	if (err) {
		free(listed);
		fail_by(call, err);
	}
}

static void on_list(void *arg, struct rpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	look(arg, call, list_work, on_listed);
}

static void on_get_status(void *arg, struct rpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	look(arg, call, status_work, on_status);
}

int images_serve(struct images *images, struct rpc_server *server)
{
	static const struct rpc_method methods[] = {
		{.name = "ShareVmImage",
		 .request = &blixard__share_vm_image_request__descriptor,
		 .handle = on_share},
		{.name = "GetVmImage",
		 .request = &blixard__get_vm_image_request__descriptor,
		 .handle = on_get},
		{.name = "ListP2pImages",
		 .request = &blixard__list_p2p_images_request__descriptor,
		 .handle = on_list},
		{.name = "GetP2pStatus",
		 .request = &blixard__get_p2p_status_request__descriptor,
		 .handle = on_get_status},
	};

	return rpc_server_add(server, methods, sizeof(methods) / sizeof(methods[0]), images);
}
