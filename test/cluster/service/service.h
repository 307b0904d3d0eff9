/* service.h - the methods that tell about a node, and those that change its table. Loop thread
 * only. */
#ifndef CLUSTER_SERVICE_H
#define CLUSTER_SERVICE_H

#include "test/cluster/state/fsm.h"
#include "test/cluster/raft/proposals.h"

/* All are borrowed. */
struct service {
	const struct self *self;
	struct raft *raft;
	const struct fsm *fsm;
	struct proposals *proposals;
	struct transport *transport;
};

/* 0; -ENOSPC. `service` is borrowed until the server is freed. */
int service_serve(struct service *service, struct rpc_server *server);

#endif
