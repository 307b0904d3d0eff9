/* test/support/bin/encode_fixture.c - write the body of the rich fixture to stdout, for verifiers
 * that are not ours.
 *
 *	encode_fixture text|openmetrics|protobuf both|canonical|seed [native] [created] */
#include "agent/encode/encode.h"
#include "test/support/model_fixture.h"

#include <stdio.h>

static int usage(void)
{
	fputs("usage: encode_fixture text|openmetrics|protobuf both|canonical|seed [native] "
	      "[created]\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const char *const names[] = {"both", "canonical", "seed"};
	struct encode_options options = {0};
	int format = -1, which = -1;
	struct snapshot *s;
	struct buf out;
	bool ok;

	for (int i = 0; argc > 2 && i < ENCODE_FORMATS; i++)
		if (!strcmp(argv[1], encoders[i].name))
			format = i;
	for (int i = 0; argc > 2 && i < 3; i++)
		if (!strcmp(argv[2], names[i]))
			which = i;
	if (format < 0 || which < 0)
		return usage();
	options.names = (enum encode_names)which;
	for (int i = 3; i < argc; i++) {
		options.native_histograms |= !strcmp(argv[i], "native");
		options.created_lines |= !strcmp(argv[i], "created");
	}
	s = fixture_rich();
	buf_init(&out, 64 << 20);
	encoders[format].encode(s, &options, &out);
	ok = !out.failed && fwrite(out.data, 1, out.len, stdout) == out.len && !fflush(stdout);
	buf_done(&out);
	snapshot_free(s);
	return ok ? 0 : 1;
}
