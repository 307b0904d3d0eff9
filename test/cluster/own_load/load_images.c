/* load_images.c - see load_images.h. Loop thread only.
 *
 * Every node shares at about the same time, and fetches half a period later: then nobody's image is
 * just being replaced. A fetch that fails, or finds nobody to ask yet, is tried again soon.
 *
 * What is under way when the load stops ends after it: its memory lives until then. */
#include "load_images.h"

#include "test/cluster/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	EVERY_S = 10,
	FETCH_AFTER_S = EVERY_S / 2,
	RETRY_S = 1,
	CHUNKS = 8,	/* of an image */
	CHUNKS_NEW = 3, /* in the next version of it */
};

struct load_images {
	struct image_share share;
	struct images *images;
	const struct raft *raft;
	uint64_t node_id;
	struct event *timer;
	struct event *fetcher;
	bool sharing;
	bool fetching;
	bool stopped;
	uint64_t version;
	uint64_t dice;
	uint8_t data[CHUNKS * CHUNK_BYTES];
};

/* xorshift */
static uint64_t throw(uint64_t * dice)
{
	*dice ^= *dice << 13;
	*dice ^= *dice >> 7;
	*dice ^= *dice << 17;
	return *dice;
}

static void free_load(struct load_images *load)
{
	if (load->stopped && !load->sharing && !load->fetching)
		free(load);
}

static void name_of(uint64_t node_id, char ret_name[IMAGE_NAME_MAX + 1])
{
	snprintf(ret_name, IMAGE_NAME_MAX + 1, "load-%" PRIu64, node_id);
}

/* ---- fetching -------------------------------------------------------------------------------- */

static void fetch_in(struct load_images *load, int seconds)
{
	struct timeval wait = {seconds, 0};

	if (!load->stopped)
		event_add(load->fetcher, &wait);
}

static void on_fetched(void *arg, const struct image_fetched *fetched)
{
	struct load_images *load = arg;

	load->fetching = false;
	if (fetched->code != GRPC_STATUS_OK) {
		log_line(LOG_DEBUG, "no image: %s", fetched->text);
		fetch_in(load, RETRY_S);
	}
	free_load(load);
}

static void on_fetch(evutil_socket_t fd, short what, void *arg)
{
	struct load_images *load = arg;
	const struct raft_configuration *members = &load->raft->configuration;
	char name[IMAGE_NAME_MAX + 1];

	(void)fd;
	(void)what;
	if (load->fetching)
		return;
	if (members->n < 2) {
		fetch_in(load, RETRY_S);
		return;
	}
	const struct raft_server *peer = &members->servers[(throw(&load->dice) >> 32) % members->n];
	if (peer->id == load->node_id)
		peer = peer == members->servers ? peer + 1 : peer - 1;
	name_of(peer->id, name);
	load->fetching =
		!image_fetch(load->images->fetches, name, NULL, peer->address, on_fetched, load);
	if (!load->fetching)
		fetch_in(load, RETRY_S);
}

/* ---- sharing --------------------------------------------------------------------------------- */

static void on_shared(struct image_share *share)
{
	struct load_images *load = (struct load_images *)(void *)share; /* its first member */

	load->sharing = false;
	if (share->err && share->err != -ECANCELED)
		log_line(LOG_WARN, "image not shared: %s", strerror(-share->err));
	free(share->image);
	share->image = NULL;
	fetch_in(load, FETCH_AFTER_S);
	free_load(load);
}

/* Write this many chunks anew, beginning where the last version ended. */
static void change(struct load_images *load, unsigned chunks)
{
	for (unsigned i = 0; i < chunks; i++) {
		size_t at = (load->version * CHUNKS_NEW + i) % CHUNKS * CHUNK_BYTES;
		for (size_t j = 0; j < CHUNK_BYTES; j += sizeof(uint64_t)) {
			uint64_t bits = throw(&load->dice);
			memcpy(load->data + at + j, &bits, sizeof(bits));
		}
	}
	load->version++;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct load_images *load = arg;

	(void)fd;
	(void)what;
	if (load->sharing)
		return;
	change(load, load->version ? CHUNKS_NEW : CHUNKS);
	load->sharing = !images_share(load->images, &load->share);
}

struct load_images *load_images_start(struct images *images, const struct raft *raft,
				      uint64_t node_id)
{
	static const struct timeval period = {EVERY_S, 0};
	struct load_images *load = calloc(1, sizeof(*load));

	if (!load)
		return NULL;
	load->images = images;
	load->raft = raft;
	load->node_id = node_id;
	/* Any odd constant: neighbouring ids must not throw alike, and the dice never be 0. */
	load->dice = (node_id << 1 | 1) * 0x9e3779b97f4a7c15ull;
	name_of(node_id, load->share.name);
	load->share.data = load->data;
	load->share.len = sizeof(load->data);
	load->share.done = on_shared;
	load->timer = event_new(images->base, -1, EV_PERSIST, on_timer, load);
	load->fetcher = evtimer_new(images->base, on_fetch, load);
	if (!load->timer || !load->fetcher || event_add(load->timer, &period))
		return load_images_stop(load);
	event_active(load->timer, EV_TIMEOUT, 0);
	return load;
}

struct load_images *load_images_stop(struct load_images *load)
{
	if (!load)
		return NULL;
	if (load->timer)
		event_free(load->timer);
	load->timer = NULL;
	if (load->fetcher)
		event_free(load->fetcher);
	load->fetcher = NULL;
	load->stopped = true;
	free_load(load);
	return NULL;
}
