/* options.h - the command line of blixard-node, checked. Main thread. */
#ifndef CLUSTER_OPTIONS_H
#define CLUSTER_OPTIONS_H

#include "limits.h"
#include "log.h"
#include "test/cluster/vm/vm.h"

#include <stdbool.h>
#include <stdint.h>

struct options {
	uint64_t id;
	const char *bind;		      /* as given: the identity's gRPC address */
	char address[ADDRESS_MAX + 1];	      /* of --bind, numeric: what peers dial */
	const char *listen;		      /* as given; NULL = at --bind */
	char listen_address[ADDRESS_MAX + 1]; /* numeric */
	const char *join;		      /* as given; NULL = none */
	char join_address[ADDRESS_MAX + 1];   /* numeric */
	const char *shm;
	const char *data;
	const char *cluster;
	uint32_t load_per_second;
	uint32_t load_vms;	      /* that the load keeps, of this node */
	struct vm_resources capacity; /* for VMs */
	uint64_t image_cache_bytes;
	uint32_t snapshot_every; /* entries */
	uint32_t failover_ms;	 /* VMs of a lost node go elsewhere after that */
	enum log_level log_level;
	bool inspect;
};

enum options_verdict { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_WRONG };

/* RUN: *ret_options is complete; its strings are borrowed from argv. DONE: --help or --version was
 * answered. WRONG: one line on stderr says what. */
enum options_verdict options_parse(int argc, char **argv, struct options *ret_options);

#endif
