// SPDX-License-Identifier: GPL-2.0

//! What memory nodes are asked, through the /dev/clio of a node that is here.

use crate::{
    map,
    node::Node,
    uapi::{self, clio},
};
use anyhow::{bail, Context, Result};
use nix::{errno::Errno, libc::c_int};
use std::{
    fs::File,
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

pub const DEVICE: &str = "/dev/clio";

/// Between two looks at something that is awaited.
const AGAIN: Duration = Duration::from_millis(200);

/// A node here, and its map.
pub struct Client {
    node: Node,
    map: map::Map,
}

/// What a new address space is to be.
pub struct Wish {
    pub name: String,
    pub key: [u64; 2],
    pub quota: u64,
    pub region_size: u64,
    pub home: u32,
}

type Lister = unsafe fn(c_int, *mut clio::List) -> nix::Result<c_int>;

impl Client {
    /// Acts for the first node here that is not a memory node.
    pub fn new() -> Result<Client> {
        let node = Node::select_compute(&[])?
            .into_iter()
            .next()
            .context("there are only memory nodes here")?;
        let map = node.map()?;
        Ok(Client { node, map })
    }

    pub fn nodes(&self) -> Result<Vec<clio::MemoryNode>> {
        Ok(self.list(clio::nodes, 0)?.0)
    }

    /// Address spaces, and how many memory nodes did not tell theirs.
    pub fn spaces(&self) -> Result<(Vec<clio::Space>, u32)> {
        self.list(clio::spaces, 0)
    }

    pub fn regions(&self, ras: u64) -> Result<Vec<clio::Region>> {
        Ok(self.list(clio::regions, ras)?.0)
    }

    /// The address space of a name or an id.
    pub fn space(&self, wanted: &str) -> Result<clio::Space> {
        let (spaces, silent) = self.spaces()?;
        match find_space(&spaces, wanted) {
            Err(error) if silent != 0 => {
                Err(error.context(format!("{silent} memory nodes did not answer")))
            }
            found => found,
        }
    }

    pub fn create(&self, wish: Wish) -> Result<u64> {
        let mut ras = clio::Ras {
            name: uapi::name_field(&wish.name).context("a name has 1 to 63 bytes")?,
            key: wish.key,
            quota: wish.quota,
            region_size: wish.region_size,
            home: wish.home,
            timeout_ms: 0,
            id: 0,
            reserved: [0; 4],
        };
        self.ask(move |fd| {
            // SAFETY: `ras` is the struct of this ioctl and outlives the call.
            unsafe { clio::create(fd, &mut ras) }.map_err(|errno| match errno {
                Errno::EEXIST => hint(errno, "there is an address space of this name"),
                Errno::EINVAL => hint(errno, "a region has 16M to 1G, a power of two"),
                Errno::ENOSPC => hint(errno, "no memory node has room"),
                _ => explain(errno),
            })?;
            Ok(ras.id)
        })
    }

    pub fn drain(&self, node: u32, on: bool) -> Result<()> {
        let drain = clio::Drain {
            node,
            on: on.into(),
            ..Default::default()
        };
        self.ask(move |fd| {
            // SAFETY: `drain` is the struct of this ioctl and outlives the call.
            unsafe { clio::drain(fd, &drain) }.map_err(explain)?;
            Ok(())
        })
    }

    pub fn move_region(&self, ras: u64, index: u32, to: u32) -> Result<()> {
        let wish = clio::Move {
            ras,
            index,
            to,
            ..Default::default()
        };
        self.ask(move |fd| {
            // SAFETY: `wish` is the struct of this ioctl and outlives the call.
            unsafe { clio::move_region(fd, &wish) }.map_err(|errno| match errno {
                Errno::ENOENT => hint(errno, "there is no such region"),
                Errno::EEXIST => hint(errno, "the region is there already"),
                Errno::EIO => hint(errno, "the region was lost with its memory node"),
                Errno::EBUSY => hint(errno, "its memory node moves another region: try again"),
                _ => explain(errno),
            })?;
            Ok(())
        })
    }

    pub fn remove(&self, ras: u64, force: bool) -> Result<()> {
        let remove = clio::Remove {
            ras,
            flags: if force { clio::REMOVE_FORCE } else { 0 },
            ..Default::default()
        };
        self.ask(move |fd| {
            // SAFETY: `remove` is the struct of this ioctl and outlives the call.
            unsafe { clio::remove(fd, &remove) }.map_err(|errno| match errno {
                Errno::EBUSY => hint(errno, "nodes are attached to it; --force does not mind"),
                _ => explain(errno),
            })?;
            Ok(())
        })
    }

    pub fn resize(&self, ras: u64, quota: u64) -> Result<()> {
        let quota = clio::Quota {
            ras,
            quota,
            ..Default::default()
        };
        self.ask(move |fd| {
            // SAFETY: `quota` is the struct of this ioctl and outlives the call.
            unsafe { clio::quota(fd, &quota) }.map_err(|errno| match errno {
                Errno::EBUSY => hint(errno, "its regions were given more than that"),
                Errno::EINVAL => hint(errno, "a quota is more than nothing"),
                _ => explain(errno),
            })?;
            Ok(())
        })
    }

    /// The id of the node of a name or an id.
    pub fn node_id(&self, wanted: &str) -> Result<u32> {
        let id = wanted.parse().ok();
        let found = |n: &&map::Node| n.name == wanted || Some(n.id) == id;
        match self.map.nodes.iter().find(found) {
            Some(node) if node.roles.contains(&map::Role::Memory) => Ok(node.id),
            Some(node) => bail!("{} is not a memory node", node.name),
            None => bail!("the map has no node {wanted}"),
        }
    }

    /// What the map calls a node.
    pub fn node_name(&self, id: u32) -> String {
        let found = self.map.nodes.iter().find(|n| n.id == id);
        found.map_or_else(|| format!("node {id}"), |n| n.name.clone())
    }

    fn ask<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(c_int) -> Result<T> + Send + 'static,
    {
        self.node
            .with_file(DEVICE, move |file: &File| work(file.as_raw_fd()))
    }

    fn list<T>(&self, lister: Lister, ras: u64) -> Result<(Vec<T>, u32)>
    where
        T: Clone + Default + Send + 'static,
    {
        self.ask(move |fd| {
            let mut items = vec![T::default(); 32];
            loop {
                let mut list = clio::List {
                    items: items.as_mut_ptr() as u64,
                    nr: items.len() as u32,
                    ras,
                    ..Default::default()
                };
                // SAFETY: `list` points to room for `nr` items of this ioctl's struct, and both
                // outlive the call.
                match unsafe { lister(fd, &mut list) } {
                    Ok(_) => {
                        items.truncate(list.nr as usize);
                        return Ok((items, list.silent));
                    }
                    Err(Errno::ENOSPC) if list.nr as usize > items.len() => {
                        items.resize(list.nr as usize, T::default());
                    }
                    Err(errno) => return Err(explain(errno)),
                }
            }
        })
    }
}

fn find_space(spaces: &[clio::Space], wanted: &str) -> Result<clio::Space> {
    let id = wanted
        .strip_prefix("0x")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let mut found = spaces
        .iter()
        .filter(|space| uapi::name_text(&space.name) == wanted || Some(space.id) == id);
    match (found.next(), found.next()) {
        (Some(space), None) => Ok(*space),
        (Some(_), Some(_)) => bail!("several address spaces are called {wanted}: give the id"),
        _ => bail!("no address space {wanted}; potluck mem spaces lists them"),
    }
}

fn hint(errno: Errno, text: &'static str) -> anyhow::Error {
    anyhow::Error::new(errno).context(text)
}

/// What an errno of any of these ioctls means to the one who typed the command.
fn explain(errno: Errno) -> anyhow::Error {
    let text = match errno {
        Errno::ENOTTY => "this build of clio_cn does not have it",
        Errno::EPERM => "only the superuser may do that",
        Errno::ENOENT => "there is none (any more)",
        Errno::EHOSTDOWN => "the memory node that has to answer is down; see potluck mem nodes",
        Errno::ETIMEDOUT => "no answer by the deadline",
        Errno::ESTALE => "this node lives in an old epoch: publish the newest map to it",
        _ => return anyhow::Error::new(errno),
    };
    hint(errno, text)
}

/// Looks again and again until it is so; false when `seconds` are over.
pub fn wait_until(seconds: f64, mut is_so: impl FnMut() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    loop {
        if is_so()? {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        thread::sleep(AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(id: u64, name: &str) -> clio::Space {
        clio::Space {
            id,
            name: uapi::name_field(name).unwrap(),
            ..Default::default()
        }
    }

    #[test]
    fn a_space_is_found_by_name_or_by_id() {
        let spaces = [space(0x3_0000, "words"), space(0x4_0000, "0x30000")];
        assert_eq!(find_space(&spaces, "words").unwrap().id, 0x3_0000);
        assert_eq!(find_space(&spaces, "0x40000").unwrap().id, 0x4_0000);
        assert!(find_space(&spaces, "word").is_err());
        let error = find_space(&spaces, "0x30000").unwrap_err().to_string();
        assert!(error.contains("several"), "{error}");
    }

    #[test]
    fn waiting_ends_with_what_is_awaited_or_with_the_time() {
        let mut left = 2;
        let mut look = || {
            left -= 1;
            Ok(left == 0)
        };
        assert!(wait_until(60.0, &mut look).unwrap());
        assert!(!wait_until(0.0, || Ok(false)).unwrap());
        assert!(wait_until(60.0, || bail!("gone")).is_err());
    }
}
