/* test/support/bin/layout_dump.c - print the file format as test/golden/layout.txt has it.
 *
 * For a new minor: fields are appended, so the new output differs from the old by added lines only
 * (and the sizes of grown structures). A changed line is a broken promise. */
#include "test/support/layout_dump.h"

int main(void)
{
	layout_dump(stdout);
	return ferror(stdout) ? 1 : 0;
}
