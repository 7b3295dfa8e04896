// SPDX-License-Identifier: GPL-2.0

//! The user ABI of include/uapi/linux/{rdma_lite,hotpot,clio}.h, field by field.
//! The tests compare sizes and ioctl numbers with what a C compiler makes of
//! these headers.

#![allow(missing_docs)]

pub mod clio;

/// State of a node in the map (`enum rdma_lite_node_state`).
pub mod node_state {
    pub const UP: u32 = 1;
    pub const DOWN: u32 = 2;
    pub const OUT: u32 = 3;
}

/// Roles of a node in the map (`RDMA_LITE_ROLE_*`).
pub mod role {
    pub const HOTPOT: u32 = 1 << 0;
    pub const HOTPOT_CD: u32 = 1 << 1;
    pub const MEMORY: u32 = 1 << 2;
}

/// `enum rdma_lite_event_type`.
pub mod event_type {
    pub const SUSPECT: u32 = 1;
    pub const ALIVE: u32 = 2;
    pub const MAP: u32 = 3;
    pub const FENCED: u32 = 4;
    pub const LOST: u32 = 5;
}

/// `enum rdma_lite_suspect_reason`.
pub mod suspect_reason {
    pub const HEARTBEAT: u32 = 1;
    pub const TIMEOUT: u32 = 2;
    pub const DISCONNECT: u32 = 3;
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MapNode {
    pub id: u32,
    pub state: u32,
    pub roles: u32,
    pub port: u16,
    pub family: u16,
    pub incarnation: u64,
    pub addr: [u8; 16],
    pub name: [u8; 64],
    pub reserved: [u64; 2],
}

impl Default for MapNode {
    fn default() -> Self {
        MapNode {
            id: 0,
            state: 0,
            roles: 0,
            port: 0,
            family: 0,
            incarnation: 0,
            addr: [0; 16],
            name: [0; 64],
            reserved: [0; 2],
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Map {
    pub epoch: u64,
    pub nr_nodes: u32,
    pub flags: u32,
    pub nodes: u64,
    pub reserved: [u64; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    pub kind: u32,
    pub node: u32,
    pub reason: u32,
    pub reserved: u32,
    pub epoch: u64,
    pub incarnation: u64,
    pub time_ns: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NodeInfo {
    pub abi_version: u32,
    pub id: u32,
    pub epoch: u64,
    pub incarnation: u64,
    pub name: [u8; 64],
    pub cluster: [u8; 16],
    pub reserved: [u64; 4],
}

impl Default for NodeInfo {
    fn default() -> Self {
        NodeInfo {
            abi_version: 0,
            id: 0,
            epoch: 0,
            incarnation: 0,
            name: [0; 64],
            cluster: [0; 16],
            reserved: [0; 4],
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Ping {
    pub node: u32,
    pub len: u32,
    pub timeout_ms: u32,
    pub flags: u32,
    pub rtt_ns: u64,
    pub reserved: [u64; 2],
}

pub const RDMA_LITE_ABI_VERSION: u32 = 1;

nix::ioctl_read!(rdma_lite_info, 0xB6, 0, NodeInfo);
nix::ioctl_write_ptr!(rdma_lite_set_map, 0xB6, 1, Map);
nix::ioctl_readwrite!(rdma_lite_get_map, 0xB6, 2, Map);
nix::ioctl_readwrite!(rdma_lite_ping, 0xB6, 3, Ping);

/// `enum hotpot_mode`.
pub mod mode {
    pub const MRMW: u32 = 1;
    pub const MRSW: u32 = 2;
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    pub replicas: u32,
    pub mode: u32,
    pub chunk_size: u64,
    pub reserve: u64,
    pub reserved: [u64; 4],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Chunk {
    pub owner: u32,
    pub nr_local: u32,
    pub nr_dirty: u32,
    pub nr_pages: u32,
    pub min_replicas: u32,
    pub reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DatasetInfo {
    pub id: u64,
    pub base: u64,
    pub size: u64,
    pub reserve: u64,
    pub chunk_size: u64,
    pub epoch: u64,
    pub chunks: u64,
    pub nr_chunks: u32,
    pub replicas: u32,
    pub mode: u32,
    pub node: u32,
    pub nr_committed: u64,
    pub nr_redundant: u64,
    pub nr_dirty: u64,
    pub nr_missing: u64,
    pub nr_came: u64,
    pub nr_left: u64,
    pub nr_stayed: u64,
    pub reserved: [u64; 4],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Barrier {
    pub name: [u8; 64],
    pub count: u32,
    pub timeout_ms: u32,
    pub reserved: [u64; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Scrub {
    pub page: u64,
    pub nr_pages: u32,
    pub timeout_ms: u32,
    pub flags: u32,
    pub done: u32,
    pub checked: u64,
    pub healed: u64,
    pub dropped: u64,
    pub lost: u64,
    pub waiting: u64,
    pub reserved: [u64; 4],
}

nix::ioctl_write_ptr!(hotpot_setup, 0xB7, 1, Setup);
nix::ioctl_readwrite!(hotpot_info, 0xB7, 2, DatasetInfo);
nix::ioctl_write_ptr!(hotpot_barrier, 0xB7, 3, Barrier);
nix::ioctl_readwrite!(hotpot_scrub, 0xB7, 7, Scrub);

/// A NUL-terminated name field; `None` when it does not fit with its NUL.
pub fn name_field(name: &str) -> Option<[u8; 64]> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= 64 || bytes.contains(&0) {
        return None;
    }
    let mut field = [0; 64];
    field[..bytes.len()].copy_from_slice(bytes);
    Some(field)
}

/// The text before the first NUL.
pub fn name_text(field: &[u8]) -> String {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{mem::size_of, process::Command};

    /// What the C compiler says, as "name value" lines; `None` without a compiler.
    fn from_headers() -> Option<Vec<(String, usize)>> {
        let include = concat!(env!("CARGO_MANIFEST_DIR"), "/../../include/uapi");
        let dir = std::env::temp_dir().join(format!("potluck-uapi-{}", std::process::id()));
        std::fs::create_dir_all(&dir).ok()?;
        let source = dir.join("sizes.c");
        let binary = dir.join("sizes");
        std::fs::write(
            &source,
            r#"
            #include <stdio.h>
            #include <linux/clio.h>
            #include <linux/hotpot.h>
            #include <linux/rdma_lite.h>
            #define S(x) printf("%s %zu\n", #x, sizeof(struct x))
            #define N(x) printf("%s %zu\n", #x, (size_t)(x))
            int main(void)
            {
                S(rdma_lite_map_node); S(rdma_lite_map); S(rdma_lite_event);
                S(rdma_lite_info); S(rdma_lite_ping); S(hotpot_setup);
                S(hotpot_chunk); S(hotpot_info); S(hotpot_barrier); S(hotpot_scrub);
                S(clio_ras); S(clio_memory_node); S(clio_space); S(clio_region);
                S(clio_list); S(clio_drain); S(clio_move); S(clio_remove); S(clio_quota);
                N(RDMA_LITE_IOC_INFO); N(RDMA_LITE_IOC_SET_MAP);
                N(RDMA_LITE_IOC_GET_MAP); N(RDMA_LITE_IOC_PING);
                N(HOTPOT_IOC_SETUP); N(HOTPOT_IOC_INFO); N(HOTPOT_IOC_BARRIER);
                N(HOTPOT_IOC_SCRUB);
                N(CLIO_IOC_CREATE); N(CLIO_IOC_NODES); N(CLIO_IOC_SPACES);
                N(CLIO_IOC_REGIONS); N(CLIO_IOC_DRAIN); N(CLIO_IOC_MOVE);
                N(CLIO_IOC_REMOVE); N(CLIO_IOC_QUOTA);
                return 0;
            }"#,
        )
        .ok()?;
        let built = Command::new("cc")
            .arg("-I")
            .arg(include)
            .arg(&source)
            .arg("-o")
            .arg(&binary)
            .output()
            .ok()?;
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        let out = Command::new(&binary).output().ok()?;
        let _ = std::fs::remove_dir_all(&dir);
        let text = String::from_utf8(out.stdout).ok()?;
        text.lines()
            .map(|line| {
                let (name, value) = line.split_once(' ')?;
                Some((name.to_string(), value.parse().ok()?))
            })
            .collect()
    }

    #[test]
    fn structs_and_numbers_are_those_of_the_headers() {
        let Some(expected) = from_headers() else {
            eprintln!("no C compiler here: not compared");
            return;
        };
        let ours = [
            ("rdma_lite_map_node", size_of::<MapNode>()),
            ("rdma_lite_map", size_of::<Map>()),
            ("rdma_lite_event", size_of::<Event>()),
            ("rdma_lite_info", size_of::<NodeInfo>()),
            ("rdma_lite_ping", size_of::<Ping>()),
            ("hotpot_setup", size_of::<Setup>()),
            ("hotpot_chunk", size_of::<Chunk>()),
            ("hotpot_info", size_of::<DatasetInfo>()),
            ("hotpot_barrier", size_of::<Barrier>()),
            ("hotpot_scrub", size_of::<Scrub>()),
            ("clio_ras", size_of::<clio::Ras>()),
            ("clio_memory_node", size_of::<clio::MemoryNode>()),
            ("clio_space", size_of::<clio::Space>()),
            ("clio_region", size_of::<clio::Region>()),
            ("clio_list", size_of::<clio::List>()),
            ("clio_drain", size_of::<clio::Drain>()),
            ("clio_move", size_of::<clio::Move>()),
            ("clio_remove", size_of::<clio::Remove>()),
            ("clio_quota", size_of::<clio::Quota>()),
            (
                "RDMA_LITE_IOC_INFO",
                nix::request_code_read!(0xB6, 0, size_of::<NodeInfo>()) as usize,
            ),
            (
                "RDMA_LITE_IOC_SET_MAP",
                nix::request_code_write!(0xB6, 1, size_of::<Map>()) as usize,
            ),
            (
                "RDMA_LITE_IOC_GET_MAP",
                nix::request_code_readwrite!(0xB6, 2, size_of::<Map>()) as usize,
            ),
            (
                "RDMA_LITE_IOC_PING",
                nix::request_code_readwrite!(0xB6, 3, size_of::<Ping>()) as usize,
            ),
            (
                "HOTPOT_IOC_SETUP",
                nix::request_code_write!(0xB7, 1, size_of::<Setup>()) as usize,
            ),
            (
                "HOTPOT_IOC_INFO",
                nix::request_code_readwrite!(0xB7, 2, size_of::<DatasetInfo>()) as usize,
            ),
            (
                "HOTPOT_IOC_BARRIER",
                nix::request_code_write!(0xB7, 3, size_of::<Barrier>()) as usize,
            ),
            (
                "HOTPOT_IOC_SCRUB",
                nix::request_code_readwrite!(0xB7, 7, size_of::<Scrub>()) as usize,
            ),
            (
                "CLIO_IOC_CREATE",
                nix::request_code_readwrite!(0xB9, 1, size_of::<clio::Ras>()) as usize,
            ),
            (
                "CLIO_IOC_NODES",
                nix::request_code_readwrite!(0xB9, 10, size_of::<clio::List>()) as usize,
            ),
            (
                "CLIO_IOC_SPACES",
                nix::request_code_readwrite!(0xB9, 11, size_of::<clio::List>()) as usize,
            ),
            (
                "CLIO_IOC_REGIONS",
                nix::request_code_readwrite!(0xB9, 12, size_of::<clio::List>()) as usize,
            ),
            (
                "CLIO_IOC_DRAIN",
                nix::request_code_write!(0xB9, 13, size_of::<clio::Drain>()) as usize,
            ),
            (
                "CLIO_IOC_MOVE",
                nix::request_code_write!(0xB9, 14, size_of::<clio::Move>()) as usize,
            ),
            (
                "CLIO_IOC_REMOVE",
                nix::request_code_write!(0xB9, 15, size_of::<clio::Remove>()) as usize,
            ),
            (
                "CLIO_IOC_QUOTA",
                nix::request_code_write!(0xB9, 16, size_of::<clio::Quota>()) as usize,
            ),
        ];
        let ours: Vec<_> = ours.iter().map(|(n, v)| (n.to_string(), *v)).collect();
        assert_eq!(ours, expected);
    }

    #[test]
    fn a_name_keeps_its_nul() {
        assert!(name_field("").is_none());
        assert!(name_field(&"x".repeat(64)).is_none());
        let field = name_field(&"x".repeat(63)).unwrap();
        assert_eq!(field[63], 0);
        assert_eq!(name_text(&field), "x".repeat(63));
    }
}
