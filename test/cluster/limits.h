/* limits.h - every bound of the reference node in one place. */
#ifndef CLUSTER_LIMITS_H
#define CLUSTER_LIMITS_H

enum {
	ADDRESS_MAX = 127,	      /* bytes of a host:port */
	CLUSTER_NAME_MAX = 63,	      /* bytes */
	MEMBERS_MAX = 64,	      /* servers in a configuration, and peers we talk to */
	CONNECTIONS_MAX = 128,	      /* accepted at a time */
	FRAME_MAX_BYTES = 16 << 20,   /* largest frame on the wire: a snapshot */
	FRAME_SMALL_MAX_BYTES = 8192, /* every frame but Raft's, and all before a hello */
	APPEND_MAX_BYTES = 1 << 20,   /* entries sent in one message; what is left follows later */
	OUTPUT_MAX_BYTES = 32 << 20,  /* queued towards one peer; beyond, messages are dropped */

	COMMAND_MAX_BYTES = 4096,  /* one proposal */
	ENTRY_MAX_BYTES = 1 << 20, /* one log entry, configurations included */
	PROPOSALS_MAX = 4096,	   /* waiting for a result on one node */
	PROPOSAL_TIMEOUT_MS = 5000,

	TABLE_ROWS_MAX = 32768,
	TABLE_KEY_MAX = 64,    /* bytes */
	TABLE_VALUE_MAX = 256, /* bytes; rows x (key + value + 8) stay below FRAME_MAX_BYTES */

	SEGMENT_BYTES = 4 << 20,    /* a log segment is closed once it is this long */
	STORAGE_QUEUE_MAX = 1024,   /* jobs waiting for the storage thread */
	STORAGE_QUEUE_RESERVE = 64, /* on top of it, for jobs that Raft cannot take back */

	TICK_MS = 100, /* Raft heartbeat */
	ELECTION_TIMEOUT_MS = 1000,
	PING_MS = 250,
	PEER_SILENT_MS = 5000, /* no frame for this long: the connection is dead */
	HELLO_TIMEOUT_MS = 3000,
	RECONNECT_MIN_MS = 100,
	RECONNECT_MAX_MS = 2000,
};

#endif
