#!/usr/bin/env bash
# Run the Prometheus that tools.sh unpacked, with its web page where that can be had.
#
#   prometheus.sh TOOLS_DIR [prometheus options]
#
# Debian's build reads its page from /usr/share/prometheus, which an unpacked package does not have.
# A mount namespace of its own lays the unpacked /usr/share over the machine's, for this process
# alone. Where namespaces or overlays are not permitted Prometheus runs without the page: its API,
# which is all that the tests and the demo's figures need, is the same.
set -euo pipefail

tools=$(cd "${1:?prometheus.sh TOOLS_DIR}" && pwd)
shift
program=$tools/usr/bin/prometheus
if [ ! -x "$program" ]; then
  echo "prometheus.sh: no Prometheus in $tools: run 'make deps'" >&2
  exit 1
fi

own_namespace=(unshare --mount)
[ "$(id -u)" -eq 0 ] || own_namespace=(unshare --user --map-root-user --mount)
overlay="mount -t overlay overlay -o lowerdir=$tools/usr/share:/usr/share /usr/share"
if "${own_namespace[@]}" sh -c "$overlay" 2>/dev/null; then
  exec "${own_namespace[@]}" sh -c "$overlay && exec \"\$@\"" sh "$program" "$@"
fi
exec "$program" "$@"
