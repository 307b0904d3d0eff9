/* test/support/batch_fixture.h - batches with known content, for the tests of the OTLP encoders. */
#ifndef BLIX_TEST_SUPPORT_BATCH_FIXTURE_H
#define BLIX_TEST_SUPPORT_BATCH_FIXTURE_H

#include "agent/model/batch.h"

/* Of a node; one holder. */
struct batch_resource *fixture_resource(void);

/* Three spans: one with everything (every type of value, events, links, an error), one with nothing
 * that may be left out, one whose fields are all at their limits. Sealed, one holder. */
struct batch *fixture_spans(void);

/* Two logs: one with everything, one with nothing that may be left out. Sealed, one holder. */
struct batch *fixture_logs(void);

/* `n` ordinary spans with four attributes each. Sealed, one holder. */
struct batch *fixture_many_spans(uint32_t n);

#endif
