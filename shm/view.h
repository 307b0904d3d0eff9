/* shm/view.h - where the parts of one mapped file are.
 *
 * A view is plain arithmetic over offsets that somebody vouches for: format.c for a file it has
 * just laid out, map.c for a foreign file it has validated. So the accessors check nothing; an
 * index out of range is the caller's bug. A view owns nothing. Includes: shm/ only. */
#ifndef BLIX_SHM_VIEW_H
#define BLIX_SHM_VIEW_H

#include "layout.h"

struct blix_view {
	uint8_t *base; /* page 0; a reader maps it read-only: store through it and you fault */
	uint64_t size;
	uint32_t n_lanes;
	uint64_t lanes_off;
	uint64_t lane_stride;
	struct blix_lane_geometry lane; /* offsets inside a lane; ring_bytes is a power of two */
	uint64_t strings_off;
	uint64_t strings_len; /* capacity */
	uint64_t metrics_off;
	uint32_t metrics_stride;
	uint32_t n_metrics; /* capacity */
	uint64_t series_off;
	uint32_t series_stride;
	uint32_t n_series; /* capacity */
	uint64_t layouts_off;
	uint32_t layouts_stride;
	uint32_t n_layouts; /* capacity */
	uint64_t gauges_off;
	uint32_t n_gauges;
	uint64_t exemplars_off;
	uint32_t exemplars_stride;
	uint32_t n_exemplars;
	uint64_t slots0_off;
	uint32_t n_slots0; /* lane 0's slots are its own n_slots, then these */
	uint64_t resource_off;
	uint64_t resource_len;
	uint8_t *consumer; /* struct blix_consumer, then one struct blix_consumer_lane a lane; NULL
			      for a reader that did not ask to write it */
	uint64_t consumer_off;
	uint64_t consumer_len;
	uint64_t control_off; /* from `base` */
};

static inline struct blix_header *blix_view_header(const struct blix_view *v)
{
	return (struct blix_header *)v->base;
}

static inline uint8_t *blix_view_lane_base(const struct blix_view *v, uint32_t lane)
{
	return v->base + v->lanes_off + (uint64_t)lane * v->lane_stride;
}

static inline struct blix_lane *blix_view_lane(const struct blix_view *v, uint32_t lane)
{
	return (struct blix_lane *)blix_view_lane_base(v, lane);
}

static inline uint64_t *blix_view_cells(const struct blix_view *v, uint32_t lane)
{
	return (uint64_t *)(void *)(blix_view_lane_base(v, lane) + v->lane.cells_off);
}

static inline struct blix_ring *blix_view_ring(const struct blix_view *v, uint32_t lane)
{
	return (struct blix_ring *)(void *)(blix_view_lane_base(v, lane) + v->lane.ring_ctl_off);
}

static inline uint8_t *blix_view_ring_data(const struct blix_view *v, uint32_t lane)
{
	return blix_view_lane_base(v, lane) + v->lane.ring_off;
}

/* Span slots of a lane: lane 0 has n_slots0 more than the others. */
static inline uint32_t blix_view_slot_count(const struct blix_view *v, uint32_t lane)
{
	return v->lane.n_slots + (lane == 0 ? v->n_slots0 : 0);
}

static inline struct blix_span_slot *blix_view_slot(const struct blix_view *v, uint32_t lane,
						    uint32_t slot)
{
	uint8_t *first = slot < v->lane.n_slots ? blix_view_lane_base(v, lane) + v->lane.slots_off
						: v->base + v->slots0_off;
	uint32_t index = slot < v->lane.n_slots ? slot : slot - v->lane.n_slots;

	return (struct blix_span_slot *)(void *)first + index;
}

static inline uint64_t *blix_view_gauges(const struct blix_view *v)
{
	return (uint64_t *)(void *)(v->base + v->gauges_off);
}

static inline struct blix_exemplar *blix_view_exemplar(const struct blix_view *v, uint32_t index)
{
	return (struct blix_exemplar *)(void *)(v->base + v->exemplars_off +
						(uint64_t)index * v->exemplars_stride);
}

static inline struct blix_consumer *blix_view_consumer(const struct blix_view *v)
{
	return (struct blix_consumer *)(void *)v->consumer;
}

static inline struct blix_consumer_lane *blix_view_consumer_lane(const struct blix_view *v,
								 uint32_t lane)
{
	return (struct blix_consumer_lane *)(void *)(v->consumer + sizeof(struct blix_consumer)) +
	       lane;
}

#endif
