# The benchmark of the mount beside a disk and a null FUSE file system: tests/bench/mount.
MOUNT_BENCH := $(BUILD)/bench/nullfs $(BUILD)/bench/mountload
$(BUILD)/obj/tests/bench/nullfs.o: CPPFLAGS += $(shell pkg-config --cflags fuse3)
$(BUILD)/bench/nullfs $(BUILD)/bench/mountload: $(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(LINK) $< $(LIBS_fs)

mount-bench-build: all $(MOUNT_BENCH)
mount-bench: mount-bench-build
	tests/bench/mount
.PHONY: mount-bench mount-bench-build
