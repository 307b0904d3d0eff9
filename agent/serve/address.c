/* agent/serve/address.c - see address.h. */
#include "agent/serve/address.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static int refuse(char reason[ADDRESS_REASON_MAX], const char *text, const char *why)
{
	snprintf(reason, ADDRESS_REASON_MAX, "'%.*s' %s", ADDRESS_TEXT_MAX, text, why);
	return -EINVAL;
}

/* Letters, digits and what names, numbers and interface zones need: nothing that a log, a state
 * file or a page would have to be afraid of. */
static bool host_ok(const char *host, size_t len, bool bracketed)
{
	if (len == 0 || len >= ADDRESS_HOST_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)host[i];

		if (!isascii(c) || !(isalnum(c) || c == '.' || c == '-' || c == '_' ||
				     (bracketed && (c == ':' || c == '%'))))
			return false;
	}
	return !bracketed || memchr(host, ':', len) != NULL;
}

/* Digits only, without a leading zero. */
static bool port_ok(const char *text, uint16_t *ret_port)
{
	uint32_t port = 0;

	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9')
			return false;
		port = port * 10 + (uint32_t)(*p - '0');
		if (port == 0 || port > UINT16_MAX)
			return false;
	}
	*ret_port = (uint16_t)port;
	return port > 0;
}

int address_parse(const char *text, struct address *ret_address, char reason[ADDRESS_REASON_MAX])
{
	const char *colon = strrchr(text, ':');
	bool bracketed = text[0] == '[';
	struct address a = {0};
	const char *host = text;
	size_t len;

	if (!colon)
		return refuse(reason, text, "has no port: write HOST:PORT");
	len = (size_t)(colon - text);
	if (bracketed) {
		if (len < 2 || text[len - 1] != ']')
			return refuse(reason, text, "is malformed: write IPv6 as [ADDRESS]:PORT");
		host++;
		len -= 2;
	} else if (memchr(text, ':', len)) {
		return refuse(reason, text, "is ambiguous: write IPv6 as [ADDRESS]:PORT");
	}
	if (len == 0)
		return refuse(reason, text, "has no host: 0.0.0.0 or [::] means every interface");
	if (!host_ok(host, len, bracketed))
		return refuse(reason, text, "has a malformed host: write HOST:PORT");
	if (!port_ok(colon + 1, &a.port))
		return refuse(reason, text, "has a malformed port: it is a number from 1 to 65535");
	memcpy(a.host, host, len);
	*ret_address = a;
	return 0;
}

int address_beside(const char *grpc, struct address *ret_address, char reason[ADDRESS_REASON_MAX])
{
	struct address a;
	int err = address_parse(grpc, &a, reason);

	if (err)
		return err;
	if (a.port > UINT16_MAX - ADDRESS_NODE_PORT_DISTANCE) {
		snprintf(reason, ADDRESS_REASON_MAX,
			 "the node's gRPC port is %u, and %u (+%d) is no port: say where to listen "
			 "with --listen ADDR:PORT",
			 (unsigned int)a.port, (unsigned int)a.port + ADDRESS_NODE_PORT_DISTANCE,
			 ADDRESS_NODE_PORT_DISTANCE);
		return -ERANGE;
	}
	a.port = (uint16_t)(a.port + ADDRESS_NODE_PORT_DISTANCE);
	*ret_address = a;
	return 0;
}

void address_print(const struct address *a, char text[ADDRESS_TEXT_MAX])
{
	bool brackets = strchr(a->host, ':') != NULL;

	snprintf(text, ADDRESS_TEXT_MAX, "%s%.253s%s:%u", brackets ? "[" : "", a->host,
		 brackets ? "]" : "", (unsigned int)a->port);
}

bool address_equal(const struct address *a, const struct address *b)
{
	return a->port == b->port && !strcasecmp(a->host, b->host);
}
