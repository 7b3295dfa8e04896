// SPDX-License-Identifier: GPL-2.0

//! The lab: a whole cluster in one kernel, each node a network namespace with
//! an rxe device over a veth pair, and one persistent-memory device or a pool of
//! memory that it serves.

pub mod down;
mod memory;
mod names;
mod pmem;
pub mod up;

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Instant,
};
use uuid::Uuid;

/// Cluster of every lab that is not told another: devices are found again
/// after a restart. (The text "potluck lab" followed by zeros.)
pub const CLUSTER: &str = "706f746c-7563-6b20-8c61-620000000000";

const STATE: &str = "/run/potluck/lab.json";

/// One node of the lab.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LabNode {
    pub id: u32,
    pub name: String,
    pub namespace: String,
    pub address: Ipv4Addr,
    pub port: u16,
    /// Name of the rxe device.
    pub device: String,
    /// veth: the end at the bridge, the end in the namespace.
    pub bridge_end: String,
    pub node_end: String,
    pub pmem: Option<PathBuf>,
    pub mount: Option<PathBuf>,
    /// It serves memory, and does nothing else.
    #[serde(default)]
    pub memory: bool,
}

/// What `lab up` made or was about to make; written before the first step, so
/// that `lab down` can clear away a half-made lab.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct State {
    pub cluster: Uuid,
    pub bridge: String,
    pub complete: bool,
    /// Modules to unload again, last loaded first.
    pub modules: Vec<String>,
    pub nodes: Vec<LabNode>,
}

impl State {
    pub fn load() -> Result<Option<State>> {
        let text = match fs::read_to_string(STATE) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("cannot read {STATE}")),
        };
        serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{STATE} is damaged: remove it, then run potluck lab down"))
    }

    fn save(&self) -> Result<()> {
        let write = || -> io::Result<()> {
            fs::create_dir_all(Path::new(STATE).parent().unwrap_or(Path::new("/")))?;
            let new = format!("{STATE}.new");
            fs::write(&new, serde_json::to_string_pretty(self)? + "\n")?;
            fs::rename(new, STATE)
        };
        write().with_context(|| format!("cannot write {STATE}"))
    }

    fn remove() -> Result<()> {
        match fs::remove_file(STATE) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("cannot remove {STATE}"))
            }
            _ => Ok(()),
        }
    }
}

fn need_root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab needs root");
    }
    Ok(())
}

/// Names of the loaded modules.
fn loaded_modules() -> Vec<String> {
    fs::read_to_string("/proc/modules")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_string)
        .collect()
}

/// Does a step, and says what and how long.
fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    let result = work();
    let took = begin.elapsed().as_secs_f64();
    match &result {
        Ok(_) => println!("lab: {what} ({took:.1} s)"),
        Err(_) => println!("lab: {what}: FAILED ({took:.1} s)"),
    }
    result
}
