// SPDX-License-Identifier: GPL-2.0

//! What the parts of a lab are called. `lab down` finds parts by these names
//! even when nothing else is known of the lab that made them.

use super::LabNode;
use std::{net::Ipv4Addr, path::PathBuf};

pub const BRIDGE: &str = "potluck0";

pub fn node(id: u32, network: Ipv4Addr, port: u16) -> LabNode {
    let [a, b, c, _] = network.octets();
    LabNode {
        id,
        name: format!("n{id}"),
        namespace: format!("n{id}"),
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
