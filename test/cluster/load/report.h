/* report.h - prints a tally. Main thread. */
#ifndef LOAD_REPORT_H
#define LOAD_REPORT_H

#include "options.h"
#include "tally.h"

void report_progress(const struct options *options, const struct tally *tally, uint64_t elapsed_ns);
void report_text(const struct options *options, const struct tally *tally, uint64_t elapsed_ns);
void report_json(const struct options *options, const struct tally *tally, uint64_t elapsed_ns);

#endif
