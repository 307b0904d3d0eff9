#!/usr/bin/env bash
# Everything compiles without a warning under clang too, with the Makefile's own flags.
# timeout: 180 s
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v clang >/dev/null || { echo "clang is missing: make deps"; exit 77; }
make --no-print-directory -j"$(nproc)" CC=clang B="${B:-build}/clang" all
