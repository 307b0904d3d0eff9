/* report.c - see report.h. The account goes to stdout, progress to stderr. */
#include "report.h"

#include "traces.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

static const struct {
	const char *name;
	double share;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};

enum { QUANTILES = sizeof(quantiles) / sizeof(quantiles[0]), MINUTE_S = 60 };

static double in_ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static double per_second(uint64_t n, uint64_t elapsed_ns)
{
	return elapsed_ns ? (double)n * 1e9 / (double)elapsed_ns : 0;
}

static void sum_latency(const struct tally *tally, struct latency *ret_sum)
{
	*ret_sum = (struct latency){0};
	for (unsigned i = 0; i < METHODS; i++)
		latency_merge(ret_sum, &tally->latency[i]);
}

/* A line that renews itself for a person, and for a soak a line a minute wherever it goes. */
void report_progress(const struct options *options, const struct tally *tally, uint64_t elapsed_ns)
{
	static struct latency sum;
	uint64_t second = (elapsed_ns + 500000000) / 1000000000;
	bool live = isatty(STDERR_FILENO);

	if (!live && (options->profile != PROFILE_SOAK || second % MINUTE_S))
		return;
	sum_latency(tally, &sum);
	fprintf(stderr,
		"%s%" PRIu64 " s  %.0f/s  %" PRIu64 " sent  %" PRIu64 " answered  %" PRIu64
		" not OK  %" PRIu64 " not sent  p50 %.2f ms  p99 %.2f ms%s",
		live ? "\r\x1b[2K" : "", second, per_second(tally->ended, elapsed_ns), tally->sent,
		tally->ended, tally->ended - tally->ok, tally->not_sent,
		in_ms(latency_at(&sum, 0.5)), in_ms(latency_at(&sum, 0.99)), live ? "" : "\n");
	fflush(stderr);
}

/* ---- text ------------------------------------------------------------------------------------ */

static void print_method(const char *name, const struct tally_row *row,
			 const struct latency *latency)
{
	uint64_t ok = row->ended[GRPC_STATUS_OK];

	printf("%-25s %9" PRIu64 " %9" PRIu64 " %9" PRIu64, name, row->sent, ok, row->not_sent);
	for (unsigned q = 0; q < QUANTILES; q++)
		printf(" %9.2f", in_ms(latency_at(latency, quantiles[q].share)));
	printf(" %9.2f\n", in_ms(latency->max_ns));
}

static void print_codes(const struct options *options, const struct tally *tally)
{
	for (unsigned target = 0; target < options->n_targets; target++) {
		printf("\n%s\n", options->targets[target]);
		for (unsigned method = 0; method < METHODS; method++) {
			const struct tally_row *row = &tally->of[target][method];

			printf("  %-25s", workload_method((enum method)method)->name);
			for (unsigned code = 0; code < TALLY_CODES; code++) {
				if (row->ended[code])
					printf(" %s %" PRIu64, tally_code_name(code),
					       row->ended[code]);
			}
			puts("");
		}
	}
}

void report_text(const struct options *options, const struct tally *tally, uint64_t elapsed_ns)
{
	static struct latency sum;
	struct tally_row all = {.sent = tally->sent, .not_sent = tally->not_sent};

	if (isatty(STDERR_FILENO))
		fputs("\r\x1b[2K", stderr);
	printf("%s, seed %" PRIu64 ": %.1f s, %.1f operations a second answered of %" PRIu32
	       " wanted\n\n",
	       options_profile_name(options->profile), options->seed, (double)elapsed_ns / 1e9,
	       per_second(tally->ended, elapsed_ns), options->per_second);
	printf("%-25s %9s %9s %9s", "method", "sent", "OK", "not sent");
	for (unsigned q = 0; q < QUANTILES; q++)
		printf(" %6s ms", quantiles[q].name);
	printf(" %6s ms\n", "max");
	for (unsigned i = 0; i < METHODS; i++) {
		struct tally_row row = tally_sum(tally, (enum method)i);
		print_method(workload_method((enum method)i)->name, &row, &tally->latency[i]);
	}
	sum_latency(tally, &sum);
	all.ended[GRPC_STATUS_OK] = tally->ok;
	print_method("all", &all, &sum);
	print_codes(options, tally);
}

/* ---- JSON: names are ours and addresses numeric, so that nothing has to be escaped ------------ */

static void json_latency(const struct latency *latency)
{
	printf("{");
	for (unsigned q = 0; q < QUANTILES; q++)
		printf("\"%s\": %.3f, ", quantiles[q].name,
		       in_ms(latency_at(latency, quantiles[q].share)));
	printf("\"max\": %.3f}", in_ms(latency->max_ns));
}

static void json_methods(const struct tally *tally)
{
	for (unsigned i = 0; i < METHODS; i++) {
		struct tally_row row = tally_sum(tally, (enum method)i);

		printf("%s\n    \"%s\": {\"sent\": %" PRIu64 ", \"not_sent\": %" PRIu64
		       ", \"ok\": %" PRIu64 ", \"latency_ms\": ",
		       i ? "," : "", workload_method((enum method)i)->name, row.sent, row.not_sent,
		       row.ended[GRPC_STATUS_OK]);
		json_latency(&tally->latency[i]);
		printf("}");
	}
}

static void json_row(const char *name, const struct tally_row *row, bool first)
{
	printf("%s\n      \"%s\": {\"sent\": %" PRIu64 ", \"not_sent\": %" PRIu64 ", \"codes\": {",
	       first ? "" : ",", name, row->sent, row->not_sent);
	for (unsigned code = 0, n = 0; code < TALLY_CODES; code++) {
		if (row->ended[code])
			printf("%s\"%s\": %" PRIu64, n++ ? ", " : "", tally_code_name(code),
			       row->ended[code]);
	}
	printf("}}");
}

void report_json(const struct options *options, const struct tally *tally, uint64_t elapsed_ns)
{
	printf("{\"profile\": \"%s\", \"seed\": %" PRIu64 ", \"rate\": %" PRIu32
	       ", \"seconds\": %.3f,\n",
	       options_profile_name(options->profile), options->seed, options->per_second,
	       (double)elapsed_ns / 1e9);
	printf("  \"sent\": %" PRIu64 ", \"answered\": %" PRIu64 ", \"ok\": %" PRIu64
	       ", \"not_sent\": %" PRIu64 ",\n  \"methods\": {",
	       tally->sent, tally->ended, tally->ok, tally->not_sent);
	json_methods(tally);
	printf("},\n  \"targets\": {");
	for (unsigned i = 0; i < options->n_targets; i++) {
		printf("%s\n    \"%s\": {", i ? "," : "", options->targets[i]);
		for (unsigned j = 0; j < METHODS; j++)
			json_row(workload_method((enum method)j)->name, &tally->of[i][j], !j);
		printf("}");
	}
	printf("},\n  \"images\": {");
	for (unsigned i = 0; i < options->n_targets; i++) {
		const struct tally_images *images = &tally->images[i];

		printf("%s\n    \"%s\": {\"chunks_moved\": %" PRIu64 ", \"chunks_spared\": %" PRIu64
		       ", \"bytes_moved\": %" PRIu64 "}",
		       i ? "," : "", options->targets[i], images->chunks_moved,
		       images->chunks_spared, images->bytes_moved);
	}
	printf("},\n  \"traces\": %" PRIu64 "}\n", traces_begun());
}
