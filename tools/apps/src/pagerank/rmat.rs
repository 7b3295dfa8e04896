// SPDX-License-Identifier: GPL-2.0

//! R-MAT (Chakrabarti, Zhan, Faloutsos: "R-MAT: A Recursive Model for Graph Mining", SDM 2004): degrees follow a power
//! law, as those of webs do. The four chances are Graph500's.

use super::Graph;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The chances of the four quarters of the adjacency matrix, per cent, but for the last one.
const QUARTERS: [u32; 3] = [57, 19, 19];

/// 2^`scale` vertices, `degree` times as many edges; the same for the same seed.
pub fn rmat(scale: u32, degree: u32, seed: u64) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let vertices = 1 << scale;
    let mut edge = || {
        let (mut from, mut to) = (0, 0);
        for _ in 0..scale {
            let [a, b, c] = QUARTERS;
            let (down, right) = match rng.random_range(0..100) {
                n if n < a => (0, 0),
                n if n < a + b => (0, 1),
                n if n < a + b + c => (1, 0),
                _ => (1, 1),
            };
            from = (from << 1) | down;
            to = (to << 1) | right;
        }
        (from, to)
    };
    let count = (u64::from(vertices) * u64::from(degree)) as usize;
    let edges = (0..count).map(|_| edge()).collect();
    Graph { vertices, edges }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_vertices_have_most_of_the_edges_and_the_seed_decides_which() {
        let graph = rmat(12, 16, 1);
        assert_eq!(graph.edges.len(), 16 << 12);
        let mut degrees = graph.out_degrees();
        degrees.sort_unstable_by(|a, b| b.cmp(a));
        let most: u32 = degrees[..1 << 8].iter().sum();
        assert!(
            most > 16 << 10,
            "{most} edges leave a sixteenth of the vertices"
        );
        assert_eq!(rmat(12, 16, 1), graph);
        assert_ne!(rmat(12, 16, 2), graph);
    }
}
