// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/config/rdma_lite: a directory for each node.
//!
//! Attributes can be written while the node is off; `power` switches it on and off. The directory of
//! a node that is on cannot be removed.

mod class;
mod limits;
mod text;

use self::text::{number, number_in, show, switch, text, trimmed};
use crate::{
    core::{wire::RingAddress, Policy},
    host::{Ip, Queues},
    node::{Node, DEVICE_NAME},
};
use ::core::net::{IpAddr, Ipv4Addr};
use kernel::{
    configfs::{self, AttributeOperations, Directory, Group, Subsystem},
    configfs_attrs, fmt,
    page::PAGE_SIZE,
    prelude::*,
    str::BStr,
    sync::{Arc, ArcBorrow},
};

use crate::THIS_MODULE;

/// The directory of the module.
#[pin_data]
pub(crate) struct Root {
    queues: Arc<Queues>,
}

/// The directory of a node.
#[pin_data]
pub(crate) struct NodeDirectory {
    node: Arc<Node>,
}

/// Registers the directory of the module.
pub(crate) fn subsystem(queues: Arc<Queues>) -> impl PinInit<Subsystem<Root>, Error> {
    let item_type = configfs_attrs! {
        container: Subsystem<Root>,
        data: Root,
        child: NodeDirectory,
        attributes: [
            version: 0,
        ],
    };
    Subsystem::new(c"rdma_lite", item_type, try_pin_init!(Root { queues }))
}

#[vtable]
impl AttributeOperations<0> for Root {
    type Data = Root;

    fn show(_root: &Root, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
        show(page, fmt!("{}", crate::core::wire::VERSION))
    }
}

#[vtable]
impl configfs::GroupOperations for Root {
    type Child = NodeDirectory;

    fn make_group(&self, name: &CStr) -> Result<impl PinInit<Group<NodeDirectory>, Error>> {
        let item_type = configfs_attrs! {
            container: Group<NodeDirectory>,
            data: NodeDirectory,
            attributes: [
                id: 1,
                addr: 2,
                port: 3,
                device: 4,
                cluster: 5,
                ring_size: 6,
                heartbeat_ms: 7,
                timeout_ms: 8,
                direct_min: 9,
                power: 10,
                state: 11,
                epoch: 12,
                incarnation: 13,
                poll_us: 20,
                transport: 21,
                memory_limit: 24,
                memory_used: 25,
                unsafe_global_rkey: 26,
                user_handles: 30,
                user_calls: 31,
                user_bytes: 32,
                user_memory: 33,
                high_share: 34,
                high_users: 35,
                queue_pairs: 36,
            ],
        };
        if name.to_bytes().len() > 63 {
            return Err(ENAMETOOLONG);
        }
        let queues = &self.queues;
        Ok(Group::new(
            name.try_into()?,
            item_type,
            // Last, when there is memory for the directory: what drops the directory drops the node, too.
            try_pin_init!(NodeDirectory {
                node: Node::make(name, queues)?,
            }),
        ))
    }

    fn drop_item(&self, child: ArcBorrow<'_, Group<NodeDirectory>>) {
        child.data().node.remove();
    }
}

/// Parses a uuid; [`EINVAL`] for the nil one too.
fn uuid(text: &str) -> Result<[u8; 16]> {
    let mut bytes = [0u8; 16];
    let mut digits = 0;
    for (at, c) in text.chars().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if c != '-' {
                return Err(EINVAL);
            }
            continue;
        }
        let digit = c.to_digit(16).ok_or(EINVAL)? as u8;
        let byte = bytes.get_mut(digits / 2).ok_or(EINVAL)?;
        *byte = *byte << 4 | digit;
        digits += 1;
    }
    if digits != 32 || text.len() != 36 || bytes == [0; 16] {
        return Err(EINVAL);
    }
    Ok(bytes)
}

struct Uuid<'a>(&'a [u8; 16]);

impl fmt::Display for Uuid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

macro_rules! attribute {
    ($id:literal, |$node:ident, $settings:ident| $show:expr) => {
        #[vtable]
        impl AttributeOperations<$id> for NodeDirectory {
            type Data = NodeDirectory;

            fn show(this: &NodeDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
                let $node = &this.node;
                let $settings = $node.settings();
                let _ = &$settings;
                show(page, $show)
            }
        }
    };
    (
        $id:literal, |$node:ident, $settings:ident| $show:expr,
        |$new:ident, $page:ident| $store:expr
    ) => {
        #[vtable]
        impl AttributeOperations<$id> for NodeDirectory {
            type Data = NodeDirectory;

            fn show(this: &NodeDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
                let $node = &this.node;
                let $settings = $node.settings();
                let _ = &$settings;
                show(page, $show)
            }

            fn store(this: &NodeDirectory, $page: &[u8]) -> Result {
                this.node.set(|$new| $store)
            }
        }
    };
}

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
/// A caller that looks for its answer longer than this had better sleep.
const MAX_POLL_US: u64 = 100_000;
/// What is shown while no address is set.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// Periods and deadlines: up to an hour.
const MAX_MS: u64 = 3_600_000;

