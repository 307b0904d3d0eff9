/* node.h - one Blixard node: everything wired together. Main thread. */
#ifndef CLUSTER_NODE_H
#define CLUSTER_NODE_H

#include "options.h"

/* Run until SIGTERM or SIGINT. 0: stopped as asked; 1: failed, and said why. */
int node_run(const struct options *options);

/* Print what a data directory holds, without starting a node. 0 or 1. */
int node_inspect(const struct options *options);

#endif
