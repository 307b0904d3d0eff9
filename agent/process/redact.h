/* agent/process/redact.h - PROCESS: take out of spans, logs and resources what must not leave the host.
 *
 * Two kinds of rule. By key: the first glob that matches an attribute's key says what becomes of its
 * value. By shape: what looks like a credential inside a text (attribute values, status messages, log
 * bodies) is masked, whatever its key; the text around it stays.
 *
 * Default rules by key, behind the caller's own, so that a rule KEEP there exempts (case is ignored):
 *   mask  *password* *passwd* *passphrase* *secret* *credential* *authorization* *cookie*
 *         *api_key* *apikey* *api-key* *private_key* *access_key* *session_id* *token
 *   hash  *email* enduser.id user.id
 * Shapes: "Bearer ..." and "Basic ...", JWT, AWS access key ids, tokens of GitHub, Slack and Google,
 * PEM private keys, password= / secret= / token= / api_key= in a text, the password in a URL, payment
 * card numbers (issuer prefix and Luhn). Long hex or base64 alone is none: digests look like that.
 *
 * A hash is HMAC-SHA256, so that equal values stay equal and nobody without the key can guess them.
 *
 * Pure: no clock, no file. Thread rule: one thread a struct redact. Includes: batch.h, libcrypto. */
#ifndef BLIX_AGENT_PROCESS_REDACT_H
#define BLIX_AGENT_PROCESS_REDACT_H

#include "agent/model/batch.h"

enum redact_action {
	REDACT_KEEP,
	REDACT_DROP, /* the attribute goes, and is counted in its owner's `dropped` */
	REDACT_HASH, /* "hmac:" and 32 hex digits */
	REDACT_MASK, /* "[redacted]" */
	REDACT_ACTIONS,
};
const char *redact_action_name(enum redact_action action); /* "drop" */

enum {
	REDACT_RULES_MAX = 64,
	REDACT_GLOB_BYTES = 64, /* with its terminator */
	REDACT_KEY_BYTES = 32,	/* of the HMAC */
};

struct redact_rule {
	const char *glob; /* "*" and "?"; borrowed during redact_new() */
	enum redact_action action;
};

struct redact_options {
	const struct redact_rule *rules; /* the caller's own; the first match wins */
	uint32_t n_rules;
	bool no_default_rules;
	bool no_shapes;
	const uint8_t *key; /* REDACT_KEY_BYTES; NULL: what should be hashed is masked */
};

struct redact;

/* 0; -EINVAL: an empty or too long glob, or no such action; -E2BIG: too many rules; -ENOMEM. */
int redact_new(const struct redact_options *options, struct redact **ret_redact);
struct redact *redact_free(struct redact *r); /* accepts NULL, returns NULL; forgets the key */

/* Everything of a batch that is not sealed, but its resource. */
void redact_batch(struct redact *r, struct batch *b);
/* Once, before anybody else holds it. */
void redact_resource(struct redact *r, struct batch_resource *resource);

/* How many values each action changed; never falls. */
uint64_t redact_count(const struct redact *r, enum redact_action action);

#endif
