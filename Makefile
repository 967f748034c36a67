# One Makefile for everything. Products go to $(BUILD); `make help` lists the targets.
PREFIX ?= /usr/local
DESTDIR ?=
BUILD ?= build
CC ?= cc
GO ?= $(firstword $(wildcard /usr/lib/go-1.23/bin/go) go)
VERSION := 0.2.0

CFLAGS ?= -O2 -g
# Quiet unless V=1.
Q := $(if $(V),,@)
say = $(if $(V),@:,@printf '  %-5s %s\n')

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith -Wno-unused-parameter
ifdef SANITIZE
# Not by CFLAGS +=, which does nothing when CFLAGS comes from the command line, as it does in `make asan`.
# -Wno-error: sanitizers make gcc warn where it does not otherwise; the plain build keeps -Werror.
SANITIZE_FLAGS := -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=undefined -Wno-error
endif
# Assertions are for our own mistakes and stay on in release builds: no NDEBUG.
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -DQUORUMFS_VERSION='"$(VERSION)"' $(WARN) -Werror -fstack-protector-strong \
	-I. -I$(BUILD) $(CFLAGS) $(SANITIZE_FLAGS) $(CPPFLAGS) -MMD -MP -pthread

PKG = $(shell pkg-config --cflags --libs $(1) 2>/dev/null)
LIBS_store := -llmdb
LIBS_proto := -lprotobuf-c
LIBS_tls := -lssl -lcrypto
LIBS_node := -lraft -luv $(LIBS_tls)
LIBS_fs := $(call PKG,fuse3)
LIBS_sidecar := -lnghttp2 -luv -ljansson -lz $(LIBS_tls)
LIBS_tools := -ljansson

# ---- sources: a folder's programs are named below, everything else in it is its library ----
PROGRAMS_raft := raft/quorumfsd.c
PROGRAMS_fs := fs/quorumfs.c
PROGRAMS_sidecar := sidecar/quorumfs-grpc.c
PROGRAMS_tools := $(wildcard tools/quorumctl.c tools/quorumfs-load.c)

