# The simulation: whole nodes in one process. It links the daemon's own objects; the linker's --wrap counts which
# branches are reached and spoils the driver for the mutants.
SIM_SRC := $(wildcard tests/sim/*.c)
SIM := $(BUILD)/sim/sim
SEEDS ?= 200
SIM_WRAP := $(shell grep -o '__wrap_[a-z_]*' tests/sim/cover.c | sort -u | sed 's/__wrap_/-Wl,--wrap=/')

$(SIM): $(call obj,$(SIM_SRC)) $(call LIB,node) $(CORE_LIBS)
	@mkdir -p $(@D)
	$(LINK) $(call obj,$(SIM_SRC)) $(SIM_WRAP) -Wl,--start-group $(call LIB,node) $(CORE_LIBS) -Wl,--end-group \
		$(LIBS_node) $(LIBS_store) $(LIBS_proto)

# make sim SEED=n replays one seed (twice, and compares the traces); V=-v tells what happens
sim: $(SIM)
	SEEDS= $(SIM) $(V) $(if $(SEED),$(SEED),1)
# make sim-run SEEDS=n [SEED=first]
sim-run: $(SIM)
	SEED= $(SIM) -n $(SEEDS) $(if $(SEED),$(SEED),1)
# make sim-soak MINUTES=n [SEED=first]
MINUTES ?= 30
sim-soak: $(SIM)
	SEED= SEEDS= $(SIM) -t $$(($(MINUTES) * 60)) $(if $(SEED),$(SEED),1)
# Each spoilt driver must be found out within so many seeds, by a broken promise or an assertion.
MUTANT_SEEDS ?= $(if $(QUORUMFS_SOAK),1000,300)
sim-mutants: $(SIM)
	@for m in $$($(SIM) -l); do \
		$(SIM) -m $$m -n $(MUTANT_SEEDS) 1 > $(BUILD)/sim/$$m.txt 2>&1; s=$$?; \
		if [ $$s -eq 0 ]; then echo "sim: mutant $$m survived $(MUTANT_SEEDS) seeds"; exit 1; \
		elif ! grep -qE '^sim: FAILED; replay|Assertion' $(BUILD)/sim/$$m.txt; then \
			cat $(BUILD)/sim/$$m.txt; echo "sim: mutant $$m survived: it ended with status $$s, but broke no promise"; exit 1; \
		else echo "sim: mutant $$m found: $$(grep -m 1 -v '^sim: node' $(BUILD)/sim/$$m.txt)"; fi; done
.PHONY: sim sim-run sim-soak sim-mutants
