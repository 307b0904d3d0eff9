/* agent/export/url.h - an endpoint's address, taken apart and checked.
 *
 * Pure: resolves nothing. The text comes from the environment or a file and may hold secrets (a
 * query, credentials): no reason repeats any of it. Includes: libc; any thread. */
#ifndef BLIX_AGENT_EXPORT_URL_H
#define BLIX_AGENT_EXPORT_URL_H

#include <stdbool.h>
#include <stdint.h>

enum {
	URL_HOST_MAX = 254,  /* a DNS name is at most 253 characters */
	URL_PATH_MAX = 2048, /* with its query */
	URL_TEXT_MAX = URL_HOST_MAX + URL_PATH_MAX + 32,
	URL_REASON_MAX = 160,
};

struct url {
	bool tls;		 /* https */
	bool bare;		 /* "host:port": no scheme was named, plain text is meant */
	bool is_ipv6;		 /* host is an IPv6 number, stored without brackets */
	bool is_number;		 /* host is an IPv4 or IPv6 number: no resolution, no SNI */
	uint16_t port;		 /* 0: none was named */
	char host[URL_HOST_MAX]; /* lower case */
	char path[URL_PATH_MAX]; /* with query; begins with '/' unless empty */
};

/* "http://host[:port][/path]", "https://..."; with `bare_allowed` also "host[:port]" (gRPC).
 * 0; -EINVAL and a sentence in `reason`. *ret_url is written on success only. */
int url_parse(const char *text, bool bare_allowed, struct url *ret_url,
	      char reason[URL_REASON_MAX]);

/* The name of this machine itself, or a number of it: never behind a proxy. */
bool url_is_loopback(const struct url *url);

/* "host:port", IPv6 in brackets. */
void url_authority(const struct url *url, uint16_t port, char text[URL_HOST_MAX + 9]);

#endif
