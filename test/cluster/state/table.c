/* table.c - the replicated table, a chained hash. Loop thread only. */
#include "table.h"

#include "test/cluster/storage/bytes.h"

#include <errno.h>
#include <stdlib.h>

enum { BUCKETS = 8192, ROW_HEAD_BYTES = 1 + 2 };

static const uint32_t table_magic = 0x4c425442; /* "BTBL" */

struct table {
	size_t rows;
	size_t bytes; /* of the rows, encoded */
	struct row *buckets[BUCKETS];
};

struct table *table_new(void)
{
	return calloc(1, sizeof(struct table));
}

struct table *table_free(struct table *table)
{
	if (!table)
		return NULL;
	for (size_t i = 0; i < BUCKETS; i++) {
		struct row *row = table->buckets[i];
		while (row) {
			struct row *next = row->next;
			free(row);
			row = next;
		}
	}
	free(table);
	return NULL;
}

size_t table_rows(const struct table *table)
{
	return table->rows;
}

/* FNV-1a. */
static size_t bucket_of(const char *key, size_t len)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (uint8_t)key[i]) * 16777619u;
	return hash % BUCKETS;
}

/* The link that points to the row, or to the end of its bucket. */
static struct row **find(const struct table *table, const char *key, size_t len)
{
	struct row **link = (struct row **)&table->buckets[bucket_of(key, len)];

	while (*link && ((*link)->key_len != len || memcmp((*link)->key, key, len)))
		link = &(*link)->next;
	return link;
}

const struct row *table_get(const struct table *table, const char *key, size_t key_len)
{
	return *find(table, key, key_len);
}

int table_put(struct table *table, const char *key, size_t key_len, const uint8_t *value,
	      size_t value_len)
{
	if (!key_len || key_len > TABLE_KEY_MAX || value_len > TABLE_VALUE_MAX)
		return -EINVAL;
	struct row **link = find(table, key, key_len), *row = *link;
	if (!row) {
		if (table->rows == TABLE_ROWS_MAX)
			return -ENOSPC;
		row = calloc(1, sizeof(*row));
		if (!row)
			return -ENOMEM;
		row->key_len = (uint8_t)key_len;
		memcpy(row->key, key, key_len);
		*link = row;
		table->rows++;
		table->bytes += ROW_HEAD_BYTES + key_len;
	}
	table->bytes += value_len;
	table->bytes -= row->value_len;
	row->value_len = (uint16_t)value_len;
	if (value_len)
		memcpy(row->value, value, value_len);
	return 0;
}

int table_delete(struct table *table, const char *key, size_t key_len)
{
	struct row **link = find(table, key, key_len), *row = *link;

	if (!row)
		return -ENOENT;
	*link = row->next;
	table->rows--;
	table->bytes -= ROW_HEAD_BYTES + (size_t)row->key_len + row->value_len;
	free(row);
	return 0;
}

size_t table_bytes(const struct table *table)
{
	return 2 * sizeof(uint32_t) + table->bytes;
}

void table_encode(const struct table *table, uint8_t *out, size_t len)
{
	struct writer w = writer_of(out, len);

	put_u32(&w, table_magic);
	put_u32(&w, (uint32_t)table->rows);
	for (size_t i = 0; i < BUCKETS; i++) {
		for (const struct row *row = table->buckets[i]; row; row = row->next) {
			put_u8(&w, row->key_len);
			put_u16(&w, row->value_len);
			put_bytes(&w, row->key, row->key_len);
			put_bytes(&w, row->value, row->value_len);
		}
	}
}

static int decode_row(struct reader *r, struct table *table)
{
	size_t key_len = get_u8(r);
	size_t value_len = get_u16(r);
	const uint8_t *key = get_bytes(r, key_len);
	const uint8_t *value = get_bytes(r, value_len);

	if (!key || !value)
		return -EBADMSG;
	int err = table_put(table, (const char *)key, key_len, value, value_len);
	return err && err != -ENOMEM ? -EBADMSG : err;
}

int table_decode(const uint8_t *bytes, size_t len, struct table **ret_table)
{
	struct reader r = reader_of(bytes, len);
	struct table *table;

	if (get_u32(&r) != table_magic)
		return -EBADMSG;
	uint32_t rows = get_u32(&r);
	table = table_new();
	int err = table ? 0 : -ENOMEM;
	for (uint32_t i = 0; i < rows && !err; i++)
		err = decode_row(&r, table);
	if (!err && (r.failed || r.left || table->rows != rows))
		err = -EBADMSG;
	if (err) {
		table_free(table);
		return err;
	}
	*ret_table = table;
	return 0;
}
