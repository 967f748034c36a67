# The log alone against its disk: make bench-log [BENCH_DIR=directory on the disk to measure]
BENCH_DIR ?= $(BUILD)
$(BUILD)/bench-log: $(call obj,tests/bench/log.c) $(call LIB,node) $(call LIB,base)
	$(LINK) $^
bench-log: $(BUILD)/bench-log
	@d=$$(mktemp -d $(BENCH_DIR)/bench-log.XXXXXX) && $(BUILD)/bench-log $$d; s=$$?; rm -rf $$d; exit $$s
.PHONY: bench-log
