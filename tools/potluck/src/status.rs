// SPDX-License-Identifier: GPL-2.0

//! `potluck status`: what the nodes here say of themselves, of each other and
//! of the datasets, and what memory nodes say of themselves. The JSON form is described in Documentation/user-guide.md.

use crate::{
    cli,
    dataset::{mode_name, Pages, View},
    map, mem,
    node::Node,
    size,
};
use anyhow::Result;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    process::ExitCode,
    thread,
};
use tabled::{builder::Builder, settings::Style};

/// How long a peer has to answer before it is listed as a suspect.
const PING_MS: u32 = 1000;

#[derive(Debug, Serialize)]
pub struct Status {
    /// Newest epoch that a node here has.
    epoch: u64,
    nodes: Vec<NodeStatus>,
    datasets: Vec<DatasetStatus>,
    /// Null when no node here can ask them.
    memory_nodes: Option<Vec<mem::Server>>,
    /// What could not be asked, in plain words.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct NodeStatus {
    id: u32,
    name: String,
    address: String,
    state: &'static str,
    roles: Vec<map::Role>,
    incarnation: u64,
    /// Epoch that the node itself lives in; null when it is not in this kernel.
    epoch: Option<u64>,
    /// configfs attribute `state`; null when it is not in this kernel.
    power: Option<String>,
    mount: Option<String>,
    /// Ids of up nodes that do not answer its ping.
    suspects: Vec<u32>,
}

impl NodeStatus {
    fn serves_memory(&self) -> bool {
        self.roles.contains(&map::Role::Memory)
    }
}

#[derive(Debug, Serialize)]
struct DatasetStatus {
    name: String,
    id: u64,
    size: u64,
    base: String,
    reserve: u64,
    mode: &'static str,
    replicas: u32,
    chunk_size: u64,
    /// Pages that have too few copies, as their owners say that were asked: they are being made.
    missing: u64,
    /// Chunks that have moved to another owner, and that were to and could not: since the mounts that were asked.
    moves: u64,
    stayed: u64,
    /// Pages by state on each node that was asked, by node id.
    pages: BTreeMap<u32, Pages>,
    chunks: Vec<ChunkStatus>,
}

#[derive(Debug, Serialize)]
struct ChunkStatus {
    index: u32,
    owner: u32,
    /// Committed pages that exist, as the owner says; null when it was not asked.
    pages: Option<u32>,
    /// Copies of the page that has the fewest, as the owner says.
    min_replicas: Option<u32>,
    /// By node id.
    local: BTreeMap<u32, u32>,
    dirty: BTreeMap<u32, u32>,
}

/// Name of a dataset and how one node sees it.
type Seen = (String, View);

pub fn run(args: &cli::Status) -> Result<ExitCode> {
    let nodes = Node::all()?;
    let mut problems = Vec::new();
    let map = match map::newest(&nodes) {
        Ok(map) => map,
        Err(error) => {
            problems.push(format!("{error:#}"));
            map::Map {
                epoch: 0,
                nodes: Vec::new(),
            }
        }
    };
    let node_status = ask_nodes(&map, &nodes);
    let mut seen = Vec::new();
    for node in &nodes {
        match ask_datasets(node) {
            Ok((of_node, failed)) => {
                seen.extend(of_node);
                problems.extend(failed);
            }
            Err(error) => problems.push(format!("{}: {error:#}", node.name)),
        }
    }
    let memory_nodes = mem::all_servers().unwrap_or_else(|error| {
        problems.push(format!("memory nodes: {error:#}"));
        None
    });
    let status = Status {
        epoch: map.epoch,
        nodes: node_status,
        datasets: merge(seen),
        memory_nodes,
        problems,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", text(&status, args.all_chunks));
    }
    Ok(ExitCode::from(u8::from(!status.problems.is_empty())))
}

