#!/usr/bin/env bash
# The README's metric tables are those of shm/metrics.def.
set -euo pipefail
cd "$(dirname "$0")/../.."
agent=${B:-build}/blixard-agent
[ -x "$agent" ] || { echo "$agent is missing"; exit 77; }
/usr/bin/python3 test/support/docs.py "$agent" README.md --check
