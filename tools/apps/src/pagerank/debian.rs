// SPDX-License-Identifier: GPL-2.0

//! A real graph that every Debian machine has: which package wants which, out of apt's lists.

use super::Graph;
use std::{
    collections::HashMap,
    io::{self, BufRead},
};

/// Fields that name packages which the package wants: an edge to each.
const FIELDS: [&str; 4] = ["Pre-Depends", "Depends", "Recommends", "Suggests"];

/// The graph of a Packages file of a Debian archive (deb822), with an edge for each alternative. Packages that are
/// only named by others are vertices without edges of their own.
pub fn debian(packages: impl BufRead) -> io::Result<Graph> {
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let mut number = |name: &str| match numbers.get(name) {
        Some(&number) => number,
        None => {
            let number = numbers.len() as u32;
            numbers.insert(name.into(), number);
            number
        }
    };
    let mut graph = Graph::default();
    let mut package = None;
    for line in packages.lines() {
        let line = line?;
        let Some((field, value)) = line.split_once(": ") else {
            continue;
        };
        if field == "Package" {
            package = Some(number(value));
        }
        if let (Some(package), true) = (package, FIELDS.contains(&field)) {
            let names = value.split([',', '|']).map(name_of);
            let wanted = names.filter(|name| !name.is_empty());
            graph
                .edges
                .extend(wanted.map(|name| (package, number(name))));
        }
    }
    graph.vertices = numbers.len() as u32;
    Ok(graph)
}

/// The name in "libc6:any (>= 2.34)".
fn name_of(wish: &str) -> &str {
    let end = |c: char| c.is_whitespace() || c == '(' || c == ':' || c == '[';
    wish.trim().split(end).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_lead_to_what_they_want() {
        let file = "Package: a\nDepends: b (>= 1), c:any | d\nDescription: says Depends: x\n\nPackage: b\nSuggests: a\n";
        let graph = debian(file.as_bytes()).unwrap();
        assert_eq!(graph.vertices, 4);
        assert_eq!(graph.edges, [(0, 1), (0, 2), (0, 3), (1, 0)]);
    }
}
