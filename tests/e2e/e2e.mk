# The C programs that the end-to-end tests run beside the daemon: build/e2e/NAME from tests/e2e/NAME.c.
E2E_PROGRAMS := $(patsubst tests/e2e/%.c,$(BUILD)/e2e/%,$(wildcard tests/e2e/*.c))

$(BUILD)/e2e/%: $(BUILD)/obj/tests/e2e/%.o $(CORE_LIBS)
	@mkdir -p $(@D)
	$(LINK) $< -Wl,--start-group $(CORE_LIBS) -Wl,--end-group $(LIBS_tools) $(LIBS_store) $(LIBS_proto)

e2e-build: all $(E2E_PROGRAMS)
.PHONY: e2e-build
