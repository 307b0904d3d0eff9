/* record_rpc.h - what is recorded of gRPC calls: one function at each side's end of a call.
 *
 * Methods are named by what metrics.def knows; whatever else a client calls is "other", so that
 * nobody outside can invent label values. Loop thread only. */
#ifndef CLUSTER_RECORD_RPC_H
#define CLUSTER_RECORD_RPC_H

#include <grpc/status.h>
#include <stdbool.h>
#include <stdint.h>

/* After record_open(). */
void record_rpc_open(void);

/* The number by which a method is recorded; any name has one. */
int record_rpc_method(const char *name);

/* What that number stands for; NULL: beyond the last one. */
const char *record_rpc_method_name(int method);

/* As gRPC spells it. Does it say that the server, or the way to it, has failed? */
const char *record_rpc_code_name(grpc_status_code code);
bool record_rpc_is_failure(grpc_status_code code);

/* A call has come to the server; it has been answered with `code`. */
void record_rpc_begun(void);
void record_rpc_served(int method, grpc_status_code code, uint64_t duration_ns);

/* A call that this node made has ended. */
void record_rpc_called(int method, grpc_status_code code, uint64_t duration_ns);

#endif
