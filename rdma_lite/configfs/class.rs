// SPDX-License-Identifier: GPL-2.0

//! Classes of service: what the high one gets (`high_share`) and how many queue pairs a connection has
//! (`queue_pairs`), while the node is off; which users may ask for it (`high_users`), at any time.

use super::{
    text::{number_in, show, trimmed},
    NodeDirectory,
};
use crate::core::{lanes, Share};
use kernel::{
    configfs::AttributeOperations,
    fmt::{self, Write as _},
    page::PAGE_SIZE,
    prelude::*,
    str::Formatter,
};

/// Users that may be named.
const MOST_USERS: usize = 256;

#[vtable]
impl AttributeOperations<34> for NodeDirectory {
    type Data = NodeDirectory;

    fn show(this: &NodeDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
        show(
            page,
            fmt!("{}", this.node.settings().config.share.percent()),
        )
    }

    fn store(this: &NodeDirectory, page: &[u8]) -> Result {
        let percent = number_in(page, 0..=100)? as u8;
        this.node.set(|settings| {
            settings.config.share = Share::new(percent)?;
            Ok(())
        })
    }
}

#[vtable]
impl AttributeOperations<36> for NodeDirectory {
    type Data = NodeDirectory;

    fn show(this: &NodeDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
        show(page, fmt!("{}", this.node.settings().config.lanes))
    }

    fn store(this: &NodeDirectory, page: &[u8]) -> Result {
        let lanes = number_in(page, 1..=lanes::MOST as u64)? as u8;
        this.node.set(|settings| {
            settings.config.lanes = lanes;
            Ok(())
        })
    }
}

#[vtable]
impl AttributeOperations<35> for NodeDirectory {
    type Data = NodeDirectory;

    fn show(this: &NodeDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
        let mut writer = Formatter::new(page);
        this.node.users.with_high(|users| -> fmt::Result {
            for (at, uid) in users.iter().enumerate() {
                let before = if at == 0 { "" } else { " " };
                write!(writer, "{before}{uid}")?;
            }
            writer.write_str("\n")
        })?;
        Ok(writer.bytes_written())
    }

    fn store(this: &NodeDirectory, page: &[u8]) -> Result {
        let mut users = KVec::new();
        for uid in trimmed(page)?.split_whitespace() {
            if users.len() == MOST_USERS || !uid.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(EINVAL);
            }
            users.push(uid.parse().map_err(|_| EINVAL)?, GFP_KERNEL)?;
        }
        this.node.users.set_high(users);
        Ok(())
    }
}
