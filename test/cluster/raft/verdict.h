/* verdict.h - how a proposal or a change of membership ended, and what that is in gRPC's terms.
 * Pure, any thread. */
#ifndef CLUSTER_VERDICT_H
#define CLUSTER_VERDICT_H

#include <grpc/status.h>

enum verdict {
	VERDICT_OK,
	VERDICT_NOT_LEADER,	 /* nobody leads, or the way to the leader is broken */
	VERDICT_LEADERSHIP_LOST, /* it may or may not come to pass */
	VERDICT_BUSY,		 /* a queue is full, or another change is in progress: try again */
	VERDICT_TIMEOUT,
	VERDICT_REFUSED, /* will never work */
	VERDICT_STORAGE,
	VERDICT_CANCELLED, /* the node stops */
};

/* Towards a client, with a sentence for it. */
grpc_status_code verdict_status(enum verdict verdict);
const char *verdict_text(enum verdict verdict);

/* One word for it, for error.type. */
const char *verdict_name(enum verdict verdict);

/* Of libraft's status codes. */
enum verdict verdict_of_raft(int status);

/* Of the status with which Forward ended; that one says FAILED_PRECONDITION where a client is told
 * UNAVAILABLE, so that a leader that leads no more is not taken for a broken connection. */
enum verdict verdict_of_forward(grpc_status_code code);

#endif
