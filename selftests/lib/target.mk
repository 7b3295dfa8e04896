# SPDX-License-Identifier: GPL-2.0
# What every target has in common. TEST_GEN_PROGS and TEST_PROGS are set by
# the including Makefile; rules are those of the kernel's lib.mk.
POTLUCK := $(abspath $(dir $(lastword $(MAKEFILE_LIST)))/../..)
potluck-cache := $(or $(POTLUCK_CACHE),$(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/potluck)
potluck-ksrc := $(or $(KSRC),$(lastword $(sort $(filter-out %.tmp,$(wildcard $(potluck-cache)/src/linux-7.2*)))))
KSFT_DIR ?= $(potluck-ksrc)/tools/testing/selftests

# The kernel's kselftest headers are included as system headers: our own
# warnings are errors, theirs are theirs.
CFLAGS += -O2 -g -std=gnu11 -Wall -Wextra -Werror -Wno-sign-compare -Wno-format-truncation -pthread \
	-I$(POTLUCK)/include/uapi -I$(POTLUCK)/selftests/lib -isystem $(KSFT_DIR)
LOCAL_HDRS := $(wildcard $(POTLUCK)/selftests/lib/*.h $(POTLUCK)/include/uapi/linux/*.h)

ifneq ($(wildcard $(KSFT_DIR)/lib.mk),)
OUTPUT ?= $(CURDIR)
# Shell tests use the kernel's KTAP functions; in the guest there is no kernel tree.
TEST_GEN_FILES += ktap_helpers.sh
EXTRA_CLEAN += ktap_helpers.sh
include $(KSFT_DIR)/lib.mk
$(OUTPUT)/ktap_helpers.sh: $(KSFT_DIR)/kselftest/ktap_helpers.sh
	@cp $< $@
else
all:
	$(error no kselftest in '$(KSFT_DIR)': run kernel/build first, or set KSFT_DIR)
endif
