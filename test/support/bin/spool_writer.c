/* test/support/bin/spool_writer.c - puts numbered rows into a spool until it is killed.
 *
 *   spool_writer DIR FIRST     put FIRST, FIRST + 1, ...; each confirmed number is one line on stdout,
 *                              written at once: what was printed must survive
 *   spool_writer DIR --list    print the number of every row, in order, each checked byte for byte
 *
 * A row's number is in its body and in its origin. */
#include "test/support/spool_fixture.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IN_FLIGHT = 8, BODY_MAX = 20000 };

static struct spool_bench bench;
static uint64_t next;

static void put_next(void);

static size_t len_of(uint64_t number)
{
	return 16 + number * 7919 % (BODY_MAX - 16);
}

static void fill(uint8_t *body, uint64_t number)
{
	for (size_t i = 0; i < len_of(number); i++)
		body[i] = (uint8_t)(number * 31 + i * 7);
	memcpy(body, &number, sizeof(number));
}

static void on_put(void *arg, int error, int64_t id)
{
	char line[32];
	int len = snprintf(line, sizeof(line), "%lu\n", (unsigned long)(uintptr_t)arg);

	(void)id;
	if (error < 0) {
		(void)fprintf(stderr, "put: %s\n", strerror(-error));
		exit(1);
	}
	if (write(STDOUT_FILENO, line, (size_t)len) != len)
		exit(1);
	put_next();
}

static void put_next(void)
{
	static uint8_t body[BODY_MAX];
	struct spool_origin origin = {.incarnation = "writer", .first_seq = next, .last_seq = next};
	struct spool_row row = {
		.body = body, .len = len_of(next), .items = 1, .priority = next % 5 == 0};

	fill(body, next);
	if (spool_put(bench.spool, "otlp", "traces", &row, &origin, 1, on_put,
		      (void *)(uintptr_t)next) < 0)
		exit(1);
	next++;
}

static int list(void)
{
	static uint8_t want[BODY_MAX];
	struct spool_row row;
	int r;

	while ((r = spool_bench_take(&bench, "otlp", &row)) == 0) {
		uint64_t number;

		memcpy(&number, row.body, sizeof(number));
		if (row.len != len_of(number))
			return 1;
		fill(want, number);
		if (memcmp(want, row.body, row.len) != 0)
			return 1;
		free(row.body);
		printf("%lu\n", (unsigned long)number);
		if (spool_finish(bench.spool, row.id, true) < 0)
			return 1;
	}
	spool_bench_close(&bench);
	return r == -ENOENT ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct spool_options options = {.free_percent_min = 1};

	if (argc != 3)
		return 2;
	options.dir = argv[1];
	spool_bench_open(&bench, &options);
	if (strcmp(argv[2], "--list") == 0)
		return list();
	next = strtoull(argv[2], NULL, 10);
	for (int i = 0; i < IN_FLIGHT; i++)
		put_next();
	return event_base_dispatch(bench.base);
}
