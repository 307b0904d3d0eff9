/* agent/serve/metrics.c - /metrics: the snapshot in the format and by the names that were asked
 * for. The body is complete or the answer is not 200: an empty 200 would look like a target that
 * is up and has nothing to say. Includes: serve.h. Thread rule: the loop thread. */
#include "agent/serve/serve.h"

#include <errno.h>
#include <string.h>

/* 0, or -EINVAL when the request chooses names that do not exist. */
static int choose_names(const char *query, enum encode_names *names)
{
	static const char *const words[] = {
		[ENCODE_NAMES_BOTH] = "both",
		[ENCODE_NAMES_CANONICAL] = "canonical",
		[ENCODE_NAMES_SEED] = "seed",
	};
	char value[16];
	int err = serve_query(query, "names", value, sizeof(value));

	if (err)
		return err == -ENOENT ? 0 : err;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!strcmp(words[i], value)) {
			*names = (enum encode_names)i;
			return 0;
		}
	}
	return -EINVAL;
}

void serve_metrics(const struct serve_source *source, const struct serve_request *request,
		   struct serve_response *response)
{
	struct encode_options options = *source->encode;
	const struct encoder *encoder = &encoders[encode_negotiate(request->accept)];

	if (choose_names(request->query, &options.names) < 0) {
		serve_text(response, 400, "names= is one of both, canonical, seed");
		return;
	}
	encoder->encode(source->collect(source->arg), &options, response->body);
	if (response->body->failed || !response->body->len) {
		serve_text(response, 500, "the metrics do not fit into memory");
		return;
	}
	response->code = 200;
	response->content_type = encoder->content_type;
	response->deadline_ns = serve_scrape_timeout_ns(request->scrape_timeout);
}
