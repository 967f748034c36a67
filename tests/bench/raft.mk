# The node alone, with an in-process proposer: make bench-raft [BENCH_DIR=directory on the disk to measure] [SECONDS_EACH=5]
# [ELECTIONS=100]; bench-raft-quick only shows that it runs.
SECONDS_EACH ?= 5
ELECTIONS ?= 100
$(BUILD)/bench-raft: $(call obj,tests/bench/raft.c) $(call LIB,node) $(call LIB,tls) $(CORE_LIBS)
	$(LINK) $(call obj,tests/bench/raft.c) -Wl,--start-group $(call LIB,node) $(call LIB,tls) $(CORE_LIBS) -Wl,--end-group \
		$(LIBS_node) $(LIBS_store) $(LIBS_proto)
run_bench_raft = d=$$(mktemp -d $(BENCH_DIR)/bench-raft.XXXXXX) && $(BUILD)/bench-raft $$d $(1); s=$$?; rm -rf $$d; [ $$s -eq 0 ]
bench-raft: $(BUILD)/bench-raft
	@echo '| nodes | depth | operations/s | p50 ms | p99 ms | CPU us/op | kB written/op | fdatasync/s | operations/fdatasync |'
	@echo '| --- | --- | --- | --- | --- | --- | --- | --- | --- |'
	@$(call run_bench_raft,1 $(SECONDS_EACH))
	@$(call run_bench_raft,3 $(SECONDS_EACH))
	@$(call run_bench_raft,3 0 $(ELECTIONS))
bench-raft-quick: $(BUILD)/bench-raft
	@$(call run_bench_raft,1 0.2)
	@$(call run_bench_raft,3 0.2 3)
.PHONY: bench-raft bench-raft-quick
