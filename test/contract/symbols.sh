#!/usr/bin/env bash
# The shared library exports what the header declares and nothing else, all of it versioned; it
# needs libc alone and is never unloaded.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${B:-build}
library=$build/libblixard-hooks.so.0
[ -e "$library" ] || { echo "skip: $library is missing"; exit 77; }

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
header=$build/include/blixard_hooks.h

# Functions as the compiler sees them, inline ones too; variables from their declarations. Inline
# helpers of the header's macros (an underscore at the end) are nobody else's business.
gcc -std=gnu17 -fsyntax-only -aux-info "$dir/declared" -x c "$header"
{
	sed -n 's/.*[ *]\(blix_[a-z0-9_]*\) (.*/\1/p' "$dir/declared" | grep -v '^$'
	sed -n 's/^extern .*[ *]\(blix_[a-z0-9_]*\)\( __attribute__.*\)*;.*/\1/p' "$header"
} | sort -u > "$dir/all"
sed -n 's/^BLIX_INLINE_ .*[ *]\(blix_[a-z0-9_]*_\)(.*/\1/p' "$header" | sort -u > "$dir/helpers"
comm -23 "$dir/all" "$dir/helpers" > "$dir/header"

nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort -u > "$dir/exported"
sed 's/@.*//' "$dir/exported" > "$dir/exported.names"

[ "$(wc -l < "$dir/header")" -ge 20 ] || { echo "the header's functions were not found"; exit 1; }
diff "$dir/header" "$dir/exported.names" || { echo "< declared only, > exported only"; exit 1; }
if grep -v '@@BLIXARD_0\.1$' "$dir/exported"; then
	echo "has no version"
	exit 1
fi

readelf -d "$library" > "$dir/dynamic"
grep -q 'SONAME.*\[libblixard-hooks\.so\.0\]' "$dir/dynamic" || { echo "wrong SONAME"; exit 1; }
grep -q 'NODELETE' "$dir/dynamic" || { echo "may be unloaded: its thread-exit hook would dangle"; exit 1; }
# A sanitizer build needs its runtime as well.
if grep NEEDED "$dir/dynamic" | grep -vE '\[(libc|libpthread|libasan|libtsan|libubsan|ld-linux-[a-z0-9-]*)\.so'; then
	echo "needs more than libc"
	exit 1
fi
echo "$(wc -l < "$dir/header") symbols"
