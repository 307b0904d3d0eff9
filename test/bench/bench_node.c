/* test/bench/bench_node.c - a node with about LINES sample lines of its own, for the agent to serve:
 * half counters with two labels, half lines of histograms. bench_node PATH LINES; runs until killed. */
#include "blixard_hooks.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static uint32_t registered(const struct blix_metric_spec *spec)
{
	uint32_t slot;

	if (blix_metric_register(spec, &slot)) {
		fprintf(stderr, "bench_node: cannot register %s\n", spec->name);
		exit(1);
	}
	return slot;
}

int main(int argc, char **argv)
{
	static const char *const keys[] = {"method", "code"};
	static const uint64_t bounds_ns[] = {5000000,	 10000000,  25000000,  50000000,
					     100000000,	 250000000, 500000000, 1000000000,
					     2500000000, 5000000000};
	int lines = argc == 3 ? atoi(argv[2]) : 0;

	if (lines < 26) {
		fprintf(stderr, "usage: bench_node PATH LINES (26 and up)\n");
		return 2;
	}
	int err = blix_open(argv[1], &(struct blix_identity){.node_id = 1, .cluster = "bench"});

	if (err < 0) {
		fprintf(stderr, "bench_node: %s: %s\n", blix_strerror(err), blix_status().reason);
		return 1;
	}
	uint32_t counter = registered(&(struct blix_metric_spec){.name = "bench_requests_total",
								 .help = "Requests.",
								 .kind = BLIX_KIND_COUNTER,
								 .label_keys = keys,
								 .n_label_keys = 2,
								 .max_series = 4096});
	uint32_t histogram =
		registered(&(struct blix_metric_spec){.name = "bench_request_duration_seconds",
						      .help = "Time.",
						      .unit = "s",
						      .kind = BLIX_KIND_HISTOGRAM,
						      .label_keys = keys,
						      .n_label_keys = 1,
						      .max_series = 512,
						      .bounds = bounds_ns,
						      .n_bounds = 10});
	char method[32];

	for (int i = 0; i < lines / 2; i++) {
		snprintf(method, sizeof(method), "Method%d", i);
		blix_add(blix_counter_of(counter, method, "UNAVAILABLE"), (uint64_t)i * 37 + 1);
	}
	for (int i = 0; i < lines / 2 / 13; i++) {
		snprintf(method, sizeof(method), "Method%d", i);
		blix_histogram h = blix_histogram_of(histogram, method);

		for (uint64_t k = 1; k <= 200; k++)
			blix_observe_ns(h, k * k * 100000);
	}
	printf("ready\n");
	fflush(stdout);
	for (;;)
		pause();
}
