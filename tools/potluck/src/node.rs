// SPDX-License-Identifier: GPL-2.0

//! The nodes of this kernel: their configfs directories, their /dev/rdma_lite
//! and their mounts.

use crate::{lab, map, netns, uapi};
use anyhow::{bail, Context, Result};
use nix::errno::Errno;
use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::Duration,
};

pub const CONFIGFS: &str = "/sys/kernel/config/rdma_lite";
pub const DEVICE: &str = "/dev/rdma_lite";

/// One node that lives in this kernel.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    /// None: the namespace that we are in.
    pub namespace: Option<String>,
    pub mount: Option<PathBuf>,
    /// A memory node of the lab: programs do not run there.
    pub memory: bool,
}

/// A namespace operation that hangs for longer than this is a fault.
const PATIENCE: Duration = Duration::from_secs(30);

impl Node {
    /// The nodes of the lab, or else those that configfs has: on a machine
    /// without a lab, that is the node of this namespace.
    pub fn all() -> Result<Vec<Node>> {
        if let Some(lab) = lab::State::load()? {
            return Ok(lab
                .nodes
                .iter()
                .map(|n| Node {
                    name: n.name.clone(),
                    namespace: Some(n.namespace.clone()),
                    mount: hotpot_mount(&n.name),
                    memory: n.memory,
                })
                .collect());
        }
        let mut nodes: Vec<_> = names()
            .into_iter()
            .map(|name| Node {
                mount: hotpot_mount(&name),
                name,
                namespace: None,
                memory: false,
            })
            .collect();
        match nodes.len() {
            0 => bail!(
                "no node here: neither a lab (potluck lab up N) nor a directory in {CONFIGFS}"
            ),
            1 => Ok(nodes),
            _ => {
                // Several nodes, but not made by us: only that of this namespace can be asked.
                let own = nodes[0].with_device(|file| Ok(info(file)?))?;
                let name = uapi::name_text(&own.name);
                nodes.retain(|n| n.name == name);
                Ok(nodes)
            }
        }
    }

    /// All, or those named.
    pub fn select(names: &[String]) -> Result<Vec<Node>> {
        let all = Node::all()?;
        if names.is_empty() {
            return Ok(all);
        }
        names
            .iter()
            .map(|name| {
                all.iter()
                    .find(|n| n.name == *name)
                    .cloned()
                    .with_context(|| {
                        let known: Vec<_> = all.iter().map(|n| n.name.as_str()).collect();
                        format!("no node {name} here; there are {}", known.join(", "))
                    })
            })
            .collect()
    }

    /// Those that programs run on: all but memory nodes, or those named.
    pub fn select_compute(names: &[String]) -> Result<Vec<Node>> {
        let mut nodes = Node::select(names)?;
        if names.is_empty() {
            nodes.retain(|n| !n.memory);
        }
        Ok(nodes)
    }

    /// Opens /dev/rdma_lite as this node.
    pub fn with_device<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&File) -> Result<T> + Send + 'static,
    {
        self.with_file(DEVICE, work)
    }

    /// Opens a device that acts for the node of the opener's namespace.
    pub fn with_file<T, F>(&self, device: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&File) -> Result<T> + Send + 'static,
    {
        netns::within(self.namespace.as_deref(), PATIENCE, move || {
            let file = File::options()
                .read(true)
                .write(true)
                .open(device)
                .with_context(|| {
                    format!(
                        "cannot open {device} (is its module loaded, and the node switched on?)"
                    )
                })?;
            work(&file)
        })
        .with_context(|| format!("node {}", self.name))
    }

    pub fn map(&self) -> Result<map::Map> {
        self.with_device(|file| Ok(get_map(file)?))
    }

    pub fn publish(&self, map: &map::Map) -> Result<()> {
        let map = map.clone();
        self.with_device(move |file| {
            let epoch = map.epoch;
            set_map(file, &map)
                .with_context(|| format!("the map with epoch {epoch} was refused"))?;
            Ok(())
        })
    }

    /// Round trip in ns.
    pub fn ping(&self, peer: u32, timeout_ms: u32) -> Result<u64> {
        self.with_device(move |file| {
            let mut ping = uapi::Ping {
                node: peer,
                len: 64,
                timeout_ms,
                ..Default::default()
            };
            // SAFETY: `ping` is the struct of this ioctl and outlives the call.
            unsafe { uapi::rdma_lite_ping(file.as_raw_fd(), &mut ping) }
                .with_context(|| format!("node {peer} does not answer a ping"))?;
            Ok(ping.rtt_ns)
        })
    }

    /// A configfs attribute, without the newline.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let path = Path::new(CONFIGFS).join(&self.name).join(name);
        Some(fs::read_to_string(path).ok()?.trim_end().to_string())
    }
}

