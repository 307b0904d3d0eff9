/* agent/serve/page.h - shared by the parts of the page: its style, its script, and how it writes things. */
#ifndef BLIX_AGENT_SERVE_PAGE_H
#define BLIX_AGENT_SERVE_PAGE_H

#include "agent/buf.h"

#include <stdint.h>

struct serve_status;

extern const char page_style[];
extern const char page_script[];

/* Text, escaped for element content and for attributes in double quotes. */
void page_html(struct buf *b, const char *text);
void page_whole(struct buf *b, double value); /* 7342 -> "7,342" */
void page_bytes(struct buf *b, double value); /* in the unit that fits it */
void page_duration(struct buf *b, uint64_t s);
/* Between two clock readings that may disagree. */
uint64_t page_seconds_between(uint64_t from_ns, uint64_t to_ns);
/* One line of what is wrong, below the state; nothing for an empty text. colour: "warn", "bad". */
void page_todo(struct buf *b, const char *colour, const char *text);

/* What leaves the host: its problems, and its table. */
void page_exports_todo(struct buf *b, const struct serve_status *s);
void page_exports(struct buf *b, const struct serve_status *s);

#endif
