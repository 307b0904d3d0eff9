#!/usr/bin/env bash
# Unpack Debian packages into DIR (default build/tools) without installing them, because installing
# would start a service: prometheus (with promtool), node_exporter, lttng-tools with
# the libraries that only they use.
#
#   tools.sh [DIR] PACKAGE...
set -euo pipefail

dir=${1:?tools.sh DIR PACKAGE...}
shift
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
for package in "$@"; do
  [ -e "$dir/.have-$package" ] && continue
  tmp=$(mktemp -d)
  trap 'rm -rf "$tmp"' EXIT
  chmod 755 "$tmp"
  if ! (cd "$tmp" && { apt-get download "$package" || { apt-get update && apt-get download "$package"; }; }) \
    >"$tmp/log" 2>&1; then
    echo "tools.sh: cannot download Debian package $package; the last lines of apt-get:" >&2
    tail -n 5 "$tmp/log" >&2
    exit 1
  fi
  dpkg-deb -x "$tmp"/*.deb "$dir"
  touch "$dir/.have-$package"
  rm -rf "$tmp"
  trap - EXIT
done
