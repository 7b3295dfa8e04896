// SPDX-License-Identifier: GPL-2.0

//! Disks in remote memory: directories of configfs.

use super::key;
use crate::{
    cli::{self, DiskArgs, DiskOwner},
    configfs, map,
    node::Node,
    size,
};
use anyhow::{bail, Context, Result};
use nix::errno::Errno;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tabled::{builder::Builder, settings::Style};

pub const CONFIGFS: &str = "/sys/kernel/config/clio";

/// Making a disk waits for memory nodes, removing it for what is being written.
const PATIENCE: Duration = Duration::from_secs(60);

/// Attributes that the list has, in this order.
const LISTED: [&str; 6] = ["device", "node", "size", "replicas", "state", "copies"];

/// Attributes that are only for writing.
const HIDDEN: [&str; 1] = ["destroy"];

/// As JSON has it.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    #[serde(flatten)]
    attributes: BTreeMap<String, String>,
}

impl Shown {
    fn read(dir: &Path) -> Result<Shown> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let entries = fs::read_dir(dir).with_context(|| format!("no disk {name} here"))?;
        let attributes = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|attribute| !HIDDEN.contains(&attribute.as_str()))
            .filter_map(|attribute| {
                let value = configfs::attribute(dir, &attribute)?;
                Some((attribute, value))
            })
            .collect();
        Ok(Shown {
            name: name.into_owned(),
            attributes,
        })
    }

    /// A value as people read it.
    fn text(&self, attribute: &str) -> String {
        let value = self.attributes.get(attribute).map_or("-", String::as_str);
        match value.parse() {
            Ok(bytes) if attribute == "size" => size::show(bytes),
            _ => value.to_string(),
        }
    }
}

pub fn run(command: &cli::Disk) -> Result<()> {
    match command {
        cli::Disk::Create { disk, size } => switch_on(disk, Some(*size)),
        cli::Disk::Attach(disk) => switch_on(disk, None),
        cli::Disk::List { json } => list(*json),
        cli::Disk::Show { name, json } => show(name, *json),
        cli::Disk::Remove { name } => configfs::switch_off(&directory(name)?, PATIENCE),
        cli::Disk::Destroy { name, owner } => destroy(name, owner),
    }
}

fn directory(name: &str) -> Result<PathBuf> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        bail!("'{name}' is no name of a disk");
    }
    Ok(Path::new(CONFIGFS).join(name))
}

/// With a size it is a new one.
fn switch_on(args: &DiskArgs, size: Option<u64>) -> Result<()> {
    let dir = directory(&args.name)?;
    let (node, mut attributes) = identity(&args.owner)?;
    attributes.extend([
        ("size", size.map(|n| n.to_string())),
        ("replicas", Some(args.replicas.to_string())),
    ]);
    for (name, value) in &args.set {
        attributes.push((name, Some(value.clone())));
    }
    configfs::switch_on(&dir, node.namespace.as_deref(), attributes, PATIENCE)
        .map_err(|error| explain(error, size.is_some()))
        .with_context(|| format!("disk {}", args.name))?;
    let disk = Shown::read(&dir)?;
    let found = disk.attributes.get("size").and_then(|n| n.parse().ok());
    println!("{}: {}", disk.name, disk.text("device"));
    if size.is_some() && found != size {
        bail!(
            "there was a disk {} of {} already: it was attached, nothing was made",
            disk.name,
            disk.text("size")
        );
    }
    Ok(())
}

/// Attributes, and what they are to be.
type Attributes<'a> = Vec<(&'a str, Option<String>)>;

/// Who acts for a disk, and what says so, and with which right.
fn identity(owner: &DiskOwner) -> Result<(Node, Attributes<'_>)> {
    let wanted: Vec<_> = owner.node.iter().cloned().collect();
    let node = Node::select_compute(&wanted)?
        .into_iter()
        .next()
        .context("there are only memory nodes here")?;
    let key = owner.key_file.as_deref().map(key::of_file).transpose()?;
    let attributes = vec![
        ("node", Some(node.name.clone())),
        ("key", key.map(key::text)),
    ];
    Ok((node, attributes))
}

/// What it means that a disk cannot be switched on.
fn explain(error: anyhow::Error, new: bool) -> anyhow::Error {
    const HINTS: [(Errno, &str); 6] = [
        (
            Errno::EACCES,
            "there is such a disk, and it has another key (--key-file)",
        ),
        (Errno::ENOENT, "no memory node has a copy of such a disk"),
        (Errno::ENODEV, "no memory node has a copy of such a disk"),
        (Errno::ENOSPC, "too few memory nodes have room for a copy"),
        (
            Errno::EHOSTDOWN,
            "a copy that may be newer than the others does not answer (--set force=1 goes without)",
        ),
        (Errno::EBUSY, "another node has attached it"),
    ];
    let fits = |(errno, _): &&(Errno, &str)| {
        configfs::is(&error, *errno) && !(new && *errno == Errno::ENODEV)
    };
    match HINTS.iter().find(fits) {
        Some((_, hint)) => error.context(*hint),
        None => error,
    }
}

