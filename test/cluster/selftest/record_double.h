/* test/cluster/selftest/record_double.h - counts what disk code records, instead of telling the
 * world. */
#ifndef SELFTEST_RECORD_DOUBLE_H
#define SELFTEST_RECORD_DOUBLE_H

#include "test/cluster/record/record.h"

extern unsigned recorded_errors[STORAGE_OPS];
extern unsigned recorded_reads[TABLES];
extern unsigned recorded_writes[TABLES];

#endif
