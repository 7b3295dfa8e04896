// SPDX-License-Identifier: GPL-2.0

//! mkfs.hotpot: makes a hotpot file system on a PM device.

#![forbid(unsafe_code)]

use clap::Parser;
use hotpot_utils::{
    device::{Access, DeviceFile},
    format::{
        geometry::{Counts, Geometry},
        superblock::{Superblock, NO_NODE},
        Uuid, FORMAT_VERSION, PAGE_BYTES,
    },
    make, size,
};
use serde_json::json;
use std::{path::PathBuf, process::ExitCode};

/// Make a hotpot file system on a persistent memory device
#[derive(Parser)]
#[command(name = "mkfs.hotpot", bin_name = "mkfs.hotpot", version)]
struct Args {
    /// Id of the node that will mount it [default: that of the first mount]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    node_id: Option<u16>,
    /// Cluster that it belongs to [default: that of the first mount]
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    cluster: Option<Uuid>,
    /// A name for people, at most 64 bytes
    #[arg(long, short = 'L', default_value = "")]
    label: String,
    /// Size of the redo log, e.g. 16M [default: 1/16 of the device]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    log_size: Option<u64>,
    /// Most datasets, removed ones included [default: one for each MiB]
    #[arg(long, value_name = "N")]
    datasets: Option<u64>,
    /// Overwrite what is on the device
    #[arg(long, short)]
    force: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Block device (/dev/pmemX) or image file
    device: PathBuf,
}

fn uuid(text: &str) -> Result<Uuid, String> {
    Uuid::parse(text)
        .filter(|uuid| *uuid != Uuid::NIL)
        .ok_or_else(|| "not a UUID of 32 hexadecimal digits".into())
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("mkfs.hotpot: {}: {message}", args.device.display());
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let mut device = DeviceFile::open(&args.device, Access::Exclusive)?;
    let options = make::Options {
        node: args.node_id,
        cluster: args.cluster,
        label: args.label.clone(),
        counts: Counts {
            records: args.datasets,
            log_blocks: args.log_size.map(|size| size.div_ceil(PAGE_BYTES)),
            commit_blocks: None,
        },
        force: args.force,
    };
    let superblock = make::make(&mut device, &options)?;
    if args.json {
        println!("{:#}", as_json(args, &superblock));
    } else {
        print_table(args, &superblock);
    }
    Ok(())
}

/// Number and name of what a region holds.
fn things(geometry: &Geometry, region: &str) -> String {
    match region {
        "dataset records" => format!("{} datasets", geometry.nr_records()),
        "commit records" => format!("{} blocks", geometry.nr_commit_blocks()),
        "redo log" => format!("{} blocks", geometry.nr_log_blocks()),
        "data pages" => format!("{} pages", geometry.nr_pages()),
        _ => String::new(),
    }
}

fn print_table(args: &Args, superblock: &Superblock) {
    let later = "that of the first mount";
    let cluster = match superblock.cluster {
        Uuid::NIL => later.into(),
        cluster => cluster.to_string(),
    };
    let node = match superblock.node {
        NO_NODE => later.into(),
        node => node.to_string(),
    };
    println!("{}: hotpot, format {FORMAT_VERSION}", args.device.display());
    println!("  cluster  {cluster}");
    println!("  node     {node}");
    println!("  device   {}", superblock.device);
    if !superblock.label().is_empty() {
        println!("  label    {}", superblock.label());
    }
    println!("  size     {}", size::show(superblock.geometry.size()));
    println!();
    println!("  {:<26}{:>14}{:>12}", "region", "offset", "size");
    for (name, region) in superblock.geometry.regions() {
        let things = things(&superblock.geometry, name);
        let line = format!(
            "  {name:<26}{:>#14x}{:>12}  {things}",
            region.offset,
            size::show(region.len)
        );
        println!("{}", line.trim_end());
    }
}

fn as_json(args: &Args, superblock: &Superblock) -> serde_json::Value {
    let geometry = &superblock.geometry;
    let regions: Vec<_> = geometry
        .regions()
        .iter()
        .map(|(name, region)| json!({"name": name, "offset": region.offset, "size": region.len}))
        .collect();
    json!({
        "path": args.device.display().to_string(),
        "format": FORMAT_VERSION,
        "cluster": (superblock.cluster != Uuid::NIL).then(|| superblock.cluster.to_string()),
        "node": (superblock.node != NO_NODE).then_some(superblock.node),
        "device": superblock.device.to_string(),
        "label": superblock.label(),
        "size": geometry.size(),
        "datasets": geometry.nr_records(),
        "commit_blocks": geometry.nr_commit_blocks(),
        "log_blocks": geometry.nr_log_blocks(),
        "pages": geometry.nr_pages(),
        "regions": regions,
    })
}
