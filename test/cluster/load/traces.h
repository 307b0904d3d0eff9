/* traces.h - the traces that the load begins: a W3C traceparent for a share of its operations, as a
 * client that is instrumented would send. One thread. */
#ifndef LOAD_TRACES_H
#define LOAD_TRACES_H

#include <stdint.h>

/* Of a hundred operations so many get a sampled trace, evenly spread; 0: none. */
void traces_init(uint32_t percent);

/* So far. */
uint64_t traces_begun(void);

#endif
