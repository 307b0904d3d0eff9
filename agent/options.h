/* agent/options.h - every limit of the agent, its flags, its configuration file, its state
 * directory.
 *
 * One table describes each option; the command line, the configuration file and --help all read
 * it. Parsing is pure but for the look-up of a user name. Includes: encode/encode.h, log.h,
 * serve/address.h. Thread rule: the loop thread. */
#ifndef BLIX_AGENT_OPTIONS_H
#define BLIX_AGENT_OPTIONS_H

#include "agent/encode/encode.h"
#include "agent/log.h"
#include "agent/serve/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- limits ---------------------------------------------------------------------------------- */

enum {
	OPTIONS_TARGETS_MAX = 16, /* --shm files of one agent */
	OPTIONS_PATH_MAX = 1024,
	OPTIONS_ERROR_MAX = 2048,
	OPTIONS_CONFIG_BYTES_MAX = 1 << 20,
	OPTIONS_STALE_AFTER_MAX_S = 3600,
	OPTIONS_LINGER_MAX_S = 7 * 24 * 3600,
	OPTIONS_RULES_MAX = 16, /* of "sampling" */
	OPTIONS_RULE_NAME_MAX = 48,
	OPTIONS_SAMPLING_REASON_MAX = 192,
	OPTIONS_SLOW_IO_MAX_MS = 60000,

	LOG_BUFFER_BYTES = 64 << 10,
	LOG_LINE_BYTES = 2048, /* of one message; longer ones are cut */
	LOG_STACK_BYTES = 64 << 10,

	HTTP_CONNECTIONS_MAX = 128, /* of one listener; further ones wait in the backlog */
	HTTP_BACKLOG = 128,
	HTTP_HEADER_BYTES_MAX = 8 << 10,
	HTTP_BODY_BYTES_MAX = 1 << 10, /* no request needs a body */
	HTTP_BODY_OUT_MAX = 64 << 20,  /* of a response */
	HTTP_KEEP_BYTES = 1 << 20,     /* of a response buffer between two requests */
	HTTP_GZIP_FROM_BYTES = 1 << 10,
	HTTP_WRITE_BYTES_MAX = 4 << 20, /* of one write: see http.c */
	HTTP_REQUEST_S = 10,		/* from the first byte of a request to its last */
	HTTP_RESPONSE_S = 30,		/* from a response's first byte to its last */
	HTTP_IDLE_S = 150, /* of a kept-alive connection: longer than most scrape intervals */
	HTTP_SWEEP_S = 1,

	LISTEN_RETRY_MIN_S = 1,
	LISTEN_RETRY_MAX_S = 30,

	AGENT_DISK_JOBS_MAX = 256,
	AGENT_DISK_WAIT_MS = 1000,     /* for a running job, at the end */
	AGENT_TURN_S = 4,	       /* the loop notes that it turns */
	AGENT_STUCK_S = 10,	       /* /live says so when it has not for this long */
	AGENT_DRAIN_MS = 1000,	       /* for responses under way, at the end */
	AGENT_FLUSH_MS = 6000,	       /* for destinations and the spool, at the end */
	AGENT_CHECK_EXPORT_MS = 30000, /* --check-export waits no longer for an answer */
	AGENT_CHECK_S = 2,	       /* --check waits this long for what it checks */
	AGENT_LOG_WAIT_MS = 500,
};
#define LOG_REPEAT_NS (UINT64_C(300) * 1000000000u)

/* ---- options --------------------------------------------------------------------------------- */

enum options_action {
	OPTIONS_RUN,
	OPTIONS_CHECK,
	OPTIONS_CHECK_EXPORT,
	OPTIONS_DUMP_JSON,
	OPTIONS_DUMP_MARKDOWN,
	OPTIONS_VERSION,
	OPTIONS_HELP,
};

struct options_target {
	char shm[OPTIONS_PATH_MAX];
	bool listens; /* --listen was given */
	struct address listen;
};

/* Run-time control that holds until the file says something else. */
struct options_sampling {
	bool has_ratio;
	double ratio;
	uint32_t n_rules;
	struct options_rule {
		char name[OPTIONS_RULE_NAME_MAX]; /* a pattern, terminated */
		double ratio;
		uint32_t for_s; /* from when the file was read; 0 = without end */
	} rules[OPTIONS_RULES_MAX];
};

/* Plain data: may be copied. */
struct options {
	enum options_action action;
	struct options_target targets[OPTIONS_TARGETS_MAX];
	uint32_t n_targets;
	enum encode_names names;
	bool native_histograms;
	bool created_lines;
	uint32_t stale_after_s;
	uint32_t linger_s;
	bool no_bpf;
	uint32_t slow_io_ms; /* 0 = slow waits are not reported one by one */
	uid_t owner;
	char spool[OPTIONS_PATH_MAX]; /* "" = the state directory */
	bool journal;
	char config[OPTIONS_PATH_MAX]; /* "" = none */
	enum log_format log_format;
	enum log_level log_level;
	uint32_t node_log_min; /* lowest severity the nodes record; 0 = as they think right */
	struct options_sampling sampling;
	uint64_t by_flag; /* bit i: row i of the table came from the command line, which wins */
};

void options_init(struct options *o);

/* The command line. 0; -EINVAL and one line in `error`: flag, value, remedy. */
int options_parse(struct options *o, int argc, char **argv, char error[OPTIONS_ERROR_MAX]);

/* The text of a configuration file, `path` being only its name in messages. Flags that were on the
 * command line keep their value. 0; -EINVAL, error; then *o is unchanged. */
int options_config(struct options *o, const char *path, const char *text, size_t len,
		   char error[OPTIONS_ERROR_MAX]);

/* The value of the key "sampling". 0; -EINVAL and the rest of a sentence; then *ret is unchanged. */
struct json_t;
int options_sampling(struct options_sampling *ret, const struct json_t *value,
		     char reason[OPTIONS_SAMPLING_REASON_MAX]);

/* Read the whole file into malloc'd *ret_text, which the caller frees. May wait for a disk.
 * 0; -ENOMEM; -EFBIG; -EINVAL no regular file; or as open(2) and read(2) say; always with error. */
int options_read_file(const char *path, char **ret_text, size_t *ret_len,
		      char error[OPTIONS_ERROR_MAX]);

/* What must hold once every source was read. 0; -EINVAL, error. */
int options_complete(const struct options *o, char error[OPTIONS_ERROR_MAX]);

/* Names of the options that differ between the two and take effect only at a start, joined by
 * ", "; "" if none. */
void options_need_restart(const struct options *a, const struct options *b, char *text,
			  size_t size);

/* Usage as --help prints it. */
void options_help(struct buf *text);

/* The state directory. The three environment values may be NULL. 0; -EINVAL, error: no rule
 * applies. */
int options_state_directory(const struct options *o, const char *state_directory,
			    const char *xdg_state_home, const char *home, bool root,
			    char ret_path[OPTIONS_PATH_MAX], char error[OPTIONS_ERROR_MAX]);

#endif
