# The benchmark: figures for docs/bench.md; bench-quick only shows that it runs.
bench: all
	tests/bench/run
bench-quick: all
	tests/bench/run --quick
.PHONY: bench bench-quick
