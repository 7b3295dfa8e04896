// SPDX-License-Identifier: GPL-2.0

//! Where in a dataset what is: a part for each rank, of whole pages, since a page has one writer. A part is
//!
//! ```text
//! header | half 0 | half 1
//! ```
//!
//! in words: header = magic, which graph on how many ranks, iteration; half = sum, change, a value for each vertex (bits
//! of f64). An iteration's values are in the half of its parity.

use crate::pagerank::Graph;
use std::ops::Range;

/// Words of a page.
const PAGE: usize = 512;
/// Words in front of a half's values.
const FRONT: usize = 2;
/// Words of the header that are used.
const HEADER: usize = 3;

/// "GASPART1".
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"GASPART1");

/// Where one rank's part is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    begin: usize,
    vertices: usize,
}

impl Place {
    pub(super) fn header(&self) -> Range<usize> {
        self.begin..self.begin + HEADER
    }

    /// Of an iteration: sum, change, values.
    pub(super) fn half(&self, iteration: u64) -> Range<usize> {
        let parity = usize::from(iteration % 2 == 1);
        let begin = self.begin + PAGE + parity * half_size(self.vertices);
        begin..begin + FRONT + self.vertices
    }
}

fn half_size(vertices: usize) -> usize {
    (FRONT + vertices).next_multiple_of(PAGE)
}

fn part_size(vertices: usize) -> usize {
    PAGE + 2 * half_size(vertices)
}

/// The places of all ranks, by who has which vertices.
pub(super) fn places(ranges: &[Range<usize>]) -> Vec<Place> {
    let mut begin = 0;
    let mut place = |range: &Range<usize>| {
        let vertices = range.len();
        let part = begin;
        begin += part_size(vertices);
        Place {
            begin: part,
            vertices,
        }
    };
    ranges.iter().map(&mut place).collect()
}

/// Words that a graph needs on so many ranks.
pub fn words_needed(graph: &Graph, ranks: usize) -> usize {
    let ranges = crate::pagerank::ranges(graph, ranks);
    ranges.iter().map(|range| part_size(range.len())).sum()
}

/// A number that tells graphs, and numbers of ranks, apart (FNV-1a over the edges).
pub(super) fn identity(graph: &Graph, ranks: usize) -> u64 {
    let ends = graph.edges.iter().flat_map(|&(from, to)| [from, to]);
    let counts = [graph.vertices, ranks as u32];
    Iterator::chain(counts.into_iter(), ends).fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        (hash ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_has_words_of_two_ranks_or_of_two_halves() {
        let places = places(&[0..1000, 1000..1000, 1000..1510]);
        let mut owners = std::collections::HashMap::new();
        for (rank, place) in places.iter().enumerate() {
            for (piece, range) in [place.header(), place.half(4), place.half(7)]
                .into_iter()
                .enumerate()
            {
                for word in range {
                    let owner = *owners.entry(word / PAGE).or_insert((rank, piece));
                    assert_eq!(owner, (rank, piece), "word {word}");
                }
            }
        }
    }

    #[test]
    fn another_graph_and_another_number_of_ranks_are_told_apart() {
        let graph = Graph {
            vertices: 3,
            edges: vec![(0, 1), (1, 2)],
        };
        let mut other = graph.clone();
        other.edges[1] = (1, 0);
        assert_ne!(identity(&graph, 2), identity(&other, 2));
        assert_ne!(identity(&graph, 2), identity(&graph, 3));
    }
}
