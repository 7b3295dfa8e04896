// SPDX-License-Identifier: GPL-2.0

//! Maps: who is a member, in which state, under which epoch (DESIGN section 3).

use crate::{
    cli,
    node::Node as LocalNode,
    uapi::{self, node_state, role},
};
use anyhow::{bail, Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    fs,
    io::{self, Read},
    net::{IpAddr, Ipv6Addr},
    path::Path,
};
use tabled::{builder::Builder, settings::Style};

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Member, expected to answer
    Up,
    /// Member that is not reachable for now
    Down,
    /// No member any more: its state is void
    Out,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Down => "down",
            State::Out => "out",
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Hotpot,
    HotpotCd,
    Memory,
}

const ROLES: [(Role, u32, &str); 3] = [
    (Role::Hotpot, role::HOTPOT, "hotpot"),
    (Role::HotpotCd, role::HOTPOT_CD, "hotpot-cd"),
    (Role::Memory, role::MEMORY, "memory"),
];

impl Role {
    pub fn name(self) -> &'static str {
        ROLES
            .iter()
            .find(|(r, ..)| *r == self)
            .map_or("?", |(.., name)| name)
    }
}

/// One node of a map, as JSON has it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub id: u32,
    pub name: String,
    pub address: IpAddr,
    pub port: u16,
    pub state: State,
    pub roles: Vec<Role>,
    /// 0 in a map to be published: whatever the node says when it is met.
    #[serde(default)]
    pub incarnation: u64,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// 0 or absent in a file to be published: the next one.
    #[serde(default)]
    pub epoch: u64,
    pub nodes: Vec<Node>,
}

impl Node {
    pub fn to_uapi(&self) -> uapi::MapNode {
        let mut addr = [0; 16];
        let family = match self.address {
            IpAddr::V4(v4) => {
                addr[..4].copy_from_slice(&v4.octets());
                nix::libc::AF_INET
            }
            IpAddr::V6(v6) => {
                addr = v6.octets();
                nix::libc::AF_INET6
            }
        };
        let roles = ROLES
            .iter()
            .filter(|(r, ..)| self.roles.contains(r))
            .fold(0, |bits, (_, bit, _)| bits | bit);
        uapi::MapNode {
            id: self.id,
            state: match self.state {
                State::Up => node_state::UP,
                State::Down => node_state::DOWN,
                State::Out => node_state::OUT,
            },
            roles,
            port: self.port,
            family: family as u16,
            incarnation: self.incarnation,
            addr,
            name: uapi::name_field(&self.name).unwrap_or([0; 64]),
            ..Default::default()
        }
    }

    pub fn from_uapi(node: &uapi::MapNode) -> Node {
        let a = node.addr;
        Node {
            id: node.id,
            name: uapi::name_text(&node.name),
            address: if i32::from(node.family) == nix::libc::AF_INET6 {
                IpAddr::V6(Ipv6Addr::from(a))
            } else {
                IpAddr::from([a[0], a[1], a[2], a[3]])
            },
            port: node.port,
            state: match node.state {
                node_state::UP => State::Up,
                node_state::DOWN => State::Down,
                _ => State::Out,
            },
            roles: ROLES
                .iter()
                .filter(|(_, bit, _)| node.roles & bit != 0)
                .map(|(role, ..)| *role)
                .collect(),
            incarnation: node.incarnation,
        }
    }
}

impl Map {
    /// Reads and checks a map in JSON.
    pub fn parse(text: &str) -> Result<Map> {
        let map: Map = serde_json::from_str(text).context("not a map in JSON")?;
        let mut ids = HashSet::new();
        let mut names = HashSet::new();
        if map.nodes.is_empty() {
            bail!("the map has no nodes");
        }
        for node in &map.nodes {
            if !(1..=65535).contains(&node.id) {
                bail!("node {}: id {} is not in 1 to 65535", node.name, node.id);
            }
            if uapi::name_field(&node.name).is_none() {
                bail!("node {}: a name has 1 to 63 bytes", node.id);
            }
            if !ids.insert(node.id) {
                bail!("id {} is there twice", node.id);
            }
            if !names.insert(&node.name) {
                bail!("name {} is there twice", node.name);
            }
        }
        Ok(map)
    }

    /// The next map, with one node in another state.
    pub fn with_state(&self, name: &str, state: State) -> Result<Map> {
        let mut next = self.clone();
        next.epoch += 1;
        let Some(node) = next.nodes.iter_mut().find(|n| n.name == name) else {
            let known: Vec<_> = self.nodes.iter().map(|n| n.name.as_str()).collect();
            bail!("the map has no node {name}; it has {}", known.join(", "));
        };
        if node.state == state {
            bail!("node {name} is {} already", state.name());
        }
        node.state = state;
        if state == State::Up {
            // It may have been started anew since.
            node.incarnation = 0;
        }
        Ok(next)
    }

    pub fn table(&self) -> String {
        let mut builder = Builder::new();
        builder.push_record(["id", "name", "address", "state", "roles", "incarnation"]);
        for n in &self.nodes {
            builder.push_record([
                n.id.to_string(),
                n.name.clone(),
                format!("{}:{}", n.address, n.port),
                n.state.name().to_string(),
                role_names(&n.roles),
                incarnation_text(n.incarnation),
            ]);
        }
        builder.build().with(Style::sharp()).to_string()
    }
}

