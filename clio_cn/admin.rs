// SPDX-License-Identifier: GPL-2.0

//! What operators ask of the memory nodes of a map, through /dev/clio: what there is, and to drain
//! a node, move a region, end an address space, change a quota.
//!
//! Looking is for whoever may open the device; changing needs `CAP_SYS_ADMIN`.

mod abi;

use self::abi::{Drain, List, MemoryNode, Move, Quota, Region, Remove, Space};
use crate::{
    chores,
    control::{self, MAX_TABLE},
    core::control::{self as message, home_of, RasInfo, VA_BASE},
    lite::{self, Node},
    session::Session,
    uapi,
};
use kernel::{
    capability::{capable, Capability},
    prelude::*,
    transmute::AsBytes,
    uaccess::{UserPtr, UserSlice},
};

impl Session {
    /// Executes an ioctl of operators. `ENOTTY`: it is none.
    pub(crate) fn administer(&self, cmd: u32, arg: usize) -> Result {
        match cmd {
            abi::IOC_NODES => self.list_nodes(arg),
            abi::IOC_SPACES => self.list_spaces(arg),
            abi::IOC_REGIONS => self.list_regions(arg),
            abi::IOC_DRAIN => self.drain(arg),
            abi::IOC_MOVE => self.move_region(arg),
            abi::IOC_REMOVE => self.remove_space(arg),
            abi::IOC_QUOTA => self.change_quota(arg),
            _ => Err(ENOTTY),
        }
    }

    fn list_nodes(&self, arg: usize) -> Result {
        let list = read_list(arg)?;
        if list.ras != 0 {
            return Err(EINVAL);
        }
        let (up, down) = memory_nodes(self.node())?;
        let stats = control::ask_all(self.node(), &up, &message::Stat {}, list.timeout_ms)?;
        let mut nodes = KVVec::with_capacity(up.len() + down.len(), GFP_KERNEL)?;
        for (id, stat) in stats {
            nodes.push(describe_node(id, stat), GFP_KERNEL)?;
        }
        for id in down {
            nodes.push(describe_node(id, Err(EHOSTDOWN)), GFP_KERNEL)?;
        }
        nodes.sort_unstable_by_key(|node| node.id);
        copy_list(arg, list, &nodes)
    }

    fn list_spaces(&self, arg: usize) -> Result {
        let mut list = read_list(arg)?;
        if list.ras != 0 {
            return Err(EINVAL);
        }
        let (up, down) = memory_nodes(self.node())?;
        list.silent = down.len() as u32;
        let mut spaces = KVVec::new();
        for id in up {
            let had = spaces.len();
            if let Err(error) = spaces_of(self.node(), id, list.timeout_ms, &mut spaces) {
                if error == ENOMEM {
                    return Err(error);
                }
                spaces.truncate(had);
                list.silent += 1;
            }
        }
        copy_list(arg, list, &spaces)
    }

    fn list_regions(&self, arg: usize) -> Result {
        let list = read_list(arg)?;
        let table = chores::table(&self.station, list.ras, list.timeout_ms)?;
        let info = info_of(self.node(), list.ras, list.timeout_ms)?;
        let mut regions = KVVec::with_capacity(table.len(), GFP_KERNEL)?;
        for row in &table {
            let region = Region {
                addr: VA_BASE + (u64::from(row.index) << info.region_shift.min(32)),
                allowance: row.allowance,
                incarnation: row.incarnation,
                index: row.index,
                node: row.node.into(),
            };
            regions.push(region, GFP_KERNEL)?;
        }
        copy_list(arg, list, &regions)
    }

    fn drain(&self, arg: usize) -> Result {
        let drain: Drain = uapi::read(arg)?;
        if drain.reserved0 != 0 || drain.reserved != [0; 2] || drain.on > 1 {
            return Err(EINVAL);
        }
        may_change()?;
        let node = node_id(drain.node)?;
        let on = drain.on == 1;
        control::ask(self.node(), node, &message::Drain { on }, drain.timeout_ms)
    }

    fn move_region(&self, arg: usize) -> Result {
        let wish: Move = uapi::read(arg)?;
        if wish.reserved0 != 0 || wish.reserved != [0; 2] {
            return Err(EINVAL);
        }
        may_change()?;
        let to = u16::try_from(wish.to).map_err(|_| EINVAL)?;
        let (ras, index) = (wish.ras, wish.index);
        let part = message::Table { ras, from: index };
        let table = self.ask_home(ras, &part, wish.timeout_ms)?;
        let from = match table.regions.first() {
            Some(region) if region.index == index => region.node,
            _ => return Err(ENOENT),
        };
        match from {
            0 => Err(EIO),
            from if from == to => Err(EEXIST),
            from => {
                let migrate = message::Migrate { ras, index, to };
                control::ask(self.node(), from, &migrate, wish.timeout_ms)
            }
        }
    }

    fn remove_space(&self, arg: usize) -> Result {
        let remove: Remove = uapi::read(arg)?;
        if remove.flags & !abi::FORCE != 0 || remove.reserved != [0; 2] {
            return Err(EINVAL);
        }
        may_change()?;
        let request = message::Remove {
            ras: remove.ras,
            force: remove.flags & abi::FORCE != 0,
        };
        self.ask_home(remove.ras, &request, remove.timeout_ms)
    }

