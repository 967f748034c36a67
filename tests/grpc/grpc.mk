# The service of grpc's interoperability tests over our gRPC layer, for tests/e2e/grpc.
$(BUILD)/e2e/grpc-testservice: $(BUILD)/obj/tests/grpc/testservice.o $(call LIB,sidecar) $(call LIB,tls) $(CORE_LIBS)
	@mkdir -p $(@D)
	$(LINK) $< -Wl,--start-group $(call LIB,sidecar) $(call LIB,tls) $(CORE_LIBS) -Wl,--end-group $(LIBS_sidecar) $(LIBS_store) $(LIBS_proto)

e2e-build: $(BUILD)/e2e/grpc-testservice
