/* agent/serve/page.h - the parts of the page that are constant: its style and its script. */
#ifndef BLIX_AGENT_SERVE_PAGE_H
#define BLIX_AGENT_SERVE_PAGE_H

extern const char page_style[];
extern const char page_script[];

#endif
