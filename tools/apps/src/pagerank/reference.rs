// SPDX-License-Identifier: GPL-2.0

//! PageRank by a single process, edge by edge: what the parts must come to.

use super::{Graph, DAMPING};

/// Ranks of all vertices after so many iterations.
pub fn reference(graph: &Graph, iterations: u32) -> Vec<f64> {
    let of_all = f64::from(graph.vertices);
    let degrees = graph.out_degrees();
    let mut ranks = vec![1.0 / of_all; graph.vertices as usize];
    for _ in 0..iterations {
        let dangling: f64 = ranks
            .iter()
            .zip(&degrees)
            .filter(|(_, &degree)| degree == 0)
            .map(|(rank, _)| rank)
            .sum();
        let mut next = vec![(1.0 - DAMPING + DAMPING * dangling) / of_all; ranks.len()];
        for &(from, to) in &graph.edges {
            let (from, to) = (from as usize, to as usize);
            next[to] += DAMPING * ranks[from] / f64::from(degrees[from]);
        }
        ranks = next;
    }
    ranks
}

/// The largest difference between two vectors of ranks, as a part of the rank: stricter than the difference itself,
/// since no rank is above 1. Infinite where one is no number, or their lengths differ.
pub fn farthest(ranks: &[f64], expected: &[f64]) -> f64 {
    if ranks.len() != expected.len() {
        return f64::INFINITY;
    }
    let apart = |(a, b): (&f64, &f64)| match ((a - b) / b).abs() {
        apart if apart.is_nan() => f64::INFINITY,
        apart => apart,
    };
    ranks.iter().zip(expected).map(apart).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::{super::rmat, *};

    #[test]
    fn ranks_are_those_that_hand_computation_gives() {
        // 0 and 1 lead to each other, 2 leads to 0, nobody to 2.
        let graph = Graph {
            vertices: 3,
            edges: vec![(0, 1), (1, 0), (2, 0)],
        };
        let ranks = reference(&graph, 200);
        let [third, d] = [0.05, DAMPING];
        let zero = (third + d * third + d * third) / (1.0 - d * d);
        assert!((ranks[2] - third).abs() < 1e-12);
        assert!((ranks[0] - zero).abs() < 1e-9, "{ranks:?}");
        assert!((ranks[1] - (third + d * zero)).abs() < 1e-9);
    }

    #[test]
    fn ranks_sum_up_to_one() {
        let sum: f64 = reference(&rmat(8, 3, 1), 30).iter().sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn a_vector_that_is_none_is_far_from_all() {
        assert_eq!(farthest(&[f64::NAN], &[1.0]), f64::INFINITY);
        assert_eq!(farthest(&[], &[1.0]), f64::INFINITY);
        assert!((farthest(&[1.0, 2.2], &[1.0, 2.0]) - 0.1).abs() < 1e-12);
    }
}
