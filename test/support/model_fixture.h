/* test/support/model_fixture.h - models with known content, for the tests of the encoders. */
#ifndef BLIX_TEST_SUPPORT_MODEL_FIXTURE_H
#define BLIX_TEST_SUPPORT_MODEL_FIXTURE_H

#include "agent/model/snapshot.h"

/* A few families of every type with awkward text and values; golden bodies are made of it. */
struct snapshot *fixture_small(void);

/* Every row of the catalogue with every label set that it starts with, values that differ
 * everywhere, exemplars, and exponential cells beside all histograms in seconds. */
struct snapshot *fixture_rich(void);

#endif
