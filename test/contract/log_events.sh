#!/usr/bin/env bash
# The agent's log events: each key in the code stands in agent/log_events.def once, in order, with its
# meaning; and each key of the table is used.
set -euo pipefail
cd "$(dirname "$0")/../.."

table=$(sed -n 's/^LOG_EVENT(\([a-z0-9_]*\), "..*")$/\1/p' agent/log_events.def)
rows=$(grep -c '^LOG_EVENT(' agent/log_events.def)
[ "$(wc -l <<<"$table")" = "$rows" ] || { echo "a row of log_events.def is malformed"; exit 1; }
[ "$table" = "$(LC_ALL=C sort -u <<<"$table")" ] || { echo "log_events.def is not sorted, or a key stands twice"; exit 1; }
while read -r key; do
  [ ${#key} -lt 40 ] || { echo "$key is longer than a line's event may be (LOG_EVENT_MAX)"; exit 1; }
done <<<"$table"

# Calls may be broken over lines: read each file as one line. The event is the second argument, of
# target_say the third; a name instead of a literal passes on somebody else's key.
calls() {
  find agent -name '*.c' -print0 | xargs -0 cat | tr '\n\t' '  ' |
    grep -oE '(log_line|log_repeated)\( *LOG_LEVEL_[A-Z]+, *("[^"]*"|[a-z_>.-]+)|target_say\( *t, *TARGET_LOG_[A-Z]+, *("[^"]*"|[a-z_>.-]+)'
}
used=$({ calls | grep -o '"[^"]*"$' | tr -d '"'; echo log_lines_lost; } | LC_ALL=C sort -u)
n=$(calls | wc -l)
[ "$n" -ge 30 ] || { echo "only $n calls found: the pattern of this script no longer fits the code"; exit 1; }
diff <(echo "$table") <(echo "$used") || { echo "(< in log_events.def only, > in the code only)"; exit 1; }
echo "$n calls, $rows events"
