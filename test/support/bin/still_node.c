/* test/support/bin/still_node.c - a node that moves every metric once and then stands still.
 *
 * still_node PATH: gives each series of the catalogue that a node has from the start (and one peer)
 * a value of its own, prints what it recorded as `name{labels} value` lines, the truth that the
 * served bodies are compared with, then "ready", and waits for a signal. */
#include "blixard_hooks.h"
#include "shm/metric.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t next_value = 1000;

static void print_labels(const struct blix_labels *l, const char *const *values, const char *le)
{
	const char *separator = "{";

	for (uint32_t i = 0; i < l->n_keys; i++) {
		printf("%s%.*s=\"%s\"", separator, (int)l->key_lens[i], l->keys[i], values[i]);
		separator = ",";
	}
	if (le)
		printf("%sle=\"%s\"", separator, le);
	if (l->n_keys || le)
		putchar('}');
}

static void print_value(const struct blix_metric *m, const char *suffix,
			const struct blix_labels *l, const char *const *values, const char *le,
			double value)
{
	printf("%s%s", m->name, suffix);
	print_labels(l, values, le);
	printf(" %.17g\n", value);
}

/* One observation on each bound, one beyond them all: every bucket holds exactly one. */
static void record_histogram(const struct blix_metric *m, const struct blix_labels *l,
			     const char *const *values)
{
	const struct blix_bounds *bounds = blix_layout_bounds(m->layout);
	blix_histogram h = blix_histogram_resolve(m->slot, values, l->n_keys);
	uint64_t sum_ns = 0;

	for (uint32_t i = 0; i <= bounds->n; i++) {
		uint64_t ns =
			i < bounds->n ? bounds->ns[i] : bounds->ns[bounds->n - 1] + next_value++;

		blix_observe_ns(h, ns);
		sum_ns += ns;
		print_value(m, "_bucket", l, values, i < bounds->n ? bounds->le[i] : "+Inf", i + 1);
	}
	print_value(m, "_count", l, values, NULL, bounds->n + 1);
	print_value(m, "_sum", l, values, NULL, (double)sum_ns / 1e9);
}

static void record(const struct blix_metric *m, const struct blix_labels *l,
		   const char *const *values)
{
	/* A subset must not exceed its superset, or the agent would rightly cut it. */
	uint64_t value = m->subset_of ? 1 : next_value++;

	switch (m->kind) {
	case BLIX_COUNTER:
		blix_add(blix_counter_resolve(m->slot, values, l->n_keys), value);
		break;
	case BLIX_UPDOWN:
		blix_updown(blix_updown_resolve(m->slot, values, l->n_keys), (int64_t)value);
		break;
	case BLIX_GAUGE:
		blix_set(blix_gauge_resolve(m->slot, values, l->n_keys), (int64_t)value);
		break;
	case BLIX_GAUGE_F64:
		blix_set_f64(blix_gauge_resolve(m->slot, values, l->n_keys), (double)value);
		break;
	case BLIX_HISTOGRAM:
		record_histogram(m, l, values);
		return;
	}
	double scale = blix_stored_in_ns(m->kind, m->unit) ? 1e-9 : 1;

	print_value(m, "", l, values, NULL, (double)value * scale);
}

static void record_all(const struct blix_metric *m)
{
	struct blix_labels l;
	char text[BLIX_LABELS_MAX][64];
	const char *values[BLIX_LABELS_MAX];
	bool any = false;

	blix_labels_begin(&l, m->labels);
	while (blix_labels_next(&l)) {
		any = true;
		for (uint32_t i = 0; i < l.n_keys; i++) {
			snprintf(text[i], sizeof(text[i]), "%.*s", (int)l.value_lens[i],
				 l.values[i]);
			values[i] = text[i];
		}
		record(m, &l, values);
	}
	if (!any) { /* keys without initial values, such as a peer */
		for (uint32_t i = 0; i < l.n_keys; i++)
			values[i] = "2";
		record(m, &l, values);
	}
}

int main(int argc, char **argv)
{
	sigset_t ends;
	int signal_number;

	if (argc != 2) {
		fprintf(stderr, "usage: still_node PATH\n");
		return 2;
	}
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	int err = blix_open(argv[1], &(struct blix_identity){
					     .node_id = 7,
					     .cluster = "still",
					     .grpc_address = "127.0.0.1:7007",
					     .service_version = "1.2.3",
				     });

	if (err < 0) {
		fprintf(stderr, "still_node: %s: %s\n", blix_strerror(err), blix_status().reason);
		return 1;
	}
	for (const struct blix_metric *m = blix_metric_next(NULL); m; m = blix_metric_next(m))
		if (m->owner == BLIX_OWNER_NODE)
			record_all(m);
	printf("ready\n");
	fflush(stdout);
	sigwait(&ends, &signal_number);
	blix_close();
	return 0;
}