SRC_base := $(wildcard base/*.c)
SRC_tls := $(wildcard tls/*.c)
SRC_store := $(wildcard store/*.c)
SRC_proto := $(wildcard proto/*.c)
SRC_client := $(wildcard raft/client*.c)
SRC_raft := $(filter-out $(PROGRAMS_raft) $(SRC_client),$(wildcard raft/*.c))
SRC_fs := $(filter-out $(PROGRAMS_fs),$(wildcard fs/*.c))
SRC_sidecar := $(filter-out $(PROGRAMS_sidecar),$(wildcard sidecar/*.c))
SRC_tools := $(filter-out $(PROGRAMS_tools),$(wildcard tools/*.c))
PROTOS := $(wildcard proto/*.proto)
PB_C := $(PROTOS:proto/%.proto=$(BUILD)/proto/%.pb-c.c)
PB_H := $(PB_C:.c=.h)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB = $(BUILD)/lib$(1).a

PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(notdir $(wildcard $(PROGRAMS_raft) $(PROGRAMS_fs) $(PROGRAMS_sidecar)) $(PROGRAMS_tools)))

all: $(PROGRAMS)

help:
	@echo 'make            build quorumfsd, quorumfs, quorumfs-grpc, quorumctl into $(BUILD)/'
	@echo 'make unit       unit and property tests        make asan   the same under ASan and UBSan'
	@echo 'make tsan       those with threads, under TSan'
	@echo 'make sim        simulation (SEED=n replays)    make lint   layers, headers, formatting, spelling'
	@echo 'make check      ./check --no-install           make soak   the full figures, hours'
	@echo 'make install    PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)'

$(BUILD)/proto/%.pb-c.c $(BUILD)/proto/%.pb-c.h: proto/%.proto
	@mkdir -p $(BUILD)/proto
	$(say) PROTO $<
	$(Q)protoc-c --c_out=$(BUILD)/proto --proto_path=proto $<

$(BUILD)/obj/$(BUILD)/proto/%.o: $(BUILD)/proto/%.c
	@mkdir -p $(@D)
	$(say) CC $<
	$(Q)$(CC) $(ALL_CFLAGS) -Wno-error -w -c $< -o $@

$(BUILD)/obj/fs/%.o: fs/%.c
	@mkdir -p $(@D)
	$(say) CC $<
	$(Q)$(CC) $(ALL_CFLAGS) $(shell pkg-config --cflags fuse3) -c $< -o $@

$(BUILD)/obj/%.o: %.c | $(PB_H)
	@mkdir -p $(@D)
	$(say) CC $<
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@

define library
$(call LIB,$(1)): $(2)
	@rm -f $$@ && mkdir -p $$(@D)
	$(say) AR $$@
	$(Q)$(AR) rcs $$@ $$^
endef
$(eval $(call library,base,$(call obj,$(SRC_base))))
$(eval $(call library,tls,$(call obj,$(SRC_tls))))
$(eval $(call library,store,$(call obj,$(SRC_store))))
$(eval $(call library,proto,$(call obj,$(SRC_proto)) $(call obj,$(PB_C))))
$(eval $(call library,client,$(call obj,$(SRC_client))))
$(eval $(call library,node,$(call obj,$(SRC_raft))))
$(eval $(call library,fs,$(call obj,$(SRC_fs))))
$(eval $(call library,sidecar,$(call obj,$(SRC_sidecar))))
$(eval $(call library,tools,$(call obj,$(SRC_tools))))

LINK = $(CC) $(CFLAGS) $(SANITIZE_FLAGS) $(LDFLAGS) -pthread -o $@
CORE_LIBS := $(call LIB,client) $(call LIB,proto) $(call LIB,store) $(call LIB,base)

$(BUILD)/quorumfsd: $(BUILD)/obj/raft/quorumfsd.o $(call LIB,node) $(call LIB,tls) $(CORE_LIBS)
	$(say) LINK $@
	$(Q)$(LINK) $^ $(LIBS_node) $(LIBS_store) $(LIBS_proto)
$(BUILD)/quorumfs: $(BUILD)/obj/fs/quorumfs.o $(call LIB,fs) $(CORE_LIBS)
	$(say) LINK $@
	$(Q)$(LINK) $^ $(LIBS_fs) $(LIBS_store) $(LIBS_proto)
$(BUILD)/quorumfs-grpc: $(BUILD)/obj/sidecar/quorumfs-grpc.o $(call LIB,sidecar) $(call LIB,tls) $(CORE_LIBS)
	$(say) LINK $@
	$(Q)$(LINK) $^ $(LIBS_sidecar) $(LIBS_store) $(LIBS_proto)
$(BUILD)/quorumctl: $(BUILD)/obj/tools/quorumctl.o $(call LIB,tools) $(CORE_LIBS)
	$(say) LINK $@
	$(Q)$(LINK) $^ $(LIBS_tools) $(LIBS_store) $(LIBS_proto)
$(BUILD)/quorumfs-load: $(BUILD)/obj/tools/quorumfs-load.o $(call LIB,tools) $(CORE_LIBS)
	$(say) LINK $@
	$(Q)$(LINK) $^ -lnghttp2 -luv $(LIBS_tools) $(LIBS_store) $(LIBS_proto)

# ---- unit tests: one program a file; a comment "wrap: f g" in it names what the linker wraps ----
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/test_*.c))
TEST_LIBS := $(call LIB,sidecar) $(call LIB,fs) $(call LIB,tools) $(call LIB,node) $(call LIB,tls) $(CORE_LIBS)
libs: $(TEST_LIBS)
wraps = $(foreach f,$(shell sed -n 's/.*wrap: *\([A-Za-z0-9_ ]*\).*/\1/p' tests/unit/$(1).c),-Wl,--wrap=$(f))

$(BUILD)/obj/tests/unit/test_fs%.o: tests/unit/test_fs%.c | $(PB_H)
	@mkdir -p $(@D)
	$(say) CC $<
	$(Q)$(CC) $(ALL_CFLAGS) $(shell pkg-config --cflags fuse3) -c $< -o $@

$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(TEST_LIBS)
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(LINK) $< $(call wraps,$*) -Wl,--start-group $(TEST_LIBS) -Wl,--end-group -lcmocka \
		$(LIBS_node) $(LIBS_fs) $(LIBS_sidecar) $(LIBS_tools) $(LIBS_store) $(LIBS_proto) -lm

unit-build: $(UNIT)
unit: $(UNIT)
	@failed=0; for t in $(UNIT); do echo "== $$t"; $$t || failed=1; done; exit $$failed

asan:
	$(MAKE) BUILD=$(BUILD)/asan SANITIZE=address,undefined CFLAGS='-O1 -g' unit

# The unit tests whose programs have threads, under TSan.
THREADED := disk_posix env_uv node sidecar_grpc sidecar_watch store_kv
unit-threaded: $(THREADED:%=$(BUILD)/unit/test_%)
	@failed=0; for t in $^; do echo "== $$t"; $$t || failed=1; done; exit $$failed
tsan:
	$(MAKE) BUILD=$(BUILD)/tsan SANITIZE=thread CFLAGS='-O1 -g' unit-threaded

include $(wildcard tests/*/*.mk)

check:
	./check --no-install

soak:
	./check --no-install --soak

lint:
	tests/lint/run

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 0755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin/
	for m in $(wildcard docs/man/*.[18]); do \
		install -m 0644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/; done
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's,/usr/local,$(PREFIX),' packaging/systemd/quorumfsd.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/quorumfsd.service

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
.PHONY: all libs help unit unit-build asan check soak lint install clean
.SECONDARY:
