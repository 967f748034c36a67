# The C programs that the end-to-end tests run beside the daemon: build/e2e/NAME from tests/e2e/NAME.c.
E2E_PROGRAMS := $(patsubst tests/e2e/%.c,$(BUILD)/e2e/%,$(wildcard tests/e2e/*.c))

$(BUILD)/e2e/%: $(BUILD)/obj/tests/e2e/%.o $(CORE_LIBS)
	@mkdir -p $(@D)
	$(LINK) $< -Wl,--start-group $(CORE_LIBS) -Wl,--end-group $(LIBS_tools) $(LIBS_store) $(LIBS_proto)

# Preloaded into a daemon: a disk that is slow or fails, clocks that jump.
$(BUILD)/e2e/shim.so: tests/e2e/shim/shim.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -Wall -Wextra -Werror -fPIC -shared -o $@ $< -ldl

e2e-build: all $(E2E_PROGRAMS) $(BUILD)/e2e/shim.so
.PHONY: e2e-build
