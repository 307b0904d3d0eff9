/* rpc_fault.h - calls that are to be rejected or slowed on purpose: the rules, and which call they
 * hit. Only for tests and game days (test/cluster/fault rpc-reject, rpc-slow).
 *
 * A rule hits exactly its share of the calls, evenly spread, so that what it does can be counted
 * and compared. Pure but for rpc_faults_load(). Loop thread only. */
#ifndef CLUSTER_RPC_FAULT_H
#define CLUSTER_RPC_FAULT_H

#include <grpc/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	RPC_FAULT_RULES_MAX = 16,
	RPC_FAULT_METHOD_MAX = 64, /* bytes */
	RPC_FAULT_DELAY_MAX_MS = 60000,
	RPC_FAULT_TEXT_MAX = 4096, /* bytes */
};

struct rpc_fault_rule {
	char method[RPC_FAULT_METHOD_MAX]; /* "*": all but those that are served always */
	uint32_t share_percent;		   /* 1 to 100, of its calls */
	uint32_t owed;			   /* hundredths of a hit that have added up */
	grpc_status_code code;		   /* OK: not rejected */
	uint32_t delay_ms;
};

struct rpc_faults {
	struct rpc_fault_rule rules[RPC_FAULT_RULES_MAX];
	size_t n;
};

/* What is to happen to one call. */
struct rpc_fault {
	grpc_status_code code; /* OK: it is served */
	uint32_t delay_ms;     /* before that */
};

/* Rules, one a line: METHOD SHARE CODE DELAY_MS, as in `CreateVm 50 UNAVAILABLE 0`. No line at
 * all: no rule. -EINVAL, -E2BIG (too many): *ret_faults is as before. */
int rpc_faults_parse(const char *text, size_t len, struct rpc_faults *ret_faults);

/* The first rule for this method decides the code, the delays add up. */
struct rpc_fault rpc_faults_of(struct rpc_faults *faults, const char *method, bool always);

/* Take the rules of the file rpc-faults in `dir`, and rename it to rpc-faults.taken; what is
 * malformed is refused as a whole and renamed to rpc-faults.refused. 0 or -errno; logs either. */
int rpc_faults_load(int dir, struct rpc_faults *ret_faults);

#endif
