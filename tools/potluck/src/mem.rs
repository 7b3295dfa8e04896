// SPDX-License-Identifier: GPL-2.0

//! `potluck mem`: what operators see of memory nodes, and do to them.

mod client;
pub mod disk;
mod key;
mod report;

pub use self::report::{servers, Server};

use self::client::{wait_until, Client, Wish};
use crate::{
    cli::{self, Mem},
    node::Node,
};
use anyhow::{bail, Result};
use serde::Serialize;
use std::{path::Path, process::ExitCode};

pub fn run(command: &Mem) -> Result<ExitCode> {
    if let Mem::Disk(command) = command {
        return disk::run(command).map(|()| ExitCode::SUCCESS);
    }
    let client = Client::new()?;
    match command {
        Mem::Nodes { json } => {
            print(*json, &told_of(&client)?, servers)?;
        }
        Mem::Spaces { json } => {
            let (spaces, silent) = client.spaces()?;
            let spaces: Vec<_> = spaces
                .iter()
                .map(|s| report::Space::new(&client, s))
                .collect();
            print(*json, &spaces, report::spaces)?;
            if silent != 0 {
                bail!("{silent} memory nodes did not answer: their address spaces are not here");
            }
        }
        Mem::Regions { space, json } => {
            let regions = client.regions(client.space(space)?.id)?;
            let regions: Vec<_> = regions
                .iter()
                .map(|r| report::Region::new(&client, r))
                .collect();
            print(*json, &regions, report::regions)?;
        }
        Mem::Create(args) => create(&client, args)?,
        Mem::Resize { space, quota } => client.resize(client.space(space)?.id, *quota)?,
        Mem::Destroy { space, force } => client.remove(client.space(space)?.id, *force)?,
        Mem::Drain { node, undo, wait } => {
            let id = client.node_id(node)?;
            client.drain(id, !undo)?;
            if let Some(seconds) = wait {
                wait_for_drained(&client, id, *seconds)?;
            }
        }
        Mem::Move {
            space,
            region,
            node,
            wait,
        } => {
            let to = node.as_deref().map_or(Ok(0), |n| client.node_id(n))?;
            move_region(&client, client.space(space)?.id, *region, to, *wait)?;
        }
        Mem::Disk(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// What the memory nodes of the map say of themselves; `None` where nobody can ask them, since no node
/// here uses remote memory.
pub fn all_servers() -> Result<Option<Vec<Server>>> {
    if !Path::new(client::DEVICE).exists() || Node::select_compute(&[])?.is_empty() {
        return Ok(None);
    }
    told_of(&Client::new()?).map(Some)
}

fn told_of(client: &Client) -> Result<Vec<Server>> {
    let nodes = client.nodes()?;
    Ok(nodes.iter().map(|n| Server::new(client, n)).collect())
}

fn print<T: Serialize>(json: bool, rows: &[T], table: fn(&[T]) -> String) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(rows)?);
    } else if rows.is_empty() {
        println!("none");
    } else {
        println!("{}", table(rows));
    }
    Ok(())
}

fn create(client: &Client, args: &cli::Create) -> Result<()> {
    let (key, told) = match &args.key_file {
        Some(file) => (key::of_file(file)?, format!("in {}", file.display())),
        None => {
            let key = key::new()?;
            (key, key::text(key))
        }
    };
    let id = client.create(Wish {
        name: args.name.clone(),
        key,
        quota: args.quota.unwrap_or(0),
        region_size: args.region_size.unwrap_or(0),
        home: args.home.as_deref().map_or(Ok(0), |n| client.node_id(n))?,
    })?;
    println!("{}: id {id:#x}, key {told}", args.name);
    Ok(())
}

fn wait_for_drained(client: &Client, node: u32, seconds: f64) -> Result<()> {
    let regions = || -> Result<u32> {
        let nodes = client.nodes()?;
        Ok(nodes.iter().find(|n| n.id == node).map_or(0, |n| n.regions))
    };
    if !wait_until(seconds, || Ok(regions()? == 0))? {
        bail!(
            "{} still has {} regions after {seconds} s: is there room elsewhere?",
            client.node_name(node),
            regions()?
        );
    }
    Ok(())
}

fn move_region(client: &Client, ras: u64, index: u32, to: u32, wait: Option<f64>) -> Result<()> {
    let place = || -> Result<u32> {
        let regions = client.regions(ras)?;
        let region = regions.iter().find(|r| r.index == index);
        Ok(region.map_or(0, |r| r.node))
    };
    let from = place()?;
    client.move_region(ras, index, to)?;
    let Some(seconds) = wait else { return Ok(()) };
    let there = |node| node != from && (to == 0 || node == to);
    if !wait_until(seconds, || Ok(there(place()?)))? {
        bail!(
            "region {index} is still on {} after {seconds} s; the kernel log says why",
            client.node_name(place()?)
        );
    }
    Ok(())
}
