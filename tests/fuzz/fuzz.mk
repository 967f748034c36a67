# Fuzzing of every parser of outside bytes (tests/fuzz/README.md).
#   make fuzz-replay          the corpus, under ASan and UBSan, without libFuzzer
#   make fuzz SECONDS=60      libFuzzer (clang) on each target, or on FUZZ=log; tools/install-packages fuzz has what it needs
#   make fuzz-seeds           writes the seeds of the corpus anew
FUZZ ?= $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
SECONDS ?= 60
FUZZ_LIBS := $(call LIB,sidecar) $(call LIB,fs) $(call LIB,tools) $(call LIB,node) $(call LIB,tls) $(CORE_LIBS)
FUZZ_LINK := -Wl,--start-group $(FUZZ_LIBS) -Wl,--end-group $(LIBS_node) $(LIBS_sidecar) $(LIBS_tools) $(LIBS_store) $(LIBS_proto)
# A build with sanitizers of its own, unless this one has them already. `make asan` uses the same objects.
FUZZ_REPLAY := $(if $(SANITIZE),$(BUILD),$(BUILD)/asan)

$(BUILD)/fuzz/replay_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(call obj,tests/fuzz/replay.c tests/crash/disk_memory.c) $(FUZZ_LIBS)
	@mkdir -p $(@D)
	$(LINK) $(filter %.o,$^) $(FUZZ_LINK)
$(BUILD)/fuzz/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(call obj,tests/crash/disk_memory.c) $(FUZZ_LIBS)
	@mkdir -p $(@D)
	$(LINK) -fsanitize=fuzzer $(filter %.o,$^) $(FUZZ_LINK)
$(BUILD)/fuzz/seeds: $(call obj,$(wildcard tests/fuzz/seeds*.c) tests/crash/disk_memory.c) $(FUZZ_LIBS)
	@mkdir -p $(@D)
	$(LINK) $(filter %.o,$^) $(FUZZ_LINK)

fuzz-replay-here: $(FUZZ:%=$(BUILD)/fuzz/replay_%) $(BUILD)/fuzz/seeds
	@for t in $(FUZZ); do \
		if $(BUILD)/fuzz/replay_$$t tests/fuzz/corpus/$$t >$(BUILD)/fuzz/$$t.out 2>&1; then \
			echo "ok - fuzz $$t: $$(tail -n 1 $(BUILD)/fuzz/$$t.out)"; \
		else echo "not ok - fuzz $$t"; tail -n 40 $(BUILD)/fuzz/$$t.out; exit 1; fi; done
fuzz-replay:
	$(MAKE) BUILD=$(FUZZ_REPLAY) SANITIZE=address,undefined CFLAGS='-O1 -g' fuzz-replay-here

fuzz-here: $(FUZZ:%=$(BUILD)/fuzz/fuzz_%)
	@mkdir -p $(FUZZ:%=$(BUILD)/fuzz/found/%)
	@for t in $(FUZZ); do echo "== $$t"; \
		$(BUILD)/fuzz/fuzz_$$t -max_total_time=$(SECONDS) -max_len=20000 -timeout=10 -rss_limit_mb=2000 \
			-print_final_stats=1 -artifact_prefix=$(BUILD)/fuzz/found/$$t- \
			$(BUILD)/fuzz/found/$$t tests/fuzz/corpus/$$t 2>&1 | tail -n 25 | tee $(BUILD)/fuzz/$$t.log \
			| grep -E '^(ERROR|SUMMARY|#[0-9]+.*DONE|stat::|.*must hold|Test unit)|runtime error'; \
		if ls $(BUILD)/fuzz/found/$$t-* >/dev/null 2>&1; then cat $(BUILD)/fuzz/$$t.log; exit 1; fi; done
# An empty slice is NULL and 0, and NULL + 0 is what clang's pointer-overflow complains of.
CLANG ?= clang
fuzz:
	@command -v $(CLANG) >/dev/null || { echo 'make fuzz: there is no $(CLANG) here: tools/install-packages fuzz' >&2; exit 1; }
	@echo 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return 0; }' | \
		$(CLANG) -x c -fsanitize=fuzzer,address,undefined -o /dev/null - 2>/dev/null || { \
		echo 'make fuzz: $(CLANG) is here without libFuzzer and sanitizers (libclang-rt-dev): tools/install-packages fuzz' >&2; \
		exit 1; }
	$(MAKE) BUILD=$(BUILD)/fuzzer CC=$(CLANG) SANITIZE=fuzzer-no-link,address,undefined \
		CFLAGS='-O1 -g' CPPFLAGS=-fno-sanitize=pointer-overflow fuzz-here

fuzz-seeds: $(BUILD)/fuzz/seeds
	$(BUILD)/fuzz/seeds tests/fuzz/corpus
.PHONY: fuzz fuzz-here fuzz-replay fuzz-replay-here fuzz-seeds