/// Every member of the map, and every node here that the map does not have.
fn ask_nodes(map: &map::Map, nodes: &[Node]) -> Vec<NodeStatus> {
    let mut found: Vec<NodeStatus> = map
        .nodes
        .iter()
        .map(|n| NodeStatus {
            id: n.id,
            name: n.name.clone(),
            address: format!("{}:{}", n.address, n.port),
            state: n.state.name(),
            roles: n.roles.clone(),
            incarnation: n.incarnation,
            epoch: None,
            power: None,
            mount: None,
            suspects: Vec::new(),
        })
        .collect();
    let workers: Vec<_> = nodes
        .iter()
        .cloned()
        .map(|node| {
            let peers: Vec<u32> = map
                .nodes
                .iter()
                .filter(|n| n.state == map::State::Up && n.name != node.name)
                .map(|n| n.id)
                .collect();
            let name = node.name.clone();
            let worker = thread::spawn(move || {
                let mut suspects = peers;
                suspects.retain(|id| node.ping(*id, PING_MS).is_err());
                suspects
            });
            (name, worker)
        })
        .collect();
    for (node, (name, worker)) in nodes.iter().zip(workers) {
        let suspects = worker.join().unwrap_or_default();
        let at = match found.iter().position(|n| n.name == name) {
            Some(at) => at,
            None => {
                found.push(NodeStatus {
                    id: number(node, "id").unwrap_or(0) as u32,
                    name,
                    address: node.attribute("addr").unwrap_or_default(),
                    state: "not in map",
                    roles: Vec::new(),
                    incarnation: number(node, "incarnation").unwrap_or(0),
                    epoch: None,
                    power: None,
                    mount: None,
                    suspects: Vec::new(),
                });
                found.len() - 1
            }
        };
        found[at].suspects = suspects;
        found[at].epoch = number(node, "epoch");
        found[at].power = node.attribute("state");
        found[at].mount = node.mount.as_ref().map(|m| m.display().to_string());
    }
    found
}

fn number(node: &Node, attribute: &str) -> Option<u64> {
    node.attribute(attribute)?.parse().ok()
}

/// All datasets on a node's mount, and what went wrong with some.
fn ask_datasets(node: &Node) -> Result<(Vec<Seen>, Vec<String>)> {
    let (mut seen, mut failed) = (Vec::new(), Vec::new());
    let Some(mount) = &node.mount else {
        return Ok((seen, failed));
    };
    for entry in fs::read_dir(mount)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let view = File::open(entry.path())
            .map_err(anyhow::Error::from)
            .and_then(|file| View::ask(&file));
        match view {
            Ok(view) => seen.push((name, view)),
            Err(error) => failed.push(format!("{}: dataset {name}: {error:#}", node.name)),
        }
    }
    Ok((seen, failed))
}

/// One entry a dataset out of what each node sees.
fn merge(seen: Vec<Seen>) -> Vec<DatasetStatus> {
    let mut datasets: BTreeMap<u64, DatasetStatus> = BTreeMap::new();
    for (name, view) in seen {
        let info = &view.info;
        let merged = datasets.entry(info.id).or_insert_with(|| DatasetStatus {
            name,
            id: info.id,
            size: info.size,
            base: format!("{:#x}", info.base),
            reserve: info.reserve,
            mode: mode_name(info.mode),
            replicas: info.replicas,
            chunk_size: info.chunk_size,
            missing: 0,
            moves: 0,
            stayed: 0,
            pages: BTreeMap::new(),
            chunks: Vec::new(),
        });
        merged.missing += info.nr_missing;
        merged.moves += info.nr_came;
        merged.stayed += info.nr_stayed;
        merged.pages.insert(info.node, view.pages());
        for (index, chunk) in view.chunks.iter().enumerate() {
            if index == merged.chunks.len() {
                merged.chunks.push(ChunkStatus {
                    index: index as u32,
                    owner: chunk.owner,
                    pages: None,
                    min_replicas: None,
                    local: BTreeMap::new(),
                    dirty: BTreeMap::new(),
                });
            }
            let to = &mut merged.chunks[index];
            to.local.insert(info.node, chunk.nr_local);
            to.dirty.insert(info.node, chunk.nr_dirty);
            if chunk.owner == info.node {
                to.owner = chunk.owner;
                to.pages = Some(chunk.nr_pages);
                to.min_replicas = Some(chunk.min_replicas);
            }
        }
    }
    datasets.into_values().collect()
}

