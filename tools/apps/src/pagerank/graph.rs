// SPDX-License-Identifier: GPL-2.0

//! A directed graph, and how it lies in a file: "POTLUCKG", vertices and edges as u64, then two u32 for each edge
//! (from, to), little-endian.

use std::io::{self, Read, Write};

const MAGIC: &[u8; 8] = b"POTLUCKG";

/// Edges in no order; may have the same edge twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// They are 0 to this.
    pub vertices: u32,
    /// From, to.
    pub edges: Vec<(u32, u32)>,
}

impl Graph {
    /// Edges that leave each vertex.
    pub fn out_degrees(&self) -> Vec<u32> {
        let mut degrees = vec![0; self.vertices as usize];
        for &(from, _) in &self.edges {
            degrees[from as usize] += 1;
        }
        degrees
    }

    /// Reads a file; `InvalidData` when it is none, or an edge leads to no vertex.
    pub fn read(mut from: impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        Self::from_bytes(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(MAGIC)?;
        let (vertices, bytes) = bytes.split_first_chunk()?;
        let (count, bytes) = bytes.split_first_chunk()?;
        let vertices = u32::try_from(u64::from_le_bytes(*vertices)).ok()?;
        let edges: Vec<_> = bytes.chunks_exact(8).map(edge).collect();
        let whole = edges.len() as u64 == u64::from_le_bytes(*count) && bytes.len() % 8 == 0;
        let inside = edges.iter().all(|&(a, b)| a < vertices && b < vertices);
        (whole && inside).then_some(Self { vertices, edges })
    }

    /// Writes the file.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        to.write_all(MAGIC)?;
        to.write_all(&u64::from(self.vertices).to_le_bytes())?;
        to.write_all(&(self.edges.len() as u64).to_le_bytes())?;
        for (a, b) in &self.edges {
            to.write_all(&a.to_le_bytes())?;
            to.write_all(&b.to_le_bytes())?;
        }
        to.flush()
    }
}

fn edge(bytes: &[u8]) -> (u32, u32) {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, &b| (n << 8) | u32::from(b));
    (number(&bytes[..4]), number(&bytes[4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_comes_back_from_its_file_and_half_a_file_does_not() {
        let graph = Graph {
            vertices: 70_000,
            edges: vec![(0, 69_999), (69_999, 256), (7, 7)],
        };
        let mut file = Vec::new();
        graph.write(&mut file).unwrap();
        assert_eq!(Graph::read(&file[..]).unwrap(), graph);
        for len in 0..file.len() {
            assert!(Graph::read(&file[..len]).is_err(), "{len} bytes");
        }
        assert_eq!(graph.out_degrees()[69_999], 1);
    }

    #[test]
    fn an_edge_to_no_vertex_is_refused() {
        let graph = Graph {
            vertices: 2,
            edges: vec![(0, 2)],
        };
        let mut file = Vec::new();
        graph.write(&mut file).unwrap();
        assert!(Graph::read(&file[..]).is_err());
    }
}
