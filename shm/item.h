/* shm/item.h - walk a run of items (layout.h): the payload of spans and logs, in record or slot.
 *
 * Works on a private copy only; every number in it is checked, so a hostile run ends early and is
 * never read beyond. Thread rule: pure. Includes: layout.h, libc. */
#ifndef BLIX_SHM_ITEM_H
#define BLIX_SHM_ITEM_H

#include "layout.h"

#include <stdbool.h>
#include <string.h>

struct blix_items {
	const uint8_t *at;
	uint32_t left;
};

/* One item: its head, by value, and its value's bytes inside the run. */
struct blix_item_seen {
	struct blix_item head;
	const uint8_t *value; /* head.len bytes */
};

static inline struct blix_items blix_items_of(const void *run, uint32_t len)
{
	return (struct blix_items){.at = run, .left = len};
}

/* The next item. False: the run is at its end, or what follows is no item (then items->left > 0). */
static inline bool blix_items_next(struct blix_items *items, struct blix_item_seen *ret_item)
{
	uint32_t whole;

	if (items->left < sizeof(struct blix_item))
		return false;
	memcpy(&ret_item->head, items->at, sizeof(ret_item->head));
	whole = (uint32_t)sizeof(struct blix_item) + ((ret_item->head.len + 7u) & ~7u);
	if (whole > items->left)
		return false;
	ret_item->value = items->at + sizeof(struct blix_item);
	items->at += whole;
	items->left -= whole;
	return true;
}

#endif
