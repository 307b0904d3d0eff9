/* verdict.c - see verdict.h. Pure, any thread. */
#include "verdict.h"

#include <raft.h>

static const struct {
	grpc_status_code status;
	const char *name;
	const char *text;
} verdicts[] = {
	[VERDICT_OK] = {GRPC_STATUS_OK, "ok", ""},
	[VERDICT_NOT_LEADER] = {GRPC_STATUS_UNAVAILABLE, "not_leader", "no leader can be reached"},
	[VERDICT_LEADERSHIP_LOST] = {GRPC_STATUS_UNKNOWN, "leadership_lost",
				     "the leader was lost: whether it is done is not known"},
	[VERDICT_BUSY] = {GRPC_STATUS_RESOURCE_EXHAUSTED, "busy", "too much is waiting, try again"},
	[VERDICT_TIMEOUT] = {GRPC_STATUS_DEADLINE_EXCEEDED, "timeout",
			     "not done in time: whether it will be is not known"},
	[VERDICT_REFUSED] = {GRPC_STATUS_INVALID_ARGUMENT, "refused", "this is not a valid change"},
	[VERDICT_STORAGE] = {GRPC_STATUS_INTERNAL, "storage", "the disk does not take it"},
	[VERDICT_CANCELLED] = {GRPC_STATUS_CANCELLED, "cancelled", "the node stops"},
};

grpc_status_code verdict_status(enum verdict verdict)
{
	return verdicts[verdict].status;
}

const char *verdict_text(enum verdict verdict)
{
	return verdicts[verdict].text;
}

const char *verdict_name(enum verdict verdict)
{
	return verdicts[verdict].name;
}

enum verdict verdict_of_raft(int status)
{
	switch (status) {
	case 0:
		return VERDICT_OK;
	case RAFT_NOTLEADER:
		return VERDICT_NOT_LEADER;
	case RAFT_LEADERSHIPLOST:
	case RAFT_SHUTDOWN:
	case RAFT_CANCELED:
		return VERDICT_LEADERSHIP_LOST;
	case RAFT_IOERR:
	case RAFT_NOSPACE:
	case RAFT_CORRUPT:
		return VERDICT_STORAGE;
	case RAFT_DUPLICATEID:
	case RAFT_DUPLICATEADDRESS:
	case RAFT_BADID:
	case RAFT_BADROLE:
		return VERDICT_REFUSED;
	default:
		return VERDICT_BUSY;
	}
}

enum verdict verdict_of_forward(grpc_status_code code)
{
	switch (code) {
	case GRPC_STATUS_OK:
		return VERDICT_OK;
	case GRPC_STATUS_FAILED_PRECONDITION:
		return VERDICT_NOT_LEADER;
	case GRPC_STATUS_DEADLINE_EXCEEDED:
		return VERDICT_TIMEOUT;
	case GRPC_STATUS_INVALID_ARGUMENT:
		return VERDICT_REFUSED;
	case GRPC_STATUS_INTERNAL:
		return VERDICT_STORAGE;
	case GRPC_STATUS_RESOURCE_EXHAUSTED:
		return VERDICT_BUSY;
	default: /* the connection broke, or that node stops: it may have been proposed */
		return VERDICT_LEADERSHIP_LOST;
	}
}