fn text(status: &Status, all_chunks: bool) -> String {
    let mut out = format!("epoch {}\n\n", status.epoch);
    let mut nodes = Builder::new();
    nodes.push_record([
        "node",
        "id",
        "address",
        "map",
        "node says",
        "roles",
        "incarnation",
        "epoch",
        "suspects",
        "mount",
    ]);
    for n in &status.nodes {
        nodes.push_record([
            n.name.clone(),
            n.id.to_string(),
            n.address.clone(),
            n.state.to_string(),
            n.power.clone().unwrap_or_else(dash),
            map::role_names(&n.roles),
            map::incarnation_text(n.incarnation),
            n.epoch.map_or_else(dash, |e| e.to_string()),
            list(&n.suspects),
            n.mount.clone().unwrap_or_else(dash),
        ]);
    }
    out += &table(nodes);
    if status.datasets.is_empty() {
        out += "\nno datasets\n";
    } else {
        let mut datasets = Builder::new();
        datasets.push_record([
            "dataset",
            "id",
            "size",
            "base",
            "mode",
            "copies",
            "chunk",
            "chunks",
            "copies to make",
            "chunk moves",
            "dirty pages",
        ]);
        let mut chunks = Builder::new();
        chunks.push_record([
            "dataset",
            "chunk",
            "owner",
            "pages",
            "min copies",
            "local pages",
            "dirty pages",
        ]);
        let (mut shown, mut hidden) = (0, 0);
        for d in &status.datasets {
            datasets.push_record([
                d.name.clone(),
                d.id.to_string(),
                size::show(d.size),
                d.base.clone(),
                d.mode.to_string(),
                d.replicas.to_string(),
                size::show(d.chunk_size),
                d.chunks.len().to_string(),
                d.missing.to_string(),
                moves(d),
                per_node(d.pages.iter().map(|(n, p)| (*n, p.dirty))),
            ]);
            for c in &d.chunks {
                let used = c.pages.unwrap_or(0) != 0
                    || c.local.values().chain(c.dirty.values()).any(|n| *n != 0);
                if !used && !all_chunks {
                    hidden += 1;
                    continue;
                }
                shown += 1;
                chunks.push_record([
                    d.name.clone(),
                    c.index.to_string(),
                    format!("n{}", c.owner),
                    c.pages.map_or_else(dash, |n| n.to_string()),
                    c.min_replicas.map_or_else(dash, |n| n.to_string()),
                    per_node(c.local.iter().map(|(n, p)| (*n, u64::from(*p)))),
                    per_node(c.dirty.iter().map(|(n, p)| (*n, u64::from(*p)))),
                ]);
            }
        }
        out += "\n";
        out += &table(datasets);
        if shown != 0 {
            out += "\n";
            out += &table(chunks);
        }
        if hidden != 0 {
            out += &format!("{hidden} chunks without a page are not shown (--all-chunks)\n");
        }
    }
    match &status.memory_nodes {
        Some(servers) if !servers.is_empty() => {
            out += &format!("\nmemory nodes\n{}\n", mem::servers(servers));
        }
        None if status.nodes.iter().any(NodeStatus::serves_memory) => {
            out += "\nmemory nodes cannot be asked from here: clio_cn is not loaded\n";
        }
        _ => {}
    }
    for problem in &status.problems {
        out += &format!("problem: {problem}\n");
    }
    out
}

/// "3", or "3 (2 refused)".
fn moves(dataset: &DatasetStatus) -> String {
    match dataset.stayed {
        0 => dataset.moves.to_string(),
        stayed => format!("{} ({stayed} refused)", dataset.moves),
    }
}

fn table(builder: Builder) -> String {
    format!("{}\n", builder.build().with(Style::sharp()))
}

fn dash() -> String {
    "-".to_string()
}

fn list(ids: &[u32]) -> String {
    if ids.is_empty() {
        return dash();
    }
    let texts: Vec<_> = ids.iter().map(u32::to_string).collect();
    texts.join(" ")
}

