// SPDX-License-Identifier: GPL-2.0

//! What the parts of a lab are called. `lab down` finds parts by these names
//! even when nothing else is known of the lab that made them.

use super::LabNode;
use std::{net::Ipv4Addr, path::PathBuf};

pub const BRIDGE: &str = "potluck0";

/// Most nodes: each has an address that ends in its id.
pub const MOST: u32 = 250;

/// The `number`th memory node.
pub fn memory_node(number: u32, id: u32, network: Ipv4Addr, port: u16) -> LabNode {
    LabNode {
        name: format!("m{number}"),
        namespace: format!("m{number}"),
        memory: true,
        ..node(id, network, port)
    }
}

/// Whether a node of a lab could be called this.
pub fn is_node(name: &str) -> bool {
    id(name, "n").or_else(|| id(name, "m")).is_some()
}

pub fn node(id: u32, network: Ipv4Addr, port: u16) -> LabNode {
    let [a, b, c, _] = network.octets();
    LabNode {
        id,
        name: format!("n{id}"),
        namespace: format!("n{id}"),
        memory: false,
        address: Ipv4Addr::new(a, b, c, id as u8),
        port,
        device: format!("rxe{id}"),
        bridge_end: format!("plv{id}"),
        node_end: format!("v{id}"),
        pmem: None,
        mount: None,
    }
}

pub fn mount(id: u32) -> PathBuf {
    PathBuf::from(format!("/mnt/n{id}"))
}

/// The id in a name made of `prefix` and an id.
pub fn id(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    if digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_nodes_have_names_of_their_own_and_the_next_ids() {
        let node = memory_node(2, 5, "10.77.0.0".parse().unwrap(), 7717);
        assert_eq!((node.name.as_str(), node.id), ("m2", 5));
        assert_eq!(node.address.to_string(), "10.77.0.5");
        assert_eq!(node.device, "rxe5");
        assert!(node.memory && is_node(&node.name) && is_node("n1"));
        assert!(!is_node("m0") && !is_node("mem1"));
    }

    #[test]
    fn names_lead_back_to_ids() {
        let node = node(12, "10.77.0.0".parse().unwrap(), 7717);
        assert_eq!(node.address.to_string(), "10.77.0.12");
        assert_eq!(id(&node.namespace, "n"), Some(12));
        assert_eq!(id(&node.device, "rxe"), Some(12));
        for other in ["n", "n0", "n01", "net", "n1x", "x1"] {
            assert_eq!(id(other, "n"), None, "{other}");
        }
    }
}
