# Blixard observability. `make help` lists the targets; everything made goes below $(B).
#
# One file, no recursion into folders. A variant (asan, tsan) is this same file with another B.

B        ?= build
CC       ?= gcc
ifeq ($(origin CC),default)
CC       := gcc
endif
CLANG    ?= clang
PREFIX   ?= /usr/local
DESTDIR  ?=
WERROR   ?= -Werror
SANITIZE ?=
VERSION  := 0.1.0
S        ?= 30

WARN     := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla $(WERROR)
CPPFLAGS += -I. -Inode-hooks -I$(B)/include -I$(B)/gen -D_GNU_SOURCE -DBLIX_VERSION='"$(VERSION)"'
CFLAGS   ?= -O2 -g
CFLAGS_  := -std=gnu17 $(WARN) -fno-common -fvisibility=hidden -fPIC -fstack-protector-strong $(CFLAGS) $(SANITIZE)
LDFLAGS_ := $(LDFLAGS) $(SANITIZE) -Wl,-z,relro,-z,now

V        ?= 0
Q        := $(if $(filter 1,$(V)),,@)
say       = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(patsubst $(B)/%,%,$(2))';)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# ---- sources ----------------------------------------------------------------------------------
SHM_SRC   := $(wildcard shm/*.c)
BPF_SRC   := bpf/probe.c
HOOKS_SRC := $(wildcard node-hooks/*.c)
AGENT_SRC := $(filter-out agent/main.c,$(wildcard agent/*.c agent/*/*.c))
NODE_SRC  := $(filter-out test/cluster/load/% test/cluster/selftest/%,$(wildcard test/cluster/*.c test/cluster/*/*.c))
LOAD_SRC  := $(wildcard test/cluster/load/*.c) $(addprefix test/cluster/rpc/,rpc_client.c rpc_queue.c)
SUPPORT_SRC := $(wildcard test/support/*.c)
PROTO_SRC := $(wildcard proto/*.proto)

obj       = $(patsubst %.c,$(B)/obj/%.o,$(1))
SHM_OBJ   := $(call obj,$(SHM_SRC))
HOOKS_OBJ := $(call obj,$(HOOKS_SRC)) $(SHM_OBJ)
# The probes need clang and bpftool to build and libbpf to run; BPF=0 leaves them out. Without them
# the agent is built all the same, and says so in --version and --check.
BPFTOOL   ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/bin/bpftool) bpftool)
BPF       ?= $(shell command -v $(CLANG) >/dev/null && $(CLANG) -print-targets 2>/dev/null | grep -q '^ *bpf ' && \
                command -v $(BPFTOOL) >/dev/null && test -e /usr/include/bpf/libbpf.h && echo 1 || echo 0)
BPF_SKEL  := $(if $(filter 1,$(BPF)),$(patsubst bpf/%.bpf.c,$(B)/gen/skel/%.skel.h,$(wildcard bpf/*.bpf.c)))
BPF_LIBS  := $(if $(filter 1,$(BPF)),-lbpf)
PROTO_C   := $(patsubst proto/%.proto,$(B)/gen/proto/%.pb-c.c,$(PROTO_SRC))
PROTO_H   := $(PROTO_C:.c=.h)
PROTO_OBJ := $(patsubst $(B)/gen/%.c,$(B)/obj/gen/%.o,$(PROTO_C))
NODE_PROTO_OBJ := $(filter %/blixard_cluster.pb-c.o,$(PROTO_OBJ))
AGENT_OBJ := $(call obj,$(AGENT_SRC)) $(filter-out $(NODE_PROTO_OBJ),$(PROTO_OBJ)) $(call obj,$(BPF_SRC)) $(SHM_OBJ)

AGENT_LIBS := -lnghttp2 -lcurl -lsqlite3 -levent_openssl -lssl -lcrypto -levent_core -levent_extra -levent_pthreads -lprotobuf-c -ljansson -lz $(BPF_LIBS) -lpthread -lm
HOOKS_LIBS := -lpthread
NODE_LIBS  := -lraft -levent_core -lgrpc -lgpr -lcrypto -lprotobuf-c -lpthread

# ---- programs -----------------------------------------------------------------------------------
PROGRAMS := $(B)/libblixard-hooks.a $(B)/libblixard-hooks.so.0 \
            $(if $(wildcard agent/main.c),$(B)/blixard-agent) $(B)/blixctl $(if $(NODE_SRC),$(B)/blixard-node $(B)/blixard-load)

.PHONY: all
all: $(PROGRAMS)

$(B)/libblixard-hooks.a: $(HOOKS_OBJ)
	$(call say,AR,$@)rm -f $@ && ar qcs $@ $^

$(B)/libblixard-hooks.so.0: $(HOOKS_OBJ) node-hooks/hooks.map
	$(call say,LD,$@)$(CC) $(LDFLAGS_) -shared -Wl,-soname,libblixard-hooks.so.0 -Wl,-z,nodelete \
		-Wl,--version-script=node-hooks/hooks.map -o $@ $(filter %.o,$^) $(HOOKS_LIBS) && \
		ln -sf libblixard-hooks.so.0 $(B)/libblixard-hooks.so

$(B)/blixard-agent: $(B)/obj/agent/main.o $(AGENT_OBJ)
	$(call say,LD,$@)$(CC) $(LDFLAGS_) -o $@ $^ $(AGENT_LIBS)

$(B)/blixctl: $(B)/obj/shm/tools/blixctl.o
	$(call say,LD,$@)$(CC) $(LDFLAGS_) -o $@ $^ -ljansson

$(B)/blixard-node: $(call obj,$(NODE_SRC)) $(NODE_PROTO_OBJ) $(B)/libblixard-hooks.a
	$(call say,LD,$@)$(CC) $(LDFLAGS_) -o $@ $^ $(NODE_LIBS)

$(B)/blixard-load: $(call obj,$(LOAD_SRC)) $(NODE_PROTO_OBJ)
	$(call say,LD,$@)$(CC) $(LDFLAGS_) -o $@ $^ -levent_core -lgrpc -lgpr -lprotobuf-c -lpthread -lm

# ---- generated ----------------------------------------------------------------------------------
METRICS_H := $(B)/include/blixard_metrics.h

# The slots as one enum, so that the installed header needs nothing of ours beside it.
$(METRICS_H): shm/metrics.def
	$(call say,GEN,$@)mkdir -p $(@D) && { \
	  echo '/* Generated from shm/metrics.def. */'; \
	  echo '#if !defined(BLIXARD_METRICS_H) && !defined(BLIX_SHM_METRIC_H)'; \
	  echo '#define BLIXARD_METRICS_H'; echo 'enum blix_slot {'; \
	  printf '#define METRIC(slot, name, ...) BLIX_ROW name = slot,\n#define METRIC_RAW(slot, name, ...) BLIX_ROW name = slot,\n#include "%s"\n' $< \
	    | $(CC) -E -P -I. -x c - | tr ',' '\n' | sed -n 's/.*BLIX_ROW *\([A-Za-z0-9_]*\) *= *\([0-9]*\).*/\tBLIX_\1 = \2,/p'; \
	  echo '};'; echo '#endif'; } > $@

