// SPDX-License-Identifier: GPL-2.0
/*
 * The symbols that other modules use. They are written in Rust (abi.rs); only
 * C can export them from an external module.
 */
#include <linux/export.h>
#include <linux/rdma_lite.h>
#include <linux/sched.h>
#include <linux/thread_info.h>

void lite_yield_or_relax(void);

/*
 * One round of a task that polls: whoever else wants this processor gets it.
 * A lazy request counts too, as it would have to wait for the next tick.
 */
void lite_yield_or_relax(void)
{
	if (need_resched() || test_thread_flag(TIF_NEED_RESCHED_LAZY))
		schedule();
	else
		cpu_relax();
}

EXPORT_SYMBOL_GPL(lite_node_get);
EXPORT_SYMBOL_GPL(lite_node_get_net);
EXPORT_SYMBOL_GPL(lite_node_put);
EXPORT_SYMBOL_GPL(lite_node_net);
EXPORT_SYMBOL_GPL(lite_node_id);
EXPORT_SYMBOL_GPL(lite_node_incarnation);
EXPORT_SYMBOL_GPL(lite_node_epoch);
EXPORT_SYMBOL_GPL(lite_node_cluster);
EXPORT_SYMBOL_GPL(lite_node_max_msg);
EXPORT_SYMBOL_GPL(lite_node_timeout_ms);
EXPORT_SYMBOL_GPL(lite_node_peers);
EXPORT_SYMBOL_GPL(lite_peer_address);
EXPORT_SYMBOL_GPL(lite_port_register);
EXPORT_SYMBOL_GPL(lite_port_unregister);
EXPORT_SYMBOL_GPL(lite_map_notify_register);
EXPORT_SYMBOL_GPL(lite_map_notify_unregister);
EXPORT_SYMBOL_GPL(lite_call);
EXPORT_SYMBOL_GPL(lite_multicast);
EXPORT_SYMBOL_GPL(lite_malloc);
EXPORT_SYMBOL_GPL(lite_map);
EXPORT_SYMBOL_GPL(lite_unmap);
EXPORT_SYMBOL_GPL(lite_free);
EXPORT_SYMBOL_GPL(lite_grant);
EXPORT_SYMBOL_GPL(lite_region_set_high);
EXPORT_SYMBOL_GPL(lite_read);
EXPORT_SYMBOL_GPL(lite_write);
EXPORT_SYMBOL_GPL(lite_memset);
EXPORT_SYMBOL_GPL(lite_memmove);
EXPORT_SYMBOL_GPL(lite_fetch_add);
EXPORT_SYMBOL_GPL(lite_compare_swap);
EXPORT_SYMBOL_GPL(lite_lock);
EXPORT_SYMBOL_GPL(lite_unlock);
EXPORT_SYMBOL_GPL(lite_barrier);
