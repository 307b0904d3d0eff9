/* agent/export/tls.c - the client side of TLS. Includes OpenSSL, pthread; the loop thread, but for
 * tls_system_ca(). */
#include "agent/export/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TLS_ALERT_FIRST = 1000 /* reasons from here on are alerts of the peer */ };

static int fail(char reason[VERDICT_MESSAGE_MAX], const char *why)
{
	unsigned long error = ERR_peek_last_error();
	const char *detail = error ? ERR_reason_error_string(error) : NULL;

	snprintf(reason, VERDICT_MESSAGE_MAX, detail ? "%s (%s)" : "%s", why, detail);
	ERR_clear_error();
	return -EPROTO;
}

/* Never ask a terminal for the password of a key. */
static int no_password(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return 0;
}

/* ---- the system's CAs ------------------------------------------------------------------------- */

static pthread_mutex_t system_lock = PTHREAD_MUTEX_INITIALIZER;
static X509_STORE *system_store; /* of the process; never freed */

static bool load_system(X509_STORE *store)
{
	/* Debian and its kin; Red Hat and its kin. */
	static const char *const bundles[] = {"/etc/ssl/certs/ca-certificates.crt",
					      "/etc/pki/tls/certs/ca-bundle.crt"};
	const char *file = secure_getenv(X509_get_default_cert_file_env());
	const char *dir = secure_getenv(X509_get_default_cert_dir_env());

	if (dir && !X509_STORE_load_path(store, dir))
		return false;
	if (file)
		return X509_STORE_load_file(store, file);
	for (size_t i = 0; i < sizeof(bundles) / sizeof(bundles[0]); i++)
		if (X509_STORE_load_file(store, bundles[i]))
			return true;
	return dir || X509_STORE_set_default_paths(store);
}

int tls_system_ca(void)
{
	int err = 0;

	pthread_mutex_lock(&system_lock);
	if (!system_store) {
		X509_STORE *store = X509_STORE_new();

		/* Without any it is empty, and each server is refused with the reason. */
		if (store)
			(void)load_system(store);
		ERR_clear_error();
		system_store = store;
		err = store ? 0 : -ENOMEM;
	}
	pthread_mutex_unlock(&system_lock);
	return err;
}

/* ---- material ----------------------------------------------------------------------------------- */

static BIO *text_bio(const char *pem)
{
	return BIO_new_mem_buf(pem, -1);
}

static int use_ca(SSL_CTX *context, const char *pem, char reason[VERDICT_MESSAGE_MAX])
{
	BIO *bio = text_bio(pem);
	X509 *cert;
	int n = 0;

	while (bio && (cert = PEM_read_bio_X509(bio, NULL, no_password, NULL))) {
		n += X509_STORE_add_cert(SSL_CTX_get_cert_store(context), cert);
		X509_free(cert);
	}
	BIO_free(bio);
	/* What the operator names is trusted, be it an authority between or the server's own. */
	X509_STORE_set_flags(SSL_CTX_get_cert_store(context), X509_V_FLAG_PARTIAL_CHAIN);
	/* The end of the text is an error to PEM_read as well. */
	if (n && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
		ERR_clear_error();
	if (n == 0 || ERR_peek_error())
		return fail(reason, "the CA certificates cannot be read");
	return 0;
}

static int use_client_cert(SSL_CTX *context, const char *pem, char reason[VERDICT_MESSAGE_MAX])
{
	BIO *bio = text_bio(pem);
	X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, no_password, NULL) : NULL;
	int ok = cert && SSL_CTX_use_certificate(context, cert) == 1;

	X509_free(cert);
	while (ok && (cert = PEM_read_bio_X509(bio, NULL, no_password, NULL))) {
		ok = SSL_CTX_add1_chain_cert(context, cert) == 1;
		X509_free(cert);
	}
	BIO_free(bio);
	if (!ok)
		return fail(reason, "the client certificate cannot be read");
	ERR_clear_error();
	return 0;
}

static int use_client_key(SSL_CTX *context, const char *pem, char reason[VERDICT_MESSAGE_MAX])
{
	BIO *bio = text_bio(pem);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
	int ok = key && SSL_CTX_use_PrivateKey(context, key) == 1;

	EVP_PKEY_free(key);
	BIO_free(bio);
	if (!ok)
		return fail(reason, "the client key cannot be read, or is not the certificate's");
	return 0;
}

static int use_material(SSL_CTX *context, const struct transport_tls *tls,
			char reason[VERDICT_MESSAGE_MAX])
{
	int err = 0;

	if (!tls->client_cert_pem != !tls->client_key_pem) {
		ERR_clear_error();
		return fail(reason,
			    "a client certificate needs its key, and a key its certificate");
	}
	ERR_clear_error();
	if (tls->ca_pem)
		err = use_ca(context, tls->ca_pem, reason);
	else if (tls_system_ca() == 0)
		SSL_CTX_set1_cert_store(context, system_store);
	else
		err = -ENOMEM;
	if (!err && tls->client_cert_pem)
		err = use_client_cert(context, tls->client_cert_pem, reason);
	if (!err && tls->client_key_pem)
		err = use_client_key(context, tls->client_key_pem, reason);
	return err;
}

int tls_context_new(const struct transport_tls *tls, SSL_CTX **ret_context,
		    char reason[VERDICT_MESSAGE_MAX])
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	int err;

	if (!context)
		return -ENOMEM;
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	/* Idle connections give their buffers back. */
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_alpn_protos(context, (const unsigned char *)"\x02h2", 3);
	err = use_material(context, tls, reason);
	if (err) {
		SSL_CTX_free(context);
		return err;
	}
	*ret_context = context;
	return 0;
}

int tls_check(const struct transport_tls *tls, char reason[VERDICT_MESSAGE_MAX])
{
	SSL_CTX *context;
	int err = tls_context_new(tls, &context, reason);

	if (!err)
		SSL_CTX_free(context);
	return err;
}

static int on_asked(SSL *ssl, void *arg)
{
	(void)ssl;
	*(bool *)arg = true;
	return 1;
}

SSL *tls_session_new(SSL_CTX *context, const struct url *url, bool *asked)
{
	SSL *ssl = SSL_new(context);
	int ok;

	if (!ssl)
		return NULL;
	SSL_set_cert_cb(ssl, on_asked, asked);
	if (url->is_number)
		ok = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), url->host);
	else
		ok = SSL_set1_host(ssl, url->host) && SSL_set_tlsext_host_name(ssl, url->host);
	if (ok == 1)
		return ssl;
	SSL_free(ssl);
	return NULL;
}

bool tls_explain(SSL *ssl, unsigned long error, char message[VERDICT_MESSAGE_MAX])
{
	long verified = SSL_get_verify_result(ssl);
	int reason = ERR_GET_REASON(error);
	const char *text = error ? ERR_reason_error_string(error) : NULL;

	if (verified != X509_V_OK) {
		snprintf(message, VERDICT_MESSAGE_MAX, "the server's certificate is refused: %s",
			 X509_verify_cert_error_string(verified));
		return true;
	}
	if (!error || ERR_SYSTEM_ERROR(error) || reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
		snprintf(message, VERDICT_MESSAGE_MAX, "the connection ended");
		return false;
	}
	if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST) {
		snprintf(message, VERDICT_MESSAGE_MAX,
			 "the endpoint does not speak TLS (did you mean http://?)");
		return true;
	}
	snprintf(message, VERDICT_MESSAGE_MAX,
		 reason > TLS_ALERT_FIRST ? "the server refused the TLS connection: %s" : "TLS: %s",
		 text ? text : "unknown error");
	return true;
}
