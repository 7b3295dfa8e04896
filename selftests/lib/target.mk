# SPDX-License-Identifier: GPL-2.0
# What every target has in common; included before the kernel's lib.mk rules.
# TEST_GEN_PROGS and TEST_PROGS are set by the including Makefile.
POTLUCK ?= $(abspath $(CURDIR)/../..)

ifeq ($(KSFT_DIR),)
$(error KSFT_DIR: set it to <linux>/tools/testing/selftests, or run make -C selftests)
endif

# The kernel's kselftest headers are included as system headers: our own
# warnings are errors, theirs are theirs.
CFLAGS += -O2 -g -std=gnu11 -Wall -Wextra -Werror -Wno-sign-compare -pthread \
	-I$(POTLUCK)/include/uapi -I$(POTLUCK)/selftests/lib -isystem $(KSFT_DIR)
LOCAL_HDRS := $(wildcard $(POTLUCK)/selftests/lib/*.h) $(wildcard $(POTLUCK)/include/uapi/linux/*.h)

include $(KSFT_DIR)/lib.mk