/// Directories that configfs has.
pub fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(CONFIGFS) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_by_key(|n| (n.len(), n.clone()));
    names
}

/// One line of /proc/mounts.
#[derive(Debug, Eq, PartialEq)]
pub struct Mount {
    pub source: String,
    pub target: PathBuf,
    pub options: Vec<String>,
}

/// The hotpot mounts in a text in the form of /proc/mounts.
pub fn parse_mounts(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let source = words.next()?.to_string();
            let target = PathBuf::from(words.next()?.replace("\\040", " "));
            if words.next()? != "hotpot" {
                return None;
            }
            let options = words.next()?.split(',').map(str::to_string).collect();
            Some(Mount {
                source,
                target,
                options,
            })
        })
        .collect()
}

pub fn hotpot_mounts() -> Vec<Mount> {
    parse_mounts(&fs::read_to_string("/proc/mounts").unwrap_or_default())
}

fn hotpot_mount(node: &str) -> Option<PathBuf> {
    let option = format!("node={node}");
    hotpot_mounts()
        .into_iter()
        .find(|m| m.options.contains(&option))
        .map(|m| m.target)
}

pub fn info(file: &File) -> nix::Result<uapi::NodeInfo> {
    let mut info = uapi::NodeInfo::default();
    // SAFETY: `info` is the struct of this ioctl and outlives the call.
    unsafe { uapi::rdma_lite_info(file.as_raw_fd(), &mut info) }?;
    Ok(info)
}

fn set_map(file: &File, map: &map::Map) -> nix::Result<()> {
    let nodes: Vec<uapi::MapNode> = map.nodes.iter().map(map::Node::to_uapi).collect();
    let arg = uapi::Map {
        epoch: map.epoch,
        nr_nodes: nodes.len() as u32,
        nodes: nodes.as_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: `arg` points to `nr_nodes` entries, and both outlive the call.
    unsafe { uapi::rdma_lite_set_map(file.as_raw_fd(), &arg) }?;
    Ok(())
}

fn get_map(file: &File) -> nix::Result<map::Map> {
    let mut nodes = vec![uapi::MapNode::default(); 16];
    loop {
        let mut arg = uapi::Map {
            nr_nodes: nodes.len() as u32,
            nodes: nodes.as_mut_ptr() as u64,
            ..Default::default()
        };
        // SAFETY: `arg` points to room for `nr_nodes` entries, and both outlive the call.
        match unsafe { uapi::rdma_lite_get_map(file.as_raw_fd(), &mut arg) } {
            Ok(_) => {
                nodes.truncate(arg.nr_nodes as usize);
                return Ok(map::Map {
                    epoch: arg.epoch,
                    nodes: nodes.iter().map(map::Node::from_uapi).collect(),
                });
            }
            Err(Errno::ENOSPC) if arg.nr_nodes as usize > nodes.len() => {
                nodes.resize(arg.nr_nodes as usize, uapi::MapNode::default());
            }
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hotpot_mounts_are_found() {
        let text = "/dev/pmem0 /mnt/n1 hotpot rw,relatime,node=n1,replicas=2 0 0\n\
                    tmpfs /run tmpfs rw 0 0\n\
                    /dev/pmem1 /mnt/a\\040b hotpot rw,node=n2 0 0\nodd\n";
        let mounts = parse_mounts(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].source, "/dev/pmem0");
        assert!(mounts[0].options.contains(&"node=n1".to_string()));
        assert_eq!(mounts[1].target, Path::new("/mnt/a b"));
    }
}
