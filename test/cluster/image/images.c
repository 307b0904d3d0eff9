/* images.c - see images.h. Loop thread only, but for the work of jobs. */
#include "images.h"

#include "test/cluster/record/record.h"
#include "test/cluster/record/record_image.h"

#include <errno.h>
#include <string.h>

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct images *images = arg;

	(void)fd;
	(void)what;
	image_sends_expire(&images->sends, record_now_ns());
}

static int start_timer(struct images *images)
{
	static const struct timeval period = {1, 0};

	images->timer = event_new(images->base, -1, EV_PERSIST, on_timer, images);
	return images->timer && !event_add(images->timer, &period) ? 0 : -ENOMEM;
}

int images_open(struct images *images, struct event_base *base, struct rpc_queue *queue, int dir,
		uint64_t cache_max_bytes)
{
	*images = (struct images){.base = base, .parts.queue = queue};
	int err = image_store_open(dir, cache_max_bytes, &images->parts.store);
	if (!err)
		err = chunk_worker_start(base, &images->parts.worker);
	if (err)
		return err;
	images->fetches = image_fetches_new(&images->parts);
	return images->fetches ? start_timer(images) : -ENOMEM;
}

void images_stop(struct images *images)
{
	images->stopping = true;
	if (images->fetches)
		image_fetches_stop(images->fetches);
	images->parts.worker = chunk_worker_stop(images->parts.worker);
	if (images->fetches)
		image_fetches_hang_up(images->fetches);
	image_sends_stop(&images->sends, record_now_ns());
}

void images_close(struct images *images)
{
	if (images->timer)
		event_free(images->timer);
	images->timer = NULL;
	images->fetches = image_fetches_free(images->fetches);
	images->parts.store = image_store_close(images->parts.store);
}

/* ---- sharing --------------------------------------------------------------------------------- */

static void share_work(struct chunk_job *job)
{
	struct image_share *share = (struct image_share *)(void *)job; /* its first member */
	struct image_store *store = share->images->parts.store;

	if (share->file[0])
		share->err = image_store_share_file(store, share->name, share->file, &share->image);
	else
		share->err = image_store_share(store, share->name, share->data, share->len,
					       &share->image);
}

static void on_shared(struct chunk_job *job)
{
	struct image_share *share = (struct image_share *)(void *)job;

	if (job->cancelled)
		share->err = -ECANCELED;
	share->done(share);
}

int images_share(struct images *images, struct image_share *share)
{
	share->images = images;
	share->image = NULL;
	share->job.work = share_work;
	share->job.done = on_shared;
	return images->stopping ? -EBUSY : chunk_worker_run(images->parts.worker, &share->job);
}
