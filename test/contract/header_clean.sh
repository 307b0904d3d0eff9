#!/usr/bin/env bash
# The installed header is self-contained, C99 and C++11 clean with every pedantic warning, and links
# with both libraries: as a stranger's program uses it.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${B:-build}
[ -e "$build/include/blixard_hooks.h" ] || { echo "skip: $build/include/blixard_hooks.h is missing"; exit 77; }

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp "$build/include/blixard_hooks.h" "$dir/" # alone: nothing beside it may be needed

cat > "$dir/use.c" <<'END'
#include <blixard_hooks.h>
#include <blixard_hooks.h>

int main(void)
{
	static const char *const keys[] = {"key"};
	struct blix_metric_spec spec = {0};
	struct blix_report status;
	uint32_t slot = 0;
	int wrong = 0;

	spec.name = "clean_things_total";
	spec.kind = BLIX_KIND_COUNTER;
	spec.label_keys = keys;
	spec.n_label_keys = 1;
	wrong += blix_metric_register(&spec, &slot) != 0;
	blix_add(blix_counter_of(BLIX_raft_proposals_total), 1);
	blix_add(blix_counter_of(slot, "value"), 1);
	blix_updown(blix_updown_of(slot, "value"), -1);
	blix_set(blix_gauge_of(BLIX_raft_term), 1);
	blix_set_f64(blix_gauge_of(BLIX_raft_term), 1.5);
	blix_observe_ns(blix_histogram_of(BLIX_raft_proposal_duration_seconds), 1);
	blix_sig_add(blix_counter_of(BLIX_raft_proposals_total), 1);
	blix_heartbeat();
	status = blix_status();
	wrong += status.state != BLIX_STATUS_OFF;
	wrong += blix_counter_of(slot, "value").cell == 0;
	wrong += blix_counter_of(slot).cell != 0; /* no value where one is needed */
	wrong += blix_open("", 0) == 0;
	wrong += blix_strerror(status.error)[0] == '\0';
	wrong += blix_now_ns() == 0;
	blix_close();
	return wrong;
}
END
cp "$dir/use.c" "$dir/use.cc"
sed -i 's/= {0};/= blix_metric_spec();/' "$dir/use.cc"

flags="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -I$dir"
tried=0
for compiler in gcc clang; do
	command -v $compiler > /dev/null || continue
	for level in -O0 -O2; do
		# shellcheck disable=SC2086
		$compiler -std=c99 -pedantic-errors $flags -Wstrict-prototypes $level "$dir/use.c" \
			-o "$dir/use" "$build/libblixard-hooks.a" -lpthread
		"$dir/use"
		# shellcheck disable=SC2086
		$compiler -std=c99 -pedantic-errors $flags $level "$dir/use.c" -o "$dir/use" \
			-L"$build" -Wl,-rpath,"$(realpath "$build")" -lblixard-hooks
		"$dir/use"
	done
	tried=$((tried + 1))
done
for compiler in g++ clang++; do
	command -v $compiler > /dev/null || continue
	for standard in c++11 c++17; do
		# shellcheck disable=SC2086
		$compiler -std=$standard -pedantic-errors $flags "$dir/use.cc" -o "$dir/use" \
			"$build/libblixard-hooks.a" -lpthread
		"$dir/use"
	done
	tried=$((tried + 1))
done
echo "$tried compilers took the header"
[ $tried -ge 1 ]
