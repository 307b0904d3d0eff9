/* A node in 60 lines: open a file, resolve series once, record; a span and a log for each step. Build it with
 *   cc node.c $(pkg-config --cflags --libs blixard-hooks)
 * and run it as  ./node /dev/shm/blix1 30  beside  blixard-agent --shm /dev/shm/blix1. */
#include <blixard_hooks.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "/dev/shm/blix1";
	int steps = argc > 2 ? atoi(argv[2]) * 10 : 5;
	struct timespec tenth = {0, 100000000};
	struct blix_identity identity = {
		.node_id = 1,
		.grpc_address = "127.0.0.1:7001", /* the agent serves on port + 1000 */
		.service_version = BLIX_HOOKS_VERSION,
	};
	int err = blix_open(path, &identity);
	blix_counter proposals = blix_counter_of(BLIX_raft_proposals_total);
	blix_counter creates = blix_counter_of(BLIX_grpc_requests_total, "CreateVm");
	blix_histogram commit = blix_histogram_of(BLIX_raft_proposal_duration_seconds);
	blix_gauge term = blix_gauge_of(BLIX_raft_term);
	int step;

	if (err < 0) /* the node runs on: every call below does nothing */
		fprintf(stderr, "telemetry off: %s\n", blix_strerror(err));
	blix_set(term, 7);
	for (step = 0; step < steps; step++) {
		uint64_t begin_ns = blix_now_ns();
		blix_span span = blix_span_begin(BLIX_NAME("raft.propose"), BLIX_INTERNAL, NULL);
		BLIX_SCOPE(span); /* logs and exemplars of this block belong to the span */

		blix_heartbeat();
		blix_span_i64(span, BLIX_KEY("raft.term"), 7);
		nanosleep(&tenth, NULL); /* this node's work */
		blix_add(proposals, 1);
		blix_add(creates, 2);
		blix_observe_ns(commit, blix_now_ns() - begin_ns);
		blix_log(BLIX_INFO, "proposal committed", BLIX_I64("raft.index", step));
		blix_span_end(span);
	}
	printf("%s: %d proposals, %d requests, term 7\n", path, steps, 2 * steps);
	blix_close();
	return err < 0;
}
