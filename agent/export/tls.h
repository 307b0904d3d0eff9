/* agent/export/tls.h - the client side of TLS: a context from PEM texts, a session for a host.
 *
 * Includes: agent/export/transport.h, url.h, OpenSSL. Thread rule: the loop thread. */
#ifndef BLIX_AGENT_EXPORT_TLS_H
#define BLIX_AGENT_EXPORT_TLS_H

#include "agent/export/transport.h"
#include "agent/export/url.h"

#include <openssl/ssl.h>

/* TLS 1.2 or later, peer verified, ALPN h2. 0; -EPROTO the material (reason says which part);
 * -ENOMEM. SSL_CTX_free() when done. */
int tls_context_new(const struct transport_tls *tls, SSL_CTX **ret_context,
		    char reason[VERDICT_MESSAGE_MAX]);

/* Read the system's CA certificates, once a process: $SSL_CERT_FILE, else the distribution's bundle, else
 * what OpenSSL was built with, which (as $SSL_CERT_DIR) is looked up during handshakes. Every context
 * without a CA of its own shares them, so handshakes open no file. Any thread; 0; -ENOMEM. */
int tls_system_ca(void);

/* Check the PEM texts alone. 0; -EPROTO; -ENOMEM. */
int tls_check(const struct transport_tls *tls, char reason[VERDICT_MESSAGE_MAX]);

/* A session that will only accept a certificate of this host. *asked (lives as long as the session)
 * becomes true when the server asks for a client certificate. NULL: no memory. */
SSL *tls_session_new(SSL_CTX *context, const struct url *url, bool *asked);

/* Why a session failed, as a sentence; true when it will fail again until somebody mends it (trust,
 * protocol, credentials), false for a cut connection. `error` is the oldest of OpenSSL's queue. */
bool tls_explain(SSL *ssl, unsigned long error, char message[VERDICT_MESSAGE_MAX]);

#endif
