/* test/support/bin/address_node.c - a node that does nothing but name its gRPC address.
 *
 * address_node PATH ADDRESS: opens the file, prints "ready", and waits for a signal. */
#include "blixard_hooks.h"

#include <signal.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	sigset_t ends;
	int number, err;

	if (argc != 3) {
		fprintf(stderr, "usage: address_node PATH ADDRESS\n");
		return 2;
	}
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	err = blix_open(argv[1], &(struct blix_identity){.node_id = 1, .grpc_address = argv[2]});
	if (err < 0) {
		fprintf(stderr, "address_node: %s\n", blix_status().reason);
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	sigwait(&ends, &number);
	blix_close();
	return 0;
}
