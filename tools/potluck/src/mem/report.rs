// SPDX-License-Identifier: GPL-2.0

//! Memory nodes, address spaces and regions, as tables and as JSON. The JSON form is described in
//! Documentation/user-guide.md.

use super::client::Client;
use crate::{
    size,
    uapi::{self, clio},
};
use nix::errno::Errno;
use serde::Serialize;
use tabled::{builder::Builder, settings::Style};

/// A quota from here on is none.
const NO_LIMIT: u64 = 1 << 62;

#[derive(Debug, Serialize)]
pub struct Server {
    node: String,
    id: u32,
    /// Why it told nothing of what follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    draining: bool,
    port: u32,
    incarnation: u64,
    page_size: u64,
    size: u64,
    free: u64,
    promised: u64,
    limit: u64,
    allowance: u64,
    load: u64,
    regions: u32,
    spaces: u32,
}

impl Server {
    pub fn new(client: &Client, node: &clio::MemoryNode) -> Server {
        Server {
            node: client.node_name(node.id),
            id: node.id,
            error: (node.error != 0).then(|| Errno::from_raw(-node.error).desc().to_string()),
            draining: node.flags & clio::NODE_DRAINING != 0,
            port: node.port,
            incarnation: node.incarnation,
            page_size: node.page_size,
            size: node.size,
            free: node.free,
            promised: node.promised,
            limit: node.limit,
            allowance: node.allowance,
            load: node.load,
            regions: node.regions,
            spaces: node.spaces,
        }
    }

    /// One that told nothing.
    #[cfg(test)]
    pub fn silent(node: &str, id: u32, error: &str) -> Server {
        Server {
            node: node.into(),
            id,
            error: Some(error.into()),
            draining: false,
            port: 0,
            incarnation: 0,
            page_size: 0,
            size: 0,
            free: 0,
            promised: 0,
            limit: 0,
            allowance: 0,
            load: 0,
            regions: 0,
            spaces: 0,
        }
    }

    fn row(&self) -> Vec<String> {
        let mut row = vec![self.node.clone(), self.id.to_string()];
        if let Some(error) = &self.error {
            row.push(error.clone());
            return row;
        }
        row.extend([
            if self.draining { "draining" } else { "serves" }.to_string(),
            size::show(self.size),
            size::show(self.free),
            format!(
                "{} of {}",
                size::show(self.promised),
                size::show(self.limit)
            ),
            size::show(self.page_size),
            self.regions.to_string(),
            self.spaces.to_string(),
            self.load.to_string(),
        ]);
        row
    }
}

#[derive(Debug, Serialize)]
pub struct Space {
    name: String,
    id: String,
    home: String,
    /// Null: no limit.
    quota: Option<u64>,
    granted: u64,
    region_size: u64,
    regions: u32,
    attached: u32,
    owner: u32,
    /// The one memory node that has all its regions; null: any may.
    pin: Option<String>,
    version: u64,
}

impl Space {
    pub fn new(client: &Client, space: &clio::Space) -> Space {
        Space {
            name: uapi::name_text(&space.name),
            id: format!("{:#x}", space.id),
            home: client.node_name(space.home),
            quota: Some(space.quota).filter(|quota| *quota < NO_LIMIT),
            granted: space.granted,
            region_size: space.region_size,
            regions: space.regions,
            attached: space.attached,
            owner: space.owner,
            pin: (space.pin != 0).then(|| client.node_name(space.pin)),
            version: space.version,
        }
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.id.clone(),
            self.home.clone(),
            self.quota.map_or_else(|| "no limit".into(), size::show),
            size::show(self.granted),
            format!("{} x {}", self.regions, size::show(self.region_size)),
            self.pin.clone().unwrap_or_else(|| "any".into()),
            self.attached.to_string(),
            self.owner.to_string(),
        ]
    }
}

#[derive(Debug, Serialize)]
pub struct Region {
    region: u32,
    addr: String,
    /// Null: it was lost with its node.
    node: Option<String>,
    allowance: u64,
    incarnation: u64,
}

impl Region {
    pub fn new(client: &Client, region: &clio::Region) -> Region {
        Region {
            region: region.index,
            addr: format!("{:#x}", region.addr),
            node: (region.node != 0).then(|| client.node_name(region.node)),
            allowance: region.allowance,
            incarnation: region.incarnation,
        }
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.region.to_string(),
            self.addr.clone(),
            self.node.clone().unwrap_or_else(|| "LOST".into()),
            size::show(self.allowance),
        ]
    }
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut builder = Builder::new();
    builder.push_record(head.iter().copied());
    for mut row in rows {
        row.resize(head.len(), "-".to_string());
        builder.push_record(row);
    }
    builder.build().with(Style::sharp()).to_string()
}

pub fn servers(servers: &[Server]) -> String {
    let head = [
        "node", "id", "state", "pool", "free", "promised", "page", "regions", "spaces", "load/s",
    ];
    table(&head, servers.iter().map(Server::row))
}

pub fn spaces(spaces: &[Space]) -> String {
    let head = [
        "space", "id", "home", "quota", "granted", "regions", "on", "attached", "owner",
    ];
    table(&head, spaces.iter().map(Space::row))
}

pub fn regions(regions: &[Region]) -> String {
    let head = ["region", "address", "node", "allowance"];
    table(&head, regions.iter().map(Region::row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_does_not_answer_has_a_row_that_says_why() {
        let down = Server::silent("m2", 5, "Host is down");
        let up = Server {
            error: None,
            size: 64 << 20,
            free: 63 << 20,
            limit: 64 << 20,
            draining: true,
            ..Server::silent("m1", 4, "")
        };
        let text = servers(&[up, down]);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[3].contains("draining") && lines[3].contains("0 B of 64 MiB"),
            "{text}"
        );
        assert!(
            lines[4].contains("Host is down") && lines[4].contains(" - "),
            "{text}"
        );
    }

    #[test]
    fn a_lost_region_is_not_to_be_overlooked() {
        let lost = Region {
            region: 3,
            addr: "0x10003000000".into(),
            node: None,
            allowance: 16 << 20,
            incarnation: 1,
        };
        assert!(regions(&[lost]).contains("LOST"));
    }
}
