/* agent/export/verdict.h - what an answer means: status, details and headers become a verdict.
 *
 * Pure: bytes in, verdict out, the time is an argument. All input is hostile. The rules are those
 * of the OTLP specification, as tables in verdict.c. Includes: agent/export/transport.h, libc;
 * any thread. */
#ifndef BLIX_AGENT_EXPORT_VERDICT_H
#define BLIX_AGENT_EXPORT_VERDICT_H

#include "agent/export/transport.h"

enum {
	VERDICT_DETAILS_MAX = 8192, /* of grpc-status-details-bin, as base64; longer is ignored */
	VERDICT_CODE_NONE = -1,
	VERDICT_CALM_DELAY_MS = 10000, /* how long "enhance your calm" is obeyed */
};

/* A verdict of our own making: no answer, or none that can be read. */
void verdict_make(struct verdict *ret_verdict, enum verdict_kind kind, int code, const char *format,
		  ...) __attribute__((format(printf, 4, 5)));

/* "0".."16"; anything else that is a number, or is not: 2 (UNKNOWN). */
int verdict_grpc_status(const char *text, size_t len);

/* A gRPC status that was received. `message` is percent-encoded as on the wire, `details` the
 * base64 text of grpc-status-details-bin; both may be NULL. */
void verdict_from_grpc(int status, const char *message, const char *details,
		       struct verdict *ret_verdict);

/* An HTTP status instead of a gRPC answer (a proxy). */
void verdict_from_http_proxy(int status, const char *retry_after, int64_t now_s,
			     struct verdict *ret_verdict);

/* An HTTP status of OTLP/HTTP. retry_after may be NULL. */
void verdict_from_http(int status, const char *retry_after, int64_t now_s,
		       struct verdict *ret_verdict);

/* A stream that ended by RST_STREAM with this HTTP/2 error code. `sent`: the whole request had
 * left. */
void verdict_from_reset(uint32_t h2_code, bool sent, struct verdict *ret_verdict);

/* Retry-After as seconds or HTTP-date (all three forms). 0 and milliseconds, 0 for the past, never
 * more than VERDICT_DELAY_MAX_MS; -EINVAL neither. */
int verdict_retry_after(const char *text, int64_t now_s, uint32_t *ret_delay_ms);

/* RetryInfo in a serialized google.rpc.Status. 0; -ENODATA there is none; -EBADMSG malformed. */
int verdict_retry_info(const uint8_t *status, size_t len, uint32_t *ret_delay_ms);

/* The message of a serialized google.rpc.Status, unprintable bytes replaced. 0; -EBADMSG. */
int verdict_status_message(const uint8_t *status, size_t len, char message[VERDICT_MESSAGE_MAX]);

/* Base64, standard or URL alphabet, padded or not. Length; -EBADMSG, -ENOSPC. */
long verdict_base64(const char *text, uint8_t *ret_bytes, size_t size);

/* One printable line: control characters become spaces, what is not UTF-8 a question mark;
 * percent-decoded if asked for. Cut at VERDICT_MESSAGE_MAX, between characters. */
void verdict_print(const char *text, size_t len, bool percent, char message[VERDICT_MESSAGE_MAX]);

#endif
