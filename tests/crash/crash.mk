# Crash states of the log and of the store's files (tests/crash/README.md). How many distinct ones:
CRASH_STATES ?= 20000
CRASH_STORE_STATES ?= 10000
CRASH_LIBS := $(call LIB,node) $(call LIB,base)

$(BUILD)/crash: $(call obj,tests/crash/crash.c tests/crash/disk_memory.c) $(CRASH_LIBS)
	$(LINK) $^
$(BUILD)/crash-store: $(call obj,tests/crash/store.c tests/crash/disk_memory.c) $(call LIB,store) $(call LIB,base)
	$(LINK) $^ $(LIBS_store)

# The runs themselves, and mutants, which they must catch. A mutant may end the program in any way.
crash: $(BUILD)/crash $(BUILD)/crash-store
	@CRASH_DIR=$$(mktemp -d "$$([ -w /dev/shm ] && echo /dev/shm || echo $${TMPDIR:-/tmp})/crash.XXXXXX"); \
	export CRASH_DIR; trap 'rm -rf "$$CRASH_DIR"' EXIT; \
	$(BUILD)/crash $(CRASH_STATES) && $(BUILD)/crash-store $(CRASH_STORE_STATES) || exit 1; \
	for m in 'crash sync' 'crash sync_dir' 'crash-store sync' 'crash-store sync_dir' 'crash-store boot' \
		'crash-store trim'; do \
		set -- $$m; \
		if ( exec $(BUILD)/$$1 100000 $$2 >$(BUILD)/$$1-$$2.out 2>&1 ) 2>/dev/null; then \
			echo "not ok - $$1: the mutant '$$2' survived"; cat $(BUILD)/$$1-$$2.out; exit 1; \
		else echo "ok - $$1: the mutant '$$2' is caught"; fi; done
.PHONY: crash
