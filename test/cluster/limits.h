/* limits.h - every bound of the reference node in one place. */
#ifndef CLUSTER_LIMITS_H
#define CLUSTER_LIMITS_H

enum {
	ADDRESS_MAX = 127,	     /* bytes of a host:port */
	CLUSTER_NAME_MAX = 63,	     /* bytes */
	MEMBERS_MAX = 64,	     /* servers in a configuration, and peers we talk to */
	FRAME_MAX_BYTES = 16 << 20,  /* largest Raft message: a snapshot */
	APPEND_MAX_BYTES = 1 << 20,  /* entries sent in one message; what is left follows later */
	OUTPUT_MAX_BYTES = 32 << 20, /* queued towards one peer; beyond, messages are dropped */

	RPC_CALLS_MAX = 1024, /* served at a time, Raft's messages aside */
	/* Over one connection: more than PROPOSALS_MAX, lest Forwards stop the Raft messages that
	 * they wait for. */
	RPC_STREAMS_MAX = 8192,
	RPC_MESSAGE_MAX_BYTES = 4 << 20, /* a request or reply, but for SendRaftMessage */
	RPC_RAFT_MAX_BYTES = FRAME_MAX_BYTES + (64 << 10),
	REQUEST_TIMEOUT_MS = 5000,   /* for a request to arrive once its call has begun */
	RAFT_CALL_TIMEOUT_MS = 5000, /* a peer that does not answer this long is lost */
	JOIN_TIMEOUT_MS = 10000,

	COMMAND_MAX_BYTES = 4096,  /* one proposal */
	ENTRY_MAX_BYTES = 1 << 20, /* one log entry, configurations included */
	PROPOSALS_MAX = 4096,	   /* waiting for a result on one node */
	PROPOSAL_TIMEOUT_MS = 5000,

	TABLE_ROWS_MAX = 32768,
	TABLE_KEY_MAX = 64,    /* bytes */
	TABLE_VALUE_MAX = 256, /* bytes; rows x (key + value + 8) stay below FRAME_MAX_BYTES */

	VMS_MAX = 512,	      /* in the cluster */
	VMS_WAITING_MAX = 64, /* for a node; a further one is refused */
	VM_NAME_MAX = 48,     /* bytes, not more than TABLE_KEY_MAX */
	VM_VCPUS_MAX = 1024,  /* of one VM, and of one node */
	VM_TICK_MS = 50,
	FAILOVER_MIN_MS = 1000,
	FAILOVER_MAX_MS = 3600000,
	VM_DISK_TIMEOUT_MS = 10000, /* to make or remove a disk */
	VM_BOOT_TIMEOUT_MS = 5000,
	VM_STOP_TIMEOUT_MS = 3000, /* from TERM to KILL */
	VM_PING_EVERY_MS = 1000,
	VM_PING_TIMEOUT_MS = 500,
	VM_PINGS_FAILED_MAX = 3, /* in a row; then it is killed, and recovered */
	VM_STABLE_MS = 10000,	 /* up for this long: earlier failures no longer count */
	VM_RETRY_MIN_MS = 250,
	VM_RETRY_MAX_MS = 30000,
	VM_FAILURES_MAX = 8,	   /* in a row; then it stays down until it is ordered up again */
	VM_REPORT_EVERY_MS = 1000, /* until the report is applied */

	SEGMENT_BYTES = 4 << 20,    /* a log segment is closed once it is this long */
	STORAGE_QUEUE_MAX = 1024,   /* jobs waiting for the storage thread */
	STORAGE_QUEUE_RESERVE = 64, /* on top of it, for jobs that Raft cannot take back */

	CHUNK_BYTES = 256 << 10, /* of an image; the last one may be shorter */
	CHUNKS_MAX = 65536,	 /* in the cache, whatever its bytes */
	CHUNK_JOBS_MAX = 256,	 /* waiting for the thread of the cache */
	IMAGES_MAX = 64,	 /* known to a node; the one unused for longest is forgotten */
	IMAGE_NAME_MAX = 63,	 /* bytes */
	IMAGE_CHUNKS_MAX = 4096, /* 1 GiB */
	IMAGE_FETCHES_MAX = 4,	 /* at a time */
	IMAGE_SENDS_MAX = 16,	 /* at a time */
	IMAGE_WINDOW = 4,	 /* chunks of one fetch under way at a time */
	IMAGE_CALL_TIMEOUT_MS = 5000,
	IMAGE_SEND_IDLE_MS = 15000, /* a fetching node that is silent this long is gone */

	TICK_MS = 100, /* Raft heartbeat */
	ELECTION_TIMEOUT_MS = 1000,
	PING_MS = 250,
	HELLO_TIMEOUT_MS = 3000,
	RECONNECT_MIN_MS = 100,
	RECONNECT_MAX_MS = 2000,
};

#define VM_BYTES_MAX (1ull << 44) /* memory or disk of one VM, and of one node */

#endif
