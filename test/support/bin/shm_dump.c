/* test/support/bin/shm_dump.c - every series of a telemetry file with its raw value.
 *
 * shm_dump PATH: prints `# key value` lines about the file and its owner, then one line a sample,
 * `name{key="value"} number`; a histogram gives _bucket (cumulative, `le` in the stored unit), _sum
 * and _count. Durations are in nanoseconds, as stored. Exit 1 with the reader's reason on stderr
 * when the file cannot be opened. Reads a live file, a dead node's, or a copy. */
#include "shm/layout.h"
#include "shm/map.h"
#include "shm/metric.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_name(const struct blix_map_metric *metric, const struct blix_map_series *series,
		       const char *suffix, const char *le)
{
	const char *separator = "{";

	printf("%s%s", metric->name, suffix);
	for (unsigned i = 0; i < metric->n_label_keys; i++) {
		printf("%s%s=\"%s\"", separator, metric->label_keys[i], series->label_values[i]);
		separator = ",";
	}
	if (le)
		printf("%sle=\"%s\"", separator, le);
	if (metric->n_label_keys || le)
		putchar('}');
	putchar(' ');
}

static void print_histogram(const struct blix_map_metric *metric,
			    const struct blix_map_series *series, const uint64_t *cells)
{
	uint32_t n = metric->layout->n_bounds;
	uint64_t count = 0;
	char le[32];

	for (uint32_t i = 0; i <= n; i++) {
		count += cells[i];
		if (i < n)
			snprintf(le, sizeof(le), "%" PRIu64, metric->layout->bounds[i]);
		print_name(metric, series, "_bucket", i < n ? le : "+Inf");
		printf("%" PRIu64 "\n", count);
	}
	print_name(metric, series, "_sum", NULL);
	printf("%" PRIu64 "\n", cells[n + 1]);
	print_name(metric, series, "_count", NULL);
	printf("%" PRIu64 "\n", count);
}

static void print_gauge(const struct blix_map *map, const struct blix_map_metric *metric,
			const struct blix_map_series *series)
{
	uint64_t bits = blix_map_gauge(map, series->gauge_idx);
	double value;

	print_name(metric, series, "", NULL);
	if (metric->kind == BLIX_GAUGE_F64) {
		memcpy(&value, &bits, sizeof(value));
		printf("%.17g\n", value);
	} else {
		printf("%" PRId64 "\n", (int64_t)bits);
	}
}

static void print_series(const struct blix_map *map, const struct blix_map_series *series,
			 const uint64_t *cells)
{
	const struct blix_map_metric *metric = blix_map_metric(map, series->metric);

	if (!metric)
		return;
	switch (metric->kind) {
	case BLIX_COUNTER:
		print_name(metric, series, "", NULL);
		printf("%" PRIu64 "\n", cells[series->first_cell]);
		break;
	case BLIX_UPDOWN:
		print_name(metric, series, "", NULL);
		printf("%" PRId64 "\n", (int64_t)cells[series->first_cell]);
		break;
	case BLIX_HISTOGRAM:
		print_histogram(metric, series, cells + series->first_cell);
		break;
	default:
		print_gauge(map, metric, series);
		break;
	}
}

static void print_file(struct blix_map *map)
{
	const struct blix_map_identity *identity = blix_map_identity(map);
	struct blix_map_life life;

	blix_map_life(map, &life);
	printf("# state %u\n", life.state);
	printf("# owner %s\n", blix_map_owner_state(map) == BLIX_OWNER_ALIVE ? "alive" : "gone");
	printf("# alive_beat %" PRIu64 "\n# app_beat %" PRIu64 "\n", life.alive_beat,
	       life.app_beat);
	printf("# node_id %" PRIu64 "\n# pid %u\n", identity->node_id, identity->pid);
	printf("# incarnation %s\n", identity->incarnation_hex);
	printf("# cluster %s\n# grpc_address %s\n", identity->cluster, identity->grpc_address);
	printf("# data_dir %s\n# version %s\n", identity->data_dir, identity->version);
}

static uint32_t cells_in_use(const struct blix_map *map)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < blix_map_series_count(map); i++) {
		const struct blix_map_series *series = blix_map_series(map, i);
		if (series && series->first_cell + series->n_cells > n)
			n = series->first_cell + series->n_cells;
	}
	return n;
}

int main(int argc, char **argv)
{
	char reason[BLIX_REASON_MAX];
	struct blix_map *map;

	if (argc != 2) {
		fprintf(stderr, "usage: shm_dump PATH\n");
		return 2;
	}
	if (blix_map_open(argv[1], &(struct blix_map_options){0}, &map, reason) ||
	    blix_map_refresh(map)) {
		fprintf(stderr, "shm_dump: %s: %s\n", argv[1], reason);
		return 1;
	}
	uint32_t n = cells_in_use(map);
	uint64_t *cells = calloc(n ? n : 1, sizeof(*cells));
	if (!cells)
		return 1;
	blix_map_sum_cells(map, cells, n);
	print_file(map);
	for (uint32_t i = 0; i < blix_map_series_count(map); i++) {
		const struct blix_map_series *series = blix_map_series(map, i);
		if (series)
			print_series(map, series, cells);
	}
	free(cells);
	blix_map_close(map);
	return 0;
}
