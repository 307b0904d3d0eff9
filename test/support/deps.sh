#!/usr/bin/env bash
# Install what a group of make targets needs from Debian 12's archive. Idempotent: asks dpkg first
# and touches apt only for what is missing.
#
#   deps.sh build            compile and link
#   deps.sh demo             build, and what `make demo` runs
#   deps.sh test             demo, and what `make test`, `make lint` and `make bench` run
#
# Programs whose packages would start a service are unpacked into build/tools, never installed.
set -euo pipefail

build="gcc make pkg-config libc6-dev libevent-dev libprotobuf-c-dev protobuf-c-compiler libjansson-dev
  zlib1g-dev libraft-dev libgrpc-dev libssl-dev clang bpftool libbpf-dev
  libnghttp2-dev libcurl4-openssl-dev libsqlite3-dev"
demo="$build python3-minimal python3 python3-grpcio python3-protobuf curl ca-certificates"
test="$demo g++ git libclang-rt-14-dev libclang-common-14-dev clang-format clang-tidy shellcheck libcriterion-dev
  python3-prometheus-client python3-grpc-tools protobuf-compiler procps iproute2 util-linux strace
  python3-prometheus-client python3-grpc-tools protobuf-compiler procps iproute2 util-linux strace
  prometheus-cpp-dev libpcp3-dev libpcp-mmv1-dev liblttng-ust-dev fio nbdkit libnbd-bin fuse3 e2fsprogs openssl"

group=${1:-test}
case $group in
build) wanted=$build ;;
demo) wanted=$demo ;;
test) wanted=$test ;;
*)
  echo "deps.sh: unknown group '$group': build, demo or test" >&2
  exit 2
  ;;
esac

missing=()
for package in $wanted; do
  status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [ "$status" = "install ok installed" ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "deps.sh: these packages are missing and this is neither root nor sudo: ${missing[*]}" >&2
    echo "deps.sh: as root run: apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "installing ${#missing[@]} Debian packages: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 \
    install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1
}
# An old package list names files the archive no longer has: one update, then a second try.
if ! install; then
  if ! { "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 update && install; } >>"$log" 2>&1; then
    echo "deps.sh: apt-get could not install them; its last lines:" >&2
    tail -n 15 "$log" >&2
    exit 1
  fi
fi
