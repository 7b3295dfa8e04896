// SPDX-License-Identifier: GPL-2.0

/* crc32c() is a function of its own: nothing to wrap. */
#include <linux/crc32.h>
