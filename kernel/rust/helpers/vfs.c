// SPDX-License-Identifier: GPL-2.0

#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/namei.h>
#include <linux/pgtable.h>
#include <linux/uidgid.h>

__rust_helper loff_t rust_helper_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

__rust_helper void rust_helper_i_size_write(struct inode *inode, loff_t size)
{
	i_size_write(inode, size);
}

__rust_helper bool rust_helper_inode_is_new(struct inode *inode)
{
	return inode_state_read_once(inode) & I_NEW;
}

__rust_helper void rust_helper_inode_lock(struct inode *inode)
{
	inode_lock(inode);
}

__rust_helper void rust_helper_inode_unlock(struct inode *inode)
{
	inode_unlock(inode);
}

__rust_helper struct timespec64
rust_helper_inode_set_atime_to_ts(struct inode *inode, struct timespec64 ts)
{
	return inode_set_atime_to_ts(inode, ts);
}

__rust_helper struct timespec64
rust_helper_inode_set_mtime_to_ts(struct inode *inode, struct timespec64 ts)
{
	return inode_set_mtime_to_ts(inode, ts);
}

__rust_helper bool rust_helper_sb_rdonly(const struct super_block *sb)
{
	return sb_rdonly(sb);
}

/* A path walk under RCU may not sleep. */
__rust_helper bool rust_helper_lookup_is_rcu(unsigned int flags)
{
	return flags & LOOKUP_RCU;
}

__rust_helper ssize_t rust_helper_generic_write_sync(struct kiocb *iocb,
						     ssize_t count)
{
	return generic_write_sync(iocb, count);
}

__rust_helper kuid_t rust_helper_current_fsuid(void)
{
	return current_fsuid();
}

__rust_helper kgid_t rust_helper_current_fsgid(void)
{
	return current_fsgid();
}

#ifndef CONFIG_USER_NS
/* Functions of their own where there are user namespaces. */
__rust_helper kuid_t rust_helper_make_kuid(struct user_namespace *ns, uid_t uid)
{
	return make_kuid(ns, uid);
}

__rust_helper kgid_t rust_helper_make_kgid(struct user_namespace *ns, gid_t gid)
{
	return make_kgid(ns, gid);
}

__rust_helper gid_t rust_helper_from_kgid(struct user_namespace *ns, kgid_t kgid)
{
	return from_kgid(ns, kgid);
}
#endif

__rust_helper unsigned long rust_helper_zero_pfn(unsigned long addr)
{
	return zero_pfn(addr);
}
