// SPDX-License-Identifier: GPL-2.0

#ifdef CONFIG_BLOCK

#include <linux/blkdev.h>

__rust_helper unsigned int rust_helper_disk_openers(struct gendisk *disk)
{
	return disk_openers(disk);
}

#endif /* CONFIG_BLOCK */