    fn change_quota(&self, arg: usize) -> Result {
        let quota: Quota = uapi::read(arg)?;
        if quota.reserved0 != 0 || quota.reserved != [0; 2] {
            return Err(EINVAL);
        }
        may_change()?;
        let request = message::Resize {
            ras: quota.ras,
            quota: quota.quota,
        };
        self.ask_home(quota.ras, &request, quota.timeout_ms)
    }

    fn ask_home<R: message::Request>(
        &self,
        ras: u64,
        request: &R,
        timeout_ms: u32,
    ) -> Result<R::Reply> {
        control::ask(self.node(), home_of(ras), request, timeout_ms)
    }
}

fn may_change() -> Result {
    if capable(Capability::SYS_ADMIN) {
        Ok(())
    } else {
        Err(EPERM)
    }
}

fn node_id(id: u32) -> Result<u16> {
    u16::try_from(id).ok().filter(|id| *id != 0).ok_or(EINVAL)
}

fn read_list(arg: usize) -> Result<List> {
    let list: List = uapi::read(arg)?;
    if list.silent != 0 || list.reserved0 != 0 || list.reserved != [0; 2] {
        return Err(EINVAL);
    }
    Ok(list)
}

/// Copies what was found, if there is room for it, and says how much it is.
fn copy_list<T: AsBytes>(arg: usize, mut list: List, found: &[T]) -> Result {
    let room = list.nr as usize;
    list.nr = u32::try_from(found.len()).map_err(|_| EOVERFLOW)?;
    if room < found.len() {
        uapi::write(arg, &list)?;
        return Err(ENOSPC);
    }
    let to = UserPtr::from_addr(usize::try_from(list.items).map_err(|_| EFAULT)?);
    let mut writer = UserSlice::new(to, size_of_val(found)).writer();
    for item in found {
        writer.write(item)?;
    }
    uapi::write(arg, &list)
}

/// Memory nodes of the map: those that are up, and those that are down.
fn memory_nodes(node: &Node) -> Result<(KVec<u16>, KVec<u16>)> {
    let (_, peers) = node.peers()?;
    let (mut up, mut down) = (KVec::new(), KVec::new());
    let serves = |peer: &&lite::Peer| peer.roles & lite::ROLE_MEMORY != 0;
    for peer in peers.iter().filter(serves) {
        match peer.state {
            lite::NODE_UP => up.push(peer.id, GFP_KERNEL)?,
            lite::NODE_OUT => {}
            _ => down.push(peer.id, GFP_KERNEL)?,
        }
    }
    Ok((up, down))
}

fn describe_node(id: u16, stat: Result<message::NodeStat>) -> MemoryNode {
    let id = id.into();
    let stat = match stat {
        Ok(stat) => stat,
        Err(error) => {
            return MemoryNode {
                id,
                error: error.to_errno(),
                ..MemoryNode::default()
            }
        }
    };
    let bytes = |pages: u64| pages << stat.page_shift.min(32);
    MemoryNode {
        id,
        error: 0,
        flags: if stat.draining { abi::DRAINING } else { 0 },
        port: stat.port.into(),
        incarnation: stat.incarnation,
        page_size: bytes(1),
        size: bytes(stat.pages),
        free: bytes(stat.free),
        promised: bytes(stat.promised),
        limit: bytes(stat.limit),
        allowance: stat.allowance,
        load: stat.load,
        regions: stat.regions,
        spaces: stat.spaces,
        reserved: [0; 2],
    }
}

/// Appends the address spaces whose home a node is.
fn spaces_of(node: &Node, home: u16, timeout_ms: u32, to: &mut KVVec<Space>) -> Result {
    each_space(node, home, 0, timeout_ms, |info| {
        to.push(describe_space(home, info), GFP_KERNEL)?;
        Ok(true)
    })
}

/// Calls `f` with the address spaces of a home whose ids are above `after`, until that is false.
fn each_space(
    node: &Node,
    home: u16,
    mut after: u64,
    timeout_ms: u32,
    mut f: impl FnMut(&RasInfo) -> Result<bool>,
) -> Result {
    for _ in 0..MAX_TABLE {
        let reply = control::ask(node, home, &message::List { after }, timeout_ms)?;
        for info in &reply.spaces {
            if !f(info)? {
                return Ok(());
            }
        }
        match reply.spaces.last() {
            Some(last) if reply.more && last.id > after => after = last.id,
            _ => return Ok(()),
        }
    }
    Err(EBUSY)
}

/// What the home of an address space knows of it.
fn info_of(node: &Node, ras: u64, timeout_ms: u32) -> Result<RasInfo> {
    let mut found = None;
    let before = ras.checked_sub(1).ok_or(ENOENT)?;
    each_space(node, home_of(ras), before, timeout_ms, |info| {
        found = Some(info.clone());
        Ok(false)
    })?;
    found.filter(|info| info.id == ras).ok_or(ENOENT)
}

fn describe_space(home: u16, info: &RasInfo) -> Space {
    let mut name = [0; uapi::NAME_MAX + 1];
    for (to, from) in name.iter_mut().zip(info.name.as_bytes()) {
        *to = *from;
    }
    Space {
        id: info.id,
        name,
        region_size: 1 << info.region_shift.min(32),
        quota: info.quota,
        granted: info.granted,
        version: info.version,
        home: home.into(),
        pin: info.pin.into(),
        owner: info.owner,
        regions: info.regions,
        attached: info.attached,
        reserved0: 0,
        reserved: [0; 2],
    }
}
