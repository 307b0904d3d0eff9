/* table.h - the replicated table: names and what is known about them (the states of VMs).
 *
 * In memory; every node holds the same rows because every node applies the same commands. Bounded
 * by TABLE_ROWS_MAX. Loop thread only. */
#ifndef CLUSTER_TABLE_H
#define CLUSTER_TABLE_H

#include "test/cluster/limits.h"

#include <stddef.h>
#include <stdint.h>

struct table;

struct row {
	struct row *next; /* in its bucket */
	uint8_t key_len;
	uint16_t value_len;
	char key[TABLE_KEY_MAX];
	uint8_t value[TABLE_VALUE_MAX];
};

struct table *table_new(void); /* NULL: no memory */

/* Accepts NULL; returns NULL. */
struct table *table_free(struct table *table);

size_t table_rows(const struct table *table);

/* Borrowed until the table changes; NULL: no such row. */
const struct row *table_get(const struct table *table, const char *key, size_t key_len);

/* 0; -ENOSPC: full; -ENOMEM; -EINVAL: key or value out of range. */
int table_put(struct table *table, const char *key, size_t key_len, const uint8_t *value,
	      size_t value_len);

/* 0; -ENOENT. */
int table_delete(struct table *table, const char *key, size_t key_len);

/* All rows as bytes, of table_bytes() length. */
size_t table_bytes(const struct table *table);
void table_encode(const struct table *table, uint8_t *out, size_t len);

/* A new table of these bytes. 0; -EBADMSG, -ENOMEM. */
int table_decode(const uint8_t *bytes, size_t len, struct table **ret_table);

#endif
