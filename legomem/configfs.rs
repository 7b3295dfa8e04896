// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/config/legomem: a directory for each memory node.
//!
//! Attributes can be written while it is off; `power` switches it on and off. The directory of one
//! that is on cannot be removed.

#[path = "../rdma_lite/configfs/text.rs"]
mod text;

use self::text::{number, number_in, show, switch, text};
use crate::{
    core::{board::Config, home::Life},
    node::MemoryNode,
    settings::Settings,
    workers::Queues,
};
use kernel::{
    configfs::{self, AttributeOperations, Directory, Group, Keep, Subsystem},
    configfs_attrs, new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    str::{BStr, CString},
    sync::{Arc, ArcBorrow, Mutex},
};

use crate::THIS_MODULE;

/// The directory of the module.
#[pin_data]
pub(crate) struct Root {
    queues: Arc<Queues>,
}

/// A memory node that is on, and what keeps its directory.
struct On {
    node: Arc<MemoryNode>,
    _kept: Keep,
}

struct State {
    settings: Settings,
    on: Option<On>,
}

/// The directory of a memory node.
#[pin_data]
pub(crate) struct NodeDirectory {
    name: CString,
    queues: Arc<Queues>,
    /// Also held while it is switched.
    #[pin]
    state: Mutex<State>,
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
    Subsystem::new(c"legomem", item_type, try_pin_init!(Root { queues }))
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
                node: 1,
                size: 2,
                page_size: 3,
                device: 4,
                udp_port: 5,
                overcommit: 6,
                dedup: 7,
                spaces: 8,
                power: 9,
                incarnation: 10,
            ],
        };
        if name.to_bytes().len() > 63 {
            return Err(ENAMETOOLONG);
        }
        let own: CString = name.try_into()?;
        let queues = self.queues.clone();
        let state = State {
            settings: Settings::new(),
            on: None,
        };
        Ok(Group::new(
            name.try_into()?,
            item_type,
            try_pin_init!(NodeDirectory {
                name: own,
                queues,
                state <- new_mutex!(state, "legomem_settings"),
            }),
        ))
    }

    fn drop_item(&self, child: ArcBorrow<'_, Group<NodeDirectory>>) {
        child.data().switch_off();
    }
}

impl NodeDirectory {
    /// Changes a setting; [`EBUSY`] while it is on.
    fn set(&self, change: impl FnOnce(&mut Settings) -> Result) -> Result {
        let mut state = self.state.lock();
        if state.on.is_some() {
            return Err(EBUSY);
        }
        change(&mut state.settings)
    }

    fn switch_on(&self, directory: &Directory<'_>) -> Result {
        let mut state = self.state.lock();
        if state.on.is_some() {
            return Ok(());
        }
        let kept = directory.keep()?;
        let node = MemoryNode::start(&self.name, &state.settings, &self.queues)?;
        state.on = Some(On { node, _kept: kept });
        Ok(())
    }

    fn switch_off(&self) {
        let mut state = self.state.lock();
        if let Some(on) = state.on.take() {
            on.node.stop();
            pr_info!("{}: off, and what it held is gone\n", &*self.name);
        }
    }

    fn life(state: &State) -> Option<Life> {
        state.on.as_ref().map(|on| on.node.me)
    }
}

macro_rules! attribute {
    ($id:literal, |$state:ident| $show:expr) => {
        #[vtable]
        impl AttributeOperations<$id> for NodeDirectory {
            type Data = NodeDirectory;

            fn show(this: &NodeDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
                let $state = this.state.lock();
                show(page, $show)
            }
        }
    };
    ($id:literal, |$state:ident| $show:expr, |$new:ident, $page:ident| $store:expr) => {
        #[vtable]
        impl AttributeOperations<$id> for NodeDirectory {
            type Data = NodeDirectory;

            fn show(this: &NodeDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
                let $state = &this.state.lock().settings;
                show(page, $show)
            }

            fn store(this: &NodeDirectory, $page: &[u8]) -> Result {
                this.set(|$new| $store)
            }
        }
    };
}

/// Largest pool: what the numbers of its pages can say.
const MAX_SIZE: u64 = 1 << 46;

attribute!(1, |s| fmt!("{}", BStr::from_bytes(&s.node)), |s, page| {
    s.node = text(page, 63)?;
    Ok(())
});
attribute!(2, |s| fmt!("{}", s.size), |s, page| {
    s.size = number_in(page, 0..=MAX_SIZE)?;
    Ok(())
});
attribute!(3, |s| fmt!("{}", 1u64 << s.page_shift), |s, page| {
    let size = number(page)?;
    let shift = size.trailing_zeros() as u8;
    if !size.is_power_of_two() || !Config::PAGE_SHIFT.contains(&shift) {
        return Err(EINVAL);
    }
    s.page_shift = shift;
    Ok(())
});
attribute!(4, |s| fmt!("{}", BStr::from_bytes(&s.device)), |s, page| {
    s.device = text(page, 255)?;
    Ok(())
});
attribute!(5, |s| fmt!("{}", s.udp_port), |s, page| {
    s.udp_port = number_in(page, 1..=65535)? as u16;
    Ok(())
});
attribute!(6, |s| fmt!("{}", s.overcommit), |s, page| {
    s.overcommit = number_in(page, 100..=1000)? as u32;
    Ok(())
});
attribute!(7, |s| fmt!("{}", s.dedup), |s, page| {
    s.dedup = number_in(page, 64..=1 << 24)? as u32;
    Ok(())
});
attribute!(8, |s| fmt!("{}", s.spaces), |s, page| {
    s.spaces = number_in(page, 1..=1 << 20)? as u32;
    Ok(())
});
attribute!(10, |state| fmt!(
    "{}",
    NodeDirectory::life(&state).map_or(0, |life| life.incarnation)
));

#[vtable]
impl AttributeOperations<9> for NodeDirectory {
    type Data = NodeDirectory;

    fn show(this: &NodeDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
        show(page, fmt!("{}", u8::from(this.state.lock().on.is_some())))
    }

    fn store_at(this: &NodeDirectory, page: &[u8], directory: &Directory<'_>) -> Result {
        if switch(page)? {
            this.switch_on(directory)
        } else {
            this.switch_off();
            Ok(())
        }
    }
}
