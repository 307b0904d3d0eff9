/* agent/export/otlp_headers.h - OTEL_EXPORTER_OTLP_HEADERS: a list of header fields.
 *
 * The form is W3C Baggage's, "key=value,key2=value2", values percent-encoded; a value that was left
 * unencoded ("Authorization=Bearer token") is taken too. ';' has no meaning: it belongs to the value.
 * Every value is a secret, so no reason ever holds a byte of the text. Pure.
 *
 * Thread rule: none. Includes: otlp_config.h, libc. */
#ifndef BLIX_AGENT_EXPORT_OTLP_HEADERS_H
#define BLIX_AGENT_EXPORT_OTLP_HEADERS_H

#include "agent/export/otlp_config.h"

/* Headers under construction; the endpoint owns the bytes. */
struct otlp_headers {
	struct otlp_endpoint *endpoint;
	size_t used; /* of endpoint->header_bytes */
	/* Called for each member that is left out, `nth` counting from 1. `reason` is the end of a
	 * sentence that the member is the subject of. */
	void (*left_out)(void *arg, uint32_t nth, const char *reason);
	void *arg;
};

/* Add the members of one list; a key that is there already gets the new value. A member that cannot
 * be used is reported and left out, the others stand. */
void otlp_headers_add(struct otlp_headers *headers, const char *list);

#endif
