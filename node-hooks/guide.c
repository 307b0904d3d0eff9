/* node-hooks/guide.c - the calls that record what every node does in one go, with the meaning the
 * observability guide gave them: count, failures, duration, and an exemplar if a span is current.
 *
 * The failure last and the count first: so a family of failures never shows more than its whole.
 * Failures are resolved when they first happen: a code that a method never failed with says nothing.
 *
 * Thread rule: any thread. Lock order: guide, registry. */
#include "trace.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- names to places ------------------------------------------------------------------------ */

enum { METHODS_MAX = 64, TABLES_MAX = 16, TEXT_MAX = 64 };

/* The place of `text` in a list whose first entry is that of "other". */
static uint32_t place_of(char (*list)[TEXT_MAX], uint32_t *n, uint32_t max, const char *text)
{
	uint32_t i;

	for (i = 0; i < *n; i++)
		if (strcmp(list[i], text) == 0)
			return i;
	if (*n == max || strlen(text) >= TEXT_MAX)
		return 0;
	memcpy(list[i], text, strlen(text) + 1);
	++*n;
	return i;
}

/* ---- gRPC ----------------------------------------------------------------------------------- */

/* The codes that say that the server, or the way to it, has failed, and not the caller. */
static const char *const failing[] = {
	[2] = "UNKNOWN",	[4] = "DEADLINE_EXCEEDED", [8] = "RESOURCE_EXHAUSTED",
	[12] = "UNIMPLEMENTED", [13] = "INTERNAL",	   [14] = "UNAVAILABLE",
	[15] = "DATA_LOSS",
};
enum { CODES = sizeof(failing) / sizeof(failing[0]) };

static char methods[METHODS_MAX][TEXT_MAX] = {"other"};
static uint32_t n_methods = 1;
static struct {
	uint32_t known; /* release, after the handles */
	uint32_t failure_known[CODES];
	blix_counter requests;
	blix_histogram duration;
	blix_counter failed[CODES];
} grpc[METHODS_MAX];

static void know_method(uint32_t i)
{
	if (blix_load_acquire(&grpc[i].known))
		return;
	grpc[i].requests = blix_counter_of(BLIX_grpc_requests_total, methods[i]);
	grpc[i].duration = blix_histogram_of(BLIX_grpc_request_duration_seconds, methods[i]);
	blix_store_release(&grpc[i].known, 1);
}

blix_grpc_method blix_grpc_method_of(const char *method)
{
	uint32_t i;

	pthread_mutex_lock(&lock);
	i = place_of(methods, &n_methods, METHODS_MAX, method ? method : "other");
	know_method(i);
	pthread_mutex_unlock(&lock);
	return (blix_grpc_method){.index = i};
}

static __attribute__((noinline)) void know_failure(uint32_t i, int code)
{
	pthread_mutex_lock(&lock);
	if (!blix_load_acquire(&grpc[i].failure_known[code])) {
		grpc[i].failed[code] =
			blix_counter_of(BLIX_grpc_requests_failed_total, methods[i], failing[code]);
		blix_store_release(&grpc[i].failure_known[code], 1);
	}
	pthread_mutex_unlock(&lock);
}

void blix_record_grpc_request(blix_grpc_method method, uint64_t duration_ns, int status)
{
	uint32_t i = method.index < METHODS_MAX ? method.index : 0;

	if (__builtin_expect(!blix_load_acquire(&grpc[i].known), 0))
		(void)blix_grpc_method_of("other");
	if (!blix_load_acquire(&grpc[i].known))
		i = 0;
	blix_add(grpc[i].requests, 1);
	blix_observe_ns(grpc[i].duration, duration_ns);
	if (status < 0 || status > 16)
		status = 2; /* no gRPC code: UNKNOWN */
	if (status >= CODES || !failing[status])
		return;
	if (!blix_load_acquire(&grpc[i].failure_known[status]))
		know_failure(i, status);
	blix_add(grpc[i].failed[status], 1);
}

/* ---- storage -------------------------------------------------------------------------------- */