attribute!(1, |node, s| fmt!("{}", s.id), |s, page| {
    s.id = number_in(page, 1..=65535)? as u16;
    Ok(())
});
attribute!(
    2,
    |node, s| fmt!("{}", Ip(s.addr.unwrap_or(NO_ADDRESS))),
    |s, page| {
        s.addr = Some(trimmed(page)?.parse().map_err(|_| EINVAL)?);
        Ok(())
    }
);
attribute!(3, |node, s| fmt!("{}", s.port), |s, page| {
    s.port = number_in(page, 1..=65535)? as u16;
    Ok(())
});
attribute!(
    4,
    |node, s| fmt!("{}", BStr::from_bytes(s.device())),
    |s, page| s.set_device(&text(page, DEVICE_NAME)?)
);
attribute!(5, |node, s| fmt!("{}", Uuid(&s.cluster)), |s, page| {
    s.cluster = uuid(trimmed(page)?)?;
    Ok(())
});
attribute!(
    6,
    |node, s| fmt!("{}", 1u64 << s.config.ring_log2),
    |s, page| {
        let size = number(page)?;
        let log2 = size.trailing_zeros() as u8;
        // A ring is one piece of memory under one region: 512 pages is what rxe takes.
        if !size.is_power_of_two() || !RingAddress::SIZE_LOG2.contains(&log2) || log2 > 21 {
            return Err(EINVAL);
        }
        s.config.ring_log2 = log2;
        Ok(())
    }
);
attribute!(
    7,
    |node, s| fmt!("{}", s.config.heartbeat / MS),
    |s, page| {
        s.config.heartbeat = number_in(page, 1..=MAX_MS)? * MS;
        Ok(())
    }
);
attribute!(8, |node, s| fmt!("{}", s.timeout_ms), |s, page| {
    s.timeout_ms = number_in(page, 1..=MAX_MS)? as u32;
    Ok(())
});
attribute!(9, |node, s| fmt!("{}", s.config.direct_min), |s, page| {
    s.config.direct_min = number_in(page, 1..=u32::MAX.into())? as u32;
    Ok(())
});
attribute!(20, |node, s| fmt!("{}", s.config.poll / US), |s, page| {
    s.config.poll = number_in(page, 0..=MAX_POLL_US)? * US;
    Ok(())
});
attribute!(
    21,
    |_node, s| match s.policy {
        Policy::Verbs => fmt!("verbs"),
        Policy::Auto => fmt!("auto"),
    },
    |s, page| {
        s.policy = match trimmed(page)? {
            "verbs" => Policy::Verbs,
            "auto" => Policy::Auto,
            "guests" => {
                pr_warn!(
                    "transport guests is not supported: only nodes of one kernel share memory\n"
                );
                return Err(EOPNOTSUPP);
            }
            _ => return Err(EINVAL),
        };
        Ok(())
    }
);
attribute!(11, |node, s| match node.host() {
    Ok(_) => fmt!("on"),
    Err(_) => fmt!("off"),
});
attribute!(12, |node, s| fmt!(
    "{}",
    node.host().map_or(0, |host| host.epoch())
));
attribute!(24, |node, s| fmt!("{}", s.memory_limit), |s, page| {
    s.memory_limit = number(page)?;
    Ok(())
});
attribute!(25, |node, s| fmt!(
    "{}",
    node.host().map_or(0, |host| host.regions.used())
));
attribute!(
    26,
    |_node, s| fmt!("{}", u8::from(s.unsafe_global_rkey)),
    |s, page| {
        s.unsafe_global_rkey = switch(page)?;
        Ok(())
    }
);
attribute!(13, |node, s| fmt!("{}", node.incarnation()));

#[vtable]
impl AttributeOperations<10> for NodeDirectory {
    type Data = NodeDirectory;

    fn show(this: &NodeDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
        show(page, fmt!("{}", u8::from(this.node.host().is_ok())))
    }

    fn store_at(this: &NodeDirectory, page: &[u8], directory: &Directory<'_>) -> Result {
        let on = switch(page)?;
        let _power = this.node.power.lock();
        if on == this.node.host().is_ok() {
            return Ok(());
        }
        if on {
            this.node.switch_on(directory)?;
        } else {
            this.node.switch_off();
        }
        Ok(())
    }
}
