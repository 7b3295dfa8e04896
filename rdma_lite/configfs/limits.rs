// SPDX-License-Identifier: GPL-2.0

//! `user_*`: the most that one user may have. These can be written at any time; what there is stays.

use super::{
    text::{number, show},
    NodeDirectory,
};
use kernel::{
    configfs::AttributeOperations,
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::Relaxed, //
};

macro_rules! limit {
    ($id:literal, $name:ident) => {
        #[vtable]
        impl AttributeOperations<$id> for NodeDirectory {
            type Data = NodeDirectory;

            fn show(this: &NodeDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
                let limit = this.node.users.limits.$name.load(Relaxed);
                show(page, fmt!("{limit}"))
            }

            fn store(this: &NodeDirectory, page: &[u8]) -> Result {
                this.node.users.limits.$name.store(number(page)?, Relaxed);
                Ok(())
            }
        }
    };
}

limit!(30, handles);
limit!(31, calls);
limit!(32, bytes);
limit!(33, memory);
