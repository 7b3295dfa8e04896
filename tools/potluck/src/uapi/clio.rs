// SPDX-License-Identifier: GPL-2.0

//! What operators need of include/uapi/linux/clio.h.

pub const NODE_DRAINING: u32 = 1 << 0;
pub const REMOVE_FORCE: u32 = 1 << 0;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ras {
    pub name: [u8; 64],
    pub key: [u64; 2],
    pub quota: u64,
    pub region_size: u64,
    pub home: u32,
    pub timeout_ms: u32,
    pub id: u64,
    pub reserved: [u64; 4],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryNode {
    pub id: u32,
    pub error: i32,
    pub flags: u32,
    pub port: u32,
    pub incarnation: u64,
    pub page_size: u64,
    pub size: u64,
    pub free: u64,
    pub promised: u64,
    pub limit: u64,
    pub allowance: u64,
    pub load: u64,
    pub regions: u32,
    pub spaces: u32,
    pub reserved: [u64; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub id: u64,
    pub name: [u8; 64],
    pub region_size: u64,
    pub quota: u64,
    pub granted: u64,
    pub version: u64,
    pub home: u32,
    pub pin: u32,
    pub owner: u32,
    pub regions: u32,
    pub attached: u32,
    pub reserved0: u32,
    pub reserved: [u64; 2],
}

impl Default for Space {
    fn default() -> Self {
        Space {
            id: 0,
            name: [0; 64],
            region_size: 0,
            quota: 0,
            granted: 0,
            version: 0,
            home: 0,
            pin: 0,
            owner: 0,
            regions: 0,
            attached: 0,
            reserved0: 0,
            reserved: [0; 2],
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Region {
    pub addr: u64,
    pub allowance: u64,
    pub incarnation: u64,
    pub index: u32,
    pub node: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct List {
    pub items: u64,
    pub nr: u32,
    pub timeout_ms: u32,
    pub ras: u64,
    pub silent: u32,
    pub reserved0: u32,
    pub reserved: [u64; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Drain {
    pub node: u32,
    pub on: u32,
    pub timeout_ms: u32,
    pub reserved0: u32,
    pub reserved: [u64; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Move {
    pub ras: u64,
    pub index: u32,
    pub to: u32,
    pub timeout_ms: u32,
    pub reserved0: u32,
    pub reserved: [u64; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Remove {
    pub ras: u64,
    pub flags: u32,
    pub timeout_ms: u32,
    pub reserved: [u64; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Quota {
    pub ras: u64,
    pub quota: u64,
    pub timeout_ms: u32,
    pub reserved0: u32,
    pub reserved: [u64; 2],
}

nix::ioctl_readwrite!(create, 0xB9, 1, Ras);
nix::ioctl_readwrite!(nodes, 0xB9, 10, List);
nix::ioctl_readwrite!(spaces, 0xB9, 11, List);
nix::ioctl_readwrite!(regions, 0xB9, 12, List);
nix::ioctl_write_ptr!(drain, 0xB9, 13, Drain);
nix::ioctl_write_ptr!(move_region, 0xB9, 14, Move);
nix::ioctl_write_ptr!(remove, 0xB9, 15, Remove);
nix::ioctl_write_ptr!(quota, 0xB9, 16, Quota);