# The header as installed: self-contained.
$(B)/include/blixard_hooks.h: node-hooks/blixard_hooks.h $(METRICS_H)
	$(call say,GEN,$@)sed -e '/#include "blixard_metrics.h"/{r $(METRICS_H)' -e 'd}' $< > $@

$(B)/gen/proto/%.pb-c.c $(B)/gen/proto/%.pb-c.h: proto/%.proto
	$(call say,PROTOC,$(B)/gen/proto/$*)mkdir -p $(B)/gen/proto && protoc-c --c_out=$(B)/gen/proto --proto_path=proto $<

$(B)/obj/gen/%.o: $(B)/gen/%.c
	$(call say,CC,$@)mkdir -p $(@D) && $(CC) $(CPPFLAGS) -std=gnu17 -fPIC $(CFLAGS) $(SANITIZE) -MMD -MP -c -o $@ $<

$(B)/obj/%.o: %.c | $(METRICS_H) $(PROTO_H)
	$(call say,CC,$@)mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS_) -MMD -MP -c -o $@ $<

# Relocations (CO-RE) fit the object to the kernel it meets: no kernel's headers are needed here.
$(B)/gen/skel/%.skel.h: bpf/%.bpf.c $(wildcard bpf/*.h) shm/buckets.h
	$(call say,BPF,$@)mkdir -p $(@D) && $(CLANG) -target bpf -g -O2 -std=gnu17 -Wall -Wextra -Werror -Wno-unused-parameter \
		-D__TARGET_ARCH_$(if $(filter aarch64,$(shell uname -m)),arm64,x86) -I. -c -o $(B)/gen/skel/$*.bpf.o $< && \
		$(BPFTOOL) gen skeleton $(B)/gen/skel/$*.bpf.o name $*_bpf > $@

$(B)/obj/bpf/probe.o: CPPFLAGS += $(if $(BPF_SKEL),-DBLIX_BPF -isystem $(B)/gen/skel)
$(B)/obj/bpf/probe.o: $(BPF_SKEL)

# ---- test programs ------------------------------------------------------------------------------
# Each test/unit/test_*.c is one Criterion program over everything we build but main();
# each test/{race,torture,corrupt}/*.c and test/bench/*.c is a plain main.
UNIT_BIN    := $(patsubst test/%.c,$(B)/test/%,$(wildcard test/unit/test_*.c))
RACE_BIN    := $(patsubst test/%.c,$(B)/test/%,$(wildcard test/race/*.c))
PLAIN_BIN   := $(patsubst test/%.c,$(B)/test/%,$(wildcard test/torture/*.c test/corrupt/*.c test/support/bin/*.c))
EXAMPLE_BIN := $(patsubst node-hooks/example/%.c,$(B)/example/%,$(wildcard node-hooks/example/*.c))
TEST_LIB    := $(B)/libtest.a

$(TEST_LIB): $(sort $(AGENT_OBJ) $(HOOKS_OBJ) $(call obj,$(SUPPORT_SRC)))
	$(call say,AR,$@)rm -f $@ && ar qcs $@ $^

$(UNIT_BIN): $(B)/test/%: $(B)/obj/test/%.o $(TEST_LIB)
	$(call say,LD,$@)mkdir -p $(@D) && $(CC) $(LDFLAGS_) -o $@ $^ -lcriterion $(AGENT_LIBS)

$(PLAIN_BIN) $(RACE_BIN): $(B)/test/%: $(B)/obj/test/%.o $(TEST_LIB)
	$(call say,LD,$@)mkdir -p $(@D) && $(CC) $(LDFLAGS_) -o $@ $^ $(AGENT_LIBS)

# The example is built as a stranger would build it: installed header, shared library.
$(EXAMPLE_BIN): $(B)/example/%: node-hooks/example/%.c $(B)/include/blixard_hooks.h $(B)/libblixard-hooks.so.0
	$(call say,CC,$@)mkdir -p $(@D) && $(CC) -std=c99 -Wall -Wextra -Werror -pedantic -I$(B)/include -D_POSIX_C_SOURCE=200809L -O2 $(SANITIZE) -o $@ $< -L$(B) -Wl,-rpath,'$$ORIGIN/..' -lblixard-hooks

.PHONY: test-programs
test-programs: all $(UNIT_BIN) $(PLAIN_BIN) $(RACE_BIN) $(EXAMPLE_BIN)

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
-include test/test.mk

.PHONY: clean
clean:
	$(Q)rm -rf $(B)

# ---- install --------------------------------------------------------------------------------------
.PHONY: install uninstall
install: all $(B)/include/blixard_hooks.h
	$(Q)install -Dm755 $(B)/blixard-agent $(DESTDIR)$(PREFIX)/bin/blixard-agent
	$(Q)install -Dm755 $(B)/blixctl $(DESTDIR)$(PREFIX)/bin/blixctl
	$(Q)install -Dm644 $(B)/include/blixard_hooks.h $(DESTDIR)$(PREFIX)/include/blixard_hooks.h
	$(Q)install -Dm644 $(B)/libblixard-hooks.a $(DESTDIR)$(PREFIX)/lib/libblixard-hooks.a
	$(Q)install -Dm755 $(B)/libblixard-hooks.so.0 $(DESTDIR)$(PREFIX)/lib/libblixard-hooks.so.0
	$(Q)ln -sf libblixard-hooks.so.0 $(DESTDIR)$(PREFIX)/lib/libblixard-hooks.so
	$(Q)install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' node-hooks/blixard-hooks.pc.in \
		> $(DESTDIR)$(PREFIX)/lib/pkgconfig/blixard-hooks.pc

uninstall:
	$(Q)rm -f $(addprefix $(DESTDIR)$(PREFIX)/,bin/blixard-agent bin/blixctl include/blixard_hooks.h \
		lib/libblixard-hooks.a lib/libblixard-hooks.so.0 lib/libblixard-hooks.so lib/pkgconfig/blixard-hooks.pc)
