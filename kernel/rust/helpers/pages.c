// SPDX-License-Identifier: GPL-2.0

#include <linux/io.h>
#include <linux/mm.h>

__rust_helper void *rust_helper_page_address(const struct page *page)
{
	return page_address(page);
}

__rust_helper unsigned long rust_helper_virt_to_pfn(const void *address)
{
	return PHYS_PFN(virt_to_phys((void *)address));
}
