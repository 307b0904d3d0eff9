/* agent/export/url.c - an endpoint's address, taken apart and checked. Includes libc; pure, any
 * thread. */
#include "agent/export/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static int refuse(char reason[URL_REASON_MAX], const char *why)
{
	snprintf(reason, URL_REASON_MAX, "%s", why);
	return -EINVAL;
}

static const char *parse_scheme(const char *text, struct url *u)
{
	if (strncasecmp(text, "http://", 7) == 0)
		return text + 7;
	if (strncasecmp(text, "https://", 8) == 0) {
		u->tls = true;
		return text + 8;
	}
	return NULL;
}

static int parse_port(const char *text, size_t len, struct url *u, char reason[URL_REASON_MAX])
{
	unsigned port = 0;

	if (len == 0 || len > 5)
		return refuse(reason, "the port is not a number from 1 to 65535");
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return refuse(reason, "the port is not a number from 1 to 65535");
		port = port * 10 + (unsigned)(text[i] - '0');
	}
	if (port == 0 || port > 65535)
		return refuse(reason, "the port is not a number from 1 to 65535");
	u->port = (uint16_t)port;
	return 0;
}

static int check_name(struct url *u, char reason[URL_REASON_MAX])
{
	struct in_addr four;

	if (!u->host[0])
		return refuse(reason, "the host is missing");
	for (char *c = u->host; *c; c++) {
		if (!isalnum((unsigned char)*c) && !strchr("-._", *c))
			return refuse(reason, "the host holds a character no host name has");
		*c = (char)tolower((unsigned char)*c);
	}
	u->is_number = inet_pton(AF_INET, u->host, &four) == 1;
	return 0;
}

/* host, host:port, [six], [six]:port */
static int parse_authority(const char *text, size_t len, struct url *u, char reason[URL_REASON_MAX])
{
	struct in6_addr six;
	const char *host = text, *rest;
	size_t host_len;

	if (memchr(text, '@', len))
		return refuse(reason, "credentials do not belong into the address: use a header");
	if (len && text[0] == '[') {
		rest = memchr(text, ']', len);
		if (!rest)
			return refuse(reason, "the bracket of the IPv6 address is not closed");
		host++;
		host_len = (size_t)(rest++ - host);
		u->is_ipv6 = true;
	} else {
		rest = memchr(text, ':', len);
		rest = rest ? rest : text + len;
		host_len = (size_t)(rest - text);
	}
	if (host_len >= sizeof(u->host))
		return refuse(reason, "the host is too long");
	memcpy(u->host, host, host_len);
	u->host[host_len] = '\0';
	if (u->is_ipv6 && inet_pton(AF_INET6, u->host, &six) != 1)
		return refuse(reason, "what stands in brackets is not an IPv6 address");
	if (!u->is_ipv6 && check_name(u, reason) != 0)
		return -EINVAL;
	u->is_number |= u->is_ipv6;
	if (rest == text + len)
		return 0;
	if (*rest != ':')
		return refuse(reason, "only a port may follow the bracket");
	return parse_port(rest + 1, (size_t)(text + len - rest - 1), u, reason);
}

int url_parse(const char *text, bool bare_allowed, struct url *ret_url, char reason[URL_REASON_MAX])
{
	struct url u = {0};
	const char *at;
	size_t len;

	for (const char *c = text; *c; c++)
		if (*c <= ' ' || *c == 0x7f)
			return refuse(reason, "the address holds a space or control character");
	at = parse_scheme(text, &u);
	if (!at) {
		if (strstr(text, "://"))
			return refuse(reason, "the scheme is neither http nor https");
		if (!bare_allowed)
			return refuse(reason, "the address does not begin with http:// or "
					      "https://");
		u.bare = true;
		at = text;
	}
	len = strcspn(at, "/?#");
	if (parse_authority(at, len, &u, reason) != 0)
		return -EINVAL;
	at += len;
	if (strchr(at, '#'))
		return refuse(reason, "the address holds a fragment (#)");
	if (strlen(at) + 2 > sizeof(u.path))
		return refuse(reason, "the path is too long");
	snprintf(u.path, sizeof(u.path), "%s%s", *at == '?' ? "/" : "", at);
	*ret_url = u;
	return 0;
}

bool url_is_loopback(const struct url *u)
{
	struct in6_addr six;
	struct in_addr four;

	if (u->is_ipv6)
		return inet_pton(AF_INET6, u->host, &six) == 1 &&
		       (IN6_IS_ADDR_LOOPBACK(&six) ||
			(IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127));
	if (inet_pton(AF_INET, u->host, &four) == 1)
		return (ntohl(four.s_addr) >> 24) == 127;
	return strcmp(u->host, "localhost") == 0 || strcmp(u->host, "localhost.") == 0;
}

void url_authority(const struct url *u, uint16_t port, char text[URL_HOST_MAX + 9])
{
	snprintf(text, URL_HOST_MAX + 9, u->is_ipv6 ? "[%s]:%u" : "%s:%u", u->host, port);
}
