// SPDX-License-Identifier: GPL-2.0

//! What a rank has of the graph, and an iteration over it.

use super::{Graph, DAMPING};
use std::ops::Range;

/// A range of the vertices, with all edges that lead to them.
#[derive(Clone, Debug)]
pub struct Part {
    vertices: Range<usize>,
    of_all: usize,
    out_degrees: Vec<u32>,
    /// Where the sources of each of our vertices begin; and the end of the last.
    begins: Vec<usize>,
    sources: Vec<u32>,
}

/// Who has which vertices: ranges with about as many vertices and edges to them each.
pub(crate) fn ranges(graph: &Graph, ranks: usize) -> Vec<Range<usize>> {
    let mut weights = vec![1_usize; graph.vertices as usize];
    for &(_, to) in &graph.edges {
        weights[to as usize] += 1;
    }
    let total: usize = weights.iter().sum();
    let (mut sum, mut begin) = (0, 0);
    let mut at = weights.iter().enumerate();
    let mut range = |rank: usize| {
        let mut end = begin;
        while sum * ranks < total * (rank + 1) {
            let Some((vertex, weight)) = at.next() else {
                break;
            };
            sum += weight;
            end = vertex + 1;
        }
        std::mem::replace(&mut begin, end)..end
    };
    (0..ranks).map(&mut range).collect()
}

impl Part {
    pub(crate) fn new(graph: &Graph, vertices: Range<usize>) -> Self {
        let ours = |to: u32| vertices.contains(&(to as usize));
        let mut begins = vec![0; vertices.len() + 1];
        for &(_, to) in graph.edges.iter().filter(|edge| ours(edge.1)) {
            begins[to as usize - vertices.start + 1] += 1;
        }
        for at in 1..begins.len() {
            begins[at] += begins[at - 1];
        }
        let mut sources = vec![0; begins[vertices.len()]];
        let mut ends = begins.clone();
        for &(from, to) in graph.edges.iter().filter(|edge| ours(edge.1)) {
            let end = &mut ends[to as usize - vertices.start];
            sources[*end] = from;
            *end += 1;
        }
        Self {
            of_all: graph.vertices as usize,
            out_degrees: graph.out_degrees()[vertices.clone()].to_vec(),
            vertices,
            begins,
            sources,
        }
    }

    /// Of each of our vertices, where the edges to it come from.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &[u32]> {
        self.begins
            .windows(2)
            .map(|range| &self.sources[range[0]..range[1]])
    }

    /// Ranks of our vertices before the first iteration.
    pub(super) fn first(&self) -> Vec<f64> {
        vec![1.0 / self.of_all as f64; self.vertices.len()]
    }

    /// What each of our vertices gives along each of its edges; and what those give that have no edge, to all.
    pub(super) fn gifts(&self, ranks: &[f64]) -> (Vec<f64>, f64) {
        let mut dangling = 0.0;
        let gift = |(rank, degree): (&f64, &u32)| match degree {
            0 => {
                dangling += rank;
                0.0
            }
            degree => rank / f64::from(*degree),
        };
        (
            ranks.iter().zip(&self.out_degrees).map(gift).collect(),
            dangling,
        )
    }

    /// Ranks of our vertices, of the gifts of all vertices and what the dangling ones give.
    pub(super) fn next(&self, gifts: &[f64], dangling: f64) -> Vec<f64> {
        let of_all = self.of_all as f64;
        let base = (1.0 - DAMPING) / of_all + DAMPING * dangling / of_all;
        let sum = |range: &[usize]| -> f64 {
            let sources = &self.sources[range[0]..range[1]];
            sources.iter().map(|&from| gifts[from as usize]).sum()
        };
        self.begins
            .windows(2)
            .map(|range| base + DAMPING * sum(range))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rmat, *};

    #[test]
    fn every_vertex_is_in_one_range_however_many_ranks_there_are() {
        let graph = rmat(6, 4, 3);
        for ranks in 1..100 {
            let ranges = ranges(&graph, ranks);
            assert_eq!(ranges.len(), ranks);
            let all: Vec<_> = ranges.into_iter().flatten().collect();
            assert_eq!(all, (0..64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn parts_have_all_edges_between_them() {
        let graph = rmat(6, 4, 3);
        let parts = ranges(&graph, 5)
            .into_iter()
            .map(|range| Part::new(&graph, range));
        assert_eq!(
            parts.map(|part| part.sources.len()).sum::<usize>(),
            graph.edges.len()
        );
    }
}
