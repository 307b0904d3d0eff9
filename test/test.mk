# test/test.mk - the targets that install, test, measure and show. Included by the Makefile.

RUN      := /usr/bin/python3 test/support/run.py --logs $(B)/test-logs
TOOLS    := $(B)/tools
JOBS     := $(shell nproc)
CONTRACT := $(sort $(wildcard test/contract/*.sh test/contract/*.py))
E2E      := $(sort $(wildcard test/e2e/[0-9]*.sh test/e2e/[0-9]*.py))
TORTURE  := $(patsubst test/%.c,$(B)/test/%,$(wildcard test/torture/*.c))
CORRUPT  := $(patsubst test/%.c,$(B)/test/%,$(wildcard test/corrupt/*.c))
TSAN     := -fsanitize=thread -DBLIX_TSAN
ASAN     := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
# Prometheus, and the libraries of its web page.
PROMETHEUS_DEB := prometheus libjs-bootstrap4 libjs-d3 libjs-eonasdan-bootstrap-datetimepicker libjs-jquery \
	libjs-jquery-hotkeys libjs-moment libjs-moment-timezone libjs-mustache libjs-popper.js libjs-rickshaw \
	fonts-glyphicons-halflings
export B

.PHONY: deps deps-demo deps-build
deps:
	$(Q)bash test/support/deps.sh test && bash test/support/tools.sh $(TOOLS) $(PROMETHEUS_DEB) prometheus-node-exporter lttng-tools liblttng-ctl0 libpopt0
deps-demo:
	$(Q)bash test/support/deps.sh demo && bash test/support/tools.sh $(TOOLS) $(PROMETHEUS_DEB)
deps-build:
	$(Q)bash test/support/deps.sh build

# Dependencies first, then a second make: what is to be built may only be known once they are there.
.PHONY: demo
demo: deps-demo
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) all
	$(Q)exec /usr/bin/python3 test/cluster/demo.py --build $(B)

.PHONY: test check
test: deps
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) test-programs race-programs
	$(Q)$(RUN) $(UNIT_BIN) $(CORRUPT) $(CONTRACT) $(addprefix $(B)/tsan/,$(RACE_BIN:$(B)/%=%)) $(TORTURE) \
		$(wildcard test/torture/*.sh) $(E2E)

check: test-programs
	$(Q)$(RUN) $(UNIT_BIN) $(CORRUPT) $(CONTRACT)

# Race tests run under ThreadSanitizer; their programs are plain mains because Criterion cannot
# start under it.
.PHONY: race-programs tsan
race-programs:
	$(Q)$(MAKE) --no-print-directory B=$(B)/tsan SANITIZE='$(TSAN)' WERROR= race-only
.PHONY: race-only
race-only: $(RACE_BIN)
tsan: race-programs
	$(Q)$(RUN) $(addprefix $(B)/tsan/,$(RACE_BIN:$(B)/%=%))

.PHONY: asan
asan:
	$(Q)$(MAKE) --no-print-directory B=$(B)/asan SANITIZE='$(ASAN)' CFLAGS='-O1 -g' WERROR= asan-run
.PHONY: asan-run
asan-run: test-programs
	$(Q)LSAN_OPTIONS=suppressions=test/support/lsan.supp:print_suppressions=0 $(RUN) $(UNIT_BIN) $(CORRUPT) $(TORTURE) $(E2E)

# The reference cluster under SOAK_RATE operations a second for S seconds (make soak S=600).
.PHONY: soak
soak: all
	$(Q)/usr/bin/python3 test/cluster/soak.py --build $(B) --seconds $(S)

# Before an issue is closed: everything, the sanitizer build, torture for S seconds a program, a hundred kills.
.PHONY: test-long
test-long: test
	$(Q)$(MAKE) --no-print-directory asan
	$(Q)$(MAKE) --no-print-directory torture S=$(S)
	$(Q)CUSTODY_ROUNDS=100 $(RUN) test/e2e/18-custody.py

.PHONY: torture
torture: test-programs
	$(Q)for t in $(TORTURE); do echo "== $$t"; $$t $(S) || exit 1; done

# clang-tidy 14 mixes up va_lists when it is given many files in one call: one call a file.
.PHONY: lint
lint: $(METRICS_H) $(PROTO_H)
	$(Q)bash test/contract/includes.sh
	$(Q)clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h')
	$(Q)shellcheck -S warning $$(git ls-files '*.sh') .ci/run
	$(Q)printf '%s\n' $(SHM_SRC) $(HOOKS_SRC) $(AGENT_SRC) agent/main.c | \
		xargs -P 2 -I{} clang-tidy --quiet {} -- $(CPPFLAGS) -std=gnu17 2>/dev/null

.PHONY: clang
clang:
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) CC=clang B=$(B)/clang all

.PHONY: docs
docs: $(B)/blixard-agent
	$(Q)/usr/bin/python3 test/support/docs.py $(B)/blixard-agent README.md

.PHONY: help
help:
	@echo 'make            build everything into $(B)/'
	@echo 'make demo       three nodes, three agents, Prometheus, OTLP; DEMO_SECONDS=30 ends by itself;'
	@echo '                DEMO_STATE=FILE: behind a relay, for test/cluster/fault'
	@echo 'make test       install what is missing, build, run every kind of test once'
	@echo 'make check      units, contracts, corruption; installs nothing'
	@echo 'make asan tsan  the tests under AddressSanitizer and UBSan, ThreadSanitizer'
	@echo 'make test-long  test, asan, and torture for S seconds a program'
	@echo 'make torture S=30   each torture program for S seconds'
	@echo 'make bench      our figures beside the physical limit and peers'
	@echo 'make bench-tracing  the reference cluster with every request traced, beside none'
	@echo 'make lint docs clang deps install uninstall clean'

# ---- bench ---------------------------------------------------------------------------------------
# Ours and the peers in one run. A peer whose library is missing is left out and named.
BENCH_C := $(patsubst test/bench/%.c,$(B)/bench/%,$(wildcard test/bench/bench_*.c))
.PHONY: bench-tracing
bench-tracing: all
	$(Q)/usr/bin/python3 test/bench/cluster_tracing.py $(B)
.PHONY: bench bench-programs
bench: deps
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) all bench-programs
	$(Q)/usr/bin/python3 test/bench/report.py $(B)
bench-programs: $(BENCH_C) $(B)/bench/bench_prometheus_cpp $(B)/test/support/bin/span_node
# The tracepoint header is included by LTTng's own, by the path it gives.
$(B)/bench/bench_lttng: test/bench/bench_lttng.c test/bench/lttng_span.h test/bench/harness.h
	$(call say,CC,$@)mkdir -p $(@D) && $(CC) -I. -Itest/bench -D_GNU_SOURCE -O2 -Wall -Wextra -o $@ $< -llttng-ust -llttng-ust-common -lpthread
$(B)/bench/bench_pcp: test/bench/bench_pcp.c test/bench/harness.h
	$(call say,CC,$@)mkdir -p $(@D) && $(CC) $(CPPFLAGS) -O2 -Wall -Wextra -o $@ $< -lpcp_mmv -lpcp -lpthread
$(B)/bench/bench_prometheus_cpp: test/bench/bench_prometheus_cpp.cc test/bench/harness.h
	$(call say,CXX,$@)mkdir -p $(@D) && g++ -O2 -Wall -Wextra -std=c++17 -D_GNU_SOURCE -o $@ $< -lprometheus-cpp-pull -lprometheus-cpp-core -lpthread -lz
$(B)/bench/bench_hot $(B)/bench/bench_node: $(B)/bench/%: test/bench/%.c test/bench/harness.h $(B)/include/blixard_hooks.h $(B)/libblixard-hooks.so.0
	$(call say,CC,$@)mkdir -p $(@D) && $(CC) -I$(B)/include -D_GNU_SOURCE -O2 -Wall -Wextra -o $@ $< -L$(B) -Wl,-rpath,'$$ORIGIN/..' -lblixard-hooks -lpthread
# The peer of the storage probes is a BPF program of its own; without clang it is left out.
$(B)/gen/skel/biolatency.skel.h: test/bench/biolatency.bpf.c bpf/kernel_types.h
	$(call say,BPF,$@)mkdir -p $(@D) && $(CLANG) -target bpf -g -O2 -std=gnu17 -Wall -Werror -D__TARGET_ARCH_x86 -I. -c -o $(B)/gen/skel/biolatency.bpf.o $< && \
		$(BPFTOOL) gen skeleton $(B)/gen/skel/biolatency.bpf.o name biolatency_bpf > $@
$(B)/obj/test/bench/bench_storage.o: CPPFLAGS += $(if $(BPF_SKEL),-DBLIX_BPF -isystem $(B)/gen/skel)
$(B)/obj/test/bench/bench_storage.o: $(if $(BPF_SKEL),$(B)/gen/skel/biolatency.skel.h)
$(B)/bench/%: $(B)/obj/test/bench/%.o $(TEST_LIB)
	$(call say,LD,$@)mkdir -p $(@D) && $(CC) $(LDFLAGS_) -o $@ $^ $(AGENT_LIBS)