static char tables[TABLES_MAX][TEXT_MAX] = {"other"};
static uint32_t n_tables = 1;
static struct {
	uint32_t known;
	blix_counter operations[2]; /* by enum blix_storage_op */
	blix_histogram duration[2];
} storage[TABLES_MAX];
static uint32_t errors_known;
static blix_counter errors[3];

static void know_table(uint32_t i)
{
	if (blix_load_acquire(&storage[i].known))
		return;
	storage[i].operations[0] = blix_counter_of(BLIX_storage_reads_total, tables[i]);
	storage[i].operations[1] = blix_counter_of(BLIX_storage_writes_total, tables[i]);
	storage[i].duration[0] = blix_histogram_of(BLIX_storage_read_duration_seconds, tables[i]);
	storage[i].duration[1] = blix_histogram_of(BLIX_storage_write_duration_seconds, tables[i]);
	blix_store_release(&storage[i].known, 1);
}

static void know_errors(void)
{
	if (blix_load_acquire(&errors_known))
		return;
	errors[BLIX_STORAGE_READ] = blix_counter_of(BLIX_storage_errors_total, "read");
	errors[BLIX_STORAGE_WRITE] = blix_counter_of(BLIX_storage_errors_total, "write");
	errors[BLIX_STORAGE_SYNC] = blix_counter_of(BLIX_storage_errors_total, "sync");
	blix_store_release(&errors_known, 1);
}

blix_storage_table blix_storage_table_of(const char *table)
{
	uint32_t i;

	pthread_mutex_lock(&lock);
	i = place_of(tables, &n_tables, TABLES_MAX, table ? table : "other");
	know_table(i);
	know_errors();
	pthread_mutex_unlock(&lock);
	return (blix_storage_table){.index = i};
}

void blix_record_storage_operation(blix_storage_table table, enum blix_storage_op op,
				   uint64_t duration_ns, int error)
{
	uint32_t i = table.index < TABLES_MAX ? table.index : 0;

	if ((uint32_t)op > BLIX_STORAGE_SYNC)
		return;
	if (__builtin_expect(!blix_load_acquire(&storage[i].known), 0)) {
		(void)blix_storage_table_of("other");
		i = 0;
	}
	if (op != BLIX_STORAGE_SYNC) {
		blix_add(storage[i].operations[op], 1);
		blix_observe_ns(storage[i].duration[op], duration_ns);
	}
	if (error)
		blix_add(errors[op], 1);
}

/* ---- Raft ----------------------------------------------------------------------------------- */

static uint32_t raft_known;
static blix_counter proposals;
static blix_histogram proposal_duration;
static blix_counter proposals_failed[BLIX_RAFT_OTHER + 1];

static __attribute__((noinline)) void know_raft(void)
{
	static const char *const reasons[] = {
		NULL, "not_leader", "leadership_lost", "timeout", "storage", "cancelled", "other"};

	pthread_mutex_lock(&lock);
	proposals = blix_counter_of(BLIX_raft_proposals_total);
	proposal_duration = blix_histogram_of(BLIX_raft_proposal_duration_seconds);
	for (int i = BLIX_RAFT_NOT_LEADER; i <= BLIX_RAFT_OTHER; i++)
		proposals_failed[i] = blix_counter_of(BLIX_raft_proposals_failed_total, reasons[i]);
	blix_store_release(&raft_known, 1);
	pthread_mutex_unlock(&lock);
}

void blix_record_raft_proposal(uint64_t duration_ns, enum blix_raft_outcome outcome)
{
	if (__builtin_expect(!blix_load_acquire(&raft_known), 0))
		know_raft();
	if ((uint32_t)outcome > BLIX_RAFT_OTHER)
		outcome = BLIX_RAFT_OTHER;
	blix_add(proposals, 1);
	if (outcome == BLIX_RAFT_COMMITTED)
		blix_observe_ns(proposal_duration, duration_ns);
	else
		blix_add(proposals_failed[outcome], 1);
}

/* ---- fork ----------------------------------------------------------------------------------- */

void blix_guide_before_fork(void)
{
	pthread_mutex_lock(&lock);
}

void blix_guide_after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

void blix_guide_in_child(void)
{
	pthread_mutex_init(&lock, NULL);
}
