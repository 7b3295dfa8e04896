// SPDX-License-Identifier: GPL-2.0

//! `potluck mem`.

use crate::size;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Mem {
    /// List the memory nodes of the map, with their pools
    Nodes {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// List the remote address spaces of all memory nodes
    Spaces {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// List the regions of an address space: which memory node has which
    Regions {
        /// Its name, or its id (0x…)
        space: String,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Create an address space
    Create(Create),
    /// Change the quota of an address space
    Resize {
        /// Its name, or its id (0x…)
        space: String,
        /// Most bytes that may be allocated; not less than its regions were given
        #[arg(value_parser = size::parse)]
        quota: u64,
    },
    /// End an address space and free its memory, without its key
    Destroy {
        /// Its name, or its id (0x…)
        space: String,
        /// Also when nodes are attached to it
        #[arg(long)]
        force: bool,
    },
    /// Have a memory node give its regions away and take no new ones
    Drain {
        /// Its name or id
        node: String,
        /// Let it take regions again instead
        #[arg(long)]
        undo: bool,
        /// Wait until it has none; the status is 1 if that takes longer
        #[arg(long, value_name = "S", conflicts_with = "undo")]
        wait: Option<f64>,
    },
    /// Move a region to another memory node, while it is in use
    Move {
        /// Name of its address space, or its id (0x…)
        space: String,
        /// Which region
        region: u32,
        /// Name or id of the memory node; the one with most room if not given
        node: Option<String>,
        /// Wait until it is there; the status is 1 if that takes longer
        #[arg(long, value_name = "S")]
        wait: Option<f64>,
    },
    /// Disks in remote memory
    #[command(subcommand)]
    Disk(Disk),
}

#[derive(Args, Debug)]
pub struct Create {
    /// Its name, at most 63 bytes
    pub name: String,
    /// Most bytes that may be allocated; no limit if not given
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub quota: Option<u64>,
    /// What is placed on one memory node: a power of two, 16M to 1G
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub region_size: Option<u64>,
    /// Memory node that keeps its tables; the one with most room if not given
    #[arg(long, value_name = "NODE")]
    pub home: Option<String>,
    /// File with its key, 32 hex digits; if there is none, it is written with a new key
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Disk {
    /// Make a new disk and switch it on
    Create {
        #[command(flatten)]
        disk: DiskArgs,
        /// Its size
        #[arg(long, value_parser = size::parse)]
        size: u64,
    },
    /// Switch a disk on that was made before, by its newest copies
    Attach(DiskArgs),
    /// List the disks that are attached here
    List {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Print everything that is known of a disk
    Show {
        /// Its name
        name: String,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Switch a disk off; its copies stay, and it can be attached again
    Remove {
        /// Its name
        name: String,
    },
    /// Switch a disk off and free its copies: what it holds is lost
    Destroy {
        /// Its name
        name: String,
        #[command(flatten)]
        owner: DiskOwner,
    },
}

#[derive(Args, Debug)]
pub struct DiskOwner {
    /// Node that uses it; the first one here if not given
    #[arg(long)]
    pub node: Option<String>,
    /// File with its key, 32 hex digits; if there is none, it is written with a new key
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct DiskArgs {
    /// Its name, at most 56 bytes
    pub name: String,
    /// Copies, each in the memory of another memory node
    #[arg(long, value_name = "R", default_value_t = 2)]
    pub replicas: u32,
    #[command(flatten)]
    pub owner: DiskOwner,
    /// Another attribute of its configfs directory; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::launch::key_value)]
    pub set: Vec<(String, String)>,
}
