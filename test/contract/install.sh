#!/usr/bin/env bash
# Goal: what `make install` leaves is enough to build and run a node, and `make uninstall` takes all
# of it away. Method: install into an empty folder, build the example through pkg-config alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${B:-build}
work=$(mktemp -d)
shm=$(mktemp -u /dev/shm/blix-install-XXXXXX)
trap 'rm -rf "$work" "$shm"*' EXIT

make --no-print-directory B="$build" DESTDIR="$work/root" PREFIX=/opt/blixard install
export PKG_CONFIG_SYSROOT_DIR=$work/root PKG_CONFIG_PATH=$work/root/opt/blixard/lib/pkgconfig
read -ra flags < <(pkg-config --cflags --libs blixard-hooks)
cc -o "$work/node" node-hooks/example/node.c "${flags[@]}" ${SANITIZE:-}
LD_LIBRARY_PATH=$work/root/opt/blixard/lib "$work/node" "$shm" 0
"$work/root/opt/blixard/bin/blixard-agent" --version
make --no-print-directory B="$build" DESTDIR="$work/root" PREFIX=/opt/blixard uninstall
left=$(find "$work/root" ! -type d)
[ -z "$left" ] || { echo "make uninstall leaves: $left"; exit 1; }
