/* node-hooks/w3c.h - W3C Trace Context (level 2) and Baggage: parse, check, format.
 *
 * Pure functions of (bytes, length); what they read comes from the network. Texts they return are
 * not terminated unless said so. Includes: the public header, for struct blix_context. */
#ifndef BLIX_HOOKS_W3C_H
#define BLIX_HOOKS_W3C_H

#include "blixard_hooks.h"

#include <stdbool.h>

enum {
	BLIX_TRACEPARENT_LEN = 55,
	BLIX_TRACESTATE_MEMBERS_MAX = 32,
	BLIX_TRACESTATE_LONG =
		128, /* members above it are left out first when there are too many */
	BLIX_BAGGAGE_MEMBERS_MAX = 180,
};

/* Ids and flags of a traceparent of any version; blanks around it are allowed. Sets them and
 * `remote`, and nothing else. False: malformed, nothing set. */
bool blix_w3c_traceparent(const char *text, size_t len, struct blix_context *ret_context);

/* "00-...": terminated. */
void blix_w3c_format_traceparent(const uint8_t trace_id[16], const uint8_t span_id[8],
				 uint8_t trace_flags, char ret_text[BLIX_TRACEPARENT_LEN + 1]);

/* The members of a tracestate, without blanks and empty members. Beyond 512 bytes, long members
 * are left out, from the end, then others. Returns its length; 0: malformed, or empty. */
uint32_t blix_w3c_tracestate(const char *text, size_t len, char ret_text[BLIX_TRACESTATE_BYTES]);

/* The same tracestate with OpenTelemetry's sampling threshold said ("ot=th:8", in front), or not
 * said any more if it is BLIX_W3C_NO_THRESHOLD. `from` as returned above, at most 512 bytes. */
#define BLIX_W3C_NO_THRESHOLD UINT64_MAX
uint32_t blix_w3c_set_threshold(const char *from, uint32_t len, uint64_t threshold56,
				char ret_text[BLIX_TRACESTATE_BYTES]);

/* The well-formed members of a baggage, without blanks around them: the first 180, as many as fit.
 * Returns its length. */
uint32_t blix_w3c_baggage(const char *text, size_t len, char ret_text[BLIX_BAGGAGE_BYTES]);

/* The value of a member, percent-decoded, at most `size` bytes (the rest is cut). False: absent. */
bool blix_w3c_baggage_value(const char *baggage, uint32_t len, const char *key, char *ret_value,
			    uint32_t size, uint32_t *ret_len);

#endif
