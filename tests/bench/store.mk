# The store alone beside bare LMDB: make bench-store [BENCH_DIR=directory on the disk to measure] [BENCH_KEYS=10000000]
BENCH_DIR ?= $(BUILD)
BENCH_KEYS ?= 10000000
$(BUILD)/bench-store: $(call obj,tests/bench/store.c) $(call LIB,store) $(call LIB,base)
	$(LINK) $^ $(LIBS_store)
bench-store: $(BUILD)/bench-store
	@d=$$(mktemp -d $(BENCH_DIR)/bench-store.XXXXXX) && $(BUILD)/bench-store $$d $(BENCH_KEYS); s=$$?; rm -rf $$d; exit $$s
# Shows that it runs.
bench-store-quick: $(BUILD)/bench-store
	@$(MAKE) -s bench-store BENCH_KEYS=1000
.PHONY: bench-store bench-store-quick
