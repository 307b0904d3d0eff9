/* record_image.c - the handles of everything about images, resolved once. */
#include "record_image.h"

#include <blixard_hooks.h>

static struct {
	blix_counter transfers[IMAGE_DIRECTIONS];
	blix_counter failed[IMAGE_DIRECTIONS];
	blix_histogram duration[IMAGE_DIRECTIONS];
	blix_counter bytes[IMAGE_DIRECTIONS];
	blix_updown_counter active;
	blix_counter moved;
	blix_counter spared;
	blix_counter hits;
	blix_counter misses;
	blix_counter verifications;
	blix_counter verifications_failed;
} metrics;

void record_image_open(void)
{
	static const char *const directions[IMAGE_DIRECTIONS] = {"send", "receive"};

	for (int i = 0; i < IMAGE_DIRECTIONS; i++) {
		metrics.transfers[i] = blix_counter_of(BLIX_p2p_transfers_total, directions[i]);
		metrics.failed[i] = blix_counter_of(BLIX_p2p_transfers_failed_total, directions[i]);
		metrics.duration[i] =
			blix_histogram_of(BLIX_p2p_transfer_duration_seconds, directions[i]);
		metrics.bytes[i] = blix_counter_of(BLIX_p2p_transferred_bytes_total, directions[i]);
	}
	metrics.active = blix_updown_of(BLIX_p2p_transfers_active);
	metrics.moved = blix_counter_of(BLIX_p2p_chunks_transferred_total);
	metrics.spared = blix_counter_of(BLIX_p2p_chunks_deduplicated_total);
	metrics.hits = blix_counter_of(BLIX_p2p_cache_hits_total);
	metrics.misses = blix_counter_of(BLIX_p2p_cache_misses_total);
	metrics.verifications = blix_counter_of(BLIX_p2p_verifications_total);
	metrics.verifications_failed = blix_counter_of(BLIX_p2p_verifications_failed_total);
}

void record_image_begun(void)
{
	blix_updown(metrics.active, 1);
}

void record_image_ended(enum image_direction direction, bool good, uint64_t duration_ns)
{
	/* The failure last: its family never shows more than the other. */
	blix_add(metrics.transfers[direction], 1);
	if (!good)
		blix_add(metrics.failed[direction], 1);
	blix_observe_ns(metrics.duration[direction], duration_ns);
	blix_updown(metrics.active, -1);
}

void record_image_bytes(enum image_direction direction, size_t bytes)
{
	blix_add(metrics.bytes[direction], bytes);
}

void record_image_chunk_moved(void)
{
	blix_add(metrics.moved, 1);
}

void record_image_chunks_spared(size_t n)
{
	blix_add(metrics.spared, n);
}

void record_image_cache(bool hit)
{
	blix_add(hit ? metrics.hits : metrics.misses, 1);
}

void record_image_verified(bool good)
{
	blix_add(metrics.verifications, 1);
	if (!good)
		blix_add(metrics.verifications_failed, 1);
}
