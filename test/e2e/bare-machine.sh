#!/usr/bin/env bash
# The README's first command on a bare Debian 12: a debootstrap root with git alone, a clone of this
# repository, `apt-get install -y make && DEMO_SECONDS=30 make demo`. While it runs, the agents and
# Prometheus are asked from outside. Not part of `make test`: it downloads a whole system.
#
#   bare-machine.sh [demo|test]      (root; needs debootstrap; mirror taken from this machine's apt)
#   ROOT=DIR keeps and re-uses the root.   timeout: 3000 s
set -euo pipefail
cd "$(dirname "$0")/../.."

what=${1:-demo}
root=${ROOT:-}
keep=1
if [ -z "$root" ]; then
  root=$(mktemp -d /var/tmp/blixard-bare-XXXXXX)
  keep=0
fi

fail() {
  echo "not ok - $*"
  exit 1
}
skip() {
  echo "$*"
  exit 77
}
[ "$(id -u)" -eq 0 ] || skip "needs root for debootstrap and chroot"
command -v debootstrap >/dev/null || skip "debootstrap is missing: apt-get install debootstrap"

# Debian's own archives of this machine, as "URI suite" lines; security and updates included.
debian_sources() {
  apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' |
    awk '$1 ~ /\/debian(-security)?\/?$/' | sort -u
}
mirror=$(debian_sources | awk '$2 == "bookworm" || $2 == "stable" || $2 == "oldstable" { print $1; exit }')
[ -n "$mirror" ] || mirror=$(debian_sources | awk '$1 ~ /\/debian\/?$/ { print $1; exit }')
[ -n "$mirror" ] || fail "no Debian archive in this machine's apt configuration"

tear_down() {
  [ -z "${run_pid:-}" ] || kill "$run_pid" 2>/dev/null || true
  [ "$keep" = 1 ] || rm -rf --one-file-system "$root"
}
trap tear_down EXIT

if [ ! -e "$root/etc/debian_version" ]; then
  echo "# debootstrap, with git alone"
  debootstrap --variant=minbase --include=git,ca-certificates bookworm "$root" "$mirror" >"$root.log" 2>&1 ||
    fail "debootstrap: $(tail -n 2 "$root.log")"
  rm -f "$root.log"
fi
{
  echo "deb $mirror bookworm main"
  for uri in $(debian_sources | awk '{ print $1 }' | sort -u | grep -- '-security' || true); do
    echo "deb $uri bookworm-security main"
  done
} >"$root/etc/apt/sources.list"
rm -rf "$root/src"
git clone -q --no-hardlinks . "$root/src"

# Everything the chroot needs is mounted in a namespace of its own and is gone with it.
in_root() {
  unshare --mount --pid --fork --kill-child sh -c '
    root=$1; shift
    mount -t proc proc "$root/proc" && mount --rbind /sys "$root/sys" && mount --rbind /dev "$root/dev" &&
    mount -t tmpfs tmpfs "$root/dev/shm" &&
    cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null; cp -L /etc/hosts "$root/etc/hosts";
    exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"' sh "$root" "$@"
}

if [ "$what" = test ]; then
  in_root sh -c 'cd /src && apt-get update -q && apt-get install -q -y make && make test' ||
    fail "make test on a bare machine"
  echo "ok - make test on a bare machine"
  exit 0
fi

log=$root/demo.log
: >"$log"
in_root sh -c 'cd /src && apt-get update -q && apt-get install -q -y make && DEMO_SECONDS=30 make demo' >"$log" 2>&1 &
run_pid=$!
deadline=$((SECONDS + 1500))
until grep -q 'Prometheus   http' "$log"; do
  kill -0 "$run_pid" 2>/dev/null || fail "the demo ended before it answered: $(tail -n 15 "$log")"
  [ "$SECONDS" -lt "$deadline" ] || fail "no demo within 1500 s: $(tail -n 15 "$log")"
  read -r -t 0.5 <> <(:) || true
done

proposals() { curl -s --max-time 2 127.0.0.1:8001/metrics | awk '$1 == "raft_proposals_total" { print $2 }'; }
first=$(proposals)
until [ "$(proposals)" -gt "$first" ]; do
  kill -0 "$run_pid" 2>/dev/null || fail "raft_proposals_total stayed at $first"
  read -r -t 0.2 <> <(:) || true
done
echo "ok - raft_proposals_total grows: $first, then $(proposals)"

body=$(curl -s --max-time 2 127.0.0.1:8001/metrics)
names="raft_proposals_total raft_proposals_failed raft_committed_entries_total raft_applied_entries_total
raft_leader_changes_total raft_term raft_commit_index raft_proposal_duration grpc_requests_total
grpc_requests_failed grpc_request_duration peer_connections_active peer_reconnect_attempts vm_total
vm_running vm_create_total vm_create_failed vm_create_duration storage_reads_total
storage_writes_total storage_read_duration storage_write_duration"
for name in $names; do
  grep -q "^# TYPE $name " <<<"$body" || fail "the seed guide's name $name is not served"
done
echo "ok - all $(wc -w <<<"$names") names of the seed guide are served"

sum=$(curl -s --max-time 2 '127.0.0.1:9090/api/v1/query?query=sum(raft_term)')
grep -q '"value":\[[0-9.]*,"[1-9]' <<<"$sum" || fail "Prometheus has no sum(raft_term): $sum"
echo "ok - Prometheus answers sum(raft_term)"

wait "$run_pid" || fail "the demo did not exit 0: $(tail -n 15 "$log")"
run_pid=
echo "ok - DEMO_SECONDS=30 make demo exits 0 on a bare Debian 12"