/// Attached here or not.
fn destroy(name: &str, owner: &DiskOwner) -> Result<()> {
    let dir = directory(name)?;
    if dir.exists() {
        configfs::power_off(&dir, PATIENCE)?;
    } else {
        let (node, attributes) = identity(owner)?;
        configfs::make(&dir, node.namespace.as_deref(), attributes, PATIENCE)?;
    }
    let destroyed = configfs::set(&dir, "destroy", "1", PATIENCE)
        .map_err(|error| explain(error, false))
        .with_context(|| format!("disk {name}"));
    // What is not attached has no directory, whatever became of its copies.
    destroyed.and(configfs::switch_off(&dir, PATIENCE))
}

/// A disk that is here, with the names of the nodes that have its copies.
fn read(dir: &Path, nodes: &[map::Node]) -> Result<Shown> {
    let mut disk = Shown::read(dir)?;
    if let Some(copies) = disk.attributes.get_mut("copies") {
        *copies = with_names(copies, nodes);
    }
    Ok(disk)
}

/// The nodes of the newest map here; none when nobody tells.
fn map_nodes() -> Vec<map::Node> {
    let map = Node::all().and_then(|nodes| map::newest(&nodes));
    map.map_or_else(|_| Vec::new(), |map| map.nodes)
}

/// Puts names for the ids of nodes, with which the lines begin.
fn with_names(copies: &str, nodes: &[map::Node]) -> String {
    let line = |line: &str| {
        let (id, rest) = line.split_once(' ').unwrap_or((line, ""));
        let known = nodes.iter().find(|n| n.id.to_string() == id);
        format!("{} {rest}", known.map_or(id, |n| n.name.as_str()))
    };
    copies.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn list(json: bool) -> Result<()> {
    let nodes = map_nodes();
    let dirs = configfs::directories(Path::new(CONFIGFS));
    let disks = dirs.iter().map(|dir| read(dir, &nodes));
    let disks: Vec<_> = disks.collect::<Result<_>>()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&disks)?);
    } else if disks.is_empty() {
        println!("none");
    } else {
        println!("{}", table(&disks));
    }
    Ok(())
}

/// The attributes that some disk has.
fn table(disks: &[Shown]) -> String {
    let there = |name: &&&str| {
        disks
            .iter()
            .any(|disk| disk.attributes.contains_key(**name))
    };
    let columns: Vec<_> = LISTED.iter().filter(there).collect();
    let mut builder = Builder::new();
    builder.push_record(
        ["disk"]
            .into_iter()
            .chain(columns.iter().map(|name| **name)),
    );
    for disk in disks {
        let values = columns.iter().map(|name| disk.text(name));
        builder.push_record([disk.name.clone()].into_iter().chain(values));
    }
    builder.build().with(Style::sharp()).to_string()
}

fn show(name: &str, json: bool) -> Result<()> {
    let disk = read(&directory(name)?, &map_nodes())?;
    if json {
        println!("{}", serde_json::to_string_pretty(&disk)?);
        return Ok(());
    }
    println!("disk {}", disk.name);
    for attribute in disk.attributes.keys() {
        println!(
            "  {attribute:<12} {}",
            disk.text(attribute).replace('\n', "\n               ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_what_its_directory_says() {
        let dir = std::env::temp_dir().join(format!("potluck-disk-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for (name, value) in [("size", "67108864\n"), ("replicas", "2\n"), ("new", "x\n")] {
            fs::write(dir.join(name), value).unwrap();
        }
        let disk = Shown::read(&dir).unwrap();
        let json = serde_json::to_value(&disk).unwrap();
        assert_eq!(
            (&json["size"], &json["new"]),
            (&"67108864".into(), &"x".into())
        );
        let text = table(&[disk]);
        assert!(text.contains("64 MiB") && !text.contains("state"), "{text}");
        fs::remove_dir_all(&dir).unwrap();
        assert!(Shown::read(&dir).is_err());
    }

    #[test]
    fn copies_are_told_by_the_names_of_their_nodes() {
        let text = r#"{"nodes": [{"id": 4, "name": "m1", "address": "10.77.0.4", "port": 1,
            "state": "up", "roles": ["memory"]}]}"#;
        let nodes = map::Map::parse(text).unwrap().nodes;
        let told = with_names("4 in sync\n7 filling 30 %", &nodes);
        assert_eq!(told, "m1 in sync\n7 filling 30 %");
        assert_eq!(with_names("", &nodes), "");
    }

    #[test]
    fn names_stay_in_their_directory() {
        for name in ["", "a/b", "..", "."] {
            assert!(directory(name).is_err(), "{name}");
        }
    }
}
