// SPDX-License-Identifier: GPL-2.0

#include <linux/blkdev.h>
#include <linux/dax.h>
#include <linux/string.h>

__rust_helper struct block_device *rust_helper_file_bdev(struct file *bdev_file)
{
	return file_bdev(bdev_file);
}

__rust_helper loff_t rust_helper_bdev_nr_bytes(struct block_device *bdev)
{
	return bdev_nr_bytes(bdev);
}

__rust_helper void rust_helper_memcpy_flushcache(void *dst, const void *src,
						 size_t cnt)
{
	memcpy_flushcache(dst, src, cnt);
}

/* Order flushes and non-temporal stores before later stores. */
__rust_helper void rust_helper_wmb(void)
{
	wmb(); /* the caller says what it orders */
}
