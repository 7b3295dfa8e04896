// SPDX-License-Identifier: GPL-2.0

//! The lab's memory nodes, and the disks that lie in their memory.

use super::{names, LabNode, State};
use crate::{cli::LabUp, configfs, mem::disk};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// What memory nodes, and those that use them, need beside rdma_lite.
pub const MODULES: [&str; 2] = ["legomem", "clio_cn"];

/// Where legomem has its directories.
const CONFIGFS: &str = "/sys/kernel/config/legomem";

/// Every memory node gets its pool and begins to serve it.
pub fn switch_on(args: &LabUp, state: &State, deadline: Duration) -> Result<()> {
    let mut servers = state.nodes.iter().filter(|node| node.memory);
    servers.try_for_each(|node| {
        let dir = Path::new(CONFIGFS).join(&node.name);
        configfs::switch_on(&dir, Some(&node.namespace), settings(args, node), deadline)
            .with_context(|| format!("memory node {}", node.name))
    })
}

fn settings(args: &LabUp, node: &LabNode) -> [(&'static str, Option<String>); 3] {
    [
        ("node", Some(node.name.clone())),
        ("size", Some(args.memory_size.to_string())),
        ("page_size", args.memory_page_size.map(|n| n.to_string())),
    ]
}

/// Directories of memory nodes that are nodes of a lab.
pub fn servers() -> Vec<PathBuf> {
    of_a_lab(CONFIGFS)
}

/// Directories of disks of nodes of a lab.
pub fn disks() -> Vec<PathBuf> {
    of_a_lab(disk::CONFIGFS)
}

/// What is called as a node of a lab, or says that it belongs to one.
fn of_a_lab(top: &str) -> Vec<PathBuf> {
    let mut dirs = configfs::directories(Path::new(top));
    dirs.retain(|dir| {
        let named = dir.file_name().map(|name| name.to_string_lossy());
        let node = fs::read_to_string(dir.join("node")).unwrap_or_default();
        names::is_node(node.trim()) || named.is_some_and(|name| names::is_node(&name))
    });
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, Lab};
    use clap::Parser;

    #[test]
    fn a_memory_node_gets_the_pool_that_was_asked_for() {
        let words = ["potluck", "lab", "up", "1", "--memory", "1"];
        let more = ["--memory-size", "32M", "--memory-page-size", "64K"];
        let cli = Cli::try_parse_from(words.iter().chain(&more)).unwrap();
        let Command::Lab(Lab::Up(args)) = cli.command else {
            panic!("not lab up");
        };
        let node = names::memory_node(1, 2, args.network, args.port);
        let some = |value: &str| Some(value.to_string());
        let expected = [some("m1"), some("33554432"), some("65536")];
        assert_eq!(settings(&args, &node).map(|(_, value)| value), expected);
    }
}
