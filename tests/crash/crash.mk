# Crash states of the log (tests/crash/README.md). CRASH_STATES: how many distinct ones.
CRASH_STATES ?= 20000
CRASH_LIBS := $(call LIB,node) $(call LIB,base)

$(BUILD)/crash: $(call obj,tests/crash/crash.c tests/crash/disk_memory.c) $(CRASH_LIBS)
	$(LINK) $^

# The run itself, and then two mutants, which it must catch.
crash: $(BUILD)/crash
	$(BUILD)/crash $(CRASH_STATES)
	@for m in sync sync_dir; do \
		if $(BUILD)/crash 100000 $$m >$(BUILD)/crash-$$m.out 2>&1; then \
			echo "not ok - the mutant '$$m' survived"; cat $(BUILD)/crash-$$m.out; exit 1; \
		else echo "ok - the mutant '$$m' is caught"; grep -m1 VIOLATION $(BUILD)/crash-$$m.out; fi; done
.PHONY: crash
