/* agent/serve/http.h - the HTTP server of one target.
 *
 * Speaks HTTP/1.1 through evhttp and adds what evhttp leaves open: bounds on connections and on the
 * time a request or a response may take, gzip, HEAD, and answers for wrong methods and paths.
 * Thread rule: the loop thread. Includes: serve.h; the implementation also libevent, options.h
 * and log.h. */
#ifndef BLIX_AGENT_SERVE_HTTP_H
#define BLIX_AGENT_SERVE_HTTP_H

#include "agent/serve/serve.h"

struct event_base;
struct http;

enum { HTTP_LISTENERS_MAX = 8 };

/* `source` is borrowed for the life of the server. 0; -ENOMEM. */
int http_new(struct event_base *base, const struct serve_source *source, struct http **ret_http);

/* Close everything. Accepts NULL; returns NULL. */
struct http *http_free(struct http *h);

/* Accept connections on `fd`, a listening socket, which the server then owns (closed also on
 * error). At most HTTP_LISTENERS_MAX at a time. 0; -ENOMEM. */
int http_accept(struct http *h, int fd);

/* Close the `n` listening sockets that were added first; connections go on. */
void http_unlisten(struct http *h, uint32_t n);
uint32_t http_listening(const struct http *h);

/* Responses under way. */
uint32_t http_busy(const struct http *h);

void http_counts(const struct http *h, struct serve_counts *ret_counts);

#endif
