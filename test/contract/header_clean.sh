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

static const char *get(void *arg, const char *name)
{
	return name[0] == 't' && name[5] == 'p' ? (const char *)arg : 0;
}

static void set(void *arg, const char *name, const char *value)
{
	*(unsigned int *)arg += name[0] == 't' && value[0] == '0';
}

static int spans(void)
{
	char header[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
	struct blix_context parent = blix_extract(get, header);
	blix_span span = blix_span_begin(BLIX_NAME("Cluster/CreateVm"), BLIX_SERVER, &parent);
	unsigned int injected = 0;
	int wrong = 0;

	{
		BLIX_SCOPE(span);
		blix_span_str(span, BLIX_KEY("vm.name"), "vm-1");
		blix_span_i64(span, BLIX_KEY("vm.vcpus"), 2);
		blix_span_event(span, "placed");
		blix_span_event(span, "placed", BLIX_STR("on", "node-2"), BLIX_F64("load", 0.5));
		blix_span_link(span, &parent);
		blix_span_link(span, &parent, BLIX_BOOL("again", 1));
		blix_log(BLIX_INFO, "vm created");
		blix_log(BLIX_INFO, "vm created", BLIX_STR("vm.name", "vm-1"), BLIX_I64("took_ms", 7));
		blix_log_event(BLIX_WARN, "leader.lost", "leader lost", BLIX_I64("term", 7));
		blix_inject(set, &injected);
	}
	blix_span_error(span, "no room");
	blix_span_end(span);
	blix_record_grpc_request(blix_grpc_method_of("CreateVm"), 1000, 14);
	blix_record_storage_operation(blix_storage_table_of("raft_log"), BLIX_STORAGE_WRITE, 5, 0);
	blix_record_raft_proposal(1000, BLIX_RAFT_COMMITTED);
	wrong += injected != 1;
	wrong += span.span_id[0] == parent.span_id[0] && span.span_id[7] == parent.span_id[7];
	wrong += span.trace_id[15] != 0x9c;
	wrong += blix_span_is_recorded(span) != 0; /* no file */
	wrong += blix_current_span().trace_id[15] != 0;
	return wrong;
}

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
	wrong += spans();
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