/// "1:20 3:4": those that are not 0, by node id.
fn per_node(counts: impl Iterator<Item = (u32, u64)>) -> String {
    let texts: Vec<_> = counts
        .filter(|(_, count)| *count != 0)
        .map(|(node, count)| format!("{node}:{count}"))
        .collect();
    if texts.is_empty() {
        dash()
    } else {
        texts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uapi::{mode, Chunk, DatasetInfo};

    fn view(node: u32, dirty: u64) -> Seen {
        let chunk = |owner: u32, index: u32| Chunk {
            owner,
            nr_local: 10 * node + index,
            nr_dirty: if index == 0 { dirty as u32 } else { 0 },
            nr_pages: if owner == node { 40 } else { 0 },
            min_replicas: if owner == node { 2 } else { 0 },
            reserved: 0,
        };
        let info = DatasetInfo {
            id: 9,
            base: 0x1000_0000_0000,
            size: 8 << 20,
            reserve: 1 << 30,
            chunk_size: 4 << 20,
            replicas: 2,
            mode: mode::MRMW,
            node,
            nr_chunks: 2,
            nr_dirty: dirty,
            nr_missing: u64::from(node),
            nr_came: u64::from(node == 2) * 4,
            nr_stayed: u64::from(node == 1) * 5,
            ..Default::default()
        };
        let chunks = vec![chunk(1, 0), chunk(2, 1)];
        ("words".into(), View { info, chunks })
    }

    #[test]
    fn views_of_the_nodes_become_one_dataset() {
        let datasets = merge(vec![view(1, 0), view(2, 3), view(3, 0)]);
        assert_eq!(datasets.len(), 1);
        let d = &datasets[0];
        assert_eq!((d.chunks[0].owner, d.chunks[1].owner), (1, 2));
        // Each number comes from the chunk's owner, whoever was asked last.
        assert_eq!(d.chunks[0].pages, Some(40));
        assert_eq!(d.chunks[1].min_replicas, Some(2));
        assert_eq!(d.chunks[1].local[&3], 31);
        assert_eq!(d.chunks[0].dirty[&2], 3);
        assert_eq!(d.pages[&2].dirty, 3);
        assert_eq!(d.missing, 6);
        // Each move is told by the node to which the chunk came.
        assert_eq!((d.moves, d.stayed), (4, 5));
        assert_eq!(moves(d), "4 (5 refused)");
    }

    #[test]
    fn an_owner_that_was_not_asked_leaves_its_numbers_open() {
        let datasets = merge(vec![view(3, 0)]);
        assert_eq!(datasets[0].chunks[0].pages, None);
        assert_eq!(datasets[0].chunks[0].min_replicas, None);
    }

    #[test]
    fn the_json_form_is_stable() {
        let status = Status {
            epoch: 1,
            nodes: vec![NodeStatus {
                id: 1,
                name: "n1".into(),
                address: "10.77.0.1:7717".into(),
                state: "up",
                roles: vec![map::Role::Hotpot, map::Role::HotpotCd],
                incarnation: 5,
                epoch: Some(1),
                power: Some("on".into()),
                mount: Some("/mnt/n1".into()),
                suspects: vec![],
            }],
            datasets: merge(vec![view(1, 0)]),
            memory_nodes: None,
            problems: vec![],
        };
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"epoch":1,"nodes":[{"id":1,"name":"n1","address":"10.77.0.1:7717","state":"up","#,
                r#""roles":["hotpot","hotpot-cd"],"incarnation":5,"epoch":1,"power":"on","#,
                r#""mount":"/mnt/n1","suspects":[]}],"datasets":[{"name":"words","id":9,"#,
                r#""size":8388608,"base":"0x100000000000","reserve":1073741824,"mode":"mrmw","#,
                r#""replicas":2,"chunk_size":4194304,"missing":1,"moves":0,"stayed":5,"#,
                r#""pages":{"1":{"committed":0,"redundant":0,"dirty":0}},"#,
                r#""chunks":[{"index":0,"owner":1,"pages":40,"min_replicas":2,"local":{"1":10},"dirty":{"1":0}},"#,
                r#"{"index":1,"owner":2,"pages":null,"min_replicas":null,"local":{"1":11},"dirty":{"1":0}}]}],"#,
                r#""memory_nodes":null,"problems":[]}"#
            )
        );
    }

    #[test]
    fn the_table_shows_copies_and_hides_empty_chunks() {
        let mut datasets = merge(vec![view(1, 0), view(2, 3)]);
        datasets[0].chunks.push(ChunkStatus {
            index: 2,
            owner: 1,
            pages: Some(0),
            min_replicas: Some(0),
            local: BTreeMap::new(),
            dirty: BTreeMap::new(),
        });
        let status = Status {
            epoch: 1,
            nodes: vec![],
            datasets,
            memory_nodes: Some(vec![]),
            problems: vec!["n3: gone".into()],
        };
        let shown = text(&status, false);
        assert!(shown.contains("1:10 2:20"), "{shown}");
        assert!(shown.contains("2:3"), "{shown}");
        assert!(shown.contains("1 chunks without a page"), "{shown}");
        assert!(shown.contains("problem: n3: gone"), "{shown}");
        assert!(!text(&status, true).contains("not shown"));
    }
    #[test]
    fn memory_nodes_are_listed_with_what_they_say_or_why_they_say_nothing() {
        let mut status = Status {
            epoch: 1,
            nodes: vec![],
            datasets: vec![],
            memory_nodes: Some(vec![mem::Server::silent("m2", 5, "Host is down")]),
            problems: vec![],
        };
        let shown = text(&status, false);
        assert!(
            shown.contains("memory nodes") && shown.contains("Host is down"),
            "{shown}"
        );
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["memory_nodes"][0]["node"], "m2");
        status.memory_nodes = Some(vec![]);
        assert!(!text(&status, false).contains("memory nodes"));
    }

    #[test]
    fn memory_nodes_that_nobody_here_can_ask_are_mentioned() {
        let status = Status {
            epoch: 1,
            nodes: vec![NodeStatus {
                id: 4,
                name: "m1".into(),
                address: "10.77.0.4:7717".into(),
                state: "up",
                roles: vec![map::Role::Memory],
                incarnation: 5,
                epoch: None,
                power: None,
                mount: None,
                suspects: vec![],
            }],
            datasets: vec![],
            memory_nodes: None,
            problems: vec![],
        };
        assert!(text(&status, false).contains("cannot be asked from here"));
    }
}
