/* agent/export/credentials.h - the PEM files of an endpoint, read for its transport.
 *
 * Files are opened on the disk thread, since a path may lead to a file system that hangs. They are
 * read again where a certificate was renewed; nothing is kept here. Whether the texts are any good
 * is for tls.h to say: here a file must be regular, not too large, and look like PEM. Includes:
 * disk.h, otlp_config.h, transport.h. */
#ifndef BLIX_AGENT_EXPORT_CREDENTIALS_H
#define BLIX_AGENT_EXPORT_CREDENTIALS_H

#include "agent/disk.h"
#include "agent/export/otlp_config.h"
#include "agent/export/transport.h"

enum {
	CREDENTIALS_BYTES_MAX = 1 << 20, /* of one file; a bundle of all public CAs has 0.2 MiB */
	CREDENTIALS_REASON_MAX = OTLP_CONFIG_PATH_MAX + 160,
};

/* malloc'd texts; NULL: none is asked for. Begin with {0}. */
struct credentials {
	char *ca_pem;
	char *client_cert_pem;
	char *client_key_pem;
};

/* Read the files that `endpoint` names; none where its address is not https. May wait for a disk.
 * 0; -ENOMEM; -EFBIG; -EINVAL no regular file or no PEM in it; or as open(2) and read(2) say. Then
 * `reason` is one line with what the file is for and its path, and *ret_credentials unchanged.
 * Any thread. */
int credentials_read(const struct otlp_endpoint *endpoint, struct credentials *ret_credentials,
		     char reason[CREDENTIALS_REASON_MAX]);

/* err: as credentials_read(), or -ECANCELED: the disk thread was stopped before. Where it is 0, the
 * texts become the receiver's; else `credentials` holds none. `reason` is borrowed for the call. */
typedef void (*credentials_loaded)(void *arg, int err, struct credentials *credentials,
				   const char *reason);

/* The same on the disk thread; `loaded` is called once, on the loop thread. Copies what it needs of
 * `endpoint`. 0; -ENOMEM; -ENOBUFS as disk_submit(). Loop thread. */
int credentials_load(struct disk *disk, const struct otlp_endpoint *endpoint,
		     credentials_loaded loaded, void *arg);

/* The texts as a transport takes them, borrowed from `credentials`. */
struct transport_tls credentials_tls(const struct credentials *credentials);

/* Free and wipe. It may be used again. */
void credentials_done(struct credentials *credentials);

#endif
