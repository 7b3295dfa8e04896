# SPDX-License-Identifier: GPL-2.0
# `make help` says what there is. The work is done by kernel/build and tools/*.

FLAVOUR ?= base
export FLAVOUR

BUILD := kernel/build

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@echo 'Potluck. FLAVOUR=base|debug|kasan (now: $(FLAVOUR)), KSRC=DIR, JOBS=N, POTLUCK_CACHE=DIR'
	@sed -n -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-22s %s\n", $$1, $$2 }'

.PHONY: root source kernel modules rust-analyzer tools host-tests selftests shell
root: ## the trixie root that builds everything and that guests run
	@$(BUILD) root
source: ## the kernel source from Debian's linux-source-7.2
	@$(BUILD) source
kernel: ## the patched kernel of this FLAVOUR
	@$(BUILD) kernel
modules: ## the external modules for this FLAVOUR (CLIPPY=1 to lint)
	@$(BUILD) modules
rust-analyzer: ## rust-project.json for kernel and modules
	@$(BUILD) rust-analyzer
tools: ## potluck, mkfs.hotpot, fsck.hotpot
	@$(BUILD) tools
host-tests: ## its tests, with cargo nextest
	@$(BUILD) host-tests
selftests: ## the selftests' own programs
	@$(BUILD) selftests
shell: ## a shell in the root
	@$(BUILD) shell

SOAK_ROUNDS = $(or $(ROUNDS),500)
# Half a minute for each round, whatever else the machine does.
SOAK_SECONDS = $(shell echo $$((600 + 30 * $(SOAK_ROUNDS))))

.PHONY: test test-all test-crash soak demo bench lint guest
test: ## everything that can fail: host tests, KUnit, selftests; last line N passed, N failed
	@tools/test
test-all: ## every selftest program, 20 times as many seeds, power failures
	@TARGETS=all CUTS=5 CRASH=all GUEST_PMEM=4x256M GUEST_TIMEOUT=7200 POTLUCK_ROUNDS=200 POTLUCK_NODES=64 POTLUCK_SEEDS=20 POTLUCK_SHM=all SHARED=yes tools/test
test-crash: ## nodes of a cluster of guests are killed, ROUNDS=N (default 20) times, SEED=N
	@FLAVOUR=$(FLAVOUR) $(BUILD) modules
	@$(BUILD) tools
	@$(BUILD) selftests
	@selftests/campaign --flavour $(FLAVOUR) --rounds $(or $(ROUNDS),20) $(if $(SEED),--seed $(SEED))
soak: ## rdma_lite: ROUNDS=N (default 500) of load, join, traffic, leave, unload leak nothing
	@$(BUILD) modules
	@$(BUILD) tools
	@$(BUILD) selftests
	@tools/guest run --flavour $(FLAVOUR) --mem 4G --timeout $(SOAK_SECONDS) --name soak -- \
		env POTLUCK_ROUNDS=$(SOAK_ROUNDS) POTLUCK_LIMIT=$(SOAK_SECONDS) selftests/run rdma_lite:modules.sh
demo: ## three nodes share persistent memory, narrated
	@FLAVOUR=base $(BUILD) modules
	@$(BUILD) tools
	@tools/demo/run
bench: ## our figures beside the peers', as ratios; table, JSON and SVG in build/bench
	@tools/bench
lint: ## rustfmt, clippy, checkpatch, shellcheck
	@tools/lint
guest: ## an interactive guest with three pmem devices
	@$(BUILD) modules
	@tools/guest run --flavour $(FLAVOUR) --pmem 3x256M --timeout 86400 --interactive

.PHONY: clean clean-cache
clean: ## remove build/ (the cache stays)
	rm -rf build rust-project.json
clean-cache: ## remove the cached kernel trees, not downloads and root
	@$(BUILD) clean-cache