pub fn role_names(roles: &[Role]) -> String {
    let names: Vec<_> = roles.iter().map(|r| r.name()).collect();
    names.join(" ")
}

pub fn incarnation_text(incarnation: u64) -> String {
    match incarnation {
        0 => "not met".to_string(),
        i => i.to_string(),
    }
}

/// The newest map that any of the nodes has; incarnations that one of them
/// does not know yet are taken from the others.
pub fn newest(nodes: &[LocalNode]) -> Result<Map> {
    let mut newest: Option<Map> = None;
    let mut failure = None;
    for node in nodes {
        match node.map() {
            Ok(map) => match &mut newest {
                Some(best) if best.epoch > map.epoch => {}
                Some(best) if best.epoch == map.epoch => complete(best, &map),
                _ => newest = Some(map),
            },
            Err(error) => failure = Some(error),
        }
    }
    match (newest, failure) {
        (Some(map), _) => Ok(map),
        (None, Some(error)) => Err(error.context("no node here tells its map")),
        (None, None) => bail!("no node here"),
    }
}

fn complete(best: &mut Map, other: &Map) {
    for node in &mut best.nodes {
        if node.incarnation == 0 {
            if let Some(met) = other.nodes.iter().find(|n| n.id == node.id) {
                node.incarnation = met.incarnation;
            }
        }
    }
}

/// Publishes to every node here. Those that the map calls up must take it.
fn publish(nodes: &[LocalNode], map: &Map) -> Result<()> {
    let mut refused = Vec::new();
    for node in nodes {
        let up = map
            .nodes
            .iter()
            .any(|n| n.name == node.name && n.state == State::Up);
        match node.publish(map) {
            Ok(()) => println!("{}: epoch {} is in force", node.name, map.epoch),
            Err(error) if up => refused.push(format!("{error:#}")),
            Err(error) => println!("{}: not told ({error:#})", node.name),
        }
    }
    if !refused.is_empty() {
        bail!(
            "the map is not in force everywhere; put it right and publish again:\n  {}",
            refused.join("\n  ")
        );
    }
    Ok(())
}

pub fn run(command: cli::Map) -> Result<()> {
    let nodes = LocalNode::all()?;
    match command {
        cli::Map::Show { json } => {
            let map = newest(&nodes)?;
            if json {
                println!("{}", serde_json::to_string_pretty(&map)?);
            } else {
                println!("epoch {}\n{}", map.epoch, map.table());
            }
            Ok(())
        }
        cli::Map::Publish { file } => {
            let mut map = read(&file)?;
            if map.epoch == 0 {
                map.epoch = newest(&nodes).map_or(0, |m| m.epoch) + 1;
            }
            publish(&nodes, &map)
        }
        cli::Map::Set { node, state } => {
            publish(&nodes, &newest(&nodes)?.with_state(&node, state)?)
        }
    }
}

fn read(file: &Path) -> Result<Map> {
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin().read_to_string(&mut text)?;
    } else {
        text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    Map::parse(&text).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"{"epoch": 7, "nodes": [
        {"id": 1, "name": "n1", "address": "10.77.0.1", "port": 7717, "state": "up",
         "roles": ["hotpot", "hotpot-cd"], "incarnation": 5},
        {"id": 2, "name": "n2", "address": "fd00::2", "port": 7717, "state": "down",
         "roles": ["hotpot"], "incarnation": 9}]}"#;

    #[test]
    fn a_map_survives_the_kernels_form_and_json() {
        let map = Map::parse(TWO).unwrap();
        let raw: Vec<_> = map.nodes.iter().map(Node::to_uapi).collect();
        let back: Vec<_> = raw.iter().map(Node::from_uapi).collect();
        assert_eq!(map.nodes, back);
        assert_eq!(raw[0].roles, role::HOTPOT | role::HOTPOT_CD);
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(Map::parse(&text).unwrap(), map);
    }

    #[test]
    fn a_new_state_bumps_the_epoch_and_forgets_who_comes_back() {
        let map = Map::parse(TWO).unwrap();
        let up = map.with_state("n2", State::Up).unwrap();
        assert_eq!((up.epoch, up.nodes[1].incarnation), (8, 0));
        let out = map.with_state("n1", State::Out).unwrap();
        assert_eq!((out.epoch, out.nodes[0].incarnation), (8, 5));
        assert!(map.with_state("n3", State::Up).is_err());
        assert!(map.with_state("n1", State::Up).is_err());
    }

    #[test]
    fn maps_that_make_no_sense_are_refused() {
        for (from, to) in [
            ("\"id\": 2", "\"id\": 1"),
            ("\"id\": 2", "\"id\": 0"),
            ("\"id\": 2", "\"id\": 65536"),
            ("\"n2\"", "\"n1\""),
            ("\"n2\"", "\"\""),
            ("\"down\"", "\"gone\""),
            ("\"incarnation\": 9", "\"incarnatoin\": 9"),
            ("fd00::2", "somewhere"),
        ] {
            assert!(
                Map::parse(&TWO.replace(from, to)).is_err(),
                "{from} -> {to}"
            );
        }
        assert!(Map::parse(r#"{"nodes": []}"#).is_err());
    }

    #[test]
    fn an_unmet_node_is_completed_from_another_view() {
        let mut mine = Map::parse(TWO).unwrap();
        let theirs = mine.clone();
        mine.nodes[1].incarnation = 0;
        complete(&mut mine, &theirs);
        assert_eq!(mine, theirs);
    }
}
