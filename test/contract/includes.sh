#!/usr/bin/env bash
# The include arrows of the architecture: who may include whom. Anything not listed is a failure.
# One row a room: folder, then what it may include (a bash pattern a word).
set -euo pipefail
set -f # the rows below hold patterns, not file names
cd "$(dirname "$0")/../.."

arrows='
shm                  shm/*
node-hooks           shm/* blixard_hooks.h blixard_metrics.h node-hooks/*
node-hooks/example   -
bpf                  shm/buckets.h shm/layout.h bpf/*
agent/main.c         agent/options.h agent/agent.h agent/log.h agent/encode/dump.h agent/buf.h
agent                agent/* shm/metric.h shm/utf8.h shm/control.h
agent/input          agent/input/* agent/process/redact.h agent/model/* agent/log.h agent/disk.h agent/buf.h shm/* bpf/probe.h
agent/model          agent/model/* agent/buf.h shm/metric.h shm/buckets.h
agent/process        agent/process/* agent/model/* shm/metric.h shm/buckets.h
agent/encode         agent/encode/* agent/model/* agent/buf.h shm/metric.h shm/buckets.h proto/*
agent/serve          agent/serve/* agent/encode/* agent/model/* agent/buf.h agent/log.h agent/options.h agent/disk.h shm/metric.h shm/buckets.h shm/utf8.h
agent/export         agent/export/* agent/encode/* agent/model/* agent/buf.h agent/log.h agent/disk.h agent/options.h shm/metric.h shm/buckets.h
'
# System headers that the pure rooms must not see.
forbidden_pure='event2/*|curl/*|nghttp2/*|bpf/*|syslog.h|sys/socket.h|time.h'

allowed_for() {
  local file=$1 row best='' patterns=''
  while read -r row rest; do
    [ -n "$row" ] || continue
    case $file in
    "$row" | "$row"/*) [ ${#row} -gt ${#best} ] && best=$row patterns=$rest ;;
    esac
  done <<<"$arrows"
  echo "$patterns"
}

bad=0
while read -r file; do
  patterns=$(allowed_for "$file")
  [ -n "$patterns" ] || continue
  here=$(dirname "$file")
  while read -r include; do
    target=$include
    [ -e "$here/$include" ] && [ ! -e "$include" ] && target=$here/$include
    ok=0
    for pattern in $patterns; do
      # shellcheck disable=SC2053
      [[ $target == $pattern ]] && ok=1 && break
    done
    if [ $ok = 0 ]; then
      echo "$file must not include \"$include\" (allowed: $patterns)"
      bad=1
    fi
  done < <(sed -n 's/^[[:space:]]*#[[:space:]]*include "\(.*\)".*/\1/p' "$file")
  case $file in
  agent/model/* | agent/encode/*)
    while read -r include; do
      if [[ $include == @(${forbidden_pure}) ]]; then
        echo "$file is a pure room and must not include <$include>"
        bad=1
      fi
    done < <(sed -n 's/^[[:space:]]*#[[:space:]]*include <\(.*\)>.*/\1/p' "$file")
    ;;
  esac
done < <(git ls-files -co --exclude-standard -- 'shm/*.[ch]' 'node-hooks/*.[ch]' 'bpf/*.[ch]' 'agent/*.[ch]' 'agent/**/*.[ch]')

if grep -rns --include='*.[ch]' '#[[:space:]]*include "test/' shm node-hooks bpf agent; then
  echo "nothing may include test/"
  bad=1
fi
exit $bad
